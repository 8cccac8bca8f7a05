"""Score a finished product, against a reference or against its own inputs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from scenefuse.config import RunConfig
from scenefuse.errors import MismatchError, UsageError
from scenefuse.metrics.convention import CONVENTIONS
from scenefuse.models.shelf import find_by_digest
from scenefuse.pipeline.each_product import Location, ProductFailure, for_each_product
from scenefuse.pipeline.opening import policy_of
from scenefuse.pipeline.replay import reopen_inputs
from scenefuse.pipeline.training_inputs import truth_facts
from scenefuse.place.place import Place
from scenefuse.product.files import WEIGHTS_CARD
from scenefuse.product.folder import product_folder
from scenefuse.product.provenance import read_provenance
from scenefuse.product.reading import open_product, read_state
from scenefuse.quality.product_scores import Scored, score_with_reference, score_without_reference
from scenefuse.quality.split import truths_learnt, unseen_blocks
from scenefuse.words import counted


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
    return score_without_reference(product, cube, read_state(folder))


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
    """Training facts of a product's weights, from their card; None if neither the product nor the shelf has it.

    MismatchError if the product's card cannot be read.
    """
    path = folder / WEIGHTS_CARD
    if path.is_file():
        try:
            return dict(json.loads(path.read())["training"])
        except (ValueError, KeyError, TypeError) as error:
            raise MismatchError(
                f"{path} is not a card that scenefuse wrote ({type(error).__name__}: {error})",
                "what the product's network learnt from is not known",
                "fetch the product again, or fuse the pair again",
            ) from error
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
