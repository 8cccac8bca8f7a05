"""The loop: it learns, goes on after a kill with the same bits, stops when told, refuses what cannot be trained."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scenefuse.errors import DataError, ModelError, UsageError, WorkError
from scenefuse.models.architectures import build_model
from scenefuse.models.network import FusionNetwork
from scenefuse.models.resample import upsample
from scenefuse.models.weights import unique_tensors
from scenefuse.training import fit as fit_module
from scenefuse.training.batches import batches, draw_step
from scenefuse.training.curves import Row
from scenefuse.training.fit import Course, Fitted, _Learner, fit, score
from scenefuse.training.hold_out import plan_hold_out
from scenefuse.training.losses import LOSSES
from scenefuse.training.ranks import Ranks
from scenefuse.training.recipe import RECIPES, Recipe
from scenefuse.training.scenes import FullScene
from scenefuse.training.score import Ground, score_truth
from tests.training.made_scenes import MadePair, made_pair

RECIPE = Recipe(iterations=6, patch_px=8, batch=2, lr=2e-3, score_every=2, ema_decay=0.9, degradation_steps=10)
TINY: dict[str, dict[str, Any]] = {
    "aelf-t": {"width": 8, "step": 8},
    "cofusion": {"width": 8, "coordinates": 4, "encoder_depth": 1, "context_depth": 1},
    "mossfuse": {"width": 8},
    "smifnet": {"width": 8, "layers": 1, "blocks": 1, "stages": 2},
    "s3rnet": {"depths": (1, 1, 1, 1)},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def pictures(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Pictures that would have been drawn: one takes as long as a short training. test_curves.py draws."""
    drawn: list[Path] = []

    def noted(rows: Sequence[Row], path: Path) -> None:
        assert rows
        drawn.append(path)

    monkeypatch.setattr(fit_module, "draw_curves", noted)
    return drawn


def network(name: str = "smifnet", seed: int = 0) -> FusionNetwork:
    torch.manual_seed(seed)
    return build_model(name, hs_bands=4, ms_bands=2, ratio=2, **TINY[name])


def course(name: str = "smifnet", recipe: Recipe = RECIPE, pair: MadePair | None = None) -> Course:
    pair = pair or made_pair(48)
    without = RECIPES[name].protocol == "scene"
    scene = FullScene(name="made", source=pair, truth=None if without else pair.read_truth)
    hold_out = plan_hold_out(scene.shape, patch_px=recipe.patch_px, guard_px=scene.reach_px, step_px=2)
    ground = Ground(scene=scene, hold_out=hold_out)
    return Course(architecture=name, grounds=(ground,), recipe=recipe, seed=5, facts={"scenes": ["made"]})


def weights(fitted: Fitted) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in unique_tensors(fitted.network).items()}


class Killed(BaseException):
    """A kill in the middle of a step."""


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch, name: str = "smifnet") -> None:
    """The loop dies at this step; before, it writes a checkpoint after every step."""
    real = LOSSES[name]
    calls = {"left": step}

    def dying(*arguments: Any) -> Any:
        calls["left"] -= 1
        if calls["left"] < 0:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setitem(LOSSES, name, dying)


def test_a_network_overfits_one_pair_and_beats_interpolation_on_held_out_blocks(tmp_path: Path) -> None:
    recipe = replace(RECIPE, iterations=60, score_every=20, lr=4e-3, batch=3, patch_px=16)
    learnt = course("smifnet", recipe, made_pair(64))
    fitted = fit(network("smifnet"), learnt, stem=tmp_path / "tiny")
    first, last = fitted.rows[0]["loss"], fitted.rows[-1]["loss"]
    assert last < 0.5 * first
    bicubic = score_truth(lambda hs, _: upsample(hs, 2), learnt.grounds, context_px=0, step_px=2)
    assert fitted.scores["psnr_db"] > bicubic["psnr_db"] + 1
    assert fitted.scores == score(fitted.network, learnt.grounds)


