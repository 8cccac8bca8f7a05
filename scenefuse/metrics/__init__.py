"""The room metrics: how good a result is, from mergeable sums."""
