"""A batch of tiny pairs under random kills and errors, until so many were dealt; then the same bytes as undisturbed.

    python -m tests.bench.faults [--quick] [--faults 200] [--pairs 20] [--seed 0]
        [--json tests/bench/results/faults.json]

The batch is the real command with two workers. When a call has ended, by itself or by a fault, the next one resumes;
when every pair is fused and faults are left, it begins anew in another folder. What readers can see is compared with
the undisturbed products at each fault and after each call. The file keeps a record of every seed, so that calls with
other seeds add up; a call made again replaces its own. A full disk needs the right to mount a tmpfs, and a folder
without permission that to set a folder immutable when run as root; without the right that kind is left out, and named.
Exit code 1 when something was not as it should be.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.archives import write_tiny_archive
from tests.bench.batch_call import BatchCall
from tests.bench.fault_kinds import Fault, Ground, possible_faults
from tests.bench.machine import machine
from tests.pipeline.making import product_bytes

PHASES = ("starting", "preparing", "fusing", "finishing", "any")
WAIT_FOR_PHASE_S = 30.0
"""Longest wait for the phase in which a fault is wanted; then it is dealt where the batch is."""
CALL_LIMIT_S = 300.0
"""Longest that an undisturbed end of a call may take."""
COUNTED = (
    *("faults", "rounds", "seconds", "dealt", "calls_by_exit_code", "pairs_given_up_by_type"),
    *("products_compared", "shards", "shards_written_again", "left_out", "findings"),
)
"""What of a record adds up with those of other seeds."""
EXIT_CODES = {0, 3, 4, 130, -signal.SIGTERM, -signal.SIGINT}
"""Codes with which a disturbed call may end by itself, the signals where a second one met a command that was leaving;
1 would be a bug."""


@dataclass(kw_only=True)
class Trial:
    """A batch, what it makes undisturbed, and what became of it under faults."""

    catalogue: Path
    ground: Ground
    expected: dict[str, dict[str, bytes]]
    """Files of each product of the undisturbed batch, by item id."""
    chance: random.Random
    dealt: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Faults by kind and phase."""
    ended: Counter[str] = field(default_factory=Counter)
    """Calls by their exit code."""
    findings: list[str] = field(default_factory=list)
    """What was not as it should be."""
    compared: int = 0
    """Products compared, byte for byte, at the end of a round."""
    shards: int = 0
    """Shards of those products."""
    written: int = 0
    """Shards written for them, again or for the first time, as far as they were seen."""
    failures: Counter[str] = field(default_factory=Counter)
    """Pairs that a call gave up, by the type that it told."""

    def round(self, faults: dict[str, Fault], left: int) -> int:
        """Fuse everything into a new folder; how many faults are left to deal."""
        out = self.ground.new_out()
        versions: dict[Path, set[tuple[int, int]]] = {}
        while True:
            call = BatchCall(self.catalogue, out, versions=versions, tiles=self._tiles())
            left, code = self._disturb(call, faults, left)
            self.ended[str(code)] += 1
            self._check_visible(out, f"after a call that ended with {code}")
            if code == 0:
                break
        self._check_complete(out)
        self.compared += len(self.expected)
        self.shards += sum(len([name for name in files if "/c/" in name]) for files in self.expected.values())
        self.written += sum(map(len, versions.values()))
        return left

    def _disturb(self, call: BatchCall, faults: dict[str, Fault], left: int) -> tuple[int, int]:
        """The call under faults until it ends: how many are left, and its exit code."""
        last, excuses = None, False
        while left and self._reach(call):
            kind = self.chance.choices(list(faults), weights=[fault.weight for fault in faults.values()])[0]
            phase = call.phase()
            self._check_visible(call.out, f"before {kind}")
            if not faults[kind].deal(call, self.ground, self.chance):
                continue
            left -= 1
            self.dealt[kind, phase] += 1
            last, excuses = kind, excuses or faults[kind].kills
            say(f"{left:4d} left: {kind} while {phase}")
        code = call.wait(CALL_LIMIT_S)
        self._judge(call, code, last, excused=excuses)
        return left, code

    def _reach(self, call: BatchCall) -> bool:
        """True at a random moment of a random phase; False when the call ended before."""
        phase = self.chance.choice(PHASES)
        deadline = time.monotonic() + WAIT_FOR_PHASE_S
        while phase not in ("any", call.phase()) and time.monotonic() < deadline:
            if not call.alive(0.005):
                return False
        moment = time.monotonic() + self.chance.uniform(0, 4.0 if phase == "any" else 0.4)
        while call.alive(0.01):
            if time.monotonic() > moment:
                return True
        return False

    def _judge(self, call: BatchCall, code: int, last: str | None, *, excused: bool) -> None:
        """Take note of an exit code or a failure that should not be."""
        if call.hung:
            self._find(call, f"the call did not end within {CALL_LIMIT_S:.0f} s after {last}")
        elif code not in EXIT_CODES and not excused:
            self._find(call, f"exit code {code} after {last}")
        call.wake()
        if last != "kill the coordinator":  # whose workers, which end by themselves, are to meet the next call
            for process in call.left_behind():
                self._find(call, f"a process was left behind after {last}: {process}")
        for failure in call.failures():
            self.failures[failure["kind"]] += 1
            if failure["kind"] == "bug":
                self._find(call, f"a bug after {last}: {failure['cause']}")

    def _find(self, call: BatchCall, text: str) -> None:
        self.findings.append(text)
        say(f"FOUND: {text}\n{call.errors()[-3000:]}")

    def _check_visible(self, out: Path, when: str) -> None:
        """Every product with an item is whole; the collection links no other."""
        for root in (out, *self.ground.shadows(out)):
            seen = {path.parent.name for path in root.glob("*/*.json") if path.stem == path.parent.name}
            for name in sorted(seen):
                if product_bytes(root / name) != self.expected.get(name):
                    self._broken(root / name, when)
            linked = {link.split("/")[1] for link in item_links(root)}
            if linked - seen:
                self.findings.append(f"{when}: the collection links what has no item: {sorted(linked - seen)}")

    def _broken(self, folder: Path, when: str) -> None:
        found, expected = product_bytes(folder), self.expected.get(folder.name, {})
        different = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        self.findings.append(f"{when}: {folder.name} is visible and differs in {different[:5]}")
        say(f"FOUND: {self.findings[-1]}")

    def _check_complete(self, out: Path) -> None:
        linked = {link.split("/")[1] for link in item_links(out)}
        if linked != set(self.expected):
            self.findings.append(f"the collection links {len(linked)} of {len(self.expected)} products")
        left = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.part"))
        if left:
            self.findings.append(f"parts were left behind: {left[:5]}")

    def record(self) -> dict[str, Any]:
        """The counts so far."""
        return {
            "left_out": sorted(self.ground.left_out),
            "dealt": by_kind(self.dealt),
            "calls_by_exit_code": dict(sorted(self.ended.items())),
            "pairs_given_up_by_type": dict(sorted(self.failures.items())),
            "products_compared": self.compared,
            "shards": self.shards,
            "shards_written_again": self.written - self.shards,
            "findings": self.findings,
        }

    def _tiles(self) -> dict[str, int]:
        return {name: sum("/quality/c/" in f"/{file}" for file in files) for name, files in self.expected.items()}


