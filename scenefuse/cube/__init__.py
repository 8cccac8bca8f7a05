"""The room cube: a pair as two aligned lazy cubes."""
