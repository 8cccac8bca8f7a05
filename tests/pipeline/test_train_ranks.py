"""Training by several processes: the weights are those of one process, whatever is killed in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scenefuse.errors import UsageError
from scenefuse.training.ranks import Ranks
from tests.pipeline.making import PairFiles, write_pair

ARGUMENTS = (
    *("--model", "cofusion", "--set", "width=8", "--set", "coordinates=4", "--set", "encoder_depth=1"),
    *("--set", "context_depth=1", "--patch-px", "16", "--batch", "1", "--accumulate", "2", "--iterations", "4"),
    *("--score-every", "2", "--device", "cpu", "--no-register", "--json"),
)
"""A training with dropout, so that random numbers count, too."""
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "scenefuse", "train")
ONE = ("-m", "scenefuse", "train")
THREADS_LEFT = """
import os
import torch
from scenefuse.training.ranks import open_ranks

with open_ranks("cpu") as ranks:
    import torch.distributed.nn  # as torch's optimizers do
    total = torch.ones(1)
    ranks.add([total])
threads = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
assert total == 2 and not any("gloo" in name for name in threads), threads
"""
"""Fails where threads of the group outlive it: one that ends a message during the interpreter's exit aborts it."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> PairFiles:
    return write_pair(tmp_path_factory.mktemp("pair"), ratio=4, coarse_shape=(96, 96), bands=(6, 3))


def trained(launch: tuple[str, ...], pair: PairFiles, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, *launch, *map(str, pair.both), "--out", str(out), *ARGUMENTS, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(call, env=environment, text=True, capture_output=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def alone(pair: PairFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that one process trained."""
    done = trained(ONE, pair, tmp_path_factory.mktemp("alone"))
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["weights"])


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_and_one_of_them_speaks(
    pair: PairFiles, alone: Path, tmp_path: Path
) -> None:
    together = trained(TWO, pair, tmp_path)
    assert together.returncode == 0, together.stderr
    said = json.loads(together.stdout)
    assert said["steps"] == 4
    one, two = load_file(alone), load_file(said["weights"])
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert alone.with_suffix(".csv").read_text() == (tmp_path / alone.name).with_suffix(".csv").read_text()


@pytest.mark.slow
@pytest.mark.bench
def test_one_process_goes_on_where_two_were_stopped(pair: PairFiles, alone: Path, tmp_path: Path) -> None:
    stopped = trained(TWO, pair, tmp_path, "--minutes", "0")
    assert json.loads(stopped.stdout)["stopped"] == "minutes", stopped.stderr
    whole = trained(ONE, pair, tmp_path)
    assert load_file(json.loads(whole.stdout)["weights"]).keys() == load_file(alone).keys()
    assert (tmp_path / alone.name).read_bytes() == alone.read_bytes()


@pytest.mark.slow
def test_threads_of_the_group_end_with_it(tmp_path: Path) -> None:
    script = tmp_path / "threads.py"
    script.write_text(THREADS_LEFT)
    call = [sys.executable, *TWO[:-3], str(script)]
    done = subprocess.run(call, text=True, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_passes_that_cannot_be_shared_out_are_refused() -> None:
    assert [list(Ranks(rank=rank, size=2).share(4)) for rank in (0, 1)] == [[0, 1], [2, 3]]
    with pytest.raises(UsageError, match=r"3 passes in a step for 2 processes.*--accumulate 2"):
        Ranks(rank=0, size=2).share(3)
