from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scenefuse.config import parse_bytes
from scenefuse.engine.budget import PlanRequest, RunPlan, plan_run, size_text
from scenefuse.engine.device import device_memory_bytes
from scenefuse.errors import ModelError, ResourceError, UsageError
from scenefuse.grid.pair_grid import PairGrid
from scenefuse.sensors.band import Band
from tests.engine.fakes import AnalyticSource, Setting, grid_of, load_fake
from tests.engine.scenes import request

SETTING = Setting(source=AnalyticSource(coarse_shape=(3000, 2000), ratio=3, hs_count=200))
CARD = load_fake(SETTING.ref).card
GIB = 2**30


def test_the_default_core_is_the_multiple_nearest_to_512_px() -> None:
    plan = plan_run(SETTING.source, CARD, request())
    assert plan.tiling.core_px == 528
    assert plan.tiling.lattice_px == 3
    assert plan.tiling.halo_px == 12
    assert plan.notes == ()
    assert json.loads(json.dumps(plan.facts()))["tiles"] == 18 * 12


def test_a_wanted_core_is_rounded_and_says_so() -> None:
    plan = plan_run(SETTING.source, CARD, request(core_px=300))
    assert plan.tiling.core_px == 288
    assert plan.notes == ("core 300 px rounded to 288 px, a multiple of 48",)


def test_the_core_shrinks_to_fit_the_memory_of_a_worker() -> None:
    plan = plan_run(SETTING.source, CARD, request(worker_memory_bytes=GIB))
    assert plan.tiling.core_px < 528
    assert plan.worker_bytes <= GIB
    assert "to fit the memory" in plan.notes[0]


def test_a_core_that_does_not_fit_is_refused_with_one_that_does() -> None:
    with pytest.raises(ResourceError) as refusal:
        plan_run(SETTING.source, CARD, request(worker_memory_bytes=GIB, core_px=1008))
    cure = re.match(r"Use --core-px (\d+), or --memory-limit", refusal.value.cure)
    assert cure
    assert plan_run(SETTING.source, CARD, request(worker_memory_bytes=GIB, core_px=int(cure[1]))).notes == ()


