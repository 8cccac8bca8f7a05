"""`scenefuse models`: list the fusion methods, what they need and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from scenefuse.cli.output import emit_json, json_option, print_table
from scenefuse.config import DEFAULT_MODEL
from scenefuse.errors import UsageError
from scenefuse.grid.pair_grid import RATIOS
from scenefuse.models.ref import ModelRef
from scenefuse.sensors.sensor import find_sensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scenefuse.models.base import ModelCard
    from scenefuse.models.shelf import Shelved

EXAMPLE = ("EnMAP", "Sentinel-2A")
"""HSI and MSI for whose bands the figures hold."""

WEIGHTS_COLUMNS = ("weights", "model", "ratio", "hs_bands", "ms_bands", "psnr_db", "licence", "sha256")
"""Columns of the table of weights; psnr_db is the score on held-out blocks of the training scenes."""


@click.command(name="models")
@click.option("--ratio", type=int, default=3, show_default=True, help="Resolution ratio that the figures are for.")
@json_option
def command(ratio: int, *, as_json: bool) -> None:
    """List the fusion methods and the trained weights on the shelf. Figures are for EnMAP with Sentinel-2.

    halo_px is the context read around each tile (error at most 1e-6), support_px that of `--halo full` (bitwise equal).
    The shelf is $SCENEFUSE_WEIGHTS (else a folder in the user's data folder), and the weights that ship.
    """
    if ratio not in RATIOS:
        raise UsageError(f"ratio {ratio}", "no grid has it", f"Choose one of {', '.join(map(str, RATIOS))}")
    from scenefuse.models.registry import describe_model, model_names
    from scenefuse.models.shelf import shelved

    hs, ms = (find_sensor(name) for name in EXAMPLE)
    if hs is None or ms is None:
        raise LookupError(f"no sensor card for {EXAMPLE}")
    cards = [
        describe_model(ModelRef(name=name, hs_bands=hs.bands, ms_bands=ms.bands, ratio=ratio)) for name in model_names()
    ]
    shelf = shelved()
    records = [_record(card, shelf) for card in cards]
    if as_json:
        emit_json({"models": records, "default": DEFAULT_MODEL, "weights": [_weights_record(entry) for entry in shelf]})
        return
    columns = (
        "name",
        "title",
        "parameters",
        "multiply_adds_per_pixel",
        "halo_px",
        "support_px",
        "lattice_px",
        "statistics",
        "needs_weights",
    )
    rows = [[record[column] for column in columns] for record in records]
    print_table(f"Methods (default: {DEFAULT_MODEL}), ratio {ratio}", columns, rows)
    on_shelf = [list(_weights_record(entry).values()) for entry in shelf]
    if on_shelf:
        print_table("Weights on the shelf", WEIGHTS_COLUMNS, on_shelf)


def _weights_record(entry: Shelved) -> dict[str, Any]:
    """The table row of some weights."""
    card = entry.card
    score = card.training.get("score", {})
    sizes = (card.ratio, len(card.hs_bands), len(card.ms_bands), score.get("psnr_db"), card.licence, card.sha256)
    return dict(zip(WEIGHTS_COLUMNS, (entry.label, card.architecture, *sizes), strict=True))


def _record(card: ModelCard, shelf: Sequence[Shelved]) -> dict[str, Any]:
    """The record of a method; it lists all its weights by label, for any bands and ratio."""
    from scenefuse.models.registry import needs_weights

    return {
        "name": card.name,
        "title": card.title,
        "source": card.source,
        "parameters": card.parameters,
        "multiply_adds_per_pixel": card.multiply_adds_per_pixel,
        "support_px": card.support_px,
        "halo_px": card.halo_px,
        "effective_px": card.effective_px,
        "lattice_px": card.lattice_px,
        "statistics": card.statistics,
        "needs_weights": needs_weights(card.name),
        "weights": [entry.label for entry in shelf if entry.card.architecture == card.name],
        "licence": card.licence,
    }
