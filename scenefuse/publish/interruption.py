"""Several products one after the other, and what is said when one of them stops the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from scenefuse.errors import SceneFuseError, WorkError

Thing = TypeVar("Thing")
Done = TypeVar("Done")


def in_order(
    things: Sequence[Thing], publish: Callable[[Thing], Done], failed: Callable[[Thing, Exception], None] | None = None
) -> list[Done]:
    """What publishing gives for each; WorkError where one fails after others were published: they stay there.

    failed: told of each that fails, which is then left out.
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
    """What checking gives for each, before any is published; the first that fails ends it unless failed is told."""
    if failed is None:
        return [check(thing) for thing in things]
    return in_order(things, check, failed)


def interrupted(error: SceneFuseError, done: int, of: int) -> WorkError:
    """The error of one product as that of all, of which some are published already."""
    return WorkError(f"{error.value}, after {done} of {of} products", error.consequence, error.cure)
