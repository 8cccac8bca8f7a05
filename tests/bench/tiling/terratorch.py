"""A rival where it is installed: terratorch's tiled inference, which blends overlapping chips.

`pip install --no-deps terratorch` is enough: only its module of tiled inference is loaded, which needs torch alone. The
package itself imports data sets and vision libraries that a measurement of tiles can do without.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from tests.bench.tiling.contest import Case, Clock, Outcome
from tests.bench.tiling.rivals import Predictor, coverage

HAS_TERRATORCH = importlib.util.find_spec("terratorch") is not None
"""Whether this rival can be measured here."""

DEFAULT_CROP, DEFAULT_STRIDE, DEFAULT_DELTA = 224, 192, 8
"""terratorch's own chip, step and cropped border, pixels: its defaults for our window keep their proportions."""


def terratorch(case: Case, clock: Clock, work: Path, *, tuned: bool) -> Outcome:  # noqa: ARG001 - a contestant
    """terratorch's tiled_inference from an array to an array.

    Its defaults: chips that overlap by a seventh, blended by cosines. tuned: chips that overlap by our halo on each
    side, which is cropped, so that nothing is left to blend.
    """
    stack = torch.from_numpy(np.load(case.scene.stack_path(case.stack)))[None]
    predict, module = Predictor(case), _tiled_inference()
    window, lattice = predict.tiling.window_px, predict.tiling.lattice_px
    step, delta = window * DEFAULT_STRIDE // DEFAULT_CROP, window * DEFAULT_DELTA // DEFAULT_CROP
    if tuned:
        step, delta = window - 2 * predict.tiling.halo_px, predict.tiling.halo_px
    step, delta = (px // lattice * lattice for px in (step, delta))
    spans: set[tuple[int, int]] = set()

    class Sink(module.InMemoryTileSink):  # type: ignore[misc, name-defined] # a class of a module loaded by path
        """terratorch's own, which tells where chips went."""

        def write(self, tile: Any, prediction: torch.Tensor) -> None:
            rows = tile.input_coords[0]
            spans.add((max(0, rows.start - delta), min(case.scene.side_px, rows.stop - delta)))
            super().write(tile, prediction)

    side = case.scene.side_px
    sink = Sink(1, side, side, delta, "cpu", "reflect" if delta else False, average_patches=not tuned)
    with clock.running(), torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fused = module.tiled_inference(
            predict,
            stack,
            crop=window,
            stride=step,
            delta=delta,
            average_patches=not tuned,
            blend_overlaps=not tuned,
            batch_size=1,
            padding="reflect" if delta else False,
            sink=sink,
        )
        image = fused[0].numpy()
    rows = sorted(spans)
    return Outcome(
        computed_px=predict.computed_px,
        coverage=coverage(side, rows),
        cuts=tuple(sorted({edge for span in rows for edge in span})),
        image=lambda: image,
    )


def _tiled_inference() -> ModuleType:
    """The module alone, with what it imports from its package and does not use left empty."""
    package = importlib.util.find_spec("terratorch")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("terratorch")
    path = Path(next(iter(package.submodule_search_locations))) / "tasks" / "tiled_inference.py"
    names = ("terratorch", "terratorch.models", "terratorch.models.utils")
    before = {name: sys.modules.get(name) for name in names}
    try:
        for name in names:
            sys.modules[name] = ModuleType(name)
        sys.modules[names[-1]].pad_images = None  # type: ignore[attr-defined]
        spec = importlib.util.spec_from_file_location("terratorch_tiled_inference", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # its dataclasses look for it
        spec.loader.exec_module(module)
    finally:
        for name, known in before.items():
            if known is None:
                del sys.modules[name]
            else:
                sys.modules[name] = known
    return module
