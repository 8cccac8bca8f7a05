"""The real command, killed at random moments and resumed: the same bytes, little done twice, nothing visible early.

One round by default; the environment variable SCENEFUSE_KILLS asks for more.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from scenefuse.config import RunConfig
from scenefuse.engine.lanes import InProcessLane
from scenefuse.pipeline.fuse import fuse
from tests.pipeline.making import PairFiles, product_bytes, write_pair
from tests.processes import workers_of

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("SCENEFUSE_KILLS", "1"))
WORKERS = 2
OPTIONS = ("--model", "gsa", "--core-px", "64", "--format", "zarr,cog", "--workers", str(WORKERS))
PHASES = ("preparing", "fusing", "committing")
STARTING_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """The same product, made in one go."""

    pair: PairFiles
    item_id: str
    files: dict[str, bytes]
    tiles: int
    commit_s: float


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    pair = write_pair(folder / "pair", ratio=4, coarse_shape=(110, 105), holes="swath")
    config = RunConfig(model="gsa", core_px=64, format=("zarr", "cog"))
    began = time.monotonic()
    product = fuse(pair.hs, pair.ms, out=folder / "out", config=config, lane=InProcessLane())
    whole_s = time.monotonic() - began
    run = read_json(product.folder / "run.json")["facts"]
    before_s = run["run"]["seconds"] + sum(stage["seconds"] for stage in run["stages"])
    files = product_bytes(folder / "out")
    assert run["run"]["tiles"] >= 40
    return Undisturbed(
        pair=pair,
        item_id=product.folder.name,
        files=files,
        tiles=run["run"]["tiles"],
        commit_s=whole_s - before_s,
    )


class Run:
    """One call of the command, in a session of its own."""

    def __init__(self, pair: PairFiles, out: Path) -> None:
        self.out = out
        out.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "scenefuse", "fuse", *pair.both, "--out", str(out), *OPTIONS, "--json"]
        self.log = out.parent / "stderr.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Until it happened or the command has ended."""
        deadline = time.monotonic() + STARTING_S
        while not happened() and self.process.poll() is None:
            assert time.monotonic() < deadline, self.errors()
            time.sleep(0.002)

    def worker_processes(self) -> list[psutil.Process]:
        return workers_of(self.process.pid) if self.process.poll() is None else []

    def kill_everything(self) -> None:
        members = [psutil.Process(self.process.pid), *self.worker_processes()] if self.process.poll() is None else []
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        psutil.wait_procs(members, timeout=30)

    def finish(self) -> dict[str, Any]:
        """What the command says at its end."""
        output, _ = self.process.communicate(timeout=STARTING_S)
        assert self.process.returncode == 0, self.errors()
        facts: dict[str, Any] = json.loads(output)
        return facts

    def errors(self) -> str:
        return self.log.read_text()


