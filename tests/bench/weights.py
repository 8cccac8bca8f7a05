"""Trains the weights that ship, from nothing, and scores them on ground that they have never seen.

    python -m tests.bench.weights --out FOLDER [--quick] [--minutes M | --weights FILE]
                                  [--json tests/bench/results/weights.json]

Archives of sixteen landscapes are simulated, three pairs each with its truth at 10 m, and aelf-t learns from them at
full resolution. Then the network and every method without weights fuse the pairs of three other landscapes, the
demo's own among them. On one thread the same call gives the same weights; interrupted, it goes on. With --minutes it
stops early and scores what there is; with --weights it scores these, the shipped ones for instance, and trains nothing.
Then it measures on the demo's first pair what tiles, frozen statistics and bf16 cost.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from scenefuse.archive.pairing import PairRule
from scenefuse.config import RunConfig
from scenefuse.demo.archive import write_demo_archive
from scenefuse.demo.size import DemoSize
from scenefuse.grid.window import Window
from scenefuse.models.registry import weightless_names
from scenefuse.pipeline.batch import batch
from scenefuse.pipeline.evaluate import evaluate_product
from scenefuse.pipeline.train import TrainConfig, Trained, train
from scenefuse.training.recipe import Recipe
from tests.bench.fidelity import Subject, fidelity, fidelity_table
from tests.bench.machine import machine
from tests.bench.scenes import first_of_demo

MODEL = "aelf-t"
LEARNT_SEEDS = tuple(range(1, 17))
"""Landscapes that are learnt from."""
UNSEEN_SEEDS = (0, 101, 102)
"""Landscapes that score; 0 is the demo's."""
RECIPE = Recipe(
    iterations=8_000,
    patch_px=48,
    batch=1,
    lr=1e-3,
    schedule="cosine",
    lr_end=1e-5,
    warmup=100,
    protocol="truth",
    score_every=4_000,
    patience=0,
)
QUICK = Recipe(iterations=2, patch_px=24, batch=1, lr=1e-3, protocol="truth", score_every=2, block_px=48)

Pair = tuple[str, str, str]
"""Items of the HSI and of the MSI, raster of the truth."""


def archive_of(work: Path, seed: int) -> Path:
    """The small demo archive of a landscape, made unless it is there."""
    folder = work / "archives" / str(seed)
    if not (folder / "truth" / "index.json").is_file():
        write_demo_archive(folder, size=DemoSize.SMALL, seed=seed)
    return folder


def pairs_of(archive: Path) -> list[Pair]:
    """The archive's fusable pairs."""
    index = json.loads((archive / "truth" / "index.json").read_text(encoding="utf-8"))
    return [
        (
            str(archive / "demo-enmap" / entry["hs"] / f"{entry['hs']}.json"),
            str(archive / "demo-sentinel-2" / entry["ms"] / f"{entry['ms']}.json"),
            str(archive / "truth" / entry["truth"]),
        )
        for entry in index["pairs"]
    ]


def learn(work: Path, out: Path, *, quick: bool, minutes: float | None) -> Trained:
    """The weights, trained or found trained in out."""
    pairs = [
        pair for seed in (LEARNT_SEEDS[:1] if quick else LEARNT_SEEDS) for pair in pairs_of(archive_of(work, seed))
    ]
    config = TrainConfig(
        model=MODEL,
        recipe=QUICK if quick else RECIPE,
        truths=tuple(truth for _, _, truth in pairs),
        minutes=minutes,
        device="auto",
        licence="Apache-2.0",
    )
    return train([(hs, ms) for hs, ms, _ in pairs], out=out, config=config, report=tell)


def tell(row: dict[str, float]) -> None:
    """Say how training goes."""
    print(f"step {row['step']:.0f}: loss {row['loss']:.5f}, held out {row['psnr_db']:.2f} dB", file=sys.stderr)  # noqa: T201 - progress


def score(work: Path, weights: Path, *, quick: bool) -> list[dict[str, Any]]:
    """One record per landscape, pair and method: products made through the whole pipeline, against the truth."""
    methods: list[tuple[str, str | None]] = [(MODEL, str(weights)), *((name, None) for name in weightless_names())]
    records = []
    for seed in UNSEEN_SEEDS[:1] if quick else UNSEEN_SEEDS:
        archive = archive_of(work, seed)
        truths = {Path(hs).stem: truth for hs, _, truth in pairs_of(archive)}
        for name, own in methods[:2] if quick else methods:
            out = work / "products" / str(seed)
            config = RunConfig(model=name, weights=own, format=("zarr",))
            report = batch(
                [str(archive / "catalog.json")], out=out, rule=PairRule(min_overlap_fraction=0.5), config=config
            )
            for product in report.products:
                hs_id = next(hs_id for hs_id in truths if product.folder.name.startswith(f"{hs_id}_"))
                values = evaluate_product(product.folder, reference=truths[hs_id]).values
                records.append({"seed": seed, "scene": hs_id, "method": name, **values})
    return records


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: a row per method, means over all pairs, and how often its PSNR and its SAM were the best."""
    scenes = sorted({(record["seed"], record["scene"]) for record in records})
    best_psnr, best_sam = (
        [
            pick((r for r in records if (r["seed"], r["scene"]) == scene), key=lambda r: r[column])["method"]
            for scene in scenes
        ]
        for pick, column in ((max, "psnr_db"), (min, "sam_deg"))
    )
    lines = [
        "| method | PSNR (dB) | SAM (deg) | ERGAS | SSIM | best PSNR | best SAM |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(record["method"] for record in records):
        own = [record for record in records if record["method"] == name]
        means = " | ".join(f"{fmean(r[column] for r in own):.3f}" for column in ("psnr_db", "sam_deg", "ergas", "ssim"))
        lines.append(
            f"| {name} | {means} | {best_psnr.count(name)} of {len(scenes)} | {best_sam.count(name)} of {len(scenes)} |"
        )
    return "\n".join(lines)


def fidelity_of(work: Path, weights: Path) -> dict[str, Any]:
    """What tiles, frozen statistics and bf16 cost the weights on the demo's first pair, see `fidelity`."""
    trial = first_of_demo(work / "fidelity", seed=UNSEEN_SEEDS[0])
    rows, columns = trial.truth.shape[1:]
    whole = Window(y0=0, y1=rows, x0=0, x1=columns)
    return fidelity(Subject(name=MODEL, weights=weights, trial=trial, windows=(whole,)))


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of archives, weights and products")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--minutes", type=float, help="longest time of training; the same call goes on")
    source.add_argument("--weights", type=Path, help="score these, a safetensors file, in place of training")
    parser.add_argument("--quick", action="store_true", help="two steps: shows that the benchmark runs")
    parser.add_argument("--json", type=Path, help="where the records go")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.weights is None:
        began = time.monotonic()
        trained = learn(arguments.out, arguments.out / "weights", quick=arguments.quick, minutes=arguments.minutes)
        seconds = time.monotonic() - began
        weights = trained.weights
        training = {"seconds": seconds, "training": {**trained.facts(), "weights": weights.name}}
    else:
        weights, training = arguments.weights, {}
    records = score(arguments.out, weights, quick=arguments.quick)
    print(table(records))  # noqa: T201 - a benchmark prints its table
    found = fidelity_of(arguments.out, weights)
    print("", *fidelity_table([("demo 1", MODEL, found)]), sep="\n")  # noqa: T201
    if arguments.json is not None:
        facts = {"machine": machine(), "weights": weights.name, **training, "records": records, "fidelity": found}
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
