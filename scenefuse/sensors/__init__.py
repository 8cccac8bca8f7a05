"""The room sensors: what an instrument is: bands, response, point spread."""
