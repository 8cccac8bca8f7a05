"""The room archive: which scenes belong together."""
