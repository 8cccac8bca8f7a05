"""What frozen statistics, tiles and bf16 cost a trained network, on the scene that it was tested on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scenefuse.config import RunConfig
from scenefuse.engine.precision import repeatable
from scenefuse.engine.prepare import Preparation, prepare
from scenefuse.engine.resident import ModelHandle
from scenefuse.engine.windows import read_model_window
from scenefuse.grid.window import Window
from scenefuse.metrics.seams import SEAM_P999_BUDGET, SEAM_RMS_BUDGET, SeamSums
from scenefuse.metrics.with_reference import ReferenceSums
from scenefuse.models.network import FusionNetwork, NetworkModel, NetworkPrecision
from scenefuse.models.observation import observation_stages
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import load_model
from scenefuse.models.state import SceneState
from scenefuse.pipeline.fuse import fuse
from scenefuse.quality.methods import score_part
from scenefuse.quality.trial import Trial, TrialSource
from scenefuse.tiles.seams import SEAM_PX
from tests.pipeline.making import write_tiff

Image = NDArray[np.float32]

CORE_PX = 48
"""Side of a tile's core, so that a scene of 100 pixels has seams."""
SCAN_PX = 576
"""Side of the window that is scanned for what is no number: a core of 512 px with a halo of 32."""
HEAD = (
    *("scene", "network", "frozen for local statistics (dB)", "seams, frozen", "seams, local", "seams, product"),
    *("bf16 against fp32, rms / max", "not finite"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A trained network on the trial that tested it."""

    name: str
    """Name of the network."""
    weights: Path
    """Its weights."""
    trial: Trial
    """What it fuses."""
    windows: Sequence[Window]
    """Pixels that count."""

    def model(self) -> NetworkModel:
        """The network with its weights."""
        model = load_model(self._ref)
        if not isinstance(model, NetworkModel):
            raise TypeError(f"{self.name} is no network")
        return model

    def state(self) -> SceneState:
        """What the product's own preparation finds."""
        source = TrialSource(self.trial)
        stages = observation_stages(source.hs_bands, source.ms_bands, source.grid.ratio)
        return prepare(source, Preparation(stages=stages, model=ModelHandle(ref=self._ref, load=load_model)))

    def psnr_db(self, image: Image) -> float:
        """PSNR on the pixels that count."""
        sums = ReferenceSums(ratio=self.trial.ratio)
        for window in self.windows:
            sums = sums.merge(score_part(image, self.trial.truth, window, ratio=self.trial.ratio))
        return sums.scores()["psnr_db"]

    @property
    def _ref(self) -> ModelRef:
        return ModelRef(
            name=self.name,
            hs_bands=self.trial.hs_bands,
            ms_bands=self.trial.ms_bands,
            ratio=self.trial.ratio,
            weights=str(self.weights),
        )


def fidelity(subject: Subject) -> dict[str, Any]:
    """Figures by name.

    statistics_cost_db: PSNR with statistics of the window itself over the whole image, as in the papers, less that
    with statistics frozen to the mean over patches. seams: rms, p999 and max by which two neighbouring tiles with the
    default halo disagree where they meet, `frozen` and `local`; `product`: what a run with these weights found in its
    own result. drift: bf16 against fp32, from such a run. not_finite: values of a window of SCAN_PX that are no
    numbers, by precision.
    """
    state, model = subject.state(), subject.model()
    network, shape = model.network, subject.trial.truth.shape[1:]
    step = lcm(network.lattice_px, network.ratio)
    rows, columns = (-(-side // step) * step for side in shape)
    whole = Window(y0=0, y1=rows, x0=0, x1=columns)
    images = {mode: _run(model, subject, whole, state, mode)[:, : shape[0], : shape[1]] for mode in ("local", "frozen")}
    local_db, frozen_db = (subject.psnr_db(images[mode]) for mode in ("local", "frozen"))
    scanned = Window(y0=0, y1=SCAN_PX // step * step, x0=0, x1=SCAN_PX // step * step)
    return {
        "local_db": local_db,
        "frozen_db": frozen_db,
        "statistics_cost_db": local_db - frozen_db,
        "seams": {
            **{mode: _seam(model, subject, state, mode) for mode in ("frozen", "local")},
            "product": _product(subject),
        },
        "drift": _drift(model, subject, state),
        "not_finite": {
            precision: int((~np.isfinite(_run(model, subject, scanned, state, "frozen", precision))).sum())
            for precision in network.precisions
            if precision == "fp32" or torch.cpu.get_capabilities().get("avx512_bf16")  # emulated, it takes an hour
        },
    }


def fidelity_table(measured: Iterable[tuple[str, str, dict[str, Any]]]) -> list[str]:
    """Lines of Markdown: a row per scene, network and what `fidelity` found."""
    budget = f"{SEAM_RMS_BUDGET:g} / {SEAM_P999_BUDGET:g}"
    lines = [
        f"Tiles of {CORE_PX} px, default halo; seams: what neighbours disagree by, rms / p99.9 (budget {budget}).",
        "",
        f"| {' | '.join(HEAD)} |",
        f"|{'---|' * len(HEAD)}",
    ]
    for scene, network, found in measured:
        seams = [found["seams"][name] for name in ("frozen", "local", "product")]
        steps = " | ".join(f"{seam['rms']:.1e} / {seam['p999']:.1e}" for seam in seams)
        drift = f"{found['drift']['rms']:.1e} / {found['drift']['max']:.1e}" if found["drift"] else "fp32 only"
        lines.append(
            f"| {scene} | {network} | {-found['statistics_cost_db']:+.3f} | {steps} | {drift} "
            f"| {sum(found['not_finite'].values())} |"
        )
    return lines


def _run(
    model: NetworkModel,
    subject: Subject,
    window: Window,
    state: SceneState,
    mode: str,
    precision: NetworkPrecision = "fp32",
) -> Image:
    """The fused window, (hs band, y, x): with frozen statistics, or with those of the window."""
    seen = read_model_window(TrialSource(subject.trial), window, state)
    hs, ms = torch.from_numpy(seen.hs)[None], torch.from_numpy(seen.ms)[None]
    with repeatable("cpu", precision):
        fused = model.fuse(hs, ms, state) if mode == "frozen" else _local(model.network, hs, ms)
    return np.asarray(fused[0].numpy(), np.float32)


def _local(network: FusionNetwork, hs: torch.Tensor, ms: torch.Tensor) -> torch.Tensor:
    """The network with statistics of the window; then frozen as it was."""
    before, network.statistics.mode = network.statistics.mode, "local"
    try:
        with torch.inference_mode():
            return network(hs, ms).float()  # type: ignore[no-any-return] # a module's call
    finally:
        network.statistics.mode = before


def _seam(model: NetworkModel, subject: Subject, state: SceneState, mode: str) -> dict[str, float]:
    """How two tiles side by side disagree on the pixels near their seam, which both computed."""
    network = model.network
    step = lcm(network.lattice_px, network.ratio)
    core, halo = -(-CORE_PX // step) * step, -(-max(network.halo_px, SEAM_PX) // step) * step
    tiles = [Window(y0=0, y1=core, x0=x0, x1=x0 + core).grow(halo) for x0 in (0, core)]
    near = Window(y0=0, y1=core, x0=core - SEAM_PX, x1=core + SEAM_PX)
    parts = [_run(model, subject, tile, state, mode)[:, *near.within(tile)] for tile in tiles]
    return {name.removeprefix("seam_"): value for name, value in SeamSums().add(*parts).scores().items()}


def _drift(model: NetworkModel, subject: Subject, state: SceneState) -> dict[str, float] | None:
    """What bf16 changes in the scene's first tile; nothing where the network refuses bf16."""
    if "bf16" not in model.network.precisions:
        return None
    step = lcm(model.network.lattice_px, model.network.ratio)
    side = -(-CORE_PX // step) * step
    tile = Window(y0=0, y1=side, x0=0, x1=side)
    full, rounded = (_run(model, subject, tile, state, "frozen", precision) for precision in model.network.precisions)
    difference = np.abs(full - rounded)
    return {"rms": float(np.sqrt(np.square(difference).mean())), "max": float(difference.max())}


def _product(subject: Subject) -> dict[str, float]:
    """The seams that a run of the whole pipeline, from GeoTIFFs to a product, found in its own result."""
    trial = subject.trial
    with tempfile.TemporaryDirectory() as work:
        files = []
        for name, image, bands, gsd_m in (
            ("hs", trial.hs, trial.hs_bands, 10.0 * trial.ratio),
            ("ms", trial.ms, trial.ms_bands, 10.0),
        ):
            files.append(Path(work) / f"{name}.tif")
            narrow = [(band.wavelength_nm, band.fwhm_nm or 10.0) for band in bands]
            write_tiff(files[-1], np.rint(image * 1e4).astype(np.int16), gsd_m=gsd_m, bands_nm=narrow)
        config = RunConfig(
            model=subject.name,
            weights=str(subject.weights),
            precision="fp32",
            core_px=CORE_PX,
            register=False,
            workers=1,
            format=("zarr",),
        )
        return dict(fuse(*files, out=Path(work) / "out", config=config).checks["seams"])
