"""What every Place keeps to, on a disk and on an object store."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scenefuse.archive.access import trusted_path
from scenefuse.engine.lease import Lease, LeaseHeldError, LeaseLostError, live_owner
from scenefuse.engine.ledger import Ledger
from scenefuse.engine.protocols import ShardReceipt, TileReceipts
from scenefuse.errors import DataError, StorageError, TransientError, UsageError
from scenefuse.place.local import LocalPlace, explained
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.place.store import StorePlace


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return LocalPlace(path=tmp_path / "folder")
    place: StorePlace = request.getfixturevalue("prefix")
    return place / "folder"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is made to stay, in order: files and folders synced, and names given."""
    taken: list[str] = []
    sync, rename = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        taken.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def renamed(*paths: Any) -> None:
        taken.append("name")
        rename(*paths)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return taken


def test_what_was_put_is_read_measured_and_believed_only_as_it_is(folder: Place) -> None:
    data = bytes(range(256)) * 64
    tag = (folder / "a/b").put(data)
    place, digest = folder / "a/b", hashlib.sha256(data).hexdigest()
    assert place.read() == data
    assert place.measure() == (len(data), digest)
    assert place.is_file()
    assert place.holds(len(data), digest, tag)
    assert place.holds(len(data), digest)
    assert place.holds(len(data), digest, '"a tag of other bytes"')
    assert not place.holds(len(data) + 1, digest, tag)
    assert not place.holds(len(data), "0" * 64)
    assert not (folder / "a/c").holds(len(data), digest, tag)


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_it_is_said_to_be_put(
    tmp_path: Path, steps: list[str]
) -> None:
    LocalPlace(path=tmp_path / "a").put(b"1")
    assert steps == ["file", "name", "folder"]
    with LocalPlace(path=tmp_path / "b").writing() as path:
        path.write_bytes(b"2")
    assert steps[3:] == ["file", "name", "folder"]


def test_lines_of_a_journal_are_on_the_disk_when_they_are_said_to_be_kept(tmp_path: Path, steps: list[str]) -> None:
    journal = LocalPlace(path=tmp_path / "journal").journal()
    assert steps == ["folder"]
    journal.append([b"a", b"b"])
    assert steps == ["folder", "file"]
    journal.close()


