"""Running statistics: two ranks that share a step's batches have what one has that saw them all."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scenefuse.training.batch_norms import RunningStatistics
from scenefuse.training.ranks import Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadRanks(Ranks):
    """Two ranks that are two threads of this process."""

    meeting: ClassVar[threading.Barrier] = threading.Barrier(2)
    given: ClassVar[dict[int, list[Tensor]]] = {}

    def add(self, tensors: Iterable[Tensor]) -> None:
        own = list(tensors)
        self.given[self.rank] = [tensor.clone() for tensor in own]
        self.meeting.wait()
        for tensor, mine, theirs in zip(own, self.given[0], self.given[1], strict=True):
            tensor.copy_(mine + theirs)
        self.meeting.wait()


def test_two_ranks_have_the_running_statistics_of_one() -> None:
    torch.manual_seed(0)
    first = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3, momentum=0.3)).train()
    first(torch.randn(2, 3, 8, 8))
    batches = [torch.randn(2, 3, 8, 8) * scale + scale for scale in (1.0, 2.0, 0.5, 3.0)]
    alone = deepcopy(first)
    for batch in batches:
        alone(batch)
    networks = [deepcopy(first), deepcopy(first)]

    def work(rank: int) -> None:
        before = RunningStatistics.of(networks[rank])
        for batch in batches[2 * rank : 2 * rank + 2]:
            networks[rank](batch)
        before.share(networks[rank], ThreadRanks(rank=rank, size=2))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for network in networks:
        for (name, own), (_, expected) in zip(network.named_buffers(), alone.named_buffers(), strict=True):
            torch.testing.assert_close(own, expected, rtol=1e-6, atol=1e-6, msg=name)
