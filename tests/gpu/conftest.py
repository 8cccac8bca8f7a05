"""The device that these tests run on; without one they are skipped."""

from __future__ import annotations

import os
from typing import Literal

import pytest
import torch

Device = Literal["cpu", "cuda"]


@pytest.fixture(scope="session")
def device() -> Device:
    if os.environ.get("SCENEFUSE_GPU_REHEARSAL") == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return "cuda"
