"""The provider's clock, in seconds since second 0: the wall's, perhaps hurried, or one that is moved by hand.

Limits, held replies and tokens go by it. The network's own time and idle timeouts never do.
"""

import asyncio
import time
from heapq import heappop, heappush
from itertools import count

from simlib.windows import INSTANT

__all__ = ["Clock", "VirtualClock", "WallClock"]


class WallClock:
    """Real time, `scale` times as fast.

    Parameters
    ----------
    scale : float
        Seconds of the provider in a real second.
    """

    kind = "wall"

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self._zero = time.monotonic()

    def now(self) -> float:
        """Return the time, in seconds since second 0."""
        return (time.monotonic() - self._zero) * self.scale

    async def until(self, at: float) -> None:
        """Wait for a moment."""
        # a loop's timer may be a millisecond early
        while (left := at - self.now()) > INSTANT:
            await asyncio.sleep(left / self.scale)

    def reset(self) -> None:
        """Make this moment second 0."""
        self._zero = time.monotonic()


class VirtualClock:
    """Time that stands still until it is moved.

    Who waits for a moment wakes up at that moment exactly, in the order of the moments, whatever the step.

    Examples
    --------
    >>> async def example() -> tuple[float, float]:
    ...     clock = VirtualClock()
    ...     async def late() -> float:
    ...         await clock.until(30.5)
    ...         return clock.now()
    ...     waiting = asyncio.ensure_future(late())
    ...     await asyncio.sleep(0)
    ...     await clock.advance(60)
    ...     return await waiting, clock.now()
    >>> asyncio.run(example())
    (30.5, 60)
    """

    kind = "virtual"
    scale = 1.0

    def __init__(self) -> None:
        self._now = 0.0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = count()
        self._moving = asyncio.Lock()

    def now(self) -> float:
        """Return the time, in seconds since second 0."""
        return self._now

    async def until(self, at: float) -> None:
        """Wait for a moment."""
        if at > self._now:
            woken = asyncio.get_running_loop().create_future()
            heappush(self._waiting, (at, next(self._number), woken))
            await woken

    async def advance(self, to: float) -> None:
        """Move to a moment, and let everything that was due on the way happen at its own.

        Raises
        ------
        ValueError
            If the moment is past.
        """
        async with self._moving:
            if to < self._now:
                raise ValueError(f"seconds must not go back: it is {self._now:g}, got {to:g}")
            while self._waiting and self._waiting[0][0] <= to:
                at, _, woken = heappop(self._waiting)
                if not woken.done():  # else its client has gone away
                    self._now = max(self._now, at)
                    woken.set_result(None)
                    await asyncio.sleep(0)  # lets the one that was woken go on as far as it can
            self._now = to

    def reset(self) -> None:
        """Make this moment second 0; whoever waits goes on at once."""
        self._now = 0.0
        while self._waiting:
            woken = heappop(self._waiting)[2]
            if not woken.done():
                woken.set_result(None)


Clock = WallClock | VirtualClock
