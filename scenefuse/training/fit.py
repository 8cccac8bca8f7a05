"""fit: the training loop, with early stopping, and resuming after a kill as if there had been none."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from math import inf, isfinite, isnan, lcm, prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scenefuse.errors import UsageError, WorkError
from scenefuse.models.network import FusionNetwork
from scenefuse.models.weights import put_weights, unique_tensors
from scenefuse.training.batch_norms import RunningStatistics
from scenefuse.training.batches import batches
from scenefuse.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from scenefuse.training.curves import Row, draw_curves, write_table
from scenefuse.training.degradation import degradation_of, learn_degradation
from scenefuse.training.losses import LOSSES, Batch, Loss, Terms, backward
from scenefuse.training.ranks import Ranks
from scenefuse.training.recipe import Recipe
from scenefuse.training.score import Ground, Scores, score_inputs, score_truth
from scenefuse.training.stopping import Stopping

CHECKPOINT_SECONDS = 60.0
"""Time between checkpoints: the most that a SIGKILL can cost. It affects no result."""

DIVERGED = 1e3
"""A loss term this large, with images on full scale 1, means that the weights will not recover."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a network learns, from what, and how. With the initial weights it determines the result."""

    architecture: str
    """Name in ARCHITECTURES; selects the loss."""
    grounds: tuple[Ground, ...]
    """Scenes and their held-out blocks."""
    recipe: Recipe
    """How the network is trained."""
    seed: int
    """Seed of windows, turns, noise and dropout."""
    loss: Loss | None = None
    """Loss to minimise; None for the paper's."""
    judge: Callable[[FusionNetwork, tuple[Ground, ...]], Scores] | None = None
    """Scores a network, the first score decides; None scores it on the held-out blocks."""
    facts: Mapping[str, Any]
    """Whatever else identifies this training: scenes, bands, options; JSON values."""

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must match, after a round trip through JSON."""
        values = {**self.facts, "model": self.architecture, "recipe": asdict(self.recipe), "seed": self.seed}
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained network."""

    network: FusionNetwork
    """The network with the best weights, on the CPU."""
    scores: Scores
    """Scores of the best weights on the held-out blocks."""
    step: int
    """Steps done when the best weights were reached."""
    steps: int
    """Steps done in total."""
    stopped: str
    """Why training ended: `iterations`, `patience` or `minutes`; after `minutes` the same call continues it."""
    rows: tuple[Row, ...]
    """The learning curve."""


def fit(
    network: FusionNetwork,
    course: Course,
    *,
    stem: Path,
    minutes: float | None = None,
    report: Callable[[Row], None] | None = None,
    ranks: Ranks | None = None,
) -> Fitted:
    """Train the network by the course, on its current device.

    Writes `<stem>.checkpoint` (from which the same call resumes), `<stem>.csv` and `<stem>.png` (learning curves).
    minutes: time after which to stop; at least one step is done, even with 0. report: called with the row of each
    scoring. ranks: the processes that share a step's passes; the first one scores and writes, into a folder that all
    see.
    On SIGINT or SIGTERM, finishes the current step, writes the checkpoint and raises KeyboardInterrupt; a second signal
    raises it at once. On one CPU thread an interrupted training gives the same bits as an uninterrupted one.
    """
    recipe = course.recipe
    if recipe.precision not in network.precisions:
        raise UsageError(
            f"{course.architecture} in {recipe.precision}",
            "its loss would be lost in rounding errors",
            f"Use precision {' or '.join(network.precisions)}",
        )
    stem.parent.mkdir(parents=True, exist_ok=True)
    device = next(network.parameters()).device
    checkpoint = stem.with_name(f"{stem.name}.checkpoint")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if not checkpoint.exists():
            learn_degradation(network, course.grounds, recipe, course.seed)
        learner = _Learner(network, course, checkpoint, ranks or Ranks())
        learner.resume()
        return learner.learn(stem.with_name(f"{stem.name}.csv"), minutes, report)


