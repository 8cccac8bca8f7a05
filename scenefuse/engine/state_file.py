"""The scene state as a safetensors file, bit-exact."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save

from scenefuse.errors import DataError
from scenefuse.models.state import SceneState
from scenefuse.place.location import place_at
from scenefuse.place.place import Place

_KEY = "scenefuse"


def save_state(path: Path | Place, state: SceneState) -> None:
    """Save the state at path, whole and durably."""
    arrays = {name: np.require(array, requirements="C") for name, array in state.arrays.items()}
    # Only one metadata key, because the order of several in the file is not fixed.
    head = json.dumps({"facts": dict(state.facts), "sha256": state.sha256}, sort_keys=True)
    place_at(path).put(save(arrays, metadata={_KEY: head}))


def load_state(path: Path | Place) -> SceneState:
    """Load a saved state; DataError if the file is damaged or the state's sha256 differs from the saved one."""
    cure = "Remove the file and run fuse again, or restore it"
    data = place_at(path).read()
    try:
        arrays = load_arrays(data)
        size = int.from_bytes(data[:8], "little")
        head = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_KEY])
        state = SceneState(arrays=arrays, facts=head["facts"])
        expected = head["sha256"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a scene state ({error!r})", "its scene cannot be resumed", cure) from error
    if state.sha256 != expected:
        raise DataError(f"{path} has digest {state.sha256[:12]}, not {expected[:12]}", "it was damaged", cure)
    return state
