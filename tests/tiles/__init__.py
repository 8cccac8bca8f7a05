"""Tests of the room tiles."""
