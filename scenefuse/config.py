"""RunConfig: the options of a run, from TOML files and the command line.

`parse` turns a TOML table into any of the package's frozen dataclasses; an unknown key is an error.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from scenefuse.errors import UsageError

T = TypeVar("T")

PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16"]
"""Choices that may be requested; engine.precision.Precision is what a run then uses."""
DeviceChoice = Literal["auto", "cpu", "cuda"]
"""Choices that may be requested; engine.device.Device is what a run then uses."""
Halo = Literal["default", "full"]
Format = Literal["zarr", "cog"]

DEFAULT_MODEL = "hysure-l2"
"""Method used when none is named; chosen by the quality table in the README."""
DEMO_MODEL = "aelf-t"
"""Method of the demo: the network whose shipped weights were trained for the demo's two instruments."""


INPUT_OPTIONS = ("hs_scale", "ms_scale", "drop_bands", "drop_ms_bands", "mask_clouds", "register")
"""RunConfig options that control how the two images are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Options of one fusion. Those above `scheduler` affect the result and are part of the product's identity.

    Values are checked against their annotations however the object is created: a string or list becomes a tuple, a Path
    a string, and any other value of the wrong type raises UsageError.
    """

    model: str = DEFAULT_MODEL
    """Name of the method."""
    weights: str | None = None
    """Weights of a network: a safetensors file, or name[@version] on the shelf; None picks those that fit the pair."""
    adapt: int | None = None
    """Steps to fine-tune a network on the pair before fusing it; None uses the weights as they are."""
    precision: PrecisionChoice = "auto"
    """Arithmetic on the device: `auto` is bf16 on a GPU that supports it if the method's card allows it, else fp32."""
    device: DeviceChoice = "auto"
    """Compute device; `auto` uses CUDA if there is a device."""
    halo: Halo = "default"
    """`full` reads all pixels that can influence one: on a CPU in float32, tiles are bitwise equal to a single pass."""
    core_px: int | None = None
    """Side of a tile's core in fine pixels, rounded to the lattice; None lets the planner choose."""
    hs_scale: float | None = None
    """Reflectance per DN of the HSI, overriding all metadata; None uses the item's, the file's or the sensor card's."""
    ms_scale: float | None = None
    """Reflectance per DN of the MSI, overriding all metadata; None uses the item's, the file's or the sensor card's."""
    drop_bands: tuple[str, ...] = ()
    """Names of HSI bands to drop in addition to those marked bad."""
    drop_ms_bands: tuple[str, ...] = ()
    """Names of MSI bands to drop in addition to those without detail to add."""
    mask_clouds: bool = False
    """Whether to mask clouds and their shadows with the scene's own mask (SCL, QA_PIXEL, ...)."""
    register: bool = True
    """Whether to estimate the sub-pixel shift between the two images and remove it if it is significant."""

    scheduler: str | None = None
    """Address of a running Dask scheduler; None starts workers on this machine."""
    workers: int | None = None
    """Worker processes on this machine; None means one per core (CPU) or per device (CUDA)."""
    memory_limit: str | None = None
    """Memory limit per worker, such as `4GiB`; None means an equal share of this machine's memory."""
    format: tuple[Format, ...] = ("zarr", "cog")
    """Formats to write: `zarr` always, `cog` if listed."""
    report: bool = True
    """Whether to write the product's report, `report.html`."""
    allow_host: tuple[str, ...] = ()
    """Hosts that may be reached even if they are loopback or not https."""

    def __post_init__(self) -> None:
        for name, hint in typing.get_type_hints(RunConfig).items():
            object.__setattr__(self, name, _fit(getattr(self, name), hint, name))
        if self.scheduler is not None and self.workers is not None:
            raise UsageError(
                f"scheduler {self.scheduler} and workers {self.workers} are both set",
                "a running cluster has its own workers",
                "Leave out one of the two",
            )
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers is {self.workers}", "there would be nobody to do the work", "Give 1 or more")
        if self.memory_limit is not None and parse_bytes(self.memory_limit) < 1:
            raise UsageError(f"memory_limit is {self.memory_limit}", "no worker could start", "Write it like 4GiB")
        if self.adapt is not None and self.adapt < 1:
            raise UsageError(
                f"adapt is {self.adapt}", "nothing would be learnt", "Give 1 step or more, or leave it out"
            )
        for name in ("hs_scale", "ms_scale"):
            scale = getattr(self, name)
            if scale is not None and not (math.isfinite(scale) and scale > 0):
                raise UsageError(
                    f"{name} is {scale}",
                    "reflectance cannot be computed with it",
                    "Give reflectance per stored value, for example 0.0001",
                )
        if self.core_px is not None and self.core_px < 1:
            raise UsageError(f"core_px is {self.core_px}", "a tile would be empty", "Give a side in fine pixels")
        if "zarr" not in self.format:
            raise UsageError(
                f"format is {','.join(self.format)}",
                "everything else is made from the Zarr store",
                "Use zarr or zarr,cog",
            )

    def memory_limit_bytes(self) -> int | None:
        """memory_limit in bytes; None when it is not set."""
        return None if self.memory_limit is None else parse_bytes(self.memory_limit)

    def updated(self, options: Mapping[str, Any]) -> RunConfig:
        """A copy with those options that are not None replaced: the command line overrides the file."""
        return replace(self, **{key: value for key, value in options.items() if value is not None})


