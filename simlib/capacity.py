"""How much a channel takes in the long run: the largest steady rate that it accepts in time."""

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from simlib.channel import Lane
from simlib.estimate import Estimate
from simlib.experiment import Progress, Result, run
from simlib.scenario import Scenario
from simlib.summary import outcomes
from simlib.workload import Messages, Tenant, stream

__all__ = ["Capacity", "capacities_of", "capacity"]

MOST_REFUSED = 0.01
"""Share of the messages that may be refused or given up."""
MOST_LATE = 0.05
"""Share of the messages that may take `WITHIN` or longer, or forever: the 95th percentile of the delay is below it."""
WITHIN = 900.0
"""Seconds."""
PRECISION = 0.005
"""Relative width at which the search for a run's capacity ends."""
WATCHED = 4 * 3600.0
"""Seconds that a run is watched for, or the longest window of a limit if that is longer."""
TRANSIENT = 3600.0
"""Seconds before that, or the longest window: by then a limit has forgotten how the run began."""
BEYOND = 1.1
"""How far above what limits, pace and connections let through the search begins: a run has its luck."""
MOST_MESSAGES = 1_000_000
"""Messages in a run beyond which a rate is not looked into: it would take minutes each time."""
REPLICATIONS = 10
"""Runs of each channel that a comparison is content with."""
STAND_FOR_ALL = 5
"""Accounts that are simulated where accounts have nothing in common: capacity is so much for each."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """A channel's capacity.

    Parameters
    ----------
    channel : str
        Its name.
    per_hour : Estimate
        In messages an hour; no number if `why` says so.
    why : str
        Why there is no number; else empty.
    """

    channel: str
    per_hour: Estimate
    why: str = ""

    def __str__(self) -> str:
        if self.why:
            return f"{self.channel} unknown, {self.why}"
        mean, low, high = self.per_hour.mean or 0.0, self.per_hour.low, self.per_hour.high
        interval = "" if low is None or high is None else f" ({max(0.0, low):,.0f} to {high:,.0f})"
        return f"{self.channel} {mean:,.0f}{interval}"

    def json(self) -> dict[str, Any]:
        """Return it as an estimate, with `why` where there is none."""
        return {**self.per_hour.json(), **({"why": self.why} if self.why else {})}


def capacity(
    scenario: Scenario,
    alternative: str,
    channel: str,
    replications: int = 10,
    seed: int = 1,
    as_of: dt.date | None = None,
    progress: Progress | None = None,
) -> Capacity:
    """Return the largest steady rate of which at most 1 % is refused, with 95 % accepted within 15 minutes.

    Parameters
    ----------
    scenario : Scenario
        The question. Its tenants' shares and senders count, and what their messages are like; not when they send.
    alternative, channel : str
        Which channel. It is alone: other channels to the same provider send nothing.
    replications, seed : int
        How many runs, of which random streams.
    as_of : date, optional
        The date whose facts apply; the scenario's by default.
    progress : callable, optional
        Told how many replications are done, of how many.

    Returns
    -------
    Capacity
        The mean of the replications' own capacities, with its t interval.

    Raises
    ------
    ValueError
        If there is no such channel, or `replications` is less than 1.

    Notes
    -----
    Each replication is searched by bisection under common random numbers: one Poisson process is drawn at the highest
    rate that limits, pace and connections could let through, and thinned to the rate looked at, so that a lower rate
    offers some of the same messages, at the same moments. A run begins with 15 minutes' worth of messages waiting: a
    rate that a channel can't sustain is then too late at once, instead of after days. What is counted was created
    after the transient, of one longest window, and 15 minutes before the end. Senders of a tenant send equally much.
    A queue that is only just stable drains within the run or not by luck, so the answer errs low: by about 1 % where
    a connection or a pace is what binds, by 2 % where many accounts' are.

    References
    ----------
    Law, *Simulation Modeling and Analysis*, 5th ed. (2015), §11.2 (common random numbers); Lewis and Shedler,
    "Simulation of nonhomogeneous Poisson processes by thinning", *Naval Research Logistics Quarterly* 26 (1979).

    Examples
    --------
    >>> scenario = Scenario.build({
    ...     "name": "a message every 20 s, at best", "duration": "1h",
    ...     "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": 80}}],
    ...     "alternatives": {"MX": {"channels": [
    ...         {"name": "mx", "tenants": ["us"], "to": "generic-mx", "connections": 1, "service": "20s"}
    ...     ]}},
    ... })
    >>> 165 < capacity(scenario, "MX", "mx").per_hour.mean < 180
    True
    """
    if replications < 1:
        raise ValueError(f"replications must be at least 1, got {replications}")
    names = [one.name for one in scenario.alternatives[alternative].channels]
    if channel not in names:
        raise ValueError(f"{alternative} has no channel {channel!r} (it has: {', '.join(names)})")
    lanes = [lane for lane in scenario.lanes(alternative, as_of) if lane.channel.name == channel]
    nothing = Estimate(None, None, None, random=False)
    tenants = [tenant for tenant in scenario.tenants if tenant.name in lanes[0].channel.tenants]
    counts = {tenant.name: len(tenant.names(scenario.day)) for tenant in tenants}
    simulated, standing_for = dict(counts), 1.0
    if len(tenants) == 1 and all(_accounts_are_apart(lane) for lane in lanes):
        (name,) = counts
        simulated[name] = min(counts[name], STAND_FOR_ALL)
        standing_for = counts[name] / simulated[name]
    highest = BEYOND * min(_ceiling(lane, tenants, simulated) / lane.channel.to[lane.provider.name] for lane in lanes)
    if math.isinf(highest):
        return Capacity(channel, nothing, "nothing bounds it: no limit, no pace, no service time")
    period = max(
        (limit.limit.period or 0.0 for lane in lanes for limit in lane.provider.limits if limit.limit), default=0
    )
    transient = max(TRANSIENT, period)
    duration = transient + max(WATCHED, period) + WITHIN
    if highest * (duration + WITHIN) > MOST_MESSAGES:
        why = f"more than {MOST_MESSAGES / duration * 3600:,.0f} an hour may pass: too many to simulate"
        return Capacity(channel, nothing, why)
    found: list[float] = []
    for replication in range(replications):
        who = [(tenant, tenant.volume(seed, replication), tenant.complaints(seed, replication)) for tenant in tenants]
        steady = _steady(scenario, alternative, channel, who, simulated, highest, transient, duration)
        near = found[0] / 3600 / standing_for if found else None
        rate = _of_one(steady, alternative, highest, near, seed, replication, as_of)
        found.append(rate * 3600 * standing_for)
        if progress is not None:
            progress(replication + 1, replications)
    return Capacity(channel, Estimate.of(found))


def capacities_of(result: Result, progress: Progress | None = None) -> dict[str, dict[str, Capacity]]:
    """Return the capacity of every channel of a comparison, by alternative and channel.

    Parameters
    ----------
    result : Result
        Its seed and date are used, and at most `REPLICATIONS` replications.
    progress : callable, optional
        Told how many channels are done, of how many.

    Returns
    -------
    dict of str to dict of str to Capacity
        In messages an hour, or why there is no number.
    """
    asked = [(name, channel.name) for name in result.runs for channel in result.scenario.alternatives[name].channels]
    found: dict[str, dict[str, Capacity]] = {}
    for done, (name, channel) in enumerate(asked, 1):
        replications = min(result.replications, REPLICATIONS)
        one = capacity(result.scenario, name, channel, replications, result.seed, result.as_of)
        found.setdefault(name, {})[channel] = one
        if progress is not None:
            progress(done, len(asked))
    return found


def _accounts_are_apart(lane: Lane) -> bool:
    """Whether nothing that one account does touches another."""
    own = ("account", "sender", "session", "message")
    limits = [limit for limit in lane.provider.limits if limit.limit is not None]
    return lane.by_account and lane.provider.credential == "account" and all(limit.per in own for limit in limits)


def _ceiling(lane: Lane, tenants: Sequence[Tenant], senders: dict[str, int]) -> float:
    """Return a rate that can't be sustained beyond: what windows, pace and connections let through, per second."""
    channel = lane.channel
    people = sum(senders.values())
    accounts = {"account": people, "domain": len(tenants)}.get(lane.provider.credential, channel.ips)
    owners = {"account": accounts, "sender": people, "domain": len(tenants), "ip": channel.ips, "tenant": len(tenants)}
    recipients = min(tenant.recipients for tenant in tenants)
    sizes = {"messages": 1, "recipients": recipients, "unique_recipients": recipients}
    sizes |= {"external_recipients": recipients, "bytes": min(tenant.bytes for tenant in tenants)}
    found = [
        limit.limit.per_second * owners[limit.per] / sizes[limit.count]
        for limit in lane.provider.limits
        if limit.limit is not None and limit.limit.period and limit.count in sizes and limit.per in owners
    ]
    if lane.pace is not None:
        found.append(people * lane.pace.batch / lane.pace.wait)
    busy = channel.service.mean + channel.session_setup / (lane.messages_per_session or math.inf)
    if busy > 0:
        found.append(lane.connections * (accounts if lane.by_account else channel.ips) / busy)
    return min(found, default=math.inf)


