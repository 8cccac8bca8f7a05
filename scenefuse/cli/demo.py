"""`scenefuse demo`: the whole workflow on a simulated archive with known truth."""

from __future__ import annotations

from pathlib import Path

import click

from scenefuse.cli.batch import show_batch
from scenefuse.cli.completion import MODEL_NAME
from scenefuse.cli.evaluate import score_record, show_scores
from scenefuse.cli.options import OwnPath
from scenefuse.cli.output import emit_json, json_option, note
from scenefuse.cli.progress import ProgressBar
from scenefuse.config import DEMO_MODEL, RunConfig
from scenefuse.demo.size import DemoSize
from scenefuse.errors import WorkError

ASK_ABOVE_BYTES = 10 * 10**9
"""Archives larger than this are only made after asking."""


@click.command(name="demo")
@click.option(
    "--out",
    type=OwnPath(file_okay=False, path_type=Path),
    default=Path("demo-out"),
    show_default=True,
    help="Folder for the archive and the products.",
)
@click.option(
    "--size",
    type=click.Choice([size.name.lower() for size in DemoSize]),
    default="small",
    show_default=True,
    help="Side of the fine scenes: 252, 1026 or 4098 pixels.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Each seed gives another landscape.")
@click.option("--model", type=MODEL_NAME, default=DEMO_MODEL, show_default=True, help="Fusion method.")
@click.option("--workers", type=click.IntRange(1), help="Worker processes. [one per core]")
@click.option("--yes", is_flag=True, help="Do not ask before using tens of GB (--size large).")
@json_option
def command(out: Path, size: str, seed: int, model: str, workers: int | None, *, yes: bool, as_json: bool) -> int:
    """Simulate a STAC archive with known truth, fuse its pairs and score the results.

    The archive has an EnMAP-like and a Sentinel-2-like collection, with three pairs that can be fused and scenes that
    cannot: cloudy, elsewhere, or too far apart in time. Sizes small, medium, large: 252, 1026, 4098 fine pixels a side.
    """
    from scenefuse.demo.plan import estimated_bytes
    from scenefuse.pipeline.demo import demonstrate

    chosen = DemoSize[size.upper()]
    needed = estimated_bytes(chosen)
    if needed > ASK_ABOVE_BYTES and not yes:
        click.confirm(f"{size} takes about {needed / 1e9:.0f} GB of disk at {out}. Go on?", abort=True, err=True)
    with ProgressBar() as progress:
        shown = demonstrate(
            out,
            size=chosen,
            seed=seed,
            config=RunConfig(model=model, workers=workers),
            observer=progress,
            progress=lambda site: note(f"Simulating site {site}"),
        )
    if as_json:
        scores = [score_record(entry) for entry in shown.scores]
        emit_json(
            {"catalog": str(shown.catalog), "products": str(shown.products), **shown.report.facts(), "scores": scores}
        )
    else:
        show_batch(shown.report)
        show_scores("Quality against the known truth (bicubic: the HSI alone, upsampled)", shown.scores)
        click.echo(f"Archive:   {shown.catalog}")
        click.echo(f"Products:  {shown.products / 'catalog.json'}")
        for product in shown.report.products[:1]:
            click.echo(
                f"Look at:   {product.folder / 'report.html'} (a browser), fused.tif (QGIS), fused.zarr (xarray)"
            )
            click.echo(f"Check:     scenefuse verify {product.folder}")
            click.echo(f"Recompute: scenefuse replay {product.folder}")
    return WorkError.exit_code if shown.report.failures else 0
