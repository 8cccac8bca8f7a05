"""Reflectance spectra of what a landscape is made of, 400 to 2500 nm, from a few physical parameters.

Scattering media (leaves, straw, soil, snow-like clouds) follow Kubelka and Munk's infinitely thick layer:
R = 1 + q - sqrt(q^2 + 2 q), q = absorption / scattering. Absorptions thus saturate as they do in nature: the
red edge moves to longer wavelengths as chlorophyll grows, and wet soil is darker and has water bands.
Water follows R ~ backscattering / (absorption + backscattering). Sealed surfaces are a smooth continuum
with their absorption features cut in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Spectrum = NDArray[np.float64]

WAVELENGTH_NM: Spectrum = np.arange(380.0, 2521.0)
"""Wavelengths of every spectrum here, in nanometres: a margin for the responses of the outermost bands."""

# Absorption of pure liquid water, (nm, 1/cm), rounded; Kou, Labrie & Chylek 1993 (doi 10.1364/AO.32.003531)
# from 650 nm on, Pope & Fry 1997 (doi 10.1364/AO.36.008710) below.
_WATER_ABSORPTION = (
    (380, 1.1e-4), (420, 4.5e-5), (450, 9e-5), (500, 2e-4), (550, 5.7e-4), (600, 2.2e-3), (650, 3.4e-3), (700, 6.2e-3),
    (740, 0.027), (760, 0.027), (800, 0.02), (850, 0.043), (900, 0.068), (930, 0.16), (970, 0.46), (1000, 0.38),
    (1070, 0.14), (1100, 0.18), (1150, 0.95), (1200, 1.25), (1270, 1.0), (1320, 1.9), (1350, 3.2), (1380, 7.0),
    (1400, 13), (1430, 26), (1450, 30), (1500, 19), (1550, 10.5), (1600, 6.8), (1670, 5.5), (1700, 5.8), (1750, 7.2),
    (1800, 8.1), (1850, 12), (1880, 27), (1900, 68), (1930, 122), (1950, 112), (2000, 69), (2050, 42), (2100, 27),
    (2150, 20), (2210, 17), (2260, 19), (2300, 23), (2350, 31), (2400, 44), (2450, 62), (2520, 98),
)  # fmt: skip


def _bump(centre_nm: float, sigma_nm: float) -> Spectrum:
    """A Gaussian of height 1 over WAVELENGTH_NM."""
    return np.asarray(np.exp(-0.5 * ((WAVELENGTH_NM - centre_nm) / sigma_nm) ** 2))


def _edge(centre_nm: float, width_nm: float) -> Spectrum:
    """A step from 0 to 1 around centre_nm (logistic)."""
    return np.asarray(1 / (1 + np.exp(-(WAVELENGTH_NM - centre_nm) / width_nm)))


def _curve(*points: tuple[float, float]) -> Spectrum:
    """A smooth curve through (nm, value), monotone between the points."""
    nm, value = zip(*points, strict=True)
    return np.asarray(PchipInterpolator(nm, value)(WAVELENGTH_NM))


WATER_PER_CM: Spectrum = np.exp(_curve(*((nm, float(np.log(a))) for nm, a in _WATER_ABSORPTION)))
"""Absorption coefficient of liquid water over WAVELENGTH_NM, 1/cm."""

_CHLOROPHYLL = (
    1.2 * _bump(425, 35) + 1.05 * _bump(483, 24) + 0.33 * _bump(560, 48) + 0.42 * _bump(632, 22) + _bump(676, 15.5)
)
"""Absorption of chlorophyll and carotenoids in leaves, relative to its red peak."""
_CAROTENOID = 0.9 * _bump(440, 30) + 0.9 * _bump(485, 22)
"""Absorption of yellow pigments (petals, ripening leaves)."""
_CELLULOSE = 0.16 * _bump(1480, 70) + 0.14 * _bump(1730, 40) + 0.42 * _bump(2100, 55) + 0.75 * _bump(2320, 75)
"""Absorption of cellulose and lignin, hidden by water while leaves are green."""


def kubelka_munk(q: Spectrum) -> Spectrum:
    """Reflectance of an infinitely thick scattering layer, 0 to 1, from q = absorption / scattering (Kubelka 1948)."""
    return np.asarray(1 + q - np.sqrt(q * q + 2 * q))


def absorption_ratio(reflectance: Spectrum) -> Spectrum:
    """Absorption / scattering of the infinitely thick layer with this reflectance: kubelka_munk's inverse."""
    return np.asarray((1 - reflectance) ** 2 / (2 * reflectance))


