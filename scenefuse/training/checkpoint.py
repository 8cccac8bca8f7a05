"""Checkpoint: everything needed to resume a training as if it had never stopped, in one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scenefuse.errors import UsageError
from scenefuse.models.weights import pack_tensors, put_weights, unique_tensors, unpack_tensors
from scenefuse.place.durable import write_durably


@dataclass(slots=True, kw_only=True)
class Progress:
    """Progress of a training. It needs no random state: each step seeds its own by the seed and its number."""

    step: int = 0
    """Steps done."""
    best: dict[str, float] = field(default_factory=dict)
    """The best scores so far; empty before the first scoring."""
    best_step: int = 0
    """Steps done when the best scores were reached."""
    worse: int = 0
    """Scorings since then without improvement."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sum of each loss term over the steps since the last scoring."""
    rows: list[dict[str, float]] = field(default_factory=list)
    """The learning curve so far, one row per scoring."""
    stopped: str = ""
    """Why training ended: `iterations` or `patience`; empty while it has not."""


def save_checkpoint(
    path: Path,
    parts: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    identity: Mapping[str, Any],
) -> None:
    """Write the file atomically: after a kill, or with a concurrent writer, it is either an old or a new one.

    parts: the network and its averages by name. identity: everything the numbers depend on, JSON values.
    """
    tensors: dict[str, Tensor] = {}
    for part, module in parts.items():
        tensors |= {f"{part}/{name}": tensor for name, tensor in unique_tensors(module).items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": value for name, value in state.items()}
    write_durably(path, pack_tensors(tensors, {"identity": dict(identity), "progress": asdict(progress)}))


def load_checkpoint(
    path: Path, parts: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, identity: Mapping[str, Any]
) -> Progress:
    """Load the file into parts and optimiser; returns its progress. Refuses a checkpoint of another training."""
    tensors, document = unpack_tensors(path)
    differing = sorted(
        key
        for key in identity.keys() | document["identity"].keys()
        if identity.get(key) != document["identity"].get(key)
    )
    if differing:
        raise UsageError(
            f"{path} belongs to a training with a different {', '.join(differing)}",
            "continuing from it would give weights that no call can reproduce",
            "Give the same scenes and options, or another --out",
        )
    for part, module in parts.items():
        put_weights(module, _under(f"{part}/", tensors), str(path))
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in _under("optimiser/", tensors).items():
        index, _, name = key.partition("/")
        states.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": states})
    return Progress(**document["progress"])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with prefix, with it removed."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
