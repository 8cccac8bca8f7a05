"""Trial: a pair in memory whose truth is known, and the ways to make one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scenefuse.cube.source import PairSource
from scenefuse.errors import DataError
from scenefuse.grid.pair_grid import PairGrid
from scenefuse.grid.placement import AxisMap
from scenefuse.grid.resample import NO_PHASE, Phase
from scenefuse.grid.warp import warp_axes
from scenefuse.grid.window import Window
from scenefuse.models.observation import LEAST_COVERAGE
from scenefuse.sensors.band import Band
from scenefuse.sensors.psf import psf_sigma_px
from scenefuse.sensors.response import response_matrix
from scenefuse.sensors.sensor import DEFAULT_MTF_NYQUIST, Sensor
from scenefuse.simulate.wald import WaldProtocol, add_noise, pair_at_reduced_resolution, pair_from_reference

Image = NDArray[np.float32]
NoisyImages = Literal["both", "hs", "ms"]
"""Which images of a trial get noise."""

MOST_VALUES = 2**28
"""Most values (bands x fine pixels) in a trial, 1 GiB as float32; a larger scene is cropped to its middle."""
REFERENCE_RATIO = 4
"""Default ratio of a trial made from a single image."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """A pair whose truth is known."""

    name: str
    """Name in tables."""
    hs: Image
    """(hs band, y, x) reflectance, NaN = no data."""
    ms: Image
    """(ms band, y * ratio, x * ratio) reflectance."""
    truth: Image
    """(hs band, y * ratio, x * ratio) reflectance."""
    hs_bands: tuple[Band, ...]
    """Bands of hs and truth."""
    ms_bands: tuple[Band, ...]
    """Bands of ms."""
    ratio: int
    """Coarse pixel size / fine pixel size."""
    phase_px: Phase = NO_PHASE
    """Rows and columns by which hs lies beside the coarse grid, fine pixels."""
    scored: NDArray[np.bool_] | None = None
    """(y, x) mask over the truth of pixels that are scored, see `honest_pixels`; None for all."""

    def noisy(self, snr_db: float, seed: int, *, on: NoisyImages = "both") -> Trial:
        """The trial with white Gaussian noise on HSI, MSI or both, snr_db below each band's power; inf for none.

        The noise of one image does not depend on whether the other has any.
        """
        hs_rng, ms_rng = (np.random.default_rng([seed, stream]) for stream in (0, 1))
        hs = self.hs if on == "ms" else add_noise(self.hs, snr_db, hs_rng)
        ms = self.ms if on == "hs" else add_noise(self.ms, snr_db, ms_rng)
        return replace(self, hs=hs, ms=ms)

    def nested(self) -> Trial:
        """The trial with hs warped onto the coarse grid, as a product's is for a method that takes no phase."""
        if self.phase_px == NO_PHASE:
            return self
        down, right = (-phase / self.ratio for phase in self.phase_px)
        rows, columns = self.hs.shape[1:]
        onto = AxisMap(origin=(down, right), scale=(1.0, 1.0))
        whole = Window(y0=0, y1=rows, x0=0, x1=columns)
        hs = warp_axes(lambda window: self.hs[:, *window.slices], (rows, columns), onto, whole)
        return replace(self, hs=hs, phase_px=NO_PHASE)


@dataclass(frozen=True, slots=True, eq=False)
class TrialSource:
    """A trial as a source that the engine can read; it is not georeferenced, and fine pixels are 1 m wide."""

    trial: Trial
    """The trial to read."""

    @property
    def grid(self) -> PairGrid:
        """The two aligned grids."""
        rows, columns = self.trial.hs.shape[1:]
        return PairGrid(
            crs_wkt="",
            fine_transform=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
            coarse_shape=(rows, columns),
            ratio=self.trial.ratio,
            case="ms-grid",
            hs_gsd_m=float(self.trial.ratio),
            ms_gsd_m=1.0,
            hs_resampled=False,
            ms_resampled=False,
            phase_px=self.trial.phase_px,
        )

    @property
    def hs_bands(self) -> tuple[Band, ...]:
        """Bands of read_hs."""
        return self.trial.hs_bands

    @property
    def ms_bands(self) -> tuple[Band, ...]:
        """Bands of read_ms."""
        return self.trial.ms_bands

    def read_hs(self, window: Window) -> Image:
        """(hs band, y, x) reflectance of a coarse window inside the scene."""
        return self.trial.hs[:, *window.slices]

    def read_ms(self, window: Window) -> Image:
        """(ms band, y, x) reflectance of a fine window inside the scene."""
        return self.trial.ms[:, *window.slices]


