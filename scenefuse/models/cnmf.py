"""cnmf: coupled non-negative matrix factorisation.

N. Yokoya, T. Yairi, A. Iwasaki, Coupled nonnegative matrix factorization unmixing for hyperspectral and multispectral
data fusion, IEEE TGRS 50(2), 2012, doi 10.1109/TGRS.2011.2161320.

Both images are mixtures of the same endmembers: hs = E A_h, ms = E_m A. Endmembers are found on the stratified sample
(pure pixels, then multiplicative updates of E and A_h) and frozen. E_m, the endmembers as the MSI sees them, is the
non-negative regression of the degraded MSI on A_h, which couples the two without relying on a nominal response. Each
pixel then takes a fixed number of steps, without a stopping rule: A_h from the HSI, then A from the MSI, starting at
up(A_h).

With E frozen, each pixel is a separate non-negative least squares problem, which the paper's multiplicative updates
approach slowly and from one side. ADMM takes one small matrix product per step, with the same matrix for all pixels.
Five steps get closer than fifteen multiplicative updates (0.5 dB on the mean of eleven scenes, 3.5 dB on Berlin) in
less than a third of the time.

The paper alternates updates until both images are explained; here the HSI is matched last, in closed form:
fused = E A + up(hs - E degrade(A)), which keeps what the endmembers leave unexplained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from scenefuse.errors import DataError
from scenefuse.models.band_map import STEADY_PIXELS, add_mapped, inject, map_bands, map_into
from scenefuse.models.base import ModelCard, SceneWindow, Stage
from scenefuse.models.classical import (
    Cost,
    Reach,
    card_of,
    frozen,
    given_options,
    injection_cost,
    reach_of_degrading,
    reach_of_upsampling,
)
from scenefuse.models.coarse_pixels import coarse_pixels, degrade_margin
from scenefuse.models.ref import ModelRef
from scenefuse.models.resample import degrade_window, upsample
from scenefuse.models.state import SceneState

Array = NDArray[np.float64]

ENDMEMBERS = 10
"""Number of endmembers, at most that of HSI bands or sampled pixels. On five scenes 6 lose up to 0.9 dB, 20 up to
0.6, 30 up to 4; on a sixth, of 63 coarse pixels, 8 and more lose 5 to 10 dB against 6."""
SAMPLE_PIXELS = 4096
"""Coarse pixels from which endmembers are learnt; a larger sample is thinned evenly."""
SAMPLE_UPDATES = 1000
"""Multiplicative updates of E and A_h on the sample (200 lose up to 3 dB, 3000 gain 0.3 dB)."""
HS_STEPS = 6
"""ADMM steps for A_h per coarse pixel (4 lose 0.001 dB on the mean of eleven scenes, 20 gain nothing)."""
HS_HOLD = 0.01
"""Weight that holds each step of A_h near the previous one, in units of the endmembers' mean energy."""
MS_STEPS = 5
"""ADMM steps for A per fine pixel (7 gain 0.1 dB on the mean of eleven scenes)."""
MS_HOLD = 0.15
"""The same for A; with fewer MSI bands than endmembers, it also controls how far A moves from up(A_h)."""
SUM_TO_ONE = 0.01
"""Weight of the equation that abundances sum to 1, in units of the endmembers' mean reflectance."""
LEAST_DISTANCE = 1e-6
"""Least distance of an endmember from the span of those before, in lengths of the brightest: less is rounding."""
LEAST = 1e-6
"""Least entry of an initial endmember, and least divisor: multiplicative updates cannot leave zero."""
CHUNK_PIXELS = 4 * STEADY_PIXELS
"""Pixels solved at a time on a CPU, so that their abundances fit the cache (1, 2 and 8 times as many are slower)."""
GPU_CHUNK_PIXELS = 2**18
"""The same on a GPU: a whole window of 512 px. CPU-sized chunks would wait for 5 000 separate kernel launches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndmemberStage:
    """Finds the scene's endmembers as both instruments see them."""

    ratio: int
    """Coarse pixel size / fine pixel size."""
    endmembers: int
    """Number of endmembers."""
    name: str = "cnmf/endmembers"
    """Name in logs."""
    where: Literal["blocks", "sample"] = "sample"
    """The stratified sample of patches."""
    reduce: Literal["sum", "concat"] = "concat"
    """Pixels of all patches, concatenated."""

    @property
    def margin(self) -> int:
        """Coarse pixels of context around each patch."""
        return degrade_margin(self.ratio)

    def measure(self, window: SceneWindow, state: SceneState) -> dict[str, Array]:
        """The patch's valid pixels: hs (pixel, hs band), ms (pixel, ms band), clipped at 0."""
        pixels = coarse_pixels(window, float(state.facts["psf_sigma_px"]))
        return {"hs": pixels.hs.clip(min=0.0), "ms": pixels.ms.clip(min=0.0)}

    def conclude(self, total: dict[str, Array], state: SceneState) -> SceneState:
        """The state with `cnmf/endmembers` (hs band, endmember) and `cnmf/ms_endmembers` (ms band, endmember).

        It also has `cnmf/inverse` and `cnmf/ms_inverse` (endmember, endmember), the matrices of `unmix`'s steps.
        """
        step = -(-len(total["hs"]) // SAMPLE_PIXELS)
        hs, ms = total["hs"][:: max(1, step)].T, total["ms"][:: max(1, step)].T  # (band, pixel)
        if hs.shape[1] < 2:
            raise DataError(
                f"{hs.shape[1]} sampled coarse pixels have data in both images",
                "no endmembers can be found",
                "choose a pair that overlaps on valid pixels",
            )
        for image, name in ((hs, "HSI"), (ms, "MSI")):
            if not image.any():
                raise DataError(
                    f"the sampled pixels of the {name} are nowhere positive",
                    "no endmembers can be found",
                    "Use another method, or a pair that shows land",
                )
        endmembers = pure_pixels(hs, min(self.endmembers, *hs.shape))
        endmembers, abundances = factorise(hs, endmembers)
        ms_endmembers = np.array([nnls(abundances.T, band)[0] for band in ms])
        return state.with_(
            arrays={
                "cnmf/endmembers": endmembers,
                "cnmf/inverse": held_inverse(endmembers, HS_HOLD),
                "cnmf/ms_endmembers": ms_endmembers,
                "cnmf/ms_inverse": held_inverse(ms_endmembers, MS_HOLD),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cnmf:
    """Unmixing of both images with common endmembers."""

    card: ModelCard

    def stages(self) -> tuple[Stage, ...]:
        """The endmembers, from the sample."""
        return (EndmemberStage(ratio=self.card.ratio, endmembers=int(self.card.options["endmembers"])),)

    def to(self, device: str) -> Cnmf:  # noqa: ARG002 - holds no tensor: it follows its inputs' device
        """Return the method itself."""
        return self

    def fuse(self, hs: Tensor, ms: Tensor, state: SceneState) -> Tensor:
        """E A + up(hs - E degrade(A)), (n, hs band, y, x)."""
        ratio, phase_px = self.card.ratio, state.phase_px
        endmembers, inverse, ms_endmembers, ms_inverse = (
            frozen(state, f"cnmf/{name}", like=hs) for name in ("endmembers", "inverse", "ms_endmembers", "ms_inverse")
        )  # (hs, p), (p, p), (ms, p), (p, p)
        even = hs.new_full((hs.shape[0], endmembers.shape[1], *hs.shape[-2:]), 1.0 / endmembers.shape[1])
        coarse = unmix(hs, endmembers, inverse, even, HS_STEPS, hold=HS_HOLD)  # (n, p, y + 4, x + 4)
        start = upsample(coarse, ratio, phase_px).clamp_(min=0.0)
        fine = unmix(ms, ms_endmembers, ms_inverse, start, MS_STEPS, hold=MS_HOLD)  # (n, p, y, x)
        low = degrade_window(fine, ratio, float(state.facts["psf_sigma_px"]), phase_px)  # (n, p, y + 4, x + 4)
        return inject(hs - map_bands(endmembers, low), endmembers, fine, ratio, phase_px)


def build(ref: ModelRef) -> Cnmf:
    """The method for the reference's bands and ratio. Option `endmembers`: how many to use."""
    options = given_options(ref, {"endmembers": ENDMEMBERS})
    count, bands, coarse_share = int(options["endmembers"]), len(ref.hs_bands), 1 / ref.ratio**2
    cost = injection_cost(ref, count)
    steps = MS_STEPS * count**2 + HS_STEPS * count**2 * coarse_share + count * (10 + bands * coarse_share)
    card = card_of(
        ref,
        title="Coupled non-negative matrix factorisation",
        source="Yokoya et al. 2012, doi 10.1109/TGRS.2011.2161320",
        reach=_reach(ref.ratio),
        cost=Cost(multiply_adds=cost.multiply_adds + steps, values=cost.values + 4.0 * count),
        options=options,
    )
    return Cnmf(card=card)


def _reach(ratio: int) -> Reach:
    """Reach of upsampling, unmixing, degrading and upsampling again.

    The first upsampling reads only the HSI's margin, so it adds to the support but not to the halo.
    """
    first, then = reach_of_upsampling(ratio), reach_of_degrading(ratio)
    return Reach(
        support_px=first.support_px + then.support_px,
        halo_px=then.halo_px,
        effective_px=first.effective_px + then.effective_px,
    )


def held_inverse(endmembers: Array, hold: float) -> Array:
    """(G / h + 1)^-1, (p, p), with G = E^T E + s and h = hold times the mean of G's diagonal; endmembers E: (b, p)."""
    gram = endmembers.T @ endmembers + _sum_weight(endmembers)
    return np.asarray(np.linalg.inv(gram / (hold * np.diag(gram).mean()) + np.eye(len(gram))))


def _sum_weight(endmembers: Array) -> float:
    """s, the weight of the equation that abundances sum to 1."""
    return float((SUM_TO_ONE * endmembers.mean()) ** 2 * len(endmembers))


def unmix(image: Tensor, endmembers: Tensor, inverse: Tensor, start: Tensor, steps: int, *, hold: float) -> Tensor:
    """Abundances (n, p, y, x) after a fixed number of steps from `start`, which they overwrite.

    ADMM for |x - E A|^2 + s (1 - sum of A)^2 with A >= 0: S. Boyd et al., Foundations and Trends in Machine Learning
    3(1), 2011, doi 10.1561/2200000016, section 5.2. Its two variables are stored as one, v = A + (the scaled dual): A
    is the positive part of v and the dual its negative part, so that A minus the dual is |v|, and a step is

        v <- (G / h + 1)^-1 ((E^T x + s) / h + |v|) + min(v, 0)

    image (n, b, y, x) is clipped at 0; endmembers (b, p); start (n, p, y, x) is non-negative; inverse is from
    `held_inverse(endmembers, hold)` with the same hold.
    """
    weight = (SUM_TO_ONE * endmembers.mean()) ** 2 * len(endmembers)
    held = hold * ((endmembers**2).sum(0) + weight).mean()
    seen = (endmembers.T / held).contiguous()
    for pixels, abundances in zip(image.flatten(2), start.flatten(2), strict=True):
        chunks = max(1, pixels.shape[1] // (CHUNK_PIXELS if image.device.type == "cpu" else GPU_CHUNK_PIXELS))
        for x, a in zip(pixels.tensor_split(chunks, 1), abundances.tensor_split(chunks, 1), strict=True):
            target, known, signed = (torch.empty_like(a, memory_format=torch.contiguous_format) for _ in range(3))
            map_into(target, seen, x.clamp(min=0.0))
            target += weight / held
            map_into(signed, inverse, torch.add(target, a, out=known))  # first step: nothing is negative yet
            for _ in range(steps - 1):
                torch.abs(signed, out=known)
                known += target
                add_mapped(signed.clamp_(max=0.0), inverse, known)
            torch.clamp(signed, min=0.0, out=a)
    return start


def pure_pixels(pixels: Array, count: int) -> Array:
    """Spectra (band, count) of the purest pixels: the brightest, then always the farthest from the others' span.

    pixels: (band, pixel). Returns fewer if all pixels lie in the span of fewer. H. Ren, C.-I Chang, IEEE TAES 39(4),
    2003, doi 10.1109/TAES.2003.1261124. Vertex component analysis uses random directions in a basis whose signs are
    arbitrary and depend on the linear algebra library: on Berlin, one processor reached 5 dB more than another.
    """
    left = pixels.astype(np.float64)
    chosen: list[int] = []
    brightest = 0.0
    while len(chosen) < count:
        energy = (left**2).sum(axis=0)
        farthest = int(np.argmax(energy))
        brightest = max(brightest, float(energy[farthest]))
        if chosen and energy[farthest] <= LEAST_DISTANCE**2 * brightest:
            break
        chosen.append(farthest)
        direction = left[:, farthest] / max(float(np.sqrt(energy[farthest])), np.finfo(np.float64).tiny)
        left -= np.outer(direction, direction @ left)
    return pixels[:, chosen]


def factorise(pixels: Array, endmembers: Array) -> tuple[Array, Array]:
    """Endmembers (band, p) and abundances (p, pixel) after SAMPLE_UPDATES multiplicative updates of both."""
    count = endmembers.shape[1]
    endmembers = np.maximum(endmembers, LEAST)
    weight = _sum_weight(endmembers)
    abundances = np.full((count, pixels.shape[1]), 1.0 / count)
    for _ in range(SAMPLE_UPDATES):
        gram = endmembers.T @ endmembers + weight
        abundances *= (endmembers.T @ pixels + weight) / np.maximum(gram @ abundances, LEAST**2)
        endmembers *= (pixels @ abundances.T) / np.maximum(endmembers @ (abundances @ abundances.T), LEAST**2)
    return endmembers, abundances
