"""Process several products in order, and report when one of them stops the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from scenefuse.errors import SceneFuseError, WorkError

Thing = TypeVar("Thing")
Done = TypeVar("Done")


def in_order(
    things: Sequence[Thing], publish: Callable[[Thing], Done], failed: Callable[[Thing, Exception], None] | None = None
) -> list[Done]:
    """Publish each thing and return the results; WorkError if one fails after others, which stay published.

    failed: called for each failure; the remaining things are then still published.
    """
    done: list[Done] = []
    for thing in things:
        try:
            done.append(publish(thing))
        except (SceneFuseError, OSError) as error:
            if failed is not None:
                failed(thing, error)
            elif not done or not isinstance(error, SceneFuseError):
                raise
            else:
                raise interrupted(error, len(done), len(things)) from error
    return done


def checked(
    things: Sequence[Thing], check: Callable[[Thing], Done], failed: Callable[[Thing, Exception], None] | None
) -> list[Done]:
    """Check all things before any is published; the first failure is raised unless failed is given to take it."""
    if failed is None:
        return [check(thing) for thing in things]
    return in_order(things, check, failed)


def interrupted(error: SceneFuseError, done: int, of: int) -> WorkError:
    """Turn the error of one product into that of the whole call, in which some were published already."""
    return WorkError(f"{error.value}, after {done} of {of} products", error.consequence, error.cure)
