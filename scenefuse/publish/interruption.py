"""Several products one after the other, and what is said when one of them stops the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from scenefuse.errors import SceneFuseError, WorkError

Thing = TypeVar("Thing")
Done = TypeVar("Done")


def in_order(things: Sequence[Thing], publish: Callable[[Thing], Done]) -> list[Done]:
    """What publishing gives for each; WorkError where one fails after others were published: they stay there."""
    done: list[Done] = []
    for thing in things:
        try:
            done.append(publish(thing))
        except SceneFuseError as error:
            if not done:
                raise
            raise interrupted(error, len(done), len(things)) from error
    return done


def interrupted(error: SceneFuseError, done: int, of: int) -> WorkError:
    """The error of one product as that of all, of which some are published already."""
    return WorkError(f"{error.value}, after {done} of {of} products", error.consequence, error.cure)
