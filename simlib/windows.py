"""How a limit counts: four ways, each a small state that is told the time.

Rule 1: nothing here knows a clock. `now` and `at` are arguments, in seconds, and never go back for one window.
Rule 2: nothing here knows SMTP. A window answers whether there is room (`fits`), or how long until there is (`wait`),
and is told what was let through, at a moment that may lie ahead (`take`). What was counted at t is free again at
t + period exactly.

A message that has to wait takes its place at the moment it will be let through; later ones queue behind it, so the
order is first come, first served.
"""

import math
from bisect import bisect_right, insort
from collections import deque
from contextlib import suppress
from heapq import heappop, heappush
from typing import Final

from simlib.provider import Limit

__all__ = ["INSTANT", "FixedWindow", "InUse", "SlidingWindow", "TokenBucket", "Window", "rescale", "window_of"]


INSTANT: Final = 1e-6
"""Seconds that are rounding of the clock, not time: t + period is reached within an instant of it."""


class SlidingWindow:
    """At most `limit` in any `period`, wherever that period begins: a log of what was taken when.

    Parameters
    ----------
    limit : float
        The amount that fits into one period.
    period : float
        Its length, in seconds.

    Examples
    --------
    >>> minute = SlidingWindow(limit=2, period=60)
    >>> minute.take(1, at=0), minute.take(1, at=10)
    (None, None)
    >>> minute.wait(1, now=15), minute.wait(1, now=60)
    (45, 0.0)
    """

    __slots__ = ("limit", "period", "sizes", "times", "used")

    def __init__(self, limit: float, period: float) -> None:
        self.limit = limit
        self.period = period
        self.times: deque[float] = deque()  # when something was taken, ascending
        self.sizes: deque[float] = deque()  # and how much
        self.used = 0.0

    def fits(self, amount: float, now: float) -> bool:
        """Whether there is room for `amount` more at the moment `now`."""
        times, free_from = self.times, now - self.period + INSTANT
        while times and times[0] <= free_from:
            times.popleft()
            self.used -= self.sizes.popleft()
        return self.used + amount <= self.limit

    def wait(self, amount: float, now: float) -> float:
        """Seconds from `now` until `amount` more fits: 0 if it fits now, inf if it never does."""
        if self.fits(amount, now):
            return 0.0
        excess = self.used + amount - self.limit
        if amount <= self.limit:
            for at, size in zip(self.times, self.sizes, strict=True):
                excess -= size
                if excess <= 0:
                    return at + self.period - now
        return math.inf

    def take(self, amount: float, at: float) -> None:
        """Count `amount` at the moment `at`."""
        times = self.times
        if not times or times[-1] <= at:
            times.append(at)
            self.sizes.append(amount)
        else:
            place = bisect_right(times, at)
            times.insert(place, at)
            self.sizes.insert(place, amount)
        self.used += amount

    def give_back(self, amount: float, at: float) -> None:
        """Undo a `take` of the same amount and moment, if it still counts."""
        with suppress(ValueError):
            self.sizes[self.times.index(at)] -= amount
            self.used -= amount


