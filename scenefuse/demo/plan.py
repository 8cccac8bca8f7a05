"""What the demo archive holds: which instrument looks where and when, and what each scene demonstrates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from scenefuse.demo.size import DemoSize
from scenefuse.grid.transform import Transform
from scenefuse.grid.window import Window
from scenefuse.sensors.sensor import Role
from scenefuse.simulate.instrument import Instrument, enmap_like, enmap_truth, sentinel2_like
from scenefuse.simulate.landscape import Landscape
from scenefuse.simulate.mixture import FINE_M
from scenefuse.simulate.site import varied_window

CRS = "EPSG:32633"
"""CRS of every scene: UTM zone 33 north."""
ORIGIN_M = (330_000.0, 5_850_000.0)
"""Easting and northing of the north-western corner of the landscape's pixel (0, 0)."""
_FIRST_DAY = datetime(2024, 6, 4, 10, 15, tzinfo=UTC)
_CLOUDY = 0.8
_SEARCH_PX = 600
"""Fine pixels by which the ground searched for a site is larger than its scenes."""
_APART_PX = 600
"""Fine pixels between the grounds of two sites: more than any scene is moved relative to its pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swath:
    """The strip of ground that a pushbroom scene shows; the rest of its raster is no data."""

    half_width: float
    """Half the strip's width, as a share of the raster's side."""
    west_per_south: float
    """Columns that the strip's middle moves west with each row south."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoScene:
    """One acquisition of the archive."""

    id: str
    """STAC item id."""
    role: Role
    """EnMAP-like or Sentinel-2-like."""
    extent: Window
    """Fine pixels of the landscape that its raster covers; whole pixels of its coarsest band."""
    acquired: datetime
    """Time of acquisition, UTC."""
    cloud_fraction: float
    """Cloud cover that its metadata state, 0 to 1."""
    shift_px: tuple[float, float] = (0.0, 0.0)
    """Misregistration: fine pixels (south, east) from where its georeference puts the ground to where the ground is."""
    swath: Swath | None = None
    """The strip with data; None when the whole raster has data."""

    def transform(self, ratio: int) -> Transform:
        """Affine from (column, row) of pixels of ratio fine pixels to metres in CRS."""
        pixel_m = ratio * FINE_M
        west_m = ORIGIN_M[0] + self.extent.x0 * FINE_M
        north_m = ORIGIN_M[1] - self.extent.y0 * FINE_M
        return pixel_m, 0.0, west_m, 0.0, -pixel_m, north_m

    def shape(self, ratio: int) -> tuple[int, int]:
        """Rows and columns in pixels of ratio fine pixels."""
        return self.extent.shape[0] // ratio, self.extent.shape[1] // ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSite:
    """Scenes of the same ground at the same time of year, simulated together."""

    name: str
    """Name in file names: `1-nested`."""
    shows: str
    """What it demonstrates."""
    landscape: Landscape
    """The ground and the sky."""
    hs: DemoScene | None = None
    """The EnMAP-like scene; None when there is none."""
    ms: DemoScene | None = None
    """The Sentinel-2-like scene; None when there is none."""
    has_truth: bool = False
    """True when the pair can be fused: the truth is kept on the fine scene's grid."""

    @property
    def scenes(self) -> tuple[DemoScene, ...]:
        """Its scenes."""
        return tuple(scene for scene in (self.hs, self.ms) if scene is not None)


def instruments(scene: DemoScene) -> tuple[Instrument, ...]:
    """The instruments that make a scene's files, one for each pixel size."""
    return (enmap_like(),) if scene.role == "hsi" else sentinel2_like()


