"""Processes that work beside this one, on every processor; Ctrl-C is told to this one alone, and they end with it."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from functools import cache
from typing import TypeVar

__all__ = ["Pool", "deaf_children"]

Task = TypeVar("Task")
Found = TypeVar("Found")

MOST = 4
"""Processes of a pool: with more, an answer's days would be simulated sooner than its picture is drawn."""


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Let processes that are started meanwhile ignore Ctrl-C: we end them, and one of us reports it.

    Yields
    ------
    None
        Outside the main thread nothing is changed: only that one may say what a signal does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Pool:
    """Processes that are there for whoever asks, one after the other: `Pool.shared` starts them.

    Parameters
    ----------
    workers : int
        How many; with one, this process works itself, and none is started.
    kind : type
        What will be asked: a class whose methods they call. They load its module as they start.
    """

    def __init__(self, workers: int, kind: type) -> None:
        self._executor: Executor | None = None
        if workers > 1:
            from joblib.externals.loky import ProcessPoolExecutor

            with deaf_children():
                begin = (os.getpid(), kind)
                self._executor = ProcessPoolExecutor(workers, timeout=None, initializer=_begin, initargs=begin)
                self._first = self._executor.submit(int)

    @staticmethod
    @cache
    def shared(kind: type, jobs: int | None = None) -> "Pool":
        """Return the pool of this process, started when it is first asked for.

        Parameters
        ----------
        kind : type
            A class whose methods they will be asked to call.
        jobs : int, optional
            How many processes; by default as many as there are processors, and not more than `MOST`.

        Returns
        -------
        Pool
            The same for the same arguments.

        Examples
        --------
        >>> Pool.shared(int, 1) is Pool.shared(int, 1), Pool.shared(int, 1).ready
        (True, False)
        """
        from joblib import cpu_count

        return Pool(min(MOST, cpu_count()) if jobs is None else jobs, kind)

    @property
    def ready(self) -> bool:
        """Whether one of them has started, and none has died."""
        return self._executor is not None and self._first.done()

    async def map(self, function: Callable[[Task], Found], tasks: Iterable[Task]) -> AsyncGenerator[Found, None]:
        """Yield what a function returns for each task, in their order; who asks listens to others in between.

        Until the processes are ready, and where one of them was killed, this one works itself, a task at a time. What
        is left is dropped when the iterator is closed.

        Parameters
        ----------
        function : callable
            Of one task; both can be pickled.
        tasks : iterable
            What it is asked.

        Yields
        ------
        object
            What it returned.
        """
        rest = deque(tasks)
        while rest:
            if self._executor is None or not self.ready:
                yield function(rest.popleft())
                await asyncio.sleep(0)  # others are heard
                continue
            try:
                futures = [self._executor.submit(function, task) for task in rest]
                try:
                    for future in futures:
                        found = await asyncio.wrap_future(future)
                        rest.popleft()
                        yield found
                finally:
                    for future in futures:
                        future.cancel()
            except BrokenExecutor:
                self._executor = None


def _begin(parent: int, kind: type) -> None:
    """Make a new process deaf to Ctrl-C, and let it end should its parent be killed; naming `kind` loads it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
