"""The room sensors: what defines an instrument: bands, response, point spread."""
