from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scenefuse.grid.borders import mirror_indices, read_mirrored
from scenefuse.grid.window import Window


@settings(max_examples=100)
@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 40))
def test_mirror_indices_equal_numpy_symmetric_padding(n: int, before: int, after: int) -> None:
    expected = np.pad(np.arange(n), (before, after), mode="symmetric")
    np.testing.assert_array_equal(mirror_indices(-before, n + after, n), expected)


@settings(max_examples=100)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(-20, 20), st.integers(-20, 20), st.integers(1, 20))
def test_read_mirrored_equals_a_cut_from_the_padded_scene(h: int, w: int, y0: int, x0: int, side: int) -> None:
    scene = np.arange(2 * h * w).reshape(2, h, w)
    window = Window(y0=y0, y1=y0 + side, x0=x0, x1=x0 + side + 1)
    seen: list[Window] = []

    def read(inside: Window) -> NDArray[np.int_]:
        seen.append(inside)
        assert inside == inside.clip((h, w))
        return scene[(slice(None), *inside.slices)]

    padded = np.pad(scene, ((0, 0), (50, 50), (50, 50)), mode="symmetric")
    expected = padded[:, 50 + window.y0 : 50 + window.y1, 50 + window.x0 : 50 + window.x1]
    np.testing.assert_array_equal(read_mirrored(read, window, (h, w)), expected)
    assert len(seen) == 1


def test_fine_and_coarse_grids_stay_aligned_outside_the_scene() -> None:
    ratio, n = 3, 4
    fine = mirror_indices(-30, 42, n * ratio)
    coarse = mirror_indices(-10, 14, n)
    np.testing.assert_array_equal(fine.reshape(-1, ratio) // ratio, np.repeat(coarse[:, None], ratio, axis=1))


def test_a_line_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        mirror_indices(0, 1, 0)
