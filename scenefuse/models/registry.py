"""The registry of methods, and how to build one from its reference."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

from scenefuse.errors import ModelError, UsageError
from scenefuse.grid.pair_grid import RATIOS
from scenefuse.models import bicubic, cnmf, gsa, hysure_l2, mtf_glp_hs, sfim
from scenefuse.models.architectures import ARCHITECTURES, describe_network, load_network
from scenefuse.models.base import FusionModel, ModelCard
from scenefuse.models.names import ENTRY_POINTS
from scenefuse.models.ref import ModelRef
from scenefuse.models.shelf import resolve, shelved
from scenefuse.place.durable import sha256_of
from scenefuse.words import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How to build and describe a method."""

    build: Callable[[ModelRef], FusionModel]
    """Builds the method for a reference; refuses unknown options. Called after the weights have been checked."""
    describe: Callable[[ModelRef], ModelCard] | None = None
    """Card of a method that cannot be built without weights, made without them; None: build it and use its card."""
    needs_weights: bool = False
    """True for networks, which are refused without weights; methods without weights refuse them."""


MODELS: dict[str, Method] = {
    "bicubic": Method(build=bicubic.build),
    "gsa": Method(build=gsa.build),
    "sfim": Method(build=sfim.build),
    "mtf-glp-hs": Method(build=mtf_glp_hs.build),
    "cnmf": Method(build=cnmf.build),
    "hysure-l2": Method(build=hysure_l2.build),
    **{name: Method(build=load_network, describe=describe_network, needs_weights=True) for name in ARCHITECTURES},
}
"""This package's methods by their command-line name."""


def model_names() -> tuple[str, ...]:
    """Sorted names of all methods: this package's and those other packages register."""
    return tuple(sorted({*MODELS, *_announced()}))


def weightless_names() -> tuple[str, ...]:
    """Names of this package's methods that need no weights, in the order of MODELS."""
    return tuple(name for name, method in MODELS.items() if not method.needs_weights)


def needs_weights(name: str) -> bool:
    """Whether the method is refused without weights."""
    return _method_of(name).needs_weights


def describe_model(ref: ModelRef) -> ModelCard:
    """The card of the reference's method, even if weights are missing: for listings, never for fusing."""
    method = _method_of(ref.name)
    if method.describe is not None and ref.weights is None:
        return method.describe(ref)
    return load_model(ref).card


def require_method(name: str, *, weights: str | None = None, weights_sha256: str | None = None) -> Method:
    """The method of that name, after checking that its weights can be had; needs no scene.

    weights: a path or a name on the shelf. Refuses an unknown name, a network with no weights on the shelf, weights for
    a method that uses none, and a file whose SHA-256 differs from weights_sha256.
    """
    method = _method_of(name)
    if not method.needs_weights:
        if weights is not None or weights_sha256 is not None:
            raise UsageError(
                f"{name} with the weights {weights or weights_sha256}", "it does not use weights", "Leave out --weights"
            )
        return method
    if weights is None:
        _require_on_shelf(name)
        return method
    path = resolve(weights)
    if weights_sha256 is not None:
        found = sha256_of(path)
        if found != weights_sha256:
            raise ModelError(
                f"{path} has SHA-256 {found}",
                f"these are not the weights {weights_sha256} that the run was planned with",
                "Restore the file, or plan the run again",
            )
    return method


def load_model(ref: ModelRef) -> FusionModel:
    """The method of the reference, ready to fuse; refuses a wrong name, ratio, options or weights."""
    method = require_method(ref.name, weights=ref.weights, weights_sha256=ref.weights_sha256)
    if ref.ratio not in RATIOS:
        raise ModelError(f"Ratio {ref.ratio}", "no grid has it", f"Choose one of {', '.join(map(str, RATIOS))}")
    if not ref.hs_bands or not ref.ms_bands:
        raise ModelError(
            f"{len(ref.hs_bands)} HSI and {counted(len(ref.ms_bands), 'MSI band')}",
            "there is nothing to fuse",
            "Keep at least one",
        )
    return method.build(ref)


def _require_on_shelf(name: str) -> None:
    """Refuse a network with no weights on any shelf."""
    if not any(entry.card.architecture == name for entry in shelved()):
        raise ModelError(
            f"{name} without weights",
            "an untrained network never makes a product",
            "Give --weights FILE.safetensors, or train some with scenefuse train",
        )


def _method_of(name: str) -> Method:
    """The method of that name; an unknown name is refused with a list of the known ones."""
    method = MODELS[name] if name in MODELS else _announced().get(name)
    if method is None:
        near = difflib.get_close_matches(name, model_names(), n=1)
        guess = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"No method is called {name!r}", "nothing can be fused", f"{guess}Known: {', '.join(model_names())}"
        )
    return method


@cache
def _announced() -> dict[str, Method]:
    """Methods of other packages; refuses a name already taken, and what cannot be loaded or is not a Method."""
    announced: dict[str, Method] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            method = entry.load()
        except Exception as error:  # another package's import may raise anything
            raise ModelError(
                f"Entry point {entry.name} = {entry.value} cannot be loaded ({error})",
                "the method that it announces is missing",
                "Repair or uninstall the package that announces it",
            ) from error
        if entry.name in MODELS or entry.name in announced or not isinstance(method, Method):
            raise ModelError(
                f"Entry point {entry.name} = {entry.value}",
                "its name is taken or it is not a scenefuse.models.registry.Method",
                "Rename it, or uninstall the package that announces it",
            )
        announced[entry.name] = method
    return announced
