"""The picture of a training's rows, as networks of both kinds leave them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenefuse.training.curves import Row, draw_curves

ROWS: dict[str, list[Row]] = {
    "terms": [
        {"step": 2, "loss": 0.5, "loss_fused": 0.3, "psnr_db": 20},
        {"step": 4, "loss": 0.1, "loss_fused": 0.05, "psnr_db": 25},
    ],
    "scored without a truth": [{"step": 2, "loss": 0.5, "consistency_db": 31.0, "psf_sigma_px": 1.2}],
    "a loss below nought": [{"step": 2, "loss": 0.5, "psnr_db": 20}, {"step": 4, "loss": -0.1, "psnr_db": 25}],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=list(ROWS))
def test_curves_are_drawn(rows: list[Row], tmp_path: Path) -> None:
    draw_curves(rows, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