LEFT_OUT = ("neighbour", "spread", "count", "volumes", "complaint_rates")
"""Keys of a tenant's table that say who it is among others."""


def _steady(
    scenario: Scenario,
    alternative: str,
    channel: str,
    who: Sequence[tuple[Tenant, float, float]],
    senders: dict[str, int],
    rate: float,
    transient: float,
    duration: float,
) -> Scenario:
    """Return the scenario with this channel alone: its tenants offer 15 minutes' worth at once, then so much always.

    Each tenant comes with what its volume is multiplied by, and its complaint rate: those of a group are drawn.
    """
    data = scenario.data
    volumes = np.array([_volume(tenant, scenario) * volume for tenant, volume, _ in who])
    shares = volumes / volumes.sum()
    tables = {table["name"]: table for table in data["tenants"]}
    tenants = []
    for (tenant, _, complaint_rate), share in zip(who, shares, strict=True):
        kept = {key: value for key, value in tables[tenant.group].items() if key not in LEFT_OUT}
        kept |= {"name": tenant.name, "domain": tenant.domain, "complaint_rate": complaint_rate}
        backlog = {"kind": "batches", "size": max(1, round(rate * share * WITHIN))}
        poisson = {"kind": "poisson", "rate": f"{rate * share:.9f}/s"}
        tenants.append({**kept, "senders": senders[tenant.name], "arrivals": [backlog, poisson]})
    # what a warm-up doesn't allow is late here: what another channel makes of it isn't this one's capacity
    channels = [
        {key: value for key, value in table.items() if key != "overflow"}
        | {"tenants": [one["name"] for one in tenants]}
        for table in data["alternatives"][alternative]["channels"]
        if table["name"] == channel
    ]
    changed = {key: value for key, value in data.items() if key not in ("events", "faults", "deadline")}
    changed |= {"transient": f"{transient:.0f}s", "duration": f"{duration:.0f}s", "tenants": tenants}
    return Scenario.build({**changed, "alternatives": {alternative: {"channels": channels}}}, scenario.name)


