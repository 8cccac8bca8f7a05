"""The product: everything a run leaves behind."""
