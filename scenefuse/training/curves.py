"""Learning curves: a CSV table with a row per scoring, and its plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

Row = dict[str, float]


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write one line per row to path (.csv). The same training gives the same bytes, interrupted or not."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Plot the loss and its terms, on a logarithmic axis, and the held-out score to path (.png)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    losses, scores = figure.subplots(2, 1, sharex=True)
    steps = [row["step"] for row in rows]
    for name in rows[0]:
        if name == "step":
            continue
        values = [row[name] for row in rows]
        if name.endswith("_db"):
            scores.plot(steps, values, marker=".", label=name)
        elif name == "loss" or name.startswith("loss_"):
            losses.plot(steps, values, marker=".", label=name)
    if min(row["loss"] for row in rows) > 0:
        losses.set_yscale("log")
    losses.set_ylabel("training loss")
    scores.set(xlabel="step", ylabel="held-out score, dB")
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        axes.legend()
    FigureCanvasAgg(figure)
    figure.savefig(path)