@pytest.mark.parametrize(("name", "killed_at"), [("smifnet", 1), pytest.param("cofusion", 4, marks=pytest.mark.slow)])
def test_a_killed_training_goes_on_to_the_same_bits_and_the_same_curve(
    name: str, killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, patch_px=16)  # cofusion draws random numbers of its own: dropout
    undisturbed = fit(network(name), course(name, recipe), stem=tmp_path / "undisturbed" / "a")
    with monkeypatch.context() as patch:
        kill_at(killed_at, patch, name)
        with pytest.raises(Killed):
            fit(network(name), course(name, recipe), stem=tmp_path / "killed" / "a")
    resumed = fit(network(name, seed=99), course(name, recipe), stem=tmp_path / "killed" / "a")
    assert weights(resumed) == weights(undisturbed)
    assert resumed.rows == undisturbed.rows
    curves = [(tmp_path / folder / "a.csv").read_bytes() for folder in ("undisturbed", "killed")]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_keeps_all_its_steps_and_goes_on_to_the_same_bits(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = fit(network(), course(), stem=tmp_path / "undisturbed" / "a")
    real = LOSSES["smifnet"]
    steps: list[int] = []
    again: list[int] = []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command has it
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def interrupted(*arguments: Any) -> Any:
        steps.append(len(steps) + 1)
        if len(steps) == 3:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # a launcher's, on the heels of the terminal's
        return real(*arguments)

    try:
        with monkeypatch.context() as patch:
            patch.setitem(LOSSES, "smifnet", interrupted)
            with pytest.raises(KeyboardInterrupt):
                fit(network(), course(), stem=tmp_path / "stopped" / "a")
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    finally:
        signal.signal(signal.SIGTERM, before)
    assert steps == [1, 2, 3], "the step that was on is the last"

    def counted(*arguments: Any) -> Any:
        again.append(1)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setitem(LOSSES, "smifnet", counted)
        resumed = fit(network(seed=99), course(), stem=tmp_path / "stopped" / "a")
    assert len(again) == RECIPE.iterations - 3
    assert weights(resumed) == weights(undisturbed)
    assert resumed.rows == undisturbed.rows


def test_a_second_interrupt_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scenefuse.training.stopping.IMPATIENT_AFTER_S", -1.0)
    real, after = LOSSES["smifnet"], []

    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        after.append(1)
        return real(*arguments)

    monkeypatch.setitem(LOSSES, "smifnet", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(network(), course(), stem=tmp_path / "a")
    assert not after


def test_a_training_outside_the_main_thread_leaves_signals_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(fit, network(), course(), stem=tmp_path / "a").result().steps == RECIPE.iterations


def test_a_training_stopped_by_time_keeps_its_latest_weights_and_goes_on_undisturbed(tmp_path: Path) -> None:
    undisturbed = fit(network(), course(), stem=tmp_path / "undisturbed" / "a")
    part = fit(network(), course(), stem=tmp_path / "timed" / "a", minutes=0)
    assert (part.stopped, part.steps, part.step) == ("minutes", 1, 1)
    whole = fit(network(), course(), stem=tmp_path / "timed" / "a")
    assert weights(whole) == weights(undisturbed)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    one, two = (fit(network(), course(), stem=tmp_path / name / "a") for name in ("one", "two"))
    other = fit(network(), replace(course(), seed=6), stem=tmp_path / "other" / "a")
    assert weights(one) == weights(two)
    assert weights(one) != weights(other)


def test_training_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    bare = network()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    fit(bare, course(), stem=tmp_path / "a")
    torch.testing.assert_close(torch.rand(3), expected)


def test_two_passes_of_one_window_are_one_pass_of_two(tmp_path: Path) -> None:
    whole = replace(RECIPE, iterations=1, batch=2)
    parts = replace(whole, batch=1, accumulate=2)
    one = fit(network(), course(recipe=whole), stem=tmp_path / "one" / "a")
    two = fit(network(), course(recipe=parts), stem=tmp_path / "two" / "a")
    for name, tensor in unique_tensors(one.network).items():
        torch.testing.assert_close(tensor, unique_tensors(two.network)[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", list(TINY))
def test_each_network_learns_by_its_own_loss(name: str, pictures: list[Path], tmp_path: Path) -> None:
    recipe = replace(RECIPE, iterations=12, score_every=4, patch_px=16 if name == "cofusion" else 8, lr=1e-3)
    fitted = fit(network(name), course(name, recipe), stem=tmp_path / name)
    assert fitted.rows[-1]["loss"] < fitted.rows[0]["loss"]
    assert pictures == [tmp_path / f"{name}.png"]
    assert next(iter(fitted.scores)) == ("consistency_db" if name == "mossfuse" else "psnr_db")


def test_training_stops_early_and_keeps_the_best_weights(tmp_path: Path) -> None:
    recipe = replace(RECIPE, iterations=60, score_every=1, patience=2, lr=0.02, ema_decay=0.0)
    learnt = course(recipe=recipe)
    fitted = fit(network(), learnt, stem=tmp_path / "a")
    assert fitted.stopped == "patience"
    assert fitted.steps == fitted.step + 2
    assert score(fitted.network, learnt.grounds) == fitted.scores
    assert fitted.scores["psnr_db"] == max(row["psnr_db"] for row in fitted.rows)


def test_a_finished_training_is_found_again_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = fit(network(), course(), stem=tmp_path / "a")
    kill_at(0, monkeypatch)
    again = fit(network(), course(), stem=tmp_path / "a")
    assert weights(again) == weights(done)
    assert again.scores == done.scores


def test_the_average_follows_its_definition(tmp_path: Path) -> None:
    recipe = replace(RECIPE, iterations=1, score_every=1)
    averaged = fit(network(), course(recipe=recipe), stem=tmp_path / "average" / "a")
    last = fit(network(), course(recipe=replace(recipe, ema_decay=0.0)), stem=tmp_path / "last" / "a")
    first, after, average = (unique_tensors(n) for n in (network(), last.network, averaged.network))
    for name, value in average.items():
        torch.testing.assert_close(value, 0.1 * first[name] + 0.9 * after[name])  # (1 + 0) / (10 + 0)


def test_going_on_with_another_recipe_is_refused(tmp_path: Path) -> None:
    fit(network(), course(), stem=tmp_path / "a", minutes=0)
    with pytest.raises(UsageError, match="to a training with a different recipe"):
        fit(network(), course(recipe=replace(RECIPE, lr=1e-4)), stem=tmp_path / "a")


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    fit(network(), course(), stem=tmp_path / "a", minutes=0)
    path = tmp_path / "a.checkpoint"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"a\.checkpoint"):
        fit(network(), course(), stem=tmp_path / "a")


def test_a_loss_that_is_not_a_number_stops_training_with_the_step(tmp_path: Path) -> None:
    bare = network("aelf-t")
    with torch.no_grad():
        bare.hs_in.weight.fill_(float("inf"))  # type: ignore[union-attr,operator]
    with pytest.raises(WorkError, match=r"at step 0 the loss term fused is (nan|inf)"):
        fit(bare, course("aelf-t"), stem=tmp_path / "a")


def test_a_loss_out_of_all_bounds_stops_training_before_it_reaches_the_average(tmp_path: Path) -> None:
    bare = network("aelf-t")
    with torch.no_grad():
        bare.hs_in.weight.fill_(1e9)  # type: ignore[union-attr,operator]
    with pytest.raises(WorkError, match=r"the loss term fused is .*lower --lr"):
        fit(bare, course("aelf-t"), stem=tmp_path / "a")


def test_a_step_is_made_with_a_gradient_no_longer_than_the_recipe_allows(tmp_path: Path) -> None:
    def norm(clip_norm: float) -> float:
        learner = _Learner(
            network("aelf-t"), course("aelf-t", replace(RECIPE, clip_norm=clip_norm)), tmp_path / "a", Ranks()
        )
        learner._step(next(batches(learner.course.grounds, learner.course.recipe, 0, first_step=0)))
        gradients = [parameter.grad for parameter in learner.network.parameters() if parameter.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    assert norm(1e-3) == pytest.approx(1e-3, rel=1e-3)
    assert norm(0.0) > 10 * norm(1e-3)


def test_the_learning_rate_warms_up_to_its_schedule() -> None:
    recipe = replace(RECIPE, lr=1.0, warmup=4)
    assert [recipe.lr_at(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_bf16_trains_where_the_network_bears_it_and_is_refused_elsewhere(tmp_path: Path) -> None:
    recipe = replace(RECIPE, precision="bf16")
    fitted = fit(network(), course(recipe=recipe), stem=tmp_path / "a")
    assert np.isfinite(fitted.scores["psnr_db"])
    with pytest.raises(UsageError, match="mossfuse in bf16"):
        fit(network("mossfuse"), course("mossfuse", recipe), stem=tmp_path / "b")


def test_windows_without_whole_data_are_refused() -> None:
    pair = made_pair(48)
    pair.ms[:, ::4, ::4] = np.nan
    learnt = course(pair=pair)
    with pytest.raises(DataError, match="none without no-data"):
        draw_step(learnt.grounds, RECIPE, seed=0, step=0)


def test_a_scene_of_which_few_windows_are_whole_is_learnt_from_to_the_end() -> None:
    pair = made_pair(120)
    whole = pair.ms[:, :10, :16].copy()
    pair.ms[:, ::4, ::4] = np.nan
    pair.ms[:, :10, :16] = whole
    learnt = course(pair=pair)
    hold_out = learnt.grounds[0].hold_out
    windows = [hold_out.window(index) for index in range(hold_out.count())]
    share = np.mean([np.isfinite(pair.ms[:, *window.slices]).all() for window in windows])
    assert 0.01 < share < 0.03
    for step in range(100):
        (batch,) = draw_step(learnt.grounds, RECIPE, seed=0, step=step)
        assert torch.isfinite(batch.ms).all()


def test_no_data_in_held_out_blocks_is_not_scored() -> None:
    clean, torn = course(), course(pair=made_pair(48))
    block = clean.grounds[0].hold_out.blocks()[0]
    source: Any = torn.grounds[0].scene
    source.source.truth[:, block.y0, block.x0 : block.x1] = np.nan
    fuse = lambda hs, _: upsample(hs, 2)  # noqa: E731 # the simplest method
    whole, part = (score_truth(fuse, c.grounds, context_px=0, step_px=2) for c in (clean, torn))
    assert np.isfinite(part["psnr_db"])
    assert part != whole


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("iterations", 0, "iterations is 0"),
        ("batch", 0, "batch is 0"),
        ("lr", -1.0, "lr -1"),
        ("ema_decay", 1.0, "ema_decay 1.0"),
        ("noise_snr_db", (30.0,), "noise_snr_db"),
        ("noise_snr_db", (25.0, np.inf), "noise_snr_db"),
        ("block_px", 0, "block_px is 0"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(RECIPE, **{field: value})


def test_learning_rates_follow_their_schedules() -> None:
    cosine = replace(RECIPE, iterations=100, lr=1e-3, lr_end=1e-6, schedule="cosine")
    assert [cosine.lr_at(step) for step in (0, 50, 100)] == pytest.approx([1e-3, (1e-3 + 1e-6) / 2, 1e-6])
    step = replace(RECIPE, iterations=300, lr=4e-4, schedule="step")
    assert [step.lr_at(number) for number in (199, 200)] == pytest.approx([4e-4, 4e-5])