def green_vegetation(
    *, chlorophyll: float, water_cm: float, density: float, yellow: float = 0.0, dry: float = 0.0
) -> Spectrum:
    """Reflectance of a closed canopy.

    chlorophyll: 0 (bleached) to 1.5 (dark green); water_cm: leaf water, 0.05 to 0.4; density: 0 (open, dark
    understorey: conifers) to 1 (thick and bright in the near infrared); yellow: carotenoids beyond the usual;
    dry: share of the dry matter's absorption that shows.
    """
    base = 0.9 - 0.72 * density  # canopy gaps act as a grey absorber
    q = base + 11.0 * chlorophyll * _CHLOROPHYLL + 6.0 * yellow * _CAROTENOID + water_cm * WATER_PER_CM
    q = q + (0.25 + dry) * (_CELLULOSE + 1.6 * np.exp(-(WAVELENGTH_NM - 400) / 120))
    return 0.004 + 0.98 * kubelka_munk(q)


def dry_vegetation(*, brightness: float, age: float = 0.0) -> Spectrum:
    """Reflectance of straw and dead grass: rising through the visible, cellulose at 2100 nm; age darkens it."""
    tannin = (3.4 + 3.0 * age) * np.exp(-(WAVELENGTH_NM - 400) / 190)
    q = 0.62 - 0.34 * brightness + tannin + 0.9 * _CELLULOSE + 0.006 * WATER_PER_CM + 0.3 * age
    return kubelka_munk(q)


def soil(*, moisture: float, iron: float, brightness: float) -> Spectrum:
    """Reflectance of bare ground; moisture 0 (air-dry) to 1 (field capacity), iron 0 (pale) to 1 (ochre).

    Iron oxides cut the blue edge and a band at 880 nm, clay has its hydroxyl band at 2205 nm, carbonate none.
    """
    continuum = brightness * (0.18 + 0.82 * (1 - np.exp(-(WAVELENGTH_NM - 350) / 420)))
    continuum *= 1 - (0.12 + 0.38 * iron) * (1 - _edge(545, 38))
    continuum *= (
        (1 - (0.03 + 0.10 * iron) * _bump(880, 75)) * (1 - 0.10 * _bump(2205, 22)) * (1 - 0.05 * _bump(2345, 40))
    )
    continuum *= 1 - 0.08 * _edge(2250, 60)
    q = absorption_ratio(continuum) * (1 + 1.9 * moisture) + (0.004 + 0.035 * moisture) * WATER_PER_CM
    return kubelka_munk(q)


def water_body(*, sediment: float, algae: float) -> Spectrum:
    """Reflectance of deep water; sediment 0 (clear) to 1 (brown flood), algae 0 to 1; near 0 beyond 1000 nm.

    R = 0.5 b / (a + b) + glint, in 1/m: a of water, yellow matter and algae, b of particles.
    """
    absorbed = 100 * WATER_PER_CM + (0.25 + 1.5 * sediment) * np.exp(-(WAVELENGTH_NM - 440) / 75)
    absorbed = absorbed + algae * 1.1 * _CHLOROPHYLL
    scattered = (0.012 + 0.55 * sediment + 0.05 * algae) * (550 / WAVELENGTH_NM) ** 0.8
    return 0.5 * scattered / (absorbed + scattered) + 0.006


