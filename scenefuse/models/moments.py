"""Means and covariances of both images over the scene's coarse pixels, and regressions from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scenefuse.errors import DataError
from scenefuse.models.base import SceneWindow
from scenefuse.models.coarse_pixels import coarse_details, coarse_pixels, degrade_margin, detail_margin
from scenefuse.models.state import SceneState
from scenefuse.words import counted

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """First and second moments of the HSI and the degraded MSI over the scene's valid coarse pixels."""

    count: int
    """Number of coarse pixels."""
    hs_mean: Array
    """(hs band,) reflectance."""
    ms_mean: Array
    """(ms band,) reflectance."""
    covariance: Array
    """(hs + ms band, hs + ms band) reflectance squared, the HSI's bands first."""

    @property
    def hs_hs(self) -> Array:
        """(hs band, hs band) covariance of the HSI."""
        return self.covariance[: len(self.hs_mean), : len(self.hs_mean)]

    @property
    def hs_ms(self) -> Array:
        """(hs band, ms band) covariance of the HSI with the degraded MSI."""
        return self.covariance[: len(self.hs_mean), len(self.hs_mean) :]

    @property
    def ms_ms(self) -> Array:
        """(ms band, ms band) covariance of the degraded MSI."""
        return self.covariance[len(self.hs_mean) :, len(self.hs_mean) :]


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentStage:
    """The stage of a method that needs only moments: sums over blocks, then the method's conclusion."""

    name: str
    """Name in logs: `gsa/regression`."""
    conclusion: Callable[[Moments, SceneState], Mapping[str, Array]]
    """Makes the method's arrays, named `<method>/<name>`, from the scene's moments."""
    ratio: int
    """Coarse pixel size / fine pixel size."""
    of_details: bool = False
    """Use the detail that one more blur removes (coarse_details) instead of the images themselves."""
    where: Literal["blocks", "sample"] = "blocks"
    """Blocks of the scene."""
    reduce: Literal["sum", "concat"] = "sum"
    """Sums of blocks are added."""

    @property
    def margin(self) -> int:
        """Coarse pixels of context around each block, enough for the widest plausible PSF."""
        return detail_margin(self.ratio) if self.of_details else degrade_margin(self.ratio)

    def measure(self, window: SceneWindow, state: SceneState) -> dict[str, Array]:
        """moment_sums of the block."""
        return moment_sums(window, state, float(state.facts["psf_sigma_px"]), of_details=self.of_details)

    def conclude(self, total: dict[str, Array], state: SceneState) -> SceneState:
        """The state with the method's arrays added."""
        return state.with_(arrays=self.conclusion(moments_of(total, state, of_details=self.of_details), state))


def moment_sums(
    window: SceneWindow, state: SceneState, sigma_px: float, *, of_details: bool = False
) -> dict[str, Array]:
    """Count, sums and sums of products of the deviations from the fill spectra, HSI bands before MSI bands.

    Deviations keep the squares from losing digits; details are deviations from 0.
    """
    if of_details:
        pixels = coarse_details(window, sigma_px)
        values = np.hstack([pixels.hs, pixels.ms])
    else:
        pixels = coarse_pixels(window, sigma_px)
        values = np.hstack([pixels.hs - state.arrays["hs_mean"], pixels.ms - state.arrays["ms_mean"]])
    return {"count": np.array(float(len(values))), "sum": values.sum(axis=0), "products": values.T @ values}


def moments_of(total: Mapping[str, Array], state: SceneState, *, of_details: bool = False) -> Moments:
    """The scene's moments from moment_sums added over its blocks; needs at least two pixels."""
    count, hs_bands = int(total["count"]), len(state.arrays["hs_mean"])
    if count < 2:
        raise DataError(
            f"data in both images: {counted(count, 'coarse pixel')}",
            "nothing can be learnt about how the images relate",
            "choose a pair that overlaps on valid pixels",
        )
    mean = total["sum"] / count
    covariance = total["products"] / count - np.outer(mean, mean)
    if not of_details:
        mean = mean + np.concatenate([state.arrays["hs_mean"], state.arrays["ms_mean"]])
    return Moments(
        count=count,
        hs_mean=mean[:hs_bands],
        ms_mean=mean[hs_bands:],
        covariance=(covariance + covariance.T) / 2,
    )


def ridge_regression(covariance: Array, cross: Array, ridge: float) -> Array:
    """Coefficients (target, predictor) of the regression of targets on predictors.

    covariance: (predictor, predictor); cross: (target, predictor). Predictors are scaled to unit variance and `ridge`
    is added to their correlation matrix, which bounds the coefficients of nearly collinear predictors:
    W = cross S^-1 (S^-1 covariance S^-1 + ridge I)^-1 S^-1 with S = diag(standard deviations).
    A predictor without variance gets the coefficient 0.
    """
    scale = np.sqrt(np.diag(covariance))
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 1e-7 * max(scale.max(), 1e-30))
    correlation = covariance * inverse[:, np.newaxis] * inverse
    correlation[np.diag_indices_from(correlation)] = 1.0 + ridge
    solved = np.linalg.solve(correlation, (cross * inverse).T).T
    return np.asarray(solved * inverse, dtype=np.float64)


def correlations(moments: Moments) -> Array:
    """(hs band, ms band) correlation coefficients; 0 if a band has no variance."""
    hs, ms = np.sqrt(np.diag(moments.hs_hs)), np.sqrt(np.diag(moments.ms_ms))
    product = np.outer(hs, ms)
    return np.asarray(
        np.divide(moments.hs_ms, product, out=np.zeros_like(product), where=product > 0), dtype=np.float64
    )
