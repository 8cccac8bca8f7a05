"""Open two scenes as a pair that can be fused: aligned cubes, shift removed, method chosen."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scenefuse.archive.access import AccessPolicy, trusted_path
from scenefuse.archive.document import read_start
from scenefuse.archive.scene import Scene, ScenePair
from scenefuse.archive.source import load_scene
from scenefuse.config import RunConfig
from scenefuse.cube.image import Image
from scenefuse.cube.losses import BandLosses, measure_losses
from scenefuse.cube.pair import PairCube, PairOptions
from scenefuse.cube.pair import open_pair as open_cubes
from scenefuse.cube.registration import MIN_PEAK, Shift, estimate_shift
from scenefuse.engine.device import choose_device
from scenefuse.engine.resident import ModelHandle
from scenefuse.errors import DataError, UsageError
from scenefuse.models.base import ModelCard
from scenefuse.models.observation import nominal_response
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import load_model, needs_weights, require_method
from scenefuse.models.shelf import with_weights
from scenefuse.place.href import is_url, redact
from scenefuse.raster.envi_header import HEADER_MAGIC, HEADER_SUFFIXES, find_data
from scenefuse.words import counted

_NAMED = 12
"""Most bands that a note names per reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedPair:
    """An opened and aligned pair with the method that will fuse it; no pixels are read but those for registration."""

    pair: ScenePair
    """The two scenes."""
    cube: PairCube
    """The two aligned lazy cubes, shift removed."""
    shift: Shift | None
    """Result of registration; None if it is switched off."""
    model: ModelHandle
    """The method, as workers load it."""
    card: ModelCard
    """The method's card for these bands and this ratio."""
    losses: BandLosses | None = None
    """Ground that single HSI bands cost all bands through their no-data; None if not measured."""

    def with_model(self, ref: ModelRef) -> OpenedPair:
        """The pair with another method, or the same with other weights."""
        return replace(self, model=replace(self.model, ref=ref), card=load_model(ref).card)

    def facts(self) -> dict[str, Any]:
        """Decisions about grids, bands, radiometry and registration, in JSON types."""
        facts = {**self.cube.facts(), "shift": None if self.shift is None else asdict(self.shift)}
        return facts if self.losses is None else {**facts, "lost_by_bands": self.losses.facts()}

    def notes(self) -> tuple[str, ...]:
        """What users should know about those decisions, one line each."""
        notes = list(self.cube.plan.notes)
        if self.shift is not None and self.shift.significant:
            moved = f"{self.shift.dy_px:+.2f} rows, {self.shift.dx_px:+.2f} columns"
            notes.append(f"shift of {moved} (fine pixels) between the two removed")
        elif self.shift is not None and self.shift.peak < MIN_PEAK:
            notes.append(_not_registered(self.cube, self.shift))
        notes += [_dropped(image) for image in (self.cube.hs_image, self.cube.ms_image) if image.dropped]
        return (*notes, *self._about_clouds(), *self.warnings())

    def _about_clouds(self) -> tuple[str, ...]:
        """Which image's clouds are no-data, and which are fused like ground although a mask marks them."""
        notes = []
        for scene, image in ((self.pair.hs, self.cube.hs_image), (self.pair.ms, self.cube.ms_image)):
            role, masks = image.role.upper(), " and ".join(mask.asset.key for mask in scene.clouds)
            if image.clouds:
                notes.append(f"clouds of the {role} are no data, by {masks}")
            elif self.cube.ms_image.clouds or self.cube.hs_image.clouds:
                notes.append(f"clouds of the {role} are not masked: it names no mask that is known")
            elif masks and scene.cloud_fraction != 0:
                notes.append(f"clouds of the {role} are fused like ground; {masks} tells them: --mask-clouds")
        return tuple(notes)

    def warnings(self) -> tuple[str, ...]:
        """What users should know before the run because it costs them ground."""
        note = None if self.losses is None else self.losses.note
        return () if note is None else (note,)


def scene_of(
    source: str | Path | Scene, config: RunConfig, *, root: str | None = None, item_id: str | None = None
) -> Scene:
    """Load a scene from a STAC item's path or URL, a raster or a delivered product; an ENVI header means its data file.

    root: folder of the source in which the item was found; the item may name files in it besides those at its side.
    item_id: the item's, if it was found in a list or a table of items.
    """
    if isinstance(source, Scene):
        return source
    if not isinstance(source, str | Path):  # callers in notebooks are not type-checked
        raise UsageError(
            f"a scene is given as {type(source).__name__}",
            "scenes are read from files, window by window",
            "Give the path or URL of an item or a raster; for a pystac.Item that of its get_self_href()",
        )
    roots = () if root is None else (Path(root),)
    return load_scene(_data_file(str(source)), policy=replace(policy_of(config), roots=roots), item_id=item_id)


