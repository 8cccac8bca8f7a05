"""Learning from a pair without a truth: what the network makes of it, seen by both instruments, must be the pair.

The loss is that of zero-shot fusion, |D Y^ - X| + |R Y^ - M| (Du et al. 2025, L_MA, with a PSF and a response that are
known): X the HSI, M the MSI, Y^ the result, D the HSI's blur and sampling, R the MSI's response. A network trained
elsewhere keeps what it knows of everything that neither input shows, so few steps at a low rate are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log10
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scenefuse.grid.resample import degrade_reach_px
from scenefuse.models.network import FusionNetwork
from scenefuse.models.resample import degrade
from scenefuse.models.state import SceneState
from scenefuse.sensors.band import Band, sharp_bands
from scenefuse.training.batches import draw_step
from scenefuse.training.losses import Batch, Terms, absolute
from scenefuse.training.recipe import Recipe
from scenefuse.training.score import Ground, Scores

JUDGED = 16
"""Windows that judge, the same ones every time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observation:
    """How the two instruments see the fine image, as the scene's state has it."""

    ratio: int
    """Coarse pixel size / fine pixel size."""
    psf_sigma_px: float
    """Blur of the HSI, fine pixels."""
    response: Tensor
    """(sharp ms band, hs band), gain included."""
    offset: Tensor
    """(sharp ms band,) reflectance that the MSI shows besides."""
    sharp: Tensor
    """(ms band,) bool: bands whose own pixels are the fine ones, and that the HSI covers."""

    @classmethod
    def of(cls, state: SceneState, ms_bands: Sequence[Band], ratio: int) -> Observation:
        """From the state that the observation's stages left."""
        srf = np.asarray(state.arrays["srf"], np.float32)
        gain = np.asarray(state.arrays.get("observation/gain", np.ones(len(srf))), np.float32)
        offset = np.asarray(state.arrays.get("observation/offset", np.zeros(len(srf))), np.float32)
        sharp = (srf.sum(axis=1) > 0) & sharp_bands(ms_bands)
        return cls(
            ratio=ratio,
            psf_sigma_px=float(state.facts["psf_sigma_px"]),
            response=torch.from_numpy((srf * gain[:, np.newaxis])[sharp]),
            offset=torch.from_numpy(offset[sharp]),
            sharp=torch.from_numpy(sharp),
        )

    def terms(self, network: FusionNetwork, output: Any, batch: Batch) -> Terms:
        """The loss: `hs` and `ms`, mean absolute differences from the two inputs."""
        seen, there = self._coarse(output[0], network.central(batch.hs))
        return {"hs": absolute(seen, there), "ms": absolute(self._broad(output[0]), batch.ms[:, self.sharp])}

    def judge(self, network: FusionNetwork, grounds: tuple[Ground, ...]) -> Scores:
        """consistency_db: 10 log10(1 / m), m the mean of both inputs' mean squared differences on JUDGED windows."""
        network.eval()
        device = next(network.parameters()).device
        patch_px = grounds[0].hold_out.patch_px
        recipe = Recipe(iterations=1, patch_px=patch_px, batch=1, accumulate=JUDGED, lr=1.0, turns=False)
        errors = []
        for batch in draw_step(grounds, recipe, 0, 0):
            hs, ms = batch.hs.to(device), batch.ms.to(device)
            with torch.inference_mode():
                fused = network(hs, ms)
                seen, there = self._coarse(fused, network.central(hs))
                both = (seen - there).square().mean() + (self._broad(fused) - ms[:, self.sharp]).square().mean()
            errors.append(float(both) / 2)
        mean = sum(errors) / len(errors)
        return {"consistency_db": -10 * log10(mean) if mean else inf}

    def to(self, device: torch.device | str) -> Observation:
        """The same on a device."""
        response, offset, sharp = (tensor.to(device) for tensor in (self.response, self.offset, self.sharp))
        return Observation(
            ratio=self.ratio, psf_sigma_px=self.psf_sigma_px, response=response, offset=offset, sharp=sharp
        )

    def inner_px(self, patch_px: int) -> int:
        """Coarse pixels along the side of a window of so many fine pixels whose PSF stays inside; none below 1."""
        return patch_px // self.ratio - 2 * self._spare_px

    @property
    def _spare_px(self) -> int:
        """Coarse pixels at a window's edge whose PSF leaves it."""
        return -(-degrade_reach_px(self.ratio, self.psf_sigma_px) // self.ratio)

    def _coarse(self, fused: Tensor, hs: Tensor) -> tuple[Tensor, Tensor]:
        """What the HSI would show of the window's inner pixels, whose kernel stays inside, and what it shows there."""
        cut = -degrade_reach_px(self.ratio, self.psf_sigma_px) % self.ratio
        spare = self._spare_px
        inner = fused[..., cut : fused.shape[-2] - cut, cut : fused.shape[-1] - cut]
        there = hs[..., spare : hs.shape[-2] - spare, spare : hs.shape[-1] - spare]
        return degrade(inner, self.ratio, self.psf_sigma_px), there

    def _broad(self, fused: Tensor) -> Tensor:
        """What the sharp bands of the MSI would show."""
        return torch.einsum("mh,nhyx->nmyx", self.response, fused) + self.offset[:, None, None]
