from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import astuple

import pytest

from scenefuse.engine.channel import Channel, ChannelClosedError
from scenefuse.engine.loop import QUEUE_WINDOWS, Steps, batched, run_loop


def doubled(items: Sequence[int]) -> list[int]:
    return [2 * item for item in items]


def steps(**changes: object) -> Steps[int, int, int, int, int, int]:
    plain = {
        "read": lambda n: n + 1,
        "fuse": doubled,
        "receive": int,
        "encode": lambda job, core: core - job,
        "put": lambda job, encoded: encoded * (1 + job),
    }
    return Steps(**{**plain, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [1, 3, 99])
@pytest.mark.parametrize("encoders", [0, 1, 4, 20])
def test_results_come_in_the_order_of_the_jobs(batch: int, encoders: int) -> None:
    written, seconds = run_loop(range(10), steps(), batch=batch, encoders=encoders)
    assert written == [(2 * (n + 1) - n) * (1 + n) for n in range(10)]
    assert min(astuple(seconds)) >= 0


@pytest.mark.parametrize("broken", ["read", "fuse", "receive", "encode", "put"])
@pytest.mark.parametrize("at", [0, 4, 11])
@pytest.mark.parametrize("encoders", [0, 1, 3])
def test_an_error_in_any_thread_ends_all_of_them_and_is_raised(broken: str, at: int, encoders: int) -> None:
    calls = 0

    def fail(*_: object) -> object:
        nonlocal calls
        calls += 1
        if calls > at:
            raise OSError(f"{broken} broke")
        return [0] if broken == "fuse" else 0

    before = threading.active_count()
    with pytest.raises(OSError, match=f"{broken} broke"):
        run_loop(range(12), steps(**{broken: fail}), batch=1, encoders=encoders)
    assert threading.active_count() == before


def test_where_a_thread_cannot_start_those_that_did_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's limit of threads, or an interrupt just then; a reader would wait for room for ever."""

    class Refused(threading.Thread):
        def start(self) -> None:
            if self.name == "scenefuse-write":
                raise RuntimeError("can't start new thread")
            super().start()

    monkeypatch.setattr("scenefuse.engine.loop.Thread", Refused)
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="can't start"):
        run_loop(range(12), steps(), batch=1)
    assert threading.active_count() == before


def test_the_reader_is_never_more_than_its_queue_ahead() -> None:
    read: list[int] = []
    ahead: list[int] = []

    def fuse(items: Sequence[int]) -> list[int]:
        time.sleep(0.01)
        ahead.append(len(read) - len(ahead))
        return list(items)

    run_loop(range(20), steps(read=lambda n: read.append(n) or n, fuse=fuse), batch=1)  # type: ignore[func-returns-value]
    assert max(ahead) <= QUEUE_WINDOWS + 2


def test_drain_is_what_is_written_after_the_last_window_was_computed() -> None:
    _, seconds = run_loop(range(3), steps(put=lambda *_: time.sleep(0.05)), batch=1)
    assert 0.05 <= seconds.drain <= seconds.write + 0.05
    _, seconds = run_loop(range(3), steps(fuse=lambda items: time.sleep(0.05) or list(items)), batch=1)  # type: ignore[func-returns-value]
    assert seconds.drain < 0.05


def test_a_loop_without_windows_is_starved_and_one_without_room_blocked() -> None:
    _, seconds = run_loop(range(8), steps(read=lambda n: time.sleep(0.02) or n), batch=1)  # type: ignore[func-returns-value]
    assert 0.8 * seconds.whole < seconds.starved <= seconds.whole
    assert seconds.blocked < 0.02
    _, seconds = run_loop(range(8), steps(put=lambda *_: time.sleep(0.02)), batch=1)
    assert 0.08 < seconds.blocked < seconds.whole  # all but those that found room
    assert seconds.starved < 0.02


def test_reading_computing_and_writing_run_at_the_same_time() -> None:
    def slow(seconds: float) -> None:
        time.sleep(seconds)

    start = time.perf_counter()
    _, seconds = run_loop(
        range(10),
        steps(
            read=lambda n: slow(0.03) or n,  # type: ignore[func-returns-value]
            fuse=lambda items: slow(0.03) or items,  # type: ignore[func-returns-value]
            put=lambda _, fused: slow(0.03) or fused,  # type: ignore[func-returns-value]
        ),
        batch=1,
    )
    wall = time.perf_counter() - start
    assert seconds.read + seconds.compute + seconds.write > 1.5 * wall


def test_several_encoders_work_at_the_same_time_and_keep_the_order() -> None:
    together = threading.Barrier(4)

    def encode(job: int, core: int) -> int:
        together.wait(timeout=5)  # breaks, and with it the loop, unless four encode at once
        time.sleep(0.02 * (4 - job % 4))  # those that began first end last
        return core

    written, seconds = run_loop(range(12), steps(encode=encode, put=lambda _, core: core), batch=1, encoders=4)
    assert written == [2 * (n + 1) for n in range(12)]
    assert seconds.write >= 12 * 0.02


@pytest.mark.parametrize("encoders", [0, 1])
def test_without_encoders_the_device_loop_encodes_each_result_before_it_fuses_the_next(encoders: int) -> None:
    threads: set[str] = set()
    fused: list[int] = []
    behind: list[int] = []

    def fuse(items: Sequence[int]) -> list[int]:
        fused.extend(items)
        return list(items)

    def encode(job: int, core: int) -> int:
        threads.add(threading.current_thread().name)
        behind.append(len(fused) - len(behind))
        time.sleep(0.01)
        return core - job

    _, seconds = run_loop(range(8), steps(fuse=fuse, encode=encode), batch=1, encoders=encoders)
    if encoders:
        assert threads == {"scenefuse-write"}
        assert max(behind) > 1
    else:
        assert threads == {threading.current_thread().name}
        assert set(behind) == {1}
        assert seconds.blocked < 0.05  # encoding is the loop's own work
    assert seconds.write >= 8 * 0.01


def test_no_result_is_held_once_it_is_encoded() -> None:
    class Result:
        """Something that can be watched."""

    alive: weakref.WeakSet[Result] = weakref.WeakSet()
    most: list[int] = []

    def fuse(items: Sequence[int]) -> list[Result]:
        most.append(len(alive))
        results = [Result() for _ in items]
        alive.update(results)
        return results

    watched = steps(fuse=fuse, receive=lambda result: result, encode=lambda *_: 0)
    run_loop(range(6), watched, batch=1)
    assert max(most) == 0


def test_a_cancelled_channel_ends_both_sides() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)

    def put() -> None:
        with pytest.raises(ChannelClosedError):
            channel.put(2)

    blocked = threading.Thread(target=put)
    blocked.start()
    channel.cancel()
    blocked.join(timeout=5)
    assert not blocked.is_alive()
    assert list(channel) == []


def test_batches_are_full_but_the_last() -> None:
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
