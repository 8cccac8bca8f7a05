"""What it costs to store a trained network as float16."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from math import isfinite

from scenefuse.models.network import FusionNetwork
from scenefuse.training.fit import Fitted
from scenefuse.training.score import Ground, Scores

FREE_DB = 0.01
"""Weights are stored as float16 if that costs less than this, in dB, where the network was scored."""


def float16_cost_db(
    fitted: Fitted,
    grounds: tuple[Ground, ...],
    judge: Callable[[FusionNetwork, tuple[Ground, ...]], Scores],
    device: str,
) -> float:
    """Loss in the deciding score when the weights are rounded to float16; NaN or infinite beyond its range.

    judge: what scored the network in training.
    """
    rounded = as_float16(fitted.network).to(device)
    name, exact = next(iter(fitted.scores.items()))
    return exact - judge(rounded, grounds)[name] if isfinite(exact) else 0.0


def as_float16(network: FusionNetwork) -> FusionNetwork:
    """A copy of the network with weights that float16 holds, float32."""
    rounded: FusionNetwork = deepcopy(network).half().float()
    return rounded
