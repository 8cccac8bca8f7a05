"""SpatialStatistics: the one object through which a network reduces over space.

A mean, a maximum, a Gram matrix or an energy over all pixels makes every pixel of a tile depend on the tile's extent.
Each such operation in a network is a `Reduction`, and all reductions of a network share one `SpatialStatistics` with
three modes:

- `local`: reduces each item of the batch over its own pixels (training, and the papers' whole-image test).
- `record`: as `local`, and sums every item's sufficient statistics in float64.
- `frozen`: returns constants derived from recorded sums. The network is then a plain convolution of finite support, and
  whatever fed only a reduction is not computed at all.

Sufficient statistics are additive, so sums over patches, tiles and ranks are exact in any merge order (to rounding in
float64). A maximum is not additive, but the sum of the patches' maxima and the number of patches are: the frozen value
is the mean of the patches' maxima, never the maximum of the scene.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from scenefuse.errors import ModelError
from scenefuse.models.full_precision import without_autocast

Sums = dict[str, Tensor]
"""Sufficient statistics by name, each (n, ...): one entry per batch item."""

NORM_FLOOR = 1e-12
"""Least Euclidean norm by which a cosine divides."""


class SpatialStatistics:
    """What a network knows about pixels beyond its receptive field.

    training_only: names of the network's parts used only in training; they are never frozen.
    """

    def __init__(self, network: nn.Module, training_only: tuple[str, ...] = ()) -> None:
        self.mode: Literal["local", "record", "frozen"] = "local"
        """Whether reductions use the window, use and record it, or return constants."""
        parts = {name: part for name, part in network.named_modules() if isinstance(part, Reduction)}
        self.reductions = {name: part for name, part in parts.items() if name.split(".")[0] not in training_only}
        """Every reduction that leads to the fused image, by its dotted name."""
        self._recorded: dict[str, Tensor] = {}
        self._frozen: dict[str, Tensor] = {}
        for name, reduction in parts.items():
            reduction.key, reduction.statistics = name, self

    @contextmanager
    def recording(self) -> Iterator[dict[str, Tensor]]:
        """Sums of what the network sees inside the context: float64 on the CPU, named `<reduction>/<statistic>`."""
        before = self.mode
        self.mode, self._recorded = "record", {}
        try:
            yield self._recorded
        finally:
            self.mode = before

    def freeze(self, sums: Mapping[str, NDArray[Any] | Tensor], like: Tensor) -> None:
        """Make reductions return the constants derived from sums over patches, with the device and dtype of `like`."""
        missing = [key for key in self._keys() if key not in sums]
        if missing:
            raise ModelError(
                f"{len(missing)} of {len(self._keys())} spatial statistics are missing, the first is {missing[0]}",
                "without them a tile would depend on its own extent",
                "run the model's stages on the scene and pass the state that they leave",
            )
        frozen = {}
        for name, reduction in self.reductions.items():
            own = {key: torch.as_tensor(sums[f"{name}/{key}"], dtype=torch.float64)[None] for key in reduction.names}
            frozen[name] = reduction.conclude(own).to(like)
        self.mode, self._frozen = "frozen", frozen

    @contextmanager
    def thawed(self) -> Iterator[None]:
        """Make reductions use the window inside the context; restore their mode afterwards."""
        before = self.mode
        self.mode = "local"
        try:
            yield
        finally:
            self.mode = before

    def add(self, key: str, sums: Sums) -> None:
        """Add a batch's items to the recorded sums of a reduction."""
        for name, values in sums.items():
            total = values.sum(0).cpu()
            path = f"{key}/{name}"
            self._recorded[path] = self._recorded[path] + total if path in self._recorded else total

    def frozen(self, key: str) -> Tensor:
        """The constant of a reduction, (1, ...)."""
        return self._frozen[key]

    def _keys(self) -> list[str]:
        return [f"{name}/{key}" for name, reduction in self.reductions.items() for key in reduction.names]


class Reduction(nn.Module, ABC):
    """An operation that reduces over space. It takes a function, which frozen networks never call."""

    names: tuple[str, ...]
    """Names of its sufficient statistics."""
    key: str
    """Dotted name in the network; set by SpatialStatistics."""
    statistics: SpatialStatistics
    """The network's statistics; set by SpatialStatistics."""

    def forward(self, features: Callable[[], tuple[Tensor, ...]]) -> Tensor:
        """The reduced quantity in float32: (n, ...) over each item's own pixels, or (1, ...) when frozen."""
        mode = self.statistics.mode
        if mode == "frozen":
            return self.statistics.frozen(self.key)
        inputs = features()
        result = torch.promote_types(inputs[0].dtype, torch.float32)
        with without_autocast(inputs[0]):
            sums = self.sums(*(x.to(torch.float64 if mode == "record" else result) for x in inputs))
            if mode == "record":
                self.statistics.add(self.key, sums)
            return self.conclude(sums).to(result)

    @abstractmethod
    def sums(self, *features: Tensor) -> Sums:
        """Sufficient statistics of each batch item."""

    @abstractmethod
    def conclude(self, sums: Sums) -> Tensor:
        """The reduced quantity from (sums of) sufficient statistics."""


