"""Bits of the quality band."""

from __future__ import annotations

from enum import IntFlag


class QualityFlag(IntFlag):
    """Why a fused pixel deserves less trust; 0 is a good pixel."""

    NODATA = 1
    """One of the inputs has no data here, so the fused pixel is no-data."""
    NEAR_EDGE = 2
    """Within the model's effective support of the scene's border."""
    NEAR_NODATA = 4
    """Within the model's effective support of a no-data pixel, which was filled."""
    CLIPPED = 8
    """A band was clipped to the range of the stored integers."""
    NOT_FINITE = 16
    """The model returned NaN or infinity here; stored as no-data."""
