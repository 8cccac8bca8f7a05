"""Pairs for the tests of the classical methods: drawn by formula, or real scenes degraded by Wald's protocol."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from scenefuse.grid.borders import mirror_indices
from scenefuse.grid.resample import degrade, degrade_reach_px
from scenefuse.models.base import FusionModel
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import load_model
from scenefuse.sensors.band import Band

Image = NDArray[np.float32]

CLASSICAL = ("bicubic", "gsa", "sfim", "mtf-glp-hs", "cnmf", "hysure-l2")
IKONOS_LIKE = ((480.0, 70.0), (550.0, 80.0), (665.0, 70.0), (805.0, 120.0))
"""Centre and FWHM in nm of four bands."""


def bands(count: int, prefix: str) -> tuple[Band, ...]:
    return tuple(Band(name=f"{prefix}{index}") for index in range(count))


def model_for(name: str, hs: Image, ms: Image, ratio: int) -> FusionModel:
    return load_model(ModelRef(name=name, hs_bands=bands(len(hs), "h"), ms_bands=bands(len(ms), "m"), ratio=ratio))


def mirrored(image: Image, px: int) -> Image:
    rows = mirror_indices(-px, image.shape[1] + px, image.shape[1])
    columns = mirror_indices(-px, image.shape[2] + px, image.shape[2])
    return np.ascontiguousarray(image[:, rows[:, None], columns])


def observe(truth: Image, ratio: int, sigma_px: float, srf: NDArray[np.float64]) -> tuple[Image, Image]:
    """Wald's protocol: the coarse and the fine image that two instruments would see of the truth."""
    hs = degrade(mirrored(truth, degrade_reach_px(ratio, sigma_px)), ratio, sigma_px)
    return hs, np.einsum("jb,byx->jyx", srf, truth).astype(np.float32)


def gaussian_srf(wavelength_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = [np.exp(-4 * np.log(2) * ((wavelength_nm - centre) / fwhm) ** 2) for centre, fwhm in IKONOS_LIKE]
    return np.array([row / row.sum() for row in rows])


@cache
def drawn_scene(side: int = 96, hs_bands: int = 12, seed: int = 3) -> Image:
    """Fields with hard edges, texture and three materials, (band, y, x) reflectance in (0, 1)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / 16.0
    weights = np.stack([np.sin(x * 1.7) * np.cos(y) > 0, np.hypot(x - 3, y - 2) < 2, np.ones_like(x)]).astype(float)
    weights += 0.15 * random.random(weights.shape)
    weights /= weights.sum(axis=0)
    wavelength = np.linspace(0, 1, hs_bands)
    spectra = np.stack([0.1 + 0.4 * wavelength, 0.5 - 0.3 * wavelength**2, 0.2 + 0.2 * np.sin(5 * wavelength)])
    scene: Image = np.einsum("kb,kyx->byx", spectra, weights).astype(np.float32)
    return scene


def drawn_pair(ratio: int, *, coarse_side: int, hs_bands: int = 12, ms_bands: int = 4) -> tuple[Image, Image]:
    truth = drawn_scene(coarse_side * ratio, hs_bands)
    srf = np.kron(np.eye(ms_bands), np.ones(-(-hs_bands // ms_bands)))[:, :hs_bands]
    return observe(truth, ratio, 0.45 * ratio, srf / srf.sum(axis=1, keepdims=True))


def real_scene(folder: Path, name: str) -> tuple[Image, NDArray[np.float64]]:
    """A scene scaled to a maximum of 1, cropped to multiples of 4 pixels, and its wavelengths in nm."""
    scenes = folder / "scenes"
    if name == "jasper":
        cube = loadmat(scenes / "jasperRidge2_R198.mat")["Y"].reshape(198, 100, 100, order="F")
        dropped = [*range(3), *range(107, 112), *range(153, 166), *range(219, 224)]
        wavelength_nm = np.delete(np.linspace(380, 2500, 224), dropped)
    elif name == "samson":
        cube = loadmat(scenes / "samson_1.mat")["V"].reshape(156, 95, 95, order="F")
        wavelength_nm = np.linspace(401, 889, 156)
    elif name == "pavia":
        images = loadmat(scenes / "CRD_Pavia_100x100x102.mat").values()
        cube = max((a for a in images if getattr(a, "ndim", 0) == 3), key=np.size).transpose(2, 0, 1)
        wavelength_nm = np.linspace(430, 860, len(cube))
    else:
        cube = loadmat(scenes / "abu-urban-1.mat")["data"].transpose(2, 0, 1)
        wavelength_nm = np.linspace(380, 2500, len(cube))
    side = min(cube.shape[1:]) // 4 * 4
    scaled = cube[:, :side, :side].astype(np.float32) / np.float32(cube.max())
    return np.ascontiguousarray(scaled), wavelength_nm
