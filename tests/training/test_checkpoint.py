from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from scenefuse.training.checkpoint import Progress, load_checkpoint, save_checkpoint


def test_two_trainings_of_the_same_course_may_write_one_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two operators who adapt the same network to the same pair share the folder."""
    network = nn.Linear(2, 2)
    optimiser = torch.optim.Adam(network.parameters())
    path = tmp_path / "weights.checkpoint"

    def save(step: int) -> None:
        save_checkpoint(path, {"network": network}, optimiser, Progress(step=step), {})

    sync, others = os.fsync, [threading.Thread(target=save, args=(2,))]

    def slow(file: int) -> None:
        if others:
            other = others.pop()
            other.start()
            other.join()
        sync(file)

    monkeypatch.setattr(os, "fsync", slow)
    save(1)
    assert load_checkpoint(path, {"network": network}, optimiser, {}).step == 1
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
