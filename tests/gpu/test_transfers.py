"""Copies beside the arithmetic: what comes down is what was computed from what went up, however busy the device is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scenefuse.engine.transfers import transfers_of
from tests.gpu.conftest import Device

pytestmark = pytest.mark.gpu

BATCHES, BANDS, SIDE = 24, 31, 512


def test_windows_and_cores_are_whole_while_the_device_is_busy(device: Device) -> None:
    transfers = transfers_of(device)
    chance = np.random.default_rng(0)
    arrays = [chance.random((BANDS, SIDE, SIDE), np.float32) for _ in range(BATCHES)]
    ballast = torch.rand(*((4096, 4096) if device == "cuda" else (64, 64)), device=device)
    cores: list[Callable[[], NDArray[np.float32]]] = []
    for array in arrays:
        batch = transfers.upload([transfers.pin(array), transfers.pin(array[::-1].copy())], torch.contiguous_format)
        for _ in range(4):  # milliseconds of work between the upload and what it is for
            ballast = (ballast @ ballast).clamp_(0, 1)
        result = batch * 2 + 1
        del batch  # its memory is free for the next batch as soon as nobody uses it
        cores += [transfers.download(result[i, :, 8:-8, 8:-8]) for i in range(2)]
        del result
        transfers.keep_pace()
    for number, array in enumerate(arrays):
        expected = array[:, 8:-8, 8:-8] * 2 + 1
        np.testing.assert_array_equal(cores[2 * number](), expected)
        np.testing.assert_array_equal(cores[2 * number + 1](), expected[::-1])