def read_json(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


def shards(folder: Path) -> set[tuple[int, int]]:
    """Tiles whose reflectance and quality are stored, by (iy, ix)."""
    found = [
        {tuple(map(int, path.parts[-2:])) for path in folder.glob(pattern) if not path.name.startswith(".")}
        for pattern in ("fused.zarr/reflectance/c/0/*/*", "fused.zarr/quality/c/*/*")
    ]
    return found[0] & found[1]  # type: ignore[return-value] # the patterns end in two numbers


def recorded(folder: Path) -> set[tuple[int, int]]:
    """Tiles of the ledger's whole lines, by (iy, ix)."""
    path = folder / "ledger.jsonl"
    lines = path.read_bytes().split(b"\n")[1:-1] if path.exists() else []
    return {(tile["iy"], tile["ix"]) for tile in map(json.loads, lines)}


def groups_of(tiles: int, columns: int, size: int) -> list[set[tuple[int, int]]]:
    places = [(number // columns, number % columns) for number in range(tiles)]
    return [set(places[start : start + size]) for start in range(0, tiles, size)]


def reach(run: Run, folder: Path, phase: str, whole: Undisturbed, chance: random.Random) -> None:
    """Wait for a random moment of the phase."""
    if phase == "preparing":
        run.wait_until(folder.exists)
        moment_s = time.monotonic() + chance.uniform(0, 8)
        run.wait_until(lambda: time.monotonic() > moment_s or (folder / "ledger.jsonl").exists())
        return
    wanted = chance.randrange(whole.tiles) if phase == "fusing" else whole.tiles
    run.wait_until(lambda: len(shards(folder)) >= wanted)
    if phase == "fusing":
        time.sleep(chance.uniform(0, 0.1))
    else:
        moment_s = time.monotonic() + chance.uniform(0, 1.5 * whole.commit_s)
        run.wait_until(lambda: time.monotonic() > moment_s)


def check_nothing_is_visible_early(out: Path, whole: Undisturbed) -> None:
    """An item, and links to it, only where every file of the product is there and right."""
    item = out / whole.item_id / f"{whole.item_id}.json"
    if item.exists():
        assert product_bytes(out) == whole.files
    else:
        assert not (out / "catalog.json").exists()
        assert not (out / "collection.json").exists()


def check_product(out: Path, whole: Undisturbed) -> None:
    assert product_bytes(out) == whole.files
    assert (out / whole.item_id / f"{whole.item_id}.json").is_file()
    assert not list(out.rglob("*.part"))
    links = [link["href"] for link in read_json(out / "collection.json")["links"]]
    assert f"./{whole.item_id}/{whole.item_id}.json" in links
    assert "./collection.json" in [link["href"] for link in read_json(out / "catalog.json")["links"]]


def plan_of_round(number: int) -> tuple[str, str, random.Random]:
    """Victim, phase and chance: the first three rounds cover the commit and both victims."""
    chance = random.Random(number)  # noqa: S311 - moments of killing, not secrets
    fixed = {0: ("everything", "fusing"), 1: ("everything", "committing"), 2: ("a worker", "fusing")}
    victim = chance.choice(("a worker", "everything", "everything"))
    phase = chance.choice(PHASES[:2] if victim == "a worker" else PHASES)
    return *fixed.get(number, (victim, phase)), chance


@pytest.mark.slow
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_run_killed_at_a_random_moment_and_resumed_gives_the_same_bytes(
    tmp_path: Path, undisturbed: Undisturbed, number: int, record_property: Callable[[str, object], None]
) -> None:
    victim, phase, chance = plan_of_round(number)
    out, folder = tmp_path / "out", tmp_path / "out" / undisturbed.item_id
    run = Run(undisturbed.pair, out)
    reach(run, folder, phase, undisturbed, chance)
    check_nothing_is_visible_early(out, undisturbed)
    if victim == "a worker":
        run.wait_until(lambda: bool(run.worker_processes()))
        for worker in chance.sample(run.worker_processes(), k=min(1, len(run.worker_processes()))):
            worker.kill()
        assert run.finish()["status"] == "done"
        retries = read_json(folder / "run.json")["facts"]["retries"]
        assert len(retries) <= 1
        report: dict[str, int | str] = {"retries": len(retries)}
    else:
        run.kill_everything()
        check_nothing_is_visible_early(out, undisturbed)
        report = resumed_after_the_death_of_everything(out, undisturbed)
    check_product(out, undisturbed)
    record_property("kill", {"victim": victim, "phase": phase, **report})
    print(f"\nround {number}: killed {victim} while {phase}: {report}")  # noqa: T201 - figures for who runs twenty


def resumed_after_the_death_of_everything(out: Path, whole: Undisturbed) -> dict[str, int | str]:
    """Resume, how that ended, and how many groups were done, wholly or partly, that had to be done again."""
    folder = out / whole.item_id
    was_there = (folder / f"{whole.item_id}.json").exists()
    stored, known = shards(folder), recorded(folder)
    status = Run(whole.pair, out).finish()["status"]
    run = read_json(folder / "run.json")["facts"]
    columns = max(ix for _, ix in shards(folder)) + 1
    groups = groups_of(whole.tiles, columns, run["plan"]["group_tiles"])
    kept = [group for group in groups if group <= known]
    again = [group for group in groups if group & stored and group not in kept]
    if was_there:
        assert status == "found"
    else:
        assert run["run"]["skipped"] == sum(map(len, kept))
        assert status == ("resumed" if kept else "done")
    # A worker may have done one group of which it could not tell, and have begun one more.
    assert sum(group <= stored for group in again) <= WORKERS
    assert len(again) <= 2 * WORKERS
    return {
        "status": status,
        "groups": len(groups),
        "kept": len(kept),
        "done_twice": sum(g <= stored for g in again),
        "begun": len(again),
    }
