"""ARCHITECTURES: the networks by name, with or without weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from scenefuse.config import parse
from scenefuse.errors import ModelError, UsageError
from scenefuse.models.aelf import AELF, TINY, AELFOptions
from scenefuse.models.base import ModelCard
from scenefuse.models.cofusion import CoFusion, CoFusionOptions
from scenefuse.models.mossfuse import MossFuse, MossFuseOptions
from scenefuse.models.network import (
    FusionNetwork,
    NetworkModel,
    multiply_adds_per_pixel,
    parameter_count,
)
from scenefuse.models.ref import ModelRef
from scenefuse.models.s3rnet import S3RNet, S3RNetOptions
from scenefuse.models.smifnet import SMIFNet, SMIFNetOptions
from scenefuse.models.weights import WeightsCard, load_weights, put_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A named network: its class, options and source."""

    title: str
    """One-line description for people."""
    source: str
    """Paper."""
    network: type[FusionNetwork]
    """Class, constructed as network(hs_bands, ms_bands, ratio, options)."""
    options: Any
    """Default options: an instance of the network's own frozen dataclass."""


ARCHITECTURES: dict[str, Architecture] = {
    "aelf": Architecture(
        title="AELF: adaptive expert learning",
        source="He et al., IEEE TGRS 63, 2025",
        network=AELF,
        options=AELFOptions(),
    ),
    "aelf-t": Architecture(
        title="AELF-t: AELF with half the width",
        source="He et al., IEEE TGRS 63, 2025",
        network=AELF,
        options=TINY,
    ),
    "cofusion": Architecture(
        title="CoFusion: spectral coordinate attention",
        source="Li, 2026, arXiv:2604.10584v2",
        network=CoFusion,
        options=CoFusionOptions(),
    ),
    "mossfuse": Architecture(
        title="MossFuse: self-supervised modality decoupling",
        source="Du et al., 2025, arXiv:2412.04802",
        network=MossFuse,
        options=MossFuseOptions(),
    ),
    "smifnet": Architecture(
        title="SMIF-NET: spectral modality-aware interactive fusion",
        source="Xu et al., Shenzhen University",
        network=SMIFNet,
        options=SMIFNetOptions(),
    ),
    "s3rnet": Architecture(
        title="S3RNet: four weighted branches",
        source="Lee et al., IGARSS 2025, doi 10.1109/IGARSS55030.2025.11243541",
        network=S3RNet,
        options=S3RNetOptions(),
    ),
}
"""Every network by its command-line name."""


def build_model(name: str, *, hs_bands: int, ms_bands: int, ratio: int, **ablation: Any) -> FusionNetwork:
    """An untrained network for these numbers of bands and this ratio; `ablation` overrides fields of its options."""
    architecture = _architecture(name)
    known = {entry.name for entry in fields(architecture.options)}
    for key in ablation:
        if key not in known:
            raise UsageError(
                f"{name} has no option {key}",
                "unknown options are not ignored",
                f"use one of {', '.join(sorted(known))}",
            )
    options = parse(type(architecture.options), {**asdict(architecture.options), **ablation}, where=name)
    build: Any = architecture.network
    network: FusionNetwork = build(hs_bands, ms_bands, ratio, options)
    return network


def load_network(ref: ModelRef) -> NetworkModel:
    """A network with the weights a reference names, fully checked; its options come from the weights' card."""
    architecture = _architecture(ref.name)
    if ref.options:
        raise UsageError(
            f"{ref.name} with options {dict(ref.options)}",
            "a trained network's sizes are fixed by its weights",
            "Leave the options out",
        )
    weights, tensors = load_weights(ref)
    network = build_model(
        ref.name, hs_bands=len(ref.hs_bands), ms_bands=len(ref.ms_bands), ratio=ref.ratio, **weights.options
    )
    put_weights(network, tensors, str(ref.weights))
    return NetworkModel(network, _card(ref, architecture, network, weights))


def describe_network(ref: ModelRef) -> ModelCard:
    """The card of an untrained network: sizes, geometry and costs for these bands and this ratio."""
    architecture = _architecture(ref.name)
    network = build_model(ref.name, hs_bands=len(ref.hs_bands), ms_bands=len(ref.ms_bands), ratio=ref.ratio)
    return _untrained_card(ref, architecture, network)


def _untrained_card(ref: ModelRef, architecture: Architecture, network: FusionNetwork) -> ModelCard:
    """The card without weights: the pair's bands and the network's geometry."""
    return ModelCard(
        name=ref.name,
        title=architecture.title,
        source=architecture.source,
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
        precisions=network.precisions,
    )


def _card(ref: ModelRef, architecture: Architecture, network: FusionNetwork, weights: WeightsCard) -> ModelCard:
    """The card with weights: adds their provenance and the values measured with them."""
    untrained = _untrained_card(ref, architecture, network)
    return replace(
        untrained,
        ratio=weights.ratio,
        halo_px=untrained.halo_px if weights.halo_px is None else weights.halo_px,
        effective_px=untrained.effective_px if weights.effective_px is None else weights.effective_px,
        weights_sha256=weights.sha256,
        licence=weights.licence,
        training=weights.training,
        options=weights.options,
    )


def _architecture(name: str) -> Architecture:
    """The architecture of that name; an unknown name is refused with a list of the known ones."""
    if name not in ARCHITECTURES:
        raise ModelError(f"{name} is not a network", "it cannot be built", f"use one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]
