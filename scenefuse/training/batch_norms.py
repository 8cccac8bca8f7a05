"""Running statistics of batch norms, shared between the ranks of a step like its gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scenefuse.training.ranks import Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningStatistics:
    """Means, variances and counts of a network's batch norms before a step."""

    means: tuple[Tensor, ...]
    """Per norm, (channel,)."""
    variances: tuple[Tensor, ...]
    """Per norm, (channel,)."""
    counts: tuple[int, ...]
    """Number of batches each norm has seen."""

    @classmethod
    def of(cls, network: nn.Module) -> RunningStatistics:
        """Copy the network's current statistics."""
        norms = running_norms(network)
        return cls(
            means=tuple(_of(norm.running_mean).clone() for norm in norms),
            variances=tuple(_of(norm.running_var).clone() for norm in norms),
            counts=tuple(int(_of(norm.num_batches_tracked)) for norm in norms),
        )

    @torch.no_grad()
    def share(self, network: nn.Module, ranks: Ranks) -> None:
        """Give the network the statistics that one process would have after all ranks' passes in order, up to rounding.

        A batch s moves a statistic r to (1 - m) r + m s, m the norm's momentum. A rank's own batches therefore
        contribute its r less (1 - m)^own times the previous r; each batch of the later ranks scales that by another 1 -
        m.
        """
        norms = running_norms(network)
        kept = []
        for norm, mean, variance, count in zip(norms, self.means, self.variances, self.counts, strict=True):
            own = int(_of(norm.num_batches_tracked)) - count
            keep = 1 - (norm.momentum or 0.0)
            later = keep ** (own * (ranks.size - 1 - ranks.rank))
            for now, then in ((_of(norm.running_mean), mean), (_of(norm.running_var), variance)):
                now.sub_(then, alpha=keep**own).mul_(later)
            kept.append(keep ** (own * ranks.size))
            _of(norm.num_batches_tracked).fill_(count + own * ranks.size)
        ranks.add([tensor for norm in norms for tensor in (_of(norm.running_mean), _of(norm.running_var))])
        for norm, mean, variance, share in zip(norms, self.means, self.variances, kept, strict=True):
            _of(norm.running_mean).add_(mean, alpha=share)
            _of(norm.running_var).add_(variance, alpha=share)


def running_norms(network: nn.Module) -> list[_BatchNorm]:
    """The network's norms that keep running statistics, in module order."""
    return [part for part in network.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]


def _of(tensor: Tensor | None) -> Tensor:
    """The tensor; TypeError if it is None."""
    if tensor is None:
        raise TypeError("a batch norm without running statistics")
    return tensor
