"""The room quality: scores of a product, and its report."""