def test_lines_that_did_not_reach_the_disk_are_in_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    journal = LocalPlace(path=tmp_path / "journal").journal()
    journal.append([b"a"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space"):
            journal.append([b"b"])
    journal.append([b"c"])
    journal.close()
    assert (tmp_path / "journal").read_bytes() == b"a\nc\n"


@pytest.mark.parametrize("name", ["EIO", "ESTALE", "ETIMEDOUT", "EAGAIN"])
def test_what_a_shared_disk_says_in_a_bad_moment_may_pass(name: str, tmp_path: Path) -> None:
    code = getattr(errno, name)
    with pytest.raises(TransientError, match=os.strerror(code)), explained(tmp_path):
        raise OSError(code, os.strerror(code))


def test_a_folder_is_removed_with_what_shall_go_last(folder: Place) -> None:
    for name in ("a/b", ".lease", ".lease.lock", "z"):
        (folder / name).put(b"1")
    folder.clear(last=".lease")
    assert not folder.exists()


def test_a_folder_that_another_process_removes_too_is_removed_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place_at(tmp_path / "product")
    for name in ("a/1", "b/1", "c"):
        (folder / name).put(b"1")
    rmtree = shutil.rmtree

    def beside(path: Path) -> None:
        rmtree(path)
        if path.name in {"a", "b"}:  # gone before this process comes to its last entry
            raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(shutil, "rmtree", beside)
    folder.clear(last=".lease")
    assert not folder.exists()


@pytest.mark.parametrize("out", ["~/products", Path("~/products")])
def test_a_tilde_is_the_home_folder(out: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place_at(out).local_path() == tmp_path / "products"


def test_a_home_that_nobody_has_is_wrong_usage() -> None:
    for name in (place_at, trusted_path):
        with pytest.raises(UsageError, match=r"~nobody-here/x begins with ~: it is not clear whose home"):
            name("~nobody-here/x")


def test_an_absent_file_is_not_found(folder: Place) -> None:
    for absent in (folder, folder / "none"):
        assert not absent.exists()
        assert not absent.is_file()
        assert not absent.is_folder()
        assert absent.names() == absent.files() == []
        with pytest.raises(FileNotFoundError):
            absent.read()
        absent.discard()
        absent.clear()


@pytest.mark.parametrize(("start", "length"), [(0, 5), (3, 4), (7, None), (-4, None), (8, 100), (-100, None)])
def test_a_range_is_a_slice(folder: Place, start: int, length: int | None) -> None:
    data = b"0123456789"
    (folder / "a").put(data)
    assert (folder / "a").read_range(start, length) == data[start:][:length]


def test_a_bucket_is_a_folder_and_no_file(prefix: StorePlace) -> None:
    """Else nothing could be put right below it."""
    (prefix / "one").put(b"1")
    bucket = place_at(f"s3://{prefix.bucket}")
    assert (bucket.is_file(), bucket.is_folder(), prefix.name in bucket.names()) == (False, True, True)
    with pytest.raises(FileNotFoundError):
        bucket.read()  # not the list that a store answers


def test_files_and_names_are_those_below(folder: Place) -> None:
    for key in ("x/1", "x/y/2", "z", "x%2Fy/ 3"):
        (folder / key).put(b"12")
    (folder.parent / f"{folder.name}-beside").put(b"")
    assert folder.files() == sorted(["x/1", "x/y/2", "z", "x%2Fy/ 3"])
    assert folder.names() == sorted(["x", "z", "x%2Fy"])
    assert folder.stored_bytes() == 8
    assert folder.is_folder()
    assert (folder / "").files() == folder.files()
    (folder / "x").clear()
    assert folder.files() == sorted(["z", "x%2Fy/ 3"])
    (folder / "z").discard(lambda data: data == b"other")
    assert (folder / "z").is_file()
    (folder / "z").discard(lambda data: data == b"12")
    assert not (folder / "z").exists()


def test_a_folder_may_go_while_its_parent_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/b", ".scratch-1.part/c"):
        (LocalPlace(path=tmp_path) / name).put(b"12")
    listed, scratch = os.scandir, tmp_path / ".scratch-1.part"

    def scandir(path: Any) -> Any:
        if Path(path) == scratch:
            (scratch / "c").unlink(missing_ok=True)
            scratch.rmdir()
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for look, seen in ((LocalPlace.files, ["a/b"]), (LocalPlace.stored_bytes, 2), (LocalPlace.sweep, None)):
        scratch.mkdir(exist_ok=True)
        assert look(LocalPlace(path=tmp_path)) == seen


def test_a_folder_that_goes_away_while_a_file_is_put_is_a_failure_that_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmounted(path: Path, _data: bytes) -> int:
        path.parent.rmdir()
        return len(path.open("wb").name)

    monkeypatch.setattr(Path, "write_bytes", unmounted)
    with pytest.raises(TransientError, match="went away"):
        LocalPlace(path=tmp_path / "a" / "b").put(b"12")


def test_a_folder_that_may_not_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (LocalPlace(path=tmp_path) / "a/b").put(b"12")
    listed = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError):
        LocalPlace(path=tmp_path).files()


def test_writing_to_a_path_puts_all_of_it_or_nothing(folder: Place) -> None:
    folder.make()

    def interrupted() -> None:
        with (folder / "a").writing() as path:
            path.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert folder.files() == []
    with (folder / "a").writing() as path:
        path.write_bytes(b"whole" * 3_000_000)  # more than one part of an upload
    assert (folder / "a").measure() == (15_000_000, hashlib.sha256(b"whole" * 3_000_000).hexdigest())
    assert folder.files() == ["a"]


def test_a_scratch_folder_goes_with_all_that_is_in_it(folder: Place) -> None:
    folder.make()

    def interrupted() -> None:
        with folder.scratch() as scratch:
            seen.append(scratch)
            (scratch / "below").mkdir()
            (scratch / "below/a").write_bytes(b"1")
            raise KeyboardInterrupt

    seen: list[Path] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not seen[0].exists()
    assert folder.files() == []


def test_a_scratch_folder_that_goes_away_is_a_failure_that_passes(tmp_path: Path) -> None:
    def work(*, goes: bool) -> None:
        with place_at(tmp_path).scratch() as scratch:
            if goes:
                shutil.rmtree(scratch)
            (scratch / "absent").read_bytes()

    with pytest.raises(TransientError, match="went away"):
        work(goes=True)
    with pytest.raises(FileNotFoundError):
        work(goes=False)


def test_a_sweep_removes_what_a_killed_run_left_and_nothing_else(tmp_path: Path) -> None:
    for name in (".scratch-1.part/1-0-0", "fused.zarr/c/.0.1-2.part", "fused.zarr/c/0", ".lease", "a.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    place_at(tmp_path).sweep()
    assert place_at(tmp_path).files() == [".lease", "a.part", "fused.zarr/c/0"]
    assert not (tmp_path / ".scratch-1.part").exists()


def test_a_long_name_is_put_from_a_machine_with_a_long_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename="worker-" * 9))
    place = LocalPlace(path=tmp_path / ("x" * 200 + ".json"))
    place.put(b"{}")
    assert place.read() == b"{}"


def test_of_many_who_update_at_once_nobody_is_lost(folder: Place) -> None:
    folder.make()
    names = folder / "names"

    def add(name: str) -> Callable[[bytes | None], bytes]:
        return lambda old: " ".join(sorted({*(old or b"").decode().split(), name})).encode()

    def join(who: int) -> None:
        for turn in range(4):
            assert names.update(add(f"{who}-{turn}"))

    threads = [threading.Thread(target=join, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everybody = names.read()
    assert len(everybody.split()) == 16
    assert not names.update(add("0-0"))
    assert not names.update(lambda _: None)
    assert not names.update(lambda old: old)

    def refuse(_: bytes | None) -> bytes:
        raise DataError("a", "b", "c")

    with pytest.raises(DataError):
        names.update(refuse)
    assert names.read() == everybody


def test_a_place_travels_to_another_process_without_keys(folder: Place) -> None:
    (folder / "a").put(b"1")
    sent = pickle.dumps(folder)
    assert b"nobody-may-see" not in sent
    assert (pickle.loads(sent) / "a").read() == b"1"  # noqa: S301 - our own bytes


def test_a_journal_keeps_what_was_appended(folder: Place) -> None:
    folder.make()
    first = (folder / "journal").journal()
    assert list(first.lines) == []
    first.append([b"a", b"b"])
    first.append([b"c"])
    first.close()
    again = (folder / "journal").journal()
    assert list(again.lines) == [b"a", b"b", b"c"]
    again.append([b"d"])
    again.close()
    last = (folder / "journal").journal()
    assert list(last.lines) == [b"a", b"b", b"c", b"d"]
    last.close()


def test_one_lease_excludes_another_until_it_is_given_back(folder: Place) -> None:
    folder.make()
    with Lease(folder / ".lease") as lease:
        lease.check()
        assert live_owner(folder / ".lease") is not None
        with pytest.raises(LeaseHeldError, match="in use by process") as refused:
            Lease(folder / ".lease")
        assert refused.value.retryable
    assert not (folder / ".lease").is_file()
    assert live_owner(folder / ".lease") is None


def test_an_expired_lease_is_taken_over_and_its_holder_told(folder: Place) -> None:
    folder.make()
    other = {"machine": "elsewhere", "pid": 1, "started": 0.0}
    (folder / ".lease").put(json.dumps({**other, "expires": time.time() - 1}).encode())
    with Lease(folder / ".lease", lasts_s=0.6) as lease:
        time.sleep(1.0)
        lease.check()  # renewed meanwhile
        (folder / ".lease").put(json.dumps({**other, "expires": time.time() + 60}).encode())
        with pytest.raises(LeaseLostError):
            lease.check()
    assert json.loads((folder / ".lease").read())["machine"] == "elsewhere"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"machine": "elsewhere"}',
        b'{"machine": "elsewhere", "pid": 1, "started": 0.0, "expires": "soon"}',
        b'{"machine": "elsewhere", "pid": 1, "started": 0.0, "expires": null}',
    ],
)
def test_a_file_that_no_run_wrote_as_its_lease_binds_nobody(folder: Place, data: bytes) -> None:
    folder.make()
    (folder / ".lease").put(data)
    assert live_owner(folder / ".lease") is None
    with Lease(folder / ".lease") as lease:
        lease.check()


