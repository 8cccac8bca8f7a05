from __future__ import annotations

import contextlib
from typing import Literal

import pytest
import torch

from scenefuse.training.ranks import open_ranks


@pytest.mark.parametrize(
    ("device", "fails", "ended"),
    [("cuda", False, True), ("cuda", True, False), ("cpu", False, True), ("cpu", True, True)],
)
def test_a_rank_that_fails_does_not_wait_for_the_others(
    monkeypatch: pytest.MonkeyPatch, device: Literal["cpu", "cuda"], *, fails: bool, ended: bool
) -> None:
    calls: list[str] = []
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: calls.append(f"device {number}"))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **_: calls.append(backend))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: calls.append("ended"))
    with contextlib.suppress(ZeroDivisionError), open_ranks(device):
        if fails:
            raise ZeroDivisionError
    began = ["device 1", "nccl"] if device == "cuda" else ["gloo"]
    assert calls == [*began, *(["ended"] if ended else [])]
