"""The windows of each step, drawn from the seed and the step's number: an interruption does not change them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from scenefuse.errors import DataError
from scenefuse.training.augment import noisy, turned
from scenefuse.training.losses import Batch
from scenefuse.training.recipe import Recipe
from scenefuse.training.scenes import Example
from scenefuse.training.score import Ground

MOST_DRAWS = 1_000
"""Windows tried to find one without no-data: if 2 in 100 are complete, fewer than one draw in 10^8 fails."""


def batches(
    grounds: Sequence[Ground], recipe: Recipe, seed: int, *, first_step: int, passes: range | None = None
) -> Iterator[tuple[Batch, ...]]:
    """Yield each step's passes from first_step on, all or some; the next step is read while the caller computes."""

    def make(step: int) -> tuple[Batch, ...]:
        return draw_step(grounds, recipe, seed, step, passes)

    with ThreadPoolExecutor(max_workers=1) as reader:
        ahead = reader.submit(make, first_step)
        for step in range(first_step, recipe.iterations):
            ready = ahead.result()
            if step + 1 < recipe.iterations:
                ahead = reader.submit(make, step + 1)
            yield ready


def draw_step(
    grounds: Sequence[Ground], recipe: Recipe, seed: int, step: int, passes: range | None = None
) -> tuple[Batch, ...]:
    """The passes of one step, recipe.batch windows each: those numbered in `passes`, or all recipe.accumulate."""
    drawn = []
    for number in range(recipe.accumulate) if passes is None else passes:
        windows = range(number * recipe.batch, (number + 1) * recipe.batch)
        drawn.append(_stack([_draw(grounds, recipe, np.random.default_rng([seed, step, n])) for n in windows]))
    return tuple(drawn)


def _draw(grounds: Sequence[Ground], recipe: Recipe, rng: np.random.Generator) -> Example:
    """One window without no-data, drawn uniformly over all scenes' windows; turned and noised by the recipe."""
    counts = np.array([ground.hold_out.count() for ground in grounds], dtype=np.float64)
    for _ in range(MOST_DRAWS):
        ground = grounds[int(rng.choice(len(grounds), p=counts / counts.sum()))]
        example = ground.scene.read(ground.hold_out.draw(rng))
        if example.complete:
            break
    else:
        raise DataError(
            f"{MOST_DRAWS} windows of {recipe.patch_px} px, none without no-data",
            "there is no complete window to learn from",
            "Give a smaller --patch-px, or scenes with fewer gaps",
        )
    if recipe.turns:
        example = turned(example, int(rng.integers(8)))
    if recipe.noise_probability and rng.random() < recipe.noise_probability:
        example = noisy(example, float(rng.uniform(recipe.noise_snr_db[0], recipe.noise_snr_db[1])), rng)
    return example


def _stack(examples: Sequence[Example]) -> Batch:
    """The examples stacked into tensors (n, ...)."""
    truths = [example.truth for example in examples if example.truth is not None]
    return Batch(
        torch.from_numpy(np.stack([example.hs for example in examples])),
        torch.from_numpy(np.stack([example.ms for example in examples])),
        torch.from_numpy(np.stack(truths)) if truths else None,
    )
