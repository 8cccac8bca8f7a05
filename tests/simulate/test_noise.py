from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenefuse.simulate.noise import fractal_noise, hash_numbers, noise_at, salt, smooth_noise, unit


@given(start=st.integers(-5000, 5000), shift=st.integers(0, 40), scale_m=st.floats(3, 900))
def test_overlapping_windows_of_a_field_agree_bitwise(start: int, shift: int, scale_m: float) -> None:
    x = np.arange(start, start + 60, dtype=np.float64)
    x *= 3.3
    whole = smooth_noise(x, x, scale_m=scale_m, key=7)
    part = smooth_noise(x[shift : shift + 20], x[: shift + 20], scale_m=scale_m, key=7)
    np.testing.assert_array_equal(part, whole[shift : shift + 20, : shift + 20])


def test_fields_have_mean_0_and_deviation_1() -> None:
    x = np.linspace(0, 5990, 600)
    for field in (smooth_noise(x, x, scale_m=37, key=1), fractal_noise(x, x, scale_m=90, octaves=4, key=2)):
        assert abs(field.mean()) < 0.05
        assert field.std() == pytest.approx(1, abs=0.08)
    y, x = np.meshgrid(x / 37, x / 41, indexing="ij")
    free = noise_at(y.astype(np.float32), x.astype(np.float32), key=3)
    assert abs(free.mean()) < 0.05
    assert free.std() == pytest.approx(1, abs=0.15)


def test_hashed_numbers_are_uniform_and_independent_between_draws() -> None:
    bits = hash_numbers(salt(0, "test"), np.arange(-100, 100)[:, np.newaxis], np.arange(200))
    first, second = unit(bits, 1), unit(bits, 2)
    counts, _ = np.histogram(first, bins=20, range=(0, 1))
    assert counts.min() > 1800
    assert counts.max() < 2200
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(first[:, :-1].ravel(), first[:, 1:].ravel())[0, 1]) < 0.02


def test_salts_differ_by_seed_and_by_name() -> None:
    assert len({salt(0, "a"), salt(0, "b"), salt(1, "a"), salt(1, "b")}) == 4
