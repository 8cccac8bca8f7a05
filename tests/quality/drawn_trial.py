"""A trial of which the truth is a formula."""

from __future__ import annotations

from scenefuse.quality.trial import Trial
from scenefuse.sensors.band import Band
from tests.models.classical_pairs import bands, drawn_pair, drawn_scene

RATIO = 4


def drawn_trial(
    coarse_side: int, hs_bands: tuple[Band, ...] = bands(12, "h"), ms_bands: tuple[Band, ...] = bands(4, "m")
) -> Trial:
    hs, ms = drawn_pair(RATIO, coarse_side=coarse_side, hs_bands=len(hs_bands), ms_bands=len(ms_bands))
    truth = drawn_scene(coarse_side * RATIO, len(hs_bands))
    return Trial(name="drawn", hs=hs, ms=ms, truth=truth, hs_bands=hs_bands, ms_bands=ms_bands, ratio=RATIO)
