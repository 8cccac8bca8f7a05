"""Contest: score any methods on any trials under one protocol, one image at a time, keeping numbers and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import inf, isfinite, isnan, isqrt
from pathlib import Path
from typing import get_args

from scenefuse.errors import UsageError
from scenefuse.grid.pair_grid import RATIOS
from scenefuse.grid.window import Window
from scenefuse.metrics.convention import CONVENTIONS
from scenefuse.models.base import ModelCard
from scenefuse.models.registry import require_method
from scenefuse.quality.gallery import Gallery
from scenefuse.quality.methods import fuse_trial, score_part
from scenefuse.quality.trial import NoisyImages, Trial
from scenefuse.sensors.sensor import DEFAULT_MTF_NYQUIST

LEAST_PART_PX = 11
"""Smallest side of a fold in fine pixels: the window of SSIM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A method that takes part in a contest."""

    model: str
    """Name in the registry."""
    weights: str | None = None
    """A network's weights: a path or a name on the shelf; None for the shelf's weights that fit the scene."""
    label: str
    """Name in tables, unique within the contest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContestProtocol:
    """What every method is given, and how it is scored."""

    ratio: int | None = None
    """Coarse pixel size / fine pixel size; None for a pair's own, or 4 if a single image is the reference."""
    mtf_nyquist: float = DEFAULT_MTF_NYQUIST
    """MTF at Nyquist of the blur that degrades images."""
    snr_db: tuple[float, ...] = (inf,)
    """Levels of white noise in dB below each band's power; infinite for none."""
    noise_on: NoisyImages = "both"
    """Which images get the noise: HSI and MSI, or the HSI alone as in S3RNet's robustness table."""
    seeds: int = 1
    """Number of noise draws per level."""
    folds: int = 1
    """Number of parts of each scene that are scored separately."""
    convention: str = "standard"
    """Formulas of the scores: a name in CONVENTIONS."""

    def __post_init__(self) -> None:
        for name in ("seeds", "folds"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}", "nothing would be scored", "Give 1 or more")
        if not 0 < self.mtf_nyquist < 1:
            raise UsageError(
                f"mtf {self.mtf_nyquist:g}", "an MTF at Nyquist lies between 0 and 1", "Instruments have 0.2 to 0.4"
            )
        if self.ratio is not None and self.ratio not in RATIOS:
            raise UsageError(f"ratio {self.ratio}", "no grid has it", f"Choose one of {', '.join(map(str, RATIOS))}")
        if self.convention not in CONVENTIONS:
            raise UsageError(f"convention {self.convention}", "it is unknown", f"Use one of {', '.join(CONVENTIONS)}")
        self._check_noise()

    def _check_noise(self) -> None:
        """Raise UsageError for meaningless levels, images or draws of noise."""
        impossible = [level for level in self.snr_db if isnan(level) or level == -inf]
        if impossible:
            raise UsageError(
                f"a noise level of {impossible[0]:g} dB",
                "no image is that noisy",
                "Give --snr-db in dB, inf for none",
            )
        twice = [level for level, count in Counter(self.snr_db).items() if count > 1]
        if twice:
            raise UsageError(
                f"a noise level of {twice[0]:g} dB is given twice",
                "its draws would be the same",
                "Give --seeds for more",
            )
        if self.noise_on not in get_args(NoisyImages):
            raise UsageError(
                f"noise on {self.noise_on}", "no image is called so", f"Use one of {', '.join(get_args(NoisyImages))}"
            )
        if self.noise_on != "both" and not any(map(isfinite, self.snr_db)):
            raise UsageError(f"noise on {self.noise_on} without noise", "nothing has any", "Give --snr-db")
        if self.seeds > 1 and not any(map(isfinite, self.snr_db)):
            raise UsageError(
                f"{self.seeds} seeds without noise", "every draw would be the same", "Give --snr-db, or leave seeds out"
            )

    def variants(self) -> tuple[tuple[float, int], ...]:
        """Noise level and seed of each run; a level without noise has one run."""
        return tuple((snr, seed) for snr in self.snr_db for seed in range(self.seeds if isfinite(snr) else 1))

    def parts(self, shape: tuple[int, int]) -> tuple[Window, ...]:
        """Folds of an image of this shape: a grid of rectangles, as close to square as their number allows.

        An image too small for SSIM's window is scored whole, without SSIM and UIQI.
        """
        across = max(divisor for divisor in range(1, isqrt(self.folds) + 1) if self.folds % divisor == 0)
        counts = (self.folds // across, across) if shape[0] >= shape[1] else (across, self.folds // across)
        if self.folds > 1 and any(side < LEAST_PART_PX * count for side, count in zip(shape, counts, strict=True)):
            raise UsageError(
                f"{self.folds} folds of {shape[0]} x {shape[1]} px",
                f"a side would be shorter than the {LEAST_PART_PX} px of SSIM's window",
                "Give fewer --folds",
            )
        rows, columns = (
            [(index * side // count, (index + 1) * side // count) for index in range(count)]
            for side, count in zip(shape, counts, strict=True)
        )
        return tuple(Window(y0=y0, y1=y1, x0=x0, x1=x1) for y0, y1 in rows for x0, x1 in columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Scores of one method on one fold of one trial."""

    scene: str
    """Name of the trial."""
    method: str
    """Label of the entry."""
    snr_db: float
    """Noise level; infinite for none."""
    seed: int
    """Seed of the noise."""
    fold: int
    """Number of the fold."""
    scored_share: float = 1.0
    """Share of the fold's pixels that may be scored; below 1 if a competing network learnt from the others."""
    pixels: int
    """Pixels scored: those of the share with data in every band of result and truth."""
    values: dict[str, float]
    """Scores by name."""
    seconds: float
    """Wall time of preparation and fusion of the whole trial."""
    parameters: int
    """Trained parameters; 0 without weights."""
    multiply_adds_per_pixel: float
    """Multiply-adds of the fusion per fine pixel."""


def enter(models: Sequence[tuple[str, str | None]]) -> tuple[Entry, ...]:
    """Make entries from (name, weights); refuse unknown names, missing or unusable weights, and repeated entries.

    If a model enters more than once, its label also names the weights file, or the whole path if two files share a
    name, as those of two trainings do.
    """
    for model, weights in models:
        require_method(model, weights=weights)
    entries = tuple(
        Entry(model=model, weights=weights, label=_label(model, weights, models)) for model, weights in models
    )
    twice = [label for label, count in Counter(entry.label for entry in entries).items() if count > 1]
    if twice:
        raise UsageError(f"{twice[0]} is given twice", "its rows could not be told apart", "Leave one out")
    return entries


def _label(model: str, weights: str | None, models: Sequence[tuple[str, str | None]]) -> str:
    """The model's name, with as much of its weights' path as distinguishes it from the others."""
    others = [other for name, other in models if name == model]
    if weights is None or len(others) == 1:
        return model
    stem = Path(weights).stem
    alike = sum(Path(other).stem == stem for other in others if other is not None)
    return f"{model} ({stem if alike == 1 else weights})"


def compete(
    trials: Iterable[Trial],
    entries: Sequence[Entry],
    protocol: ContestProtocol,
    *,
    show: Callable[[Gallery], None] | None = None,
) -> Iterator[Result]:
    """Yield results as they are ready; trials are taken one after the other, and only one is held at a time.

    If trials share a name (`hs.tif` and `ms.tif` of several folders), the later ones get a number: `hs_ms (2)`.
    show: called for each trial once all methods have fused its first variant, with pictures of each method.
    """
    for trial in _told_apart(trials):
        parts = protocol.parts((trial.truth.shape[1], trial.truth.shape[2]))
        for number, (snr_db, seed) in enumerate(protocol.variants()):
            gallery = Gallery.of(trial) if show is not None and number == 0 else None
            seen = trial.noisy(snr_db, seed, on=protocol.noise_on)
            for entry in entries:
                fusion = fuse_trial(seen, entry.model, weights=entry.weights)
                if gallery is not None:
                    gallery = gallery.with_method(entry.label, fusion.fused, trial.truth)
                for fold, part in enumerate(parts):
                    sums = score_part(fusion.fused, trial.truth, part, ratio=trial.ratio, scored=trial.scored)
                    key = {"scene": trial.name, "method": entry.label, "snr_db": snr_db, "seed": seed, "fold": fold}
                    yield Result(
                        **key,  # type: ignore[arg-type] # matches the fields above
                        scored_share=1.0 if trial.scored is None else float(trial.scored[part.slices].mean()),
                        pixels=int(sums.count),
                        values=sums.scores(protocol.convention),
                        seconds=fusion.seconds,
                        **_costs(fusion.card),  # type: ignore[arg-type] # likewise
                    )
            if gallery is not None and show is not None:
                show(gallery)


def _told_apart(trials: Iterable[Trial]) -> Iterator[Trial]:
    """The trials, renamed where needed so that no two share a name."""
    taken: set[str] = set()
    for trial in trials:
        names = (trial.name if number == 1 else f"{trial.name} ({number})" for number in count(1))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        yield trial if name == trial.name else replace(trial, name=name)


def _costs(card: ModelCard) -> dict[str, float]:
    return {"parameters": card.parameters, "multiply_adds_per_pixel": card.multiply_adds_per_pixel}
