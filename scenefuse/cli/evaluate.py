"""`scenefuse evaluate`: scores of a product, or of methods on a pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import click

from scenefuse.cli.output import emit_json, json_option, note, print_table
from scenefuse.config import RunConfig
from scenefuse.errors import UsageError
from scenefuse.metrics.convention import CONVENTIONS
from scenefuse.models.registry import weightless_names
from scenefuse.pipeline.evaluate import evaluate_methods, evaluate_product
from scenefuse.quality.product_scores import Scores


@click.command(name="evaluate")
@click.argument("inputs", nargs=-1, required=True, metavar="PRODUCT... | HS MS --methods LIST")
@click.option("--reference", metavar="RASTER", help="Truth on the product's grid: all its bands.")
@click.option(
    "--methods", metavar="LIST", help="Methods to compare on the pair HS MS, by commas, or `all` (weightless)."
)
@click.option(
    "--convention",
    type=click.Choice(list(CONVENTIONS)),
    default="standard",
    show_default=True,
    help="Formulas where papers differ.",
)
@click.option("--hs-scale", type=float, help="Reflectance per DN of the HSI, when nothing else says.")
@click.option("--ms-scale", type=float, help="Reflectance per DN of the MSI, when nothing else says.")
@json_option
def command(
    inputs: tuple[str, ...],
    reference: str | None,
    methods: str | None,
    convention: str,
    hs_scale: float | None,
    ms_scale: float | None,
    *,
    as_json: bool,
) -> None:
    r"""Score products, or compare methods on a pair.

    \b
    PRODUCT... --reference RASTER   against a known truth: PSNR, SSIM, SAM, ERGAS, CC, UIQI, RMSE, RASE
    PRODUCT...                      against its own inputs: QNR, D_lambda, D_s, consistency with both
    HS MS --methods gsa,sfim        Wald's protocol: the pair degraded by its ratio, the HSI as truth
    """
    if methods is None:
        scores = [evaluate_product(Path(folder), reference=reference, convention=convention) for folder in inputs]
    else:
        if reference is not None or len(inputs) != 2:
            raise UsageError(
                f"--methods with {len(inputs)} inputs" + (" and --reference" if reference else ""),
                "it compares methods on one pair by Wald's protocol",
                "Give HS and MS, without --reference",
            )
        names = list(weightless_names()) if methods == "all" else [name.strip() for name in methods.split(",")]
        config = RunConfig(hs_scale=hs_scale, ms_scale=ms_scale)
        scores = []
        for entry in evaluate_methods(*inputs, names, config=config, convention=convention):
            note(f"  {entry.name}: {entry.seconds:.1f} s")
            scores.append(entry)
    if as_json:
        emit_json({"convention": convention, "scores": [score_record(entry) for entry in scores]})
    else:
        show_scores("Scores" if methods is None else "Scores at reduced resolution (Wald)", scores)


def show_scores(title: str, scores: Sequence[Scores]) -> None:
    """Print scores as a table, a row per product or method."""
    if not scores:
        return
    names = list(scores[0].values)
    timed = any(entry.seconds is not None for entry in scores)
    rows = [(entry.name, *entry.values.values(), *((entry.seconds,) if timed else ())) for entry in scores]
    print_table(title, ("name", *names, *(("seconds",) if timed else ())), rows)


def score_record(entry: Scores) -> dict[str, object]:
    """The scores as JSON can hold them."""
    values = {name: value if math.isfinite(value) else None for name, value in entry.values.items()}
    return {"name": entry.name, **values, "seconds": entry.seconds}
