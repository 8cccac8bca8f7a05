"""Scores against a reference, as sums that add up over tiles: any tiling gives the same as the whole image."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from scenefuse.metrics.convention import CONVENTIONS, Convention
from scenefuse.metrics.window import FLAT, LocalStatistics, finite, local_statistics, whole_windows

Array = NDArray[np.float64]
Image = NDArray[np.float32]

EXTREMES = {"peak": np.maximum, "least": np.minimum}
"""Fields that do not merge by addition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSums:
    """Sums over the pixels where fused image and reference both have data in every band."""

    ratio: float
    """Coarse pixel size / fine pixel size, for ERGAS."""
    data_range: float = 1.0
    """Full scale of the data, for SSIM's constants: 1 for reflectance. It must be known before the first tile."""
    local: bool = True
    """Whether to compute SSIM and UIQI, which take longer than all other scores together; NaN if not."""
    count: float = 0.0
    """Pixels."""
    truth: Array = field(default_factory=lambda: np.zeros(0))
    """(band,) sums of the reference."""
    truth_squared: Array = field(default_factory=lambda: np.zeros(0))
    """(band,) sums of its squares."""
    fused: Array = field(default_factory=lambda: np.zeros(0))
    """(band,) sums of the fused image."""
    fused_squared: Array = field(default_factory=lambda: np.zeros(0))
    """(band,) sums of its squares."""
    product: Array = field(default_factory=lambda: np.zeros(0))
    """(band,) sums of their products."""
    error_squared: Array = field(default_factory=lambda: np.zeros(0))
    """(band,) sums of squared differences."""
    peak: Array = field(default_factory=lambda: np.zeros(0))
    """(band,) maxima of the reference."""
    least: Array = field(default_factory=lambda: np.zeros(0))
    """(band,) minima of the reference."""
    angle_rad: float = 0.0
    """Sum of the pixels' spectral angles."""
    angle_count: float = 0.0
    """Pixels with an angle: neither spectrum is zero."""
    ssim: Array = field(default_factory=lambda: np.zeros(0))
    """(band,) sums of SSIM."""
    uiqi: Array = field(default_factory=lambda: np.zeros(0))
    """(band,) sums of UIQI."""
    window_count: float = 0.0
    """Windows that lie entirely inside the scene and on data."""

    def add(
        self,
        fused: Image,
        truth: Image,
        mask: NDArray[np.bool_] | None = None,
        *,
        core: tuple[slice, slice] | None = None,
    ) -> ReferenceSums:
        """The sums with a tile added: fused and truth (band, y, x), NaN = no data; mask (y, x), True = counted.

        core: the rows and columns that this tile counts, if the arrays hold context around them. CONTEXT_PX pixels
        (window.py) on each side, where the scene has them, give the same windows as one whole image.
        """
        if fused.shape != truth.shape:
            raise ValueError(f"fused {fused.shape} and truth {truth.shape} differ")
        core = core or (slice(None), slice(None))
        valid = finite(fused, truth)
        if mask is not None:
            valid &= mask
        counted = np.zeros_like(valid)
        counted[core] = valid[core]
        if not counted.any():
            return self
        return self.merge(_sums_of_tile(self, fused, truth, valid, (counted, whole_windows(valid, core))))

    def merge(self, other: ReferenceSums) -> ReferenceSums:
        """The sums of both."""
        kinds = [(sums.ratio, sums.data_range, sums.local) for sums in (self, other)]
        if kinds[0] != kinds[1]:
            raise ValueError(f"{kinds[0]} and {kinds[1]} are different scores")
        if not self.count or not other.count:
            return other if other.count else self
        merged = {
            spec.name: EXTREMES.get(spec.name, np.add)(getattr(self, spec.name), getattr(other, spec.name))
            for spec in fields(self)
            if spec.name not in {"ratio", "data_range", "local"}
        }
        return ReferenceSums(ratio=self.ratio, data_range=self.data_range, local=self.local, **merged)

    def scores(self, convention: str | Convention = "standard") -> dict[str, float]:
        """psnr_db, ssim, sam_deg, ergas, cc, uiqi, rmse, rase; NaN for all where nothing was counted.

        With mse_b the mean square error of band b, mu_b the reference's mean, and the convention's choices:
        PSNR = mean_b 10 log10(peak_b^2 / mse_b) (bands whose peak is 0 left out); ERGAS = 100 / ratio
        sqrt(mean_b mse_b / mu_b^2) (bands with mean 0 left out); CC = mean over bands of Pearson's r (bands that are
        flat in either image left out); RMSE = sqrt(mean_b mse_b); RASE = 100 RMSE / mean_b mu_b. SSIM and UIQI are
        means over windows and bands.
        """
        chosen = CONVENTIONS[convention] if isinstance(convention, str) else convention
        if not self.count:
            return dict.fromkeys(("psnr_db", "ssim", "sam_deg", "ergas", "cc", "uiqi", "rmse", "rase"), float("nan"))
        mse, mean = self.error_squared / self.count, self.truth / self.count
        rmse = float(np.sqrt(mse.mean()))
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "psnr_db": self._psnr_db(mse, chosen),
                "ssim": float(self.ssim.mean() / self.window_count) if self.window_count else float("nan"),
                "sam_deg": self._sam_deg(chosen),
                "ergas": self._ergas(mse, mean, rmse, chosen),
                "cc": self._correlation(),
                "uiqi": self._uiqi(chosen),
                "rmse": self._rmse(rmse, chosen),
                "rase": float(100.0 * rmse / mean.mean()),
            }

    def by_band(self) -> dict[str, Array]:
        """(band,) psnr_db, rmse and cc by the standard formulas; NaN where a band has none, empty without any pixel.

        Their means over bands are those of scores(), except for its RMSE, which is the root of the mean square.
        """
        if not self.count:
            return {name: np.zeros(0) for name in ("psnr_db", "rmse", "cc")}
        mse, moments = self.error_squared / self.count, self._moments()
        with np.errstate(divide="ignore", invalid="ignore"):
            psnr_db = np.where(self.peak != 0, 10 * np.log10(self.peak**2 / mse), np.nan)
            cc = moments.covariance / np.sqrt(moments.var_x * moments.var_y)
        return {"psnr_db": psnr_db, "rmse": np.sqrt(mse), "cc": np.where(np.isfinite(cc), cc, np.nan)}

    def _psnr_db(self, mse: Array, chosen: Convention) -> float:
        if chosen.peak == "image":
            return float(10 * np.log10(self.peak.max() ** 2 / mse.mean()))
        peak = np.ones_like(mse) if chosen.peak == "one" else self.peak
        if chosen.peak == "above_least":
            peak = peak - self.least.min()
        lit = peak != 0
        return float(np.mean(10 * np.log10(peak[lit] ** 2 / mse[lit]))) if lit.any() else float("nan")

    def _rmse(self, rmse: float, chosen: Convention) -> float:
        least = float(self.least.min())
        if chosen.rmse_scale == "plus_least":
            return rmse + least
        return rmse * (255.0 / (float(self.peak.max()) - least)) if chosen.rmse_scale == "255" else rmse

    def _sam_deg(self, chosen: Convention) -> float:
        if chosen.angle == "image":
            cosine = self.product.sum() / np.sqrt(self.fused_squared.sum() * self.truth_squared.sum())
            return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
        return float(np.degrees(self.angle_rad / self.angle_count)) if self.angle_count else float("nan")

    def _ergas(self, mse: Array, mean: Array, rmse: float, chosen: Convention) -> float:
        if chosen.ergas == "global":
            return float(25.0 * rmse / mean.mean())
        lit = mean != 0
        divisor = self.ratio if chosen.ergas == "ratio" else 4.0
        share = (mse[lit] / mean[lit] ** 2).mean() if lit.any() else np.nan
        return float(100.0 / divisor * np.sqrt(share))

    def _moments(self) -> LocalStatistics:
        """Means, variances and covariance of reference (x) and fused image (y) as one window, each (band,)."""
        truth_mean, fused_mean = self.truth / self.count, self.fused / self.count
        return LocalStatistics(
            mean_x=truth_mean,
            mean_y=fused_mean,
            var_x=_variance(self.truth_squared / self.count, truth_mean),
            var_y=_variance(self.fused_squared / self.count, fused_mean),
            covariance=self.product / self.count - truth_mean * fused_mean,
        )

    def _correlation(self) -> float:
        moments = self._moments()
        product = moments.var_x * moments.var_y
        varied = product > 0
        return float((moments.covariance[varied] / np.sqrt(product[varied])).mean()) if varied.any() else float("nan")

    def _uiqi(self, chosen: Convention) -> float:
        if chosen.uiqi == "window":
            return float(self.uiqi.mean() / self.window_count) if self.window_count else float("nan")
        return float(self._moments().uiqi().mean())


