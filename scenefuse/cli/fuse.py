"""`scenefuse fuse`: fuse one pair of scenes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from scenefuse.cli.completion import HREF
from scenefuse.cli.options import out_option, run_config, run_options
from scenefuse.cli.output import emit_json, json_option
from scenefuse.cli.progress import ProgressBar
from scenefuse.place.place import Place
from scenefuse.words import counted

if TYPE_CHECKING:
    from scenefuse.pipeline.fuse import FusedProduct

WORDS = {"done": "Fused", "resumed": "Resumed and finished", "found": "Found, nothing to do"}


@click.command(name="fuse")
@click.argument("hs", type=HREF)
@click.argument("ms", type=HREF)
@out_option
@run_options
@json_option
def command(hs: str, ms: str, out: Place, *, as_json: bool, **options: Any) -> None:
    """Fuse the hyperspectral scene HS with the multispectral scene MS.

    Each is a STAC item (path or URL), a raster file, or a product as delivered: the folder of an EnMAP, DESIS,
    Sentinel-2 (SAFE) or Landsat 8/9 scene. Rasters may be COG, GeoTIFF, JPEG 2000, PRISMA HE5 or EMIT netCDF, on disk,
    https:// or s3:// (read by ranges); ENVI and Zarr on disk only.

    The product, with all bands of HS on the grid of MS, goes to DST/<item id>/. The same call again finds it, or
    resumes it if it was interrupted.
    """
    from scenefuse.pipeline.fuse import fuse

    with ProgressBar() as progress:
        product = fuse(hs, ms, out=out, config=run_config(options), observer=progress)
    if as_json:
        emit_json(product.facts())
    else:
        show_product(product)


def show_product(product: FusedProduct) -> None:
    """Print what became of a pair."""
    click.echo(f"{WORDS[product.status]}: {product.location}")
    bands, rows, columns = product.shape
    click.echo(f"  {counted(bands, 'band')}, {rows} x {columns} px of {product.gsd_m:g} m, {product.seconds:.1f} s")
    for name, title in (("seams", "Step at seams"), ("drift", "Drift against float32")):
        if found := product.checks.get(name):
            click.echo(f"  {title}: {found['rms']:.1e} rms, {found['p999']:.1e} at the 99.9th percentile")
    if clipped := product.checks.get("clipped_px"):
        share = 100 * clipped / (rows * columns)
        click.echo(f"  Clipped: {share:.2g} % of the pixels left the range of the stored integers, -3.2767 to 3.2767")
    if product.report is not None:
        click.echo(f"  Report: {product.report}")
    for line in product.notes:
        click.echo(f"  {line}")
