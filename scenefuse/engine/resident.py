"""What a process keeps between tasks: models by their handle, scene states by their digest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from scenefuse.engine.device import Device
from scenefuse.errors import ResourceError
from scenefuse.models.base import FusionModel
from scenefuse.models.ref import ModelRef
from scenefuse.models.state import SceneState

ModelLoader = Callable[[ModelRef], FusionModel]
"""Builds a model from its reference; a module-level function, so that it can be pickled by name."""

MODELS_KEPT = 2
"""Models that one process keeps at a time; the oldest is dropped first."""

_models: dict[str, FusionModel] = {}
_states: dict[str, SceneState] = {}
_holders: Counter[str] = Counter()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHandle:
    """A model as tasks refer to it: small to send, built once per process. Picklable."""

    ref: ModelRef
    """The reference."""
    load: ModelLoader
    """Builds the model from the reference: `scenefuse.models.registry.load_model`."""
    device: Device = "cpu"
    """Where its tensors live."""

    @property
    def key(self) -> str:
        """Text that identifies reference, loader and device."""
        ref = self.ref
        options = sorted(ref.options.items())
        bands = (ref.hs_bands, ref.ms_bands)
        return repr(
            (ref.name, bands, ref.ratio, ref.weights_sha256, options, self.load.__qualname__, self.device)
            + (() if ref.weights_sha256 else (ref.weights,))
        )


def resident_model(handle: ModelHandle) -> FusionModel:
    """The model on its device, loaded on the first call in this process."""
    key = handle.key
    if key not in _models:
        while len(_models) >= MODELS_KEPT:
            _models.pop(next(iter(_models)))
        _models[key] = handle.load(handle.ref).to(handle.device)
    return _models[key]


def keep_state(state_sha256: str, state: SceneState) -> None:
    """Keep the state in this process until it has been dropped as often as kept."""
    _states[state_sha256] = state
    _holders[state_sha256] += 1


def drop_state(state_sha256: str) -> None:
    """Drop the state once; forget it when nothing in this process keeps it any more."""
    _holders[state_sha256] -= 1
    if _holders[state_sha256] <= 0:
        del _holders[state_sha256]
        _states.pop(state_sha256, None)


def resident_state(state_sha256: str) -> SceneState:
    """The kept state with this digest; ResourceError if this process does not have it."""
    try:
        return _states[state_sha256]
    except KeyError:
        raise ResourceError(
            f"scene state {state_sha256[:12]} is not in this worker",
            "it was never sent here, so the task cannot run",
            "Run again; if it happens again the scheduler drops worker plugins: use a newer distributed",
        ) from None
