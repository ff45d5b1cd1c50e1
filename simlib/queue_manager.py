"""Postfix's queue manager without I/O: how many deliveries a destination gets at once, and when a message comes again.

The rules are those of SCHEDULER_README and postconf(5). They are here to be held against what Postfix publishes and
does, and as the reaction to refused connections that most relays have.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from statistics import fmean, pstdev
from typing import Literal

__all__ = ["Backoff", "Course", "Destination", "Feedback", "deliver"]


@dataclass(frozen=True, slots=True)
class Feedback:
    """By how much one delivery moves a destination's concurrency.

    Parameters
    ----------
    amount : float
        From 0 to 1.
    over : str
        What it is divided by: nothing, ``concurrency`` or ``sqrt_concurrency`` (which Postfix 3.7 doesn't take: it
        warns, and uses 1).

    Examples
    --------
    >>> Feedback.parse("1/concurrency").at(5), Feedback.parse("1/8").at(5), Feedback.parse("1/sqrt_concurrency").at(4)
    (0.2, 0.125, 0.5)
    """

    amount: float = 1.0
    over: Literal["", "concurrency", "sqrt_concurrency"] = ""

    def __post_init__(self) -> None:
        if not 0 <= self.amount <= 1:
            raise ValueError(f"feedback must be from 0 to 1, got {self.amount!r}")

    @classmethod
    def parse(cls, value: str) -> "Feedback":
        """Read it as main.cf has it: ``"1"``, ``"1/8"``, ``"1/concurrency"`` or ``"1/sqrt_concurrency"``.

        Raises
        ------
        ValueError
            For anything else.
        """
        amount, _, over = value.partition("/")
        try:
            if over == "concurrency":
                return cls(float(amount), "concurrency")
            if over == "sqrt_concurrency":
                return cls(float(amount), "sqrt_concurrency")
            return cls(float(amount) / float(over) if over else float(amount))
        except (ValueError, ZeroDivisionError):
            known = "'1', '1/8', '1/concurrency' or '1/sqrt_concurrency'"
            raise ValueError(f"feedback must look like {known} and be from 0 to 1, got {value!r}") from None

    def at(self, concurrency: int) -> float:
        """Return the feedback of one delivery at that concurrency."""
        if self.over == "concurrency":
            return self.amount / concurrency
        return self.amount / math.sqrt(concurrency) if self.over else self.amount


@dataclass(slots=True)
class Destination:
    """How many deliveries may be under way to one destination at once; it learns from how they end.

    Positive feedback takes effect at the end of a sequence of deliveries that went well, negative feedback at the
    beginning of one that did not. A destination where failures fill `failed_cohort_limit` cohorts (as many as are
    allowed at once) with no success between them is dead until `resume`.

    Parameters
    ----------
    limit : int
        The most that is ever allowed (``default_destination_concurrency_limit``); 0: no such limit.
    initial : int
        What it begins with (``initial_destination_concurrency``).
    positive, negative : Feedback
        Of a delivery that found the server, and of one whose connection or handshake failed.
    failed_cohort_limit : int
        0: never dead.
    rounded : bool
        Whether a step is taken as soon as half a feedback would complete it, as the code of today does: a failure with
        feedback 1 then takes two places after a success, and a server that turns surplus connections away defers a
        third of the mail, not half. The scheduler that SCHEDULER_README measured in 2007, and its pseudocode, take a
        step when it is complete.

    Attributes
    ----------
    window : int
        How many are allowed now; 0 if the destination is dead.
    busy : int
        How many are under way.
    success, failure, failed_cohorts : float
        Feedback that has not yet moved the window, and cohorts of failures since the last success.

    References
    ----------
    Postfix, SCHEDULER_README, "Pseudocode for the Postfix 2.5 concurrency scheduler", and ``qmgr_queue.c``.

    Examples
    --------
    >>> one = Destination(positive=Feedback.parse("1/concurrency"), initial=2)
    >>> one.start(), one.start(), one.start()
    (True, True, False)
    >>> one.succeeded(), one.window, one.succeeded(), one.window
    (None, 2, None, 3)
    """

    limit: int = 20
    initial: int = 5
    positive: Feedback = Feedback()
    negative: Feedback = Feedback()
    failed_cohort_limit: int = 1
    rounded: bool = True
    window: int = 0
    busy: int = 0
    success: float = 0.0
    failure: float = 0.0
    failed_cohorts: float = 0.0

    def __post_init__(self) -> None:
        if self.limit < 0 or self.initial < 1:
            raise ValueError(f"limit must be at least 0 and initial at least 1, got {self.limit} and {self.initial}")
        if self.limit:
            self.initial = min(self.initial, self.limit)
        self.window = self.initial

    @property
    def dead(self) -> bool:
        """Whether nothing is delivered there until `resume`."""
        return self.window == 0

    def start(self) -> bool:
        """Whether one more delivery may begin; if so, it has."""
        if self.busy >= self.window:
            return False
        self.busy += 1
        return True

    def succeeded(self) -> None:
        """Take note of a delivery that found the server, whatever that said about the message."""
        self.failed_cohorts = 0.0
        if self.dead:
            self.resume()
        elif (not self.limit or self.window < self.limit) and self.window < self.busy + self.initial:
            feedback = self.positive.at(self.window)
            self.success += feedback
            while self.success + self._margin(feedback) >= 1:
                self.window += 1
                self.success -= 1
                self.failure = 0.0
            if self.limit:
                self.window = min(self.window, self.limit)
        self.busy -= 1

    def failed(self) -> None:
        """Take note of a delivery whose connection or handshake failed."""
        if not self.dead:
            self.failed_cohorts += 1 / self.window
            if 0 < self.failed_cohort_limit <= self.failed_cohorts:
                self.window = 0
        if not self.dead:
            feedback = self.negative.at(self.window)
            self.failure -= feedback
            while self.failure - self._margin(feedback) < 0:
                self.window -= 1
                self.success = 0.0
                self.failure += 1
            self.window = max(1, self.window)
        self.busy -= 1

    def resume(self) -> None:
        """Let a dead destination live again: Postfix does after ``minimal_backoff_time``."""
        if self.dead:
            self.window = self.busy or self.initial
            self.success = self.failure = 0.0

    def _margin(self, feedback: float) -> float:
        return feedback / 2 if self.rounded else 0.0


@dataclass(frozen=True, slots=True)
class Course:
    """What became of a queue of deliveries to one server.

    Parameters
    ----------
    delivered, deferred : int
        In deliveries.
    window_mean, window_sd : float
        Of the concurrency that was allowed, over the deliveries' ends.
    """

    delivered: int
    deferred: int
    window_mean: float
    window_sd: float

    @property
    def deferred_share(self) -> float:
        """Share of the deliveries that were deferred, from 0 to 1."""
        return self.deferred / (self.delivered + self.deferred)


def deliver(
    destination: Destination,
    deliveries: int,
    server_limit: int,
    handshake: Callable[[], float],
    latency: Callable[[], float],
) -> Course:
    """Offer deliveries, once each, to a server that answers 421 while it has as many connections as it allows.

    Parameters
    ----------
    destination : Destination
        The client's side.
    deliveries : int
        How many wait, from the beginning on.
    server_limit : int
        Connections that the server allows at once.
    handshake : callable
        Draws how long it takes from one step to the next, in seconds: until the server sees a new connection, and
        until the client knows how a delivery ended.
    latency : callable
        Draws how long the server keeps a delivery that it takes, in seconds.

    Returns
    -------
    Course
        What is left when the destination is found dead counts as deferred.

    Examples
    --------
    >>> gentle = Feedback.parse("1/concurrency")
    >>> deliver(Destination(positive=gentle, negative=gentle), 1000, 5, lambda: 0.001, lambda: 1.0).deferred_share
    0.165
    """
    events: list[tuple[float, int, str]] = []
    order = open_connections = delivered = deferred = 0
    waiting = deliveries
    now = 0.0
    windows: list[int] = []

    def later(delay: float, what: str) -> None:
        nonlocal order
        order += 1
        heappush(events, (now + delay, order, what))

    while True:
        while waiting and destination.start():
            waiting -= 1
            later(handshake(), "connects")
        if not events:
            break
        now, _, what = heappop(events)
        if what == "connects" and open_connections < server_limit:
            open_connections += 1
            later(latency(), "leaves")
        elif what == "connects":
            later(handshake(), "refused")
        elif what == "leaves":
            open_connections -= 1
            later(handshake(), "done")
        elif what == "done":
            delivered += 1
            destination.succeeded()
            windows.append(destination.window)
        else:
            deferred += 1
            destination.failed()
            windows.append(destination.window)
            if destination.dead:
                deferred += waiting
                waiting = 0
    return Course(delivered, deferred, fmean(windows), pstdev(windows))


@dataclass(frozen=True, slots=True)
class Backoff:
    """When a deferred message is tried again.

    It waits as long as it has been in the queue, at least `minimal` and at most `maximal`, and from then on for the
    next look at the queue. Postfix itself counts whole seconds and takes what is due within the next one, so that it
    may be a second or two before these times.

    Parameters
    ----------
    minimal, maximal : float
        ``minimal_backoff_time`` and ``maximal_backoff_time``, in seconds.
    queue_run_delay : float
        From one look at the queue to the next, in seconds.
    lifetime : float
        ``maximal_queue_lifetime``, in seconds: what fails after that is given up.

    References
    ----------
    postconf(5); ``qmgr_active.c``.

    Examples
    --------
    >>> [at for at, _ in zip(Backoff(queue_run_delay=0).tries(), range(8))]
    [0.0, 300.0, 600.0, 1200.0, 2400.0, 4800.0, 8800.0, 12800.0]
    """

    minimal: float = 300.0
    maximal: float = 4000.0
    queue_run_delay: float = 300.0
    lifetime: float = 5 * 86400.0

    def __post_init__(self) -> None:
        if not 0 < self.minimal <= self.maximal:
            raise ValueError(f"minimal must be above 0 and at most maximal={self.maximal}, got {self.minimal}")
        if not self.queue_run_delay >= 0:
            raise ValueError(f"queue_run_delay must be at least 0, got {self.queue_run_delay}")

    def due_at(self, created_at: float, failed_at: float) -> float:
        """Return from when on the next look at the queue takes the message, in seconds."""
        return failed_at + min(max(failed_at - created_at, self.minimal), self.maximal)

    def tries(self, first_run: float = 0.0, took: float = 0.0) -> Iterator[float]:
        """Yield when a message is tried that comes at second 0 and always fails.

        Parameters
        ----------
        first_run : float
            When the queue is looked at for the first time, in seconds.
        took : float
            How long a try takes, in seconds.

        Yields
        ------
        float
            In seconds, until the message is given up.
        """
        at = 0.0
        while at + took <= self.lifetime:
            yield at
            at = self._next_run(self.due_at(0.0, at + took), first_run)
        yield at

    def _next_run(self, due_at: float, first_run: float) -> float:
        if not self.queue_run_delay:
            return due_at
        return first_run + math.ceil((due_at - first_run) / self.queue_run_delay) * self.queue_run_delay
