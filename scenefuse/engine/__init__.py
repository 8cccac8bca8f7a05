"""The room engine: from windows to finished cores."""
