"""Which pace a limit allows: the batch and wait to type into a tool that can never exceed it."""

import math
from collections.abc import Sequence

from simlib.provider import Limit
from simlib.sender import Pace

__all__ = ["fastest", "most", "safe"]

WAITS = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1800, 3600)
"""The waits that people type, in seconds."""


def most(limit: Limit, wait: float, spread: float = 0.0) -> int:
    """Return the largest batch that can never exceed a limit when a new batch begins every `wait` seconds.

    Parameters
    ----------
    limit : Limit
        A limit on messages per period. Fixed and sliding windows allow the same: a batch may fall anywhere.
    wait : float
        Seconds from the first message of a batch to the next batch.
    spread : float, optional
        Seconds from the first message of a batch to its last: 0 if a batch goes back to back in an instant.

    Returns
    -------
    int
        Messages in a batch; 0 if even single messages would exceed the limit.

    Raises
    ------
    ValueError
        If the limit is off or has no period, or `wait` isn't longer than `spread`.

    Notes
    -----
    Any stretch of one period, its beginning excluded, can meet at most ``ceil((period + spread) / wait)`` batches;
    of a token bucket's, the first `burst` are free and the rest trickle in. With a `spread` the answer is safe, but a
    larger batch may be safe, too: it counts as if any of its messages could come at any moment of the spread.

    Examples
    --------
    >>> from simlib.provider import Provider
    >>> minute = Provider.load("office365").limit("messages-per-minute")
    >>> [most(minute, wait) for wait in (60, 45, 30, 20)]
    [30, 15, 15, 10]
    """
    if limit.limit is None or limit.limit.period is None:
        raise ValueError(f"limit must have a period, got {limit.id} = {limit.limit or 'off'}")
    if wait <= spread or wait <= 0:
        raise ValueError(f"wait must be longer than 0 and than the spread of {spread:g} s, got {wait:g}")
    amount, period = limit.limit.amount, limit.limit.period
    if limit.window == "token_bucket":
        assert limit.burst is not None
        return math.floor(min(limit.burst, (wait - spread) * amount / period))
    return math.floor(amount / math.ceil((period + spread) / wait))


def safe(limit: Limit, spread: float = 0.0) -> list[Pace]:
    """List the paces that can never exceed a limit: for each wait that people type, the largest batch.

    Parameters
    ----------
    limit : Limit
        A limit on messages per period.
    spread : float, optional
        Seconds that a batch takes from its first message to its last.

    Returns
    -------
    list of Pace
        Those for which a larger batch would exceed the limit and no shorter wait allows as much.

    Examples
    --------
    >>> from simlib.provider import Provider
    >>> minute = Provider.load("office365").limit("messages-per-minute")
    >>> [str(pace) for pace in safe(minute)][-3:]
    ['10 every 20 s', '15 every 30 s', '30 every 60 s']
    """
    found: list[Pace] = []
    for wait in WAITS:
        if wait <= spread:
            continue
        batch = most(limit, wait, spread)
        if batch >= 1 and (not found or batch > found[-1].batch):
            found.append(Pace(batch, float(wait)))
    return found


def fastest(limits: Sequence[Limit], transaction: float) -> Pace | None:
    """Return the fastest pace that can never exceed any of the limits, though a batch takes its time.

    Parameters
    ----------
    limits : sequence of Limit
        Limits on messages per period, all of which hold.
    transaction : float
        Seconds that one message of a batch takes at most on average: a batch of n is over after n times as long.

    Returns
    -------
    Pace or None
        Of equally fast ones the largest batch; None if no batch and wait that people type is safe.

    Notes
    -----
    A batch that goes out in an instant may be as large as the limit; one that takes time meets its predecessor's
    end in some stretch of one period, so that it has to be smaller (`most`).

    Examples
    --------
    >>> from simlib.provider import Provider
    >>> minute = Provider.load("office365").limit("messages-per-minute")
    >>> str(fastest([minute], transaction=1.0)), str(fastest([minute], transaction=0.0))
    ('5 every 12 s', '30 every 60 s')
    """
    found: Pace | None = None
    for wait in WAITS:
        batch = 0
        while (batch + 1) * transaction < wait and all(
            batch + 1 <= most(limit, wait, (batch + 1) * transaction) for limit in limits
        ):
            batch += 1
            if batch == LARGEST:
                break
        if batch and (found is None or batch * found.wait >= found.batch * wait):
            found = Pace(batch, float(wait))
    return found


LARGEST = 1000
"""Messages in a batch beyond which it isn't searched: Sales Connect's largest group e-mail."""
