"""The room grid: the two grids of a pair, and how pixels go from one to the other."""
