"""Pairs with known truth for the quality benchmark: real scenes by Wald's protocol, and the demo archive.

The .mat scenes have no georeference and no wavelengths; each converter says what its file holds. The fine image is
made through four bands like IKONOS's (centre and FWHM below), the coarse one through a Gaussian of MTF 0.3.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from scenefuse.config import RunConfig
from scenefuse.cube.truth import open_truth
from scenefuse.demo.archive import DemoPair, write_demo_archive
from scenefuse.demo.size import DemoSize
from scenefuse.grid.placement import RasterGrid
from scenefuse.grid.window import Window
from scenefuse.pipeline.opening import open_aligned
from scenefuse.quality.trial import Trial, wald_trial
from scenefuse.sensors.band import Band
from scenefuse.sensors.psf import psf_sigma_px
from scenefuse.sensors.sensor import DEFAULT_MTF_NYQUIST, find_sensor
from scenefuse.simulate.wald import Image, WaldProtocol, pair_at_reduced_resolution, pair_from_reference

FINE_BANDS = ((480.0, 70.0), (550.0, 80.0), (665.0, 70.0), (805.0, 120.0))
"""Centre and FWHM in nm of the four bands of the simulated fine image."""

Reader = Callable[[Path], tuple[Image, NDArray[np.float64]]]


def jasper_ridge(root: Path) -> tuple[Image, NDArray[np.float64]]:
    """jasperRidge2_R198.mat: Y (198 bands, 10000 pixels in column order), DN; SlectBands of AVIRIS's 224."""
    content = loadmat(root / "scenes" / "jasperRidge2_R198.mat")
    cube = content["Y"].reshape(198, 100, 100, order="F")
    wavelength_nm = np.linspace(380, 2500, 224)[content["SlectBands"].ravel().astype(int) - 1]
    return scaled(cube), wavelength_nm


def samson(root: Path) -> tuple[Image, NDArray[np.float64]]:
    """samson_1.mat: V (156 bands, 9025 pixels in column order), 0 to 1; 401-889 nm."""
    return scaled(loadmat(root / "scenes" / "samson_1.mat")["V"].reshape(156, 95, 95, order="F")), np.linspace(
        401, 889, 156
    )


def pavia(root: Path) -> tuple[Image, NDArray[np.float64]]:
    """CRD_Pavia_100x100x102.mat: data (row, column, band), 0 to 1, ROSIS 430-860 nm."""
    cube = loadmat(root / "scenes" / "CRD_Pavia_100x100x102.mat")["data"].transpose(2, 0, 1)
    return scaled(cube), np.linspace(430, 860, 102)


def abu_urban(root: Path) -> tuple[Image, NDArray[np.float64]]:
    """abu-urban-1.mat: data (row, column, band), DN from -50; 204 of AVIRIS's bands, which ones it does not say."""
    return _abu(root, "abu-urban-1")


def abu_airport(root: Path) -> tuple[Image, NDArray[np.float64]]:
    """abu-airport-2.mat: likewise, 205 bands."""
    return _abu(root, "abu-airport-2")


def _abu(root: Path, name: str) -> tuple[Image, NDArray[np.float64]]:
    cube = loadmat(root / "scenes" / f"{name}.mat")["data"].transpose(2, 0, 1)
    return scaled(cube), np.linspace(400, 2500, len(cube))


def indian_pines(_: Path) -> tuple[Image, NDArray[np.float64]]:
    """tensorly's Indian Pines: (row, column, band), DN; 200 of AVIRIS's 220, water bands 104-108, 150-163, 220 gone."""
    datasets = importlib.import_module("tensorly.datasets")
    cube = np.asarray(datasets.load_indian_pines().tensor).transpose(2, 0, 1)
    water = [*range(103, 108), *range(149, 163), 219]
    return scaled(cube), np.delete(np.linspace(400, 2500, 220), water)


def scaled(cube: NDArray[np.generic]) -> Image:
    """The cube as float32 with maximum 1."""
    values = cube.astype(np.float32)
    return np.asarray(values / values.max(), np.float32)


WALD_SCENES: dict[str, Reader] = {"Jasper Ridge": jasper_ridge, "Samson": samson, "Pavia": pavia}


def wald_trials(root: Path, *, quick: bool) -> Iterator[Trial]:
    """The trials of single hyperspectral images, at ratio 4; quick: the first one only, cut to 48 pixels."""
    for name, reader in WALD_SCENES.items():
        cube, wavelength_nm = reader(root)
        yield wald_of(name, cube[:, :48, :48] if quick else cube, wavelength_nm, ratio=4)
        if quick:
            return


def trials(root: Path, work: Path, *, quick: bool) -> Iterator[Trial]:
    """Every trial whose data are there; quick: the first real scene only, cut to 48 pixels."""
    yield from wald_trials(root, quick=quick)
    if quick:
        return
    yield berlin(root)
    yield paris(root)
    yield from demo(work)