class _Learner:
    """A training in progress: the network, its average, the best average so far, the optimiser and the progress."""

    def __init__(self, network: FusionNetwork, course: Course, checkpoint: Path, ranks: Ranks) -> None:
        self.network, self.course, self.checkpoint, self.ranks = network, course, checkpoint, ranks
        self.passes = ranks.share(course.recipe.accumulate)
        self.average, self.best = deepcopy(network), deepcopy(network)
        adam = torch.optim.AdamW if course.recipe.optimiser == "adamw" else torch.optim.Adam
        self.optimiser: torch.optim.Optimizer = adam(network.parameters(), lr=course.recipe.lr)
        self.progress = Progress()

    @property
    def parts(self) -> dict[str, FusionNetwork]:
        """The networks that have weights, by name."""
        return {"network": self.network, "average": self.average, "best": self.best}

    def resume(self) -> None:
        """Resume from the checkpoint if there is one; all ranks take the first one's weights."""
        if self.checkpoint.exists():
            self.progress = load_checkpoint(self.checkpoint, self.parts, self.optimiser, self.course.identity())
        begins = self.ranks.told(lambda: self.progress.step)
        if begins != self.progress.step:
            raise UsageError(
                f"{self.checkpoint} ends at step {self.progress.step} here and at step {begins} elsewhere",
                "the processes would not train the same network",
                "Give a folder that all of them see",
            )
        self.ranks.take(unique_tensors(self.network).values())  # degradations learnt on GPUs may differ in the last bit

    def save(self, curves: Path) -> None:
        """Write the checkpoint and draw the learning curves so far; only the first rank does."""
        if not self.ranks.first:
            return
        save_checkpoint(self.checkpoint, self.parts, self.optimiser, self.progress, self.course.identity())
        if self.progress.rows:
            draw_curves(self.progress.rows, curves.with_suffix(".png"))

    def learn(self, curves: Path, minutes: float | None, report: Callable[[Row], None] | None) -> Fitted:
        """Step until iterations, patience or time run out."""
        course, progress = self.course, self.progress
        began = saved = time.monotonic()
        if progress.stopped:
            return self._result()
        with Stopping() as stopping:
            steps = batches(course.grounds, course.recipe, course.seed, first_step=progress.step, passes=self.passes)
            for passes in steps:
                self._step(passes)
                if progress.step % course.recipe.score_every == 0 or progress.step == course.recipe.iterations:
                    row = self._judge()
                    if self.ranks.first:
                        write_table(progress.rows, curves)
                    if report is not None and self.ranks.first:
                        report(row)
                now = time.monotonic()
                over, interrupted = self._is_over(began, minutes), self.ranks.told(lambda: stopping.asked)
                if progress.stopped or over or interrupted or now - saved >= CHECKPOINT_SECONDS:
                    self.save(curves)
                    saved = now
                if interrupted:
                    raise KeyboardInterrupt
                if progress.stopped or over:
                    break
        return self._result()

    def _is_over(self, began: float, minutes: float | None) -> bool:
        """Whether the time is up, by the first rank's clock."""
        return minutes is not None and self.ranks.told(lambda: time.monotonic() - began >= 60 * minutes)

    def _step(self, passes: tuple[Batch, ...]) -> None:
        """Take one step of the optimiser and of the average."""
        recipe, step = self.course.recipe, self.progress.step
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.lr_at(step)
        means: dict[str, float] = {}
        before = RunningStatistics.of(self.network) if self.ranks.size > 1 else None
        for number, batch in zip(self.passes, passes, strict=True):
            torch.manual_seed(int(np.random.SeedSequence([self.course.seed, step, number]).generate_state(1)[0]))
            terms = self._terms(batch)
            backward(self.network, terms, 1 / recipe.accumulate)
            for name, term in terms.items():
                means[name] = means.get(name, 0.0) + float(term.detach()) / recipe.accumulate
        self._share(means)
        if before is not None:
            before.share(self.network, self.ranks)
        self._tame_gradients()
        self.optimiser.step()
        degradation = degradation_of(self.network)
        if degradation is not None:
            degradation.clamp()
        self._move_average(recipe.decay_at(step))
        self.progress.step += 1

    def _terms(self, batch: Batch) -> Terms:
        """The loss terms of a pass; WorkError if one is not a number or has diverged."""
        device = next(self.network.parameters()).device
        batch = Batch(*(None if tensor is None else tensor.to(device) for tensor in batch))  # type: ignore[arg-type] # hs and ms are never None
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.course.recipe.precision == "bf16"):
            output = self.network.supervised(batch.hs, batch.ms)
        terms = (self.course.loss or LOSSES[self.course.architecture])(self.network, output, batch)
        for name, term in terms.items():
            value = float(term.detach())
            if not abs(value) < DIVERGED:
                raise self._lost(f"the loss term {name} is {value:g}")
        return terms

    def _tame_gradients(self) -> None:
        """Clip the gradient to the recipe's norm; WorkError if it is not finite, before it reaches the weights."""
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.course.recipe.clip_norm or inf)
        if not isfinite(float(norm)):
            raise self._lost(f"the gradient's norm is {float(norm):g}")

    def _lost(self, what: str) -> WorkError:
        return WorkError(
            f"at step {self.progress.step} {what}",
            f"nothing more can be learnt; {self.checkpoint.name}, if it exists, has an earlier state",
            "Start over in another folder with a lower --lr, a warm-up (recipe), or fp32",
        )

    def _share(self, means: dict[str, float]) -> None:
        """Sum gradients over all ranks, and add their shares of the loss terms to the next row of the curve."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        self.ranks.add(gradients)
        for name, mean in self.ranks.add_numbers(means, gradients[0].device).items():
            self.progress.sums[name] = self.progress.sums.get(name, 0.0) + mean

    @torch.no_grad()
    def _move_average(self, decay: float) -> None:
        """Move the average: decay * average + (1 - decay) * own for parameters; buffers are copied from the network."""
        own, trained = unique_tensors(self.network), {name for name, _ in self.network.named_parameters()}
        for name, tensor in unique_tensors(self.average).items():
            if name in trained:
                tensor.lerp_(own[name], 1 - decay)
            else:
                tensor.copy_(own[name])

    def _judge(self) -> Row:
        """Score the average, keep it if it is the best, and check patience; returns the curve's new row."""
        progress, recipe = self.progress, self.course.recipe
        scores = self._score()
        steps = progress.step - (int(progress.rows[-1]["step"]) if progress.rows else 0)
        means = {f"loss_{name}": total / steps for name, total in progress.sums.items()}
        row = {
            "step": progress.step,
            "lr": recipe.lr_at(progress.step - 1),
            "loss": sum(means.values()),
            **means,
            **scores,
        }
        progress.rows.append(row)
        progress.sums = {}
        if _better(scores, progress.best):
            put_weights(self.best, unique_tensors(self.average), "the average")
            progress.best, progress.best_step, progress.worse = scores, progress.step, 0
        else:
            progress.worse += 1
        if progress.step >= recipe.iterations:
            progress.stopped = "iterations"
        elif recipe.patience and progress.worse >= recipe.patience:
            progress.stopped = "patience"
        return row

    def _score(self) -> Scores:
        """Scores of the average, computed by the first rank."""
        return self.ranks.told(lambda: (self.course.judge or score)(self.average, self.course.grounds))

    def _result(self) -> Fitted:
        """The best weights so far, considering also the current ones, which the checkpoint does not record."""
        progress, best = self.progress, self.best
        scores, step = progress.best, progress.best_step
        if not progress.stopped:
            latest = self._score()
            if _better(latest, scores):
                best, scores, step = self.average, latest, progress.step
        return Fitted(
            network=deepcopy(best).cpu(),
            scores=scores,
            step=step,
            steps=progress.step,
            stopped=progress.stopped or "minutes",
            rows=tuple(progress.rows),
        )


def score(network: FusionNetwork, grounds: tuple[Ground, ...]) -> Scores:
    """Scores of the network on the held-out blocks, in evaluation mode with local statistics; the first one decides."""
    network.eval()
    step_px = lcm(network.lattice_px, network.ratio)
    if grounds[0].scene.protocol == "scene":
        scores = score_inputs(network, grounds, context_px=network.effective_px, step_px=step_px)
        degradation = degradation_of(network)
        return scores if degradation is None else {**scores, "psf_sigma_px": sqrt(prod(degradation.psf_sigmas_px))}
    device = next(network.parameters()).device
    return score_truth(
        lambda hs, ms: network(hs.to(device), ms.to(device)),
        grounds,
        context_px=network.effective_px,
        step_px=step_px,
    )


def _better(scores: Scores, best: Scores) -> bool:
    """Whether the first score is higher; any score beats none, and a number beats NaN."""
    if not best:
        return True
    name = next(iter(scores))
    known = best.get(name, -inf)
    return scores[name] > known or (isnan(known) and not isnan(scores[name]))