def _ones(x: Tensor, value: float = 1.0) -> Tensor:
    return x.new_full((x.shape[0],), value)


class Mean(Reduction):
    """Mean of each channel over space, (n, c, 1, 1)."""

    names = ("sum", "pixels")

    def sums(self, *features: Tensor) -> Sums:
        """Sum over pixels (n, c), number of pixels (n)."""
        (x,) = features
        return {"sum": x.sum((-2, -1)), "pixels": _ones(x, x.shape[-2] * x.shape[-1])}

    def conclude(self, sums: Sums) -> Tensor:
        """Quotients sum / pixels."""
        return (sums["sum"] / sums["pixels"][:, None])[..., None, None]


class Maximum(Reduction):
    """Maximum of each channel over space, (n, c, 1, 1); frozen, the mean of the patches' maxima."""

    names = ("maximum", "patches")

    def sums(self, *features: Tensor) -> Sums:
        """Maximum over pixels (n, c), one patch (n)."""
        (x,) = features
        return {"maximum": x.amax((-2, -1)), "patches": _ones(x)}

    def conclude(self, sums: Sums) -> Tensor:
        """Sum of maxima / patches."""
        return (sums["maximum"] / sums["patches"][:, None])[..., None, None]


class MeanPlusMaximum(Reduction):
    """Mean plus maximum of each channel over space, (n, c, 1, 1)."""

    names = ("sum", "pixels", "maximum", "patches")

    def sums(self, *features: Tensor) -> Sums:
        """Sum and maximum over pixels (n, c), number of pixels (n), one patch (n)."""
        (x,) = features
        pixels = x.shape[-2] * x.shape[-1]
        return {"sum": x.sum((-2, -1)), "pixels": _ones(x, pixels), "maximum": x.amax((-2, -1)), "patches": _ones(x)}

    def conclude(self, sums: Sums) -> Tensor:
        """Sum / pixels + sum of maxima / patches."""
        mean, maximum = sums["sum"] / sums["pixels"][:, None], sums["maximum"] / sums["patches"][:, None]
        return (mean + maximum)[..., None, None]


class Energy(Reduction):
    """Euclidean norm of each channel over a patch, (n, c, 1, 1); frozen, the root of the mean patch energy (GRN)."""

    names = ("squares", "patches")

    def sums(self, *features: Tensor) -> Sums:
        """Sum of squares over pixels (n, c), one patch (n)."""
        (x,) = features
        return {"squares": x.square().sum((-2, -1)), "patches": _ones(x)}

    def conclude(self, sums: Sums) -> Tensor:
        """sqrt(sum of squares / patches)."""
        return (sums["squares"] / sums["patches"][:, None]).sqrt()[..., None, None]


class Cosines(Reduction):
    """Cosine of every channel of q with every channel of k over space, per head: (n, heads, d, d) in [-1, 1]."""

    names = ("gram", "q_squares", "k_squares")

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def sums(self, *features: Tensor) -> Sums:
        """Products q k^T over pixels (n, heads, d, d); squared norms of q and k (n, heads, d)."""
        q, k = (_split(x, self.heads) for x in features)  # (n, heads, d, y*x)
        return {"gram": q @ k.mT, "q_squares": q.square().sum(-1), "k_squares": k.square().sum(-1)}

    def conclude(self, sums: Sums) -> Tensor:
        """Quotients q k^T / (|q| |k|)."""
        q, k = (sums[name].sqrt().clamp_min(NORM_FLOOR) for name in ("q_squares", "k_squares"))
        return sums["gram"] / (q[..., :, None] * k[..., None, :])


class MeanProduct(Reduction):
    """Mean over pixels of the product of every channel of q with every channel of k, per head: (n, heads, d, d)."""

    names = ("gram", "pixels")

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def sums(self, *features: Tensor) -> Sums:
        """Products q k^T over pixels (n, heads, d, d), number of pixels (n)."""
        q, k = (_split(x, self.heads) for x in features)  # (n, heads, d, y*x)
        return {"gram": q @ k.mT, "pixels": _ones(q, q.shape[-1])}

    def conclude(self, sums: Sums) -> Tensor:
        """Quotients q k^T / pixels."""
        return sums["gram"] / sums["pixels"][:, None, None, None]


def _split(x: Tensor, heads: int) -> Tensor:
    """(n, c, y, x) as (n, heads, c / heads, y*x)."""
    n, c, height, width = x.shape
    return x.reshape(n, heads, c // heads, height * width)


def apply_maps(maps: Tensor, values: Tensor) -> Tensor:
    """Apply channel attention: maps (n or 1, heads, d, d) times values (n, heads*d, y, x), shaped as values.

    One map for all items becomes a grouped 1 x 1 convolution, which gives a pixel the same bits in every window.
    """
    heads, d = maps.shape[1:3]
    if maps.shape[0] == 1:
        return functional.conv2d(values, maps.reshape(heads * d, d, 1, 1).to(values.dtype), groups=heads)
    return (maps.to(values.dtype) @ _split(values, heads)).reshape(values.shape)
