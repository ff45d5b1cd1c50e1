"""What a sender does once a mailbox provider throttles its IP: silence, fewer connections, a slow pace.

The reactions of KumoMTA, of Postfix, and the one that Google asks for stand in ``simlib/reactions.toml``. Like all of
the sender's side this file knows no clock and no socket; it is told the time, in seconds since second 0.
"""

import math
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from simlib.facts import Fact, Frozen, Rate, Seconds, check, read_toml
from simlib.queue_manager import Destination, Feedback

__all__ = ["Brake", "Reaction", "Window", "named", "reactions"]

HANDSHAKE = ("CONNECT", "EHLO", "AUTH")
"""Stages at which a refusal is of the session, not of the message."""


class Reaction(Fact):
    """What a mail server does with one of its IPs at one provider, after certain replies.

    It is of the IP, so everybody's mail that goes out from there to that provider is slowed.

    Parameters
    ----------
    name, title : str
        Whose it is.
    answers_to : str
        ``throttling``: a 4yz by which the provider limits what an IP sends in some time. ``handshake``: a 4yz before
        MAIL, or a lost connection.
    per : str
        What is slowed: a sending IP's mail to one provider.
    silence : float
        Seconds after such a reply in which nothing begins.
    connections : int or None
        How many messages may be under way afterwards; as many as before by default.
    pace : Rate or None
        How many messages may begin; no limit by default.
    lasts : float or None
        Seconds after the last such reply until all is as before; with `step`, until there are enough connections.
    step : int
        How many connections more a message brings that is accepted after the silence and began after the last step.
    initial : int or None
        Postfix's ``initial_destination_concurrency``: with it the connections go by feedback, not by the above.
    feedback : str
        ``destination_concurrency_positive_feedback`` and ``…_negative_feedback``.
    failed_cohort_limit : int
        ``destination_concurrency_failed_cohort_limit``.
    resumes_after : float
        For how long nothing is sent to a destination that was found dead, in seconds.

    Examples
    --------
    >>> [str(named("kumomta").pace), named("google").silence, named("postfix").initial]
    ['1/min', 600.0, 5]
    """

    name: str
    title: str
    answers_to: Literal["throttling", "handshake"]
    per: Literal["ip"] = "ip"
    silence: Seconds = 0.0
    connections: int | None = Field(default=None, ge=1)
    pace: Annotated[Rate | None, BeforeValidator(lambda value: None if value is None else Rate.parse(value))] = None
    lasts: Seconds | None = None
    step: int = Field(default=0, ge=0)
    initial: int | None = Field(default=None, ge=1)
    feedback: str = "1"
    failed_cohort_limit: int = Field(default=1, ge=0)
    resumes_after: Seconds = 0.0

    @model_validator(mode="after")
    def _ends(self) -> "Reaction":
        if self.pace is not None and self.pace.period is None:
            raise ValueError(f"pace must be per s, min, h or d, got {self.pace}")
        if self.initial is None and self.lasts is None and not self.step:
            raise ValueError("a reaction ends: it has `lasts`, `step` or `initial`")
        Feedback.parse(self.feedback)
        return self

    def gate(self, connections: float) -> "Gate":
        """Return the state of an IP that has so many connections at most and has met nothing yet.

        Parameters
        ----------
        connections : float
            Messages under way at once, at most.

        Returns
        -------
        Gate
            Closed to nothing yet.
        """
        return Brake(self, connections) if self.initial is None else Window(self, connections)


class Brake:
    """An IP at one provider, under a reaction that slows it for a while.

    Parameters
    ----------
    reaction : Reaction
        Without `initial`.
    connections : float
        How many it may have at other times.

    Examples
    --------
    >>> ip = Brake(named("kumomta"), connections=5)
    >>> ip.begin(0.0)
    >>> ip.end(0.0, 2.0, 421, "MAIL", throttled=True)
    >>> ip.begin(2.0)
    >>> ip.end(2.0, 3.0, 250, "EOD", throttled=False)
    >>> ip.opens_at(), ip.slowed_until
    (62.0, 5402.0)
    """

    __slots__ = (
        *("allowed", "busy", "connections", "episodes", "freed_at", "next_at", "quiet_until", "reaction"),
        *("slowed_until", "stepped_at"),
    )

    def __init__(self, reaction: Reaction, connections: float) -> None:
        self.reaction = reaction
        self.connections = connections
        self.allowed = connections  # messages that may be under way while it is slowed
        self.busy = 0  # messages that are
        self.episodes: list[tuple[float, float]] = []  # while it was slowed: from when until when
        self.slowed_until = self.quiet_until = self.next_at = self.freed_at = self.stepped_at = -math.inf

    def opens_at(self) -> float:
        """Return from when on another message may begin, in seconds; inf: not before one under way has ended.

        Returns
        -------
        float
            In seconds since second 0.
        """
        slowly = max(self.quiet_until, self.next_at, self.freed_at) if self.busy < self.allowed else math.inf
        return min(slowly, self.slowed_until)

    def begin(self, now: float) -> None:
        """Take note that a message begins.

        Parameters
        ----------
        now : float
            In seconds since second 0.
        """
        self.busy += 1
        if now < self.slowed_until and self.reaction.pace is not None:
            self.next_at = now + 1 / self.reaction.pace.per_second

    def end(self, began: float, now: float, code: int, stage: str, throttled: bool) -> None:
        """Take note of how a message ended that began at `began`: which reply at which stage, and whether a throttle.

        Times in seconds; `code` 0: no reply.

        Parameters
        ----------
        began, now : float
            When the message began and when it ended, in seconds since second 0.
        code : int
            The reply's; 0: no reply.
        stage : str
            Of which command.
        throttled : bool
            Whether a limit spoke.
        """
        reaction, before = self.reaction, self.slowed_until
        if self.busy >= self.allowed:
            self.freed_at = now
        self.busy -= 1
        if throttled if reaction.answers_to == "throttling" else _no_handshake(code, stage):
            self.allowed = self.connections if reaction.connections is None else reaction.connections
            self.quiet_until = self.stepped_at = now + reaction.silence
            self.slowed_until = math.inf if reaction.lasts is None else now + reaction.lasts
        elif reaction.step and now < self.slowed_until and 200 <= code < 300 and began >= self.stepped_at:
            self.allowed, self.stepped_at = self.allowed + reaction.step, now
            if self.allowed >= self.connections:
                self.slowed_until = now
        if self.slowed_until != before:
            began_at = now if now >= before else self.episodes.pop()[0]
            self.episodes.append((began_at, self.slowed_until))


