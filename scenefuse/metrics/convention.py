"""Which of the field's conflicting formulas a score follows; papers' own variants by name, never the default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """How scores are computed from sums where papers differ."""

    peak: Literal["band", "image", "one", "above_least"] = "band"
    """PSNR: mean over bands, each with the reference band's maximum; or one mean square error over all bands with
    the reference image's maximum; or mean over bands with peak 1; or as the first, above the image's minimum."""
    angle: Literal["pixel", "image"] = "pixel"
    """SAM: mean of the pixels' angles; or the one angle between the two flattened cubes."""
    ergas: Literal["ratio", "four", "global"] = "ratio"
    """ERGAS: 100 / ratio; 100 / 4 whatever the ratio; or 25 RMSE / mean of the whole reference."""
    uiqi: Literal["window", "image"] = "window"
    """UIQI: mean over Gaussian windows; or one window, the image."""
    rmse_scale: Literal["unit", "255", "plus_least"] = "unit"
    """RMSE in the data's unit; or after scaling the reference's range to 255; or with the image's minimum added."""


CONVENTIONS: dict[str, Convention] = {
    "standard": Convention(),
    "aelf": Convention(peak="image", uiqi="image", rmse_scale="255"),
    "smifnet": Convention(peak="image", angle="image", ergas="global"),
    "cofusion": Convention(peak="image", ergas="four"),
    "mossfuse": Convention(peak="one"),
    "s3rnet": Convention(peak="above_least", rmse_scale="plus_least"),
}
"""Conventions by name: the default, and those of the papers' published tables as closely as sums allow: images are
not clipped to [0, 1] beforehand (as MossFuse does), nor is the image's minimum subtracted (as AELF does)."""
