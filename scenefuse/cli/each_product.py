"""Process several products in order, reporting each as soon as it is done, or all in one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from scenefuse.cli.output import emit_json, error_record, note, show_failures
from scenefuse.cli.stopping import until_interrupted
from scenefuse.errors import WorkError
from scenefuse.pipeline.each_product import Location, ProductFailure, for_each_product
from scenefuse.place.place import Place
from scenefuse.words import counted

T = TypeVar("T")


def run_on_products(
    products: Sequence[Place],
    look: Callable[[Location], T],
    *,
    show: Callable[[T], None],
    record: Callable[[T], dict[str, Any]] | None,
) -> tuple[list[T], int]:
    """Look at each product; return the results and the exit code: 3 if one of several failed, 130 if interrupted.

    show prints each result as soon as it is there, as large products take minutes. If record is given, its results are
    printed at the end instead, in one JSON document. The failure of a single product is raised.
    """

    def told() -> Iterator[T | ProductFailure]:
        for found in for_each_product(products, look):
            if record is None and isinstance(found, ProductFailure):
                show_failures([found])
            elif record is None and not isinstance(found, ProductFailure):
                show(found)
            yield found

    entries, stopped = until_interrupted(told(), whole=counted(len(products), "product"))
    failures = [entry for entry in entries if isinstance(entry, ProductFailure)]
    found = [entry for entry in entries if not isinstance(entry, ProductFailure)]
    if record is not None:
        ended = {} if stopped is None else error_record(stopped)
        emit_json({"products": list(map(record, found)), "failures": list(map(asdict, failures)), **ended})
    if stopped is not None:
        note(f"Error: {stopped}")
        return found, stopped.exit_code
    return found, WorkError.exit_code if failures else 0