class Window:
    """An IP at one provider, under Postfix's feedback: `queue_manager.Destination`, told the time.

    Parameters
    ----------
    reaction : Reaction
        With `initial`.
    connections : float
        The most that is ever allowed.

    Examples
    --------
    >>> ip = Window(named("postfix"), connections=20)
    >>> for _ in range(5):
    ...     ip.begin(0.0)
    >>> for _ in range(5):
    ...     ip.end(0.0, 1.0, 421, "CONNECT", throttled=False)
    >>> ip.destination.dead, ip.opens_at()
    (True, 301.0)
    """

    __slots__ = ("_freed_at", "_resumes_at", "destination", "reaction")

    def __init__(self, reaction: Reaction, connections: float) -> None:
        assert reaction.initial is not None
        self.reaction = reaction
        feedback = Feedback.parse(reaction.feedback)
        limit = 0 if math.isinf(connections) else int(connections)
        self.destination = Destination(
            limit, reaction.initial, feedback, feedback, failed_cohort_limit=reaction.failed_cohort_limit
        )
        self._freed_at = self._resumes_at = -math.inf

    def opens_at(self) -> float:
        """Return from when on another message may begin, in seconds; inf: not before one under way has ended.

        Returns
        -------
        float
            In seconds since second 0.
        """
        there = self.destination
        if there.dead:
            return math.inf if there.busy else self._resumes_at
        return self._freed_at if there.busy < there.window else math.inf

    def begin(self, now: float) -> None:
        """Take note that a message begins.

        Parameters
        ----------
        now : float
            In seconds since second 0.
        """
        del now
        if self.destination.dead:
            self.destination.resume()
            self._freed_at = self._resumes_at
        began = self.destination.start()
        assert began

    def end(self, began: float, now: float, code: int, stage: str, throttled: bool) -> None:
        """Take note of how a message ended: which reply at which stage. Times in seconds; `code` 0: no reply.

        Parameters
        ----------
        began, now : float
            When the message began and when it ended, in seconds since second 0.
        code : int
            The reply's; 0: no reply.
        stage : str
            Of which command.
        throttled : bool
            Whether a limit spoke.
        """
        del began, throttled
        there = self.destination
        dead = there.dead
        if there.busy >= there.window:
            self._freed_at = now
        if _no_handshake(code, stage):
            there.failed()
        else:
            there.succeeded()
        if there.dead and not dead:
            self._resumes_at = now + self.reaction.resumes_after


Gate = Brake | Window


def _no_handshake(code: int, stage: str) -> bool:
    """Whether no session came about, or it broke."""
    return code == 0 or (400 <= code < 500 and stage in HANDSHAKE)


class _Reactions(Frozen):
    reactions: tuple[Reaction, ...]


def named(name: str) -> Reaction:
    """Return a reaction of the facts; a ValueError says which there are.

    Parameters
    ----------
    name : str
        A name in ``reactions.toml``.

    Returns
    -------
    Reaction
        As ``reactions.toml`` has it.

    Raises
    ------
    ValueError
        If there is no such reaction.

    Examples
    --------
    >>> named("kumomta").name
    'kumomta'
    """
    known = {one.name: one for one in reactions()}
    if name not in known:
        raise ValueError(f"unknown reaction {name!r} (there are: none, {', '.join(known)})")
    return known[name]


@cache
def reactions() -> tuple[Reaction, ...]:
    """Return the reactions of the facts.

    Examples
    --------
    >>> [one.name for one in reactions()]
    ['kumomta', 'google', 'postfix']
    """
    path = Path(str(files("simlib") / "reactions.toml"))
    return check(_Reactions, read_toml(path), path.name).reactions
