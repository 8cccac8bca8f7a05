"""Options shared by several commands, and their conversion to a RunConfig or a PairRule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from scenefuse.archive.bounds import Bounds, parse_time
from scenefuse.cli.completion import HREF, MODEL_NAME
from scenefuse.config import INPUT_OPTIONS, RunConfig, parse, read_toml
from scenefuse.errors import UsageError
from scenefuse.place.location import own_path, place_at
from scenefuse.place.place import Place

if TYPE_CHECKING:
    from scenefuse.archive.pairing import PairRule


class PlaceType(click.ParamType[Place]):
    """A path, or s3://bucket/prefix."""

    name = "place"
    may_be_file = False
    """Whether it may name a local file."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """The place named; a local file is refused where a folder is needed."""
        if isinstance(value, str) and not self.may_be_file and own_path(value).is_file():
            self.fail(f"Directory {value!r} is a file.", param, ctx)
        return place_at(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 # click's signature
        """Let the shell complete paths."""
        return [CompletionItem(incomplete, type="file")]


class ProductType(PlaceType):
    """A product's folder, or the item in it."""

    name = "product"
    may_be_file = True


class FileType(PlaceType):
    """A file on this machine or in an object store, or `-` for stdout."""

    name = "file"
    may_be_file = True


class OwnPath(click.Path):
    """A local path; expands ~, which shells leave alone in `--out=~/x`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path with ~ expanded."""
        return super().convert(own_path(value), param, ctx)


PLACE = PlaceType()
PRODUCT = ProductType()
FILE = FileType()


def _products(_ctx: click.Context, _param: click.Parameter, places: tuple[Place, ...]) -> tuple[Place, ...]:
    """The products named, without the catalogue's files that `products/*` also matches."""
    from scenefuse.product.folder import without_files_of_an_output

    return without_files_of_an_output(places)


products_argument = click.argument(
    "products", nargs=-1, required=True, type=PRODUCT, metavar="PRODUCT...", callback=_products
)

out_option = click.option(
    "--out", type=PLACE, required=True, metavar="DST", help="Where products go: a folder, or s3://bucket/prefix."
)

allow_host_option = click.option(
    "--allow-host", multiple=True, help="Allow this host over plain http or loopback; repeatable."
)
scheduler_option = click.option(
    "--scheduler", metavar="ADDRESS", help="Use a running Dask scheduler, tcp://host:8786. [own workers]"
)
workers_option = click.option(
    "--workers", type=click.IntRange(1), help="Number of own worker processes. [one per core or GPU]"
)
memory_limit_option = click.option(
    "--memory-limit", metavar="SIZE", help="Memory limit per worker, such as 4GiB. [equal share]"
)

F = TypeVar("F", bound=Callable[..., Any])

_SCENE_OPTIONS = (
    click.option("--hs-scale", type=float, help="Reflectance per DN of the HSI. [declared by item, file or sensor]"),
    click.option("--ms-scale", type=float, help="Reflectance per DN of the MSI. [declared by item, file or sensor]"),
    click.option("--drop-band", "drop_bands", multiple=True, help="Drop this HSI band, by name; repeatable."),
    click.option("--drop-ms-band", "drop_ms_bands", multiple=True, help="Drop this MSI band, by name; repeatable."),
    click.option(
        "--mask-clouds/--no-mask-clouds",
        default=None,
        help="Mask clouds and shadows with the scenes' own masks (SCL, QA_PIXEL, EMIT's, ...). [off]",
    ),
    click.option("--register/--no-register", default=None, help="Estimate and remove the sub-pixel shift. [on]"),
    allow_host_option,
)

_RUN_OPTIONS = (
    click.option("--model", type=MODEL_NAME, help="Fusion method; see `scenefuse models`."),
    click.option(
        "--weights", type=HREF, help="Weights of a network: file, or name[@version] on the shelf. [those that fit]"
    ),
    click.option(
        "--adapt", type=click.IntRange(1), help="Fine-tune the network on the pair for this many steps first."
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
        help="Arithmetic; `auto`: bf16 on GPUs if the method supports it, else fp32. [auto]",
    ),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Device the method runs on. [auto]"),
    click.option(
        "--halo",
        type=click.Choice(["default", "full"]),
        help="`full`: bitwise equal to one pass (CPU, fp32); `default`: within 1e-6. [default]",
    ),
    click.option("--core-px", type=click.IntRange(1), help="Tile side without halo, in fine pixels; rounded."),
    *_SCENE_OPTIONS,
    scheduler_option,
    workers_option,
    memory_limit_option,
    click.option("--format", "formats", metavar="LIST", help="Formats to write: zarr, or zarr,cog. [zarr,cog]"),
    click.option("--report/--no-report", default=None, help="Write report.html into the product. [on]"),
    click.option("--config", type=OwnPath(dir_okay=False, path_type=Path), help="Read these options from a TOML file."),
)

