"""The room publish: a product into a catalogue."""