def asphalt(*, age: float) -> Spectrum:
    """Reflectance of road surface, from fresh bitumen (0) to worn, gravel-coloured (1)."""
    binder = 1 - 0.08 * (1 - age) * (_bump(1730, 25) + 1.4 * _bump(2310, 30))
    rise = (0.035 + 0.055 * age) + (0.045 + 0.10 * age) * (1 - np.exp(-(WAVELENGTH_NM - 380) / 550))
    return rise * binder


def concrete(*, weathering: float) -> Spectrum:
    """Reflectance of concrete and plaster: carbonate at 2340 nm, bound water at 1440 and 1930 nm."""
    rise = (0.46 - 0.2 * weathering) * (0.55 + 0.45 * (1 - np.exp(-(WAVELENGTH_NM - 380) / 230)))
    bound = (1 - 0.06 * _bump(1440, 35)) * (1 - 0.14 * _bump(1935, 45)) * (1 - 0.09 * _edge(2250, 60))
    return rise * bound * (1 - 0.10 * _bump(2340, 32))


def clay_tile(*, soot: float) -> Spectrum:
    """Reflectance of fired clay tiles: the iron oxide edge at 560 nm, its band at 870 nm, bright beyond."""
    rise = 0.055 + 0.27 * _edge(590, 24) + 0.14 * _edge(1150, 130)
    return rise * (1 - 0.16 * _bump(870, 70)) * (1 - 0.04 * _bump(530, 30)) * (1 - 0.62 * soot)


def metal_roof(*, blue: float) -> Spectrum:
    """Reflectance of coated steel sheet: nearly flat, zinc's dip at 1020 nm; blue: share of a blue coating, 0 to 1."""
    flat = 0.42 - 0.05 * _bump(1020, 110) + 0.06 * _edge(1700, 200)
    return flat * (1 - blue * (0.55 * _bump(620, 90) + 0.2 * _bump(760, 60)))


def bitumen_roof() -> Spectrum:
    """Reflectance of roofing felt and slate: dark and flat."""
    return (0.06 + 0.03 * (1 - np.exp(-(WAVELENGTH_NM - 380) / 700))) * (1 - 0.06 * _bump(2310, 35))


def sand(*, brightness: float) -> Spectrum:
    """Reflectance of quartz sand and gravel with a little iron."""
    rise = brightness * (0.42 + 0.58 * (1 - np.exp(-(WAVELENGTH_NM - 400) / 260)))
    rise *= (1 - 0.22 * (1 - _edge(520, 35))) * (1 - 0.03 * _bump(900, 70)) * (1 - 0.06 * _bump(2205, 24))
    return kubelka_munk(absorption_ratio(rise) + 0.003 * WATER_PER_CM)


def shade() -> Spectrum:
    """Apparent reflectance of ground in cast shadow: skylight only, bluish and dark."""
    return 0.014 + 0.035 * np.exp(-(WAVELENGTH_NM - 400) / 260)


def cloud() -> Spectrum:
    """Reflectance of a thick water cloud: bright and flat, liquid water's bands beyond 1400 nm."""
    return 0.86 * kubelka_munk(0.004 + 0.0022 * WATER_PER_CM)


def bilinear(first: Spectrum, second: Spectrum) -> Spectrum:
    """Reflectance of light scattered once by each: the product (Fan et al. 2009, doi 10.1080/01431160802558659)."""
    return first * second


def stack(spectra: Sequence[Spectrum]) -> Spectrum:
    """(spectrum, wavelength) array, checked to be reflectance between 0 and 1."""
    stacked = np.stack(spectra)
    if stacked.min() < 0 or stacked.max() > 1:
        raise ValueError(f"reflectance must lie in [0, 1], got {stacked.min():.3f} to {stacked.max():.3f}")
    return stacked