def weights_folder() -> Path:
    """The user's shelf of weights: $SCENEFUSE_WEIGHTS, else scenefuse/weights in the user's data folder."""
    own = os.environ.get("SCENEFUSE_WEIGHTS")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")  # noqa: PTH111 - see netrc_file
    return Path(own) if own else Path(data) / "scenefuse" / "weights"


def stac_credentials() -> tuple[str | None, str | None]:
    """Token ($SCENEFUSE_STAC_TOKEN) and whole header ($SCENEFUSE_STAC_HEADER) for writing to STAC APIs, if set."""
    token, header = (os.environ.get(f"SCENEFUSE_STAC_{name}", "").strip() for name in ("TOKEN", "HEADER"))
    return token or None, header or None


def archive_token(variable: str) -> str | None:
    """The token for an archive's files, from the variable that its catalogue entry names; None if it is not set."""
    return os.environ.get(variable, "").strip() or None


def netrc_file() -> Path:
    """The netrc file with users and passwords by host: $NETRC, else ~/.netrc."""
    return Path(os.environ.get("NETRC") or os.path.expanduser("~/.netrc"))  # noqa: PTH111 - stays as it is without a home


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_bytes(text: str) -> int:
    """Bytes of a size such as `4GiB`, `800 MB` or `1000000`.

    >>> parse_bytes("1.5 GiB")
    1610612736
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise UsageError(f"size {text!r} is not understood", "no limit can be set", "Write it like 4GiB or 800MB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; UsageError if it is missing or broken, then with line and column."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror})", "there is no configuration", "Check the path"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML ({error})", "it is not used", "Correct the line") from error


def parse(cls: type[T], table: Mapping[str, Any], *, where: str) -> T:
    """An instance of dataclass cls from a table; `where` names the table in messages.

    Lists become tuples. An unknown or missing key, a value of the wrong type or one outside a Literal raises
    UsageError.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"{where} is {table!r}", "it is not a table", "Write it as a [table]")
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type] # any dataclass, by contract
    for key in table:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            cure = (f"Did you mean {near[0]!r}? " if near else "") + f"Known keys: {', '.join(names)}"
            raise UsageError(f"unknown key {key!r} in {where}", "it would have no effect", cure)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type] # any dataclass, by contract
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in table:
            raise UsageError(f"{where} has no {field.name}", "it has no default", f"Add {field.name} = ...")
    try:
        return cls(**{key: _fit(value, hints[key], f"{where}.{key}") for key, value in table.items()})
    except ValueError as error:
        raise UsageError(f"{where}: {error}", "the values are impossible", "Correct them") from error


_NUMBERS: dict[type, type] = {int: numbers.Integral, float: numbers.Real}
"""Types accepted for each annotated number."""


def _fit(value: Any, hint: Any, where: str) -> Any:
    """The value as the annotated type; UsageError if it does not fit."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, typing.Union):
        options = [arg for arg in args if arg is not type(None)]
        return None if value is None else _fit(value, options[0], where)
    if origin is Literal:
        if value not in args:
            raise UsageError(
                f"{where} is {value!r}", "there is no such choice", f"Choose one of {', '.join(map(str, args))}"
            )
        return value
    if origin is tuple:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise UsageError(f"{where} is {value!r}", "a list is needed", 'Write it like ["a", "b"]')
        return tuple(_fit(item, args[0], where) for item in items)
    if hint in (int, float) and isinstance(value, _NUMBERS[hint]) and not isinstance(value, bool):
        return hint(value)  # also converts NumPy scalars
    if hint is str and isinstance(value, Path):
        return str(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise UsageError(f"{where} is {value!r}", f"a value of type {hint.__name__} is needed", "Correct the value")
    return value
