"""Learning from a pair without truth: the network's result, seen by both instruments, must match the pair.

The loss is that of zero-shot fusion, |D Y^ - X| + |R Y^ - M| (Du et al. 2025, L_MA, with known PSF and response): X the
HSI, M the MSI, Y^ the result, D the HSI's blur and sampling, R the MSI's response. A network trained elsewhere keeps
what it knows about everything that neither input shows, so a few steps at a low rate are enough.
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
"""Number of windows used for judging, the same ones every time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observation:
    """How the two instruments see the fine image, from the scene's state."""

    ratio: int
    """Coarse pixel size / fine pixel size."""
    psf_sigma_px: float
    """Blur of the HSI, fine pixels."""
    response: Tensor
    """(sharp ms band, hs band), gain included."""
    offset: Tensor
    """(sharp ms band,) reflectance by which the MSI is offset."""
    sharp: Tensor
    """(ms band,) bool: bands whose native pixels are the fine ones and which the HSI covers."""

    @classmethod
    def of(cls, state: SceneState, ms_bands: Sequence[Band], ratio: int) -> Observation:
        """From the state left by the observation stages."""
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
        """The loss terms: `hs` and `ms`, the mean absolute differences from the two inputs."""
        seen, there = self._coarse(output[0], network.central(batch.hs))
        return {"hs": absolute(seen, there), "ms": absolute(self._broad(output[0]), batch.ms[:, self.sharp])}

    def judge(self, network: FusionNetwork, grounds: tuple[Ground, ...]) -> Scores:
        """consistency_db: 10 log10(1 / m), m the mean of both inputs' mean squared differences over JUDGED windows."""
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
        """A copy on the device."""
        response, offset, sharp = (tensor.to(device) for tensor in (self.response, self.offset, self.sharp))
        return Observation(
            ratio=self.ratio, psf_sigma_px=self.psf_sigma_px, response=response, offset=offset, sharp=sharp
        )

    def inner_px(self, patch_px: int) -> int:
        """Coarse pixels per side of a window of patch_px whose PSF stays inside the window; below 1 there are none."""
        return patch_px // self.ratio - 2 * self._spare_px

    @property
    def _spare_px(self) -> int:
        """Coarse pixels at each edge of a window whose PSF reaches beyond it."""
        return -(-degrade_reach_px(self.ratio, self.psf_sigma_px) // self.ratio)

    def _coarse(self, fused: Tensor, hs: Tensor) -> tuple[Tensor, Tensor]:
        """What the HSI would show of the pixels whose kernel stays inside the window, and what it does show there."""
        cut = -degrade_reach_px(self.ratio, self.psf_sigma_px) % self.ratio
        spare = self._spare_px
        inner = fused[..., cut : fused.shape[-2] - cut, cut : fused.shape[-1] - cut]
        there = hs[..., spare : hs.shape[-2] - spare, spare : hs.shape[-1] - spare]
        return degrade(inner, self.ratio, self.psf_sigma_px), there

    def _broad(self, fused: Tensor) -> Tensor:
        """What the MSI's sharp bands would show."""
        return torch.einsum("mh,nhyx->nmyx", self.response, fused) + self.offset[:, None, None]
