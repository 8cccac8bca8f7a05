"""The room models: one file per method, and what they share."""
