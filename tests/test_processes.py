"""Processes that work beside this one: the same answers, nobody waits for them, and none is left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import aclosing, contextmanager

import psutil
import pytest

from simlib.look import Asked, Look, looks
from simlib.processes import Pool

PATIENCE = 60.0  # seconds that a process may take to begin or to end, on a busy machine as well


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Two processes, of which one at least has started."""
    with two() as pool:
        yield pool


@contextmanager
def two() -> Iterator[Pool]:
    pool = Pool(2, Look)
    pool._first.result(timeout=PATIENCE)
    executor = pool._executor
    assert executor is not None
    yield pool
    executor.shutdown(kill_workers=True)


def who(pool: Pool) -> list[psutil.Process]:
    """Ask for the processes that did two tasks."""
    return [psutil.Process(number) for number in gathered(pool, lambda _: os.getpid(), 2)]


def gathered(pool: Pool, function: object, tasks: int) -> list[int]:
    async def ask() -> list[int]:
        return [found async for found in pool.map(function, range(tasks))]  # type: ignore[arg-type]

    return asyncio.run(ask())


def test_the_days_are_the_same_to_the_bit_whoever_simulates_them(pool: Pool) -> None:
    asked = Asked(senders=3, per_sender=20, group_email=90)
    for look in looks(asked, {"office365": None, "own-postfix": None}):
        here, there = (gathered(one, look.day, 3) for one in (Pool(1, Look), pool))  # type: ignore[misc]
        for day, other in zip(here, there, strict=True):
            assert day.accepted_at.tobytes() == other.accepted_at.tobytes()  # type: ignore[attr-defined]
            assert (day.on_time, day.lost) == (other.on_time, other.lost)  # type: ignore[attr-defined]


def test_answers_come_in_the_order_of_the_tasks_and_from_other_processes(pool: Pool) -> None:
    found = gathered(pool, lambda number: (number, os.getpid()), 20)
    assert [number for number, _ in found] == list(range(20))  # type: ignore[misc]
    assert os.getpid() not in {process for _, process in found}  # type: ignore[misc]


def test_until_they_have_started_this_process_works(monkeypatch: pytest.MonkeyPatch, pool: Pool) -> None:
    monkeypatch.setattr(Pool, "ready", False)
    assert gathered(pool, lambda _: os.getpid(), 2) == [os.getpid()] * 2
    assert gathered(Pool(1, Look), lambda _: os.getpid(), 2) == [os.getpid()] * 2


def test_others_are_heard_between_two_answers() -> None:
    async def ask() -> list[str]:
        heard = []

        async def listen() -> None:
            for _ in range(2):
                heard.append("heard")
                await asyncio.sleep(0)

        listener = asyncio.create_task(listen())
        async for number in Pool(1, Look).map(str, range(2)):
            heard.append(number)  # noqa: PERF401 - the order is what matters
        await listener
        return heard

    assert asyncio.run(ask()) == ["0", "heard", "1", "heard"]


def test_what_is_left_when_nobody_listens_any_more_is_dropped(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    futures: list[Future[str]] = []
    submit = pool._executor.submit  # type: ignore[union-attr]
    monkeypatch.setattr(pool._executor, "submit", lambda *task: futures.append(submit(*task)) or futures[-1])

    async def ask() -> None:
        async with aclosing(pool.map(str, range(1000))) as answers:
            async for _ in answers:
                break

    asyncio.run(ask())
    assert len(futures) == 1000
    assert [future for future in futures if not (future.done() or future.running())] == []


def test_an_error_is_the_one_who_asked_s(pool: Pool) -> None:
    with pytest.raises(ValueError, match="no 0"):
        gathered(pool, _refuse, 1)
    assert gathered(pool, str, 1) == ["0"]


def _refuse(number: int) -> None:
    raise ValueError(f"no {number}")


def test_ctrl_c_is_not_for_them(pool: Pool) -> None:
    before = who(pool)
    for process in before:
        process.send_signal(signal.SIGINT)
    assert gathered(pool, str, 3) == ["0", "1", "2"]
    assert all(process.is_running() for process in before)


@pytest.mark.filterwarnings("ignore:A worker")
def test_where_one_is_killed_this_process_goes_on_alone() -> None:
    with two() as pool:
        victim, *_ = who(pool)
        victim.kill()
        assert gathered(pool, str, 5) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("how", ["in order", "killed"])
def test_none_is_left_when_this_process_ends(how: str) -> None:
    script = (
        "import sys; from simlib.look import Look; from simlib.processes import Pool; pool = Pool(2, Look); "
        "print(pool._first.result() or list(pool._executor._processes), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        workers = [psutil.Process(int(number)) for number in process.stdout.readline().strip("[]\n").split(",")]
        if how == "killed":
            process.kill()
        process.stdin.close()
        _, left = psutil.wait_procs(workers, timeout=PATIENCE)
        assert [one for one in left if one.status() != psutil.STATUS_ZOMBIE] == []
    assert len(workers) == 2
