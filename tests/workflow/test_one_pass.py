"""What a pass makes of a catalogue that fails, as a whole or for one product."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scenefuse.archive.bounds import Bounds
from scenefuse.archive.pairing import Pairing
from scenefuse.engine.observers import RecordingObserver
from scenefuse.errors import DataError, MismatchError, TransientError
from scenefuse.pipeline.batch import BatchReport
from scenefuse.pipeline.failures import PairWork
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.publish.destination import Failed, Published
from scenefuse.workflow.one_pass import PassReport, Unpublished, publish_products


@dataclass
class Failing:
    """A catalogue that one product cannot be taken into, and that is then away."""

    away: bool
    trusted: Container[str] = ()

    def publish(
        self, folders: Sequence[Place], *, trusted: Container[str] = (), failed: Failed | None = None
    ) -> list[Published]:
        self.trusted = trusted
        assert failed is not None
        failed(folders[0], MismatchError("a checksum", "differs", "fuse again"))
        if self.away:
            raise TransientError("the API", "is away", "try again")
        return [Published(item_id=folder.name, outcome="added", href=str(folder)) for folder in folders[1:]]

    def held(self, names: Iterable[str]) -> set[str]:
        raise AssertionError(names)


@pytest.mark.parametrize("away", [False, True])
def test_what_a_catalogue_does_not_take_is_told_once_for_each_product(tmp_path: Path, *, away: bool) -> None:
    products: list[Any] = [
        SimpleNamespace(item_id=name, status=status, location=place_at(tmp_path) / name / f"{name}.json")
        for name, status in (("a", "done"), ("b", "found"), ("c", "resumed"))
    ]
    catalogue, observer = Failing(away=away), RecordingObserver()
    published, unpublished = publish_products(products, catalogue, observer)
    assert "b" in catalogue.trusted
    assert "a" not in catalogue.trusted
    assert [entry.item_id for entry in published] == ([] if away else ["b", "c"])
    kinds = {entry.item_id: entry.kind for entry in unpublished}
    assert kinds == ({"a": "mismatch", "b": "transient", "c": "transient"} if away else {"a": "mismatch"})
    assert len(observer.facts("warning")) == len(observer.events) == len(unpublished)


@pytest.mark.parametrize("left", ["failures", "busy", "unpublished", None])
def test_a_pass_that_leaves_something_to_do_is_not_whole(left: str | None) -> None:
    work = PairWork(hs_id="h", ms_id="m", hs_href="h.json", ms_href="m.json", model="gsa")
    pair = work.because(DataError("a", "b", "c"))
    batch = BatchReport(
        pairing=Pairing(pairs=(), unpaired=()),
        failures=(pair,) if left == "failures" else (),
        busy=(pair,) if left == "busy" else (),
    )
    lacking = (Unpublished(item_id="a", kind="mismatch", cause="b"),) if left == "unpublished" else ()
    report = PassReport(name="w", bounds=Bounds(), batch=batch, published=(), unpublished=lacking)
    assert (report.whole, report.exit_code) == ((True, 0) if left is None else (False, 3))
