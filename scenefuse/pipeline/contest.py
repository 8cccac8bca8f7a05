"""Compare methods side by side: on pairs degraded by Wald's protocol, on pairs with a truth, or on single images."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.archive.scene import Scene
from scenefuse.config import RunConfig
from scenefuse.cube.image import Choice, Image, open_image
from scenefuse.cube.truth import Truth, open_truth
from scenefuse.errors import DataError, UsageError, WorkError
from scenefuse.grid.window import Window
from scenefuse.models.base import ModelCard
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import load_model
from scenefuse.pipeline.opening import OpenedPair, open_scenes, policy_of, scene_of
from scenefuse.pipeline.training_inputs import truth_facts
from scenefuse.quality.contest import ContestProtocol, Entry, Result, compete
from scenefuse.quality.gallery import Gallery
from scenefuse.quality.methods import ready
from scenefuse.quality.split import honest_pixels, truths_learnt, unseen_blocks
from scenefuse.quality.table import csv_text, markdown, protocol_facts, result_record, standings
from scenefuse.quality.trial import (
    REFERENCE_RATIO,
    Trial,
    covered_bands,
    middle_of,
    middle_window,
    reduced_middle,
    reference_trial,
    wald_trial,
)
from scenefuse.sensors.sensor import DEFAULT_MTF_NYQUIST, Sensor, find_sensor, sensors
from scenefuse.words import counted

Pair = tuple[str | Scene, str | Scene]
"""HSI and MSI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The scenes on which methods are compared."""

    pairs: tuple[Pair, ...] = ()
    """Pairs of an HSI and an MSI."""
    truths: tuple[str, ...] = ()
    """A truth raster on the fine grid for each pair; empty for Wald's protocol."""
    images: tuple[str, ...] = ()
    """Hyperspectral images; each is a truth from which a pair is simulated."""
    ms_sensor: str | None = None
    """Instrument whose spectral response simulates the MSI of each image."""
    config: RunConfig = field(default_factory=RunConfig)
    """How scenes are opened: only hs_scale, ms_scale, drop_bands, drop_ms_bands, register and allow_host are used."""

    @property
    def degraded(self) -> bool:
        """True if pairs are made by degrading, False if all are fused as they are and scored against a truth."""
        return not self.truths or bool(self.images)


def evaluate_methods(
    arena: Arena,
    entries: Sequence[Entry],
    protocol: ContestProtocol,
    *,
    out: Path | None = None,
    report: Callable[[Result], None] | None = None,
) -> tuple[Result, ...]:
    """Score each method on each scene, noise level, seed and fold.

    Opens every scene and checks every method against its bands and ratio before it fuses the first.
    out: folder for results.md, results.csv, results.json and each scene's pictures; if the contest is interrupted or a
    scene cannot be read, they hold what is finished by then. report: called with each result.
    """
    makers = [*_pair_makers(arena, entries, protocol), *_image_makers(arena, entries, protocol)]
    if not makers:
        raise UsageError("no scene", "there is nothing to compare methods on", "Give HS MS, or --catalog")
    if not entries:
        raise UsageError("no method", "there is nothing to compare", "Give --model NAME, or --methods all")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    pictures: list[str] = []

    def show(gallery: Gallery) -> None:
        if out is not None:
            stem = f"{len(pictures) // 2 + 1:02d}-{re.sub(r'[^A-Za-z0-9]+', '-', gallery.scene).strip('-')[:60]}"
            pictures.extend(path.name for path in gallery.draw(out, stem))

    results: list[Result] = []
    whole = False
    trials = (make() for make in makers)
    try:
        for result in compete(trials, entries, protocol, show=None if out is None else show):
            results.append(result)
            if report is not None:
                report(result)
        whole = True
    finally:
        if out is not None and results:
            document = contest_document(results, protocol, whole=whole, degraded=arena.degraded)
            table = markdown(results, protocol, pictures=pictures, whole=whole, degraded=arena.degraded)
            _write_tables(out, results, document, table)
    return tuple(results)


