"""FusionNetwork, the base class of the networks; NetworkModel, a network with weights as a FusionModel."""

from __future__ import annotations

from math import lcm
from typing import Any, ClassVar, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scenefuse.errors import ModelError
from scenefuse.models.base import UPSAMPLE_MARGIN, ModelCard, SceneWindow, Stage
from scenefuse.models.multiply_adds import MultiplyAdds
from scenefuse.models.spatial_statistics import SpatialStatistics
from scenefuse.models.state import SceneState

NetworkPrecision = Literal["fp32", "bf16"]
"""Precisions a network may run in; fp16 is not one, because energies over a window exceed its range."""


class FusionNetwork(nn.Module):
    """A network that fuses windows on the two grids of a pair, and the facts of its geometry.

    forward(hs, ms) takes hs (n, hs band, y / ratio + 2 * UPSAMPLE_MARGIN, ...) and ms (n, ms band, y, x), where y and x
    are multiples of lcm(lattice_px, ratio), and returns (n, hs band, y, x) float32. Convolutions pad with zeros, which
    is wrong only within support_px of the window's edge.
    """

    lattice_px: int = 1
    """Window origins and sides must be multiples of this."""
    halo_px: ClassVar[int]
    """Fine pixels of context with which a frozen tile equals the whole to within 1e-6."""
    effective_px: ClassVar[int]
    """Fine pixels on each side that hold 99.9 % of the gradient's mass."""
    activation_images: ClassVar[int] = 4
    """Peak working memory that scales with the HSI's bands, in images of all bands (measured)."""
    activation_values_per_pixel: ClassVar[int]
    """Further float32 values per fine pixel at the peak (measured; what convolutions need varies by processor)."""
    precisions: ClassVar[tuple[NetworkPrecision, ...]] = ("fp32", "bf16")
    """Precisions in which the result stays within its error budget."""
    unused_parameters: tuple[str, ...] = ()
    """Name fragments of parameters that are counted but cannot influence the result."""
    freezable: bool = True
    """False for a variant whose reductions depend on where a pixel lies in its window: never used on tiles."""
    statistics: SpatialStatistics
    """All the network's reductions over space."""

    def __init__(self, hs_bands: int, ms_bands: int, ratio: int) -> None:
        super().__init__()
        self.hs_bands, self.ms_bands, self.ratio = hs_bands, ms_bands, ratio

    @property
    def support_px(self) -> int:
        """Fine pixels on each side that can influence a pixel at all, with frozen statistics."""
        raise NotImplementedError

    @property
    def least_supervised_px(self) -> int:
        """Smallest window side that `supervised` accepts, fine pixels."""
        return 1

    @property
    def activation_bytes_per_pixel(self) -> float:
        """Peak working memory in bytes per fine pixel, float32, inputs and result included."""
        return 4.0 * (self.activation_images * self.hs_bands + self.activation_values_per_pixel)

    def supervised(self, hs: Tensor, ms: Tensor) -> tuple[Any, ...]:
        """What the network's loss needs, the fused image first."""
        return (self(hs, ms),)

    def fold(self) -> None:
        """Merge layers that form one operation in evaluation; a network with nothing to merge stays as it is."""

    def central(self, hs: Tensor) -> Tensor:
        """The HSI without its margin, (n, hs band, y / ratio, x / ratio)."""
        m = UPSAMPLE_MARGIN
        return hs[..., m:-m, m:-m]


