"""A scene of any size: a drawn block over and over under a changing light, as COGs, as Zarr stores and as arrays.

Without the light every window would see the same statistics, and the mistake of taking a window's would not show.

Rivals want both images on one grid. They get the HSI upsampled once and stacked with the MSI as channels, made here
outside of all timings: by cubic convolution for the networks of this benchmark, which see the HSI upsampled only; by
repetition for the product's own, which take the coarse pixels, and to which a rival's predictor gives them back.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import zarr
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from scenefuse.config import RunConfig
from scenefuse.cube.pair import PairCube
from scenefuse.demo.cog import publish_cube
from scenefuse.grid.borders import read_mirrored
from scenefuse.grid.pair_grid import PairGrid
from scenefuse.grid.resample import UPSAMPLE_REACH, upsample
from scenefuse.grid.window import Window
from scenefuse.pipeline.opening import open_pair
from scenefuse.sensors.band import Band
from tests.models.classical_pairs import IKONOS_LIKE, drawn_pair

RATIO = 4
HS_NM = tuple(float(nm) for nm in np.linspace(450, 880, 31))
MS_NM = IKONOS_LIKE
BANDS = (len(HS_NM), len(MS_NM))
"""HSI bands, MSI bands."""
BLOCK_PX = 512
GSD_M = 10.0
NODATA = -32768

Image = NDArray[np.float32]
Files = Literal["cog", "zarr"]
Stack = Literal["cubic", "repeated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchScene:
    """A square scene in a folder of its own; every file is made at first need. Picklable."""

    folder: Path
    """Where its files are."""
    side_px: int
    """Fine pixels a side, a multiple of RATIO."""

    @property
    def mpx(self) -> float:
        """Area in millions (2^20) of fine pixels."""
        return self.side_px**2 / 2**20

    def open(self, files: Files) -> PairCube:
        """The pair as the product opens it."""
        suffix = {"cog": "tif", "zarr": "zarr"}[files]
        paths = [self.folder / f"{name}.{suffix}" for name in ("hs", "ms")]
        if not all(path.exists() for path in paths):
            self._write(files)
        return open_pair(paths[0], paths[1], config=RunConfig(register=False))

    def arrays(self) -> tuple[Image, Image]:
        """HSI and MSI as float32 reflectance, (band, y, x), in memory."""
        paths = [self.folder / f"{name}.npy" for name in ("hs", "ms")]
        if not all(path.exists() for path in paths):
            cube = self.open("cog")
            np.save(paths[0], cube.read_hs(_everything(cube.grid.coarse_shape)))
            np.save(paths[1], cube.read_ms(_everything(cube.grid.fine_shape)))
        hs, ms = (np.load(path) for path in paths)
        return hs, ms

    def stack_path(self, kind: Stack) -> Path:
        """File of the HSI on the fine grid and the MSI as channels of one array, (hs + ms band, y, x) float32."""
        path = self.folder / f"stack-{kind}.npy"
        if not path.exists():
            part = path.with_suffix(".part.npy")
            np.save(part, stacked(*self.arrays(), kind))
            part.rename(path)
        return path

    def stack_store(self, kind: Stack, chunk_px: int) -> Path:
        """The same as a Zarr array of chunks of (all bands, chunk_px, chunk_px)."""
        path = self.folder / f"stack-{kind}-{chunk_px}.zarr"
        if not path.exists():
            stack = np.load(self.stack_path(kind), mmap_mode="r")
            part = path.with_suffix(".part.zarr")
            store = zarr.create_array(part, shape=stack.shape, chunks=(len(stack), chunk_px, chunk_px), dtype="f4")
            for y in range(0, self.side_px, chunk_px):
                store[:, y : y + chunk_px] = stack[:, y : y + chunk_px]
            part.rename(path)
        return path

    def _write(self, files: Files) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        block = min(BLOCK_PX, self.side_px)
        images = drawn_pair(RATIO, coarse_side=block // RATIO, hs_bands=BANDS[0], ms_bands=BANDS[1])
        for name, image, ratio in (("hs", images[0], RATIO), ("ms", images[1], 1)):
            columns = np.tile(image, (1, 1, -(-self.side_px // block)))[:, :, : self.side_px // ratio]
            write = _write_cog if files == "cog" else _write_store
            write(self.folder, name, columns, ratio=ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySource:
    """Two images in memory as the engine's Source."""

    hs: Image
    """(hs band, y, x)."""
    ms: Image
    """(ms band, y * RATIO, x * RATIO)."""

    @property
    def grid(self) -> PairGrid:
        """The two aligned grids."""
        return PairGrid(
            crs_wkt="EPSG:32633",
            fine_transform=(GSD_M, 0.0, 0.0, 0.0, -GSD_M, 0.0),
            coarse_shape=(self.hs.shape[1], self.hs.shape[2]),
            ratio=RATIO,
            case="ms-grid",
            hs_gsd_m=GSD_M * RATIO,
            ms_gsd_m=GSD_M,
            hs_resampled=False,
            ms_resampled=False,
        )

    @property
    def hs_bands(self) -> tuple[Band, ...]:
        """Bands of read_hs."""
        return tuple(Band(name=f"h{i}", wavelength_nm=nm, gsd_m=GSD_M * RATIO) for i, nm in enumerate(HS_NM))

    @property
    def ms_bands(self) -> tuple[Band, ...]:
        """Bands of read_ms."""
        bands = enumerate(MS_NM)
        return tuple(Band(name=f"m{i}", wavelength_nm=nm, fwhm_nm=fwhm, gsd_m=GSD_M) for i, (nm, fwhm) in bands)

    def read_hs(self, window: Window) -> Image:
        """(hs band, y, x) of a coarse window inside the scene: a view."""
        return self.hs[(slice(None), *window.slices)]

    def read_ms(self, window: Window) -> Image:
        """(ms band, y, x) of a fine window inside the scene: a view."""
        return self.ms[(slice(None), *window.slices)]


