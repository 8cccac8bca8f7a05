"""What is tiled: networks of the benchmark, the product's own with random weights, methods without weights."""

from __future__ import annotations

import torch
from torch import Tensor

from scenefuse.engine.resident import ModelHandle
from scenefuse.models.architectures import ARCHITECTURES, build_model, describe_network
from scenefuse.models.base import FusionModel, ModelCard
from scenefuse.models.network import FusionNetwork, NetworkModel, multiply_adds_per_pixel, parameter_count
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import load_model, weightless_names
from scenefuse.models.state import SceneState
from scenefuse.sensors.band import Band
from tests.bench.tiling.networks import NETWORKS

OWN_NETWORKS = tuple(ARCHITECTURES)
"""The product's networks."""
SEED = 7
"""Of the random weights: the same in every process."""


class CountedModel(NetworkModel):
    """A network that counts the fine pixels it is given."""

    computed_px = 0

    def fuse(self, hs: Tensor, ms: Tensor, state: SceneState) -> Tensor:
        """Fused windows (n, hs band, y, x)."""
        self.computed_px += ms.shape[0] * ms.shape[2] * ms.shape[3]
        return super().fuse(hs, ms, state)


def ref_of(name: str, hs_bands: tuple[Band, ...], ms_bands: tuple[Band, ...], ratio: int) -> ModelRef:
    """The recipe of a model of this benchmark."""
    return ModelRef(name=name, hs_bands=hs_bands, ms_bands=ms_bands, ratio=ratio)


def handle_of(ref: ModelRef) -> ModelHandle:
    """The model as the engine's tasks name it."""
    return ModelHandle(ref=ref, load=load_bench_model)


def load_bench_model(ref: ModelRef) -> FusionModel:
    """The model of a recipe: the product's own loader for methods without weights, else random weights of one seed."""
    if ref.name in weightless_names():
        return load_model(ref)
    network = random_network(ref)
    return CountedModel(network, describe_network(ref) if ref.name in OWN_NETWORKS else _card(ref, network))


def random_network(ref: ModelRef) -> FusionNetwork:
    """The bare network with weights drawn from SEED."""
    sizes = {"hs_bands": len(ref.hs_bands), "ms_bands": len(ref.ms_bands), "ratio": ref.ratio}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        if ref.name in OWN_NETWORKS:
            return build_model(ref.name, **sizes)
        return NETWORKS[ref.name](**sizes)


def _card(ref: ModelRef, network: FusionNetwork) -> ModelCard:
    return ModelCard(
        name=ref.name,
        title=type(network).__name__,
        source="the tiling benchmark",
        ratio=ref.ratio,
        hs_bands=ref.hs_bands,
        ms_bands=ref.ms_bands,
        lattice_px=network.lattice_px,
        support_px=network.support_px,
        halo_px=network.halo_px,
        effective_px=network.effective_px,
        statistics="patch" if network.statistics.reductions else "none",
        parameters=parameter_count(network),
        multiply_adds_per_pixel=multiply_adds_per_pixel(network),
        activation_bytes_per_pixel=network.activation_bytes_per_pixel,
    )
