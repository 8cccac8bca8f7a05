"""Limits of containers, services and batch jobs, from files as the kernel has them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from scenefuse.engine import allowance, checkup
from scenefuse.engine.cluster import ClusterSpec

GIB = 2**30
MACHINE = {"cores": 64, "memory": 256 * GIB}


@pytest.fixture(autouse=True)
def _a_large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MACHINE["cores"])))
    monkeypatch.setattr(allowance, "MEMORY_LIMIT", MACHINE["memory"])


def write_groups(folder: Path, monkeypatch: pytest.MonkeyPatch, *, membership: str, files: Mapping[str, str]) -> None:
    """Groups as the kernel shows them: the lines of /proc/self/cgroup, and files below /sys/fs/cgroup."""
    (folder / "membership").write_text(membership)
    for name, text in files.items():
        path = folder / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    monkeypatch.setattr(allowance, "_MEMBERSHIP", folder / "membership")
    monkeypatch.setattr(allowance, "_GROUPS", folder / "groups")


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        pytest.param("0::/\n", {"cpu.max": "200000 100000", "memory.max": f"{8 * GIB}"}, id="container"),
        pytest.param(
            "0::/system.slice/slurmstepd.scope/job_7/step_0\n",
            {
                "system.slice/cpu.max": "max 100000",
                "system.slice/slurmstepd.scope/job_7/cpu.max": "150000 100000",
                "system.slice/slurmstepd.scope/job_7/memory.max": f"{8 * GIB}",
                "system.slice/slurmstepd.scope/job_7/step_0/memory.max": "max",
            },
            id="job",
        ),
        pytest.param(
            "0::/system.slice/scenefuse.service\n",
            {
                "system.slice/scenefuse.service/cpu.max": "200000 100000",
                "system.slice/scenefuse.service/memory.high": f"{8 * GIB}",
                "system.slice/scenefuse.service/memory.max": f"{9 * GIB}",
            },
            id="service",
        ),
        pytest.param(
            "9:name=systemd:/\n4:memory:/slurm/job_7\n2:cpu,cpuacct:/slurm/job_7\n0::/\n",
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us": "200000",
                "cpu,cpuacct/slurm/job_7/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/slurm/job_7/memory.limit_in_bytes": f"{8 * GIB}",
            },
            id="job, version 1",
        ),
        pytest.param(
            "4:memory:/docker/0a1b\n2:cpu,cpuacct:/docker/0a1b\n",  # the host's path, which is not to be seen
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "200000",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": f"{8 * GIB}",
            },
            id="container, version 1",
        ),
    ],
)
def test_workers_are_as_many_as_the_limit_has_cores_and_share_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: str, files: Mapping[str, str]
) -> None:
    write_groups(tmp_path, monkeypatch, membership=membership, files=files)
    spec = ClusterSpec()
    assert (spec.worker_count, spec.worker_memory_bytes) == (2, 4 * GIB)


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        pytest.param("", {}, id="no groups"),
        pytest.param(
            "0::/user.slice\n", {"user.slice/cpu.max": "max 100000", "user.slice/memory.max": "max"}, id="none"
        ),
        pytest.param("nonsense\n0::/a\n", {"a/cpu.max": "much 0", "a/memory.max": "\u00e9"}, id="nonsense"),
        pytest.param("0::/a\n", {"b/cpu.max": "100000 100000", "b/memory.max": "1"}, id="another's"),
    ],
)
def test_without_a_limit_all_of_the_machine_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: str, files: Mapping[str, str]
) -> None:
    write_groups(tmp_path, monkeypatch, membership=membership, files=files)
    assert (allowance.available_cores(), allowance.available_memory_bytes()) == tuple(MACHINE.values())


def test_less_than_a_core_is_one_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_groups(tmp_path, monkeypatch, membership="0::/\n", files={"cpu.max": "20000 100000"})
    assert allowance.available_cores() == 1


def test_the_checkup_tells_the_limit_and_not_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_groups(tmp_path, monkeypatch, membership="0::/\n", files={"cpu.max": "200000 100000", "memory.max": f"{GIB}"})
    found = {entry.name: entry for entry in checkup.check_machine(tmp_path)}
    assert "2 workers by default" in found["processor"].text
    assert found["memory"].verdict == "warning"
    assert "may take 1.0 GiB" in found["memory"].text
    assert found["memory"].facts["available_bytes"] == min(GIB, psutil.virtual_memory().available)
