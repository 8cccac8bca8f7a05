"""hysure-l2: HySure's convex subspace fusion with a quadratic prior, solved in closed form.

M. Simoes, J. Bioucas-Dias, L. B. Almeida, J. Chanussot, A convex formulation for hyperspectral image superresolution
via subspace-based regularization, IEEE TGRS 53(6), 2015, doi 10.1109/TGRS.2014.2375320. There, X = E A minimises
|hs - D X|^2 + |ms - R X|^2 + TV(A): D blurs and samples, R is the spectral response, E a basis.

Vector TV couples all pixels of a scene. A quadratic prior on the detail x - up(degrade(x)), with the detail's own
covariance C, instead gives a linear solution of finite support (both parts are posterior means under Gaussian priors):
- Detail from the MSI: G = C R^T (R C R^T + noise)^-1 = cov(hs detail, ms detail) cov(ms detail)^-1, measured over the
  scene on the detail that one more blur removes. Measured this way, G includes R and its radiometric errors, and a
  wrong nominal response cannot bias it.
- Sharpening of the HSI: X = up(e) + G ms must satisfy D X = hs, that is D up(e) = t, t = hs - G degrade(ms). D up is a
  separable filter on the coarse grid; its inverse is regularised by noise / signal of each component of t, and cut to
  2 * INVERSE_REACH + 1 taps. The components are those of t's detail after whitening by the noise (the basis E). The
  strongest are sharpened; the rest, mostly noise, is upsampled unchanged rather than dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scenefuse.models.band_map import inject, map_bands
from scenefuse.models.base import ModelCard, Stage
from scenefuse.models.classical import Cost, card_of, frozen, given_options, injection_cost, reach_of_degrading
from scenefuse.models.moments import Array, Moments, MomentStage, ridge_regression
from scenefuse.models.ref import ModelRef
from scenefuse.models.resample import coarse_blur_taps, degrade_window, filter_window
from scenefuse.models.state import SceneState

RIDGE = 1e-3
"""Added to the correlation matrix of the MSI bands' detail: stands in for the MSI's noise."""
COMPONENTS = 10
"""Number of components sharpened (Simoes et al. use 10; 20 gain at most 0.1 dB on four scenes)."""
INVERSE_REACH = 3
"""Coarse pixels the inverse filter reads on each side (2 lose 0.1 dB, 4 gain 0.01 dB)."""
NOISE_WEIGHT = 2.0
"""Weight of noise / signal in the inverse; values between 1 and 3 differ by less than 0.05 dB."""
LEAST_NOISE = 0.03
"""Least noise / signal: even without noise the PSF is known only to a few percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HysureL2:
    """Posterior mean of the fine image under Gaussian priors, in a subspace, with both images deblurred."""

    card: ModelCard

    def stages(self) -> tuple[Stage, ...]:
        """One stage over the whole scene: covariances of both images' detail."""
        conclusion = partial(_posterior, ratio=self.card.ratio, components=int(self.card.options["components"]))
        return (MomentStage(name="hysure-l2/prior", conclusion=conclusion, ratio=self.card.ratio, of_details=True),)

    def to(self, device: str) -> HysureL2:  # noqa: ARG002 - holds no tensor: it follows its inputs' device
        """Return the method itself."""
        return self

    def fuse(self, hs: Tensor, ms: Tensor, state: SceneState) -> Tensor:
        """up(inverse(hs - G degrade(ms))) + G ms, (n, hs band, y, x)."""
        gains = frozen(state, "hysure-l2/gains", like=hs)  # (hs, ms)
        ratio, phase_px = self.card.ratio, state.phase_px
        low = degrade_window(ms, ratio, float(state.facts["psf_sigma_px"]), phase_px)  # (n, ms, y + 4, x + 4)
        left = hs - map_bands(gains, low)  # (n, hs, y + 4, x + 4)
        components = map_bands(frozen(state, "hysure-l2/analysis", like=hs), left)  # (n, k, y + 4, x + 4)
        inverses = state.arrays["hysure-l2/inverses"].tolist()
        sharp = [filter_window(components[:, k : k + 1], taps) for k, taps in enumerate(inverses)]
        left += map_bands(frozen(state, "hysure-l2/basis", like=hs), torch.cat(sharp, dim=1) - components)
        return inject(left, gains, ms, ratio, phase_px)


