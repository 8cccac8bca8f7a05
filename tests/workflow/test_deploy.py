"""What operators copy calls commands that there are."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scenefuse.cli.workflow import command
from scenefuse.engine.lease import Lease
from scenefuse.place.shipped import shipped_folder

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "workflows" / "deploy"


def calls() -> Iterator[list[str]]:
    """The arguments of each `scenefuse workflow`, that word left out."""
    unit = (DEPLOY / "scenefuse.service").read_text()
    (started,) = (line.partition("=")[2] for line in unit.splitlines() if line.startswith("ExecStart="))
    yield shlex.split(started)[2:]
    (alarm,) = (line for line in unit.splitlines() if "--max-age" in line)
    yield shlex.split(alarm.lstrip("# "), comments=True)[2:]
    job = yaml.safe_load((DEPLOY / "cronjob.yaml").read_text())["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    yield job["containers"][0]["args"][1:]
    service = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]["nightly"]
    yield service["command"][1:]
    yield service["healthcheck"]["test"][3:]
    for file in shipped_folder("workflows").glob("*.toml"):
        for line in file.read_text().splitlines():
            if line.startswith("#   scenefuse workflow"):
                yield shlex.split(line.lstrip("# "), comments=True)[2:]


@pytest.mark.parametrize("call", list(calls()), ids=" ".join)
def test_the_call_is_one(call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, *arguments = call
    called = command.get_command(command.make_context("workflow", [], resilient_parsing=True), name)
    assert called is not None
    context = called.make_context(name, arguments)
    assert {str(value) for key, value in context.params.items() if key in {"file", "files"}}


def test_a_job_is_tried_until_the_leases_of_a_killed_pod_have_ended() -> None:
    """The next pod is another machine to them. Kubernetes waits 10 s before a retry (of some versions the second one),
    then twice as long each time.
    """
    job = yaml.safe_load((DEPLOY / "cronjob.yaml").read_text())["spec"]["jobTemplate"]["spec"]
    waited_s = sum(10 * 2**number for number in range(job["backoffLimit"] - 1))
    assert waited_s > inspect.signature(Lease).parameters["lasts_s"].default
