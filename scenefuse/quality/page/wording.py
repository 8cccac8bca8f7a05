"""Wording and number formats of the report page."""

from __future__ import annotations

from math import isfinite, isnan

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
"""Shown for missing values, and before negative ones."""
FLAG_TEXTS = {
    "nodata": ("No data", "one of the inputs has none here"),
    "not_finite": ("Not finite", "the method gave no number; stored as no data"),
    "clipped": ("Clipped", "a band left the range of the stored integers"),
    "near_nodata": ("Near no data", "within the method's reach of a pixel that was filled"),
    "near_edge": ("Near the border", "within the method's reach of the scene's border"),
}
SCORE_TEXTS = {
    "psnr_db": ("PSNR", "dB, more is better"),
    "ssim": ("SSIM", "1 is best"),
    "sam_deg": ("SAM", "degrees, less is better"),
    "ergas": ("ERGAS", "less is better"),
    "cc": ("CC", "1 is best"),
    "uiqi": ("UIQI", "1 is best"),
    "rmse": ("RMSE", "reflectance"),
    "rase": ("RASE", "%, less is better"),
    "d_lambda": ("D-lambda", "0 is best"),
    "d_s": ("D-s", "0 is best"),
    "qnr": ("QNR", "1 is best"),
    "spectral_consistency_rmse": ("Spectral RMSE", "degraded, against the HSI; reflectance"),
    "spectral_consistency_sam_deg": ("Spectral SAM", "degraded, against the HSI; degrees"),
    "spatial_consistency_rmse": ("Spatial RMSE", "through the response, against the MSI; reflectance"),
    "spatial_consistency_cc": ("Spatial CC", "through the response, against the MSI; 1 is best"),
    "spectral_rmse": ("Spectral RMSE", "degraded, against the HSI; reflectance"),
    "spectral_sam_deg": ("Spectral SAM", "degraded, against the HSI; degrees"),
    "spectral_cc": ("Spectral CC", "degraded, against the HSI; 1 is best"),
    "spatial_rmse": ("Spatial RMSE", "through the response, against the MSI; reflectance"),
    "spatial_cc": ("Spatial CC", "through the response, against the MSI; 1 is best"),
}
"""Title of each score, and its unit or how to read it."""


def number_text(value: float | None) -> str:
    """The number with four significant digits; a dash if it is missing.

    >>> [number_text(value) for value in (43.2468, 0.0034461, 1.23e-5, 0.0, float("inf"))]
    ['43.25', '0.003446', '1.23e-05', '0', 'infinite']
    """
    if value is None or isnan(value):
        return DASH
    return f"{value:.4g}" if isfinite(value) else "infinite"


def small_text(value: float) -> str:
    """A small number with two significant digits.

    >>> [small_text(value) for value in (2.5e-4, 0.0, 1.23e-12)]
    ['2.5e-4', '0', '1.2e-12']
    """
    return f"{value:.1e}".replace("e-0", "e-") if value else "0"


def signed_text(value: float, digits: int) -> str:
    """The number with its sign, using a typographic minus; 0 has no sign.

    >>> [signed_text(value, 2).replace(MINUS, "-") for value in (0.402, -0.695, -0.002)]
    ['+0.40', '-0.69', '0.00']
    """
    text = f"{abs(value):.{digits}f}"
    return text if not float(text) else f"{MINUS if value < 0 else '+'}{text}"


def share_text(part: float, whole: float) -> str:
    """The share in per cent; only exact 0 and 100 are shown as such.

    >>> [share_text(part, 100_000) for part in (0, 1, 4_321, 99_999, 100_000)]
    ['0 %', '< 0.01 %', '4.32 %', '> 99.99 %', '100 %']
    """
    if not whole:
        return DASH
    percent = 100 * part / whole
    if part in {0, whole}:
        return f"{percent:.0f} %"
    if percent < 0.01:
        return "< 0.01 %"
    return "> 99.99 %" if percent > 99.99 else f"{percent:.2f} %"


def seconds_text(seconds: float) -> str:
    """A duration in readable form.

    >>> [seconds_text(seconds) for seconds in (0.0002, 1.17, 93.0, 7300.0)]
    ['0.00 s', '1.17 s', '1 min 33 s', '2 h 1 min']
    """
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 10 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
