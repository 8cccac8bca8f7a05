"""Large-kernel blocks, trained as parallel dilated convolutions that are merged into one for evaluation.

X. Ding et al.: "UniRepLKNet: A Universal Perception Large-Kernel ConvNet for Audio, Video, Point Cloud, Time-Series and
Image Recognition", CVPR 2024, arXiv:2311.15599. Written from the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scenefuse.models.full_precision import FullPrecision
from scenefuse.models.spatial_statistics import Energy, Mean

LAYER_SCALE = 1e-6
"""Initial weight of a large-kernel block's residual."""

DILATIONS = ((5, 1), (3, 2), (3, 3))
"""Kernel size and dilation of each branch beside the 7 x 7 convolution."""


def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """Size-preserving convolution without bias."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)


def depthwise(channels: int, kernel: int = 3, dilation: int = 1) -> nn.Conv2d:
    """Size-preserving depthwise convolution without bias."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(channels, channels, kernel, padding=padding, dilation=dilation, groups=channels, bias=False)


class DilatedBranch(nn.Module):
    """A depthwise convolution and its batch norm."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.filters, self.norm = depthwise(channels, kernel, dilation), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, y, x) to the same shape."""
        out: Tensor = self.norm(self.filters(x))
        return out

    def merged(self) -> tuple[Tensor, Tensor]:
        """Kernel (c, 1, 7, 7) and bias (c) of the 7 x 7 convolution equivalent to the branch in evaluation."""
        one = self.filters.weight.new_ones(1, 1, 1, 1)
        dilated = functional.conv_transpose2d(self.filters.weight, one, stride=self.dilation)
        scale, shift = _affine(self.norm)
        return functional.pad(dilated * scale[:, None, None, None], ((7 - dilated.shape[-1]) // 2,) * 4), shift


class DilatedConvolution(nn.Module):
    """A depthwise 7 x 7 convolution trained as four parallel branches, each with a batch norm (UniRepLKNet)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        shapes = ((7, 1), *DILATIONS)
        self.branches = nn.ModuleList(DilatedBranch(channels, kernel, dilation) for kernel, dilation in shapes)
        self.norm = nn.BatchNorm2d(channels)
        self.folded: nn.Conv2d | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, y, x) to the same shape."""
        if self.folded is not None:
            out: Tensor = self.folded(x)
            return out
        total: Tensor = sum(branch(x) for branch in self.branches)
        normed: Tensor = self.norm(total)
        return normed

    @torch.no_grad()
    def fold(self) -> None:
        """Replace the branches by the equivalent single 7 x 7 convolution, for evaluation."""
        kernels, shifts = zip(*(b.merged() for b in self.modules() if isinstance(b, DilatedBranch)), strict=True)
        kernel, bias = torch.stack(kernels).sum(0), torch.stack(shifts).sum(0)
        scale, shift = _affine(self.norm)
        channels = len(kernel)
        folded = nn.Conv2d(channels, channels, 7, padding=3, groups=channels).to(kernel)
        folded.weight.copy_(kernel * scale[:, None, None, None])
        folded.get_parameter("bias").copy_(bias * scale + shift)
        self.folded = folded


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch norm in evaluation."""
    scale = norm.weight / (norm.get_buffer("running_var") + norm.eps).sqrt()
    return scale, norm.bias - norm.get_buffer("running_mean") * scale


class LargeKernelBlock(nn.Module):
    """x + s * BN(C1(GRN(GELU(C1(SE(conv7(x))))))), s per channel; the convolution is optional."""

    def __init__(self, channels: int, *, spatial: bool) -> None:
        super().__init__()
        self.spatial = DilatedConvolution(channels) if spatial else None
        self.pool = Mean()
        self.excite = FullPrecision(
            nn.Conv2d(channels, channels // 4, 1), nn.ReLU(), nn.Conv2d(channels // 4, channels, 1), nn.Sigmoid()
        )
        self.expand = nn.Conv2d(channels, 4 * channels, 1)
        self.energy = Energy()
        self.response_weight = nn.Parameter(torch.zeros(4 * channels, 1, 1))
        self.response_bias = nn.Parameter(torch.zeros(4 * channels, 1, 1))
        self.reduce = nn.Sequential(conv(4 * channels, channels, 1), nn.BatchNorm2d(channels))
        self.scale = nn.Parameter(LAYER_SCALE * torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, y, x) to the same shape."""
        y = x if self.spatial is None else self.spatial(x)
        y = y * self.excite(self.pool(lambda: (y,)))
        y = functional.gelu(self.expand(y))  # (n, 4 c, y, x)
        norm = self.energy(lambda: (y,))  # (n or 1, 4 c, 1, 1)
        response = norm / (norm.mean(1, keepdim=True) + 1e-6)
        y = (self.response_weight * response + 1) * y + self.response_bias
        out: Tensor = x + self.scale * self.reduce(y)
        return out


def large_kernel_triple(channels: int) -> nn.Sequential:
    """One block with the spatial convolution, followed by two pointwise ones."""
    return nn.Sequential(*(LargeKernelBlock(channels, spatial=index == 0) for index in range(3)))


def fold_dilated(network: nn.Module) -> None:
    """Merge every dilated convolution of a network, for evaluation."""
    for part in network.modules():
        if isinstance(part, DilatedConvolution):
            part.fold()