def _write_tables(out: Path, results: Sequence[Result], document: Mapping[str, Any], table: str) -> None:
    """Write results.md (table), results.csv and results.json (document) into out."""
    texts = {
        "results.md": table,
        "results.csv": csv_text(results),
        "results.json": json.dumps(document, indent=2, allow_nan=False) + "\n",
    }
    try:
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkError(
            f"{error.filename or out}: {error.strerror}",
            "the tables are not written",
            "Remove the obstacle, or give another --out",
        ) from error


def contest_document(
    results: Sequence[Result], protocol: ContestProtocol, *, whole: bool = True, degraded: bool = True
) -> dict[str, Any]:
    """The protocol, mean and spread of each method's scores, and each single result, in JSON types.

    whole: False if the contest was stopped before its end. degraded: as in Arena.
    """
    return {
        "whole": whole,
        "convention": protocol.convention,
        "protocol": protocol_facts(protocol, degraded=degraded),
        "scores": [entry.record() for entry in standings(results)],
        "results": [result_record(result) for result in results],
    }


def _pair_makers(arena: Arena, entries: Sequence[Entry], protocol: ContestProtocol) -> Iterator[Callable[[], Trial]]:
    """Yield a function that makes each pair's trial, once all methods are known to fit; reads no cube yet."""
    if arena.truths and len(arena.truths) != len(arena.pairs):
        raise UsageError(
            f"{counted(len(arena.truths), 'truth')} for {counted(len(arena.pairs), 'pair')}",
            "each pair needs exactly one",
            "Give one for each pair",
        )
    truths = arena.truths or (None,) * len(arena.pairs)
    for (hs, ms), raster in zip(arena.pairs, truths, strict=True):
        opened = open_scenes(hs, ms, arena.config)
        cube = opened.cube
        ratio = cube.grid.ratio if protocol.ratio is None else protocol.ratio
        if raster is not None and ratio != cube.grid.ratio:
            raise UsageError(
                f"ratio {ratio} for {cube.pair_id}, which has {cube.grid.ratio}",
                "a pair with its own truth is fused as it is",
                "Leave out --ratio, or --truth",
            )
        if not arena.degraded and protocol.mtf_nyquist != DEFAULT_MTF_NYQUIST:
            raise UsageError(
                f"mtf {protocol.mtf_nyquist:g} for {cube.pair_id}",
                "a pair with its own truth is fused as it is",
                "Leave out --mtf, or --truth",
            )
        ref = ModelRef(name="", hs_bands=cube.hs_bands, ms_bands=cube.ms_bands, ratio=ratio)
        networks = _require_fit(entries, ref)
        scored = _honest_pixels(networks, opened, protocol, raster)
        if raster is None:
            yield _scoring(_maker_of_pair(opened, protocol), scored)
        else:
            truth = open_truth(raster, cube.fine_raster, cube.hs_bands, policy=policy_of(arena.config))
            yield _scoring(_maker_of_truth(opened, truth), scored)


def _scoring(make: Callable[[], Trial], scored: NDArray[np.bool_] | None) -> Callable[[], Trial]:
    """A function that makes the trial, to be scored on these pixels only; None scores all."""
    return make if scored is None else lambda: replace(make(), scored=scored)


def _honest_pixels(
    networks: Mapping[str, ModelCard], opened: OpenedPair, protocol: ContestProtocol, raster: str | None
) -> NDArray[np.bool_] | None:
    """Pixels of a pair's truth (a raster or its own HSI) that no network has learnt from; None for all."""
    cube, reduced = opened.cube, raster is None
    known, truths = [file.evidence for file in cube.inputs], () if raster is None else _digests(networks, (raster,))
    blocks = {label: unseen_blocks(card.training, known, cube.grid, truths=truths) for label, card in networks.items()}
    kept = [(label, windows) for label, windows in blocks.items() if windows is not None]
    if reduced:
        ratio = cube.grid.ratio if protocol.ratio is None else protocol.ratio
        coarse = reduced_middle(cube, opened.pair.id, ratio)
    else:
        coarse = middle_of(cube, truth=True)
    step = cube.grid.ratio if reduced else 1
    return honest_pixels(opened.pair.id, kept, coarse.refine(cube.grid.ratio), step) if kept else None