def test_too_little_memory_for_any_core_is_refused_with_a_limit_that_suffices() -> None:
    with pytest.raises(ResourceError) as refusal:
        plan_run(SETTING.source, CARD, request(worker_memory_bytes=GIB // 2))
    cure = re.match(r"No core is small enough: use --memory-limit (\S+), perhaps", refusal.value.cure)
    assert cure
    plan_run(SETTING.source, CARD, request(worker_memory_bytes=parse_bytes(cure[1])))


def test_too_little_disk_is_refused() -> None:
    need = 9000 * 6000 * 401
    with pytest.raises(ResourceError, match="The product needs up to"):
        plan_run(SETTING.source, CARD, request(free_disk_bytes=need - 1))
    assert plan_run(SETTING.source, CARD, request(free_disk_bytes=need)).write_bytes == need


def test_a_small_scene_is_one_core_no_larger_than_it_needs() -> None:
    source = AnalyticSource(coarse_shape=(20, 30), ratio=3)
    plan = plan_run(source, CARD, request())
    assert (plan.tiling.core_px, plan.tiles) == (96, 1)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("worker_memory_bytes", [64 * GIB, GIB // 2])
def test_a_wanted_core_is_no_larger_than_the_scene(worker_memory_bytes: int) -> None:
    source = AnalyticSource(coarse_shape=(20, 30), ratio=3)
    wanted = request(core_px=10**11, worker_memory_bytes=worker_memory_bytes)
    if worker_memory_bytes < GIB:
        with pytest.raises(ResourceError, match="A window of 120 x 120 px needs"):
            plan_run(source, CARD, wanted)
        return
    plan = plan_run(source, CARD, wanted)
    assert (plan.tiling.core_px, plan.tiles) == (96, 1)
    assert plan.notes == ("core 100000000000 px cut to 96 px, which hold the whole scene",)


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([2, 3, 5, 8]), st.integers(1, 9), st.booleans())
def test_every_plan_has_large_windows_and_work_for_every_worker(
    rows: int,
    columns: int,
    ratio: int,
    workers: int,
    full: bool,  # noqa: FBT001 - drawn by Hypothesis
) -> None:
    source = AnalyticSource(coarse_shape=(rows, columns), ratio=ratio)
    setting = Setting(source=source, options={"layers": 3, "lattice": 4})
    halo = "full" if full else "default"
    plan = plan_run(source, load_fake(setting.ref).card, request(workers=workers, halo=halo))
    assert plan.tiling.window_px >= 64
    assert plan.tiling.core_px % 16 == 0
    assert plan.tiling.lattice_px % ratio == 0
    assert 1 <= plan.group_tiles <= 8
    assert plan.groups >= min(workers, plan.tiles) / 2


def test_the_plan_of_a_gpu_batches_what_fits_its_memory() -> None:
    asked = request(device="cuda", device_memory_bytes=5 * GIB)
    plan = plan_run(SETTING.source, CARD, asked)
    assert plan.batch == 8
    assert plan.device_bytes <= 5 * GIB
    assert plan.precision == "bf16"
    assert plan.group_tiles % plan.batch == 0
    with pytest.raises(ResourceError, match="the GPU has"):
        plan_run(SETTING.source, replace(CARD, activation_bytes_per_pixel=1e6), asked)


def test_the_cores_beside_a_gpu_encode_as_memory_allows() -> None:
    def plan(**changes: object) -> RunPlan:
        gpu = {"device": "cuda", "device_memory_bytes": 80 * GIB, "worker_memory_bytes": 64 * GIB}
        return plan_run(SETTING.source, CARD, request(**{**gpu, **changes}))

    one, six = plan(), plan(worker_cores=6)
    assert (one.encoders, six.encoders, plan(worker_cores=99).encoders) == (1, 6, 16)
    # Each holds a core in pinned float32 (223 MB in 2^28), its window's mask, and the core twice as integers.
    held = 2**28 + six.tiling.window_px**2 + six.tiling.core_px**2 * 2 * 401
    assert six.worker_bytes - one.worker_bytes == 5 * held
    assert plan(worker_cores=99, worker_memory_bytes=24 * GIB).encoders == 6 * GIB // held
    assert one.sha256_with("x") == six.sha256_with("x")


def test_a_gpu_worker_needs_room_for_cuda_itself_on_both_sides() -> None:
    small = AnalyticSource(coarse_shape=(20, 30), ratio=3)
    there = plan_run(small, CARD, request(device="cuda", device_memory_bytes=8 * GIB))
    assert there.device_bytes > GIB
    assert there.worker_bytes > 2 * GIB > plan_run(small, CARD, request()).worker_bytes
    with pytest.raises(ResourceError, match="the GPU has"):
        plan_run(small, CARD, request(device="cuda", device_memory_bytes=GIB))


def test_the_smallest_gpu_is_planned_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda number: SimpleNamespace(total_memory=(24, 8)[number] * GIB)
    )
    assert device_memory_bytes() == 8 * GIB


def test_on_a_cpu_one_core_beside_the_models_encodes_where_there_is_one() -> None:
    alone, beside, many = (plan_run(SETTING.source, CARD, request(worker_cores=cores)) for cores in (1, 2, 6))
    assert (alone.encoders, beside.encoders, many.encoders) == (0, 1, 1)
    # In float32 with the halo: one more at the encoder and two that wait for it; of bytes three less.
    result, stored = alone.tiling.window_px**2 * (4 * 200 + 1), alone.tiling.core_px**2 * 401
    assert beside.worker_bytes - alone.worker_bytes == 3 * result - 3 * stored
    tight = request(worker_cores=2, worker_memory_bytes=alone.worker_bytes, core_px=alone.tiling.core_px)
    assert plan_run(SETTING.source, CARD, tight).encoders == 0


def test_a_batch_takes_half_of_a_gpu() -> None:
    card = replace(CARD, activation_bytes_per_pixel=2000.0)  # 0.57 GiB for a window of 552 px
    assert plan_run(SETTING.source, card, request(device="cuda", device_memory_bytes=3 * GIB)).batch == 2


def test_a_slow_method_has_small_groups_and_twenty_times_their_time() -> None:
    card = replace(CARD, multiply_adds_per_pixel=1e8)
    plan = plan_run(SETTING.source, card, request(workers=4))
    tile_s = 552**2 * 1e8 / 2e10  # at 2e10 multiply-adds in a second: 25 min
    assert plan.group_tiles == 1
    assert plan.time_limit_s == pytest.approx(20 * tile_s, rel=0.01)
    assert plan.seconds == pytest.approx(18 * 12 * tile_s / 4, rel=0.01)
    assert plan_run(SETTING.source, CARD, request()).time_limit_s == 900


def test_no_worker_waits_while_another_does_a_last_group() -> None:
    source = AnalyticSource(coarse_shape=(512, 512), ratio=4)
    card = replace(CARD, multiply_adds_per_pixel=5.9e5)  # 9 s for a window of 552 px: six of them in a minute
    plans = {workers: plan_run(source, card, request(workers=workers)) for workers in (1, 2, 3, 5)}
    assert {plan.tiles for plan in plans.values()} == {16}
    sizes = {workers: [len(group) for group in plan.tiling.groups(plan.group_tiles)] for workers, plan in plans.items()}
    assert sizes == {1: [6, 6, 4], 2: [4, 4, 4, 4], 3: [6, 6, 4], 5: [4, 4, 4, 4]}


def test_workers_that_have_no_group_make_a_run_no_shorter() -> None:
    source = AnalyticSource(coarse_shape=(20, 30), ratio=3)  # one tile
    assert plan_run(source, CARD, request(workers=4)).seconds == plan_run(source, CARD, request(workers=1)).seconds


def test_a_window_holds_all_that_the_flags_of_its_core_look_at() -> None:
    card = replace(CARD, halo_px=3, effective_px=17)
    assert plan_run(SETTING.source, card, request(halo="default")).tiling.halo_px == 18


@dataclass(frozen=True, kw_only=True)
class CoarseBandSource(AnalyticSource):
    """Its second MSI band has pixels twice as large."""

    resampled: bool

    @property
    def grid(self) -> PairGrid:
        return replace(grid_of(self.coarse_shape, self.ratio), ms_resampled=self.resampled)

    @property
    def ms_bands(self) -> tuple[Band, ...]:
        return tuple(Band(name=f"m{gsd_m:g}", wavelength_nm=500.0, gsd_m=gsd_m) for gsd_m in (10.0, 20.0))


@pytest.mark.parametrize(("resampled", "lattice_px"), [(False, 6), (True, 3)])
def test_tiles_begin_at_whole_pixels_of_the_coarsest_band_that_is_not_resampled(
    lattice_px: int, *, resampled: bool
) -> None:
    source = CoarseBandSource(coarse_shape=(300, 200), ratio=3, resampled=resampled)
    assert plan_run(source, CARD, request()).tiling.lattice_px == lattice_px


def test_the_ledgers_identity_depends_on_tiling_batch_and_numbers_and_not_on_the_workers() -> None:
    plan = plan_run(SETTING.source, CARD, request(workers=1))
    one = plan.sha256_with("x")
    assert one == plan_run(SETTING.source, CARD, request(workers=2)).sha256_with("x")
    others = {
        plan_run(SETTING.source, CARD, request(core_px=288)).sha256_with("x"),
        replace(plan, batch=2).sha256_with("x"),
        replace(plan, precision="bf16").sha256_with("x"),
        replace(plan, device="cuda").sha256_with("x"),
        plan.sha256_with("y"),
    }
    assert len(others - {one}) == 5


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"precision": "fp16"}, UsageError),
        ({"precision": "fp64"}, UsageError),
        ({"core_px": 0}, UsageError),
        ({"worker_cores": 0}, UsageError),
        ({"halo": "wide"}, UsageError),
        ({"device": "cuda"}, UsageError),
        ({"precision": "fp16", "device": "cuda", "device_memory_bytes": GIB}, ModelError),
    ],
)
def test_an_impossible_request_is_refused(changes: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        plan_run(SETTING.source, CARD, PlanRequest(**{"workers": 1, "worker_memory_bytes": GIB, **changes}))  # type: ignore[arg-type]


def test_a_limit_whose_unit_was_forgotten_is_told_as_it_was_understood() -> None:
    assert [size_text(size) for size in (4, 1023, 1024, 2**20, 2**30)] == [
        "4 bytes",
        "1023 bytes",
        "1 KiB",
        "1.0 MiB",
        "1.00 GiB",
    ]
