"""The room workflow: what is due, and passes that do it."""
