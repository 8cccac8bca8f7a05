from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from scenefuse.engine.lease import Lease, LeaseLostError
from scenefuse.engine.ledger import Ledger
from scenefuse.engine.protocols import ShardReceipt, TileReceipts
from scenefuse.errors import DataError, ResourceError, UsageError
from scenefuse.place.location import place_at


def tile(ix: int) -> TileReceipts:
    return TileReceipts(iy=0, ix=ix, receipts=(ShardReceipt(key=f"c/0/{ix}", size_bytes=9, sha256="ab"),))


def test_a_ledger_opened_again_has_what_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, "plan") as ledger:
        ledger.record([tile(0), tile(1)])
        ledger.record([tile(2)])
    with Ledger(path, "plan") as ledger:
        assert ledger.entries == {(0, n): tile(n) for n in range(3)}


def test_a_ledger_torn_at_any_byte_keeps_its_whole_lines_and_can_be_continued(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, "plan") as ledger:
        ledger.record([tile(0), tile(1)])
    data = path.read_bytes()
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        whole = max(0, data[:size].count(b"\n") - 1)
        with Ledger(path, "plan") as ledger:
            assert len(ledger.entries) == whole
            ledger.record([tile(7)])
        with Ledger(path, "plan") as ledger:
            assert len(ledger.entries) == whole + 1
        assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_ledger_of_another_plan_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path / "l", "plan a").close()
    with pytest.raises(UsageError, match="belongs to plan plan a"):
        Ledger(tmp_path / "l", "plan b")


def test_a_ledger_of_another_format_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path / "l", "plan").close()
    head = json.loads((tmp_path / "l").read_text())
    (tmp_path / "l").write_text(json.dumps({**head, "ledger": head["ledger"] + 1}) + "\n")
    with pytest.raises(UsageError, match="cannot be mixed"):
        Ledger(tmp_path / "l", "plan")


def test_a_ledger_with_a_broken_line_inside_is_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l", "plan") as ledger:
        ledger.record([tile(0), tile(1)])
    lines = (tmp_path / "l").read_bytes().splitlines(keepends=True)
    (tmp_path / "l").write_bytes(lines[0] + b"{garbage\n" + lines[2])
    with pytest.raises(DataError, match="not a record"):
        Ledger(tmp_path / "l", "plan")


def test_a_second_run_on_one_folder_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    with Lease(tmp_path / "run.lease"), pytest.raises(ResourceError, match=f"in use by process {os.getpid()}"):
        Lease(tmp_path / "run.lease")
    Lease(tmp_path / "run.lease").release()
    assert not (tmp_path / "run.lease").exists()


def test_the_lease_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.lease"
    code = (
        "import os, pathlib, sys; from scenefuse.engine.lease import Lease\n"
        "lease = Lease(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, cwd=Path(__file__).parents[2])
    assert path.exists()
    with Lease(path) as lease:
        lease.check()


def test_the_lease_of_an_earlier_process_of_the_same_number_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "run.lease"
    with Lease(path):
        mine = json.loads(path.read_text())
    path.write_text(json.dumps({**mine, "started": mine["started"] - 60}))
    with Lease(path) as lease:
        lease.check()


def test_setting_the_clock_takes_no_lease_from_a_process_that_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.lease"
    with Lease(path):
        booted = psutil.boot_time()  # what the kernel says of it goes with the clock
        monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted + 30)
        with pytest.raises(ResourceError, match=f"in use by process {os.getpid()}"):
            Lease(path)


def test_an_expired_lease_of_another_machine_is_taken_over_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "run.lease"
    no_process_here = 2**22 + 1
    record = {"machine": "elsewhere", "pid": no_process_here, "started": 0.0, "expires": time.time() + 60}
    path.write_text(json.dumps(record))
    with pytest.raises(ResourceError, match="elsewhere"):
        Lease(path)
    path.write_text(json.dumps({**record, "expires": time.time() - 1}))
    Lease(path).release()


def test_a_lease_is_renewed_while_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "run.lease"
    with Lease(path, lasts_s=0.3):
        first = json.loads(path.read_text())["expires"]
        time.sleep(0.35)
        assert json.loads(path.read_text())["expires"] > first


def test_a_lease_that_went_to_another_is_not_renewed(tmp_path: Path) -> None:
    path = tmp_path / "run.lease"
    other = {"machine": "elsewhere", "pid": 1, "started": 0.0, "expires": time.time() + 60}
    with Lease(path, lasts_s=0.15):
        place_at(path).update(lambda _: json.dumps(other).encode())
        time.sleep(0.2)
        assert json.loads(path.read_text()) == other


def test_a_lease_outlasts_a_moment_in_which_its_folder_is_away(tmp_path: Path) -> None:
    folder, away = tmp_path / "folder", tmp_path / "away"
    folder.mkdir()
    with Lease(folder / "run.lease", lasts_s=0.3):
        folder.rename(away)
        time.sleep(0.25)
        first = json.loads((away / "run.lease").read_text())["expires"]
        away.rename(folder)
        time.sleep(0.25)
        assert json.loads((folder / "run.lease").read_text())["expires"] > first


def test_a_run_that_lost_its_lease_records_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "run.lease"
    other = {"machine": "elsewhere", "pid": 1, "started": 0.0, "expires": time.time() + 60}
    with Lease(path) as lease, Ledger(tmp_path / "l", "plan", lease=lease) as ledger:
        ledger.record([tile(0)])
        path.write_text(json.dumps(other))
        with pytest.raises(LeaseLostError):
            ledger.record([tile(1)])
    assert json.loads(path.read_text())["machine"] == "elsewhere"
    with Ledger(tmp_path / "l", "plan") as ledger:
        assert list(ledger.entries) == [(0, 0)]
