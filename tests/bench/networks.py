"""Networks and methods without weights under one protocol: equal short trainings, tested on ground never seen.

    python -m tests.bench.networks [--quick] [--minutes 3] [--scene NAME] [--model NAME]
                                   [--json tests/bench/results/networks.json]

Each network begins from nothing on each scene, with its recipe of CPU_RECIPES, for the same processor time of one
thread as all others. The lower right quarter of a scene is held out: its left half chooses among a training's
weights, its right half is the test of all methods, those without weights too. On the demo archive networks learn from
the first pair of seed 1 and all are tested on the whole first pair of seed 0. MossFuse learns from the images of the
tested scene itself, without any truth. Trained weights fuse the way of a product. On Jasper Ridge they and the methods
without weights also fuse an HSI with 35 and 15 dB of white noise, the robustness test of S3RNet's paper.

The file of records is written after each: a call that is broken off, made again, goes on with what is missing, and a
call with another budget, or on another machine, adds to it; each record names its processor.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from scenefuse.metrics.with_reference import ReferenceSums
from scenefuse.models.architectures import ARCHITECTURES
from scenefuse.models.registry import weightless_names
from scenefuse.quality.methods import Fusion, fuse_trial, score_part
from tests.bench.fidelity import Subject, fidelity, fidelity_table
from tests.bench.lesson import Lesson, Taken, take
from tests.bench.machine import machine
from tests.bench.scenes import (
    Reader,
    abu_airport,
    abu_urban,
    first_of_demo,
    indian_pines,
    jasper_ridge,
    pavia,
    samson,
    wald_of,
)

BAR_SCENE = "Jasper Ridge"
BAR_DB = 1.0
"""Gain over bicubic that every network must reach on BAR_SCENE."""
BAR_MINUTES = {"aelf": 10, "aelf-t": 5, "cofusion": 10, "mossfuse": 5, "smifnet": 10, "s3rnet": 40}
"""Minutes within which each must, on two CPU cores."""
SCENES: dict[str, Reader] = {
    BAR_SCENE: jasper_ridge,
    "Samson": samson,
    "Pavia": pavia,
    "ABU urban 1": abu_urban,
    "ABU airport 2": abu_airport,
    "Indian Pines": indian_pines,
}
"""Scenes that are their own lesson, at ratio 4."""
DEMO = "demo"
"""The scene whose lesson is another one."""
FIDELITY = (BAR_SCENE, DEMO)
"""A real and a simulated scene, on which is measured what tiles, frozen statistics and bf16 cost each network."""
NOISE_DB = (35.0, 15.0)
"""Signal-to-noise ratios of the HSI in the robustness test, on BAR_SCENE."""
COLUMNS = ("psnr_db", "sam_deg", "ergas", "ssim")
HEAD = (
    *("scene", "method", "PSNR (dB)", "SAM (deg)", "ERGAS", "SSIM"),
    *("budget (CPU min)", "steps", "training (s)", "of it CPU (s)", "fusion (s)", "parameters"),
)
QUICK_MINUTES = 0.02
"""Budget of --quick."""
QUICK_MODELS = ("aelf-t", "mossfuse", "s3rnet")
"""Networks of --quick: with a residual, without a truth, with its width after the bands."""

Record = dict[str, Any]


def lessons(root: Path, work: Path, wanted: Sequence[str], *, quick: bool) -> Iterator[Lesson]:
    """The wanted lessons, each made when it is asked for; quick: the first one's 80 first pixels, every eighth band."""
    for name, reader in SCENES.items():
        if name in wanted:
            cube, wavelength_nm = reader(root)
            if quick:
                cube, wavelength_nm = cube[::8, :80, :80], wavelength_nm[::8]
            trial = wald_of(name, cube, wavelength_nm, ratio=4)
            yield Lesson(name=name, learnt=trial, tested=trial)
    if DEMO in wanted:
        yield Lesson(
            name=DEMO, learnt=first_of_demo(work / "learnt", seed=1), tested=first_of_demo(work / "tested", seed=0)
        )


def measure(
    todo: Iterator[Lesson],
    models: Sequence[str],
    minutes: float,
    known: Sequence[Record],
    keep: Callable[[Record], None],
) -> None:
    """One record per lesson and method, those that are known left out, each given to keep when it is there."""
    torch.set_num_threads(1)
    done = {(record["scene"], record["method"], record["cpu_minutes"]) for record in known}
    for lesson in todo:
        for name in (*weightless_names(), *models):
            if (lesson.name, name, minutes if name in ARCHITECTURES else 0) in done:
                continue
            if name in ARCHITECTURES:
                with tempfile.TemporaryDirectory() as folder:
                    taken = take(lesson, name, minutes=minutes, folder=Path(folder))
                    record = {**record_of(lesson, name, taken), "cpu_minutes": minutes}
                    if lesson.name in FIDELITY:
                        subject = Subject(
                            name=name, weights=taken.weights, trial=lesson.tested, windows=lesson.windows()
                        )
                        record["fidelity"] = fidelity(subject)
                keep(record)
            else:
                keep(record_of(lesson, name, None))


