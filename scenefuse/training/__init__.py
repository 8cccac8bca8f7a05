"""Training: networks learn from random windows of scenes; held-out blocks are never read while they learn."""
