"""The room engine: turns windows into finished cores."""
