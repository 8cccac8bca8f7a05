"""A source, sinks and models of the engine's tests: analytic, picklable, importable by worker processes."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scenefuse.engine.protocols import EncodedShard, ShardReceipt
from scenefuse.errors import DataError, TransientError
from scenefuse.grid.pair_grid import PairGrid
from scenefuse.grid.window import Window
from scenefuse.models.base import UPSAMPLE_MARGIN, FusionModel, ModelCard, SceneWindow, Stage
from scenefuse.models.ref import ModelRef
from scenefuse.models.state import SceneState
from scenefuse.sensors.band import Band
from scenefuse.tiles.tiling import Tile

_DEVICE_LOST = "SCENEFUSE_TEST_DEVICE_LOST"
"""Set in the environment of a process whose device failed: nothing works in it any more."""


def grid_of(coarse_shape: tuple[int, int], ratio: int) -> PairGrid:
    return PairGrid(
        crs_wkt="EPSG:32633",
        fine_transform=(10.0, 0.0, 0.0, 0.0, -10.0, 0.0),
        coarse_shape=coarse_shape,
        ratio=ratio,
        case="ms-grid",
        hs_gsd_m=10.0 * ratio,
        ms_gsd_m=10.0,
        hs_resampled=False,
        ms_resampled=False,
    )


@dataclass(frozen=True, kw_only=True)
class AnalyticSource:
    """Two images that are a formula of the pixel's place, with holes."""

    coarse_shape: tuple[int, int]
    ratio: int
    hs_count: int = 3
    ms_count: int = 2
    hs_holes: tuple[Window, ...] = ()
    ms_holes: tuple[Window, ...] = ()
    one_band_holes: bool = False

    @property
    def grid(self) -> PairGrid:
        return grid_of(self.coarse_shape, self.ratio)

    @property
    def hs_bands(self) -> tuple[Band, ...]:
        return tuple(
            Band(name=f"h{i}", wavelength_nm=450.0 + 50 * i, gsd_m=10.0 * self.ratio) for i in range(self.hs_count)
        )

    @property
    def ms_bands(self) -> tuple[Band, ...]:
        return tuple(Band(name=f"m{i}", wavelength_nm=500.0 + 100 * i, gsd_m=10.0) for i in range(self.ms_count))

    def read_hs(self, window: Window) -> NDArray[np.float32]:
        return self._read(window, self.grid.coarse_shape, self.hs_count, self.hs_holes)

    def read_ms(self, window: Window) -> NDArray[np.float32]:
        return self._read(window, self.grid.fine_shape, self.ms_count, self.ms_holes)

    def _read(
        self, window: Window, shape: tuple[int, int], count: int, holes: tuple[Window, ...]
    ) -> NDArray[np.float32]:
        assert window == window.clip(shape), f"{window} reaches outside {shape}"
        y, x = np.mgrid[window.slices]
        pixels = np.stack([0.3 + 0.2 * np.sin(0.13 * y * (i + 1) + 0.3) * np.cos(0.17 * x + i) for i in range(count)])
        for hole in holes:
            hit = (y >= hole.y0) & (y < hole.y1) & (x >= hole.x0) & (x < hole.x1)
            pixels[(0 if self.one_band_holes else slice(None)), hit] = np.nan
        pixels = pixels.astype(np.float32)
        pixels.setflags(write=False)
        return pixels


@dataclass(frozen=True, kw_only=True)
class NpySink:
    """Cores as .npy files, each put whole; counts its writes in a log."""

    folder: Path
    delay_s: float = 0.0
    fail_at: tuple[int, int] | None = None
    failure: Literal["data", "transient", "kill", "disk", "hang", "device"] = "data"
    times: int = 10**9

    def encode(self, tile: Tile, fused: NDArray[np.float32], quality: NDArray[np.uint8]) -> tuple[EncodedShard, ...]:
        place = f"{tile.iy}/{tile.ix}"
        return _encoded(f"fused/{place}", fused), _encoded(f"quality/{place}", quality)

    def put(self, shards: Sequence[EncodedShard]) -> tuple[ShardReceipt, ...]:
        time.sleep(self.delay_s)
        if os.environ.get(_DEVICE_LOST):
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        _, iy, ix = shards[0].key.split("/")
        if (int(iy), int(ix)) == self.fail_at and self._log("failures") <= self.times:
            self._fail()
        self._log("writes", f"{iy} {ix}\n")
        return tuple(self._put(shard) for shard in shards)

    def holds(self, receipt: ShardReceipt) -> bool:
        path = self.folder / f"{receipt.key}.npy"
        if not path.exists() or path.stat().st_size != receipt.size_bytes:
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() == receipt.sha256

    def written(self) -> list[tuple[int, int]]:
        path = self.folder / "writes"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(line.split()[0]), int(line.split()[1])) for line in lines]

    def assembled(self, name: str, fine_shape: tuple[int, int], core_px: int) -> NDArray[Any]:
        first = np.load(self.folder / name / "0" / "0.npy")
        whole = np.zeros((*first.shape[:-2], *fine_shape), first.dtype)
        for path in (self.folder / name).rglob("*.npy"):
            y0, x0 = int(path.parent.name) * core_px, int(path.stem) * core_px
            core = np.load(path)
            whole[..., y0 : y0 + core.shape[-2], x0 : x0 + core.shape[-1]] = core
        return whole

    def _put(self, shard: EncodedShard) -> ShardReceipt:
        path = self.folder / f"{shard.key}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_bytes(shard.data)
        part.replace(path)
        return ShardReceipt(key=shard.key, size_bytes=len(shard.data), sha256=shard.sha256)

    def _log(self, name: str, line: str = "x\n") -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / name).open("a+") as file:
            file.write(line)
            file.flush()
            file.seek(0)
            return len(file.readlines())

    def _fail(self) -> None:
        match self.failure:
            case "data":
                raise DataError("tile", "bad", "none")
            case "transient":
                raise TransientError("store", "away", "wait")
            case "kill":
                time.sleep(0.1)
                os.kill(os.getpid(), 9)
            case "disk":
                raise OSError(28, "No space left on device")
            case "hang":
                time.sleep(600)
            case "device":
                os.environ[_DEVICE_LOST] = "1"
                raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


