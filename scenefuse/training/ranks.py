"""Ranks: the processes, one per device, that share the passes of each step of one training."""

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
"""Longest that the others wait while the first process scores; one that dies ends all at once, by torchrun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """All processes of a training as one of them sees them; alone, every method leaves things as they are."""

    rank: int = 0
    """Number of this process, from 0; 0 scores, decides and writes."""
    size: int = 1
    """Processes in all."""

    @property
    def first(self) -> bool:
        """Whether this is the one that scores, decides and writes."""
        return self.rank == 0

    def share(self, passes: int) -> range:
        """Numbers of the passes of a step that are this process's.

        UsageError where some would have fewer than others: what is learnt must not depend on who computes.
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
        """Replace each tensor by its sum over all processes, which all pass tensors of the same shapes."""
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
        """Replace each tensor by the first process's, of the same shape."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)

    def add_numbers(self, numbers: dict[str, float], device: torch.device) -> dict[str, float]:
        """The sums of numbers by name over all processes, which all pass the same names."""
        if self.size == 1 or not numbers:
            return numbers
        total = torch.tensor(list(numbers.values()), dtype=torch.float64, device=device)
        torch.distributed.all_reduce(total)
        return dict(zip(numbers, total.tolist(), strict=True))

    def told(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all of them."""
        if self.size == 1:
            return make()
        box = [make() if self.first else None]
        torch.distributed.broadcast_object_list(box, src=0)
        return cast("T", box[0])

    @classmethod
    def of_environment(cls) -> Ranks:
        """Who this process is by what torchrun says: RANK and WORLD_SIZE; alone without them."""
        return cls(rank=int(os.environ.get("RANK", "0")), size=int(os.environ.get("WORLD_SIZE", "1")))


@contextmanager
def open_ranks(device: Literal["cpu", "cuda"]) -> Iterator[Ranks]:
    """The ranks that torchrun started, able to talk; on GPUs each takes the device of its local rank."""
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
        # NCCL's group ends for all ranks together: one that failed would wait here for others that wait for its part,
        # and its error would never be told. Its death ends them, by torchrun (pytorch/torchtitan#1342).
        if not failed or device == "cpu":
            torch.distributed.destroy_process_group()
