"""Process several products one by one: a failure of one does not affect the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from scenefuse.errors import SceneFuseError
from scenefuse.failure import Failure
from scenefuse.place.place import Place

T = TypeVar("T")

Location = str | Path | Place


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductFailure:
    """A product that could not be processed."""

    product: str
    """Its location, as given."""
    kind: str
    """Kind of failure: data, mismatch, transient, bug, ..."""
    cause: str
    """What happened, and the cure."""
    retryable: bool
    """Whether the same call may succeed later."""


def for_each_product(products: Sequence[Location], look: Callable[[Location], T]) -> Iterator[T | ProductFailure]:
    """Yield look's result for each product as soon as it is known.

    Among several products, yields a ProductFailure for each on which look fails; with only one, raises the error.
    """
    for product in products:
        try:
            found = look(product)
        except Exception as error:
            if len(products) == 1:
                raise
            yield _failed(str(product), error)
        else:
            yield found


def _failed(product: str, error: Exception) -> ProductFailure:
    """The record of a product's failure."""
    failure = Failure.of(error)
    if failure.kind == SceneFuseError.kind and not isinstance(error, SceneFuseError):
        failure = Failure.of(SceneFuseError(failure.cause, "it could not be processed", "Report it with the call"))
    return ProductFailure(product=product, **asdict(failure))
