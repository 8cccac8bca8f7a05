"""Tables of a contest: mean and spread of each method, as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf, isfinite, isinf, isnan
from typing import Any

import numpy as np

from scenefuse.quality.contest import ContestProtocol, Result
from scenefuse.quality.trial import NoisyImages
from scenefuse.words import counted

COSTS = ("seconds", "parameters", "multiply_adds_per_pixel")
"""Costs of a method, reported beside its scores."""
NOISY: dict[NoisyImages, str] = {"both": "HSI and MSI", "hs": "the HSI", "ms": "the MSI"}
"""Which images have noise, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Results of a method over scenes, seeds and folds at one noise level."""

    method: str
    """Label of the entry."""
    snr_db: float
    """Noise level; infinite for none."""
    count: int
    """Number of results behind the means."""
    mean: dict[str, float]
    """Mean of each score over its finite values; if there are none, infinity if any is infinite, else NaN."""
    std: dict[str, float]
    """Standard deviation of each score (n - 1); NaN for fewer than two values."""
    seconds: float
    """Mean wall time per scene."""
    parameters: int
    """Trained parameters: the maximum over scenes, which may differ in bands."""
    multiply_adds_per_pixel: float
    """Multiply-adds per fine pixel: likewise the maximum."""

    def record(self) -> dict[str, Any]:
        """The standing as JSON-compatible values, with the scores beside the method's name."""
        return {
            "name": self.method,
            "snr_db": finite_or_none(self.snr_db),
            **scores_record(self.mean),
            "std": {name: finite_or_none(value) for name, value in self.std.items()},
            "count": self.count,
            **{name: getattr(self, name) for name in COSTS},
        }


def standings(results: Iterable[Result]) -> tuple[Standing, ...]:
    """One standing per noise level and method, in order of first appearance.

    If the contest was stopped, the run under way is left out: the methods that had finished it would be judged on it
    while the others would not.
    """
    groups: dict[tuple[float, str], list[Result]] = {}
    for result in _comparable(list(results)):
        groups.setdefault((result.snr_db, result.method), []).append(result)
    return tuple(_standing(group) for group in groups.values())


def _comparable(results: Sequence[Result]) -> list[Result]:
    """For each noise level, the runs (scene, seed) that all its methods finished; all runs if there is no such run."""
    runs: dict[tuple[float, str, int], set[tuple[str, int]]] = {}
    everyone: dict[float, set[tuple[str, int]]] = {}
    for result in results:
        finished = (result.method, result.fold)
        runs.setdefault((result.snr_db, result.scene, result.seed), set()).add(finished)
        everyone.setdefault(result.snr_db, set()).add(finished)
    whole = {run for run, finished in runs.items() if finished == everyone[run[0]]}
    known = {snr_db for snr_db, *_ in whole}
    return [r for r in results if r.snr_db not in known or (r.snr_db, r.scene, r.seed) in whole]


def markdown(
    results: Sequence[Result],
    protocol: ContestProtocol,
    *,
    pictures: Sequence[str] = (),
    whole: bool = True,
    degraded: bool = True,
) -> str:
    """Protocol, standings, standings by scene if there are several, and pictures, as Markdown.

    whole: False for results of a contest that was stopped early. degraded: False if pairs were fused as they are,
    against a truth.
    """
    scenes = list(dict.fromkeys(result.scene for result in results))
    over = _spread(protocol, len(scenes)) if whole else "what every method had finished when it was stopped"
    lines = ["# Scores", "", *_facts(protocol, degraded=degraded), *_splits(results)]
    lines += ([] if whole else ["- stopped before its end"]) + [""]
    lines += [f"Mean ± standard deviation over {over}.", "", *_rows(standings(results))]
    if len(scenes) > 1:
        for scene in scenes:
            lines += ["", f"## {scene}", "", *_rows(standings(r for r in results if r.scene == scene))]
    if pictures:
        lines += ["", "## Pictures", "", *(f"![{name}]({name})" for name in pictures)]
    return "\n".join(lines) + "\n"


def csv_text(results: Sequence[Result]) -> str:
    """CSV with one line per result; no noise and missing scores are empty, infinite ones `inf`."""
    text = io.StringIO()
    rows = [_flat(result, {name: None if isnan(v) else v for name, v in result.values.items()}) for result in results]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def result_record(result: Result) -> dict[str, Any]:
    """The result as a flat, JSON-compatible record."""
    return _flat(result, scores_record(result.values))


def _flat(result: Result, values: Mapping[str, Any]) -> dict[str, Any]:
    """The result with its scores flattened beside its other fields."""
    own = {name: value for name, value in asdict(result).items() if name not in {"values", *COSTS}}
    own["snr_db"] = finite_or_none(result.snr_db)
    return {**own, **values, **{name: getattr(result, name) for name in COSTS}}