def test_of_those_who_want_a_lease_at_the_same_time_one_has_it(folder: Place) -> None:
    folder.make()
    got: list[Lease] = []
    start = threading.Barrier(6)

    def take() -> None:
        start.wait()
        try:
            got.append(Lease(folder / ".lease"))
        except LeaseHeldError:
            return

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    got[0].release()


def _tile(ix: int) -> TileReceipts:
    receipt = ShardReceipt(key=f"c/0/{ix}", size_bytes=9, sha256="ab", tag='"t"')
    return TileReceipts(iy=0, ix=ix, receipts=(receipt,))


def test_a_ledger_opened_again_has_what_was_recorded(folder: Place) -> None:
    folder.make()
    with Ledger(folder / "ledger.jsonl", "plan") as ledger:
        ledger.record([_tile(0), _tile(1)])
        ledger.record([_tile(2)])
    with Ledger(folder / "ledger.jsonl", "plan") as ledger:
        assert ledger.entries == {(0, n): _tile(n) for n in range(3)}
    with pytest.raises(UsageError, match="belongs to plan"):
        Ledger(folder / "ledger.jsonl", "other plan")


def test_a_run_that_was_thought_dead_cannot_write_into_the_ledger_of_the_next(prefix: StorePlace) -> None:
    first = Ledger(prefix / "ledger", "plan")
    with Ledger(prefix / "ledger", "plan") as second:
        second.record([_tile(0)])
    with pytest.raises(StorageError, match="another run"):
        first.record([_tile(1)])


@pytest.mark.parametrize(
    "url",
    [
        "gs://bucket/a",
        "s3:///a",
        "s3://user:pw@bucket/a",
        "s3://user:pw/1@bucket/a",
        "s3://[user:pw@bucket/a",
        "s3://bucket/a?X-Amz-Signature=1",
        "s3://bucket/a?",
        "s3://bucket/a#b",
    ],
)
def test_a_url_that_is_no_place_is_refused_without_repeating_secrets(url: str) -> None:
    with pytest.raises(UsageError, match="is not a place") as refused:
        place_at(url)
    assert "pw" not in str(refused.value)
    assert "Signature" not in str(refused.value)


def test_an_empty_path_is_not_taken_for_the_folder_here() -> None:
    with pytest.raises(UsageError, match=r"a path is empty: .*\. Set the variable it came from"):
        place_at("")
    assert str(place_at(".")) == "."
