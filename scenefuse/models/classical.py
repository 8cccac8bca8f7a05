"""Shared parts of the classical methods: cards, options, and scene arrays on the device."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scenefuse.errors import DataError, UsageError
from scenefuse.grid.resample import degrade_reach_px, degrade_taps, upsample_taps
from scenefuse.models.base import ModelCard
from scenefuse.models.coarse_pixels import psf_sigma_limits_px
from scenefuse.models.ref import ModelRef
from scenefuse.models.resample import GPU_GROUP_BANDS
from scenefuse.models.state import SceneState

UPSAMPLE_MACS = 5.0
"""Multiply-adds of cubic convolution per pixel and axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Distance a method reads around a pixel, in fine pixels on each side."""

    support_px: int
    """Everything that can influence a pixel."""
    halo_px: int
    """Needed around a core whose origin is on a coarse pixel's edge."""
    effective_px: int
    """Holds 99.9 % of the gradient's mass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of fuse per fine pixel."""

    multiply_adds: float
    """Multiply-adds."""
    values: float
    """Peak number of float32 values held, inputs and result included."""


def reach_of_upsampling(ratio: int) -> Reach:
    """Reach of upsampling alone: two coarse pixels beyond the pixel's own, all within the margin fuse receives."""
    response = np.abs(upsample_taps(ratio).astype(np.float64)).repeat(ratio, axis=1)  # (phase, 5 * ratio)
    return Reach(support_px=3 * ratio - 1, halo_px=0, effective_px=_effective_px(response, 2 * ratio))


def reach_of_degrading(ratio: int, coarse_taps: NDArray[np.float64] | None = None) -> Reach:
    """Reach of degrading by the widest plausible PSF, filtering by coarse_taps if given, and upsampling again.

    Cores start on a coarse pixel's edge, so the halo is the support less ratio - 1, the rest of the pixel's coarse
    pixel.
    """
    sigma_px = psf_sigma_limits_px(ratio)[1]
    psf, psf_px = degrade_taps(ratio, sigma_px).astype(np.float64), degrade_reach_px(ratio, sigma_px)
    between = np.ones(1) if coarse_taps is None else coarse_taps
    weights = np.array([np.convolve(row, between) for row in upsample_taps(ratio)])  # (phase, coarse)
    coarse_reach = weights.shape[1] // 2
    spread = np.zeros((ratio, (weights.shape[1] - 1) * ratio + len(psf)))
    for index in range(weights.shape[1]):
        spread[:, index * ratio : index * ratio + len(psf)] += weights[:, index, np.newaxis] * psf
    halo_px = coarse_reach * ratio + psf_px
    return Reach(support_px=halo_px + ratio - 1, halo_px=halo_px, effective_px=_effective_px(np.abs(spread), halo_px))


def _effective_px(response: NDArray[np.float64], origin_px: int) -> int:
    """Half side of the square that holds 99.9 % of the mass of response (phase, fine px) along both axes.

    response[phase, origin_px + phase] is the pixel itself. The largest value over all phases is returned.
    """
    widest = 0
    for phase, row in enumerate(response):
        distance = np.abs(np.arange(len(row)) - origin_px - phase)
        order = np.argsort(distance, kind="stable")
        mass = np.cumsum(row[order]) / row.sum()
        widest = max(widest, int(distance[order][np.searchsorted(mass, np.sqrt(0.999))]))
    return widest


def card_of(
    ref: ModelRef, *, title: str, source: str, reach: Reach, cost: Cost, options: Mapping[str, Any]
) -> ModelCard:
    """The card of a classical method, which has no weights and learns only from sums over the scene."""
    return ModelCard(
        name=ref.name,
        title=title,
        source=source,
        ratio=ref.ratio,
        hs_bands=ref.hs_bands,
        ms_bands=ref.ms_bands,
        support_px=reach.support_px,
        halo_px=reach.halo_px,
        effective_px=reach.effective_px,
        takes_phase=True,
        statistics="none" if ref.name == "bicubic" else "scene",
        multiply_adds_per_pixel=cost.multiply_adds,
        activation_bytes_per_pixel=4.0 * cost.values,
        options=options,
    )


def injection_cost(ref: ModelRef, sources: int) -> Cost:
    """Cost of degrading the MSI and injecting `sources` images into every HSI band.

    Held in memory: the result, both inputs, the degraded MSI, what is kept of the HSI twice on the coarse grid, and the
    group of bands being processed.
    """
    bands, ms_bands, ratio = len(ref.hs_bands), len(ref.ms_bands), ref.ratio
    upsampling = UPSAMPLE_MACS * (1 + 1 / ratio)
    degrading = 8.0 * ms_bands  # a kernel of up to 8 sigma, applied to 1 / ratio of the pixels, then to 1 / ratio^2
    coarse = bands * (2 * ms_bands + 1) / ratio**2
    return Cost(
        multiply_adds=bands * (upsampling + sources) + degrading + coarse,
        values=bands * (1 + 3 / ratio**2) + 2.5 * ms_bands + GPU_GROUP_BANDS * 2 / ratio,
    )


def given_options(ref: ModelRef, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The method's default options overridden by the reference's; refuses unknown names and wrong types."""
    for name, value in ref.options.items():
        if name not in defaults:
            known = ", ".join(sorted(defaults)) or "none"
            raise UsageError(f"{ref.name} has no option {name!r}", "it would have no effect", f"Known: {known}")
        if not isinstance(value, type(defaults[name])):
            kind = type(defaults[name]).__name__
            raise UsageError(f"{ref.name} option {name} = {value!r}", f"it must be {kind}", f"Give a {kind}")
    return {**defaults, **ref.options}


def frozen(state: SceneState, name: str, like: Tensor) -> Tensor:
    """An array of the scene's state as a tensor of like's dtype on its device; not to be written to.

    On a GPU it is copied once and kept for as long as the array lives: copying it for each window would wait for all
    work queued on the device.
    """
    array = state.arrays.get(name)
    if array is None:
        raise DataError(f"The scene's state has no {name}", "the method cannot fuse", "Run its stages first")
    if like.device.type == "cpu":
        return _tensor(array, like)
    key = id(array), like.device, like.dtype
    if key not in _copies:
        _copies[key] = _tensor(array, like)
        weakref.finalize(array, _copies.pop, key, None).atexit = False
    return _copies[key]


_copies: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}
"""Device copies of scene-state arrays, keyed by the array's id and kept while the array lives."""


def _tensor(array: NDArray[Any], like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device=like.device, dtype=like.dtype)