class FixedWindow:
    """At most `limit` in each window; the next window starts empty.

    Parameters
    ----------
    limit : float
        The amount that fits into one window.
    period : float
        Its length, in seconds.
    offset : float, optional
        Windows start whenever `now + offset` is a multiple of `period`; None: the first event after the end of a
        window starts the next one (Postfix's anvil).
    queues : bool
        Whether what is over the limit waits in line: it then fits nowhere before what waits already.

    Examples
    --------
    >>> minute = FixedWindow(limit=2, period=60, offset=0)
    >>> minute.take(2, at=50)
    >>> minute.wait(1, now=59), minute.wait(1, now=60)
    (1, 0.0)
    """

    __slots__ = ("limit", "offset", "period", "queues", "windows")

    def __init__(self, limit: float, period: float, offset: float | None, queues: bool = False) -> None:
        self.limit = limit
        self.period = period
        self.offset = offset
        self.queues = queues
        self.windows: list[list[float]] = []  # [start, used], the current one first

    def fits(self, amount: float, now: float) -> bool:
        """Whether there is room for `amount` more at the moment `now`."""
        return self.wait(amount, now) == 0.0

    def wait(self, amount: float, now: float) -> float:
        """Seconds from `now` until `amount` more fits: 0 if it fits now, inf if it never does."""
        windows, over_from = self.windows, now - self.period + INSTANT
        while windows and windows[0][0] <= over_from:
            windows.pop(0)
        if amount > self.limit:
            return math.inf
        if not windows:
            return 0.0
        start, used = windows[-1] if self.queues else windows[0]
        if not self.queues and start > now + INSTANT:
            return 0.0  # another limit holds what is counted there; the window of this moment is empty
        if used + amount <= self.limit:
            return max(0.0, start - now) if self.queues else 0.0
        return start + self.period - now

    def take(self, amount: float, at: float) -> None:
        """Count `amount` in the window of the moment `at`; 0 is an event that counts elsewhere, but starts a window."""
        if not amount and self.offset is None:
            if not self.windows or at >= self.windows[-1][0] + self.period - INSTANT:
                self.windows = [[at, 0]]
            return
        for window in reversed(self.windows):
            if self._lies_in(window, at):
                window[1] += amount
                return
        start = at
        if self.offset is not None:
            start = math.floor((at + INSTANT + self.offset) / self.period) * self.period - self.offset
        insort(self.windows, [start, amount])

    def give_back(self, amount: float, at: float) -> None:
        """Undo a `take` of the same amount and moment, if it still counts."""
        for window in self.windows:
            if self._lies_in(window, at):
                window[1] -= amount

    def _lies_in(self, window: list[float], at: float) -> bool:
        """Whether a moment belongs to a window: within an instant of its end, it belongs to the next one."""
        return window[0] - INSTANT <= at < window[0] + self.period - INSTANT


class TokenBucket:
    """`limit` tokens in a `period` trickle into a bucket that holds `burst`; each unit costs one.

    The state is one moment, the one at which the bucket is full again (the generic cell rate algorithm; ITU-T I.371,
    Annex A): exact where token counts would gather rounding errors.

    Parameters
    ----------
    limit : float
        Tokens that arrive in a period.
    period : float
        Its length, in seconds.
    burst : float
        What the bucket holds.

    Examples
    --------
    >>> bucket = TokenBucket(limit=60, period=60, burst=2)
    >>> bucket.take(2, at=0)
    >>> bucket.wait(1, now=0), bucket.wait(1, now=1)
    (1.0, 0.0)
    """

    __slots__ = ("burst", "each", "full_at", "taken")

    def __init__(self, limit: float, period: float, burst: float) -> None:
        self.each = period / limit
        self.burst = burst
        self.full_at = -math.inf
        self.taken: list[tuple[float, float]] = []  # since the bucket was last full

    def fits(self, amount: float, now: float) -> bool:
        """Whether there is room for `amount` more at the moment `now`."""
        return self.wait(amount, now) == 0.0

    def wait(self, amount: float, now: float) -> float:
        """Seconds from `now` until `amount` more fits: 0 if it fits now, inf if it never does."""
        if amount > self.burst:
            return math.inf
        wait = self.full_at + (amount - self.burst) * self.each - now
        return wait if wait > INSTANT else 0.0

    def take(self, amount: float, at: float) -> None:
        """Take `amount` tokens at the moment `at`."""
        if at >= self.full_at:
            self.taken.clear()
        self.taken.append((at, amount))
        self.full_at = max(self.full_at, at) + amount * self.each

    def give_back(self, amount: float, at: float) -> None:
        """Undo a `take` of the same amount and moment, if it still counts: what trickled in since has been lost."""
        if (at, amount) not in self.taken:
            return
        self.taken.remove((at, amount))
        again, self.taken, self.full_at = self.taken, [], -math.inf
        for earlier, size in again:
            self.take(size, earlier)


