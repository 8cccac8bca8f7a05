"""Recipe: how a network is trained; RECIPES holds the papers' recipes, used by default."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, inf, pi
from typing import Literal

from scenefuse.errors import UsageError

Protocols = Literal["wald", "truth", "scene"]
"""How to learn from a pair; training.scenes defines each protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything the trained weights depend on besides network, scenes and seed."""

    iterations: int
    """Steps of the optimiser."""
    patch_px: int
    """Side of a window in fine pixels of the training resolution; rounded to the network's lattice."""
    batch: int
    """Windows per pass."""
    accumulate: int = 1
    """Passes whose gradients are averaged into one step."""
    optimiser: Literal["adam", "adamw"] = "adam"
    """Adam (Kingma & Ba 2015), or AdamW: decoupled weight decay of 0.01 (Loshchilov & Hutter 2019)."""
    lr: float
    """Initial learning rate."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Learning rate: constant; down to lr_end along half a cosine; a tenth after two thirds of the iterations."""
    lr_end: float = 0.0
    """Learning rate at the end of `cosine`."""
    warmup: int = 0
    """Steps over which the learning rate rises linearly to that of the schedule, starting at 1 / warmup of it."""
    clip_norm: float = 1.0
    """Maximum Euclidean norm to which a step's gradient is clipped; 0 for no limit. The papers state none, but one
    extreme window among thousands can end an otherwise sound training at 1e-3."""
    protocol: Protocols = "wald"
    """`wald`: the HSI is the truth at reduced resolution; `scene`: no truth. If a truth is given, `truth` applies."""
    turns: bool = True
    """Whether windows are rotated and mirrored (8 ways, equally likely)."""
    noise_probability: float = 0.0
    """Fraction of windows with noise added to the HSI."""
    noise_snr_db: tuple[float, ...] = (25.0, 40.0)
    """Range of that noise's signal-to-noise ratio in dB, drawn uniformly."""
    ema_decay: float = 0.999
    """Decay of the running average of weights, which is scored and kept; 0 keeps the latest weights."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward pass; weights, losses and steps are float32."""
    score_every: int = 200
    """Steps between evaluations on the held-out blocks."""
    patience: int = 20
    """Evaluations without improvement after which training stops; 0 never stops early."""
    degradation_steps: int = 2000
    """Steps that fit only PSF and response before the first iteration, for a network that learns them (MossFuse); 0
    leaves both to the iterations, as in the paper."""
    block_px: int | None = None
    """Side of held-out blocks in fine pixels of the training resolution; None: a window plus its guard."""

    def __post_init__(self) -> None:
        for name in ("iterations", "patch_px", "batch", "accumulate", "score_every", "block_px"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", "nothing would be learnt", "Give 1 or more")
        if not 0 <= self.ema_decay < 1 or not 0 <= self.noise_probability <= 1 or self.patience < 0:
            raise UsageError(
                f"ema_decay {self.ema_decay}, noise_probability {self.noise_probability}, patience {self.patience}",
                "a share lies between 0 and 1, a decay below 1, and patience is not negative",
                "Correct the value",
            )
        if min(self.warmup, self.degradation_steps) < 0 or not 0 <= self.clip_norm < inf:
            raise UsageError(
                f"warmup {self.warmup}, degradation_steps {self.degradation_steps} and clip_norm {self.clip_norm}",
                "none can be negative",
                "Correct them",
            )
        if not self.lr > self.lr_end >= 0:
            raise UsageError(
                f"lr {self.lr:g} and lr_end {self.lr_end:g}",
                "a learning rate must fall and stay positive",
                "Correct them",
            )
        if len(self.noise_snr_db) != 2 or not -inf < self.noise_snr_db[0] <= self.noise_snr_db[1] < inf:
            raise UsageError(
                f"noise_snr_db is {self.noise_snr_db}",
                "a range has a minimum and a maximum",
                "Write it like [25.0, 40.0]",
            )

    def lr_at(self, step: int) -> float:
        """Learning rate at a step from 0 to iterations - 1: the schedule's times min(1, (step + 1) / warmup).

        cosine: lr_end + (lr - lr_end) (1 + cos(pi step / iterations)) / 2 (Loshchilov & Hutter 2017, eq. 5).
        """
        return self._scheduled(step) * min(1.0, (step + 1) / max(1, self.warmup))

    def _scheduled(self, step: int) -> float:
        """The learning rate without warm-up."""
        if self.schedule == "cosine":
            return self.lr_end + (self.lr - self.lr_end) * (1 + cos(pi * step / self.iterations)) / 2
        if self.schedule == "step" and 3 * step >= 2 * self.iterations:
            return self.lr / 10
        return self.lr

    def decay_at(self, step: int) -> float:
        """Decay of the average at a step: min(ema_decay, (1 + step) / (10 + step)), so that it forgets the start."""
        return min(self.ema_decay, (1 + step) / (10 + step))


_AELF = Recipe(iterations=10_000, patch_px=128, batch=1, lr=1e-4, turns=False)

RECIPES: dict[str, Recipe] = {
    # He et al. 2025: Adam, 1e-4, 10 000 iterations of one patch of 128, no augmentation
    "aelf": _AELF,
    "aelf-t": _AELF,
    # Li 2026: AdamW; the rest as in PIF-Net of the same group, epochs counted on a scene like Chikusei
    "cofusion": Recipe(iterations=50_000, patch_px=128, batch=8, optimiser="adamw", lr=4e-4, schedule="step"),
    # Du et al. 2025: Adam, 1e-3 to 1e-6 along a cosine, 300 epochs of CAVE's 20 * 49 patches, here in batches of 4
    "mossfuse": Recipe(
        iterations=73_500, patch_px=128, batch=4, lr=1e-3, schedule="cosine", lr_end=1e-6, protocol="scene"
    ),
    # Xu et al.: Adam, 4e-4, batches of 64, 2000 epochs of CAVE's 1782 patches
    "smifnet": Recipe(iterations=56_000, patch_px=128, batch=64, lr=4e-4),
    # Lee et al. 2025: Adam, 1e-4 along a cosine, batches of 4, 600 epochs of 1678 crops; noise as augmentation only
    "s3rnet": Recipe(
        iterations=251_700, patch_px=128, batch=4, lr=1e-4, schedule="cosine", lr_end=1e-10, noise_probability=0.5
    ),
}
"""Recipe of each network: its paper's, plus a running average of weights and early stopping, which the papers lack."""

_CPU = Recipe(iterations=3_000, patch_px=24, batch=1, lr=1e-3, schedule="cosine", lr_end=1e-6, score_every=100)

CPU_RECIPES: dict[str, Recipe] = {
    # At 1e-3 AELF stays at the interpolated HSI; at 3e-4 it departs from it after 60 steps
    "aelf": replace(_CPU, lr=3e-4),
    "aelf-t": _CPU,
    # 4e-4 with 16 px windows learns nothing in 200 steps; 2e-4 with 24 px is 1 dB above the interpolated HSI after 230
    "cofusion": replace(_CPU, optimiser="adamw", lr=2e-4),
    "mossfuse": replace(_CPU, protocol="scene"),
    # 1e-3 diverges
    "smifnet": replace(_CPU, patch_px=16, lr=4e-4),
    "s3rnet": replace(_CPU, patch_px=16, lr=4e-4),
}
"""Recipe of each network for a CPU and one scene: small windows, for many steps in minutes, and a falling rate.

The papers' windows of 128 px make a step cost 30 to 60 times as much and are not needed to beat the interpolated HSI.
Rates were found on Jasper Ridge (AVIRIS, 100 x 100 px, ratio 4).
"""

TABLES = {"paper": RECIPES, "cpu": CPU_RECIPES}
"""The two tables of recipes, by command-line name."""
