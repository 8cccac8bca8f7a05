"""Gallery: pictures of fused images, each method beside the truth, and the data kept for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.product.true_colour import rgb_bands, stretch_limits, stretched
from scenefuse.quality.chart import breaks
from scenefuse.quality.error_map import SCALE_PERCENTILE, mean_squared_error, spectral_angle_deg
from scenefuse.quality.picture import dark_to_bright
from scenefuse.quality.trial import Image, Trial
from scenefuse.sensors.band import Band

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST_PX = 512
"""Longest side of a panel in pixels; larger images are thinned."""
PANEL_INCHES = 2.4
"""Side of a panel, inches."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exhibit:
    """One image in the gallery."""

    name: str
    """Method, or `truth`."""
    rgb: Image
    """(3, y, x) reflectance."""
    error: Image | None = None
    """(y, x) root mean square error over bands, reflectance; None for the truth."""
    angle_deg: Image | None = None
    """(y, x) spectral angle in degrees; None for the truth."""
    spectra: Image
    """(point, band) reflectance."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gallery:
    """The pictures of one trial."""

    scene: str
    """Name of the trial."""
    bands: tuple[Band, ...]
    """Bands of the spectra."""
    points: tuple[tuple[int, int], ...]
    """Row and column of each spectrum, fine pixels."""
    exhibits: tuple[Exhibit, ...]
    """The images, truth first."""

    @classmethod
    def of(cls, trial: Trial) -> Gallery:
        """Start a gallery with the truth alone; its points are scored pixels at the percentiles BRIGHTNESS."""
        shown = trial.truth.mean(axis=0)
        points = dark_to_bright(shown if trial.scored is None else np.where(trial.scored, shown, np.nan))
        empty = cls(scene=trial.name, bands=trial.hs_bands, points=points, exhibits=())
        return replace(empty, exhibits=(empty._exhibit("truth", trial.truth),))

    def with_method(self, name: str, fused: Image, truth: Image) -> Gallery:
        """The gallery with one method's result added."""
        error, angle_deg = np.sqrt(mean_squared_error(fused, truth)), spectral_angle_deg(fused, truth)
        exhibit = replace(self._exhibit(name, fused), error=_thin(error), angle_deg=_thin(angle_deg))
        return replace(self, exhibits=(*self.exhibits, exhibit))

    def draw(self, folder: Path, stem: str) -> tuple[Path, Path]:
        """Write `<stem>-images.png` and `<stem>-spectra.png` into folder and return their paths."""
        images, spectra = folder / f"{stem}-images.png", folder / f"{stem}-spectra.png"
        _save(self._images(), images)
        _save(self._spectra(), spectra)
        return images, spectra

    def _exhibit(self, name: str, image: Image) -> Exhibit:
        spectra = [image[:, row, column] for row, column in self.points]
        return Exhibit(
            name=name,
            rgb=np.stack([_thin(image[band]) for band in rgb_bands(self.bands)]),
            spectra=np.array(spectra, np.float32).reshape(len(spectra), len(self.bands)),
        )

    def _images(self) -> Figure:
        """One row for the truth and each method: colours, error, angle; all rows share the same scales."""
        from matplotlib.figure import Figure

        truth, methods = self.exhibits[0], self.exhibits[1:]
        low, high = stretch_limits(truth.rgb)
        errors = [image for entry in methods for image in [entry.error] if image is not None]
        angles = [image for entry in methods for image in [entry.angle_deg] if image is not None]
        figure = Figure(figsize=(3 * PANEL_INCHES + 1.5, len(self.exhibits) * PANEL_INCHES), layout="constrained")
        axes = figure.subplots(len(self.exhibits), 3, squeeze=False)
        for row, exhibit in zip(axes, self.exhibits, strict=True):
            row[0].imshow(np.moveaxis(stretched(exhibit.rgb, low, high), 0, -1))
            row[0].set_title(exhibit.name, loc="left", fontsize="medium")
            maps = ((exhibit.error, errors, "RMSE"), (exhibit.angle_deg, angles, "SAM (deg)"))
            for panel, (image, every, label) in zip(row[1:], maps, strict=True):
                if image is None:
                    panel.axis("off")
                    continue
                top = max(float(np.nanpercentile(np.stack(every), SCALE_PERCENTILE)), 1e-6)
                drawn = panel.imshow(image, vmin=0, vmax=top, cmap="magma")
                figure.colorbar(drawn, ax=panel, label=label)
            for panel in row:
                panel.set(xticks=[], yticks=[])
        figure.suptitle(self.scene)
        return figure

    def _spectra(self) -> Figure:
        """One panel per point: truth in black and a line per method, broken where bands are missing."""
        from matplotlib.figure import Figure

        waves = [index if band.wavelength_nm is None else band.wavelength_nm for index, band in enumerate(self.bands)]
        broken = breaks(waves)
        places = np.insert(np.array(waves, np.float64), broken, np.nan)
        figure = Figure(figsize=(9, 6), layout="constrained")
        panels = figure.subplots(2, 2, squeeze=False).ravel()
        for panel in panels[len(self.points) :]:
            panel.axis("off")
        for number, (panel, (row, column)) in enumerate(zip(panels, self.points, strict=False)):
            for exhibit in self.exhibits:
                style = {"color": "black", "linewidth": 2.0} if exhibit.error is None else {"linewidth": 0.9}
                panel.plot(places, np.insert(exhibit.spectra[number], broken, np.nan), label=exhibit.name, **style)
            panel.set(title=f"row {row}, column {column}", xlabel="wavelength (nm)", ylabel="reflectance")
            panel.grid(alpha=0.3)
        if self.points:
            panels[0].legend(fontsize="small")
        figure.suptitle(self.scene)
        return figure


def _thin(image: NDArray[Any]) -> Image:
    """Every n-th pixel of an image (y, x), so that no side exceeds LONGEST_PX; a copy."""
    step = -(-max(image.shape) // LONGEST_PX)
    return np.array(image[::step, ::step], np.float32)


def _save(figure: Figure, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)
