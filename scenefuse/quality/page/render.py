"""Render a dossier as HTML: draw charts and pictures, format numbers, escape all text from outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from pyproj import CRS

from scenefuse.cube.registration import MAX_SHIFT_COARSE, MIN_PEAK
from scenefuse.engine.budget import size_text
from scenefuse.metrics.seams import SEAM_P999_BUDGET, SEAM_RMS_BUDGET
from scenefuse.product.files import REPORT, RUN, STORE
from scenefuse.product.true_colour import colours
from scenefuse.quality.chart import Chart, Series
from scenefuse.quality.detail import Spectra
from scenefuse.quality.flags import GRAVEST_FIRST
from scenefuse.quality.page.wording import (
    FLAG_TEXTS,
    SCORE_TEXTS,
    number_text,
    seconds_text,
    share_text,
    signed_text,
    small_text,
)
from scenefuse.quality.picture import ERROR_COLOURS, FLAG_COLOURS, data_uri, error_uri, flagged
from scenefuse.quality.report import Dossier
from scenefuse.sensors.band import Band, sharp_bands
from scenefuse.words import counted

PHASES = ("open", "adapt", "prepare", "tiles", "check", "finish")
"""Phases of a run in order, by their names in run.json."""
NANOMETRES = "wavelength (nm)"
NUMBERS = "band"
"""X-axis label of charts over bands whose wavelengths are not all known."""


def render(dossier: Dossier) -> str:
    """Render the page: a single file with its styles and pictures, the same text for the same product and run.

    Everything that differs between two runs with identical results is in the section `run`.
    """
    return _template().render(
        css=(Path(__file__).parent / "report.css").read_text(encoding="utf-8"),
        **_identity(dossier),
        **_pictures(dossier),
        **_quality(dossier),
        **_scores(dossier),
        **_origin(dossier),
    )


def _identity(dossier: Dossier) -> dict[str, Any]:
    """What the product is: item, provenance, grid, files and findings."""
    provenance, product, item = dossier.provenance, dossier.lens.product, dossier.item
    scenes = {file.role: file.scene_id for file in provenance.inputs}
    waves = [band.wavelength_nm for band in product.bands if band.wavelength_nm is not None]
    files = [
        {"name": str(asset["href"]).rpartition("/")[2], **asset}
        for asset in item["assets"].values()
        if str(asset["href"]).rpartition("/")[2] not in {REPORT, RUN}
    ]
    return {
        "item": item,
        "properties": item["properties"],
        "provenance": provenance,
        "product": product,
        "hs_id": scenes.get("hsi", ""),
        "ms_id": scenes.get("msi", ""),
        "waves": (min(waves), max(waves)) if waves else None,
        "crs": CRS.from_wkt(product.grid.crs_wkt),
        "files": sorted(files, key=lambda file: file["name"] != STORE),
        "options": [
            (name.replace("_", " "), ", ".join(value) if isinstance(value, list | tuple) else value)
            for name, value in sorted({**provenance.options, **provenance.method.options}.items())
            if value not in (None, [], ())
        ],
        "grid": provenance.grid.get("grid", {}),
        "dropped": provenance.grid.get("hs", {}).get("dropped", []),
        "findings": dossier.findings(),
        "inputs_note": dossier.inputs_note,
    }


def _pictures(dossier: Dossier) -> dict[str, Any]:
    """The whole product with its flags, and a part of it beside the inputs."""
    detail, flags = dossier.detail, dossier.flags
    whole, part = colours(dossier.overview), colours(detail.fused)
    rows, columns = dossier.lens.product.grid.shape
    window = detail.window
    is_all = window.shape == (rows, columns)
    return {
        "whole": None if is_all else data_uri(whole),
        "flagged": data_uri(flagged(whole, flags.picture)),
        "factor": dossier.factor,
        "detail": window,
        "detail_is_all": is_all,
        "frame": [
            round(100 * share, 3)
            for share in (window.x0 / columns, window.y0 / rows, window.shape[1] / columns, window.shape[0] / rows)
        ],
        "fused_part": data_uri(part),
        "hs_part": None if detail.hs is None else data_uri(colours(detail.hs)),
        "ms_part": None if detail.ms is None else data_uri(colours(detail.ms)),
        "points": [
            {
                "row": point.row,
                "column": point.column,
                "left": round(100 * (point.column - window.x0 + 0.5) / window.shape[1], 2),
                "top": round(100 * (point.row - window.y0 + 0.5) / window.shape[0], 2),
                "chart": _spectra(number, point, dossier),
            }
            for number, point in enumerate(detail.points, start=1)
        ],
    }


def _quality(dossier: Dossier) -> dict[str, Any]:
    """Flags, registration, seams and drift."""
    flags, checks = dossier.flags, dossier.provenance.checks
    rows = [
        {
            "title": FLAG_TEXTS[name][0],
            "meaning": FLAG_TEXTS[name][1],
            "pixels": flags.by_flag[name],
            "colour": "#{:02x}{:02x}{:02x}".format(*FLAG_COLOURS[flag]),
        }
        for flag in GRAVEST_FIRST
        for name in [str(flag.name).lower()]
    ]
    seams: Mapping[str, float] = checks.get("seams") or {}
    budgets = (("rms", SEAM_RMS_BUDGET), ("p999", SEAM_P999_BUDGET)) if seams else ()
    return {
        "flag_rows": rows,
        "pixels": flags.pixels,
        "good": flags.good,
        "shift": dossier.shift,
        "shift_bound_px": MAX_SHIFT_COARSE * dossier.lens.product.ratio,
        "least_peak": MIN_PEAK,
        "checks": checks,
        "seams": seams,
        "seam_rows": [(name, seams[name], budget, min(1.0, seams[name] / budget)) for name, budget in budgets],
        "drift": checks.get("drift"),
    }


def _scores(dossier: Dossier) -> dict[str, Any]:
    """Scores as tables and as curves over wavelength."""
    rows = zip(*dossier.by_ms_band.values(), strict=True)
    error_map = dossier.error_map
    return {
        "error_map": error_map,
        "error_picture": None if error_map is None else error_uri(error_map.rmse, error_map.top),
        "error_colours": ["#{:02x}{:02x}{:02x}".format(*colour) for colour in ERROR_COLOURS],
        "reference": dossier.reference,
        "reference_notes": dossier.reference_notes,
        "score_rows": _score_rows(dossier.scores),
        "consistency_rows": _score_rows(dossier.consistency),
        "curves": [chart for chart in (*_truth_curves(dossier), *_consistency_curves(dossier)) if chart],
        "by_band": dossier.by_band,
        "bands": dossier.lens.product.bands,
        "ms_rows": [(band, *values) for band, values in zip(dossier.ms_bands, rows, strict=False)],
        "state": dossier.lens.state.facts,
    }


def _truth_curves(dossier: Dossier) -> Iterator[Chart]:
    """Accuracy of each band against the truth."""
    x, label = _abscissa(dossier.lens.product.bands)
    titles = {
        "psnr_db": ("PSNR against the truth", "PSNR (dB)"),
        "rmse": ("RMSE against the truth", "RMSE (reflectance)"),
        "cc": ("Correlation with the truth", "correlation"),
    }
    for name, (title, y_label) in titles.items():
        if name in dossier.by_band:
            series = Series(name="fused", style="fused", x=x, y=_numbers(dossier.by_band[name]))
            zero = name == "rmse"
            yield Chart(title=f"{title}, by band", x_label=label, y_label=y_label, series=(series,), zero=zero)


def _consistency_curves(dossier: Dossier) -> Iterator[Chart]:
    """Agreement of the detail with its inputs, by band of each."""
    x, label = _abscissa(dossier.lens.product.bands)
    ms_x, ms_label = _abscissa(dossier.ms_bands)
    titles = {
        "rmse": ("Difference from the inputs", "RMSE (reflectance)"),
        "cc": ("Correlation with the inputs", "correlation"),
    }
    for name, (title, y_label) in titles.items():
        series = []
        if f"spectral_{name}" in dossier.by_band:
            y = _numbers(dossier.by_band[f"spectral_{name}"])
            series.append(Series(name="degraded, against the HSI", style="hs", x=x, y=y))
        if f"spatial_{name}" in dossier.by_ms_band and label == ms_label == NANOMETRES:
            y = _numbers(dossier.by_ms_band[f"spatial_{name}"])
            series.append(Series(name="through the response, against the MSI", style="ms", x=ms_x, y=y, dots=True))
        zero = name == "rmse"
        yield Chart(title=f"{title}, by band", x_label=label, y_label=y_label, series=tuple(series), zero=zero)


def _origin(dossier: Dossier) -> dict[str, Any]:
    """The run that made the product."""
    phases = dossier.run.facts.get("phases", {})
    known = [name for name in PHASES if name in phases] + [name for name in phases if name not in PHASES]
    record = dossier.item["assets"].get("run", {})
    return {
        "run": dossier.run,
        "run_facts": dossier.run.facts,
        "run_asset": record,
        "phases": [(name, phases[name]["seconds"], phases[name]["share"]) for name in known],
    }


def _spectra(number: int, point: Spectra, dossier: Dossier) -> Chart:
    """The spectra of one point."""
    x, label = _abscissa(dossier.lens.product.bands)
    series = []
    if point.truth is not None:
        series.append(Series(name="truth", style="truth", x=x, y=point.truth.tolist()))
    if point.hs is not None:
        series.append(Series(name="HSI, coarse pixel", style="hs", x=x, y=point.hs.tolist()))
    series.append(Series(name="fused", style="fused", x=x, y=point.fused.tolist()))
    source = dossier.lens.source
    if point.ms is not None and source is not None and label == NANOMETRES:
        sharp = sharp_bands(source.ms_bands)
        for name, style, chosen in (("MSI", "ms", sharp), ("MSI, coarser bands", "soft", ~sharp)):
            known = zip(source.ms_bands, point.ms, chosen, strict=True)
            dots = [
                (band.wavelength_nm, float(value)) for band, value, counts in known if counts and band.wavelength_nm
            ]
            if dots:
                waves, values = zip(*dots, strict=True)
                series.append(Series(name=name, style=style, x=waves, y=values, dots=True))
    title = f"Spectra of point {number}, row {point.row}, column {point.column}"
    return Chart(title=title, x_label=label, y_label="reflectance", series=tuple(series))


def _abscissa(bands: Sequence[Band]) -> tuple[list[float], str]:
    """Position of each band on the x axis, by wavelength or, if one is unknown, by number; and the axis label."""
    waves = [band.wavelength_nm for band in bands if band.wavelength_nm is not None]
    if len(waves) == len(bands):
        return waves, NANOMETRES
    return [float(number) for number in range(1, len(bands) + 1)], NUMBERS


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _score_rows(scores: Mapping[str, float | None]) -> list[tuple[str, str, float | None]]:
    """Title, unit or reading, and value of each score."""
    return [(*SCORE_TEXTS.get(name, (name, "")), value) for name, value in scores.items()]


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number_text,
        "share": share_text,
        "size": size_text,
        "seconds": seconds_text,
        "signed": signed_text,
        "small": small_text,
        "counted": counted,
    }
    return environment.get_template("report.html")
