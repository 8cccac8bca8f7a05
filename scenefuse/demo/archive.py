"""Writes the demo archive: a self-contained STAC catalogue, and beside it the truth.

    catalog.json
    demo-enmap/collection.json, <item>/<item>.json, <item>/<item>.tif
    demo-sentinel-2/collection.json, <item>/<item>.json, <item>/B02.tif ... B12.tif
    truth/index.json, truth/<site>.tif      all bands at 10 m, without noise; no item links to them

Each site is simulated once, block by block, and every raster takes what it needs from a block, so memory does not
grow with the scenes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio

from scenefuse.demo.catalogue import CATALOG, asset_paths, item_path, write_catalogue
from scenefuse.demo.cog import file_checksum, publish_bands, publish_cube
from scenefuse.demo.exposure import TILE_PX, Exposure, open_raster
from scenefuse.demo.plan import DemoScene, DemoSite, estimated_bytes, instruments, plan_sites
from scenefuse.demo.size import DemoSize
from scenefuse.errors import DataError, ResourceError
from scenefuse.grid.window import Window
from scenefuse.simulate.instrument import Instrument, enmap_like, enmap_truth

BLOCK_PX = 3 * TILE_PX
"""Side of a block in fine pixels: whole tiles of the truth, of the 20 m and of the 30 m rasters."""
_GDAL_CACHE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPair:
    """A fusable pair of the archive, and what is known about it."""

    name: str
    """Name of its site: `1-nested`."""
    hs_item: Path
    """STAC item of the EnMAP-like scene."""
    ms_item: Path
    """STAC item of the Sentinel-2-like scene."""
    truth: Path
    """GeoTIFF of all the EnMAP-like bands on the fine scene's 10 m grid, int16 DN of scale 1e-4."""
    shift_px: tuple[float, float]
    """Misregistration of the EnMAP-like scene, fine pixels (south, east), as DemoScene.shift_px."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoArchive:
    """Paths of a written archive."""

    catalog: Path
    """catalog.json, the archive's entrance."""
    truth_index: Path
    """truth/index.json."""
    pairs: tuple[DemoPair, ...]
    """The fusable pairs."""


def write_demo_archive(
    folder: Path, *, size: DemoSize, seed: int = 0, progress: Callable[[str], None] | None = None
) -> DemoArchive:
    """Write the archive to a folder that is empty or does not exist; the same size and seed give the same bytes.

    It appears whole or not at all: the next call removes what an interrupted one left beside it. progress is called
    with the name of each site before it is simulated. Peak memory stays below 2 GiB at any size.
    """
    folder = folder.absolute()  # pystac makes hrefs relative to absolute paths only
    part = folder.with_name(f".{folder.name}-unfinished")  # pystac takes a name with a suffix for that of a file
    shutil.rmtree(part, ignore_errors=True)
    _refuse_unready(folder, size)
    sites = plan_sites(size, seed)
    (part / "truth").mkdir(parents=True)
    with rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE_BYTES, GDAL_NUM_THREADS="1"):  # type: ignore[no-untyped-call]
        for site in sites:
            if progress is not None:
                progress(site.name)
            write_site(part, site, seed)
        _write_truth_index(part, sites, size, seed)
        write_catalogue(part, tuple(scene for site in sites for scene in site.scenes))
    part.replace(folder)
    pairs = tuple(
        DemoPair(
            name=site.name,
            hs_item=item_path(folder, site.hs),
            ms_item=item_path(folder, site.ms),
            truth=truth_path(folder, site),
            shift_px=site.hs.shift_px,
        )
        for site in sites
        if site.has_truth and site.hs is not None and site.ms is not None
    )
    return DemoArchive(catalog=folder / CATALOG, truth_index=_truth_index_path(folder), pairs=pairs)


