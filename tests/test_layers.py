"""The order of rooms, and the doors through which libraries come in (DESIGN: the way of the data)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "scenefuse"

ROOMS = (
    "words",
    "field_docs",
    "errors",
    "failure",
    "config",
    "place",
    "sensors",
    "archive",
    "grid",
    "raster",
    "cube",
    "tiles",
    "metrics",
    "simulate",
    "models",
    "training",
    "engine",
    "product",
    "quality",
    "publish",
    "demo",
    "pipeline",
    "workflow",
    "cli",
)
"""From the source to the command: each room imports only from those above it."""

DOORS = {
    "pystac_client": {"archive"},
    "pystac": {"archive", "product", "publish", "demo"},
    "shapely": {"archive"},
    "pyarrow": {"archive"},
    "stac_geoparquet": {"archive"},
    "rasterio": {"raster", "cube", "product", "demo"},
    "h5py": {"raster"},
    "rioxarray": {"raster", "cube"},
    "xarray": {"raster", "cube", "product"},
    "zarr": {"raster", "product"},
    "torch": {"metrics", "models", "training", "engine", "pipeline", "cli"},
    "safetensors": {"models", "engine"},
    "dask": {"cube", "engine"},
    "distributed": {"engine"},
    "matplotlib": {"quality", "product", "training"},  # training draws its learning curves
    "jinja2": {"quality"},
    "obstore": {"place"},
    "httpx": {"archive", "publish"},
    "apscheduler": {"workflow"},
    "click": {"cli"},
    "rich": {"cli"},
}
"""Rooms in which a library may be imported."""


def modules() -> list[Path]:
    """All of the package but its entrances, which name what lies in every room."""
    return sorted({*PACKAGE.rglob("*.py")} - {PACKAGE / "__init__.py", PACKAGE / "__main__.py"})


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import in the file, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_is_in_the_order() -> None:
    found = {room_of(path) for path in modules()}
    assert found <= set(ROOMS), f"rooms without a place in the order: {found - set(ROOMS)}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_from_rooms_above_it(path: Path) -> None:
    room = room_of(path)
    for line, name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "scenefuse" and len(parts) > 1 and parts[1] in ROOMS:
            assert ROOMS.index(parts[1]) <= ROOMS.index(room), f"{path}:{line}: {room} imports {parts[1]}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_libraries_only_through_their_doors(path: Path) -> None:
    room = room_of(path)
    for line, name in imports_of(path):
        library = name.split(".")[0]
        assert room in DOORS.get(library, {room}), f"{path}:{line}: {library} has no door in {room}"


def test_no_room_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "common", "misc"}
    found = [path for path in PACKAGE.rglob("*") if path.stem in drawers]
    assert not found, f"a homeless function names a missing module: {found}"


def test_networks_do_not_resample_by_a_ratio() -> None:
    """F.interpolate and grid_sample are not translation-invariant at r = 3 and 6 (measured 1e-4)."""
    for path in (PACKAGE / "models").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            assert name not in {"interpolate", "grid_sample", "Upsample"}, f"{path} uses {name}"


def test_networks_repeat_edges_by_the_kernel() -> None:
    """F.pad has a slow way of its own for mode `replicate` where a GPU has to be deterministic (models/edges.py)."""
    for path in (PACKAGE / "models").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Constant) and node.value == "replicate"), f"{path} pads by F.pad"
