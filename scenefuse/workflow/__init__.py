"""The room workflow: what is due, and one pass over it."""
