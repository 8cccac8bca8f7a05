"""Publish products to a catalogue."""
