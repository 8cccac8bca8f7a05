"""A spectral band: where it looks, how wide, how finely."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One spectral band of an image."""

    name: str
    """Name as the data's maker gives it, unique in its image: `B8A`, `band 112`."""
    wavelength_nm: float | None = None
    """Centre wavelength in nanometres; None when the source does not say."""
    fwhm_nm: float | None = None
    """Full width at half maximum of the response in nanometres; None when unknown."""
    gsd_m: float | None = None
    """Native ground sampling distance in metres; None when unknown."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("Band.name is empty")
        for field in ("wavelength_nm", "fwhm_nm", "gsd_m"):
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise ValueError(f"Band {self.name}: {field} must be positive, got {value}")
