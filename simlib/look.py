"""A quick look at channels: a few simulated days of each, as many as there is time for; `sendlab size` says more."""

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from simlib.estimate import wilson
from simlib.option import again
from simlib.question import TOOL, Candidate, from_team
from simlib.sender import Pace

__all__ = ["Asked", "Look", "Taken", "looks"]

Floats = np.typing.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose mail, by when, and how it is sent.

    Parameters
    ----------
    senders, per_sender : int
        How many people send, and how many messages each.
    group_email : int
        People who get a further message each from the first sender.
    start, deadline : str
        From when, until when: times of day.
    pace : str
        What is typed into the tool where it can be told a pace: ``safe`` (a setting that no limit can mind), ``tool``
        (its own example) or ``none`` (all at once).
    retry : str
        ``hand``: what is refused is left; ``again``: it is tried again by itself (`option.again`).
    """

    senders: int = 25
    per_sender: int = 40
    group_email: int = 1000
    start: str = "09:00"
    deadline: str = "17:30"
    pace: Literal["safe", "tool", "none"] = "safe"
    retry: Literal["hand", "again"] = "hand"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a channel took on one simulated day of the mail that was offered by the deadline.

    Parameters
    ----------
    accepted_at : array of shape (messages,)
        When each message was accepted, in seconds since the start, ascending; inf for those that never were.
    on_time, lost : int
        Messages accepted by the deadline; refused or given up.
    """

    accepted_at: Floats = field(repr=False)
    on_time: int
    lost: int

    @property
    def finished_at(self) -> float:
        """When the last message was accepted, in seconds since the start; inf if one never was."""
        return float(self.accepted_at[-1]) if len(self.accepted_at) else 0.0


@dataclass(frozen=True)
class Look:
    """The simulated days of one channel, so far.

    Parameters
    ----------
    candidate : Candidate
        The channel as asked, the pace typed in.
    setting : Pace or None
        What is typed into the tool; None where nothing is.
    as_of : date
        The date whose facts apply.
    seed : int
        Of the random streams.
    days : tuple of Taken
        What was simulated.

    Examples
    --------
    >>> look = looks(Asked(senders=2, per_sender=10, group_email=0), have={"office365": None})[0].more().more()
    >>> look.offered, look.done, [round(bound, 2) for bound in look.interval]
    (20, 2, [0.34, 1.0])
    """

    candidate: Candidate
    setting: Pace | None
    as_of: dt.date
    seed: int = 1
    days: tuple[Taken, ...] = ()

    def more(self) -> "Look":
        """Return the look with one more day simulated.

        Returns
        -------
        Look
            With the day of the next replication.
        """
        return self.having(self.day(len(self.days)))

    def day(self, replication: int) -> Taken:
        """Simulate a day: the same messages in the same replication on every channel.

        Parameters
        ----------
        replication : int
            Which one, from 0; the days that were simulated before don't matter.

        Returns
        -------
        Taken
            What the channel took.
        """
        fates = self.candidate.fates(self.seed, replication, self.as_of)
        accepted_at = np.sort(fates.accepted_at[fates.due])
        on_time = int(np.searchsorted(accepted_at, self.deadline, side="right"))
        return Taken(accepted_at, on_time, int(fates.lost[fates.due].sum()))

    def having(self, day: Taken) -> "Look":
        """Return the look with one more day, simulated by whom it may.

        Parameters
        ----------
        day : Taken
            That of the next replication.

        Returns
        -------
        Look
            With it.
        """
        return replace(self, days=(*self.days, day))

    @property
    def name(self) -> str:
        """The channel's name."""
        return self.candidate.name

    @property
    def deadline(self) -> float:
        """The deadline, in seconds since the start."""
        return self.candidate.deadline

    @cached_property
    def random(self) -> bool:
        """Whether days can differ at all."""
        return bool(self.candidate.random())

    @property
    def done(self) -> int:
        """On how many days everything was accepted by the deadline."""
        return sum(day.on_time == len(day.accepted_at) for day in self.days)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the probability that everything is; without any width where nothing is random."""
        if not self.random:
            return self.done / len(self.days), self.done / len(self.days)
        return wilson(self.done, len(self.days))

    @property
    def offered(self) -> int:
        """Messages offered by the deadline, on average."""
        return round(sum(len(day.accepted_at) for day in self.days) / len(self.days))

    @property
    def lost(self) -> int:
        """Messages refused or given up, on average."""
        return round(sum(day.lost for day in self.days) / len(self.days))

    @property
    def late(self) -> int:
        """Messages neither accepted by the deadline nor lost, on average."""
        return self.offered - self.lost - round(sum(day.on_time for day in self.days) / len(self.days))

    @property
    def last(self) -> float:
        """When the slowest day was over, in seconds since the start; inf if a message never was accepted."""
        return max((day.finished_at for day in self.days), default=math.inf)


def looks(
    asked: Asked, have: Mapping[str, int | None] | None = None, tool: str = TOOL, seed: int = 1
) -> tuple[Look, ...]:
    """Return a look at each channel, with no day simulated yet.

    Parameters
    ----------
    asked : Asked
        The question.
    have : mapping of str to int or None, optional
        The channels, and how many mailboxes or IPs of each; by default those that most teams could have.
    tool : str, optional
        The application that sends.
    seed : int, optional
        Of the random streams.

    Returns
    -------
    tuple of Look
        In the order of `have`.

    Raises
    ------
    ValueError
        For numbers, times, a channel or a tool that can't be.

    Examples
    --------
    >>> [(look.name, str(look.setting)) for look in looks(Asked())][:2]
    [('office365', '5 every 12 s'), ('gmail-oauth', '10 every 12 s')]
    """
    if not asked.start < asked.deadline:
        raise ValueError(f"deadline must come after the start at {asked.start}, got {asked.deadline}")
    found = from_team(asked.senders, asked.per_sender, asked.group_email, asked.start, asked.deadline, have, tool)
    as_of = max(candidate.scenario.date for candidate in found)
    return tuple(_as_asked(candidate, asked, as_of, seed) for candidate in found)


def _as_asked(candidate: Candidate, asked: Asked, as_of: dt.date, seed: int) -> Look:
    """Type the pace in, and say what becomes of refused mail."""
    habit = candidate.habit()
    settable = habit is not None and bool(habit.typed_into)
    keys: dict[str, Any] = {}
    setting = None
    if settable and habit is not None:
        setting = {"safe": candidate.setting(as_of), "tool": habit.pace, "none": None}[asked.pace]
        if setting is not None:
            keys["pace"] = {"batch": setting.batch, "wait": f"{setting.wait:g}s"}
        else:
            keys |= {"tool": None, "connections": habit.connections}  # all else stays as the tool has it
    if asked.retry == "again":
        keys |= again()
    return Look(candidate.change(keys) if keys else candidate, setting, as_of, seed)
