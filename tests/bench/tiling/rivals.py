"""Rivals: MONAI's sliding window, MONAI with its Zarr merger, dask's map_overlap; the network as their users have it.

A rival's network looks at each window's own statistics, as every network outside of scenefuse does. Its window is
ours in size, so that one call of the network costs the same memory. Rivals without MONAI installed are left out.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import dask
import dask.array as da
import numpy as np
import rasterio
import torch
import zarr
from affine import Affine
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from scenefuse.models.base import UPSAMPLE_MARGIN
from tests.bench.tiling.contest import Case, Clock, Image, Outcome
from tests.bench.tiling.models import random_network
from tests.bench.tiling.networks import BenchNetwork
from tests.bench.tiling.ours import plan_of
from tests.bench.tiling.scene import BANDS, GSD_M, RATIO, stacked

HAS_MONAI = find_spec("monai") is not None
"""Whether this rival can be measured here."""


class Predictor:
    """The case's network on the one grid that rivals know; counts its pixels and remembers where they were."""

    def __init__(self, case: Case) -> None:
        self.network = random_network(case.ref).eval().requires_grad_(requires_grad=False)
        self.network.fold()
        self.tiling = plan_of(case).tiling
        self.computed_px = 0
        self.places: list[tuple[slice, ...]] = []

    def __call__(self, stack: Tensor, places: Any = ()) -> Tensor:
        """Fused window (1, hs band, y, x) of (1, hs + ms band, y, x); statistics over the window."""
        self.computed_px += stack.shape[-2] * stack.shape[-1]
        self.places += [tuple(place[2:]) for place in places]
        upsampled, ms = stack[:, : BANDS[0]], stack[:, BANDS[0] :]
        if isinstance(self.network, BenchNetwork):
            return self.network.on_fine(upsampled, ms)
        coarse = upsampled[..., ::RATIO, ::RATIO]
        fused: Tensor = self.network(functional.pad(coarse, (UPSAMPLE_MARGIN,) * 4, mode="replicate"), ms)
        return fused


def stacking(case: Case, clock: Clock, work: Path) -> Outcome:  # noqa: ARG001 - a contestant
    """What rivals are given beforehand, and ours does inside: the HSI upsampled and stacked with the MSI."""
    hs, ms = case.scene.arrays()
    with clock.running():
        stacked(hs, ms, case.stack)
    return Outcome()


def whole(case: Case, clock: Clock) -> Image:
    """The rivals' own ideal: the network once over the whole scene, its statistics and zeros outside it included."""
    stack = torch.from_numpy(np.load(case.scene.stack_path(case.stack)))[None]
    predict = Predictor(case)
    with clock.running(), torch.inference_mode():
        image: Image = predict(stack)[0].numpy()
    return image


def monai(
    case: Case,
    clock: Clock,
    work: Path,  # noqa: ARG001 - a contestant
    *,
    mode: Literal["constant", "gaussian"],
    overlap: float,
) -> Outcome:
    """MONAI's sliding_window_inference from an array to an array."""
    stack = torch.from_numpy(np.load(case.scene.stack_path(case.stack)))[None]
    predict = Predictor(case)
    _import_monai()
    with clock.running():
        image = _slide(stack, predict, mode=mode, overlap=overlap)
    return _outcome(case, predict, image)


def monai_files(case: Case, clock: Clock, work: Path) -> Outcome:
    """The same, Gaussian 0.25, between TIFFs: read whole, upsampled by torch, fused, written band by band."""
    predict = Predictor(case)
    target = work / "monai.tif"
    _import_monai()
    with clock.running():
        stack = torch.empty(1, sum(BANDS), case.scene.side_px, case.scene.side_px)
        bands = 0
        for name, scaled in (("hs", RATIO), ("ms", 1)):
            with rasterio.open(case.scene.folder / f"{name}.tif") as raster:
                for band in range(1, raster.count + 1):
                    pixels = torch.from_numpy(raster.read(band).astype(np.float32) * np.float32(1e-4))[None, None]
                    if scaled > 1:
                        kind = "bicubic" if case.stack == "cubic" else "nearest"
                        pixels = functional.interpolate(pixels, scale_factor=scaled, mode=kind)
                    stack[:, bands] = pixels[:, 0]
                    bands += 1
        image = _slide(stack, predict, mode="gaussian", overlap=0.25)
        _write_tiff(target, image)
    return _outcome(case, predict, None)


def monai_merger(case: Case, clock: Clock, work: Path, *, tuned: bool) -> Outcome:
    """MONAI's PatchInferer with ZarrAvgMerger from a Zarr array, read whole, to a Zarr array.

    tuned: chunks of our core, all bands, in place of zarr's guess.
    """
    from monai.inferers import PatchInferer, SlidingWindowSplitter, ZarrAvgMerger

    store = zarr.open_array(case.scene.stack_store(case.stack, case.core_px), mode="r")
    predict = Predictor(case)
    side = predict.tiling.window_px
    chunks: dict[str, Any] = {"chunks": (1, BANDS[0], case.core_px, case.core_px)} if tuned else {}
    target = work / "merged.zarr"
    _import_monai()
    with clock.running():
        stack = torch.from_numpy(np.asarray(store[...]))[None]
        inferer = PatchInferer(
            splitter=SlidingWindowSplitter(patch_size=(side, side), overlap=0.25),
            merger_cls=ZarrAvgMerger,
            store=str(target),
            **chunks,
        )
        with torch.inference_mode():
            merged = inferer(stack, predict)
    starts = _starts(case.scene.side_px, side, 0.25)
    return Outcome(
        computed_px=predict.computed_px,
        coverage=coverage(case.scene.side_px, [(start, start + side) for start in starts]),
        cuts=tuple(sorted({edge for start in starts for edge in (start, start + side)})),
        image=lambda: np.asarray(merged[0], np.float32),
    )