def build(ref: ModelRef) -> HysureL2:
    """The method for the reference's bands and ratio. Option `components`: how many to sharpen."""
    options = given_options(ref, {"components": COMPONENTS})
    cost, bands = injection_cost(ref, len(ref.ms_bands)), len(ref.hs_bands)
    coarse = 2.0 * int(options["components"]) * (bands + 2 * INVERSE_REACH + 1)
    card = card_of(
        ref,
        title="HySure with a quadratic prior, in closed form",
        source="Simoes et al. 2015, doi 10.1109/TGRS.2014.2375320",
        reach=reach_of_degrading(ref.ratio, _widest_inverse(ref.ratio)),
        cost=Cost(multiply_adds=cost.multiply_adds + coarse / ref.ratio**2, values=cost.values + bands / ref.ratio**2),
        options=options,
    )
    return HysureL2(card=card)


def inverse_taps(blur: Array, noise_to_signal: float) -> Array:
    """Taps of the filter q that undoes the odd-length, symmetric blur: 2 * INVERSE_REACH + 1, sum 1.

    q minimises |blur * q - delta|^2 + noise_to_signal |q - delta|^2.
    """
    count = 2 * INVERSE_REACH + 1
    blurred = np.array([np.convolve(row, blur) for row in np.eye(count)]).T  # (count + len(blur) - 1, count)
    target = np.zeros(len(blurred))
    target[len(target) // 2] = 1.0
    delta = np.zeros(count)
    delta[INVERSE_REACH] = 1.0
    normal = blurred.T @ blurred + noise_to_signal * np.eye(count)
    taps = np.linalg.solve(normal, blurred.T @ target + noise_to_signal * delta)
    return np.asarray(taps / taps.sum(), dtype=np.float64)


def noise_variances(moments: Moments) -> Array:
    """(hs band,) variance that the other bands do not explain: 1 / (C^-1)_bb, as in HySime.

    J. Bioucas-Dias, J. Nascimento, Hyperspectral subspace identification, IEEE TGRS 46(8), 2008,
    doi 10.1109/TGRS.2008.918089. Corrected for the degrees of freedom used by regressing on B - 1 bands.
    """
    bands = len(moments.hs_mean)
    scale = np.sqrt(np.diag(moments.hs_hs))
    floor = 1e-6 * max(float(scale.max()), 1e-6)
    safe = np.maximum(scale, floor)
    correlation = moments.hs_hs / np.outer(safe, safe)
    correlation[np.diag_indices(bands)] = 1.0 + 1e-8
    unexplained = 1.0 / np.diag(np.linalg.inv(correlation))
    freedom = max(moments.count - bands, moments.count / 10) / moments.count
    return np.asarray(np.maximum(safe**2 * unexplained / freedom, floor**2), dtype=np.float64)


def _posterior(moments: Moments, state: SceneState, *, ratio: int, components: int) -> Mapping[str, Array]:
    """Arrays gains G (hs, ms), analysis (k, hs) and basis (hs, k) of the components, inverses (k, tap)."""
    blur = coarse_blur_taps(ratio, float(state.facts["psf_sigma_px"]))
    gains = ridge_regression(moments.ms_ms, moments.hs_ms, RIDGE)
    left = moments.hs_hs - gains @ moments.hs_ms.T
    deviation = np.sqrt(noise_variances(moments))
    signal, basis = np.linalg.eigh((left + left.T) / 2 / np.outer(deviation, deviation))
    strongest = np.argsort(signal)[::-1][:components]
    basis = basis[:, strongest] * np.sign(basis[:, strongest].sum(axis=0) + 1e-300)  # eigenvectors have no sign
    noise_to_signal = NOISE_WEIGHT / np.maximum(signal[strongest] - 1.0, 1e-3)
    return {
        "hysure-l2/gains": gains,
        "hysure-l2/analysis": (basis / deviation[:, np.newaxis]).T,
        "hysure-l2/basis": basis * deviation[:, np.newaxis],
        "hysure-l2/inverses": np.array([inverse_taps(blur, max(LEAST_NOISE, ratio_)) for ratio_ in noise_to_signal]),
    }


def _widest_inverse(ratio: int) -> NDArray[np.float64]:
    """The inverse filter at LEAST_NOISE for a PSF in the middle of the plausible range: for the card's reach."""
    return inverse_taps(coarse_blur_taps(ratio, 0.5 * ratio), LEAST_NOISE)
