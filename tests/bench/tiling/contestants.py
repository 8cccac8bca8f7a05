"""Who runs in which lane, by name."""

from __future__ import annotations

from functools import partial
from typing import Literal

from tests.bench.tiling import ours, rivals, terratorch
from tests.bench.tiling.contest import Contestant

Lane = Literal["memory", "zarr", "cog"]

LANES: dict[Lane, dict[str, Contestant]] = {
    "memory": {
        "forward": ours.forward,
        "two forwards": ours.two_forwards,
        "ours": ours.fuse_in_memory,
        "ours full halo": partial(ours.fuse_in_memory, halo="full"),
        "ours other core": partial(ours.fuse_in_memory, core_px=384),
        "stacking": rivals.stacking,
        "monai constant 0.25": partial(rivals.monai, mode="constant", overlap=0.25),
        "monai gaussian 0.25": partial(rivals.monai, mode="gaussian", overlap=0.25),
        "monai gaussian 0.5": partial(rivals.monai, mode="gaussian", overlap=0.5),
        "terratorch": partial(terratorch.terratorch, tuned=False),
        "terratorch tuned": partial(terratorch.terratorch, tuned=True),
        "dask": partial(rivals.overlap_in_memory, tuned=False),
        "dask tuned": partial(rivals.overlap_in_memory, tuned=True),
    },
    "zarr": {
        "ours": partial(ours.fuse_files, files="zarr"),
        "codec": partial(ours.codec, files="zarr"),
        "monai merger": partial(rivals.monai_merger, tuned=False),
        "monai merger tuned": partial(rivals.monai_merger, tuned=True),
        "dask": partial(rivals.overlap_in_store, tuned=False),
        "dask tuned": partial(rivals.overlap_in_store, tuned=True),
    },
    "cog": {
        "ours": partial(ours.fuse_files, files="cog"),
        "ours and COG": partial(ours.fuse_files, files="cog", cog=True),
        "codec": partial(ours.codec, files="cog"),
        "monai gaussian 0.25": rivals.monai_files,
        "one worker": partial(ours.fuse_by_workers, workers=1),
        "two workers": partial(ours.fuse_by_workers, workers=2),
    },
}
"""From where to where, and who can: array to array, Zarr to Zarr, COG to Zarr and COG."""


def is_rival(name: str) -> bool:
    """True for a contestant that is not ours, and not a part of ours."""
    return name.startswith(("monai", "terratorch", "dask"))


def is_installed(name: str) -> bool:
    """False for a rival's contestant where the rival is not there."""
    if name.startswith("terratorch"):
        return terratorch.HAS_TERRATORCH
    return rivals.HAS_MONAI or not name.startswith("monai")
