"""What an archive holds: scenes and their assets, read from metadata alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from scenefuse.sensors.band import Band
from scenefuse.sensors.sensor import Role
from scenefuse.words import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file of a scene that holds bands."""

    key: str
    """Key in the item's assets, or `data` for a bare raster."""
    href: str
    """Absolute path or URL, checked against the source's allowed roots."""
    bands: tuple[Band, ...] = ()
    """Bands in file order from metadata; empty if only the file can tell."""
    scale: tuple[float, ...] | None = None
    """Reflectance per DN, one per band or one for all; None when metadata does not say."""
    offset: tuple[float, ...] | None = None
    """Reflectance at DN 0, one per band or one for all; None when metadata does not say."""
    nodata: float | None = None
    """DN that means no data; None when metadata does not say."""
    media_type: str | None = None
    """Media type as metadata gives it."""
    gsd_m: float | None = None
    """Ground sampling distance in metres; None when metadata does not say."""
    checksum: str | None = None
    """`file:checksum`, a multihash in hexadecimal; None when metadata does not say."""
    size_bytes: int | None = None
    """`file:size`; None when metadata does not say."""
    offset_of_integers: bool = False
    """True if the offset belongs to a processing baseline's integer encoding: reflectance itself (scale 1) has none."""
    card_fields: tuple[str, ...] = ()
    """Those of `scale`, `offset`, `nodata` filled from the sensor card: a file's own values take precedence."""


CloudCode = Literal["scl", "qa-pixel", "fmask", "flag", "emit"]
"""How a mask's values encode clouds.

scl: Sentinel-2's scene classification, classes 3 (cloud shadow), 8, 9 (cloud), 10 (thin cirrus). qa-pixel: Landsat's
Collection 2, bits 1 (dilated cloud), 2 (cirrus), 3 (cloud), 4 (cloud shadow). fmask: HLS, bits 1 (cloud), 2 (next to a
cloud), 3 (cloud shadow). flag: EnMAP, 1 is a cloud or shadow. emit: bands of flags, 1 (cloud), 2 (cirrus), 5 (dilated
cloud).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudAsset:
    """A file of a scene that marks its clouds or their shadows."""

    asset: Asset
    """The file."""
    code: CloudCode
    """How its values encode them."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Scene:
    """One acquisition: a STAC item, or a bare raster file."""

    id: str
    """STAC item id, or the file's stem."""
    assets: tuple[Asset, ...]
    """Assets that hold bands, in the order of the item."""
    clouds: tuple[CloudAsset, ...] = ()
    """Assets that mark its clouds."""
    href: str
    """Path or URL of the item (or the raster)."""
    root: str | None = None
    """Folder of its source, whose files the item may refer to; None for a network source or a bare raster."""
    collection: str | None = None
    """STAC collection id."""
    acquired: datetime | None = None
    """Time of acquisition, UTC if it has no time zone; None if metadata or a bare raster does not give it."""
    footprint: dict[str, Any] | None = field(default=None, hash=False)
    """GeoJSON geometry in WGS 84; None for a bare raster."""
    crs: str | None = None
    """`proj:code` or WKT2; None when only the file can tell."""
    cloud_fraction: float | None = None
    """Fraction of the scene under cloud, 0 to 1; None when metadata does not say."""
    platform: str | None = None
    """STAC `platform`, or the header's sensor type."""
    role: Role | None = None
    """`hsi` or `msi`, from band count, wavelengths and FWHM, else from the sensor; None when metadata cannot tell."""
    role_reason: str = ""
    """Why the role was assigned, or why it is unknown."""
    is_stac: bool = True
    """False for a bare raster: it appears in the provenance only, never in `derived_from`."""
    notes: tuple[str, ...] = ()
    """What was filled from a sensor card, corrected or left out while reading the item, one sentence each."""
    properties: dict[str, Any] = field(default_factory=dict, hash=False)
    """The item's other properties, unchanged."""

    def __post_init__(self) -> None:
        if self.acquired is not None and self.acquired.tzinfo is None:
            object.__setattr__(self, "acquired", self.acquired.replace(tzinfo=UTC))

    def __repr__(self) -> str:
        """The scene on one line: its fields would fill pages of a notebook, and an href may be signed."""
        bands = counted(sum(len(asset.bands) for asset in self.assets), "band")
        acquired = None if self.acquired is None else f"{self.acquired:%Y-%m-%d %H:%M}"
        told = (self.role, bands if self.is_stac else None, acquired)
        return f"Scene({', '.join([self.id, *(text for text in told if text)])})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenePair:
    """An HSI and an MSI of the same ground at about the same time."""

    hs: Scene
    """The hyperspectral scene."""
    ms: Scene
    """The multispectral scene."""
    overlap_fraction: float | None = None
    """Overlap area / area of the smaller footprint, 0 to 1; None for bare rasters."""
    gap_hours: float | None = None
    """Absolute time between the acquisitions in hours; None when a time is unknown."""

    @property
    def id(self) -> str:
        """`<hs id>_<ms id>`."""
        return f"{self.hs.id}_{self.ms.id}"
