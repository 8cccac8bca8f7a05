"""A close look at a small part of a product: beside both inputs, pixel by pixel, spectrum by spectrum.

The amount read does not grow with the scene: one window, a few bands at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from scenefuse.cube.source import PairSource
from scenefuse.cube.truth import Truth
from scenefuse.grid.resample import degrade_reach_px
from scenefuse.grid.window import Window
from scenefuse.metrics.with_reference import ReferenceSums
from scenefuse.metrics.without_reference import seen_by_ms
from scenefuse.models.state import SceneState
from scenefuse.product.reading import StoredProduct
from scenefuse.product.true_colour import rgb_bands
from scenefuse.quality.picture import dark_to_bright
from scenefuse.quality.product_scores import bands_seen, read_degraded

Image = NDArray[np.float32]

SIDE_PX = 256
"""Longest side of the part, fine pixels."""
LEAST_GAIN = 0.1
"""MSI / HSI gain below which a gain counts as unknown: the band was not found in the HSI."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spectra:
    """Spectra of one pixel of the product, its inputs and the truth."""

    row: int
    """Row of the fine pixel in the product."""
    column: int
    """Its column."""
    fused: Image
    """(hs band,) reflectance."""
    hs: Image | None
    """(hs band,) reflectance of the coarse pixel around it; None if the inputs were not read."""
    ms: Image | None
    """(ms band,) reflectance of the same pixel, corrected for gain and offset to the HSI; None likewise."""
    truth: Image | None
    """(hs band,) reflectance of the same pixel; None without a truth."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detail:
    """The part as a report shows it."""

    window: Window
    """Its window, fine pixels, on multiples of the ratio."""
    fused: Image
    """(3, y, x) reflectance in red, green and blue."""
    hs: Image | None
    """(3, y, x) reflectance of the HSI, coarse pixels; None if the inputs were not read."""
    ms: Image | None
    """(3, y, x) reflectance of the MSI; None likewise."""
    points: tuple[Spectra, ...]
    """Pixels without flags, dark to bright; empty if there are none."""
    spectral: ReferenceSums | None
    """Scores of the product, degraded by the state's PSF, against the HSI; None if the inputs were not read."""
    spatial: ReferenceSums | None
    """Scores of the product, seen through the MSI's response, against the bands `seen`; None if there are none."""
    seen: NDArray[np.bool_] | None
    """(ms band,) mask of bands that are sharp and covered by the HSI; None if the inputs were not read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lens:
    """A product and everything it can be compared with."""

    product: StoredProduct
    """The product."""
    state: SceneState
    """State of its scene: response and PSF."""
    source: PairSource | None = None
    """Its inputs, if they can be read."""
    truth: Truth | None = None
    """A truth on its grid, if there is one."""

    def look(self, overview: Image, factor: int) -> Detail:
        """Look at the part with the most texture.

        overview: (3, y, x) of the whole product; factor: fine pixels per pixel of it, along each axis.
        """
        product, ratio = self.product, self.product.ratio
        window = choose_window(overview, factor, shape=product.grid.shape, ratio=ratio)
        coarse = window.coarsen(ratio)
        hs = None if self.source is None else self.source.read_hs(coarse)
        ms = None if self.source is None else self.source.read_ms(window)
        rgb = np.concatenate([product.read(window, slice(band, band + 1)) for band in rgb_bands(product.bands)])
        places = _places(rgb, product.read_flags(window), hs, ratio)
        fused = np.full((len(product.bands), len(places)), np.nan, np.float32)
        low = None if hs is None else np.empty_like(hs)
        srf = np.asarray(self.state.arrays["srf"], np.float64)
        seen = None if ms is None else np.zeros(ms.shape, np.float32)
        sigma_px = float(self.state.facts["psf_sigma_px"])
        around = coarse.grow(-(-degrade_reach_px(ratio, sigma_px) // ratio)).refine(ratio).clip(product.grid.shape)
        for bands in _groups(product):
            pixels = product.read(around, bands)
            core = pixels[(slice(None), *window.within(around))]
            fused[bands] = core[:, [y for y, _ in places], [x for _, x in places]]
            if low is not None and seen is not None:
                read = partial(_part, pixels, around)
                low[bands] = read_degraded(
                    read,
                    coarse,
                    shape=product.grid.shape,
                    ratio=ratio,
                    sigma_px=sigma_px,
                    phase_px=self.state.phase_px,
                )
                seen += seen_by_ms(core, srf[:, bands])
        truth = None if self.truth is None or not places else self.truth.read(window)
        points = tuple(
            Spectra(
                row=window.y0 + y,
                column=window.x0 + x,
                fused=fused[:, number],
                hs=None if hs is None else hs[:, y // ratio, x // ratio],
                ms=None if ms is None else self._in_terms_of_hs(ms[:, y, x]),
                truth=None if truth is None else truth[:, y, x],
            )
            for number, (y, x) in enumerate(places)
        )
        counted = None if self.source is None else bands_seen(self.source.ms_bands, self.state)
        return Detail(
            window=window,
            fused=rgb,
            hs=None if hs is None else hs[list(rgb_bands(product.bands))],
            ms=None if ms is None or self.source is None else ms[list(rgb_bands(self.source.ms_bands))],
            points=points,
            spectral=None if hs is None or low is None else ReferenceSums(ratio=ratio, local=False).add(low, hs),
            spatial=None if ms is None or seen is None or counted is None else self._spatial(seen, ms, counted),
            seen=counted,
        )

    def _in_terms_of_hs(self, ms: Image) -> Image:
        """Remove gain and offset against the HSI from (ms band,) values; bands without a known gain are unchanged."""
        gain, offset = (self.state.arrays.get(f"observation/{name}") for name in ("gain", "offset"))
        if gain is None or offset is None:
            return ms
        known = np.isfinite(gain) & (gain > LEAST_GAIN)
        return np.where(known, (ms - offset) / np.where(known, gain, 1.0), ms).astype(np.float32)

    def _spatial(self, seen: Image, ms: Image, counted: NDArray[np.bool_]) -> ReferenceSums | None:
        """Sums over the bands that count, after applying gain and offset between the two instruments."""
        if not counted.any():
            return None
        gain, offset = (self.state.arrays.get(f"observation/{name}") for name in ("gain", "offset"))
        matched = seen_by_ms(seen, np.eye(len(seen)), gain=gain, offset=offset)
        return ReferenceSums(ratio=1, local=False).add(matched[counted], ms[counted])


def choose_window(overview: Image, factor: int, *, shape: tuple[int, int], ratio: int) -> Window:
    """The window with data and the most texture, at most SIDE_PX a side, on multiples of ratio; the first if tied.

    Texture is the mean step between neighbours in the overview (3, y, x); a step without data counts as zero.
    """
    sides = [min(side, SIDE_PX // ratio * ratio) for side in shape]
    brightness = overview.mean(axis=0)
    steps = np.zeros_like(brightness)
    steps[1:] += np.abs(np.diff(brightness, axis=0))
    steps[:, 1:] += np.abs(np.diff(brightness, axis=1))
    steps[~np.isfinite(steps)] = 0.0
    candidates = [
        Window(y0=y0, y1=y0 + sides[0], x0=x0, x1=x0 + sides[1])
        for y0 in _starts(shape[0], sides[0], ratio)
        for x0 in _starts(shape[1], sides[1], ratio)
    ]

    def texture(window: Window) -> float:
        part = steps[window.y0 // factor : -(-window.y1 // factor), window.x0 // factor : -(-window.x1 // factor)]
        return float(part.mean())

    return max(candidates, key=texture)


def _starts(length: int, side: int, ratio: int) -> list[int]:
    """Possible starts of windows of that side along an axis: every half side, and one that ends at the axis' end."""
    step = max(ratio, side // 2 // ratio * ratio)
    return sorted({*range(0, length - side, step), length - side})


def _places(rgb: Image, flags: NDArray[np.uint8], hs: Image | None, ratio: int) -> tuple[tuple[int, int], ...]:
    """Rows and columns in the window of the pixels whose spectra are shown, dark to bright."""
    usable = (flags == 0) & np.isfinite(rgb).all(axis=0)
    if hs is not None:
        usable &= np.isfinite(hs).all(axis=0).repeat(ratio, axis=0).repeat(ratio, axis=1)
    return dark_to_bright(np.where(usable, rgb.mean(axis=0), np.nan))


def _part(pixels: Image, held: Window, window: Window) -> Image:
    """Cut a window out of pixels (band, y, x) that cover the window held."""
    return pixels[(slice(None), *window.within(held))]


def _groups(product: StoredProduct) -> Iterator[slice]:
    """Slices of bands that are decoded together."""
    count, step = len(product.bands), product.band_chunk
    return (slice(first, min(first + step, count)) for first in range(0, count, step))