def _volume(tenant: Tenant, scenario: Scenario) -> float:
    count = len(tenant.names(scenario.day))
    return sum(arrival.expected(scenario.day, arrival.senders or count) for arrival in tenant.arrivals)


def _of_one(
    steady: Scenario,
    alternative: str,
    highest: float,
    near: float | None,
    seed: int,
    replication: int,
    as_of: dt.date | None,
) -> float:
    """Return one replication's capacity, in messages per second; 0 if nothing passes in time."""
    offered = steady.messages(seed, replication)
    rng = stream(seed, replication, "capacity")
    kept, dealt = rng.random(len(offered)), rng.random(len(offered))
    offered = replace(offered, sender=_dealt(offered, steady, dealt))

    def passes(rate: float) -> bool:
        messages = _some(offered, kept * highest <= rate)
        attempts = run(steady, alternative, seed, replication, as_of, messages)
        accepted_at, refused = outcomes(attempts, steady.lanes(alternative, as_of))
        created_at = messages.created_at
        counted = (created_at >= steady.transient) & (created_at < steady.duration - WITHIN)
        late = (accepted_at - created_at)[counted] >= WITHIN
        if not len(late):
            return True
        return bool(refused[counted].mean() <= MOST_REFUSED and late.mean() <= MOST_LATE)

    low, high = (0.5 * highest, highest) if near is None else (0.97 * near, min(1.03 * near, highest))
    nominal = _last_that(passes, low, high, highest)
    created_at = offered.created_at[kept * highest <= nominal]
    return float((created_at > 0).sum()) / steady.duration


def _last_that(passes: Callable[[float], bool], low: float, high: float, highest: float) -> float:
    """Return the rate up to which something passes, found by bisection; the bracket moves if it doesn't hold it."""
    floor = highest * 1e-4
    while not passes(low):
        low, high = low / 2, low
        if low < floor:
            return 0.0
    while high < highest and passes(high):
        low, high = high, min(2 * high, highest)
    while high / low > 1 + PRECISION:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if passes(middle) else (low, middle)
    return math.sqrt(low * high)


def _dealt(offered: Messages, steady: Scenario, dealt: Any) -> Any:
    """Give each message to any sender of its tenant, all alike, so that each sender's stay a Poisson process."""
    counts = np.array([len(tenant.names(steady.day)) for tenant in steady.tenants])
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return first[offered.tenant] + (dealt * counts[offered.tenant]).astype(np.int64)


def _some(offered: Messages, chosen: Any) -> Messages:
    arrays = {field.name: getattr(offered, field.name) for field in fields(offered)}
    return replace(offered, **{name: value[chosen] for name, value in arrays.items() if isinstance(value, np.ndarray)})
