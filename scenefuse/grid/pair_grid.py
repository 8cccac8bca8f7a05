"""The two aligned grids on which a pair is fused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scenefuse.grid.resample import MOST_PHASE_PX, NO_PHASE, Phase
from scenefuse.grid.transform import Transform, coarsened, moved

RATIOS = (2, 3, 4, 5, 6, 8, 10, 12, 15, 16, 20, 24, 30, 32)
"""Allowed ratios of coarse to fine pixel size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairGrid:
    """A fine grid and a coarse grid whose pixel (0, 0) covers fine pixels [0, ratio) x [0, ratio).

    Every window of the engine is in this frame: coarse pixel (i, j) covers fine pixels
    [i * ratio, (i + 1) * ratio) x [j * ratio, (j + 1) * ratio). The HSI's own pixel (i, j) may lie beside that one, by
    the same phase_px everywhere: upsample and degrade take it into account.
    """

    crs_wkt: str
    """CRS of both grids, WKT2."""
    fine_transform: Transform
    """Affine from fine (column, row) to CRS units."""
    coarse_shape: tuple[int, int]
    """Coarse rows and columns, (y, x); the fine shape is ratio times that."""
    ratio: int
    """Coarse pixel size / fine pixel size, one of RATIOS."""
    case: Literal["ms-grid", "hs-grid"]
    """Whose grid is kept untouched: DESIGN's case A (`ms-grid`) or B (`hs-grid`)."""
    hs_gsd_m: float
    """The HSI's native ground sampling distance in metres."""
    ms_gsd_m: float
    """The MSI's finest native ground sampling distance in metres."""
    hs_resampled: bool
    """True when the HSI is warped once onto the coarse grid; False when its pixels are used untouched."""
    ms_resampled: bool
    """True when the MSI is resampled once onto the fine grid; False when its finest pixels are used untouched."""
    phase_rest_px: float = 0.0
    """Largest distance between the HSI's pixel centres and the coarse grid's before resampling, fine pixels."""
    phase_px: Phase = NO_PHASE
    """Rows and columns by which the HSI's untouched pixels lie down and right of the coarse grid's, fine pixels."""
    shift_px: tuple[float, float] = (0.0, 0.0)
    """Registration shift (y, x) taken into account: offset of the MSI's content from the HSI's, fine pixels.

    Both transforms follow the MSI's georeference: with a shift, case B's coarse grid is the HSI's moved by it.
    """
    hs_kernel: str = "none"
    """Kernel of the HSI's one resampling; `none` when untouched."""
    ms_kernel: str = "none"
    """Kernel of the MSI's one resampling; `none` when its finest bands are untouched."""

    def __post_init__(self) -> None:
        if self.ratio not in RATIOS:
            raise ValueError(f"ratio must be one of {RATIOS}, got {self.ratio}")
        if min(self.coarse_shape) < 1:
            raise ValueError(f"coarse_shape must be positive, got {self.coarse_shape}")
        if max(map(abs, self.phase_px)) > MOST_PHASE_PX:
            raise ValueError(f"phase_px must be at most {MOST_PHASE_PX} along each axis, got {self.phase_px}")

    @property
    def fine_shape(self) -> tuple[int, int]:
        """Fine rows and columns, (y, x)."""
        return self.coarse_shape[0] * self.ratio, self.coarse_shape[1] * self.ratio

    @property
    def coarse_transform(self) -> Transform:
        """Affine from the HSI's (column, row) to CRS units, its phase included."""
        return coarsened(moved(self.fine_transform, *self.phase_px), self.ratio)

    @property
    def fine_gsd_m(self) -> float:
        """Side of a fine pixel in metres, whatever the unit of the CRS."""
        return self.ms_gsd_m if self.case == "ms-grid" else self.hs_gsd_m / self.ratio

    @property
    def native_ratio(self) -> float:
        """HSI GSD / MSI GSD before any resampling (Berlin: 8.33)."""
        return self.hs_gsd_m / self.ms_gsd_m
