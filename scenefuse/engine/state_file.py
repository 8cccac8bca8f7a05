"""The scene state as a safetensors file, exact to the bit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save

from scenefuse.errors import DataError
from scenefuse.models.state import SceneState

_KEY = "scenefuse"


def save_state(path: Path, state: SceneState) -> None:
    """Write the state whole and durably: a temporary file, synced, then renamed."""
    arrays = {name: np.require(array, requirements="C") for name, array in state.arrays.items()}
    # One key of metadata, for their order in the file is not fixed.
    head = json.dumps({"facts": dict(state.facts), "sha256": state.sha256}, sort_keys=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(save(arrays, metadata={_KEY: head}))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_state(path: Path) -> SceneState:
    """The state that was saved, with the sha256 that it had; a damaged file is refused."""
    cure = "Remove the file and run fuse again, or restore it"
    data = path.read_bytes()
    try:
        arrays = load_arrays(data)
        size = int.from_bytes(data[:8], "little")
        head = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_KEY])
        state = SceneState(arrays=arrays, facts=head["facts"])
        expected = head["sha256"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no scene state ({error!r})", "its scene cannot be resumed", cure) from error
    if state.sha256 != expected:
        raise DataError(f"{path} has digest {state.sha256[:12]}, not {expected[:12]}", "it was damaged", cure)
    return state
