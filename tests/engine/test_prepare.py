from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from scenefuse.engine import known_states
from scenefuse.engine.known_states import KnownStates
from scenefuse.engine.lanes import Lane
from scenefuse.engine.observers import RecordingObserver
from scenefuse.engine.prepare import Preparation, preparation_seconds, prepare
from scenefuse.engine.resident import ModelHandle
from scenefuse.engine.retry import GivenUpError, RetryPolicy
from scenefuse.engine.sampling import BLOCK_PX, Sampling, block_runs, block_sample, cut_blocks, patch_candidates
from scenefuse.engine.state_file import load_state, save_state
from scenefuse.errors import DataError, TransientError, WorkError
from scenefuse.grid.window import Window
from scenefuse.models.base import SceneWindow
from scenefuse.models.state import SceneState
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from tests.engine.fakes import AnalyticSource, Setting, load_fake

HOLES = (Window(y0=3, y1=50, x0=4, x1=90),)


class CoordinateStage:
    """Sees margins: sums of a window with and without its context."""

    name = "test/margins"
    where: Literal["blocks", "sample"] = "blocks"
    reduce: Literal["sum", "concat"] = "concat"
    margin = 2

    def measure(self, window: SceneWindow, state: SceneState) -> dict[str, NDArray[Any]]:
        assert {"hs_mean", "ms_mean"} <= state.arrays.keys()
        return {"blocks": np.array([[*window.hs.shape, *window.ms.shape, float(window.hs[0, 0, 0])]])}

    def conclude(self, total: dict[str, NDArray[Any]], state: SceneState) -> SceneState:
        return state.with_(arrays={"test/blocks": total["blocks"]})


class BrokenStage(CoordinateStage):
    """Fails."""

    def measure(self, window: SceneWindow, state: SceneState) -> dict[str, NDArray[Any]]:
        raise ZeroDivisionError(f"no such luck with {window.hs.shape} and {sorted(state.arrays)}")


class PassingStage(CoordinateStage):
    """Meets a store that is away."""

    def measure(self, window: SceneWindow, state: SceneState) -> dict[str, NDArray[Any]]:
        raise TransientError(f"the store of {window.hs.shape} and {sorted(state.arrays)} is away", "no pixels", "wait")


class RefusingStage(CoordinateStage):
    """Meets an input that cannot be used."""

    def measure(self, window: SceneWindow, state: SceneState) -> dict[str, NDArray[Any]]:
        raise DataError(f"block 7 of a.tif under {window.hs.shape}", f"it is damaged, {len(state.facts)}", "fetch it")


class OtherStage(CoordinateStage):
    """The same by another name."""

    name = "test/other"