def estimated_bytes(size: DemoSize) -> int:
    """Most disk space that the archive needs, in bytes: all arrays uncompressed, and the largest scene once more."""
    pixels = size.fine_px**2
    truth = 2 * len(enmap_truth().bands) * pixels
    coarse = 2 * len(enmap_like().bands) * pixels // enmap_like().ratio ** 2
    fine = 2 * sum(len(part.bands) * pixels // part.ratio**2 for part in sentinel2_like())
    overviews = 4 / 3
    return int(3 * truth + 4 * (coarse + fine) * overviews + 2.5 * coarse * overviews)


def plan_sites(size: DemoSize, seed: int) -> tuple[DemoSite, ...]:
    """Three fusable pairs, then scenes that must not be paired: cloudy, without overlap, forty days apart."""
    full, half = size.fine_px, size.fine_px // 12 * 6
    land = Landscape(seed=seed)
    nested, partly, phased, cloudy, alone, apart = (
        _site_window(seed, number, full, side) for number, side in enumerate((full, full, full, half, half, half))
    )
    hours = timedelta(hours=1)
    aside = full // 24 * 3
    return (
        DemoSite(
            name="1-nested",
            shows="both instruments on one grid, half an hour apart",
            landscape=land,
            hs=_scene("hsi", 1, nested, _FIRST_DAY + 0.5 * hours),
            ms=_scene("msi", 1, nested, _FIRST_DAY),
            has_truth=True,
        ),
        DemoSite(
            name="2-shifted",
            shows="nested grids, part of the ground in common, the coarse one misregistered by part of a fine pixel",
            landscape=land,
            hs=replace(_scene("hsi", 2, _moved(partly, -aside, aside), _FIRST_DAY + 25 * hours), shift_px=(0.4, -0.7)),
            ms=_scene("msi", 2, partly, _FIRST_DAY),
            has_truth=True,
        ),
        DemoSite(
            name="3-swath",
            shows="grids 10 m out of phase, a swath with no-data corners",
            landscape=land,
            hs=replace(
                _scene("hsi", 3, _phased(phased), _FIRST_DAY + 46 * hours),
                swath=Swath(half_width=0.46, west_per_south=0.21),
            ),
            ms=_scene("msi", 3, phased, _FIRST_DAY),
            has_truth=True,
        ),
        DemoSite(
            name="4-cloudy",
            shows="a pair under cloud",
            landscape=Landscape(seed=seed, cloud_fraction=_CLOUDY),
            hs=replace(_scene("hsi", 4, cloudy, _FIRST_DAY + 1 * hours), cloud_fraction=_CLOUDY),
            ms=replace(_scene("msi", 4, cloudy, _FIRST_DAY), cloud_fraction=_CLOUDY),
        ),
        DemoSite(
            name="5-alone",
            shows="a coarse scene that no fine scene overlaps",
            landscape=land,
            hs=_scene("hsi", 5, alone, _FIRST_DAY + 0.5 * hours),
        ),
        DemoSite(
            name="6-early",
            shows="a coarse scene forty days before the fine scene of the same ground",
            landscape=land,
            hs=_scene("hsi", 6, apart, _FIRST_DAY),
        ),
        DemoSite(
            name="6-late",
            shows="the fine scene forty days later, when the cereals have ripened",
            landscape=Landscape(seed=seed, season=1.0),
            ms=_scene("msi", 6, apart, _FIRST_DAY + 40 * 24 * hours),
        ),
    )


def _scene(role: Role, number: int, extent: Window, acquired: datetime) -> DemoScene:
    """A cloudless scene named after its instrument, its site and its time."""
    prefix = "enmap-like" if role == "hsi" else "sentinel-2-like"
    return DemoScene(
        id=f"{prefix}-{number}-{acquired:%Y%m%dT%H%M%S}",
        role=role,
        extent=extent,
        acquired=acquired,
        cloud_fraction=0.0,
    )


def _site_window(seed: int, number: int, full_px: int, side_px: int) -> Window:
    """A window with a bit of everything in the ground reserved for a site, which no other site's overlaps."""
    row, column = divmod(number, 3)
    reserve_px = full_px + _SEARCH_PX
    y0, x0 = row * (reserve_px + _APART_PX), column * (reserve_px + _APART_PX)
    return varied_window(seed, within=Window(y0=y0, y1=y0 + reserve_px, x0=x0, x1=x0 + reserve_px), side_px=side_px)


def _moved(window: Window, south: int, east: int) -> Window:
    """The window, moved."""
    return Window(y0=window.y0 + south, y1=window.y1 + south, x0=window.x0 + east, x1=window.x1 + east)


def _phased(window: Window) -> Window:
    """A little more than the window, in whole coarse pixels offset by one fine pixel from its own."""
    return Window(y0=window.y0 - 5, y1=window.y1 + 4, x0=window.x0 - 5, x1=window.x1 + 4)