def record_of(lesson: Lesson, name: str, taken: Taken | None) -> Record:
    """Scores on the lesson's test, costs, and how the network was trained."""
    weights = None if taken is None else str(taken.weights)
    fusion = fuse_trial(lesson.tested, name, weights=weights)
    noisy = {}
    if lesson.name == BAR_SCENE:
        for snr_db in NOISE_DB:
            trial = lesson.tested.noisy(snr_db, seed=0, on="hs")
            noisy[f"{snr_db:g} dB"] = scores_of(lesson, fuse_trial(trial, name, weights=weights))
    training = {} if taken is None else {key: value for key, value in asdict(taken).items() if key != "weights"}
    here = machine()
    return {
        "scene": lesson.name,
        "method": name,
        "processor": f"{here['processor']}, {here['instruction_set']}",
        "cpu_minutes": 0,
        "bands": len(lesson.tested.hs_bands),
        "ratio": lesson.tested.ratio,
        "test_px": sum(window.shape[0] * window.shape[1] for window in lesson.windows()),
        **scores_of(lesson, fusion),
        "noisy_hs": noisy,
        "fuse_seconds": fusion.seconds,
        "parameters": fusion.card.parameters,
        "multiply_adds_per_pixel": fusion.card.multiply_adds_per_pixel,
        "training": training,
    }


def scores_of(lesson: Lesson, fusion: Fusion) -> dict[str, float]:
    """Scores on the lesson's test."""
    sums = ReferenceSums(ratio=lesson.tested.ratio)
    for window in lesson.windows():
        sums = sums.merge(score_part(fusion.fused, lesson.tested.truth, window, ratio=lesson.tested.ratio))
    return sums.scores()


def table(records: Sequence[Record]) -> str:
    """Markdown: a row per scene and method, then the bar and the noise of BAR_SCENE and what tiles cost."""
    lines = [
        "Networks trained on one CPU thread.",
        "",
        f"| {' | '.join(HEAD)} |",
        f"|{'---|' * len(HEAD)}",
    ]
    for record in records:
        values = " | ".join(f"{record[name]:.3f}" for name in COLUMNS)
        training = record["training"]
        spent = ("steps", "seconds", "cpu_seconds")
        cost = " | ".join(f"{training[name]:.0f}" for name in spent) if training else "- | - | -"
        lines.append(
            f"| {record['scene']} | {record['method']} | {values} | {record['cpu_minutes'] or '-'} | {cost} "
            f"| {record['fuse_seconds']:.2f} | {record['parameters']:,} |"
        )
    measured = [(record["scene"], record["method"], record["fidelity"]) for record in records if "fidelity" in record]
    return "\n".join([*lines, "", *bar(records), "", *noise_lines(records), "", *fidelity_table(measured)])


def bar(records: Sequence[Record]) -> list[str]:
    """Lines of Markdown: when each network was BAR_DB above bicubic on BAR_SCENE, on the block that chooses weights."""
    lines = [
        f"At least {BAR_DB:g} dB above bicubic on {BAR_SCENE}:",
        "",
        "| network | budget (CPU min) | reached after (s) | of it CPU (s) | step | allowed (min) | gain at end (dB) |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in records:
        training = record["training"]
        if record["scene"] != BAR_SCENE or not training:
            continue
        above = [point for point in training["curve"] if point["psnr_db"] >= training["bicubic_db"] + BAR_DB]
        when = ("seconds", "cpu_seconds", "step")
        reached = " | ".join(f"{above[0][name]:.0f}" for name in when) if above else "not reached | - | -"
        gain = training["curve"][-1]["psnr_db"] - training["bicubic_db"] if training["curve"] else float("nan")
        allowed = BAR_MINUTES[record["method"]]
        lines.append(f"| {record['method']} | {record['cpu_minutes']} | {reached} | {allowed} | {gain:+.2f} |")
    return lines


def noise_lines(records: Sequence[Record]) -> list[str]:
    """Lines of Markdown: PSNR, SAM and ERGAS of each method on BAR_SCENE, without noise and with that of NOISE_DB."""
    levels = [f"{snr_db:g} dB" for snr_db in NOISE_DB]
    lines = [
        f"{BAR_SCENE}, white noise on the HSI: PSNR (dB) / SAM (deg) / ERGAS.",
        "",
        f"| method | budget (CPU min) | none | {' | '.join(levels)} |",
        f"|{'---|' * (3 + len(levels))}",
    ]
    for record in records:
        if noisy := record.get("noisy_hs"):
            shown = [" / ".join(f"{scores[name]:.2f}" for name in COLUMNS[:3]) for scores in (record, *noisy.values())]
            lines.append(f"| {record['method']} | {record['cpu_minutes'] or '-'} | {' | '.join(shown)} |")
    return lines


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small scene: shows that the benchmark runs")
    parser.add_argument("--minutes", type=float, default=3.0, help="processor time of each training")
    parser.add_argument("--scene", action="append", choices=[*SCENES, DEMO], help="repeatable; all without")
    parser.add_argument("--model", action="append", choices=list(ARCHITECTURES), help="repeatable; all without")
    parser.add_argument("--json", type=Path, help="where the records go, and where those of an earlier call are")
    arguments = parser.parse_args()
    root = Path(os.environ.get("SCENEFUSE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    minutes = QUICK_MINUTES if arguments.quick else arguments.minutes
    wanted = [BAR_SCENE] if arguments.quick else arguments.scene or [*SCENES, DEMO]
    records = [] if arguments.json is None or not arguments.json.exists() else recorded(arguments.json)

    def keep(record: Record) -> None:
        records.append(record)
        print(f"  {record['scene']}: {record['method']} {record['psnr_db']:.2f} dB", flush=True)  # noqa: T201
        if arguments.json is not None:
            whole = {"machine": machine(), "threads": 1, "records": records}
            arguments.json.write_text(json.dumps(whole, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as work:
        todo = lessons(root, Path(work), wanted, quick=arguments.quick)
        models = arguments.model or (QUICK_MODELS if arguments.quick else list(ARCHITECTURES))
        measure(todo, models, minutes, records, keep)
    print(table(records))  # noqa: T201 - a benchmark prints its table


def recorded(path: Path) -> list[Record]:
    """Records of earlier calls."""
    records: list[Record] = json.loads(path.read_text())["records"]
    return records


if __name__ == "__main__":
    main()
