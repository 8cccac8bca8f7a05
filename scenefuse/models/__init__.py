"""Fusion methods: one file per method, and the parts they share."""