def test_fill_spectra_are_the_means_of_valid_pixels() -> None:
    source = AnalyticSource(coarse_shape=(100, 130), ratio=2, hs_holes=HOLES, ms_holes=HOLES, one_band_holes=True)
    state = prepare(source, Preparation())
    hs = source.read_hs(Window(y0=0, y1=100, x0=0, x1=130)).astype(np.float64)
    ms = source.read_ms(Window(y0=0, y1=200, x0=0, x1=260)).astype(np.float64)
    hs_valid, ms_valid = np.isfinite(hs).all(axis=0), np.isfinite(ms).all(axis=0)
    np.testing.assert_allclose(state.arrays["hs_mean"], hs[:, hs_valid].mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(state.arrays["ms_mean"], ms[:, ms_valid].mean(axis=1), rtol=1e-12)
    both = ms_valid & np.kron(hs_valid, np.ones((2, 2), dtype=bool))
    assert state.facts["valid_fraction"] == pytest.approx(both.mean())
    assert state.facts["ratio"] == 2


def test_the_state_is_the_same_on_two_workers_and_in_this_process(lane: Lane) -> None:
    setting = Setting(source=AnalyticSource(coarse_shape=(150, 700), ratio=2, hs_holes=HOLES), options={"stages": True})
    preparation = Preparation(
        stages=(CoordinateStage(),), model=ModelHandle(ref=setting.ref, load=load_fake), sampling=Sampling(patches=9)
    )
    observer = RecordingObserver()
    here = prepare(setting.source, preparation, observer=observer)
    there = prepare(setting.source, preparation, lane=lane)
    assert there.sha256 == here.sha256
    assert {"fake/scale", "fake/patch_means", "test/blocks"} <= here.arrays.keys()
    names = [facts["stage"] for facts in observer.facts("stage")]
    assert names == ["scene/fill", "test/margins", "fake/sums", "fake/patches"]


def test_who_hands_out_tasks_takes_no_memory_of_a_gpu() -> None:
    setting = Setting(source=AnalyticSource(coarse_shape=(9, 9), ratio=2))
    model = ModelHandle(ref=setting.ref, load=load_fake, device="cuda")  # which a fake refuses to be sent to
    assert "hs_mean" in prepare(setting.source, Preparation(model=model)).arrays


def test_blocks_carry_their_margin_from_the_scene_and_from_its_mirror_outside() -> None:
    source = AnalyticSource(coarse_shape=(70, 130), ratio=2)
    blocks = prepare(source, Preparation(stages=(CoordinateStage(),))).arrays["test/blocks"]
    assert blocks[:, 1:3].tolist() == [[68, 68], [68, 68], [68, 6], [10, 68], [10, 68], [10, 6]]
    assert (blocks[:, 4:6] == 2 * blocks[:, 1:3]).all()
    hs = source.read_hs(Window(y0=0, y1=70, x0=0, x1=130))[0]
    corners = [hs[1, 1], hs[1, 62], hs[1, 126], hs[62, 1], hs[62, 62], hs[62, 126]]
    np.testing.assert_array_equal(blocks[:, 6], corners)


@pytest.mark.parametrize("image", ["hs_holes", "ms_holes"])
def test_a_scene_without_data_is_refused(image: str) -> None:
    everything = (Window(y0=0, y1=999, x0=0, x1=999),)
    with pytest.raises(DataError, match="spectral image has data in every band"):
        prepare(AnalyticSource(coarse_shape=(9, 9), ratio=2, **{image: everything}), Preparation())  # type: ignore[arg-type]


def test_two_images_whose_data_do_not_overlap_are_refused() -> None:
    left, right = (Window(y0=0, y1=99, x0=0, x1=5),), (Window(y0=0, y1=99, x0=10, x1=99),)
    with pytest.raises(DataError, match="No pixel has data in both"):
        prepare(AnalyticSource(coarse_shape=(9, 9), ratio=2, hs_holes=left, ms_holes=right), Preparation())


def test_patches_mostly_without_data_are_left_out_and_a_sample_of_none_is_refused() -> None:
    hole = (Window(y0=0, y1=200, x0=0, x1=100),)
    setting = Setting(source=AnalyticSource(coarse_shape=(200, 200), ratio=2, hs_holes=hole), options={"stages": True})
    model = ModelHandle(ref=setting.ref, load=load_fake)
    sampling = Sampling(patches=16, patch_px=32)
    whole = Setting(source=AnalyticSource(coarse_shape=(200, 200), ratio=2), options={"stages": True})
    some = prepare(setting.source, Preparation(model=model, sampling=sampling)).arrays["fake/patch_means"]
    every = prepare(whole.source, Preparation(model=model, sampling=sampling)).arrays["fake/patch_means"]
    assert len(every) == 16
    assert len(some) == 8
    nearly = (Window(y0=0, y1=200, x0=0, x1=199),)
    empty = Setting(source=AnalyticSource(coarse_shape=(200, 200), ratio=2, hs_holes=nearly), options={"stages": True})
    with pytest.raises(DataError, match="found no patch"):
        prepare(empty.source, Preparation(model=model, sampling=sampling))


def test_of_a_large_scene_some_blocks_are_measured_unless_few_have_data() -> None:
    def measured(holes: tuple[Window, ...], blocks: int) -> tuple[int, SceneState]:
        source = AnalyticSource(coarse_shape=(500, 600), ratio=2, hs_holes=holes)
        observer = RecordingObserver()
        preparation = Preparation(stages=(CoordinateStage(),), sampling=Sampling(blocks=blocks))
        state = prepare(source, preparation, observer=observer)
        return int(str(observer.facts("stage")[0]["parts"])), state

    right, most = (Window(y0=0, y1=500, x0=350, x1=600),), (Window(y0=0, y1=500, x0=100, x1=600),)
    parts, sampled = measured((), 9)
    every, whole = measured((), 999)
    assert (parts, every) == (9, 16)
    assert len(sampled.arrays["test/blocks"]) == 9
    assert len(whole.arrays["test/blocks"]) == 80
    np.testing.assert_allclose(sampled.arrays["hs_mean"], whole.arrays["hs_mean"], rtol=0.2)
    assert measured(right, 9)[0] == 6
    parts, fallen_back = measured(most, 9)
    assert parts == 16
    assert fallen_back.sha256 == measured(most, 999)[1].sha256


def test_a_stage_that_fails_stops_the_preparation_with_its_cause() -> None:
    with pytest.raises(WorkError, match="no such luck"):
        prepare(AnalyticSource(coarse_shape=(9, 9), ratio=2), Preparation(stages=(BrokenStage(),)))


def test_a_preparation_that_a_store_ended_is_recorded_as_one_that_may_pass() -> None:
    with pytest.raises(GivenUpError, match="is away") as given_up:
        prepare(
            AnalyticSource(coarse_shape=(9, 9), ratio=2),
            Preparation(stages=(PassingStage(),)),
            retry_policy=RetryPolicy(transient=0),
        )
    assert given_up.value.failure is not None
    assert (given_up.value.failure.kind, given_up.value.failure.retryable) == ("transient", True)


def test_an_input_that_a_stage_cannot_read_is_refused_as_such() -> None:
    with pytest.raises(DataError, match=r"block 7 of a\.tif"):
        prepare(AnalyticSource(coarse_shape=(9, 9), ratio=2), Preparation(stages=(RefusingStage(),)))


@given(st.integers(1, 1500), st.integers(1, 1500))
def test_blocks_cover_the_scene_exactly_once(rows: int, columns: int) -> None:
    count = np.zeros((rows, columns), dtype=np.uint8)
    for run in block_runs((rows, columns)):
        for block in cut_blocks(run):
            assert block.y0 % BLOCK_PX == block.x0 % BLOCK_PX == 0
            assert max(block.shape) <= BLOCK_PX
            count[block.slices] += 1
    assert (count == 1).all()


@given(st.integers(1, 6000), st.integers(1, 6000), st.integers(1, 200))
def test_the_sample_of_a_large_scene_lies_in_it_and_has_about_as_many_blocks_as_asked_for(
    rows: int, columns: int, blocks: int
) -> None:
    sample = block_sample((rows, columns), Sampling(blocks=blocks))
    if sample is None:
        assert rows * columns <= blocks * BLOCK_PX**2
        return
    assert all(0 <= s.y0 < s.y1 <= rows and 0 <= s.x0 < s.x1 <= columns for places in sample for s in places)
    area = sum(places[0].shape[0] * places[0].shape[1] for places in sample)
    assert area <= blocks * BLOCK_PX**2
    assert len(sample) == 1 or area > blocks * BLOCK_PX**2 / 4


def test_the_sample_of_a_large_scene_is_spread_over_it() -> None:
    sample = block_sample((4096, 4096), Sampling())
    assert sample is not None
    strata = {(s.y0 * 8 // 4033, s.x0 * 8 // 4033) for s, *_ in sample}
    assert len(sample) == 64
    assert strata == {(y, x) for y in range(8) for x in range(8)}
    assert all(s.shape == (BLOCK_PX, BLOCK_PX) for places in sample for s in places)
    assert all(len(places) == 4 for places in sample), "each has others to try where it has no data"
    assert any(s.y0 != s.x0 for places in sample[::9] for s in places), "rows do not tell columns"


def test_the_sample_of_a_long_scene_follows_its_length() -> None:
    sample = block_sample((65536, 64), Sampling())
    assert sample is not None
    assert [s.y0 // 1023 for s, *_ in sample] == list(range(64)), "one in each of 64 equal parts"


@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 100), st.sampled_from([(2, 2), (3, 24), (6, 12)]))
def test_patches_lie_in_the_scene_on_the_lattice_one_stratum_each(
    rows: int, columns: int, patches: int, ratio_lattice: tuple[int, int]
) -> None:
    ratio, lattice = ratio_lattice
    strata = patch_candidates((rows, columns), Sampling(patches=patches), ratio=ratio, lattice_px=lattice)
    assert 1 <= len(strata) <= patches
    for places in strata:
        assert 1 <= len(places) <= 4
        for window in places:
            height, width = window.shape
            assert height == width
            assert height * ratio % lattice == 0
            assert window.y0 * ratio % lattice == 0
            assert window.x0 * ratio % lattice == 0
            assert window.y1 <= max(rows, height)
            assert window.x1 <= max(columns, width)


@pytest.mark.parametrize(
    ("shape", "patches"), [((32, 32), 1), ((30, 63), 3), ((63, 63), 9), ((63, 600), 64), ((1000, 1000), 64)]
)
def test_patches_of_a_small_scene_lie_half_their_side_apart(shape: tuple[int, int], patches: int) -> None:
    """128 px become 120 on a lattice of 24: in 252 px, from 0 to 132 px, there is room for three at 60 px."""
    assert len(patch_candidates(shape, Sampling(), ratio=4, lattice_px=24)) == patches


def test_a_saved_state_comes_back_exactly(tmp_path: Path) -> None:
    state = SceneState(
        arrays={
            "b": np.arange(6, dtype=np.float64).reshape(2, 3).T,
            "a/scalar": np.array(1 / 3),
            "c": np.array([np.nan, -0.0], dtype=np.float32),
            "empty": np.zeros((0, 3)),
        },
        facts={"ratio": 3, "psf_sigma_px": 0.1 + 0.2, "text": "é"},
    )
    save_state(tmp_path / "a.safetensors", state)
    save_state(tmp_path / "b.safetensors", state)
    loaded = load_state(tmp_path / "a.safetensors")
    assert loaded.sha256 == state.sha256
    assert {name: array.shape for name, array in loaded.arrays.items()} == {
        name: array.shape for name, array in state.arrays.items()
    }
    assert loaded.facts == state.facts
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_state_is_another_where_an_array_or_a_fact_is() -> None:
    state = SceneState(arrays={"a": np.arange(4.0)}, facts={"psf_sigma_px": 1.5})
    others = (
        SceneState(arrays={"a": np.arange(4.0)}, facts={"psf_sigma_px": 1.6}),
        SceneState(arrays={"a": np.arange(4.0).reshape(2, 2)}, facts=state.facts),
        SceneState(arrays={"a": np.arange(4.0).view(np.int64)}, facts=state.facts),
        SceneState(arrays={"b": np.arange(4.0)}, facts=state.facts),
    )
    assert len({state.sha256, *(other.sha256 for other in others)}) == 5


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_state(path, SceneState(arrays={"a": np.ones(8)}))
    data = path.read_bytes()
    for bad in (data[:-3], data[:-1] + b"\x01", b"", b"nonsense" * 9):
        path.write_bytes(bad)
        with pytest.raises(DataError):
            load_state(path)


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownStates:
    monkeypatch.setattr(known_states, "LEAST_SECONDS", 0.0)
    return KnownStates(folder=place_at(tmp_path / "states"), scene="a scene", method="a method")


def stage_names(observer: RecordingObserver) -> list[str]:
    return [str(facts["stage"]) for facts in observer.facts("stage")]


def test_a_scene_is_measured_once(known: KnownStates) -> None:
    setting = Setting(source=AnalyticSource(coarse_shape=(70, 130), ratio=2), options={"stages": True})
    preparation = Preparation(stages=(CoordinateStage(),), model=ModelHandle(ref=setting.ref, load=load_fake))
    first, again, other = RecordingObserver(), RecordingObserver(), RecordingObserver()
    state = prepare(setting.source, preparation, observer=first, known=known)
    assert stage_names(first) == ["scene/fill", "test/margins", "fake/sums", "fake/patches"]
    assert prepare(setting.source, preparation, observer=again, known=known).sha256 == state.sha256
    assert stage_names(again) == []
    assert [facts["stages"] for facts in again.facts("known")] == [stage_names(first)]
    prepare(setting.source, preparation, observer=other, known=replace(known, method="another"))
    assert stage_names(other) == ["fake/sums", "fake/patches"]
    elsewhere = RecordingObserver()
    prepare(setting.source, preparation, observer=elsewhere, known=replace(known, scene="another"))
    assert stage_names(elsewhere) == stage_names(first)


def test_what_a_stage_left_after_others_is_not_taken_for_what_it_leaves_after_these(known: KnownStates) -> None:
    source = AnalyticSource(coarse_shape=(70, 130), ratio=2)
    prepare(source, Preparation(stages=(CoordinateStage(),)), known=known)
    observer = RecordingObserver()
    prepare(source, Preparation(stages=(OtherStage(), CoordinateStage())), observer=observer, known=known)
    assert stage_names(observer) == ["test/other", "test/margins"]


def test_a_preparation_that_broke_off_goes_on_after_its_last_stage(known: KnownStates) -> None:
    source = AnalyticSource(coarse_shape=(70, 130), ratio=2)
    with pytest.raises(WorkError, match="test/margins failed"):
        prepare(source, Preparation(stages=(BrokenStage(),)), known=known)
    observer = RecordingObserver()
    state = prepare(source, Preparation(stages=(CoordinateStage(),)), observer=observer, known=known)
    assert stage_names(observer) == ["test/margins"]
    assert state.sha256 == prepare(source, Preparation(stages=(CoordinateStage(),))).sha256


def test_a_damaged_state_is_measured_again_and_replaced(known: KnownStates) -> None:
    source = AnalyticSource(coarse_shape=(70, 130), ratio=2)
    state = prepare(source, Preparation(), known=known)
    (name,) = known.folder.names()
    (known.folder / name).put((known.folder / name).read()[:-8])
    observer = RecordingObserver()
    assert prepare(source, Preparation(), observer=observer, known=known).sha256 == state.sha256
    assert stage_names(observer) == ["scene/fill"]
    assert load_state(known.folder / name).sha256 == state.sha256


def test_a_state_that_another_run_forgets_meanwhile_is_measured_again(
    known: KnownStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = AnalyticSource(coarse_shape=(70, 130), ratio=2)
    state = prepare(source, Preparation(), known=known)

    def forgotten_first(place: Place) -> SceneState:
        known.forget()
        return load_state(place)

    monkeypatch.setattr(known_states, "load_state", forgotten_first)
    assert prepare(source, Preparation(), known=known).sha256 == state.sha256


def test_a_scene_is_forgotten_without_the_others_beside_it(known: KnownStates) -> None:
    source, other = AnalyticSource(coarse_shape=(70, 130), ratio=2), replace(known, scene="another")
    for one in (known, replace(known, method="another"), other):
        prepare(source, Preparation(stages=(CoordinateStage(),)), known=one)
    known.forget()
    observer = RecordingObserver()
    prepare(source, Preparation(stages=(CoordinateStage(),)), observer=observer, known=other)
    assert stage_names(observer) == []
    prepare(source, Preparation(stages=(CoordinateStage(),)), observer=observer, known=known)
    assert stage_names(observer) == ["scene/fill", "test/margins"]
    known.forget()
    other.forget()
    assert not known.folder.exists()


def test_what_is_measured_in_no_time_is_not_kept(tmp_path: Path) -> None:
    known = KnownStates(folder=place_at(tmp_path / "states"), scene="a scene", method="a method")
    prepare(AnalyticSource(coarse_shape=(70, 130), ratio=2), Preparation(), known=known)
    assert not (tmp_path / "states").exists()


def test_the_estimate_of_preparation_grows_with_what_is_measured_and_no_further() -> None:
    small, large, larger = (
        AnalyticSource(coarse_shape=shape, ratio=4) for shape in ((64, 64), (900, 900), (9000, 9000))
    )
    seconds = [preparation_seconds(source, Preparation(), workers=1) for source in (small, large, larger)]
    assert 20 < seconds[1] / seconds[0] < 100, "of a large scene 64 blocks are measured"
    assert seconds[2] == pytest.approx(seconds[1], rel=0.01)
    assert preparation_seconds(large, Preparation(), workers=4) == pytest.approx(seconds[1] / 4)
    assert preparation_seconds(small, Preparation(), workers=4) == seconds[0], "it is one task"
    two = Preparation(stages=(CoordinateStage(),))
    assert preparation_seconds(small, two, workers=1) == pytest.approx(2 * seconds[0])
