"""How the coarse instrument sees the fine grid: spectral response and point spread, found before any method runs.

Every method and network needs both: `srf` (ms band, hs band) in the state's arrays and `psf_sigma_px` in its facts. The
state also records how they were found and how far the pair departs from them: gain, offset and correlation of each
degraded MSI band against the HSI seen through `srf`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

from scenefuse.errors import DataError, UsageError
from scenefuse.models.base import SceneWindow, Stage
from scenefuse.models.coarse_pixels import coarse_pixel_ladder, degrade_margin, psf_sigma_limits_px
from scenefuse.models.moments import Moments, moment_sums, moments_of
from scenefuse.models.state import SceneState
from scenefuse.sensors.band import Band
from scenefuse.sensors.psf import psf_sigma_px as sigma_of_mtf
from scenefuse.sensors.response import response_matrix
from scenefuse.sensors.sensor import DEFAULT_MTF_NYQUIST
from scenefuse.words import counted

Array = NDArray[np.float64]

LEAST_COVERAGE = 0.5
"""Share of an MSI band's response that the HSI must cover for the nominal response to be used."""
SMOOTHNESS = 1e-2
"""Weight of the squared second differences of an estimated response, in units of the HSI's mean variance."""
LADDER_STEPS = 11
"""Number of PSF sigmas tried, spaced evenly in the logarithm between the limits."""
LEAST_CONTRAST = 1e-5
"""Least difference in 1 - correlation^2 between the best and the worst sigma for the best to be meaningful."""


def observation_stages(
    hs_bands: Sequence[Band], ms_bands: Sequence[Band], ratio: int, *, psf_sigma_px: float | None = None
) -> tuple[Stage, ...]:
    """The stages run before any method's own; they need the fill spectra `hs_mean` and `ms_mean`.

    psf_sigma_px: the instrument's PSF if known, fine pixels; otherwise estimated from the pair.
    If both a response and the PSF are estimated, each is estimated a second time given the other: an assumed PSF that
    is 20 % wrong biases the response, which in turn biases the PSF by 10 %.
    """
    least, greatest = psf_sigma_limits_px(ratio)
    if psf_sigma_px is not None and not least <= psf_sigma_px <= greatest:
        raise UsageError(
            f"psf_sigma_px is {psf_sigma_px:g}",
            f"at ratio {ratio} a PSF between {least:g} and {greatest:g} fine pixels is plausible",
            "Give one in that range or leave it to be estimated",
        )
    nominal, is_nominal = nominal_response(hs_bands, ms_bands)
    first = sigma_of_mtf(DEFAULT_MTF_NYQUIST, ratio) if psf_sigma_px is None else psf_sigma_px
    ladder = tuple(np.geomspace(least, greatest, LADDER_STEPS).tolist()) if psf_sigma_px is None else (psf_sigma_px,)
    response = ResponseStage(nominal=nominal, is_nominal=is_nominal, sigma_px=first, ratio=ratio)
    point_spread = PointSpreadStage(sigmas_px=ladder, nominal_px=first, ratio=ratio)
    if all(is_nominal) or psf_sigma_px is not None:
        return response, point_spread
    again = replace(response, name="observation/response-again", sigma_px=None)
    return response, point_spread, again, replace(point_spread, name="observation/point-spread-again")