def _variance(mean_square: Array, mean: Array) -> Array:
    """(band,) variances; 0 where the difference of the two terms is no more than rounding (FLAT)."""
    variance = mean_square - mean**2
    return np.where(variance > FLAT * mean_square, variance, 0.0)


def _sums_of_tile(
    kind: ReferenceSums,
    fused: Image,
    truth: Image,
    valid: NDArray[np.bool_],
    counted: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> ReferenceSums:
    """Sums over one tile, band by band in float64; counted: pixels, and window centres."""
    pixels, windows = counted
    rows = []
    dot, fused_norm, truth_norm = np.zeros((3, int(pixels.sum())))
    for fused_band, truth_band in zip(fused, truth, strict=True):
        f, t = (np.where(valid, band, 0.0).astype(np.float64) for band in (fused_band, truth_band))
        quality = (0.0, 0.0)
        if kind.local:
            around = local_statistics(f, t)
            quality = (around.ssim(kind.data_range)[windows].sum(), around.uiqi()[windows].sum())
        f, t = f[pixels], t[pixels]
        dot, fused_norm, truth_norm = dot + f * t, fused_norm + f * f, truth_norm + t * t
        sums = (t.sum(), (t * t).sum(), f.sum(), (f * f).sum(), (f * t).sum(), ((f - t) ** 2).sum())
        rows.append((*sums, t.max(), t.min(), *quality))
    columns = np.array(rows).T
    names = (
        "truth", "truth_squared", "fused", "fused_squared", "product", "error_squared", "peak", "least", "ssim", "uiqi",
    )  # fmt: skip
    lit = (fused_norm > 0) & (truth_norm > 0)
    cosine = dot[lit] / np.sqrt(fused_norm[lit] * truth_norm[lit])
    return ReferenceSums(
        ratio=kind.ratio,
        data_range=kind.data_range,
        local=kind.local,
        count=float(pixels.sum()),
        angle_rad=float(np.arccos(np.clip(cosine, -1.0, 1.0)).sum()),
        angle_count=float(lit.sum()),
        window_count=float(windows.sum()) if kind.local else 0.0,
        **dict(zip(names, columns, strict=True)),
    )
