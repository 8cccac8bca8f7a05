"""The engine's interface to a method: a card, stages that freeze the scene's state, and fuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import NDArray
from torch import Tensor

from scenefuse.grid.resample import NO_PHASE, UPSAMPLE_REACH, Phase
from scenefuse.models.state import SceneState
from scenefuse.sensors.band import Band

UPSAMPLE_MARGIN = UPSAMPLE_REACH
"""Coarse pixels of margin that fuse receives around a window, so that it can upsample within it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a method is, what it accepts and what it costs."""

    name: str
    """Name on the command line: `gsa`, `aelf-t`."""
    title: str
    """One-line description for people."""
    source: str
    """Paper and DOI."""
    ratio: int
    """The ratio this instance accepts."""
    hs_bands: tuple[Band, ...]
    """Bands of the coarse input and of the result, sorted by wavelength."""
    ms_bands: tuple[Band, ...]
    """Bands of the fine input."""
    lattice_px: int = 1
    """Window origins and sides must be multiples of this, fine pixels: the combined stride of the network."""
    support_px: int
    """Fine pixels on each side that can influence a pixel at all; with this halo, tiles equal the whole bit for bit."""
    halo_px: int
    """Default halo, fine pixels: differs from a halo of support_px by at most 1e-6 on full scale 1."""
    effective_px: int
    """Fine pixels on each side that hold 99.9 % of the gradient's mass: the quality band's reach."""
    takes_phase: bool = False
    """True if fuse takes the HSI's pixels where they are, beside the coarse grid by the state's phase_px; otherwise the
    HSI is first warped onto it."""
    statistics: Literal["none", "scene", "patch"] = "none"
    """Scene-wide quantities frozen before the first tile."""
    precisions: tuple[Literal["fp32", "bf16", "fp16"], ...] = ("fp32",)
    """Precisions in which fuse keeps its quality; `auto` picks bf16 if it is listed here and the GPU supports it."""
    parameters: int = 0
    """Trained parameters; 0 for a method without weights."""
    multiply_adds_per_pixel: float
    """Multiply-adds of fuse per fine pixel."""
    activation_bytes_per_pixel: float
    """Peak working memory of fuse in bytes per fine pixel of a window, float32, inputs and result included."""
    weights_sha256: str | None = None
    """SHA-256 of the weights file; None for a method without weights."""
    licence: str = "Apache-2.0"
    """Licence of the weights (or of the method's code)."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Training provenance: data, protocol, seed, score."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the method that change its numbers; part of the product's identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneWindow:
    """Pixels of one block or patch on both grids, filled and masked, for a stage to measure.

    Both images include `margin` coarse pixels on each side, under the scene's border rule.
    """

    hs: NDArray[Any]
    """(hs band, y + 2 margin, x + 2 margin) float32 reflectance; no-data filled with `hs_mean` once that is known."""
    ms: NDArray[Any]
    """(ms band, (y + 2 margin) * ratio, (x + 2 margin) * ratio) float32 reflectance, filled; same ground as hs."""
    hs_valid: NDArray[Any]
    """(y + 2 margin, x + 2 margin) bool: the coarse pixel has data in every band."""
    ms_valid: NDArray[Any]
    """((y + 2 margin) * ratio, ...) bool: the fine pixel has data in every band."""
    margin: int
    """Coarse pixels on each side that belong to neighbouring blocks: context, not to be counted."""
    ratio: int
    """Coarse pixel size / fine pixel size."""
    phase_px: Phase = NO_PHASE
    """Rows and columns by which hs lies beside the coarse grid, fine pixels: see PairGrid."""


class Stage(Protocol):
    """One step of preparation: a measurement summed over the scene, then a conclusion.

    Stages run in sequence; each sees the state left by those before it. Measurements are reduced in block order in
    float64, so the result does not depend on the number of workers.
    """

    @property
    def name(self) -> str:
        """Name in logs and in the state's provenance: `gsa/regression`."""
        ...

    @property
    def where(self) -> Literal["blocks", "sample", "nowhere"]:
        """Where the stage measures: `blocks`, `sample` or `nowhere`.

        `blocks`: fixed blocks of the scene, or a stratified sample of them if it is large; `sample`: a sample of
        patches; `nowhere`: the stage concludes from the state alone and reads no pixels.
        """
        ...

    @property
    def reduce(self) -> Literal["sum", "concat"]:
        """How the measurements of two blocks are combined: added, or concatenated along the first axis."""
        ...

    @property
    def margin(self) -> int:
        """Coarse pixels of context the stage needs around each block."""
        ...

    def measure(self, window: SceneWindow, state: SceneState) -> dict[str, NDArray[Any]]:
        """Measurements of one block: named float64 arrays, the same names and (for sum) shapes for every block."""
        ...

    def conclude(self, total: dict[str, NDArray[Any]], state: SceneState) -> SceneState:
        """The state with this stage's findings added."""
        ...


class FusionModel(Protocol):
    """A method that fuses windows; the same object serves a tile and a whole scene."""

    @property
    def card(self) -> ModelCard:
        """What the method is, what it accepts and what it costs."""
        ...

    def stages(self) -> tuple[Stage, ...]:
        """Stages that freeze what this method needs to know about the scene; empty if it needs nothing."""
        ...

    def to(self, device: str) -> FusionModel:
        """The model with its tensors on the device."""
        ...

    def fuse(self, hs: Tensor, ms: Tensor, state: SceneState) -> Tensor:
        """Fused windows, (n, hs band, y, x) float32 reflectance.

        hs: (n, hs band, y / ratio + 2 * UPSAMPLE_MARGIN, x / ratio + 2 * UPSAMPLE_MARGIN) float32, no NaN.
        ms: (n, ms band, y, x) float32, no NaN. y and x are multiples of lcm(lattice_px, ratio).
        A pixel of the result depends only on inputs within support_px of it, the state and the weights, never on the
        window's size, origin or batch. Pixels nearer than support_px to the window's edge may be wrong; the engine
        crops them. The result belongs to the caller, who may write into it: it is never a view of anything kept.
        """
        ...
