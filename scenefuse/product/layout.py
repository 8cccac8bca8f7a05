"""The Zarr store of a product, laid out before any work: all metadata and coordinates, no pixels."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from pyproj import CRS
from zarr.codecs import BloscCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from scenefuse.cube import cf
from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.errors import DataError
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.files import PRODUCT_FILES, STORE
from scenefuse.product.spec import ProductSpec

_WORKING_SUFFIXES = (".lease", ".lock")

ROOT = "zarr.json"
"""Key that turns a folder into a store; written last."""
_THREADS = 8
"""Documents written concurrently."""

COMPRESSOR = BloscCodec(typesize=2, cname="zstd", clevel=1, shuffle="shuffle")
"""Byte shuffle makes int16 reflectance 23 % smaller than zstd alone, both at 550 MB/s (EnMAP tiles, one CPU core)."""

_CONVENTIONS = {
    "multiscales": "d35379db-88df-4056-af3a-620245f8e347",
    "proj": "f17cb550-5864-4468-aeb7-f3180cfb622f",
    "spatial": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
}


def level_path(factor: int) -> str:
    """Path of a level's group in the store, with a trailing slash: `overviews/4/`, or empty for the product itself."""
    return "" if factor == 1 else f"overviews/{factor}/"


def lay_out(folder: Path | Place, spec: ProductSpec) -> Place:
    """Create the store in the product's folder, with metadata and coordinates of every array but no pixels.

    Calling it again with the same spec keeps everything there, finished shards included.
    """
    store = place_at(folder) / STORE
    refuse_foreign(folder, spec.item_id)
    documents = layout_documents(spec)
    present = set(store.files()) & documents.keys()
    for key in sorted(present):
        if (store / key).read() != documents[key]:
            raise DataError(
                f"{store / key} differs from the layout of {spec.item_id}",
                "the folder holds a product of other bands, another grid, core size or time of acquisition",
                "choose another output folder, or remove this one",
            )
    absent = documents.keys() - present
    with ThreadPoolExecutor(_THREADS) as pool:  # each thread waits for the disk or the object store
        list(pool.map(lambda key: (store / key).put(documents[key]), sorted(absent - {ROOT})))
    if ROOT in absent:
        (store / ROOT).put(documents[ROOT])
    return store


def laid_out_core_px(folder: Path | Place) -> int | None:
    """Core side in pixels of the store in the product's folder; None if there is no store yet."""
    document = place_at(folder) / STORE / "reflectance" / "zarr.json"
    if not document.is_file():
        return None
    try:
        return int(json.loads(document.read())["chunk_grid"]["configuration"]["chunk_shape"][-1])
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def belongs(name: str, item_id: str) -> bool:
    """True if a product's folder may hold a file of this name: product file, lease, lock, ledger or hidden file."""
    working = name.startswith((".", "ledger")) or name.endswith(_WORKING_SUFFIXES)
    return working or name in PRODUCT_FILES or name == f"{item_id}.json"


def lacking_item(folder: Place) -> str:
    """What to say of a product's item that is missing: where the folder was renamed, that."""
    others = [name for name in folder.names() if name.endswith(".json") and not belongs(name, folder.name)]
    if len(others) != 1:
        return "is not there"
    return f"is not there, but {others[0]}: the folder of a product has its item's name, rename it back"


def refuse_foreign(folder: Path | Place, item_id: str) -> None:
    """Refuse a folder with files that do not belong to a product; an absent folder is fine."""
    folder = place_at(folder)
    if folder.is_file():
        raise DataError(f"{folder} is a file", "a product needs a folder", "choose another output folder")
    foreign = sorted(name for name in folder.names() if not belongs(name, item_id))
    if foreign:
        raise DataError(
            f"{folder} holds something else: {', '.join(foreign[:3])}",
            "writing a product there would mix it with other files",
            "choose another output folder, or move those files away",
        )


def layout_documents(spec: ProductSpec) -> dict[str, bytes]:
    """Every file of an empty store by its key; the same spec gives the same bytes."""
    return read_all(layout_in_memory(spec))


