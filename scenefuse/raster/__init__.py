"""The room raster: one file of bands, wherever it lies and whatever its format, read by windows."""
