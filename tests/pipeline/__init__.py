"""Tests of the room pipeline: the whole product from real files."""
