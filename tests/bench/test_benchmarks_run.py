"""Each benchmark runs on a tiny size; its figures are for people, by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_quality_runs_and_records_every_method(test_data: Path, tmp_path: Path) -> None:
    result = tmp_path / "quality.json"
    command = [sys.executable, "-m", "tests.bench.quality", "--quick", "--json", str(result)]
    environment = {**os.environ, "SCENEFUSE_TEST_DATA": str(test_data)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records = json.loads(result.read_text())["records"]
    psnr_db = {record["method"]: record["psnr_db"] for record in records}
    assert set(psnr_db) == {"bicubic", "gsa", "sfim", "mtf-glp-hs", "cnmf", "hysure-l2"}
    assert min(psnr_db, key=psnr_db.__getitem__) == "bicubic"
    assert "| hysure-l2 |" in done.stdout
