"""Score a product, against a reference or its inputs, and methods side by side, on pairs or single images."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.archive.scene import Scene
from scenefuse.config import RunConfig
from scenefuse.cube.image import Choice, Image, open_image
from scenefuse.cube.input_file import InputFile
from scenefuse.cube.truth import Truth, open_truth
from scenefuse.engine.state_file import load_state
from scenefuse.errors import DataError, UsageError, WorkError
from scenefuse.grid.window import Window
from scenefuse.metrics.convention import CONVENTIONS
from scenefuse.models.base import ModelCard
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import load_model
from scenefuse.models.shelf import find_by_digest
from scenefuse.pipeline.each_product import Location, ProductFailure, for_each_product
from scenefuse.pipeline.opening import OpenedPair, open_scenes, policy_of, scene_of
from scenefuse.pipeline.replay import reopen_inputs
from scenefuse.pipeline.training_inputs import truth_facts
from scenefuse.place.place import Place
from scenefuse.product.files import STATE, WEIGHTS_CARD
from scenefuse.product.folder import product_folder
from scenefuse.product.provenance import read_provenance
from scenefuse.product.reading import open_product
from scenefuse.quality.contest import ContestProtocol, Entry, Result, compete
from scenefuse.quality.gallery import Gallery
from scenefuse.quality.methods import ready
from scenefuse.quality.product_scores import Scored, score_with_reference, score_without_reference
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


def evaluate_product(
    folder: str | Path | Place,
    *,
    reference: str | Path | None = None,
    convention: str = "standard",
    hrefs: tuple[str | Path, str | Path] | None = None,
    config: RunConfig | None = None,
) -> Scored:
    """Score a product against a reference raster or, without one, against its inputs.

    Needs neither the weights nor the GPU that made the product. Scores against a reference carry a note if the network
    was trained on this very scene, or if its card is not available to check that.

    Args:
        folder: The product: its folder, s3://bucket/prefix/<item id>, or its item.
        reference: Raster of the truth on the product's grid; None scores against the inputs, which are read again.
        convention: Formulas for scores against a reference, where papers differ: `standard`, or those of a network's
            paper (`aelf`, `smifnet`, `cofusion`, `mossfuse`, `s3rnet`).
        hrefs: Where HSI and MSI are now, if they have moved; None takes them from run.json.
        config: Supplies allow_host; other options are not used.
    """
    config = config or RunConfig()
    if convention not in CONVENTIONS:
        raise UsageError(
            f"No convention is called {convention!r}", "no score can follow it", f"Use one of {', '.join(CONVENTIONS)}"
        )
    folder = product_folder(folder)
    product = open_product(folder)
    if reference is not None:
        scored = score_with_reference(product, str(reference), convention=convention, policy=policy_of(config))
        return replace(scored, notes=training_overlap_notes(folder, str(reference)))
    cube = reopen_inputs(folder, hrefs=hrefs, config=config)
    return score_without_reference(product, cube, load_state(folder / STATE))


def training_overlap_notes(folder: Place, reference: str) -> tuple[str, ...]:
    """Note whether the product's network may have seen the reference in training; empty if it has not."""
    provenance = read_provenance(folder)
    digest = provenance.method.weights_sha256
    if digest is None:
        return ()
    training = _training_of(folder, digest)
    if training is None:
        return (f"weights {digest[:12]} are not on the shelf: whether they learnt from this scene is not known",)
    if not truths_learnt(training).isdisjoint(truth_facts(reference)[1:]):
        return ("the network learnt from this very truth: the scores say in part how well it remembers",)
    inputs = [file.checksum for file in provenance.inputs]
    base = training.get("base")
    if unseen_blocks(training if base is None else base, inputs, None) is not None:
        honest = "scenefuse evaluate HS MS --truth RASTER --model NAME=WEIGHTS scores only what it has not seen"
        return (f"the network learnt from this very scene: the scores say in part how well it remembers; {honest}",)
    if unseen_blocks(training, inputs, None) is not None:
        return ("the network was fine-tuned on this very pair, without a truth",)
    return ()


def _training_of(folder: Place, digest: str) -> Mapping[str, Any] | None:
    """Training facts of a product's weights, from their card; None if neither the product nor the shelf has it."""
    if (folder / WEIGHTS_CARD).is_file():
        training: Mapping[str, Any] = json.loads((folder / WEIGHTS_CARD).read())["training"]
        return training
    entry = find_by_digest(digest)
    return None if entry is None else entry.card.training


def evaluate_products(
    folders: Sequence[Location],
    *,
    reference: str | Path | None = None,
    convention: str = "standard",
    hrefs: tuple[str | Path, str | Path] | None = None,
    config: RunConfig | None = None,
) -> Iterator[Scored | ProductFailure]:
    """Yield the scores of each product as `evaluate_product` finds them.

    Among several products, yields a ProductFailure for each that cannot be scored; with only one, raises the error.
    hrefs belong to one pair: UsageError with several products.
    """
    if hrefs is not None and len(folders) != 1:
        raise UsageError(
            f"--hs and --ms with {counted(len(folders), 'product')}",
            "each product has a pair of its own",
            "Give one product with them",
        )
    return for_each_product(
        folders, partial(evaluate_product, reference=reference, convention=convention, hrefs=hrefs, config=config)
    )


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
    known, truths = _known(cube.inputs), () if raster is None else _digests(networks, (raster,))
    blocks = {label: unseen_blocks(card.training, known, cube.grid, truths=truths) for label, card in networks.items()}
    kept = [(label, windows) for label, windows in blocks.items() if windows is not None]
    if reduced:
        ratio = cube.grid.ratio if protocol.ratio is None else protocol.ratio
        coarse = reduced_middle(cube, opened.pair.id, ratio)
    else:
        coarse = middle_of(cube, truth=True)
    step = cube.grid.ratio if reduced else 1
    return honest_pixels(opened.pair.id, kept, coarse.refine(cube.grid.ratio), step) if kept else None


def _known(files: Sequence[InputFile]) -> tuple[str, ...]:
    """Input files as a weights' card names its training inputs: kind:checksum."""
    return tuple(f"{file.checksum_kind}:{file.checksum}" for file in files)


def _digests(networks: Mapping[str, ModelCard], files: Iterable[str]) -> tuple[str, ...]:
    """Digests of local files as a weights' card names truths; computed only if a network learnt from a truth."""
    if not any(truths_learnt(card.training) for card in networks.values()):
        return ()
    return tuple(digest for file in files for digest in truth_facts(file)[1:])


def _maker_of_pair(opened: OpenedPair, protocol: ContestProtocol) -> Callable[[], Trial]:
    def make() -> Trial:
        return wald_trial(opened.cube, opened.pair.id, ratio=protocol.ratio, mtf_nyquist=protocol.mtf_nyquist)

    return make


def _maker_of_truth(opened: OpenedPair, truth: Truth) -> Callable[[], Trial]:
    def make() -> Trial:
        cube = opened.cube
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
        known, truths = _known(image.inputs), _digests(networks, paths)
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
