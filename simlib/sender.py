"""The sender's side without I/O: when a message may be offered, and when again.

Pace, retries, session reuse and respect for a quota are decided here, for the simulation and for the load test alike.
Like the receiver, this file knows no clock and no socket; it is told the time, in seconds since second 0.
"""

import math
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

from simlib.facts import Rate, duration
from simlib.reaction import Brake, Reaction

__all__ = ["NO_RETRY", "Due", "Ips", "Pace", "Queue", "Retry"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How one sender spaces its messages: a batch back to back, then nothing for a while.

    A batch takes what waits when it begins, up to `batch` messages; what comes later waits for the next one, which
    begins no sooner than `wait` after the first message of this one started.

    Parameters
    ----------
    batch : int
        Messages in a batch.
    wait : float
        Seconds from the start of a batch's first message to the next batch.

    Examples
    --------
    >>> Pace.parse("30/min")
    Pace(batch=1, wait=2.0)
    >>> Pace.parse({"batch": 25, "wait": "45s"})
    Pace(batch=25, wait=45.0)
    """

    batch: int
    wait: float

    def __post_init__(self) -> None:
        if self.batch < 1 or int(self.batch) != self.batch:
            raise ValueError(f"batch must be a whole number of at least 1, got {self.batch!r}")
        if not 0 < self.wait < math.inf:
            raise ValueError(f"wait must be longer than 0, got {self.wait!r}")

    @classmethod
    def parse(cls, value: object) -> "Pace":
        """Read ``{"batch": 25, "wait": "45s"}`` or an even rate such as ``"30/min"``.

        Parameters
        ----------
        value : object
            As TOML has it: a table or a rate; a pace stays itself.

        Returns
        -------
        Pace
            The batch in messages, the wait in seconds.

        Raises
        ------
        ValueError
            For anything else. ``"25/45s"`` is refused: it could mean 25 at once or one every 1.8 s.
        """
        if isinstance(value, Pace):
            return value
        if isinstance(value, dict) and set(value) == {"batch", "wait"} and type(value["batch"]) is int:
            return cls(value["batch"], duration(value["wait"]))
        if isinstance(value, str):
            rate = Rate.parse(value)
            _, _, period = value.partition("/")
            if period[0].isdigit():
                raise ValueError(
                    f"is ambiguous: write {{ batch = {rate.amount:g}, wait = '{period}' }} for batches, "
                    f"or an even rate per s, min, h or d; got {value!r}"
                )
            return cls(1, 1 / rate.per_second)
        raise ValueError(f"must look like '30/min' or {{ batch = 25, wait = '45s' }}, got {value!r}")

    def __str__(self) -> str:
        if self.batch == 1:
            return f"one every {self.wait:g} s"
        return f"{self.batch} every {self.wait:g} s"


@dataclass(frozen=True, slots=True)
class Retry:
    """When a deferred message is offered again, and when it is given up.

    Parameters
    ----------
    delays : tuple of float
        Seconds from the end of an attempt to the next; the last one repeats. Empty: one attempt only.
    lifetime : float
        Seconds after which a message is given up, counted from its creation.

    Examples
    --------
    >>> schedule = Retry((300, 600), lifetime=2000)
    >>> [schedule.again_at(retry, created_at=0, now=now) for retry, now in ((0, 0), (1, 300), (2, 900), (3, 1500))]
    [300, 900, 1500, None]
    """

    delays: tuple[float, ...] = ()
    lifetime: float = math.inf

    def again_at(self, retry: int, created_at: float, now: float) -> float | None:
        """Return when the attempt after number `retry` is due, None if the message is given up.

        Parameters
        ----------
        retry : int
            The number of the attempt before, from 0.
        created_at, now : float
            When the message was created, and when that attempt ended, in seconds.

        Returns
        -------
        float or None
            In seconds.
        """
        if not self.delays:
            return None
        at = now + self.delays[min(retry, len(self.delays) - 1)]
        return at if at <= created_at + self.lifetime else None


NO_RETRY = Retry()


class Due(NamedTuple):
    """A message that may start now: which, its how-manieth retry, and since when it waited for what.

    Parameters
    ----------
    message : int
        Its number.
    retry : int
        0 for the first attempt.
    due_at : float
        When it joined the queue: its creation, or the end of a retry wait; in seconds.
    released_at : float
        When the pace let it go; what it waited from then on, it waited for a connection.
    """

    message: int
    retry: int
    due_at: float
    released_at: float


@dataclass(slots=True)
class _Backlog:
    """What one sender has waiting for its pace."""

    waiting: deque[tuple[int, int, float]] = field(default_factory=deque)
    opens_at: float = -math.inf  # when the next batch may begin; inf until this one's first message has started
    led: bool = False  # a message is about to start that begins the wait
    announced: bool = False  # `opens_at` is among the queue's openings


class Queue:
    """Messages that wait for a connection, first come, first served: an account's, or those to one MX.

    The caller asks for the `next` message whenever a connection is free, and tells how it went with `settle`.

    Parameters
    ----------
    due_at : sequence of float
        When each message is due for the first time, in seconds; ascending.
    messages : sequence of int
        The numbers of those messages.
    senders : sequence of hashable, optional
        Who sends each; the pace is a sender's. One sender by default.
    pace : Pace, optional
        How each sender spaces its messages; none by default.
    retry : Retry
        What happens after a 4yz.
    heeds : collection of str
        Ids of the limits whose refusals, though 5yz, go away by themselves: retried as a 4yz is, and nothing else of
        the queue is offered before (`heed_quota`).
    messages_per_session : int, optional
        After how many messages a session ends; never by default.

    Examples
    --------
    >>> queue = Queue([0, 0, 0], [7, 8, 9], pace=Pace(batch=2, wait=45))
    >>> queue.next(0).message, queue.next(0).message, queue.next(0), queue.ready_at()
    (7, 8, None, 45)
    """

    def __init__(
        self,
        due_at: Sequence[float],
        messages: Sequence[int],
        senders: Sequence[Hashable] | None = None,
        pace: Pace | None = None,
        retry: Retry = NO_RETRY,
        heeds: frozenset[str] = frozenset(),
        messages_per_session: int | None = None,
    ) -> None:
        self.pace = pace
        self.retry = retry
        self.heeds = heeds
        self.messages_per_session = messages_per_session
        if len(due_at) != len(messages):
            raise ValueError(f"due_at and messages must be equally long, got {len(due_at)} and {len(messages)}")
        self._due_at = due_at
        self._messages = messages
        self._arrived = 0  # how many of them joined the line
        self._senders: dict[int, Hashable] = dict(zip(messages, senders, strict=True)) if senders is not None else {}
        self._retries: list[tuple[float, int, int, int, bool]] = []  # due, order, message, retry, after a quota
        self._order = 0
        self._ready: deque[Due] = deque()
        self._backlogs: dict[Hashable, _Backlog] = {}
        self._leads: dict[int, Hashable] = {}  # messages whose start begins their sender's wait
        self._openings: list[tuple[float, int, Hashable]] = []
        self._joins_at = due_at[0] if len(due_at) else math.inf  # when anything is due to join next
        self._paused_until = -math.inf

    def extend(
        self, due_at: Sequence[float], messages: Sequence[int], senders: Sequence[Hashable] | None = None
    ) -> None:
        """Add messages that are due later than those it has; the parameters are those of a new queue."""
        place = self._arrived
        self._due_at = [*self._due_at[place:], *due_at]
        self._messages = [*self._messages[place:], *messages]
        self._arrived = 0
        if senders is not None:
            self._senders.update(zip(messages, senders, strict=True))
        if self._due_at:
            self._joins_at = min(self._joins_at, self._due_at[0])

    def next(self, now: float) -> Due | None:
        """Return the message that may start now, None if there is none; the caller starts it at once."""
        if now < self._paused_until:
            return None
        if self._joins_at <= now:
            if self.pace is None and not self._ready and not self._retries:
                return self._next_arrival()
            self._join(now)
        if not self._ready:
            return None
        due = self._ready.popleft()
        if due.message in self._leads:
            self._start(self._leads.pop(due.message), now)
        return due

    def ready_at(self) -> float:
        """Return the earliest moment at which `next` may have a message, in seconds; inf if nothing waits."""
        if self._ready or self._joins_at < self._paused_until:
            return self._paused_until
        return self._joins_at

    def settle(self, due: Due, code: int, limit: str, created_at: float, now: float) -> bool:
        """Take note of how an attempt ended; True if that decided the message, else it is retried.

        Parameters
        ----------
        due : Due
            What `next` gave.
        code : int
            The reply code; 0 if the connection was lost.
        limit : str
            The limit that refused it, if one did.
        created_at, now : float
            When the message was created, and when the attempt ended; in seconds.
        """
        quota = code >= 500 and limit in self.heeds
        if (code >= 500 and not quota) or 200 <= code < 300:
            return True
        again_at = self.retry.again_at(due.retry, created_at, now)
        if again_at is None:
            return True
        self._order += 1
        # after a quota's refusal the message itself comes first again, before what joined while it waited
        heappush(self._retries, (again_at, self._order, due.message, due.retry + 1, quota))
        self._joins_at = min(self._joins_at, again_at)
        if quota:
            self._paused_until = max(self._paused_until, again_at)
        return False

    def session_is_full(self, messages: int) -> bool:
        """Whether a session that carried so many messages has to end. It ends, too, when `next` has nothing."""
        return self.messages_per_session is not None and messages >= self.messages_per_session

    def _next_arrival(self) -> Due:
        """Return the next arrival, which nothing stands before."""
        place, arrivals = self._arrived, self._due_at
        due_at = arrivals[place]
        self._arrived = place = place + 1
        self._joins_at = arrivals[place] if place < len(arrivals) else math.inf
        return Due(self._messages[place - 1], 0, due_at, due_at)

    def _join(self, now: float) -> None:
        """Let what is due by now join: the line itself, or where there is a pace, its sender's backlog."""
        arrivals, retries, openings, pace = self._due_at, self._retries, self._openings, self.pace
        place, count = self._arrived, len(arrivals)
        arrival_at = arrivals[place] if place < count else math.inf
        retry_at = retries[0][0] if retries else math.inf
        touched: dict[Hashable, _Backlog] = {}
        first: list[Due] = []
        while arrival_at <= now or retry_at <= now:
            retry = 0
            if retry_at <= arrival_at:
                due_at, _, message, retry, quota = heappop(retries)
                retry_at = retries[0][0] if retries else math.inf
                if quota:
                    first.append(Due(message, retry, due_at, due_at))
                    if pace is not None:
                        self._lead(message)
                    continue
            else:
                due_at, message = arrival_at, self._messages[place]
                place += 1
                arrival_at = arrivals[place] if place < count else math.inf
            if pace is None:
                self._ready.append(Due(message, retry, due_at, due_at))
                continue
            sender = self._senders.get(message)
            backlog = self._backlogs.get(sender)
            if backlog is None:
                backlog = self._backlogs[sender] = _Backlog()
            backlog.waiting.append((message, retry, due_at))
            touched[sender] = backlog
        self._arrived = place
        self._ready.extendleft(reversed(first))
        while openings and openings[0][0] <= now:
            sender = heappop(openings)[2]
            touched[sender] = self._backlogs[sender]
            touched[sender].announced = False
        for sender, backlog in touched.items():
            self._release(sender, backlog, now)
        self._joins_at = min(arrival_at, retry_at, openings[0][0] if openings else math.inf)

    def _release(self, sender: Hashable, backlog: _Backlog, now: float) -> None:
        """Begin a sender's next batch, if its wait is over."""
        assert self.pace is not None
        if backlog.opens_at > now:
            self._announce(sender, backlog)
            return
        waiting, opens_at = backlog.waiting, backlog.opens_at
        if waiting:
            self._lead(waiting[0][0])
        for _ in range(min(self.pace.batch, len(waiting))):
            message, retry, due_at = waiting.popleft()
            self._ready.append(Due(message, retry, due_at, due_at if due_at > opens_at else opens_at))

    def _lead(self, message: int) -> None:
        """Let a message begin the wait for the next batch, unless a batch is about to begin."""
        sender = self._senders.get(message)
        backlog = self._backlogs[sender]
        if not backlog.led:
            backlog.led, backlog.opens_at = True, math.inf
            self._leads[message] = sender

    def _start(self, sender: Hashable, now: float) -> None:
        """Begin a sender's wait for the next batch: the first message of one has started."""
        assert self.pace is not None
        backlog = self._backlogs[sender]
        backlog.led = False
        backlog.opens_at = now + self.pace.wait
        if backlog.waiting:
            self._announce(sender, backlog)

    def _announce(self, sender: Hashable, backlog: _Backlog) -> None:
        """Remember when a sender's next batch may begin, once that is known."""
        if backlog.opens_at < math.inf and not backlog.announced:
            backlog.announced = True
            self._order += 1
            heappush(self._openings, (backlog.opens_at, self._order, sender))
            self._joins_at = min(self._joins_at, backlog.opens_at)


class Ips:
    """The sending IPs of a channel: new sessions go to them in turn, each to one with a connection free.

    Parameters
    ----------
    count : int
        How many there are.
    connections : float
        How many sessions each may have at once; inf if only their sum is limited.
    reaction : Reaction, optional
        What happens to an IP once the provider throttles it; nothing by default.
    throttles : collection of str
        Ids of the limits whose 4yz it answers to.

    Examples
    --------
    >>> ips = Ips(2, connections=1)
    >>> ips.take(), ips.take()
    (0, 1)
    >>> ips.free(1)
    >>> ips.take()
    1
    """

    def __init__(
        self,
        count: int,
        connections: float = math.inf,
        reaction: Reaction | None = None,
        throttles: frozenset[str] = frozenset(),
    ) -> None:
        self.connections = connections
        self.throttles = throttles
        self.open = [0] * count
        self.gates = [] if reaction is None else [reaction.gate(connections) for _ in range(count)]
        self._turn = 0

    def opens_at(self, position: int = -1) -> float:
        """Return from when on a message may begin, in seconds: in a session from that position, else in a new one."""
        if not self.gates:
            return -math.inf
        if position >= 0:
            return self.gates[position].opens_at()
        free = [gate for gate, sessions in zip(self.gates, self.open, strict=True) if sessions < self.connections]
        return min((gate.opens_at() for gate in free), default=math.inf)

    def take(self, now: float = 0.0) -> int:
        """Return the position of the IP for the next session."""
        for _ in self.open:
            position = self._turn
            self._turn = (self._turn + 1) % len(self.open)
            if self.open[position] < self.connections and (not self.gates or self.opens_at(position) <= now):
                break
        self.open[position] += 1
        return position

    def free(self, position: int) -> None:
        """Take note that a session from there is over."""
        self.open[position] -= 1

    def begin(self, position: int, now: float) -> None:
        """Take note that a message begins, from that position."""
        if self.gates:
            self.gates[position].begin(now)

    def end(self, position: int, began: float, now: float, code: int, stage: str, limit: str) -> None:
        """Take note of how a message ended: which reply, at which stage, by which limit. Times in seconds."""
        if self.gates:
            throttled = 400 <= code < 500 and limit in self.throttles
            self.gates[position].end(began, now, code, stage, throttled)

    def slowed(self) -> list[tuple[float, float]]:
        """Return from when until when an IP was slowed for being throttled, in seconds; inf: it still is."""
        return [episode for gate in self.gates if isinstance(gate, Brake) for episode in gate.episodes]
