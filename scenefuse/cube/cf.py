"""CF attributes that cubes and products share: they label plots, and readers like cf_xarray find variables by them."""

from __future__ import annotations

from typing import Final

REFLECTANCE: Final = {
    "long_name": "surface reflectance",
    "standard_name": "surface_bidirectional_reflectance",
    "units": "1",
}
"""The pixels."""
BAND: Final = {"long_name": "band name", "standard_name": "sensor_band_identifier"}
"""Names of the bands."""
WAVELENGTH_NM: Final = {
    "long_name": "centre wavelength",
    "standard_name": "sensor_band_central_radiation_wavelength",
    "units": "nm",
}
"""Centre wavelengths of the bands."""
FWHM_NM: Final = {
    "long_name": "full width at half maximum",
    "standard_name": "sensor_band_spectral_width",
    "units": "nm",
}
"""Widths of the bands' responses."""
TIME: Final = {"long_name": "time of acquisition, UTC", "standard_name": "time"}
"""When the image was acquired; of a product, its HSI."""