def protocol_facts(protocol: ContestProtocol, *, degraded: bool = True) -> dict[str, Any]:
    """The protocol as JSON-compatible values; None means no noise, the pair's own ratio, or no blur as none is used."""
    noise = [finite_or_none(level) for level in protocol.snr_db]
    return {**asdict(protocol), "mtf_nyquist": protocol.mtf_nyquist if degraded else None, "snr_db": noise}


def scores_record(values: Mapping[str, float]) -> dict[str, Any]:
    """Scores as JSON-compatible values: JSON has no infinity, so it becomes None, and `infinite` lists the names.

    A None that is not listed is a score that could not be computed. The list is left out if no score is infinite.

    >>> scores_record({"psnr_db": inf, "ssim": float("nan"), "rmse": 0.0})
    {'psnr_db': None, 'ssim': None, 'rmse': 0.0, 'infinite': ['psnr_db']}
    """
    infinite = [name for name, value in values.items() if isinf(value)]
    record: dict[str, Any] = {name: finite_or_none(value) for name, value in values.items()}
    return {**record, "infinite": infinite} if infinite else record


def finite_or_none(value: float) -> float | None:
    """The value, or None if it is not finite, which JSON cannot express."""
    return value if isfinite(value) else None


def _standing(group: Sequence[Result]) -> Standing:
    values = {name: np.array([result.values[name] for result in group]) for name in group[0].values}
    mean, std = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # without finite values, mean and spread are NaN
        for name, column in values.items():
            told = column[np.isfinite(column)]
            mean[name] = inf if not told.size and np.isinf(column).any() else float(np.mean(told))
            std[name] = float(np.std(told, ddof=1))
    return Standing(
        method=group[0].method,
        snr_db=group[0].snr_db,
        count=sum(result.pixels > 0 for result in group),
        mean=mean,
        std=std,
        seconds=float(np.mean([result.seconds for result in group])),
        parameters=max(result.parameters for result in group),
        multiply_adds_per_pixel=max(result.multiply_adds_per_pixel for result in group),
    )


def _facts(protocol: ContestProtocol, *, degraded: bool) -> list[str]:
    """Markdown lines on the conditions of the contest."""
    noise = ", ".join(f"{level:g} dB" if isfinite(level) else "none" for level in protocol.snr_db)
    return [
        f"- ratio: {'own' if protocol.ratio is None else protocol.ratio}",
        *([f"- blur: Gaussian with MTF {protocol.mtf_nyquist:g} at Nyquist"] if degraded else []),
        f"- noise on {NOISY[protocol.noise_on]}: {noise}",
        f"- convention: {protocol.convention}",
    ]


def _splits(results: Sequence[Result]) -> list[str]:
    """Markdown lines on the scenes that a network learnt from."""
    shares: dict[str, dict[int, float]] = {}
    for result in results:
        shares.setdefault(result.scene, {})[result.fold] = result.scored_share
    lines = []
    for scene, folds in shares.items():
        share, empty = sum(folds.values()) / len(folds), list(folds.values()).count(0)
        if share < 1:
            without = f"; {empty} of {counted(len(folds), 'fold')} have none of them" if empty else ""
            lines.append(
                f"- scored of {scene}: {share:.0%}, the blocks that no network which learnt from it has seen{without}"
            )
    return lines


def _rows(table: Sequence[Standing]) -> list[str]:
    """Lines of a Markdown table."""
    names = list(table[0].mean)
    head = ["method", "SNR (dB)", *names, "seconds", "parameters", "multiply-adds / px"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for entry in table:
        noise = f"{entry.snr_db:g}" if isfinite(entry.snr_db) else "none"
        scores = [spread(entry.mean[name], entry.std[name]) for name in names]
        costs = [f"{entry.seconds:.2f}", f"{entry.parameters:,}", f"{entry.multiply_adds_per_pixel:,.0f}"]
        lines.append(f"| {' | '.join([entry.method, noise, *scores, *costs])} |")
    return lines


def spread(mean: float, std: float) -> str:
    """`34.21 ± 0.15`; the mean alone if there is no spread."""
    text = "-" if isnan(mean) else f"{mean:.4g}"
    return f"{text} ± {std:.2g}" if isfinite(std) else text


def _spread(protocol: ContestProtocol, scenes: int) -> str:
    """Counts in words: `2 scenes, 3 seeds, 4 folds`."""
    counts = {"scene": scenes, "seed": protocol.seeds, "fold": protocol.folds}
    return ", ".join(counted(count, name) for name, count in counts.items())
