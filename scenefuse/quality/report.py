"""A product's report: its findings as figures for programs and as a page for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.cube.registration import MAX_SHIFT_COARSE, MIN_PEAK
from scenefuse.metrics.seams import SEAM_P999_BUDGET, SEAM_RMS_BUDGET
from scenefuse.metrics.with_reference import ReferenceSums
from scenefuse.product.provenance import Provenance, RunRecord
from scenefuse.product.true_colour import rgb_bands
from scenefuse.quality.detail import Detail, Lens
from scenefuse.quality.error_map import ErrorMap
from scenefuse.quality.flags import FlagCount, count_flags
from scenefuse.quality.product_scores import Scored, reference_sums
from scenefuse.quality.table import finite_or_none, scores_record
from scenefuse.sensors.band import Band

PICTURE_PX = 512
"""Longest side of the picture of the whole product, pixels."""

Values = dict[str, list[float | None]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dossier:
    """Everything that a report is made of; whatever must be read is read once, on first use."""

    lens: Lens
    """The product with everything it can be compared with."""
    item: Mapping[str, Any]
    """Its STAC item."""
    provenance: Provenance
    """Its provenance."""
    run: RunRecord
    """The record of the run that made it."""
    inputs_note: str | None = None
    """Why its inputs were not read; None if they were."""
    reference: str | None = None
    """Name of the truth, if there is one."""
    reference_notes: tuple[str, ...] = ()
    """Caveats on the scores against the truth, for example that the network learnt from this scene."""
    against_inputs: Scored | None = None
    """Scores of the whole product against its inputs, if requested."""

    @cached_property
    def factor(self) -> int:
        """Fine pixels per pixel of the picture of the whole product, along each axis."""
        return self.lens.product.overview_factor(PICTURE_PX)

    @cached_property
    def overview(self) -> NDArray[np.float32]:
        """Reflectance (3, y, x) of the whole product in red, green and blue."""
        return self.lens.product.read_overview(self.factor, rgb_bands(self.lens.product.bands))

    @cached_property
    def flags(self) -> FlagCount:
        """Its quality flags."""
        return count_flags(self.lens.product, self.factor)

    @cached_property
    def detail(self) -> Detail:
        """A part of it beside its inputs."""
        return self.lens.look(self.overview, self.factor)

    @cached_property
    def against_truth(self) -> tuple[ReferenceSums, ErrorMap] | None:
        """Score sums of the whole product against the truth, and a map of the errors; None without a truth."""
        if self.lens.truth is None:
            return None
        error_map = ErrorMap.blank(self.lens.product.grid.shape, self.factor)
        return reference_sums(self.lens.product, self.lens.truth, told=error_map.add), error_map

    @property
    def truth_sums(self) -> ReferenceSums | None:
        """Score sums of the whole product against the truth; None without one."""
        return None if self.against_truth is None else self.against_truth[0]

    @property
    def error_map(self) -> ErrorMap | None:
        """Where the product differs from the truth; None if the two share no pixel."""
        known = self.against_truth is not None and self.against_truth[1].pixels.any()
        return self.against_truth[1] if self.against_truth is not None and known else None

    @cached_property
    def by_band(self) -> Values:
        """Scores of each band by name: against the HSI (`spectral_...`, of the detail) and against the truth."""
        found: Values = {}
        if self.detail.spectral is not None and self.detail.spectral.count:
            by_band = self.detail.spectral.by_band()
            found |= {f"spectral_{name}": _listed(by_band[name]) for name in ("rmse", "cc")}
        if self.truth_sums is not None and self.truth_sums.count:
            found |= {name: _listed(values) for name, values in self.truth_sums.by_band().items()}
        return found

    @cached_property
    def ms_bands(self) -> tuple[Band, ...]:
        """The MSI bands that by_ms_band scores: sharp and covered by the HSI."""
        source, seen = self.lens.source, self.detail.seen
        if source is None or seen is None:
            return ()
        return tuple(band for band, counts in zip(source.ms_bands, seen, strict=True) if counts)

    @cached_property
    def by_ms_band(self) -> Values:
        """Scores of each band in ms_bands against the MSI, of the detail: `spatial_rmse`, `spatial_cc`."""
        if self.detail.spatial is None or not self.detail.spatial.count:
            return {}
        by_band = self.detail.spatial.by_band()
        return {f"spatial_{name}": _listed(by_band[name]) for name in ("rmse", "cc")}

    @cached_property
    def scores(self) -> Mapping[str, float]:
        """Scores of the whole product against the truth, or against its inputs; empty if neither was requested."""
        if self.truth_sums is not None:
            return self.truth_sums.scores()
        return {} if self.against_inputs is None else self.against_inputs.values

    @cached_property
    def consistency(self) -> dict[str, float | None]:
        """Scores of the detail against both inputs; empty if these were not read."""
        found: dict[str, float | None] = {}
        if self.detail.spectral is not None:
            scores = self.detail.spectral.scores()
            found |= {f"spectral_{name}": finite_or_none(scores[name]) for name in ("rmse", "sam_deg", "cc")}
        if self.detail.spatial is not None:
            scores = self.detail.spatial.scores()
            found |= {f"spatial_{name}": finite_or_none(scores[name]) for name in ("rmse", "cc")}
        return found

    @property
    def shift(self) -> Mapping[str, Any] | None:
        """Result of the registration, with the fields of Shift; None if it was not requested."""
        found: Mapping[str, Any] | None = self.provenance.grid.get("shift")
        return found

    def findings(self) -> tuple[str, ...]:
        """What users of the product must know, one sentence each; empty when all is well."""
        pixels, by_flag = max(1, self.flags.pixels), self.flags.by_flag
        seams, found = self.provenance.checks.get("seams"), []
        if self.item["properties"].get("deprecated"):
            found.append("A newer version replaces this product: one of its inputs was corrected.")
        if seams and (seams["rms"] > SEAM_RMS_BUDGET or seams["p999"] > SEAM_P999_BUDGET):
            found.append("Neighbouring tiles disagree by more than the budget: fuse with --halo full.")
        if by_flag["not_finite"]:
            found.append(f"{by_flag['not_finite']:,} pixels have data in both images but no finite result.")
        if by_flag["clipped"]:
            share = 100 * by_flag["clipped"] / pixels
            found.append(f"{share:.2g} % of the pixels left the range of the stored integers and were clipped.")
        if by_flag["nodata"] > pixels / 2:
            found.append(f"{100 * by_flag['nodata'] / pixels:.0f} % of the pixels have no data.")
        if self.shift is not None and self.shift["peak"] < MIN_PEAK:
            why = "The two images are too unlike" if self.shift["windows"] else "Too little of the two can be compared"
            found.append(f"{why} for their shift to be found: they may lie apart.")
        found += [str(record.get("message", record)) for record in self.run.facts.get("warnings", ())]
        return tuple(dict.fromkeys(found))

    def facts(self) -> dict[str, Any]:
        """The figures of the report as JSON-compatible values."""
        product, properties, checks = self.lens.product, self.item["properties"], self.provenance.checks
        rows, columns = product.grid.shape
        window = self.detail.window
        bands = [
            {"name": band.name, "wavelength_nm": band.wavelength_nm, "fwhm_nm": band.fwhm_nm}
            | {name: values[number] for name, values in self.by_band.items()}
            for number, band in enumerate(product.bands)
        ]
        return {
            "item_id": self.provenance.item_id,
            "method": self.provenance.method.name,
            "size": {
                "bands": len(product.bands),
                "rows": rows,
                "columns": columns,
                "gsd_m": properties["gsd"],
                "hs_gsd_m": properties["scenefuse:hs_gsd_m"],
                "ms_gsd_m": properties["scenefuse:ms_gsd_m"],
                "ratio": product.ratio,
            },
            "findings": list(self.findings()),
            "flags": self.flags.facts(),
            "shift": None if self.shift is None else dict(self.shift),
            "checks": dict(checks),
            "budget": {"seam_rms": SEAM_RMS_BUDGET, "seam_p999": SEAM_P999_BUDGET, "shift_coarse_px": MAX_SHIFT_COARSE},
            "inputs": "read" if self.inputs_note is None else self.inputs_note,
            "reference": self.reference,
            "reference_notes": list(self.reference_notes),
            "scores": scores_record(self.scores),
            "error_map": None if self.error_map is None else self.error_map.facts(),
            "detail": asdict(window),
            "consistency": self.consistency,
            "bands": bands,
        }


def _listed(values: NDArray[np.float64]) -> list[float | None]:
    return [finite_or_none(float(value)) for value in values]