def _encoded(key: str, array: NDArray[Any]) -> EncodedShard:
    file = io.BytesIO()
    np.save(file, array)
    return EncodedShard(key=key, data=file.getvalue(), sha256=hashlib.sha256(file.getbuffer()).hexdigest())


class SumStage:
    """Sums of an image's squares, to be frozen by the convolution."""

    name = "fake/sums"
    where: Literal["blocks", "sample"] = "blocks"
    reduce: Literal["sum", "concat"] = "sum"
    margin = 1

    def measure(self, window: SceneWindow, state: SceneState) -> dict[str, NDArray[Any]]:
        assert np.isfinite(window.ms).all()
        m = window.margin * window.ratio
        inner = window.ms[:, m:-m, m:-m].astype(np.float64) - state.arrays["ms_mean"][:, None, None]
        return {"squares": (inner**2).sum(axis=(1, 2)), "count": np.array(float(inner[0].size))}

    def conclude(self, total: dict[str, NDArray[Any]], state: SceneState) -> SceneState:
        return state.with_(arrays={"fake/scale": np.sqrt(total["squares"] / total["count"])})


class PatchStage(SumStage):
    """The same over the sample, stacked."""

    name = "fake/patches"
    where: Literal["blocks", "sample"] = "sample"
    reduce: Literal["sum", "concat"] = "concat"

    def measure(self, window: SceneWindow, state: SceneState) -> dict[str, NDArray[Any]]:
        assert "fake/scale" in state.arrays
        return {"means": window.ms.mean(axis=(1, 2), dtype=np.float64)[None]}

    def conclude(self, total: dict[str, NDArray[Any]], state: SceneState) -> SceneState:
        return state.with_(arrays={"fake/patch_means": total["means"]})


class FakeModel:
    """Two convolutions over the MSI and the nearest coarse pixel: support of radius layers * 2 px, known exactly."""

    def __init__(self, ref: ModelRef) -> None:
        self.options = dict(ref.options)
        layers = int(self.options.get("layers", 2))
        generator = torch.Generator().manual_seed(7)
        width = 8
        shapes = [len(ref.ms_bands) + len(ref.hs_bands), *[width] * (layers - 1), len(ref.hs_bands)] if layers else []
        self.convs = [nn.Conv2d(a, b, 5, padding=2) for a, b in pairwise(shapes)]
        for conv in self.convs:
            for parameter in conv.parameters():
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        reach = 2 * layers
        self.card = ModelCard(
            name=ref.name,
            title="Fake",
            source="none",
            ratio=ref.ratio,
            hs_bands=ref.hs_bands,
            ms_bands=ref.ms_bands,
            lattice_px=int(self.options.get("lattice", 1)),
            support_px=reach + UPSAMPLE_MARGIN * ref.ratio,
            halo_px=int(self.options.get("short_halo", reach)),
            effective_px=int(self.options.get("effective", reach)),
            multiply_adds_per_pixel=400.0,
            activation_bytes_per_pixel=float(self.options.get("bytes", 200.0)),
            precisions=("fp32", "bf16"),
        )

    def stages(self) -> tuple[Stage, ...]:
        return (SumStage(), PatchStage()) if self.options.get("stages") else ()

    def to(self, device: str) -> FusionModel:
        assert device == "cpu"
        return self

    def fuse(self, hs: Tensor, ms: Tensor, state: SceneState) -> Tensor:
        if hs.shape[0] > int(self.options.get("largest_batch", 99)):
            raise RuntimeError(said) if (said := self.options.get("says")) else torch.OutOfMemoryError("fake")
        time.sleep(float(self.options.get("delay_s", 0.0)) * hs.shape[0])
        margin = UPSAMPLE_MARGIN
        up = hs[:, :, margin:-margin, margin:-margin].repeat_interleave(self.card.ratio, 2)
        up = up.repeat_interleave(self.card.ratio, 3)
        scale = state.arrays.get("fake/scale")
        if scale is not None:
            ms = ms / torch.from_numpy(scale).to(ms.dtype)[:, None, None]
        x = torch.cat([up, ms], dim=1)
        for conv in self.convs:
            x = torch.tanh(conv(x))
        fused = up + x if self.convs else up + ms.mean(dim=1, keepdim=True)
        if self.options.get("poison"):
            fused = torch.where(fused > float(self.options["poison"]), torch.inf, fused)
        return fused


def load_fake(ref: ModelRef) -> FusionModel:
    return FakeModel(ref)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Source, model and plan's size in one, for tests."""

    source: AnalyticSource
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def ref(self) -> ModelRef:
        source = self.source
        return ModelRef(
            name="fake", hs_bands=source.hs_bands, ms_bands=source.ms_bands, ratio=source.ratio, options=self.options
        )

    def with_options(self, **options: Any) -> Setting:
        return replace(self, options={**self.options, **options})