def _refuse_unready(folder: Path, size: DemoSize) -> None:
    """Raise when the folder already holds something, or its disk is too small."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder} is not an empty folder",
            "the demo archive would be mixed with what is there",
            "give another folder, or empty this one",
        )
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free, needed = shutil.disk_usage(existing).free, estimated_bytes(size)
    if free < needed:
        raise ResourceError(
            f"{free / 1e9:.1f} GB free at {existing}",
            f"the {size.name.lower()} demo archive may need {needed / 1e9:.1f} GB",
            "give a folder on a larger disk, or a smaller size",
        )


def write_site(root: Path, site: DemoSite, seed: int) -> None:
    """Write all rasters of a site, and its truth, below root: simulate block by block, then publish each as COG."""
    jobs: list[tuple[DemoScene, Instrument, Path, bool]] = []
    for scene in site.scenes:
        for part, paths in zip(instruments(scene), asset_paths(root, scene), strict=True):
            paths[0].parent.mkdir(parents=True, exist_ok=True)
            jobs.append((scene, part, paths[0].with_suffix(".draft.tif"), False))
    if site.has_truth and site.ms is not None:
        jobs.append((site.ms, enmap_truth(), truth_path(root, site), True))
    with ExitStack() as files:
        exposures = [
            Exposure(
                scene=scene,
                instrument=part,
                raster=files.enter_context(open_raster(path, scene, part, compress=compress)),
                seed=seed,
            )
            for scene, part, path, compress in jobs
        ]
        _simulate(site, exposures)
    for scene in site.scenes:
        for paths in asset_paths(root, scene):
            draft = paths[0].with_suffix(".draft.tif")
            if scene.role == "hsi":
                publish_cube(draft, paths[0])
            else:
                publish_bands(draft, paths)


def _simulate(site: DemoSite, exposures: list[Exposure]) -> None:
    """Show the site's ground to all its exposures, block by block."""
    margin = max(exposure.margin_px for exposure in exposures)
    anchor = (site.ms or site.scenes[0]).extent
    extents = [scene.extent for scene in site.scenes]
    # Blocks start at tiles of the truth, so that each of its compressed tiles is written once and whole.
    top = anchor.y0 - -(-(anchor.y0 - min(extent.y0 for extent in extents)) // BLOCK_PX) * BLOCK_PX
    left = anchor.x0 - -(-(anchor.x0 - min(extent.x0 for extent in extents)) // BLOCK_PX) * BLOCK_PX
    for y0 in range(top, max(extent.y1 for extent in extents), BLOCK_PX):
        for x0 in range(left, max(extent.x1 for extent in extents), BLOCK_PX):
            needed = [_common(Window(y0=y0, y1=y0 + BLOCK_PX, x0=x0, x1=x0 + BLOCK_PX), extent) for extent in extents]
            blocks = [block for block in needed if block is not None]
            if not blocks:
                continue
            frame = Window(
                y0=min(block.y0 for block in blocks),
                y1=max(block.y1 for block in blocks),
                x0=min(block.x0 for block in blocks),
                x1=max(block.x1 for block in blocks),
            )
            abundances = site.landscape.abundances(frame.grow(margin))
            for exposure in exposures:
                exposure.take(frame, abundances, frame.grow(margin))


def _common(first: Window, second: Window) -> Window | None:
    """The intersection of two windows; None when it is empty."""
    y0, y1 = max(first.y0, second.y0), min(first.y1, second.y1)
    x0, x1 = max(first.x0, second.x0), min(first.x1, second.x1)
    return Window(y0=y0, y1=y1, x0=x0, x1=x1) if y0 < y1 and x0 < x1 else None


def truth_path(root: Path, site: DemoSite) -> Path:
    """Path of a site's truth, a GeoTIFF below root."""
    return root / "truth" / f"{site.name}.tif"


def _truth_index_path(root: Path) -> Path:
    return root / "truth" / "index.json"


def _write_truth_index(root: Path, sites: tuple[DemoSite, ...], size: DemoSize, seed: int) -> None:
    """Write truth/index.json: for each fusable pair its truth and the true PSF, response, shift and noise."""
    entries: list[dict[str, Any]] = []
    for site in sites:
        if not site.has_truth or site.hs is None or site.ms is None:
            continue
        path = truth_path(root, site)
        entries.append(
            {
                "name": site.name,
                "shows": site.shows,
                "hs": site.hs.id,
                "ms": site.ms.id,
                "truth": path.name,
                "file:checksum": file_checksum(path),
                "file:size": path.stat().st_size,
                "shift_px": list(site.hs.shift_px),
                "phase_px": [
                    (site.hs.extent.y0 - site.ms.extent.y0) % enmap_like().ratio,
                    (site.hs.extent.x0 - site.ms.extent.x0) % enmap_like().ratio,
                ],
            }
        )
    index = {
        "about": (
            "Truth of the demo archive: what the EnMAP-like instrument would show at 10 m, without noise. "
            "int16, reflectance = DN * 1e-4, on the grid of the Sentinel-2-like scene. shift_px: what the "
            "EnMAP-like scene shows lies this many fine pixels (south, east) of where its georeference says; "
            "phase_px: its grid's place on the fine grid (south, east); psf_sigma_px: Gaussian blur from truth "
            "to the EnMAP-like scene; snr: at reflectance 0.3."
        ),
        "seed": seed,
        "size": size.name.lower(),
        "ratio": enmap_like().ratio,
        "psf_sigma_px": enmap_like().sigma_px,
        "bands": [
            {"name": band.name, "wavelength_nm": band.wavelength_nm, "fwhm_nm": band.fwhm_nm, "bad": bad, "snr": snr}
            for band, bad, snr in zip(
                enmap_like().bands, enmap_like().bad, enmap_like().snr.round(1).tolist(), strict=True
            )
        ],
        "pairs": entries,
    }
    _truth_index_path(root).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
