"""The result for people: a table, the bars, a picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tests.bench.tiling.bars import Bar

Record = dict[str, Any]
MIB = 2**20
COLUMNS = (
    *("model", "Mpx", "lane", "contestant", "wall (s)", "CPU (s)", "px/px", "peak (MiB)", "of it run (MiB)"),
    *("writes", "max error", "interior", "seam", "edge", "against"),
)
"""Of the table; px/px: pixels computed per pixel, error: largest difference on full scale 1."""


def table(records: list[Record]) -> str:
    """Markdown: a row per contestant."""
    lines = [_row(COLUMNS), _row("---" for _ in COLUMNS)]
    for record in records:
        head = f"| {record['model']} | {record['mpx']:g} | {record['lane']} | {record['contestant']} |"
        if "missing" in record:
            lines.append(f"{head} {record['missing']} |" + " |" * (len(COLUMNS) - 5))
            continue
        computed = record["computed_px"]
        peak, base = record["peak_rss_bytes"] / MIB, record["base_rss_bytes"] / MIB
        error = record["error"] or {}
        cells = [
            f"{record['wall_s']:.3f}",
            f"{record['cpu_s']:.3f}",
            f"{computed / record['side_px'] ** 2:.3f}" if computed else "",
            f"{peak:.0f}",
            f"{peak - base:.0f}",
            " to ".join(str(count) for count in record["coverage"] or ()),
            *(_largest(error.get(place)) for place in ("all", "interior", "seam", "edge")),
            str(error.get("against", "")),
        ]
        lines.append(f"{head} {' | '.join(cells)} |")
    return "\n".join(lines)


def slopes(records: list[Record]) -> list[dict[str, Any]]:
    """Growth of the peak per pixel of the scene, between the smallest and the largest size above 1 Mpx, in bytes."""
    found = []
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if "missing" not in record and record["mpx"] > 1:
            groups.setdefault((record["model"], record["lane"], record["contestant"]), []).append(record)
    for (model, lane, contestant), some in groups.items():
        first, last = (pick(some, key=lambda record: float(record["mpx"])) for pick in (min, max))
        pixels = last["side_px"] ** 2 - first["side_px"] ** 2
        if pixels:
            slope = (last["peak_rss_bytes"] - first["peak_rss_bytes"]) / pixels
            place = {"model": model, "lane": lane, "contestant": contestant}
            found.append({**place, "bytes_per_px": slope, "from_mpx": first["mpx"], "to_mpx": last["mpx"]})
    return found


def slope_table(found: list[dict[str, Any]]) -> str:
    """Markdown: a row per model, lane and contestant."""
    lines = ["| model | lane | contestant | bytes of peak per pixel of scene |", "|---|---|---|---|"]
    for entry in found:
        place = " | ".join(entry[key] for key in ("model", "lane", "contestant"))
        lines.append(f"| {place} | {entry['bytes_per_px']:.1f} |")
    return "\n".join(lines)


def bar_table(bars: list[Bar]) -> str:
    """Markdown: a row per bar."""
    lines = ["| bar | where | figure | limit | |", "|---|---|---|---|---|"]
    for bar in bars:
        verdict = "pass" if bar.passed else "FAIL"
        lines.append(f"| {bar.name} | {bar.where} | {bar.figure:.4g} | {bar.limit:g} | {verdict} |")
    return "\n".join(lines)


def plot(records: list[Record], target: Path) -> None:
    """A picture of wall time, peak memory and largest error against the scene's area; a row per model."""
    shown = [record for record in records if "missing" not in record]
    sizes: dict[str, set[float]] = {}
    for record in shown:
        sizes.setdefault(record["model"], set()).add(record["mpx"])
    contested = {record["model"] for record in shown if record["lane"] == "memory"}  # others have no rival and no error
    models = [model for model in sizes if len(sizes[model]) > 1 and model in contested] or list(sizes)
    figure = Figure(figsize=(15, 4 * len(models)), layout="constrained")
    axes = figure.subplots(len(models), 3, squeeze=False)
    for row, model in zip(axes, models, strict=True):
        of_model = [record for record in shown if record["model"] == model]
        several = len(sizes[model]) > 1
        for lane, contestant in dict.fromkeys((record["lane"], record["contestant"]) for record in of_model):
            some = sorted(
                (r for r in of_model if (r["lane"], r["contestant"]) == (lane, contestant)),
                key=lambda r: float(r["mpx"]),
            )
            style = {"marker": "o" if contestant.startswith("ours") else ".", "label": f"{lane}: {contestant}"}
            style["linestyle"] = {"memory": "-", "zarr": "--", "cog": ":", "whole": "-."}[lane]
            known = [r for r in some if r["error"] and r["error"]["against"] != "ours other core" and lane == "memory"]
            if known:
                row[2].plot([r["mpx"] for r in known], [r["error"]["all"]["max"] for r in known], **style)
            if several and len(some) == 1:  # no way to see how it grows
                continue
            row[0].plot([r["mpx"] for r in some], [r["wall_s"] for r in some], **style)
            row[1].plot([r["mpx"] for r in some], [r["peak_rss_bytes"] / 2**30 for r in some], **style)
        for axis, title in zip(row, ("wall (s)", "peak memory (GiB)", "largest error"), strict=True):
            axis.set(title=f"{model}: {title}", xlabel="scene (Mpx)", xscale="log")
        row[0].set_yscale("log")
        row[2].set_yscale("symlog", linthresh=1e-8)
        row[1].set_ylim(0, 1.1 * row[1].get_ylim()[1])
        row[2].set_ylim(-5e-9, 10)  # 0 above the frame's edge
        for axis in (row[0], row[2]):
            if axis.get_legend_handles_labels()[1]:
                axis.legend(fontsize=7)
    figure.savefig(target, dpi=110)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _largest(entry: dict[str, float] | None) -> str:
    return "" if entry is None else f"{entry['max']:.2g}"