def _digests(networks: Mapping[str, ModelCard], files: Iterable[str]) -> tuple[str, ...]:
    """Digests of local files as a weights' card names truths; computed only if a network learnt from a truth."""
    if not any(truths_learnt(card.training) for card in networks.values()):
        return ()
    return tuple(digest for file in files for digest in truth_facts(file)[1:])


def _maker_of_pair(opened: OpenedPair, protocol: ContestProtocol) -> Callable[[], Trial]:
    def make() -> Trial:
        cube = opened.cube.in_place()
        return wald_trial(cube, opened.pair.id, ratio=protocol.ratio, mtf_nyquist=protocol.mtf_nyquist)

    return make


def _maker_of_truth(opened: OpenedPair, truth: Truth) -> Callable[[], Trial]:
    def make() -> Trial:
        cube = opened.cube.in_place()
        coarse = middle_of(cube, truth=True)
        fine = coarse.refine(cube.grid.ratio)
        return Trial(
            name=opened.pair.id,
            hs=cube.read_hs(coarse),
            ms=cube.read_ms(fine),
            truth=truth.read(fine),
            hs_bands=cube.hs_bands,
            ms_bands=cube.ms_bands,
            ratio=cube.grid.ratio,
            phase_px=cube.grid.phase_px,
        )

    return make


def _image_makers(arena: Arena, entries: Sequence[Entry], protocol: ContestProtocol) -> Iterator[Callable[[], Trial]]:
    """Yield a function that makes each image's trial, once all methods are known to fit; reads no cube yet."""
    if not arena.images:
        return
    if arena.ms_sensor is None:
        raise UsageError("single images without --ms-sensor", "they have no MSI", "Give --ms-sensor Sentinel-2A")
    sensor = _ms_sensor(arena.ms_sensor)
    for href in arena.images:
        scene = scene_of(href, arena.config)
        config = arena.config
        choice = Choice(scale=config.hs_scale, drop=config.drop_bands, policy=policy_of(config))
        image = open_image(scene, "hsi", choice)
        if len(image.grids) > 1:
            raise DataError(
                f"{scene.id} has bands on {len(image.grids)} grids", "it is not a single image", "Give one raster file"
            )
        ms_bands, _ = covered_bands(scene.id, image.bands, sensor)
        ratio = REFERENCE_RATIO if protocol.ratio is None else protocol.ratio
        networks = _require_fit(entries, ModelRef(name="", hs_bands=image.bands, ms_bands=ms_bands, ratio=ratio))
        paths = {href, *(str(file.path) for file in image.inputs if file.path is not None)}
        known, truths = [file.evidence for file in image.inputs], _digests(networks, paths)
        for label, card in networks.items():
            if unseen_blocks(card.training, known, None, truths=truths) is not None:
                honest_pixels(scene.id, [(label, ())], Window(y0=0, y1=1, x0=0, x1=1), 1)
        yield _maker_of_image(scene.id, image, sensor, protocol)


def _maker_of_image(name: str, image: Image, sensor: Sensor, protocol: ContestProtocol) -> Callable[[], Trial]:
    def make() -> Trial:
        window = middle_window(image.grids[0].shape, len(image.bands) + len(sensor.bands))
        return reference_trial(
            name,
            image.read(range(len(image.bands)), window),
            image.bands,
            sensor,
            ratio=protocol.ratio,
            mtf_nyquist=protocol.mtf_nyquist,
        )

    return make


def _require_fit(entries: Sequence[Entry], ref: ModelRef) -> dict[str, ModelCard]:
    """Cards by label; raises for a method that cannot be used with these bands and this ratio."""
    return {entry.label: load_model(ready(replace(ref, name=entry.model), entry.weights)).card for entry in entries}


def _ms_sensor(name: str) -> Sensor:
    """The multispectral instrument of that name; UsageError, which suggests a similar name, if there is none."""
    sensor = find_sensor(name)
    if sensor is None or sensor.role != "msi":
        known = [card.name for card in sensors() if card.role == "msi"]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        what = f"{name} is hyperspectral" if sensor is not None else f"no card of an instrument {name!r}"
        raise UsageError(
            what,
            "its response cannot make an MSI",
            (f"Did you mean {near[0]!r}? " if near else "") + f"Known: {', '.join(known)}",
        )
    return sensor
