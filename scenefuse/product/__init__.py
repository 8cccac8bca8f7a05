"""The room product: what a run leaves behind."""