def require_pair(pair: object, name: str) -> None:
    """Raise unless pair, the argument called name, is an HSI and an MSI: callers in notebooks are not type-checked."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise UsageError(f"{name} is {pair!r}", "it is not a pair", "Give an HSI and an MSI: (hs, ms)")


def _data_file(href: str) -> str:
    """The href or, for an ENVI header, that of its data file: both name one image and make one product."""
    if is_url(href):
        return href
    path = trusted_path(href)
    is_header = path.suffix in HEADER_SUFFIXES and path.is_file() and read_start(path, 4) == HEADER_MAGIC
    return str(find_data(path)) if is_header else href


def policy_of(config: RunConfig) -> AccessPolicy:
    """The hosts that scenes and truths may be fetched from."""
    return AccessPolicy(allow_hosts=config.allow_host)


def require_config(config: RunConfig) -> None:
    """Raise if the method lacks the weights it needs, or cannot do what the options request."""
    _require_type(config)
    require_method(config.model, weights=config.weights)
    if config.adapt is not None and not needs_weights(config.model):
        raise UsageError(f"--adapt with {config.model}", "it has no weights to fine-tune", "Leave out --adapt")


def _require_type(config: RunConfig) -> None:
    """Raise if config is not a RunConfig: callers in notebooks are not type-checked."""
    if not isinstance(config, RunConfig):
        raise UsageError(
            f"config is of type {type(config).__name__}",
            "it is not a run configuration",
            'Give scenefuse.RunConfig(model="gsa"), with any other options',
        )


def open_aligned(
    hs: str | Path | Scene, ms: str | Path | Scene, config: RunConfig, *, nested: bool = False
) -> OpenedPair:
    """Open and align an HSI and an MSI; raises, with the reason, if the two or the method do not fit.

    nested: warp the HSI onto the coarse grid even if the method takes its pixels where they are.
    """
    require_config(config)
    pair = ScenePair(hs=scene_of(hs, config), ms=scene_of(ms, config))
    if _files(pair.hs) == _files(pair.ms):
        raise DataError(
            f"{redact(pair.hs.href)} is given as HS and as MS",
            "one image has nothing to add to itself",
            "Give two images: one with the bands, one with the fine pixels",
        )
    if (pair.hs.role, pair.ms.role) == ("msi", "hsi"):
        raise DataError(
            f"{pair.hs.id} is multispectral ({pair.hs.role_reason}) and {pair.ms.id} hyperspectral",
            "HS and MS are swapped",
            "Give the hyperspectral scene first",
        )
    options = PairOptions(
        hs_scale=config.hs_scale,
        ms_scale=config.ms_scale,
        drop_bands=config.drop_bands,
        drop_ms_bands=config.drop_ms_bands,
        mask_clouds=config.mask_clouds,
        allow_hosts=config.allow_host,
    )
    cube = open_cubes(pair, options=options)
    shift = None
    if config.register:
        response, _ = nominal_response(cube.hs_bands, cube.ms_bands)
        shift = estimate_shift(cube, response)
        if shift.significant:
            cube = cube.registered((shift.dy_px, shift.dx_px))
    ref = ModelRef(
        name=config.model,
        hs_bands=cube.hs_bands,
        ms_bands=cube.ms_bands,
        ratio=cube.grid.ratio,
    )
    if needs_weights(config.model):
        ref = with_weights(ref, config.weights)
    handle = ModelHandle(ref=ref, load=load_model, device=choose_device(config.device))
    card = load_model(ref).card
    if card.takes_phase and not nested:
        cube = cube.in_place()
    return OpenedPair(pair=pair, cube=cube, shift=shift, model=handle, card=card)


def open_scenes(hs: str | Path | Scene, ms: str | Path | Scene, config: RunConfig) -> OpenedPair:
    """Open the pair as `open_aligned` does, nested and without a method: config only says how scenes are opened."""
    plain = replace(config, model="bicubic", weights=None, adapt=None, device="cpu")
    return open_aligned(hs, ms, plain, nested=True)


def open_to_fuse(hs: str | Path | Scene, ms: str | Path | Scene, config: RunConfig) -> OpenedPair:
    """Open the pair as `open_aligned` does and measure what single bands lose; raises if no pixel is left to fuse."""
    opened = open_aligned(hs, ms, config)
    return replace(opened, losses=measure_losses(opened.cube, opened.pair.hs.id))


def _not_registered(cube: PairCube, shift: Shift) -> str:
    """Why no shift between the two images was found, and what that means."""
    if shift.windows:
        why = f"the images are too unlike (coherence {shift.peak:.2f}, at least {MIN_PEAK:g} is needed)"
    elif any(nominal_response(cube.hs_bands, cube.ms_bands)[1]):
        why = "the ground that both show is too small, or too much of it has no data"
    else:
        why = "no MSI band within the HSI's range has both wavelength and width"
    return f"no shift between the two was found, for {why}: if they lie apart, the detail is beside its spectra"


def _dropped(image: Image) -> str:
    """How many bands of an image are left out, why, and their names."""
    reasons: dict[str, list[str]] = {}
    for name, reason in image.dropped:
        reasons.setdefault(reason, []).append(name)
    why = [
        f"{len(names)} {reason}" + (f" ({', '.join(names[:_NAMED])}{', ...' * (len(names) > _NAMED)})")
        for reason, names in reasons.items()
    ]
    total = len(image.dropped) + len(image.bands)
    return f"{len(image.dropped)} of {counted(total, f'{image.role.upper()} band')} left out: {'; '.join(why)}"


def _files(scene: Scene) -> tuple[str, ...]:
    """What identifies an image: href and assets, because items of one ItemCollection may share its href."""
    return (scene.href, *(asset.href for asset in scene.assets))


def open_pair(hs: str | Path | Scene, ms: str | Path | Scene, *, config: RunConfig | None = None) -> PairCube:
    """The pair as two aligned lazy xarray cubes, `.hs` and `.ms`, with the sub-pixel shift removed.

    Args:
        hs: Hyperspectral scene: path or URL of a STAC item or raster, a delivered product's folder, or a Scene.
        ms: Multispectral scene, in the same forms.
        config: How scenes are opened; None for the defaults.
    """
    config = config or RunConfig()
    _require_type(config)
    return open_scenes(hs, ms, config).cube