_PAIR_OPTIONS = (
    click.option("--hs-collection", help="Collection of the HSI. [from metadata]"),
    click.option("--ms-collection", help="Collection of the MSI. [from metadata]"),
    click.option("--max-gap-hours", type=float, help="Maximum time between the two scenes, in hours. [72]"),
    click.option(
        "--min-overlap",
        "min_overlap_fraction",
        type=click.FloatRange(0, 1),
        help="Minimum overlap, as a fraction of the smaller footprint. [0.2]",
    ),
    click.option(
        "--max-cloud",
        "max_cloud_fraction",
        type=click.FloatRange(0, 1),
        help="Maximum cloud cover of either scene, as a fraction. [0.2]",
    ),
)

PAIR_NAMES = ("hs_collection", "ms_collection", "max_gap_hours", "min_overlap_fraction", "max_cloud_fraction")
"""Options for pairing, named as the fields of PairRule."""


def _search_options(what: str) -> tuple[Callable[[F], F], ...]:
    return (
        click.option("--bbox", nargs=4, type=float, metavar="W S E N", help="Bounding box in degrees."),
        click.option("--since", help=f"First day or time of {what}, ISO 8601."),
        click.option("--until", help=f"Last day or time of {what}, ISO 8601."),
    )


SEARCH_NAMES = ("bbox", "since", "until")
"""Options for searching, named as the fields of Bounds."""


def run_options(function: F) -> F:
    """Add the options of a run, as keyword arguments that `run_config` takes."""
    return _with(_RUN_OPTIONS, function)


def scene_options(function: F) -> F:
    """Add the options for opening scenes, as keyword arguments that `scene_config` takes."""
    return _with(_SCENE_OPTIONS, function)


def pair_options(function: F) -> F:
    """Add the options for pairing, as keyword arguments that `pair_rule` takes."""
    return _with(_PAIR_OPTIONS, function)


def search_options(function: F) -> F:
    """Add the bounds of a search for scenes: bbox, since, until."""
    return _with(_search_options("acquisition"), function)


def pair_search_options(function: F) -> F:
    """Add the bounds of a search for pairs: bbox, since, until."""
    return _with(_search_options("the HSI's acquisition"), function)


def _with(options: tuple[Callable[[F], F], ...], function: F) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def run_config(options: dict[str, Any]) -> RunConfig:
    """The configuration: defaults, then --config's file, then the options given. Removes the options it uses."""
    path: Path | None = options.pop("config")
    formats: str | None = options.pop("formats")
    names = [option for option in RunConfig.__dataclass_fields__ if option in options]
    given = _given(names, options)
    given["format"] = None if formats is None else tuple(part.strip() for part in formats.split(","))
    base = RunConfig() if path is None else parse(RunConfig, read_toml(path), where=str(path))
    return base.updated(given)


def scene_config(options: dict[str, Any]) -> RunConfig:
    """A configuration that only sets how scenes are opened. Removes the options it uses."""
    return RunConfig().updated(_given((*INPUT_OPTIONS, "allow_host"), options))


def _given(names: Iterable[str], options: dict[str, Any]) -> dict[str, Any]:
    """Pop the named options; None for a repeatable one that was not given."""
    values = {name: options.pop(name) for name in names}
    return {name: None if value == () else value for name, value in values.items()}


def pair_rule(options: dict[str, Any]) -> PairRule:
    """The rule: defaults, then the options given. Removes the options it uses."""
    from scenefuse.archive.pairing import PairRule

    given = {name: options.pop(name) for name in PAIR_NAMES}
    return PairRule(**{name: value for name, value in given.items() if value is not None})


def first_given(options: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The first of these options given to the running command, as written there; None if none was given."""
    written = {option.name: option.opts[0] for option in click.get_current_context().command.params}
    return next((written[name] for name in names if options[name] not in {None, ()}), None)


def refuse_without_catalog(options: Mapping[str, Any]) -> None:
    """Raise UsageError if an option that selects from an archive is given together with named scenes."""
    given = first_given(options, (*PAIR_NAMES, *SEARCH_NAMES))
    if given is not None:
        raise UsageError(
            f"{given} without --catalog",
            "named scenes are used as they are",
            "Leave it out, or give --catalog",
        )


def moved_to(hs: str | None, ms: str | None, *, products: int = 1) -> tuple[str, str] | None:
    """Where the two scenes of a product are now, from --hs and --ms; None if neither was given.

    products: the number of products named; UsageError unless it is one, as each product has its own pair.
    """
    if hs is None and ms is None:
        return None
    if products != 1:
        raise UsageError(
            f"--hs and --ms with {products} products",
            "each product has a pair of its own",
            "Give one product with them",
        )
    if hs is None or ms is None:
        raise UsageError("only one of --hs and --ms", "the pair would be half old, half new", "Give both or none")
    return hs, ms


def bounds_of(options: dict[str, Any]) -> Bounds:
    """The bounds of a search. Removes the options it uses."""
    bbox, since, until = (options.pop(name) for name in SEARCH_NAMES)
    return Bounds(bbox=bbox, since=parse_time("--since", since), until=parse_time("--until", until, day_ends=True))
