"""Each benchmark runs on a tiny size; its figures are for people, by hand. `make bench` runs those left out of CI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenefuse.models.registry import weightless_names
from scenefuse.training.recipe import CPU_RECIPES
from tests.bench import scenes
from tests.bench.lesson import Lesson
from tests.bench.networks import QUICK_MODELS
from tests.bench.scenes import wald_of

ROOT = Path(__file__).parents[2]


def quick_run(name: str, test_data: Path, result: Path, *options: str) -> tuple[list[dict[str, Any]], str]:
    """Records and printed table of `python -m tests.bench.<name> --quick`."""
    command = [sys.executable, "-m", f"tests.bench.{name}", "--quick", "--json", str(result), *options]
    environment = {**os.environ, "SCENEFUSE_TEST_DATA": str(test_data)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(result.read_text())["records"], done.stdout


@pytest.mark.slow
def test_quality_runs_and_records_every_method(test_data: Path, tmp_path: Path) -> None:
    records, printed = quick_run("quality", test_data, tmp_path / "quality.json")
    psnr_db = {record["method"]: record["psnr_db"] for record in records}
    assert set(psnr_db) == {"bicubic", "gsa", "sfim", "mtf-glp-hs", "cnmf", "hysure-l2"}
    assert min(psnr_db, key=psnr_db.__getitem__) == "bicubic"
    assert "| hysure-l2 |" in printed


@pytest.mark.bench
def test_a_phase_that_is_taken_costs_less_than_one_that_is_warped_away(test_data: Path, tmp_path: Path) -> None:
    records, printed = quick_run("phase", test_data, tmp_path / "phase.json")
    psnr_db = {record["way"]: record["psnr_db"] for record in records if record["method"] == "hysure-l2"}
    assert psnr_db["taken"] > psnr_db["nested"] - 0.5
    assert psnr_db["warped"] < psnr_db["taken"] - 0.5
    assert "| Jasper Ridge (Wald, r=4) | hysure-l2 |" in printed


@pytest.mark.bench
def test_the_psf_of_a_real_scene_is_found_within_half_a_percent(test_data: Path, tmp_path: Path) -> None:
    (record,), printed = quick_run("degradation", test_data, tmp_path / "degradation.json")
    assert abs(record["error"]) < 0.005
    assert record["sigma_px"] == pytest.approx(1.9758, abs=1e-4)
    assert "| Jasper Ridge | 4 | none | none |" in printed


@pytest.mark.bench
def test_networks_run_and_are_recorded_beside_every_method(test_data: Path, tmp_path: Path) -> None:
    records, printed = quick_run("networks", test_data, tmp_path / "networks.json")
    trained = {record["method"] for record in records if record["training"]}
    assert trained == set(QUICK_MODELS)
    assert {record["method"] for record in records} - trained == set(weightless_names())
    assert len({record["test_px"] for record in records}) == 1
    assert "At least 1 dB above bicubic" in printed
    for record in records:
        assert record["psnr_db"] != record["noisy_hs"]["35 dB"]["psnr_db"] > record["noisy_hs"]["15 dB"]["psnr_db"]


@pytest.mark.slow
@pytest.mark.bench
def test_the_benchmark_of_a_gpu_runs_on_a_processor(test_data: Path, tmp_path: Path) -> None:
    records, printed = quick_run("gpu", test_data, tmp_path / "gpu.json", "--device", "cpu")
    assert [(record["method"], record["precision"]) for record in records] == [
        ("aelf-t", "fp32"),
        ("aelf-t", "bf16"),
        ("gsa", "fp32"),
    ]
    assert all(record["repeats"] and record["forward"]["eager"]["from_eager"] == 0 for record in records)
    (drift,) = json.loads((tmp_path / "gpu.json").read_text())["drift"]
    assert 0 < drift["rms"] < 1e-3
    assert drift["not_finite"] == 0
    assert "| aelf-t | bf16 |" in printed


@pytest.mark.bench
def test_a_tile_of_a_network_in_its_full_size_is_exact(test_data: Path, tmp_path: Path) -> None:
    records, printed = quick_run("exactness", test_data, tmp_path / "exactness.json")
    assert {record["halo"] for record in records} == {"default", "full"}
    assert all(record["passed"] for record in records)
    assert "| aelf-t | 4 | 64 |" in printed


@pytest.mark.bench
def test_threads_and_precisions_of_a_processor_are_compared(test_data: Path, tmp_path: Path) -> None:
    (record,), printed = quick_run("processor", test_data, tmp_path / "processor.json")
    assert record["threads_speedup"] == record["one_thread_s"] / record["two_threads_s"] > 0
    assert record["bf16_speedup"] == record["one_thread_s"] / record["bf16_s"] > 0
    assert 0 < record["bf16_max_difference"] < 0.05  # as coarse as bf16, and not fp32 under another name
    assert "aelf-t: two threads are" in printed


@pytest.mark.slow
def test_a_batch_under_faults_gives_the_same_bytes(test_data: Path, tmp_path: Path) -> None:
    (record,), printed = quick_run("faults", test_data, tmp_path / "faults.json")
    assert record["findings"] == []
    assert record["faults"] == 4
    assert record["products_compared"] == record["rounds"] * record["pairs"]
    assert sum(sum(phases.values()) for phases in record["dealt"].values()) == 4
    assert "| fault | starting |" in printed


@pytest.mark.bench
def test_archive_measures_every_stage_and_the_scheduler_keeps_nothing(test_data: Path, tmp_path: Path) -> None:
    records, _ = quick_run("archive", test_data, tmp_path / "archive.json")
    by_name = {record["measurement"]: record for record in records}
    assert set(by_name) == {"pairing", "searching", "looking", "planning", "scheduling", "batching", "preparing"}
    assert by_name["searching"]["pairs"] == 50
    assert by_name["looking"]["done"] == by_name["looking"]["pairs"] == 20
    assert by_name["scheduling"]["most_tasks_in_scheduler"] <= 4
    assert by_name["scheduling"]["task_prefixes"] == 1
    assert by_name["preparing"]["shares"].keys() == {"open", "prepare", "tiles", "check", "finish"}


@pytest.mark.bench
def test_a_sample_of_blocks_is_compared_with_all_of_them(test_data: Path, tmp_path: Path) -> None:
    records, printed = quick_run("sampling", test_data, tmp_path / "sampling.json")
    assert [(record["blocks"], record["of_blocks"]) for record in records] == [(16, 36), (36, 36)] * 2
    for sampled, whole in zip(records[::2], records[1::2], strict=True):
        assert sampled["psnr_db"] == pytest.approx(whole["psnr_db"], abs=0.3)
    assert "| gsa | 16 of 36 |" in printed


@pytest.mark.bench
def test_leak_weighs_the_worker_after_each_group(test_data: Path, tmp_path: Path) -> None:
    (record,), _ = quick_run("leak", test_data, tmp_path / "leak.json")
    assert record["groups"] >= 12
    assert record["peak_mib"] < 1024


def test_networks_learn_from_no_pixel_that_tests_them() -> None:
    cube = np.zeros((3, 96, 96), np.float32) + 0.5
    trial = wald_of("made up", cube, np.array([480.0, 560.0, 660.0]), ratio=4)
    lesson = Lesson(name="made up", learnt=trial, tested=trial)
    ground = lesson.ground(CPU_RECIPES["aelf-t"])
    read = np.zeros((96, 96), bool)
    for index in range(ground.hold_out.count()):
        read[ground.hold_out.window(index).grow(ground.scene.reach_px).clip((96, 96)).slices] = True
    assert read.any()
    for block in (*ground.hold_out.blocks(), *lesson.windows()):
        assert not read[block.slices].any()
    (chooses,), (tests,) = ground.hold_out.blocks(), lesson.windows()
    assert chooses.x1 <= tests.x0
    hidden = lesson.ground(CPU_RECIPES["mossfuse"])
    assert hidden.scene.read(hidden.hold_out.window(0)).truth is None


@pytest.mark.parametrize(("name", "bands"), [("abu_urban", 204), ("abu_airport", 205), ("indian_pines", 200)])
def test_scenes_are_read_whole(name: str, bands: int, test_data: Path) -> None:
    if name == "indian_pines":
        pytest.importorskip("tensorly", reason="Indian Pines comes with tensorly: pip install -e '.[bench]'")
    cube, wavelength_nm = getattr(scenes, name)(test_data)
    assert cube.shape[0] == bands == len(wavelength_nm)
    assert cube.max() == 1.0
    assert (np.diff(wavelength_nm) > 0).all()


@pytest.mark.bench
def test_tiling_runs_in_every_lane_and_ours_is_exact(tmp_path: Path) -> None:
    result, picture = tmp_path / "tiling.json", tmp_path / "tiling.png"
    command = [sys.executable, "-m", "tests.bench.tiling", "--quick", "--json", str(result), "--plot", str(picture)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(result.read_text())
    ours = [record for record in found["records"] if record["contestant"] == "ours"]
    assert {(record["model"], record["lane"]) for record in ours} == {
        *(("se", lane) for lane in ("memory", "zarr", "cog")),
        ("bicubic", "cog"),
    }
    exact = [bar for bar in found["bars"] if bar["name"].startswith("largest difference")]
    assert len(exact) == 2
    assert all(bar["passed"] for bar in exact)
    assert picture.stat().st_size > 10_000
    assert "| se | 0.0625 | memory | ours full halo |" in done.stdout