def stacked(hs: Image, ms: Image, kind: Stack) -> Image:
    """Both images on the fine grid as channels of one array, (hs + ms band, y, x): the HSI's come first."""
    stack: Image = np.empty((len(hs) + len(ms), *ms.shape[1:]), np.float32)
    for band, pixels in enumerate(hs):
        stack[band] = _on_fine_grid(pixels[np.newaxis], kind)[0]
    stack[len(hs) :] = ms
    return stack


def _on_fine_grid(band: Image, kind: Stack) -> Image:
    """A band (1, y, x) on the fine grid."""
    if kind == "repeated":
        return band.repeat(RATIO, axis=1).repeat(RATIO, axis=2)

    def read(window: Window) -> Image:
        return band[(slice(None), *window.slices)]

    grown = _everything(band.shape[1:]).grow(UPSAMPLE_REACH)
    return upsample(read_mirrored(read, grown, (band.shape[1], band.shape[2])), RATIO)


def _everything(shape: Sequence[int]) -> Window:
    return Window(y0=0, y1=shape[0], x0=0, x1=shape[1])


def _lit(rows: Image, y: int, ratio: int) -> NDArray[np.int16]:
    """Reflectance * 1e4 of a row of blocks whose first pixel row is y, in a light of 0.6 to 1.4."""
    side = rows.shape[2]
    part = rows[:, : side - y]
    fine_y, fine_x = ((start + np.arange(size) + 0.5) * ratio for start, size in ((y, part.shape[1]), (0, side)))
    light = 1 + 0.4 * np.sin(fine_y / 190 + 1)[:, np.newaxis] * np.cos(fine_x / 230)
    numbers: NDArray[np.int16] = np.rint(part * light.astype(np.float32) * np.float32(1e4)).astype(np.int16)
    return numbers


def _write_cog(folder: Path, name: str, rows: Image, *, ratio: int) -> None:
    """A COG with wavelengths: a row of blocks repeated downwards until the image is square."""
    draft = folder / f"draft-{name}.tif"
    bands, height, side = rows.shape
    transform = Affine(GSD_M * ratio, 0, 4e5, 0, -GSD_M * ratio, 58e5)
    profile: dict[str, Any] = {"count": bands, "height": side, "width": side, "dtype": "int16", "nodata": NODATA}
    tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128, "interleave": "band"}
    with rasterio.open(draft, "w", driver="GTiff", crs="EPSG:32633", transform=transform, **profile, **tiles) as raster:
        for y in range(0, side, height):
            part = _lit(rows, y, ratio)
            raster.write(part, window=RasterWindow(0, y, side, part.shape[1]))
        raster.scales = [1e-4] * bands
        for index, nm in enumerate(_nanometres(name), start=1):
            raster.set_band_description(index, f"B{index:02d}")
            raster.update_tags(index, wavelength=str(nm), wavelength_units="Nanometers", fwhm=str(_fwhm(name, index)))
    publish_cube(draft, folder / f"{name}.tif")


def _write_store(folder: Path, name: str, rows: Image, *, ratio: int) -> None:
    """A Zarr store as xarray reads it, chunks of (all bands, 256, 256)."""
    part = folder / f"{name}.part.zarr"
    shutil.rmtree(part, ignore_errors=True)
    bands, height, side = rows.shape
    root = zarr.create_group(part)
    array = root.create_array(
        "reflectance",
        shape=(bands, side, side),
        chunks=(bands, 256, 256),
        dtype="i2",
        dimension_names=("band", "y", "x"),
        attributes={"scale_factor": 1e-4, "add_offset": 0.0, "_FillValue": NODATA, "grid_mapping": "spatial_ref"},
    )
    for y in range(0, side, height):
        array[:, y : y + height] = _lit(rows, y, ratio)
    wavelengths = root.create_array("wavelength_nm", shape=(bands,), dtype="f8", dimension_names=("band",))
    wavelengths[:] = np.array(_nanometres(name))
    root.attrs["coordinates"] = "wavelength_nm"
    gsd_m = GSD_M * ratio
    root.create_array(
        "spatial_ref",
        shape=(),
        dtype="i4",
        attributes={
            "crs_wkt": rasterio.CRS.from_epsg(32633).to_wkt(),
            "GeoTransform": f"400000 {gsd_m} 0 5800000 0 {-gsd_m}",
        },
    )
    part.rename(folder / f"{name}.zarr")


def _nanometres(name: str) -> tuple[float, ...]:
    return HS_NM if name == "hs" else tuple(nm for nm, _ in MS_NM)


def _fwhm(name: str, index: int) -> float:
    return 1.2 * (HS_NM[1] - HS_NM[0]) if name == "hs" else MS_NM[index - 1][1]
