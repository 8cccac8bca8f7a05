"""Checkpoint: all that a training needs to go on as if it had never stopped, in one safetensors file."""

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
    """How far a training is. Random numbers need no place here: each step has its own, by seed and number."""

    step: int = 0
    """Steps done."""
    best: dict[str, float] = field(default_factory=dict)
    """The best scores so far; empty before the first scoring."""
    best_step: int = 0
    """Steps done when they were reached."""
    worse: int = 0
    """Scorings since then."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sum of each term of the loss over the steps since the last scoring."""
    rows: list[dict[str, float]] = field(default_factory=list)
    """The learning curve so far, a row per scoring."""
    stopped: str = ""
    """Why training is over: `iterations` or `patience`; empty while it is not."""


def save_checkpoint(
    path: Path,
    parts: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    identity: Mapping[str, Any],
) -> None:
    """Write the file whole: after a kill, or beside another process that writes it too, it is an old one or a new one.

    parts: the network and its averages by name. identity: what the numbers depend on, JSON values.
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
    """Put what the file holds into parts and optimiser; its progress. Refused when it is of another training."""
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
    """The tensors whose name begins with prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
