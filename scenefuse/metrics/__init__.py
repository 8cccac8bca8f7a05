"""The room metrics: how good a result is; mergeable sums."""
