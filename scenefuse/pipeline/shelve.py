"""Put trained weights on a shelf, where fuse finds them by name or by the bands of a pair."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

from scenefuse.config import weights_folder
from scenefuse.errors import UsageError
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import load_model
from scenefuse.models.shelf import ITEM, WEIGHTS, Shelved, place_for
from scenefuse.models.weights import read_card
from scenefuse.place.durable import sync_folder, write_durably
from scenefuse.product.model_item import build_model_item

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


def shelve(weights: Path, name: str, *, folder: Path | None = None) -> Shelved:
    """Copy the weights to the shelf as the next version of that name.

    Loads them first, so that the shelf holds only usable weights. If they are the newest version already, returns that
    one and copies nothing. folder: the shelf; None for the user's.
    """
    require_shelf_name(name)
    card = read_card(weights)
    ref = ModelRef(
        name=card.architecture,
        hs_bands=card.hs_bands,
        ms_bands=card.ms_bands,
        ratio=card.ratio,
        weights=str(weights),
        weights_sha256=card.sha256,
    )
    model = load_model(ref).card
    shelf = folder or weights_folder()
    place, version = place_for(name, shelf)
    before = shelf / name / str(version - 1) / WEIGHTS
    if before.is_file() and read_card(before).sha256 == card.sha256:
        return Shelved(name=name, version=version - 1, path=before, card=card)
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    size_bytes, made = weights.stat().st_size, datetime.now(UTC)
    item = build_model_item(f"{name}-{version}", card, model, size_bytes=size_bytes, href=f"./{WEIGHTS}", made=made)
    write_durably(part / WEIGHTS, weights.read_bytes())
    write_durably((part / WEIGHTS).with_suffix(".json"), weights.with_suffix(".json").read_bytes())
    write_durably(part / ITEM, (json.dumps(item, indent=1) + "\n").encode())
    part.rename(place)
    sync_folder(place.parent)
    return Shelved(name=name, version=version, path=place / WEIGHTS, card=card)


def require_shelf_name(name: str) -> None:
    """Raise UsageError if name cannot be the name of weights."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} as the name of weights",
            "it becomes a folder's name and is typed after --weights",
            "Use small letters, digits, points and hyphens, 64 at most",
        )
