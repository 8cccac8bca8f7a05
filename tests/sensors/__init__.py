"""Tests of the room sensors."""
