"""Point spread: the Gaussian blur that gives an image the MTF of a coarser instrument."""

from __future__ import annotations

from math import log, pi, sqrt


def psf_sigma_px(mtf_nyquist: float, ratio: float) -> float:
    """Standard deviation in fine pixels of the Gaussian whose MTF at the coarse Nyquist frequency is mtf_nyquist.

    MTF(f) = exp(-2 pi^2 sigma^2 f^2) at f = 1 / (2 ratio) cycles per fine pixel gives
    sigma = ratio * sqrt(-2 ln mtf_nyquist) / pi. (Aiazzi et al. 2006, doi 10.14358/PERS.72.5.591)
    """
    if not 0 < mtf_nyquist < 1:
        raise ValueError(f"mtf_nyquist must lie between 0 and 1, got {mtf_nyquist}")
    if not ratio > 0:
        raise ValueError(f"ratio must be positive, got {ratio}")
    return ratio * sqrt(-2 * log(mtf_nyquist)) / pi


def psf_sigma_over_own_px(mtf_nyquist: float, ratio: float, *, own_mtf_nyquist: float, own_ratio: float = 1.0) -> float:
    """Standard deviation in fine pixels of the blur still missing in a band that has an MTF of its own.

    Variances of Gaussians add: sigma^2 = sigma_target^2 - sigma_own^2. own_ratio is the band's own GSD in fine
    pixels (Sentinel-2's 20 m bands on the 10 m grid: 2). 0 when the band is already as blurred as the target.
    """
    target = psf_sigma_px(mtf_nyquist, ratio)
    own = psf_sigma_px(own_mtf_nyquist, own_ratio)
    return sqrt(max(target**2 - own**2, 0.0))
