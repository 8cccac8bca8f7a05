"""The room raster: reads one file of bands by windows, wherever it lies and whatever its format."""