class InUse:
    """At most `limit` at once: what is taken lasts until it is given back.

    Parameters
    ----------
    limit : float
        How much there may be, in the unit of what is counted.

    Examples
    --------
    >>> three = InUse(limit=3)
    >>> three.take(3, at=0)
    >>> three.give_back(1, at=60)
    >>> three.fits(1, now=59), three.fits(1, now=60)
    (False, True)
    """

    __slots__ = ("endings", "limit", "now", "used")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.used = 0.0
        self.now = -math.inf
        self.endings: list[tuple[float, float]] = []

    def fits(self, amount: float, now: float) -> bool:
        """Whether there is room for `amount` more at the moment `now`."""
        self.now = now
        while self.endings and self.endings[0][0] <= now + INSTANT:
            self.used -= heappop(self.endings)[1]
        return self.used + amount <= self.limit

    def wait(self, amount: float, now: float) -> float:
        """Return 0 if `amount` more fits now, else inf: nobody knows when something ends."""
        return 0.0 if self.fits(amount, now) else math.inf

    def take(self, amount: float, at: float) -> None:
        """Count `amount` until it is given back."""
        self.used += amount

    def give_back(self, amount: float, at: float) -> None:
        """Free `amount` from the moment `at` on, which may lie ahead."""
        if at <= self.now:
            self.used -= amount
        else:
            heappush(self.endings, (at, amount))


Window = SlidingWindow | FixedWindow | TokenBucket | InUse


def rescale(window: Window, limit: Limit, factor: float, now: float) -> None:
    """Let a window hold another share of its limit's amount from `now` on; what was taken stays taken.

    At least one fits: a window for less than one message would be closed for ever, however slow the rate is meant.

    Parameters
    ----------
    window : Window
        A window of that limit.
    limit : Limit
        The limit; it has a period.
    factor : float
        The share, more than 0.
    now : float
        The time, in seconds.

    Raises
    ------
    ValueError
        If the limit has no period.

    Examples
    --------
    >>> minute = SlidingWindow(limit=10, period=60)
    >>> from simlib.provider import Provider
    >>> quota = Provider.load("google-mx").set({"quota": "10/min"}).limit("quota")
    >>> rescale(minute, quota, 0.5, now=0)
    >>> minute.fits(5, now=0), minute.fits(6, now=0)
    (True, False)
    """
    if limit.limit is None or limit.limit.period is None:
        raise ValueError(f"limit must have a period, got {limit.id}")
    amount = limit.limit.amount * factor
    if isinstance(window, TokenBucket):
        assert limit.burst is not None
        left = window.burst - max(0.0, window.full_at - now) / window.each  # these tokens stay
        window.each, window.burst = limit.limit.period / amount, max(1.0, limit.burst * factor)
        window.taken.clear()
        window.full_at = now + max(0.0, window.burst - left) * window.each
    elif not isinstance(window, InUse):
        window.limit = max(1.0, amount)


def window_of(limit: Limit, since_midnight: float, since_utc_midnight: float) -> Window:
    """Return an empty window of the kind that a limit asks for.

    Parameters
    ----------
    limit : Limit
        A limit that is not off.
    since_midnight, since_utc_midnight : float
        How long before second 0 the day began, on the provider's clock and in UTC; in seconds.

    Returns
    -------
    Window
        With nothing taken.

    Raises
    ------
    ValueError
        If the limit is off.
    """
    if limit.limit is None:
        raise ValueError(f"limit must not be off, got {limit.id}")
    amount, period = limit.limit.amount, limit.limit.period
    if period is None:
        return InUse(amount)
    if limit.window == "sliding":
        return SlidingWindow(amount, period)
    if limit.window == "token_bucket":
        assert limit.burst is not None
        return TokenBucket(amount, period, limit.burst)
    offset = {"clock": since_midnight, "utc_day": since_utc_midnight, "first_event": None}[limit.anchor or ""]
    return FixedWindow(amount, period, offset, limit.holds)
