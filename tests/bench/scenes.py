"""Pairs with known truth for the quality benchmark: real scenes by Wald's protocol, and the demo archive.

The .mat scenes have no georeference and no wavelengths; each converter says what its file holds. The fine image is
made through four bands like IKONOS's (centre and FWHM below), the coarse one through a Gaussian of MTF 0.3.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from scenefuse.archive.source import load_scene
from scenefuse.config import RunConfig
from scenefuse.cube.image import Choice, open_image
from scenefuse.demo.archive import write_demo_archive
from scenefuse.demo.plan import DemoSize
from scenefuse.grid.window import Window
from scenefuse.pipeline.opening import open_aligned
from scenefuse.quality.methods import Trial, wald_trial
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


def scaled(cube: NDArray[np.generic]) -> Image:
    """The cube as float32 with maximum 1."""
    values = cube.astype(np.float32)
    return np.asarray(values / values.max(), np.float32)


WALD_SCENES: dict[str, Reader] = {"Jasper Ridge": jasper_ridge, "Samson": samson, "Pavia": pavia}


def trials(root: Path, work: Path, *, quick: bool) -> Iterator[Trial]:
    """Every trial whose data are there; quick: the first real scene only, cut to 48 pixels."""
    for name, reader in WALD_SCENES.items():
        cube, wavelength_nm = reader(root)
        yield wald_of(name, cube[:, :48, :48] if quick else cube, wavelength_nm, ratio=4)
        if quick:
            return
    yield berlin(root)
    yield paris(root)
    yield from demo(work)


def wald_of(name: str, cube: Image, wavelength_nm: NDArray[np.float64], *, ratio: int) -> Trial:
    """A trial of one hyperspectral image, which is the truth."""
    rows = [np.exp(-4 * np.log(2) * ((wavelength_nm - centre) / fwhm) ** 2) for centre, fwhm in FINE_BANDS]
    srf = np.array([row / row.sum() for row in rows])
    pair = pair_from_reference(cube, srf, WaldProtocol(ratio=ratio, sigma_px=psf_sigma_px(DEFAULT_MTF_NYQUIST, ratio)))
    return Trial(
        name=f"{name} (Wald, r={ratio})",
        hs=pair.hs,
        ms=pair.ms,
        truth=pair.truth,
        hs_bands=tuple(Band(name=f"b{i}", wavelength_nm=float(w)) for i, w in enumerate(wavelength_nm)),
        ms_bands=tuple(Band(name=f"m{i}", wavelength_nm=c, fwhm_nm=f) for i, (c, f) in enumerate(FINE_BANDS)),
        ratio=ratio,
    )


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
        cube = open_aligned(str(pair.hs_item), str(pair.ms_item), RunConfig(model="bicubic")).cube
        rows, columns = cube.grid.coarse_shape
        whole = Window(y0=0, y1=rows, x0=0, x1=columns)
        reference = open_image(load_scene(str(pair.truth)), "hsi", Choice())
        names = [band.name for band in reference.bands]
        place = np.linalg.inv(reference.grids[0].matrix) @ np.array([*cube.grid.fine_transform, 0, 0, 1]).reshape(3, 3)
        column, row = (round(float(step)) for step in place[:2, 2])
        fine = whole.refine(cube.grid.ratio)
        there = Window(y0=fine.y0 + row, y1=fine.y1 + row, x0=fine.x0 + column, x1=fine.x1 + column)
        yield Trial(
            name=f"demo {shown[pair.name]['name']} (truth, r=3)",
            hs=cube.read_hs(whole),
            ms=cube.read_ms(fine),
            truth=reference.read([names.index(band.name) for band in cube.hs_bands], there),
            hs_bands=cube.hs_bands,
            ms_bands=cube.ms_bands,
            ratio=cube.grid.ratio,
        )
