"""`scenefuse evaluate`: score products, or compare methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scenefuse.cli.completion import HREF, MODEL_NAME, MODEL_NAMES
from scenefuse.cli.options import (
    PAIR_NAMES,
    SEARCH_NAMES,
    OwnPath,
    bounds_of,
    first_given,
    moved_to,
    pair_options,
    pair_rule,
    pair_search_options,
    refuse_without_catalog,
    scene_config,
    scene_options,
)
from scenefuse.cli.output import (
    emit_json,
    error_record,
    json_option,
    note,
    note_skipped,
    print_table,
    show_failures,
)
from scenefuse.cli.stopping import begun_anew, until_interrupted
from scenefuse.errors import SceneFuseError, UsageError, WorkError
from scenefuse.metrics.convention import CONVENTIONS
from scenefuse.pipeline.each_product import ProductFailure
from scenefuse.words import counted

if TYPE_CHECKING:
    from scenefuse.config import RunConfig
    from scenefuse.pipeline.contest import Arena
    from scenefuse.quality.contest import ContestProtocol, Entry, Result
    from scenefuse.quality.product_scores import Scored
    from scenefuse.quality.table import Standing

CONTEST_OPTIONS = ("truths", "ms_sensor", "ratio", "mtf_nyquist", "snr_db", "noise_on", "seeds", "folds", "out")
"""Options that apply only when methods are compared."""


@click.command(name="evaluate")
@click.argument("inputs", nargs=-1, type=HREF, metavar="PRODUCT... | [HS MS]... | HS... --ms-sensor NAME")
@click.option(
    "--model",
    "models",
    type=MODEL_NAME,
    multiple=True,
    metavar="NAME[=WEIGHTS]",
    help="Method to compare, for a network with weights: file, or name[@version]; repeatable. [those that fit]",
)
@click.option(
    "--methods",
    type=MODEL_NAMES,
    metavar="LIST",
    help="Methods to compare, comma-separated, or `all` that need no weights.",
)
@click.option(
    "--catalog", "catalogs", type=HREF, multiple=True, help="Compare on all pairs of this archive; repeatable."
)
@pair_options
@pair_search_options
@click.option("--reference", type=HREF, metavar="RASTER", help="Truth on the product's grid, with all its bands.")
@click.option("--hs", type=HREF, help="Where the product's HSI is now, if it has moved.")
@click.option("--ms", type=HREF, help="Where the product's MSI is now, if it has moved.")
@click.option("--truth", "truths", type=HREF, multiple=True, help="Truth raster on the fine grid, one per pair.")
@click.option("--ms-sensor", metavar="NAME", help="Inputs are single HSIs; simulate this sensor's MSI from each.")
@click.option(
    "--ratio",
    type=click.IntRange(2),
    help="Resolution ratio of the degraded pairs. [the pair's own; for a single HSI 4]",
)
@click.option("--mtf", "mtf_nyquist", type=float, help="MTF at Nyquist of the degrading PSF. [0.3]")
@click.option(
    "--snr-db",
    multiple=True,
    type=float,
    help="Add white noise at this SNR; inf: none; repeatable. [inf]",
)
@click.option(
    "--noise-on",
    type=click.Choice(["both", "hs", "ms"]),
    help="Images that get the noise; S3RNet's robustness table has it on hs. [both]",
)
@click.option("--seeds", type=click.IntRange(1), help="Noise draws per level. [1]")
@click.option("--folds", type=click.IntRange(1), help="Split each scene into this many parts, scored separately. [1]")
@click.option(
    "--convention",
    type=click.Choice(list(CONVENTIONS)),
    default="standard",
    show_default=True,
    help="Which formulas to use where papers differ.",
)
@click.option("--out", type=OwnPath(file_okay=False, path_type=Path), help="Folder for tables and pictures.")
@scene_options
@json_option
def command(
    inputs: tuple[str, ...],
    models: tuple[str, ...],
    methods: str | None,
    catalogs: tuple[str, ...],
    reference: str | None,
    hs: str | None,
    ms: str | None,
    convention: str,
    *,
    as_json: bool,
    **options: Any,
) -> int:
    """Score products, or compare methods on pairs of scenes.

    Among several products, those that cannot be scored are named, and the others are scored (exit code 3). If
    interrupted, it prints what is finished, and writes it to --out (exit code 130).

    \b
    PRODUCT... --reference RASTER   against a known truth: PSNR, SSIM, SAM, ERGAS, CC, UIQI, RMSE, RASE
    PRODUCT...                      against its own inputs: QNR, D_lambda, D_s, consistency with both
    HS MS --methods gsa,sfim        Wald's protocol: the pair degraded by its ratio, the HSI as truth
    HS MS --truth RASTER --model gsa --model aelf-t=aelf-t.safetensors
                                    the pair as it is, against a truth on its fine grid
    HS --ms-sensor Sentinel-2A --methods all --snr-db 35 --snr-db 15 --seeds 3
                                    pairs simulated from one HSI, the truth, with noise

    In --json a score is null if it could not be computed or is infinite (the PSNR of equal images); in the latter case
    the record's list `infinite` has its name. A document that ended early has `whole` false, and an `error`.
    """  # noqa: D301 # click reads the backspace: lines kept as they are
    if not models and methods is None:
        from scenefuse.product.folder import without_files_of_an_output

        _refuse_contest_options(catalogs, options)
        named = tuple(map(str, without_files_of_an_output(inputs)))
        products = ScoredProducts(inputs=named, reference=reference, convention=convention, moved=moved_to(hs, ms))
        return products.show(scene_config(options), as_json=as_json)
    _refuse_product_options(reference, (hs, ms))
    entries = _entries(models, methods)
    protocol = _protocol(options, convention)
    arena = _arena(inputs, catalogs, options)
    return _show_contest(arena, entries, protocol, options["out"], as_json=as_json)


def _show_contest(
    arena: Arena, entries: Sequence[Entry], protocol: ContestProtocol, out: Path | None, *, as_json: bool
) -> int:
    """Compare the methods, print what is finished even if it is not everything, and return the exit code."""
    from scenefuse.pipeline.contest import contest_document, evaluate_methods
    from scenefuse.quality.table import standings

    results: list[Result] = []

    def keep(result: Result) -> None:
        results.append(result)
        show_result(result)

    stopped: SceneFuseError | None = None
    try:
        evaluate_methods(arena, entries, protocol, out=out, report=keep)
    except KeyboardInterrupt as error:
        stopped = begun_anew(counted(len(results), "result"), shown=bool(results))
        if not results:
            raise stopped from error
    except SceneFuseError as error:
        if not results:
            raise
        stopped = WorkError(error.value, error.consequence, error.cure)
    if as_json:
        ended = {} if stopped is None else error_record(stopped)
        document = contest_document(results, protocol, whole=stopped is None, degraded=arena.degraded)
        emit_json({**document, **ended})
    else:
        kind = "full resolution, against the truth" if arena.truths else "reduced resolution (Wald)"
        show_standings(f"Scores at {kind}", standings(results))
        if out is not None:
            click.echo(f"Tables and pictures: {out}")
    if stopped is None:
        return 0
    note(f"Error: {stopped}")
    return stopped.exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredProducts:
    """The products to score when no methods are given."""

    inputs: tuple[str, ...]
    """The products."""
    reference: str | None
    """Raster of the truth; None for the products' own inputs."""
    convention: str
    """Formulas of the scores against a truth."""
    moved: tuple[str, str] | None
    """Where HSI and MSI of the single product are now."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UsageError("no input", "there is nothing to score", "Give products, or scenes and --model")
        if self.reference is None and self.convention != "standard":
            raise UsageError(
                f"--convention {self.convention} without --reference",
                "it selects formulas for scores against a truth, and there is none",
                "Give --reference, or leave it out",
            )
        if self.reference is not None and self.moved is not None:
            raise UsageError(
                "--hs and --ms with --reference",
                "a product is scored against one of the two",
                "Leave out one of the two",
            )

    def show(self, config: RunConfig, *, as_json: bool) -> int:
        """Score the products, print scores and failures, and return the exit code."""
        from scenefuse.pipeline.evaluate import evaluate_products

        found, stopped = until_interrupted(
            evaluate_products(
                self.inputs, reference=self.reference, convention=self.convention, hrefs=self.moved, config=config
            ),
            whole=counted(len(self.inputs), "product"),
        )
        failures = [entry for entry in found if isinstance(entry, ProductFailure)]
        scores = [entry for entry in found if not isinstance(entry, ProductFailure)]
        if as_json:
            records = {"scores": list(map(score_record, scores)), "failures": list(map(asdict, failures))}
            ended = {} if stopped is None else error_record(stopped)
            emit_json({"whole": stopped is None, "convention": self.convention, **records, **ended})
        else:
            show_scores("Scores", scores)
            show_failures(failures)
        if stopped is not None:
            note(f"Error: {stopped}")
            return stopped.exit_code
        return WorkError.exit_code if failures else 0


def show_result(result: Result) -> None:
    """Note on stderr that a method is done, once for all its folds."""
    if result.fold == 0:
        noise = f" at {result.snr_db:g} dB, seed {result.seed}" if math.isfinite(result.snr_db) else ""
        seen = ", scored only where no network has learnt from it" if result.scored_share < 1 else ""
        note(f"  {result.scene}: {result.method}{noise}: {result.seconds:.1f} s{seen}")


def show_scores(title: str, scores: Sequence[Scored]) -> None:
    """Print scores as a table with one row per product."""
    if not scores:
        return
    names = list(scores[0].values)
    print_table(title, ("name", *names), [(entry.name, *entry.values.values()) for entry in scores])
    for entry in scores:
        for line in entry.notes:
            click.echo(f"{entry.name}: {line}")


def show_standings(title: str, table: Sequence[Standing]) -> None:
    """Print one row per noise level and method: the mean, and the spread if there are several results."""
    from scenefuse.quality.table import spread

    names = list(table[0].mean)
    noisy = any(math.isfinite(entry.snr_db) for entry in table)
    several = any(entry.count > 1 for entry in table)
    rows = []
    for entry in table:
        means = entry.mean.items()
        cells = [spread(mean, entry.std[name]) if several else mean for name, mean in means]
        noise = ("none" if math.isinf(entry.snr_db) else f"{entry.snr_db:g}",) if noisy else ()
        rows.append((entry.method, *noise, *cells, entry.seconds))
    print_table(title, ("name", *(("SNR (dB)",) if noisy else ()), *names, "seconds"), rows)
    costs = [(entry.method, entry.parameters, entry.multiply_adds_per_pixel) for entry in table]
    print_table("Costs", ("name", "parameters", "multiply_adds_per_pixel"), dict.fromkeys(costs))


def score_record(entry: Scored) -> dict[str, object]:
    """The scores as JSON-compatible values."""
    from scenefuse.quality.table import scores_record

    return {"name": entry.name, **scores_record(entry.values), "notes": list(entry.notes)}


def _refuse_contest_options(catalogs: tuple[str, ...], options: dict[str, Any]) -> None:
    """Raise UsageError for an option that does not apply to products."""
    names = (
        *CONTEST_OPTIONS,
        "catalogs",
        *PAIR_NAMES,
        *SEARCH_NAMES,
        "hs_scale",
        "ms_scale",
        "drop_bands",
        "drop_ms_bands",
        "mask_clouds",
    )
    given = first_given({**options, "catalogs": catalogs}, names)
    if given is not None:
        raise UsageError(
            f"{given} without a method to compare", "products are scored as they are", "Give --model or --methods"
        )


def _refuse_product_options(reference: str | None, moved: tuple[str | None, str | None]) -> None:
    """Raise UsageError for an option that does not apply to a comparison of methods."""
    if moved != (None, None):
        raise UsageError("--hs and --ms with methods to compare", "they belong to a product", "Give HS MS as arguments")
    if reference is not None:
        raise UsageError(
            "--reference with methods to compare", "it is the truth of a product", "Give --truth RASTER for each pair"
        )


def _entries(models: tuple[str, ...], methods: str | None) -> tuple[Entry, ...]:
    """The methods of --methods, followed by those of --model."""
    from scenefuse.models.registry import weightless_names
    from scenefuse.quality.contest import enter

    listed = [] if methods is None else [name.strip() for name in methods.split(",")]
    names = list(weightless_names()) if methods == "all" else listed
    given: list[tuple[str, str | None]] = [(name, None) for name in names]
    for text in models:
        name, equals, weights = text.partition("=")
        if not name.strip() or (equals and not weights):
            raise UsageError(
                f"--model {text}", "it does not name a method and weights", "Write --model gsa or --model aelf-t=FILE"
            )
        given.append((name.strip(), weights or None))
    return enter(given)


def _protocol(options: dict[str, Any], convention: str) -> ContestProtocol:
    """The protocol: defaults, overridden by the options given."""
    from scenefuse.quality.contest import ContestProtocol

    given = {name: options[name] for name in ("ratio", "mtf_nyquist", "snr_db", "noise_on", "seeds", "folds")}
    values = {name: value for name, value in given.items() if value not in (None, ())}
    return ContestProtocol(**values, convention=convention)


def _arena(inputs: tuple[str, ...], catalogs: tuple[str, ...], options: dict[str, Any]) -> Arena:
    """The scenes named on the command line, or the pairs of the catalogues."""
    from scenefuse.archive.pair_search import find_in_archive
    from scenefuse.pipeline.contest import Arena

    if not catalogs:
        refuse_without_catalog(options)
    bounds, rule = bounds_of(options), pair_rule(options)
    config = scene_config(options)
    truths, ms_sensor = options["truths"], options["ms_sensor"]
    if ms_sensor is not None:
        if catalogs or truths or not inputs:
            raise UsageError(
                f"--ms-sensor with {counted(len(inputs), 'image')}, {counted(len(catalogs), 'catalogue')}, "
                f"{counted(len(truths), 'truth')}",
                "each input is a single HSI, which is itself the truth",
                "Give HS... --ms-sensor NAME alone",
            )
        given = first_given(
            {"ms_scale": config.ms_scale, "drop_ms_bands": config.drop_ms_bands}, ("ms_scale", "drop_ms_bands")
        )
        if given is not None:
            raise UsageError(f"{given} with --ms-sensor", "the MSI is made from the HSI's reflectance", "Leave it out")
        return Arena(images=inputs, ms_sensor=ms_sensor, config=config)
    if bool(inputs) == bool(catalogs) or len(inputs) % 2:
        raise UsageError(
            f"{counted(len(inputs), 'input')} and {counted(len(catalogs), 'catalogue')} to compare methods on",
            "pairs are HS MS, HS MS, ... or those of --catalog",
            "Give one of the two, or --ms-sensor for single images",
        )
    if inputs:
        return Arena(pairs=tuple(zip(inputs[::2], inputs[1::2], strict=True)), truths=truths, config=config)
    if truths:
        raise UsageError(
            "--truth with --catalog", "it is not clear which pair it belongs to", "Name the pairs: HS MS, HS MS"
        )
    pairing, skipped = find_in_archive(catalogs, rule, bounds=bounds, allow_hosts=config.allow_host)
    note_skipped(skipped)
    if not pairing.pairs:
        raise UsageError("no pair in the catalogues", "there is nothing to compare on", "See scenefuse pair")
    return Arena(pairs=tuple((pair.hs, pair.ms) for pair in pairing.pairs), config=config)