def item_links(root: Path) -> list[str]:
    """Links of the output's collection to items: `./<id>/<id>.json`."""
    path = root / "collection.json"
    links = json.loads(path.read_bytes())["links"] if path.exists() else []
    return [link["href"] for link in links if link["rel"] == "item"]


def measure(*, faults: int, pairs: int, seed: int) -> Iterator[dict[str, Any]]:
    """After each round: counts of faults by kind and phase, of calls, of what was compared and done again; findings."""
    with tempfile.TemporaryDirectory(prefix="scenefuse-faults-") as work, Ground.under(Path(work)) as ground:
        catalogue = write_tiny_archive(Path(work) / "archive", pairs)
        undisturbed = Path(work) / "undisturbed"
        code = BatchCall(catalogue, undisturbed).wait(CALL_LIMIT_S)
        folders = sorted(path.parent for path in undisturbed.glob("*/*.json") if path.stem == path.parent.name)
        if code or len(folders) != pairs:
            raise RuntimeError(f"The undisturbed batch ended with {code} and made {len(folders)} of {pairs}")
        trial = Trial(
            catalogue=catalogue,
            ground=ground,
            expected={folder.name: product_bytes(folder) for folder in folders},
            chance=random.Random(seed),  # noqa: S311 - moments of killing, not secrets
        )
        kinds, left, rounds, began = possible_faults(ground), faults, 0, time.monotonic()
        while left:
            left = trial.round(kinds, left)
            rounds += 1
            head = {"faults": faults - left, "pairs": pairs, "seed": seed, "rounds": rounds}
            yield head | {"seconds": round(time.monotonic() - began)} | trial.record()


def by_kind(dealt: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Counts by kind, then by phase."""
    kinds = sorted({kind for kind, _ in dealt})
    return {kind: {phase: n for (of, phase), n in sorted(dealt.items()) if of == kind} for kind in kinds}


def total(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The records of several seeds as one: counts added up, name by name, and all findings."""
    whole: dict[str, Any] = {}
    for record in records:
        whole = _added(whole, {name: record[name] for name in COUNTED})
    return whole


def _added(one: Any, other: Any) -> Any:
    if isinstance(other, dict):
        one = one or {}
        return {name: _added(one.get(name), other[name]) if name in other else one[name] for name in {**one, **other}}
    return other if one is None else one + other


def table(record: dict[str, Any]) -> str:
    """Markdown: a row per kind, a column per phase; then the totals."""
    phases = ("starting", "preparing", "fusing", "finishing", "between")
    lines = [f"| fault | {' | '.join(phases)} |", "|---" * (len(phases) + 1) + "|"]
    for kind, counts in sorted(record["dealt"].items()):
        lines.append(f"| {kind} | {' | '.join(str(counts.get(phase, 0)) for phase in phases)} |")
    lines += [f"{name}: {record[name]}" for name in COUNTED if name != "dealt"]
    return "\n".join(lines)


def say(text: str) -> None:
    """Print at once: a long run is watched."""
    print(text, flush=True)  # noqa: T201 - a benchmark prints its progress


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four faults on two pairs: shows that the benchmark runs")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where the record goes, after each round")
    given = parser.parse_args()
    faults, pairs = (4, 2) if given.quick else (given.faults, given.pairs)
    others = [] if given.json is None or not given.json.exists() else recorded(given.json, but=given.seed)
    record: dict[str, Any] = {}
    for record in measure(faults=faults, pairs=pairs, seed=given.seed):
        if given.json is not None:
            whole = {"records": [*others, {"machine": machine(), **record}]}
            given.json.write_text(json.dumps(whole, indent=1) + "\n")
    say(table(total([*others, record])))
    sys.exit(1 if record["findings"] else 0)


def recorded(path: Path, *, but: int) -> list[dict[str, Any]]:
    """The records of other seeds in the file."""
    records: list[dict[str, Any]] = json.loads(path.read_text())["records"]
    return [record for record in records if record["seed"] != but]


if __name__ == "__main__":
    main()
