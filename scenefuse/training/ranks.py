"""Ranks: the processes, one per device, that share the passes of each step of a training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar, cast

import torch
import torch.distributed
import torch.distributed.nn  # imported after the group began, its defaults would keep the group to the exit
from torch import Tensor

from scenefuse.errors import UsageError

T = TypeVar("T")

WAITING_LIMIT = timedelta(days=1)
"""How long the others wait while the first process scores; if one dies, torchrun ends them all at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """All processes of a training as seen by one of them; with one process, every method leaves things unchanged."""

    rank: int = 0
    """Index of this process, from 0; process 0 scores, decides and writes."""
    size: int = 1
    """Number of processes."""

    @property
    def first(self) -> bool:
        """Whether this process scores, decides and writes."""
        return self.rank == 0

    def share(self, passes: int) -> range:
        """Numbers of a step's passes that this process computes.

        UsageError if the passes cannot be shared equally: what is learnt must not depend on who computes.
        """
        if passes % self.size:
            raise UsageError(
                f"{passes} passes in a step for {self.size} processes",
                "some processes would wait for the others",
                f"Give --accumulate {self.size} or a multiple of it: the passes are the same, whoever computes them",
            )
        own = passes // self.size
        return range(self.rank * own, (self.rank + 1) * own)

    @torch.no_grad()
    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all processes; all must pass tensors of the same shapes."""
        if self.size == 1:
            return
        own = list(tensors)
        if not own:
            return
        flat = torch.cat([tensor.flatten() for tensor in own])
        torch.distributed.all_reduce(flat)
        for tensor, total in zip(own, torch.split(flat, [tensor.numel() for tensor in own]), strict=True):
            tensor.copy_(total.view_as(tensor))

    @torch.no_grad()
    def take(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by the first process's tensor of the same shape."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)

    def add_numbers(self, numbers: dict[str, float], device: torch.device) -> dict[str, float]:
        """Sums over all processes of numbers by name; all must pass the same names."""
        if self.size == 1 or not numbers:
            return numbers
        total = torch.tensor(list(numbers.values()), dtype=torch.float64, device=device)
        torch.distributed.all_reduce(total)
        return dict(zip(numbers, total.tolist(), strict=True))

    def told(self, make: Callable[[], T]) -> T:
        """Call `make` in the first process and return its result in all of them."""
        if self.size == 1:
            return make()
        box = [make() if self.first else None]
        torch.distributed.broadcast_object_list(box, src=0)
        return cast("T", box[0])

    @classmethod
    def of_environment(cls) -> Ranks:
        """The rank from the RANK and WORLD_SIZE that torchrun sets; a single process without them."""
        return cls(rank=int(os.environ.get("RANK", "0")), size=int(os.environ.get("WORLD_SIZE", "1")))


@contextmanager
def open_ranks(device: Literal["cpu", "cuda"]) -> Iterator[Ranks]:
    """Connect the ranks started by torchrun; on GPUs each takes the device of its local rank."""
    ranks = Ranks.of_environment()
    if ranks.size == 1:
        yield ranks
        return
    if device == "cuda":
        local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= there:
            raise UsageError(
                f"process {local + 1} on a machine of {there} CUDA devices",
                "two processes would share one",
                f"Start torchrun with --nproc-per-node {there} or fewer",
            )
        torch.cuda.set_device(local)
    torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=WAITING_LIMIT)
    failed = True
    try:
        yield ranks
        failed = False
    finally:
        # NCCL's group ends for all ranks together: a failed rank would wait here for others that wait for it, and its
        # error would never be reported. Instead it dies, and torchrun ends the others (pytorch/torchtitan#1342).
        if not failed or device == "cpu":
            torch.distributed.destroy_process_group()
