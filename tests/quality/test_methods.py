"""Methods under one protocol: a method that uses the MSI beats the HSI alone where the truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scenefuse.grid.window import Window
from scenefuse.models.registry import weightless_names
from scenefuse.quality.methods import fuse_trial, score_part
from scenefuse.quality.trial import Trial, wald_trial
from scenefuse.simulate.sampling import sample, sample_reach_px
from tests.models.classical_pairs import mirrored
from tests.quality.drawn_trial import RATIO, drawn_trial
from tests.quality.test_product_scores import Inputs


@pytest.fixture(scope="module")
def trial() -> Trial:
    return drawn_trial(24)


def test_every_method_without_weights_beats_bicubic(trial: Trial) -> None:
    whole = Window(y0=0, y1=trial.truth.shape[1], x0=0, x1=trial.truth.shape[2])
    scores = {
        name: score_part(fuse_trial(trial, name).fused, trial.truth, whole, ratio=RATIO).scores()
        for name in weightless_names()
    }
    assert set(scores) == {"bicubic", "gsa", "sfim", "mtf-glp-hs", "cnmf", "hysure-l2"}
    for name in set(scores) - {"bicubic"}:
        assert scores[name]["psnr_db"] > scores["bicubic"]["psnr_db"] + 3
        assert scores[name]["sam_deg"] < scores["bicubic"]["sam_deg"]


def test_a_phase_between_the_grids_costs_less_than_the_warp_that_removes_it(trial: Trial) -> None:
    whole = Window(y0=0, y1=trial.truth.shape[1], x0=0, x1=trial.truth.shape[2])
    sigma_px, phase_px = 0.45 * RATIO, (0.4, -0.5)
    reach = sample_reach_px(RATIO, sigma_px, phase_px)
    hs = sample(mirrored(trial.truth, reach), ratio=RATIO, sigma_px=sigma_px, shift_px=phase_px)
    beside = replace(trial, hs=hs, phase_px=phase_px)

    def psnr_db(shown: Trial, name: str) -> float:
        return score_part(fuse_trial(shown, name).fused, trial.truth, whole, ratio=RATIO).scores()["psnr_db"]

    for name in set(weightless_names()) - {"bicubic"}:
        assert psnr_db(beside, name) > min(psnr_db(trial, name) - 1.5, 50.0)
        assert psnr_db(beside, name) > psnr_db(beside.nested(), name) + 1.0


def test_walds_protocol_makes_the_hsi_the_truth_and_keeps_whole_coarse_pixels() -> None:
    random = np.random.default_rng(0)
    inputs = Inputs(random.random((12, 100, 66), np.float32), random.random((2, 300, 198), np.float32))
    trial = wald_trial(inputs, "random")
    assert trial.hs.shape == (12, 33, 22)
    assert trial.ms.shape == (2, 99, 66)
    np.testing.assert_array_equal(trial.truth, inputs.read_hs(Window(y0=0, y1=99, x0=0, x1=66)))