def nominal_response(hs_bands: Sequence[Band], ms_bands: Sequence[Band]) -> tuple[Array, tuple[bool, ...]]:
    """Responses (ms band, hs band) from the bands' wavelengths and widths, and which of them are usable.

    A response is usable if the MSI band's wavelength and FWHM and the HSI's wavelengths are known, and the HSI covers
    at least LEAST_COVERAGE of it. The others are rows of zeros.
    """
    matrix = np.zeros((len(ms_bands), len(hs_bands)))
    known = [
        index for index, band in enumerate(ms_bands) if band.wavelength_nm is not None and band.fwhm_nm is not None
    ]
    if not known or len({band.wavelength_nm for band in hs_bands} - {None}) < max(2, len(hs_bands) // 2):
        return matrix, (False,) * len(ms_bands)
    if any(band.wavelength_nm is None for band in hs_bands):
        return matrix, (False,) * len(ms_bands)
    response = response_matrix(hs_bands, [ms_bands[index] for index in known])
    usable = [False] * len(ms_bands)
    for row, index in enumerate(known):
        if response.coverage[row] >= LEAST_COVERAGE:
            matrix[index], usable[index] = response.matrix[row], True
    return matrix, tuple(usable)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseStage:
    """Finds `srf`: nominal if the bands' metadata allow it, otherwise estimated from the pair."""

    nominal: Array
    """(ms band, hs band); zero rows for bands without a nominal response."""
    is_nominal: tuple[bool, ...]
    """Whether each MSI band uses its nominal response."""
    sigma_px: float | None
    """PSF used in the estimation, fine pixels; None for the state's."""
    ratio: int
    """Coarse pixel size / fine pixel size."""
    name: str = "observation/response"
    """Name in logs."""
    reduce: Literal["sum", "concat"] = "sum"
    """Sums of blocks are added."""

    @property
    def where(self) -> Literal["blocks", "sample", "nowhere"]:
        """Blocks of the scene; nowhere if every response is nominal."""
        return "nowhere" if all(self.is_nominal) else "blocks"

    @property
    def margin(self) -> int:
        """Coarse pixels of context around each block."""
        return degrade_margin(self.ratio, self.sigma_px)

    def measure(self, window: SceneWindow, state: SceneState) -> dict[str, Array]:
        """Moments of both images."""
        sigma_px = float(state.facts["psf_sigma_px"]) if self.sigma_px is None else self.sigma_px
        return moment_sums(window, state, sigma_px)

    def conclude(self, total: dict[str, Array], state: SceneState) -> SceneState:
        """The state with `srf`, and the fact `srf_source`: nominal or estimated, per MSI band."""
        srf = self.nominal.copy()
        if not all(self.is_nominal):
            estimated = estimated_response(moments_of(total, state))
            missing = np.flatnonzero(~np.array(self.is_nominal))
            srf[missing] = estimated[missing]
        source = ["nominal" if nominal else "estimated" for nominal in self.is_nominal]
        return state.with_(arrays={"srf": srf}, facts={"ratio": self.ratio, "srf_source": source})


def estimated_response(moments: Moments) -> Array:
    """Non-negative responses (ms band, hs band), rows summing to 1, from the scene's covariances.

    Row r minimises var(ms - r hs) + SMOOTHNESS v |second differences of r|^2 + 1e-4 v |r|^2 over r >= 0, where v is the
    HSI's mean variance: HySure's estimator (Simoes et al. 2015, section IV, doi 10.1109/TGRS.2014.2375320) with the
    sign constraint. Normalising the rows and centring remove the MSI's gain and offset.
    """
    bands = len(moments.hs_mean)
    scale = max(float(np.diag(moments.hs_hs).mean()), np.finfo(np.float64).tiny)
    bend = np.diff(np.eye(bands), n=2, axis=0) if bands > 2 else np.zeros((1, bands))
    normal = moments.hs_hs / scale + SMOOTHNESS * bend.T @ bend + 1e-4 * np.eye(bands)
    root = cholesky(normal)  # upper: normal = root^T root
    rows = []
    for cross in moments.hs_ms.T / scale:
        row = nnls(root, solve_triangular(root, cross, trans="T"))[0]
        if not row.any():  # no band correlates positively with this one: use the most similar
            row[int(np.argmax(cross))] = 1.0
        rows.append(row / row.sum())
    return np.array(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSpreadStage:
    """Finds `psf_sigma_px`: the blur under which the degraded MSI correlates best with the HSI seen through `srf`."""

    sigmas_px: tuple[float, ...]
    """Sigmas to try, ascending, fine pixels; a single one if the PSF is given."""
    nominal_px: float
    """Used if the pair shows no difference between the sigmas, fine pixels."""
    ratio: int
    """Coarse pixel size / fine pixel size."""
    name: str = "observation/point-spread"
    """Name in logs."""
    where: Literal["blocks", "sample"] = "blocks"
    """Blocks of the scene."""
    reduce: Literal["sum", "concat"] = "sum"
    """Sums of blocks are added."""

    @property
    def margin(self) -> int:
        """Coarse pixels of context around each block."""
        return degrade_margin(self.ratio, max(self.sigmas_px))

    def measure(self, window: SceneWindow, state: SceneState) -> dict[str, Array]:
        """count, and the sums of a, b, a^2, a b, b^2 per sigma and MSI band: a = srf hs, b = degraded MSI."""
        srf = state.arrays["srf"]
        hs, ladder = coarse_pixel_ladder(window, self.sigmas_px)
        a = (hs - state.arrays["hs_mean"]) @ srf.T
        sums = []
        for ms in ladder:
            b = ms - state.arrays["ms_mean"]
            sums.append([a.sum(axis=0), b.sum(axis=0), (a * a).sum(axis=0), (a * b).sum(axis=0), (b * b).sum(axis=0)])
        return {"count": np.array(float(len(a))), "sums": np.array(sums)}

    def conclude(self, total: dict[str, Array], state: SceneState) -> SceneState:
        """The state with psf_sigma_px and its source, and gain, offset and correlation of each MSI band."""
        count = float(total["count"])
        if count < 2:
            raise DataError(
                f"data in both images: {counted(int(count), 'coarse pixel')}",
                "the point spread cannot be found",
                "choose a pair that overlaps on valid pixels",
            )
        mean_a, mean_b, aa, ab, bb = np.moveaxis(total["sums"] / count, 1, 0)  # each (sigma, ms)
        var_a, covariance, var_b = aa - mean_a**2, ab - mean_a * mean_b, bb - mean_b**2
        product = np.sqrt(np.maximum(var_a * var_b, 0.0))
        correlation = np.divide(covariance, product, out=np.zeros_like(product), where=product > 0)
        sigma_px, source = self._best((1 - correlation**2).mean(axis=1))
        nearest = int(np.argmin(np.abs(np.log(np.array(self.sigmas_px) / sigma_px))))
        gain = np.divide(covariance, var_a, out=np.ones_like(var_a), where=var_a > 0)[nearest]
        seen = state.arrays["srf"] @ state.arrays["hs_mean"] + mean_a[nearest]
        return state.with_(
            arrays={
                "observation/gain": gain,
                "observation/offset": state.arrays["ms_mean"] + mean_b[nearest] - gain * seen,
                "observation/correlation": correlation[nearest],
            },
            facts={"psf_sigma_px": sigma_px, "psf_source": source},
        )

    def _best(self, unexplained: Array) -> tuple[float, str]:
        """Sigma with the least unexplained share, refined by a parabola in log sigma, and how it was found."""
        if len(self.sigmas_px) == 1:
            return self.sigmas_px[0], "given"
        if unexplained.max() - unexplained.min() < LEAST_CONTRAST:
            return self.nominal_px, "nominal"
        best = int(np.argmin(unexplained))
        if best in (0, len(unexplained) - 1):
            return self.sigmas_px[best], "estimated at the limit"
        left, middle, right = unexplained[best - 1 : best + 2]
        shift = 0.5 * (left - right) / (left - 2 * middle + right)
        step = np.log(self.sigmas_px[best + 1] / self.sigmas_px[best])
        return float(self.sigmas_px[best] * np.exp(shift * step)), "estimated"