def wald_trial(
    source: PairSource, name: str, *, ratio: int | None = None, mtf_nyquist: float = DEFAULT_MTF_NYQUIST
) -> Trial:
    """Make a trial from a pair at reduced resolution, with its HSI as the truth (Wald's protocol).

    The MSI is degraded by the pair's own ratio to the HSI's grid, the HSI by `ratio` (None: the pair's own), both with
    a Gaussian of mtf_nyquist. A scene of more than MOST_VALUES values is cropped to its middle.
    """
    own = source.grid.ratio
    ratio = own if ratio is None else ratio
    middle = middle_of(source)
    protocol = WaldProtocol(ratio=ratio, sigma_px=psf_sigma_px(mtf_nyquist, ratio))
    pair = pair_at_reduced_resolution(
        source.read_hs(middle),
        source.read_ms(middle.refine(own)),
        protocol,
        ms_sigma_px=psf_sigma_px(mtf_nyquist, own),
        phase_px=source.grid.phase_px,
    )
    return Trial(
        name=name,
        hs=pair.hs,
        ms=pair.ms,
        truth=pair.truth,
        hs_bands=source.hs_bands,
        ms_bands=source.ms_bands,
        ratio=ratio,
    )


def reference_trial(
    name: str,
    reference: Image,
    hs_bands: Sequence[Band],
    ms_sensor: Sensor,
    *,
    ratio: int | None = None,
    mtf_nyquist: float = DEFAULT_MTF_NYQUIST,
) -> Trial:
    """Make a trial from one hyperspectral image, the truth, as a coarse instrument and ms_sensor would see it.

    reference: (hs band, y, x) reflectance. The MSI has the bands of ms_sensor that the HSI covers: `covered_bands`.
    """
    ratio = REFERENCE_RATIO if ratio is None else ratio
    ms_bands, response = covered_bands(name, hs_bands, ms_sensor)
    protocol = WaldProtocol(ratio=ratio, sigma_px=psf_sigma_px(mtf_nyquist, ratio))
    pair = pair_from_reference(reference, response, protocol)
    return Trial(
        name=name,
        hs=pair.hs,
        ms=pair.ms,
        truth=pair.truth,
        hs_bands=tuple(hs_bands),
        ms_bands=ms_bands,
        ratio=ratio,
    )


def covered_bands(
    name: str, hs_bands: Sequence[Band], ms_sensor: Sensor
) -> tuple[tuple[Band, ...], NDArray[np.float64]]:
    """Bands of ms_sensor with at least LEAST_COVERAGE of their response within hs_bands, and that response.

    The response is (ms band, hs band). DataError if there are no such bands; name is the HSI's.
    """
    response = response_matrix(hs_bands, ms_sensor.bands)
    covered = [index for index, share in enumerate(response.coverage) if share >= LEAST_COVERAGE]
    if not covered:
        raise DataError(
            f"{name} covers no band of {ms_sensor.name} to {LEAST_COVERAGE:.0%}",
            "no multispectral image can be made of it",
            "Give another --ms-sensor; `scenefuse sensors` lists them",
        )
    return tuple(ms_sensor.bands[index] for index in covered), response.matrix[covered]


def middle_of(source: PairSource, *, truth: bool = False) -> Window:
    """The coarse window in the middle of the scene that holds at most MOST_VALUES values.

    truth: whether a truth on the fine grid is read as well; it has the most values of all.
    """
    hs, ms = len(source.hs_bands), len(source.ms_bands)
    return middle_window(source.grid.coarse_shape, hs + (ms + (hs if truth else 0)) * source.grid.ratio**2)


def reduced_middle(source: PairSource, name: str, ratio: int) -> Window:
    """`middle_of` without the last rows and columns that fill no pixel at reduced resolution; DataError if it is empty.

    ratio: the factor that degrades the HSI; name: the pair's.
    """
    middle = middle_of(source)
    rows, columns = (side // ratio * ratio for side in middle.shape)
    if min(rows, columns) < 1:
        raise DataError(
            f"{name} has {middle.shape[0]} x {middle.shape[1]} coarse pixels, at ratio {ratio}",
            "degraded by it, the HSI would not keep a single pixel",
            "Give a smaller --ratio, --truth RASTER, or leave the pair out",
        )
    return replace(middle, y1=middle.y0 + rows, x1=middle.x0 + columns)


def middle_window(shape: tuple[int, int], values_per_pixel: float) -> Window:
    """The window in the middle of an image of this shape that holds at most MOST_VALUES values."""
    rows, columns = shape
    share = min(1.0, (MOST_VALUES / (rows * columns * values_per_pixel)) ** 0.5)
    height, width = max(1, int(rows * share)), max(1, int(columns * share))
    top, left = (rows - height) // 2, (columns - width) // 2
    return Window(y0=top, y1=top + height, x0=left, x1=left + width)
