"""Records of how a product was made: its provenance, its method's STAC item, its run."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scenefuse.engine.observers import RecordingObserver
from scenefuse.engine.run import RunReport
from scenefuse.engine.software import INSTRUCTION_SET, merged
from scenefuse.models.state import SceneState
from scenefuse.models.weights import read_card
from scenefuse.pipeline.planning import Order, method_of, number_options, product_inputs
from scenefuse.place.href import redact
from scenefuse.product.files import WEIGHTS
from scenefuse.product.identity import NUMERICS
from scenefuse.product.model_item import build_method_item, build_model_item
from scenefuse.product.provenance import Plan, Provenance, RunRecord


def provenance_of(order: Order, state: SceneState, report: RunReport) -> Provenance:
    """The product's provenance: what made its tiles, on all machines and in all runs involved."""
    plan, opened = order.plan, order.opened
    software = merged(tile.made_by for tile in report.finished.values())
    processor = software.pop(INSTRUCTION_SET)
    return Provenance(
        item_id=order.folder.name,
        identity=order.identity,
        inputs=product_inputs(opened),
        method=method_of(opened),
        plan=Plan(
            core_px=plan.tiling.core_px,
            halo_px=plan.tiling.halo_px,
            lattice_px=plan.tiling.lattice_px,
            tiling="exact",
            precision=plan.precision,
            device=plan.device,
            batch=plan.batch,
            instruction_set=processor,
        ),
        numerics=NUMERICS,
        software=software,
        options=number_options(order.config, opened),
        grid=opened.facts(),
        state_sha256=state.sha256,
    )


def model_item_of(order: Order) -> dict[str, Any]:
    """The method's STAC item, written beside the product; it links the weights if they were adapted to the pair."""
    card, path = order.opened.card, order.opened.model.ref.weights
    if path is None:
        return build_method_item(card)
    weights = read_card(Path(path))
    return build_model_item(
        f"{card.name}-{weights.sha256[:12]}",
        weights,
        card,
        size_bytes=Path(path).stat().st_size,
        href=None if order.config.adapt is None else f"./{WEIGHTS}",
    )


def run_record(
    order: Order, report: RunReport, recorder: RecordingObserver, started: datetime, seconds: Mapping[str, float]
) -> RunRecord:
    """The run's record: times, host, locations of the inputs, and each phase's seconds and share of the total."""
    pair, total = order.opened.pair, sum(seconds.values())
    return RunRecord(
        started=started,
        finished=datetime.now(UTC),
        host=socket.gethostname(),
        hrefs=recorded_hrefs(order),
        roots={role: scene.root for role, scene in (("hsi", pair.hs), ("msi", pair.ms)) if scene.root is not None},
        facts={
            "plan": order.plan.facts(),
            "run": report.facts(),
            "phases": {name: {"seconds": s, "share": s / total} for name, s in seconds.items()},
            "stages": recorder.facts("stage"),
            "warnings": recorder.facts("warning"),
            "retries": recorder.facts("retry"),
        },
    )


def recorded_hrefs(order: Order) -> dict[str, str]:
    """Locations of the two scenes, by role, without secrets."""
    scenes = (("hsi", order.opened.pair.hs), ("msi", order.opened.pair.ms))
    return {role: redact(scene.href) for role, scene in scenes}
