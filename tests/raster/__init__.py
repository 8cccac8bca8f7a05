"""Tests of the room cube."""
