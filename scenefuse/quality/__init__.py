"""Quality: scores of products and methods, and the report of a product."""
