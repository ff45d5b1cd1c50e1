"""The record of a simulation: what happened, one row an attempt."""

from dataclasses import dataclass, field

import numpy as np

from simlib.workload import Messages

__all__ = ["COLUMNS", "Attempts"]

Floats = np.typing.NDArray[np.float64]

COLUMNS = (
    *("message", "queue", "session", "transaction", "ip", "retry"),
    *("due", "released", "started", "ended", "held", "kind", "final"),
)


@dataclass(frozen=True, slots=True)
class Attempts:
    """What happened, one row an attempt, in the order of the decisions; times in seconds since second 0.

    Parameters
    ----------
    messages : Messages
        What was offered.
    rows : ndarray
        Shape ``(attempts, len(COLUMNS))``; `kind` and `queue` are positions in the lists below. An attempt that
        was still going on at the end has `ended` nan and isn't final; a message never offered has `started` nan.
    kinds : tuple
        ``(provider, code, enhanced, text, stage, limit)`` of each kind of reply; placeholders still in the text.
    queues : tuple
        ``(channel, provider, account)`` of each queue.
    ips : tuple of str
        The sending addresses.
    slowed : tuple of (int, float, float)
        While which queue had an IP that was slowed for being throttled: its number, begin and end; inf: it still is.
    unheard : dict of int to int
        For some messages, by number, how often a provider accepted one though its reply never came.
    """

    messages: Messages
    rows: Floats
    kinds: tuple[tuple[str, int, str, str, str, str], ...]
    queues: tuple[tuple[str, str, str], ...]
    ips: tuple[str, ...]
    slowed: tuple[tuple[int, float, float], ...] = ()
    unheard: dict[int, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Attempts: {len(self.rows):,} of {len(self.messages):,} messages>"

    def __getitem__(self, column: str) -> Floats:
        """One column of the rows."""
        return self.rows[:, COLUMNS.index(column)]