def overlap_in_memory(case: Case, clock: Clock, work: Path, *, tuned: bool) -> Outcome:  # noqa: ARG001
    """dask's map_overlap from an array to an array, one thread.

    Its defaults: no pixels beyond the scene's border, `compute()`. tuned: the border reflected as ours is, and the
    result stored into an array that is there, which saves one copy of it.
    """
    stack = np.load(case.scene.stack_path(case.stack))
    predict = Predictor(case)
    with clock.running(), dask.config.set(scheduler="synchronous"):
        fused = _overlapped(da.from_array(stack, chunks=(-1, case.core_px, case.core_px)), predict, tuned=tuned)
        if tuned:
            image: Image = np.empty(fused.shape, np.float32)
            da.store(fused, image)
        else:
            image = fused.compute()
    return _dask_outcome(case, predict, lambda: image)


def overlap_in_store(case: Case, clock: Clock, work: Path, *, tuned: bool) -> Outcome:
    """The same from a Zarr array to a Zarr array, both in chunks of our core."""
    store = case.scene.stack_store(case.stack, case.core_px)
    predict = Predictor(case)
    target = work / "overlapped.zarr"
    with clock.running(), dask.config.set(scheduler="synchronous"):
        _overlapped(da.from_zarr(store), predict, tuned=tuned).to_zarr(target)
    return _dask_outcome(case, predict, lambda: np.asarray(zarr.open_array(target, mode="r")[...]))


def coverage(side: int, rows: list[tuple[int, int]]) -> tuple[int, int]:
    """Least and largest number of windows over a pixel of a square, from the spans along one axis."""
    counts: NDArray[np.int64] = np.zeros(side, np.int64)
    for start, stop in rows:
        counts[start:stop] += 1
    return int(counts.min()) ** 2, int(counts.max()) ** 2


def _import_monai() -> None:
    """Have it import, outside of the clock, what it imports at its first call."""
    from monai.inferers import sliding_window_inference

    sliding_window_inference(torch.zeros(1, 1, 8, 8), (4, 4), 1, lambda x: x)


@torch.inference_mode()
def _slide(stack: Tensor, predict: Predictor, *, mode: str, overlap: float) -> Image:
    from monai.inferers import sliding_window_inference

    side = predict.tiling.window_px
    fused: Any = sliding_window_inference(stack, (side, side), 1, predict, overlap=overlap, mode=mode, with_coord=True)
    image: Image = fused[0].numpy()
    return image


def _overlapped(stack: da.Array, predict: Predictor, *, tuned: bool) -> da.Array:
    """map_overlap written out as its three steps, for the number of bands changes on the way."""
    halo = predict.tiling.halo_px
    depth = {0: 0, 1: halo, 2: halo}
    boundary = dict.fromkeys(depth, "reflect" if tuned else "none")
    grown = da.overlap.overlap(stack, depth=depth, boundary=boundary)

    def fuse(window: Image) -> Image:
        with torch.inference_mode():
            fused: Image = predict(torch.from_numpy(np.ascontiguousarray(window))[None])[0].numpy()
        return fused

    chunks = ((BANDS[0],), *grown.chunks[1:])
    fused = grown.map_blocks(fuse, dtype=np.float32, chunks=chunks, meta=np.empty((0, 0, 0), np.float32))
    trimmed: da.Array = da.overlap.trim_internal(fused, depth, boundary)
    return trimmed


def _outcome(case: Case, predict: Predictor, image: Image | None) -> Outcome:
    side = case.scene.side_px
    rows = sorted({(place[0].start, place[0].stop) for place in predict.places})
    return Outcome(
        computed_px=predict.computed_px,
        coverage=coverage(side, rows),
        cuts=tuple(sorted({edge for pair in rows for edge in pair})),
        image=None if image is None else lambda: image,
    )


def _dask_outcome(case: Case, predict: Predictor, image: Any) -> Outcome:
    cuts = tuple(range(0, case.scene.side_px, case.core_px))
    return Outcome(computed_px=predict.computed_px, coverage=(1, 1), cuts=cuts, image=image)


def _starts(side: int, window: int, overlap: float) -> list[int]:
    """First rows of the windows of SlidingWindowSplitter, which pads the last one."""
    step = round(window - window * overlap)
    return list(range(0, max(1, side - window + step), step))


def _write_tiff(target: Path, image: Image) -> None:
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "count": len(image),
        "height": image.shape[1],
        "width": image.shape[2],
    }
    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "interleave": "band", "compress": "zstd"}
    transform = Affine(GSD_M, 0, 4e5, 0, -GSD_M, 58e5)
    with rasterio.open(
        target, "w", dtype="int16", nodata=-32768, crs="EPSG:32633", transform=transform, **profile, **options
    ) as raster:
        for band, pixels in enumerate(image, start=1):
            raster.write(np.rint(pixels / np.float32(1e-4)).astype(np.int16), band)