def layout_in_memory(spec: ProductSpec) -> MemoryStore:
    """An empty store in memory, with the metadata and coordinates of every array."""
    memory = MemoryStore()
    root = zarr.create_group(memory, zarr_format=3, attributes=_root_attributes(spec))
    crs = CRS.from_wkt(spec.grid.crs_wkt)
    for factor in (1, *spec.overview_factors):
        group = root if factor == 1 else root.create_group(level_path(factor).rstrip("/"))
        reflectance_array(group, spec, factor)
        if factor == 1:
            quality_array(group, spec)
        _coordinates(group, spec, crs, factor)
    _consolidate(memory, spec)
    return memory


def _consolidate(memory: MemoryStore, spec: ProductSpec) -> None:
    """Write the metadata of all members into the document of each level, and of the root.

    Over plain HTTP nobody can list a store's folders: a reader finds only what the document at the address it was
    given names. The multiscales convention requires it; Zarr's specification does not have it yet, and lets readers
    that do not know it ignore it (`must_understand` is false).
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part", UserWarning)
        for factor in (*spec.overview_factors, 1):
            zarr.consolidate_metadata(memory, path=level_path(factor).rstrip("/") or None, zarr_format=3)


def read_all(memory: MemoryStore) -> dict[str, bytes]:
    """Every key of a store in memory with its bytes, sorted by key."""

    async def gather() -> dict[str, bytes]:
        prototype = default_buffer_prototype()
        keys = sorted([key async for key in memory.list()])
        return {key: value.to_bytes() for key in keys if (value := await memory.get(key, prototype)) is not None}

    documents: dict[str, bytes] = sync(gather())
    return documents


def reflectance_attributes(spec: ProductSpec, factor: int = 1) -> dict[str, Any]:
    """CF attributes of a level's reflectance: reflectance = integer * scale_factor + add_offset."""
    return {
        **cf.REFLECTANCE,
        "scale_factor": spec.scale,
        "add_offset": 0.0,
        "_FillValue": spec.nodata,
        "valid_range": [-32767, 32767],
        "grid_mapping": "spatial_ref",
        "coordinates": " ".join(("wavelength_nm", "fwhm_nm", *_scalars(spec))),
        **({"ancillary_variables": "quality"} if factor == 1 else {}),
    }


def quality_attributes(spec: ProductSpec) -> dict[str, Any]:
    """CF attributes of the quality flags."""
    return {
        "long_name": "why a pixel deserves less trust; 0 is a good pixel",
        "standard_name": "quality_flag",
        "flag_masks": [int(flag) for flag in QualityFlag],
        "flag_meanings": " ".join(flag.name.lower() for flag in QualityFlag if flag.name),
        "grid_mapping": "spatial_ref",
        **({"coordinates": " ".join(scalars)} if (scalars := _scalars(spec)) else {}),
    }


def _scalars(spec: ProductSpec) -> tuple[str, ...]:
    """Names of the coordinates without a dimension."""
    return () if spec.acquired is None else ("time",)


def reflectance_array(group: zarr.Group, spec: ProductSpec, factor: int = 1) -> zarr.Array[Any]:
    """Create a level's reflectance array, (band, y, x), in the group."""
    return group.create_array(
        "reflectance",
        shape=(spec.shape[0], *spec.level_shape(factor)),
        shards=spec.shard_shape,
        chunks=spec.chunk_shape,
        dtype="int16",
        fill_value=spec.nodata,
        compressors=[COMPRESSOR],
        dimension_names=["band", "y", "x"],
        attributes=reflectance_attributes(spec, factor),
    )


def quality_array(group: zarr.Group, spec: ProductSpec) -> zarr.Array[Any]:
    """Create the quality flag array, (y, x), in the group."""
    return group.create_array(
        "quality",
        shape=spec.level_shape(1),
        shards=spec.shard_shape[1:],
        chunks=spec.chunk_shape[1:],
        dtype="uint8",
        fill_value=int(QualityFlag.NODATA),
        compressors=[BloscCodec(typesize=1, cname="zstd", clevel=1, shuffle="noshuffle")],
        dimension_names=["y", "x"],
        attributes=quality_attributes(spec),
    )


