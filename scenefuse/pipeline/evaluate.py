"""Scores: of a product, with a reference or against its inputs; of methods on a pair, by Wald's protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from scenefuse.config import RunConfig
from scenefuse.engine.state_file import load_state
from scenefuse.pipeline.fuse import STATE
from scenefuse.pipeline.opening import open_aligned
from scenefuse.pipeline.replay import reopen
from scenefuse.product.reading import open_product
from scenefuse.quality.methods import score_methods, wald_trial
from scenefuse.quality.product_scores import Scores, score_with_reference, score_without_reference


def evaluate_product(
    folder: Path,
    *,
    reference: str | None = None,
    convention: str = "standard",
    hrefs: tuple[str, str] | None = None,
    config: RunConfig | None = None,
) -> Scores:
    """Scores of the product in folder: against the reference raster, or, without one, against its inputs.

    Without a reference the inputs are read again: from hrefs, or where run.json says.
    """
    product = open_product(folder)
    if reference is not None:
        return score_with_reference(product, reference, convention=convention)
    opened, _ = reopen(folder, hrefs=hrefs, config=config or RunConfig())
    return score_without_reference(product, opened.cube, load_state(folder / STATE))


def evaluate_methods(
    hs: str, ms: str, names: Sequence[str], *, config: RunConfig | None = None, convention: str = "standard"
) -> Iterator[Scores]:
    """Scores of each method on the pair at reduced resolution, one after the other as they are done."""
    opened = open_aligned(hs, ms, replace(config or RunConfig(), model="bicubic"))
    yield from score_methods(wald_trial(opened.cube, opened.pair.id), names, convention=convention)
