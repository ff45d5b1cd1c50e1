"""How much a channel takes: answers by simulation to questions of size."""

import datetime as dt

from simlib.experiment import run, summarize
from simlib.scenario import Scenario

__all__ = ["largest_send"]

MOST = 10_000
"""Messages beyond which a single send isn't searched: no tool offers more at once."""


def largest_send(scenario: Scenario, alternative: str, within: float = 900.0, as_of: dt.date | None = None) -> int:
    """Return the largest send that one sender's channel takes without a refusal, all of it accepted in time.

    Parameters
    ----------
    scenario : Scenario
        Whose channels, readings and limits apply; its arrivals are left out.
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

    Notes
    -----
    Found by bisection over simulated sends by one sender at second 0 with nobody else on the channel: if n messages
    fit, so do fewer.

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
    def fits(size: int) -> bool:
        send = _send(scenario, alternative, size, within)
        numbers = summarize(run(send, alternative, as_of=as_of), send, send.lanes(alternative, as_of))["sender"].numbers
        refused = numbers["deferred_attempts"] + numbers["rejected_attempts"]
        return numbers["accepted"] == size and not refused and numbers["finished_at"] <= within

    low, high = 0, 1
    while high <= MOST and fits(high):
        low, high = high, high * 2
    if high > MOST:
        high = MOST + 1
        if low < MOST and fits(MOST):
            return MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _send(scenario: Scenario, alternative: str, size: int, within: float) -> Scenario:
    """Return the scenario of one sender's send at second 0, through the channel that carries the first tenant."""
    first = next(tenant.name for tenant in scenario.tenants if not tenant.neighbour)
    data = {key: value for key, value in scenario.data.items() if key not in ("deadline", "events", "transient")}
    channels = data["alternatives"][alternative]["channels"]
    channel = next(channel for channel in channels if first in channel["tenants"])
    send = {"kind": "batches", "size": size}
    return Scenario.build(
        data
        | {
            "duration": f"{within + 60:g}s",
            "tenants": [{"name": "sender", "senders": 1, "arrivals": send}],
            "alternatives": {alternative: {"channels": [{**channel, "tenants": ["sender"]}]}},
        }
    )
