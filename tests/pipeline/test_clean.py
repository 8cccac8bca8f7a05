from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from scenefuse.engine.lease import Lease
from scenefuse.pipeline.clean import find_unfinished, remove_unfinished


def test_nobody_can_begin_to_work_in_a_folder_that_is_being_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hs_ms_gsa_01234567"
    for key in ("ledger.jsonl", "fused.zarr/b", "fused.zarr/c/0"):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(b"1")
    leased = []
    unlink = os.unlink

    def watched(path: Any, **options: Any) -> None:
        if not os.fspath(path).endswith((".lease", ".lease.lock")):
            leased.append((folder / ".lease").is_file() and (folder / ".lease.lock").is_file())
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", watched)
    assert len(remove_unfinished(find_unfinished(tmp_path))) == 1
    assert not folder.exists()
    assert len(leased) >= 3
    assert all(leased)


def begun(folder: Path) -> Path:
    for key in ("ledger.jsonl", "fused.zarr/c/0"):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(b"1")
    return folder


def test_a_product_that_was_finished_meanwhile_is_not_removed(tmp_path: Path) -> None:
    folder = begun(tmp_path / "hs_ms_gsa_01234567")
    found = find_unfinished(tmp_path)
    (folder / f"{folder.name}.json").write_bytes(b"{}")
    assert remove_unfinished(found) == ()
    assert (folder / "fused.zarr/c/0").exists()


def test_what_others_took_or_removed_meanwhile_keeps_nothing_else_from_going(tmp_path: Path) -> None:
    taken, gone, left = (begun(tmp_path / f"hs{number}_ms_gsa_01234567") for number in range(3))
    found = find_unfinished(tmp_path)
    shutil.rmtree(gone)
    with Lease(taken / ".lease"):
        assert [entry.folder.name for entry in remove_unfinished(found)] == [left.name]
    assert (taken / "fused.zarr/c/0").exists()
    assert not gone.exists()


def test_hidden_folders_are_no_products(tmp_path: Path) -> None:
    begun(tmp_path / ".known")
    assert find_unfinished(tmp_path) == ()
