"""The room simulate: landscapes with known truth; Wald's protocol."""
