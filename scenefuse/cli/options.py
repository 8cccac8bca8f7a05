"""Options that several commands share, and how they become a RunConfig or a PairRule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from scenefuse.archive.bounds import Bounds, parse_time
from scenefuse.config import RunConfig, parse, read_toml
from scenefuse.place.location import place_at
from scenefuse.place.place import Place

if TYPE_CHECKING:
    from scenefuse.archive.pairing import PairRule


class PlaceType(click.ParamType[Place]):
    """A path, or s3://bucket/prefix."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """The place that was named; a file of this machine is none for products."""
        if isinstance(value, str) and Path(value).is_file():
            self.fail(f"Directory {value!r} is a file.", param, ctx)
        return place_at(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 # click's signature
        """Paths, as the shell knows them."""
        return [CompletionItem(incomplete, type="file")]


PLACE = PlaceType()

out_option = click.option(
    "--out", type=PLACE, required=True, metavar="DST", help="Products: a folder, or s3://bucket/prefix."
)

F = TypeVar("F", bound=Callable[..., Any])

_RUN_OPTIONS = (
    click.option("--model", help="Fusion method; `scenefuse models` lists them."),
    click.option("--weights", help="For a network: file, or name[@version] on the shelf. [those that fit the pair]"),
    click.option("--adapt", type=click.IntRange(1), help="Fine-tune the network on the pair by so many steps first."),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
        help="Arithmetic: auto is bf16 on a GPU where the method bears it, else fp32. [auto]",
    ),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where the method runs. [auto]"),
    click.option(
        "--halo",
        type=click.Choice(["default", "full"]),
        help="`full`: bitwise as fused whole (CPU, fp32); `default`: within 1e-6. [default]",
    ),
    click.option("--core-px", type=click.IntRange(1), help="Side of a tile's core in fine pixels; rounded."),
    click.option("--hs-scale", type=float, help="Reflectance per DN of the HSI, when nothing else says."),
    click.option("--ms-scale", type=float, help="Reflectance per DN of the MSI, when nothing else says."),
    click.option("--drop-band", "drop_bands", multiple=True, help="HSI band to leave out, by name; repeatable."),
    click.option("--register/--no-register", default=None, help="Estimate and remove the sub-pixel shift. [on]"),
    click.option("--scheduler", metavar="ADDRESS", help="Running Dask scheduler, tcp://host:8786. [own workers]"),
    click.option("--workers", type=click.IntRange(1), help="Own worker processes. [one per core or GPU]"),
    click.option("--memory-limit", metavar="SIZE", help="Memory of each worker, like 4GiB. [equal share]"),
    click.option("--format", "formats", metavar="LIST", help="zarr or zarr,cog. [zarr,cog]"),
    click.option("--allow-host", multiple=True, help="Host that may be reached over http or loopback; repeatable."),
    click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="TOML file with these options."),
)

_PAIR_OPTIONS = (
    click.option("--hs-collection", help="Collection that holds the HSI. [told from metadata]"),
    click.option("--ms-collection", help="Collection that holds the MSI. [told from metadata]"),
    click.option("--max-gap-hours", type=float, help="Longest time between the two. [72]"),
    click.option("--min-overlap", "min_overlap_fraction", type=click.FloatRange(0, 1), help="Least overlap. [0.2]"),
    click.option("--max-cloud", "max_cloud_fraction", type=click.FloatRange(0, 1), help="Most cloud. [0.2]"),
)

_SEARCH_OPTIONS = (
    click.option("--bbox", nargs=4, type=float, metavar="W S E N", help="Bounding box in degrees."),
    click.option("--since", help="First day or time of acquisition, ISO 8601."),
    click.option("--until", help="Last day or time of acquisition, ISO 8601."),
)


def run_options(function: F) -> F:
    """The options of a run, as keyword arguments that `run_config` takes."""
    return _with(_RUN_OPTIONS, function)


def pair_options(function: F) -> F:
    """The options of pairing, as keyword arguments that `pair_rule` takes."""
    return _with(_PAIR_OPTIONS, function)


def search_options(function: F) -> F:
    """The bounds of a search: bbox, since, until."""
    return _with(_SEARCH_OPTIONS, function)


def _with(options: tuple[Callable[[F], F], ...], function: F) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def run_config(options: dict[str, Any]) -> RunConfig:
    """The configuration: defaults, then --config's file, then the options that were given. Empties what it takes."""
    path: Path | None = options.pop("config")
    formats: str | None = options.pop("formats")
    names = [option for option in RunConfig.__dataclass_fields__ if option in options]
    given = {name: options.pop(name) for name in names}
    given["format"] = None if formats is None else tuple(part.strip() for part in formats.split(","))
    for name in ("drop_bands", "allow_host"):
        given[name] = given[name] or None
    base = RunConfig() if path is None else parse(RunConfig, read_toml(path), where=str(path))
    return base.updated(given)


def pair_rule(options: dict[str, Any]) -> PairRule:
    """The rule: defaults, then the options that were given. Empties what it takes."""
    from scenefuse.archive.pairing import PairRule

    names = ("hs_collection", "ms_collection", "max_gap_hours", "min_overlap_fraction", "max_cloud_fraction")
    given = {name: options.pop(name) for name in names}
    return PairRule(**{name: value for name, value in given.items() if value is not None})


def bounds_of(options: dict[str, Any]) -> Bounds:
    """The bounds of a search. Empties what it takes."""
    bbox, since, until = (options.pop(name) for name in ("bbox", "since", "until"))
    return Bounds(bbox=bbox, since=parse_time("--since", since), until=parse_time("--until", until, day_ends=True))
