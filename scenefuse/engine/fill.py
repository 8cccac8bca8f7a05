"""The first stage: the mean spectra that fill no-data."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scenefuse.errors import DataError
from scenefuse.models.base import SceneWindow
from scenefuse.models.state import SceneState


class FillStage:
    """Mean spectrum of each image over its valid pixels, and the share of the scene that both cover."""

    name = "scene/fill"
    where: Literal["blocks", "sample"] = "blocks"
    reduce: Literal["sum", "concat"] = "sum"
    margin = 0

    def measure(self, window: SceneWindow, state: SceneState) -> dict[str, NDArray[Any]]:  # noqa: ARG002 - Stage
        """Sums and counts of valid pixels of both images, and of pixels valid in both, float64."""
        covered = window.hs_valid.repeat(window.ratio, axis=0).repeat(window.ratio, axis=1)
        return {
            "hs_sum": _valid_sum(window.hs, window.hs_valid),
            "hs_count": np.array(window.hs_valid.sum(), dtype=np.float64),
            "ms_sum": _valid_sum(window.ms, window.ms_valid),
            "ms_count": np.array(window.ms_valid.sum(), dtype=np.float64),
            "both_count": np.array((window.ms_valid & covered).sum(), dtype=np.float64),
            "count": np.array(window.ms_valid.size, dtype=np.float64),
        }

    def conclude(self, total: dict[str, NDArray[Any]], state: SceneState) -> SceneState:
        """The state with `hs_mean` and `ms_mean`, float64, and the fact `valid_fraction`, 0 to 1."""
        for name, title in (("hs_count", "hyperspectral image"), ("ms_count", "multispectral image")):
            if total[name] == 0:
                raise DataError(
                    f"No pixel of the {title} has data in every band",
                    "there is nothing to fuse",
                    "Check its no-data value and the overlap of the pair",
                )
        if total["both_count"] == 0:
            raise DataError(
                "No pixel has data in both images",
                "the product would be entirely no-data",
                "Check the no-data values and the overlap of the pair",
            )
        return state.with_(
            arrays={
                "hs_mean": total["hs_sum"] / total["hs_count"],
                "ms_mean": total["ms_sum"] / total["ms_count"],
            },
            facts={"valid_fraction": float(total["both_count"] / total["count"])},
        )


def _valid_sum(pixels: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.array([band[valid].sum(dtype=np.float64) for band in pixels])
