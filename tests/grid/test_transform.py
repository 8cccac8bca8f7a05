from __future__ import annotations

import numpy as np
from affine import Affine

from scenefuse.grid.transform import coarsened, moved, refined, to_ground

TRANSFORM = (9.0, 1.5, 500.0, 2.0, -8.0, 900.0)


def test_transforms_are_those_of_the_affine_library() -> None:
    affine = Affine(*TRANSFORM)
    assert coarsened(TRANSFORM, 4) == tuple(affine @ Affine.scale(4))[:6]
    assert refined(TRANSFORM, 4) == tuple(affine @ Affine.scale(1 / 4))[:6]
    assert moved(TRANSFORM, 2, 3) == tuple(affine @ Affine.translation(3, 2))[:6]
    x, y = to_ground(TRANSFORM, np.array([0.0, 1.5]), np.array([2.0, 7.0]))
    assert list(zip(x, y, strict=True)) == [affine @ (2.0, 0.0), affine @ (7.0, 1.5)]