def _coordinates(group: zarr.Group, spec: ProductSpec, crs: CRS, factor: int) -> None:
    rows, columns = spec.level_shape(factor)
    a, b, c, d, e, f = spec.level_transform(factor)
    axes = {axis["axis"].lower(): axis for axis in crs.cs_to_cf() if "axis" in axis}
    _vector(group, "x", c + a * (np.arange(columns) + 0.5), axes.get("x", {}))
    _vector(group, "y", f + e * (np.arange(rows) + 0.5), axes.get("y", {}))
    _band_names(group, [band.name for band in spec.bands])
    for name, attributes in (("wavelength_nm", cf.WAVELENGTH_NM), ("fwhm_nm", cf.FWHM_NM)):
        values = np.array([np.nan if (value := getattr(band, name)) is None else value for band in spec.bands])
        _vector(group, name, values, attributes, dimension="band")
    if spec.acquired is not None:
        _time(group, spec.acquired)
    geotransform = f"{c!r} {a!r} {b!r} {f!r} {d!r} {e!r}"
    reference = {**_plain(crs.to_cf()), "spatial_ref": crs.to_wkt(), "GeoTransform": geotransform}
    group.create_array("spatial_ref", shape=(), dtype="int64", fill_value=0, attributes=reference)


def _vector(
    group: zarr.Group, name: str, values: NDArray[Any], attributes: Mapping[str, Any], *, dimension: str | None = None
) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=values.shape,
        dtype="float64",
        fill_value=float("nan"),
        dimension_names=[dimension or name],
        attributes=dict(attributes),
        config={"write_empty_chunks": True},
    )
    array[...] = values


def _band_names(group: zarr.Group, names: Sequence[str]) -> None:
    """The dimension coordinate of the bands, text of any length."""
    array = group.create_array(
        "band",
        shape=(len(names),),
        chunks=(len(names),),
        dtype="string",
        dimension_names=["band"],
        attributes=dict(cf.BAND),
    )
    array[...] = np.array(names, object)


def _time(group: zarr.Group, acquired: datetime) -> None:
    """The time of acquisition, a scalar in CF's encoding: whole microseconds, as a datetime has them."""
    array = group.create_array(
        "time",
        shape=(),
        dtype="int64",
        fill_value=0,
        attributes={**cf.TIME, "units": "microseconds since 1970-01-01", "calendar": "proleptic_gregorian"},
        config={"write_empty_chunks": True},
    )
    array[...] = (acquired - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _root_attributes(spec: ProductSpec) -> dict[str, Any]:
    """Attributes that follow CF and the Zarr conventions multiscales, proj and spatial (v0.1)."""
    crs = CRS.from_wkt(spec.grid.crs_wkt)
    authority = crs.to_authority(min_confidence=100)
    projection = {"proj:code": ":".join(authority)} if authority else {"proj:wkt2": crs.to_wkt()}
    layout: list[dict[str, Any]] = [_level_entry(spec, 1)]
    for factor in spec.overview_factors:
        step = {"scale": [2.0, 2.0], "translation": [0.0, 0.0]}
        derived = {"derived_from": layout[-1]["asset"], "transform": step, "resampling_method": "average"}
        layout.append({**_level_entry(spec, factor), **derived})
    return {
        "Conventions": "CF-1.11",
        "title": spec.item_id,
        "zarr_conventions": [
            {
                "name": name,
                "uuid": uuid,
                "spec_url": f"https://github.com/zarr-conventions/{name}/blob/v0.1/README.md",
                "schema_url": f"https://raw.githubusercontent.com/zarr-conventions/{name}/refs/tags/v0.1/schema.json",
            }
            for name, uuid in _CONVENTIONS.items()
        ],
        "multiscales": {"layout": layout, "resampling_method": "average"},
        **projection,
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": list(spec.grid.fine_shape),
        "spatial:transform": list(spec.grid.fine_transform),
    }


def _level_entry(spec: ProductSpec, factor: int) -> dict[str, Any]:
    return {
        "asset": level_path(factor).rstrip("/") or ".",
        "spatial:shape": list(spec.level_shape(factor)),
        "spatial:transform": list(spec.level_transform(factor)),
    }


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()}