def parameter_count(network: nn.Module) -> int:
    """Number of trainable values; shared ones count once."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds_per_pixel(network: FusionNetwork, side_px: int = 0) -> float:
    """Multiply-adds per fine pixel in convolutions and matrix products, statistics included; measured on zeros."""
    side = side_px or 2 * lcm(8, network.lattice_px, network.ratio)
    coarse = side // network.ratio + 2 * UPSAMPLE_MARGIN
    like = next(network.parameters())
    hs, ms = like.new_zeros(1, network.hs_bands, coarse, coarse), like.new_zeros(1, network.ms_bands, side, side)
    training = {part: part.training for part in network.modules()}
    network.eval()
    try:
        with torch.no_grad(), network.statistics.thawed(), MultiplyAdds() as counted:
            network(hs, ms)
    finally:
        for part, was in training.items():
            part.training = was
    return float(counted.total) / side**2


class NetworkStatistics:
    """The stage that runs a network over the sample's patches and sums the statistics of its reductions."""

    def __init__(self, model: NetworkModel) -> None:
        self.model = model
        """The network with its weights."""
        self.name = f"{model.card.name}/statistics"
        """Name in logs and in the state's provenance."""
        self.where: Literal["blocks", "sample"] = "sample"
        """Patches of the size used in training."""
        self.reduce: Literal["sum", "concat"] = "sum"
        """Sufficient statistics are additive."""
        self.margin = UPSAMPLE_MARGIN
        """Coarse pixels of context that upsampling needs around a patch."""

    def measure(self, window: SceneWindow, state: SceneState) -> dict[str, NDArray[Any]]:  # noqa: ARG002  a Stage's signature
        """Sums of one patch: `<method>/<reduction>/<statistic>`, float64."""
        network, surplus = self.model.network, window.margin - UPSAMPLE_MARGIN
        fine_margin = window.margin * window.ratio
        hs, ms = torch.from_numpy(window.hs)[None], torch.from_numpy(window.ms)[None]
        if surplus:
            hs = hs[..., surplus:-surplus, surplus:-surplus]
        ms = ms[..., fine_margin:-fine_margin, fine_margin:-fine_margin]
        step = lcm(network.lattice_px, network.ratio)
        if ms.shape[-1] % step or ms.shape[-2] % step:
            raise ModelError(
                f"a patch of {ms.shape[-2]} x {ms.shape[-1]} fine pixels is not a multiple of {step}",
                f"{self.model.card.name} cannot be run on it",
                f"sample patches whose sides are multiples of {step}",
            )
        device = next(network.parameters()).device
        with torch.no_grad(), network.statistics.recording() as sums:
            network(hs.to(device), ms.to(device))
        return {f"{self.model.card.name}/{key}": total.numpy() for key, total in sums.items()}

    def conclude(self, total: dict[str, NDArray[Any]], state: SceneState) -> SceneState:
        """The state with the sums over all patches, from which `fuse` derives the constants."""
        return state.with_(arrays=total)


class NetworkModel:
    """A network with weights, as a FusionModel."""

    def __init__(self, network: FusionNetwork, card: ModelCard) -> None:
        if not network.freezable:
            raise ModelError(
                f"{card.name} with these options cuts every window into strips",
                "a pixel would depend on where the tile lies",
                "use weights trained with the default heads",
            )
        self.network, self.card = network.eval(), card
        self.network.fold()
        self._frozen_for: SceneState | None = None

    def stages(self) -> tuple[Stage, ...]:
        """One stage over the sample; none for a network without reductions over space."""
        return (NetworkStatistics(self),) if self.network.statistics.reductions else ()

    def to(self, device: str) -> NetworkModel:
        """The model with its tensors on the device."""
        self.network.to(device)
        self._frozen_for = None
        return self

    def fuse(self, hs: Tensor, ms: Tensor, state: SceneState) -> Tensor:
        """Fused windows (n, hs band, y, x) float32, with the state's statistics frozen into the network.

        Under the engine's autocast to bf16 only the inner convolutions run in it; norms, Gram matrices, softmax, pooled
        vectors, the last convolution and the sum with the upsampled HSI stay in float32, enforced by the layers
        themselves.
        """
        if state is not self._frozen_for:
            prefix = f"{self.card.name}/"
            own = {key.removeprefix(prefix): value for key, value in state.arrays.items() if key.startswith(prefix)}
            self.network.statistics.freeze(own, like=next(self.network.parameters()))
            self._frozen_for = state
        with torch.inference_mode():
            fused: Tensor = self.network(hs, ms)
            return fused.float()