def wald_of(name: str, cube: Image, wavelength_nm: NDArray[np.float64], *, ratio: int) -> Trial:
    """A trial of one hyperspectral image, which is the truth."""
    pair = pair_from_reference(
        cube, fine_response(wavelength_nm), WaldProtocol(ratio=ratio, sigma_px=psf_sigma_px(DEFAULT_MTF_NYQUIST, ratio))
    )
    return Trial(
        name=f"{name} (Wald, r={ratio})",
        hs=pair.hs,
        ms=pair.ms,
        truth=pair.truth,
        hs_bands=tuple(Band(name=f"b{i}", wavelength_nm=float(w)) for i, w in enumerate(wavelength_nm)),
        ms_bands=tuple(Band(name=f"m{i}", wavelength_nm=c, fwhm_nm=f) for i, (c, f) in enumerate(FINE_BANDS)),
        ratio=ratio,
    )


def fine_response(wavelength_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """(fine band, hs band) weights of the Gaussian FINE_BANDS, rows summing to 1."""
    rows = [np.exp(-4 * np.log(2) * ((wavelength_nm - centre) / fwhm) ** 2) for centre, fwhm in FINE_BANDS]
    return np.array([row / row.sum() for row in rows])


def berlin(root: Path) -> Trial:
    """The real pair of Berlin at reduced resolution: EnMAP at 30 m is the truth, ratio 8, shift removed."""
    folder = root / "pairs" / "berlin"
    hs, ms = (
        str(folder / f"{name}_BerlinUrbanGradient{bands}.bsq")
        for name, bands in (("EnMAP", "_177"), ("HighResolution", ""))
    )
    return wald_trial(open_aligned(hs, ms, RunConfig(model="bicubic")).cube, "Berlin (real pair, Wald, r=8)")


def paris(root: Path) -> Trial:
    """The real pair of Paris: Hyperion at 30 m is the truth, degraded by 3; ALI at 30 m, degraded like it, is not.

    paris_data_hs_ms.mat: HSim (72, 72, 128) and MSim (72, 72, 9), (row, column, band) reflectance on one grid.
    """
    content = loadmat(root / "pairs" / "paris" / "paris_data_hs_ms.mat")
    truth, ms = (np.moveaxis(content[key], 2, 0).astype(np.float32) for key in ("HSim", "MSim"))
    hyperion, ali = find_sensor("Hyperion"), find_sensor("ALI")
    if hyperion is None or ali is None:
        raise LookupError("sensor cards of Hyperion and ALI")
    protocol = WaldProtocol(ratio=3, sigma_px=psf_sigma_px(DEFAULT_MTF_NYQUIST, 3))
    pair = pair_at_reduced_resolution(truth, np.kron(ms, np.ones((1, 3, 3), np.float32)), protocol)
    return Trial(
        name="Paris (real pair, Wald, r=3)",
        hs=pair.hs,
        ms=ms,
        truth=pair.truth,
        hs_bands=tuple(hyperion.bands[number - 1] for number in content["non_del_bands"].ravel().astype(int)),
        ms_bands=ali.bands,
        ratio=3,
    )


def demo(work: Path) -> Iterator[Trial]:
    """The three pairs of the small demo archive against their truth at 10 m, ratio 3."""
    archive = write_demo_archive(work / "archive", size=DemoSize.SMALL)
    shown = {entry["name"]: entry for entry in json.loads(archive.truth_index.read_text())["pairs"]}
    for pair in archive.pairs:
        yield trial_of(pair, f"demo {shown[pair.name]['name']} (truth, r=3)")


def first_of_demo(folder: Path, *, seed: int) -> Trial:
    """The first pair of a small demo archive of this seed, written into folder."""
    archive = write_demo_archive(folder, size=DemoSize.SMALL, seed=seed)
    return trial_of(archive.pairs[0], f"demo seed {seed}")


def trial_of(pair: DemoPair, name: str) -> Trial:
    """A pair of the demo archive with its truth."""
    cube = open_aligned(str(pair.hs_item), str(pair.ms_item), RunConfig(model="bicubic")).cube
    grid = cube.grid
    whole = Window(y0=0, y1=grid.coarse_shape[0], x0=0, x1=grid.coarse_shape[1])
    fine = whole.refine(grid.ratio)
    place = RasterGrid(crs_wkt=grid.crs_wkt, transform=grid.fine_transform, shape=grid.fine_shape, name=cube.pair_id)
    return Trial(
        name=name,
        hs=cube.read_hs(whole),
        ms=cube.read_ms(fine),
        truth=open_truth(str(pair.truth), place, cube.hs_bands).read(fine),
        hs_bands=cube.hs_bands,
        ms_bands=cube.ms_bands,
        ratio=grid.ratio,
        phase_px=grid.phase_px,
    )
