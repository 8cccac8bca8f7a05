"""Tests of the room place."""
