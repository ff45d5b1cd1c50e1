"""How much a channel takes: answers by simulation to questions of size."""

import datetime as dt

from simlib.experiment import run
from simlib.scenario import Scenario
from simlib.summary import summarize

__all__ = ["largest_send"]

MOST = 2_000
"""Messages beyond which a single send isn't searched: twice the largest group e-mail of Sales Connect."""


def largest_send(scenario: Scenario, alternative: str, within: float = 900.0, as_of: dt.date | None = None) -> int:
    """Return the largest send that one sender's channel takes without a refusal, all of it accepted in time.

    Parameters
    ----------
    scenario : Scenario
        Whose channels, readings and limits apply; its arrivals, events and hours are left out.
    alternative : str
        The channel, paced and connected as it stands there.
    within : float, optional
        Seconds from the send until its last message has to be accepted.
    as_of : date, optional
        The date whose facts apply; the scenario's by default.

    Returns
    -------
    int
        Messages; `MOST` if even that many fit.

    Raises
    ------
    ValueError
        If `within` is not more than 0 and less than a day.

    Notes
    -----
    A send of `MOST` messages shows how many are taken in time; whether exactly so many fit is then tried, and the
    answer found by bisection if not. If n messages fit, so do fewer: one sender, nobody else on the channel.

    Examples
    --------
    >>> scenario = Scenario.build({
    ...     "name": "one-off", "duration": "1h",
    ...     "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": 1}}],
    ...     "alternatives": {"Office 365": {"channels": [{"name": "o", "tenants": ["us"], "to": "office365"}]}},
    ... })
    >>> largest_send(scenario, "Office 365")
    480
    """
    if not 0 < within < 86400:
        raise ValueError(f"within must be more than 0 and less than a day, got {within:g} s")
    as_of = as_of or scenario.date

    def sent(size: int) -> dict[str, float]:
        send = _send(scenario, alternative, size, within)
        return summarize(run(send, alternative, as_of=as_of), send, send.lanes(alternative, as_of))["sender"].numbers

    def fits(size: int) -> bool:
        numbers = sent(size)
        refused = numbers["deferred_attempts"] + numbers["rejected_attempts"]
        return numbers["accepted"] == size and not refused and numbers["finished_at"] <= within

    if fits(MOST):
        return MOST
    guess = int(sent(MOST)["on_time"])
    low, high = 0, MOST
    if 0 < guess < MOST:
        low, high = (guess, high) if fits(guess) else (low, guess)
        if low == guess and not fits(guess + 1):
            return guess
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _send(scenario: Scenario, alternative: str, size: int, within: float) -> Scenario:
    """Return the scenario of one sender's send at second 0, through the channel that carries the first tenant."""
    first = next(tenant.name for tenant in scenario.tenants if not tenant.neighbour)
    data = {key: value for key, value in scenario.data.items() if key not in ("events", "transient")}
    channels = data["alternatives"][alternative]["channels"]
    channel = next(channel for channel in channels if first in channel["tenants"])
    send = {"kind": "batches", "size": size}
    return Scenario.build(
        data
        | {
            "start": "00:00",
            "duration": f"{within + 60:g}s",
            "deadline": (dt.datetime.min + dt.timedelta(seconds=within)).time(),
            "tenants": [{"name": "sender", "senders": 1, "arrivals": send}],
            "alternatives": {alternative: {"channels": [{**channel, "tenants": ["sender"]}]}},
        }
    )
