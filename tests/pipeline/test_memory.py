"""Peak memory of every process stays flat when the scene grows: from files to COG, overviews, picture and manifest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.models.classical_pairs import drawn_pair
from tests.pipeline.making import HS_NM, MS_GSD_M, MS_NM, PairFiles, write_tiff

ROOT = Path(__file__).parents[2]
RATIO = 4
BLOCK_PX = 512
BANDS = (8, 3)


def write_large_pair(folder: Path, fine_px: int) -> PairFiles:
    """A pair of a square of fine_px: one drawn block over and over."""
    folder.mkdir(parents=True)
    images = drawn_pair(RATIO, coarse_side=BLOCK_PX // RATIO, hs_bands=BANDS[0], ms_bands=BANDS[1])
    repeats = fine_px // BLOCK_PX
    hs, ms = (np.tile(np.rint(image * 1e4).astype(np.int16), (1, repeats, repeats)) for image in images)
    files = PairFiles(hs=folder / "hs.tif", ms=folder / "ms.tif")
    write_tiff(files.hs, hs, gsd_m=MS_GSD_M * RATIO, bands_nm=[(nm, 45.0) for nm in HS_NM[: BANDS[0]]])
    write_tiff(files.ms, ms, gsd_m=MS_GSD_M, bands_nm=MS_NM[: BANDS[1]])
    return files


def peaks(folder: Path, fine_px: int) -> dict[str, int]:
    """Peak resident size in bytes of the coordinator, which also finishes and commits, and of the worker."""
    pair = write_large_pair(folder, fine_px)
    command = [sys.executable, "-m", "tests.pipeline.measured_run", *pair.both, str(folder / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False, timeout=550)
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    assert report["fine_px"] == fine_px**2
    found: dict[str, int] = report["peak_rss_bytes"]
    return found


@pytest.mark.slow
@pytest.mark.bench
def test_peak_memory_of_every_process_is_flat_from_9_to_26_mpx(tmp_path: Path) -> None:
    """The smaller fills what is bounded already: GDAL's cache of 64 MiB, and the sample of blocks."""
    small, large = peaks(tmp_path / "small", 3072), peaks(tmp_path / "large", 5120)
    growth = {name: large[name] / small[name] for name in small}
    print(f"\npeak MiB at 9.4 and 26 Mpx: {_mib(small)}, {_mib(large)}")  # noqa: T201 - figures for who measures
    assert max(growth.values()) < 1.1


def _mib(sizes: dict[str, int]) -> dict[str, int]:
    return {name: round(size / 2**20) for name, size in sizes.items()}
