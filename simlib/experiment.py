"""Run, replicate, compare, summarize: from a scenario to numbers with intervals (DESIGN §7 and §9 define them)."""

import contextlib
import datetime as dt
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from simlib.channel import Attempts, Lane, simulate
from simlib.receiver import render
from simlib.scenario import Scenario
from simlib.windows import INSTANT
from simlib.workload import Messages, stream

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["METRICS", "Estimate", "Result", "compare", "frame", "paired", "run", "summarize"]

Floats = np.typing.NDArray[np.float64]
Ints = np.typing.NDArray[np.int64]
Bools = np.typing.NDArray[np.bool_]

COUNTS = (
    *("offered", "accepted", "delivered", "rejected", "expired", "waiting", "on_time"),
    *("throttled", "held", "throttled_accepted", "attempts", "deferred_attempts", "rejected_attempts"),
)
TIMES = (
    *("delay_mean", "delay_p50", "delay_p95", "delay_p99", "wait_mean"),
    *("held_mean", "held_max", "throttled_delay_mean", "finished_at"),
)
METRICS = (*COUNTS, "goodput_per_hour", *TIMES)
CAUSES = ("retry", "pace", "service", "connections")
WORTH_PROCESSES = 4.0  # seconds of work below which starting processes costs more than it saves


# One run


def run(
    scenario: Scenario,
    alternative: str,
    seed: int = 1,
    replication: int = 0,
    as_of: dt.date | None = None,
    messages: Messages | None = None,
) -> Attempts:
    """Simulate one alternative once.

    Parameters
    ----------
    scenario : Scenario
        The question.
    alternative : str
        The name of one of its alternatives.
    seed, replication : int
        Which run of the random streams.
    as_of : date, optional
        The date whose facts apply; the scenario's by default.
    messages : Messages, optional
        What is offered, if already drawn for this seed and replication.

    Returns
    -------
    Attempts
        The record of the run.

    Raises
    ------
    ValueError
        If there is no such alternative.
    """
    if alternative not in scenario.alternatives:
        known = ", ".join(scenario.alternatives)
        raise ValueError(f"unknown alternative {alternative!r} (there are: {known})")

    def rng(*name: str) -> np.random.Generator:
        return stream(seed, replication, *name)

    lanes = scenario.lanes(alternative, as_of)
    return simulate(
        lanes,
        scenario.messages(seed, replication) if messages is None else messages,
        scenario.receivers(lanes),
        scenario.duration,
        rng,
        scenario.incidents(lanes, rng),
    )


# What one run says about each tenant


@dataclass(frozen=True, slots=True)
class Summary:
    """One tenant in one run.

    Parameters
    ----------
    numbers : dict
        A number for each of `METRICS`; nan where there is none, inf where a quantile falls among messages that were
        never accepted.
    refusals : dict
        For each limit, the messages that it throttled.
    bound_by : dict
        For each cause, the seconds that accepted messages waited for it.
    other_refusals : dict
        For each reply that isn't a limit's, such as ``"535 5.7.3 at AUTH"``, the messages that it was the end of.
    """

    numbers: dict[str, float]
    refusals: dict[str, float]
    bound_by: dict[str, float]
    other_refusals: dict[str, float]


def delays(attempts: Attempts, scenario: Scenario, lanes: Sequence[Lane], tenant: str) -> Floats:
    """Return the delays of a tenant's offered messages in one run, ascending, inf if never accepted; in seconds."""
    messages = attempts.messages
    message, code, _, late = _columns(attempts, lanes)
    fates = _fates(attempts, message, code, late)
    mine = (messages.tenant == messages.tenants.index(tenant)) & (messages.created_at >= scenario.transient)
    return np.sort((fates.accepted_at - messages.created_at)[mine])


@dataclass(frozen=True, slots=True)
class _Fates:
    """What became of each message; arrays of shape ``(messages,)``."""

    accepted: Bools
    rejected: Bools
    expired: Bools
    accepted_at: Floats
    first_start: Floats
    outcome_at: Floats


def summarize(attempts: Attempts, scenario: Scenario, lanes: Sequence[Lane]) -> dict[str, Summary]:
    """Count and measure one run, for each tenant.

    Parameters
    ----------
    attempts : Attempts
        The record of the run.
    scenario : Scenario
        For the deadline, the duration and the transient.
    lanes : sequence of Lane
        The alternative's channels: they say where a channel ends and what `accept_late` means.

    Returns
    -------
    dict of str to Summary
        By tenant.
    """
    messages = attempts.messages
    message, code, limit, late = _columns(attempts, lanes)
    fates = _fates(attempts, message, code, late)
    causes, throttled_by = _causes(attempts, message, limit, late, scenario.duration)
    counted = messages.created_at >= scenario.transient
    found = {}
    for position, tenant in enumerate(messages.tenants):
        mine = counted & (messages.tenant == position)
        ends_at_mx = _ends_at_mx(tenant, lanes)
        if ends_at_mx is None:
            continue  # a neighbour that this alternative leaves out
        numbers = _numbers(attempts, fates, mine, mine[message], code, scenario)
        numbers["delivered"] = numbers["accepted"] if ends_at_mx else math.nan
        throttled = np.logical_or.reduce(list(throttled_by.values()) or [np.zeros_like(mine)])
        numbers["throttled"] = float((throttled & mine).sum())
        kept = np.add.reduce([causes[name] for name in throttled_by] or [np.zeros(len(messages))])
        late_anyway = mine & fates.accepted & throttled
        numbers["throttled_accepted"] = float(late_anyway.sum())
        delay = fates.accepted_at[late_anyway] - messages.created_at[late_anyway]
        numbers["throttled_delay_mean"] = float(delay.mean()) if len(delay) else 0.0
        held = mine & fates.accepted & (kept > INSTANT)
        numbers["held"] = float(held.sum())
        numbers["held_mean"] = float(kept[held].mean()) if held.any() else 0.0
        numbers["held_max"] = float(kept[held].max()) if held.any() else 0.0
        found[tenant] = Summary(
            numbers,
            {name: float((by & mine).sum()) for name, by in throttled_by.items()},
            {name: float(seconds[mine & fates.accepted].sum()) for name, seconds in causes.items()},
            _other_refusals(attempts, mine[message]),
        )
    return found


def _other_refusals(attempts: Attempts, rows: Bools) -> dict[str, float]:
    """Count the messages that ended with a reply that isn't a limit's: a credential's, a block list's, none at all."""
    last = np.bincount(attempts["kind"][rows & (attempts["final"] > 0)].astype(int), minlength=len(attempts.kinds))
    found: dict[str, float] = {}
    for count, (_, code, enhanced, _, stage, limit) in zip(last.tolist(), attempts.kinds, strict=True):
        if count and not limit and not 200 <= code < 300:
            said = " ".join(part for part in (str(code), enhanced) if part) if code else "no reply"
            found[f"{said} at {stage}"] = found.get(f"{said} at {stage}", 0.0) + count
    return found


def _columns(attempts: Attempts, lanes: Sequence[Lane]) -> tuple[Ints, Floats, Any, Bools]:
    """Return each attempt's message, reply code and limit, and whether it was accepted at once but moved on late."""
    kind = attempts["kind"].astype(int)
    code = np.array([kind[1] for kind in attempts.kinds], dtype=float)[kind]
    limit = np.array([kind[5] for kind in attempts.kinds], dtype=object)[kind]
    accepts_late = [
        f"{lane.provider.name}/{one.id}"
        for lane in lanes
        for one in lane.provider.limits
        if one.on_excess == "accept_late"
    ]
    return attempts["message"].astype(int), code, limit, np.isin(limit, accepts_late) & (attempts["held"] > 0)


def _ends_at_mx(tenant: str, lanes: Sequence[Lane]) -> bool | None:
    roles = [lane.provider.role for lane in lanes if tenant in lane.channel.tenants]
    return all(role == "delivery" for role in roles) if roles else None


def _fates(attempts: Attempts, message: Any, code: Floats, late: Bools) -> _Fates:
    count = len(attempts.messages)
    final = attempts["final"] > 0
    accepted, rejected, expired = (np.zeros(count, dtype=bool) for _ in range(3))
    accepted_at, first_start, outcome_at = (np.full(count, math.inf) for _ in range(3))
    # accepted late: as if the reply had come when the provider moved the message on
    answered = attempts["ended"] + np.where(late, attempts["held"], 0.0)
    good = final & (code >= 200) & (code < 300)
    accepted[message[good]] = True
    accepted_at[message[good]] = answered[good]
    rejected[message[final & (code >= 500)]] = True
    expired[message[final & ((code < 200) | ((code >= 400) & (code < 500)))]] = True
    outcome_at[message[final]] = answered[final]
    first = attempts["retry"] == 0
    first_start[message[first]] = np.where(np.isnan(attempts["started"][first]), math.inf, attempts["started"][first])
    return _Fates(accepted, rejected, expired, accepted_at, first_start, outcome_at)


def _numbers(
    attempts: Attempts, fates: _Fates, mine: Bools, rows: Bools, code: Floats, scenario: Scenario
) -> dict[str, float]:
    created_at = attempts.messages.created_at
    tried = rows & ~np.isnan(attempts["started"])
    ended = tried & ~np.isnan(attempts["ended"])
    delay = (fates.accepted_at - created_at)[mine]
    wait = (fates.first_start - created_at)[mine]
    wait = wait[np.isfinite(wait)]
    offered, accepted = int(mine.sum()), int((fates.accepted & mine).sum())
    rejected, expired = int((fates.rejected & mine).sum()), int((fates.expired & mine).sum())
    waiting = offered - accepted - rejected - expired
    deadline = scenario.deadline_at
    p50, p95, p99 = np.quantile(delay, [0.5, 0.95, 0.99], method="inverted_cdf") if offered else (math.nan,) * 3
    return {
        "offered": offered,
        "accepted": accepted,
        "rejected": rejected,
        "expired": expired,
        "waiting": waiting,
        "on_time": math.nan if deadline is None else float((fates.accepted_at[mine] <= deadline).sum()),
        "attempts": float(tried.sum()),
        "deferred_attempts": float((ended & ((code < 200) | ((code >= 400) & (code < 500)))).sum()),
        "rejected_attempts": float((ended & (code >= 500)).sum()),
        "goodput_per_hour": accepted / (scenario.duration - scenario.transient) * 3600,
        "delay_mean": float(delay[np.isfinite(delay)].mean()) if accepted else math.nan,
        "delay_p50": float(p50),
        "delay_p95": float(p95),
        "delay_p99": float(p99),
        "wait_mean": float(wait.mean()) if len(wait) else math.nan,
        "finished_at": float(fates.outcome_at[mine].max()) if offered and not waiting else math.nan,
        "finished": float(not waiting),
    }


def _causes(
    attempts: Attempts, message: Any, limit: Any, late: Bools, duration: float
) -> tuple[dict[str, Floats], dict[str, Bools]]:
    """Split each message's time by what it waited for, and say which limits throttled it.

    Returns
    -------
    causes : dict of str to ndarray
        Seconds for each limit and each of `CAUSES`; shape ``(messages,)`` each.
    throttled_by : dict of str to ndarray of bool
        For each limit, whether it made the message late or lost.
    """
    limits = [name for name in dict.fromkeys(kind[5] for kind in attempts.kinds) if name]
    count = len(attempts.messages)
    due, released, started = attempts["due"], attempts["released"], attempts["started"]
    held, queue = attempts["held"], attempts["queue"]
    ended = np.where(np.isnan(attempts["ended"]), duration, attempts["ended"])
    delayed = np.where(late, 0.0, held)  # how long the reply was held, the connection waiting
    # every queue gets a stretch of one long time axis to itself
    shift = queue * (duration + 1.0)
    order = np.lexsort((attempts["retry"], message))
    before = np.full(len(message), math.nan)  # when the attempt before ended
    same = message[order][1:] == message[order][:-1]
    before[order[1:][same]] = ended[order[:-1][same]]
    waits_until = np.where(np.isnan(started), duration, started)
    released = np.where(np.isnan(released), waits_until, released)
    spans = [(np.where(np.isnan(before), due, before), due), (due, released), (released, waits_until)]

    causes: dict[str, Any] = {}
    throttled_by: dict[str, Bools] = {}
    covered = [np.zeros(len(message)) for _ in spans]
    intervals: list[tuple[Floats, Floats]] = []
    for name in limits:
        own = limit == name
        holding = own & (delayed > INSTANT)
        mine = np.zeros(len(message))
        if holding.any():
            intervals.append(((ended - delayed + shift)[holding], (ended + shift)[holding]))
            union = _union(intervals)
            for position, (begin, over) in enumerate(spans):
                overlap = union(over + shift) - union(begin + shift)
                mine += overlap - covered[position]
                covered[position] = overlap
        by = np.zeros(count, dtype=bool)
        by[message[own | (attempts["retry"] == 0) & (mine > INSTANT)]] = True
        throttled_by[name] = by
        causes[name] = np.bincount(message, mine + np.where(own, held, 0.0), count)
    rest = [over - begin - found for (begin, over), found in zip(spans, covered, strict=True)]
    service = np.where(np.isnan(started), 0.0, ended - delayed - np.where(np.isnan(started), ended, started))
    for name, seconds in zip(CAUSES, (rest[0], rest[1], service, rest[2]), strict=True):
        causes[name] = np.bincount(message, np.maximum(seconds, 0.0), count)
    return causes, throttled_by


def _union(intervals: Sequence[tuple[Floats, Floats]]) -> Callable[[Floats], Floats]:
    """Return a function: how much of the time up to t lies in any of the intervals."""
    begin = np.concatenate([one for one, _ in intervals])
    over = np.concatenate([two for _, two in intervals])
    order = np.argsort(begin, kind="stable")
    begin, over = begin[order], np.maximum.accumulate(over[order])
    first = np.concatenate([[True], begin[1:] > over[:-1]])
    starts = begin[first]
    ends = over[np.concatenate([np.flatnonzero(first)[1:] - 1, [len(over) - 1]])]
    knots = np.stack([starts, ends], axis=1).ravel()
    lengths = np.stack([np.zeros(len(starts)), ends - starts], axis=1).ravel()
    covered = np.cumsum(lengths)
    return lambda moments: np.interp(moments, knots, covered)


# Many runs


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over replications with its 95 % interval.

    Parameters
    ----------
    mean, low, high : float or None
        The mean and its t interval; None where there is no number. Without replications to judge by, low and high
        are None.
    random : bool
        False if every replication gave the same number: then low = high = mean.

    Examples
    --------
    >>> Estimate.of([10.0, 12.0, 11.0])
    Estimate(mean=11.0, low=8.515..., high=13.484..., random=True)
    """

    mean: float | None
    low: float | None
    high: float | None
    random: bool = True

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Estimate from one number per replication; any that is nan or infinite leaves none."""
        numbers = np.asarray(values, dtype=float)
        if not len(numbers) or not np.isfinite(numbers).all():
            return cls(None, None, None, random=len(set(map(str, values))) > 1)
        mean = float(numbers.mean())
        if np.ptp(numbers) == 0:
            value = float(numbers[0])
            return cls(value, value, value, random=False) if len(numbers) > 1 else cls(value, None, None)
        half = half_width(numbers)
        return cls(mean, mean - half, mean + half)

    def json(self) -> dict[str, float | bool | None]:
        """Return it as the contract has it."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "random": self.random}


def half_width(numbers: Floats, confidence: float = 0.95) -> float:
    """Half the width of the t interval of a mean (Student 1908; e.g. Law, *Simulation Modeling and Analysis*, §4.5)."""
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(numbers) - 1, (1 + confidence) / 2))
    return quantile * float(numbers.std(ddof=1)) / math.sqrt(len(numbers))


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a probability (Wilson 1927, *J. Am. Stat. Assoc.* 22, 209–212).

    Examples
    --------
    >>> [round(bound, 3) for bound in wilson(20, 20)]
    [0.839, 1.0]
    """
    from scipy.special import ndtri

    z = float(ndtri((1 + confidence) / 2))
    share, extra = successes / trials, z * z / trials
    middle = (share + extra / 2) / (1 + extra)
    half = z / (1 + extra) * math.sqrt(share * (1 - share) / trials + extra / (4 * trials))
    return max(0.0, middle - half) if successes else 0.0, min(1.0, middle + half) if successes < trials else 1.0


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Estimate a difference over replications that saw the same messages."""
    with np.errstate(invalid="ignore"):  # never and never differ by no number
        return Estimate.of((np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)).tolist())


Runs = Mapping[str, Sequence[Mapping[str, Summary]]]  # alternative -> replication -> tenant
Reading = tuple[str, str]  # limit id, name of the reading
Variant = tuple[Reading | None, str, Scenario]  # what is simulated: an alternative, as asked or under a reading
Progress = Callable[[int, int], None]  # told how many replications are done, of how many


@dataclass(frozen=True)
class Result:
    """What `compare` found.

    Parameters
    ----------
    scenario : Scenario
        The question.
    as_of : date
        The date whose facts applied.
    replications, seed : int
        How many runs, of which random streams.
    runs : mapping
        Alternative -> replication -> tenant -> Summary.
    jobs, progress
        As given to `compare`: what is simulated later is simulated the same way.
    """

    scenario: Scenario
    as_of: dt.date
    replications: int
    seed: int
    runs: Runs = field(repr=False)
    jobs: int | None = field(default=None, repr=False)
    progress: Progress | None = field(default=None, repr=False)

    @cached_property
    def under(self) -> Mapping[Reading, Runs]:
        """Under each other reading of a limit, runs of the alternatives that meet it; simulated when first asked."""
        variants: list[Variant] = []
        for alternative in self.runs:
            for limit, reading in self.scenario.readings_of(alternative, self.as_of):
                other = self.scenario.replace(readings={limit: reading})
                variants.append(((limit, reading), alternative, other))
        found = _simulate_all(variants, self.replications, self.seed, self.jobs, self.as_of, self.progress)
        return {key: runs for key, runs in found.items() if key is not None}

    @property
    def baseline(self) -> str:
        """The alternative that the others are compared with: the first."""
        return next(iter(self.runs))

    def values(self, alternative: str, tenant: str, metric: str, under: Reading | None = None) -> list[float]:
        """Return one number per replication."""
        runs = {**self.runs, **(self.under[under] if under else {})}
        return [summaries[tenant].numbers[metric] for summaries in runs[alternative]]

    def estimate(self, alternative: str, tenant: str, metric: str, under: Reading | None = None) -> Estimate:
        """Return a metric with its interval.

        `finished_at` is over the replications in which nothing was left waiting.
        """
        values = self.values(alternative, tenant, metric, under)
        if metric == "finished_at":
            values = [value for value in values if not math.isnan(value)]
        return Estimate.of(values)

    def tenants(self, alternative: str) -> list[str]:
        """Return the tenants that an alternative carries."""
        return list(self.runs[alternative][0])

    def finished(self, alternative: str, tenant: str) -> tuple[float, float, float]:
        """Return how often nothing was left waiting at the end, with its Wilson interval."""
        times = sum(self.values(alternative, tenant, "finished"))
        return times / self.replications, *wilson(int(times), self.replications)

    def refusals(self, alternative: str, tenant: str) -> dict[str, Estimate]:
        """Return, for each limit, the messages that it throttled."""
        return self._by_name(alternative, tenant, lambda summary: summary.refusals)

    def other_refusals(self, alternative: str, tenant: str) -> dict[str, Estimate]:
        """Return, for each reply that isn't a limit's, the messages that ended with it."""
        return self._by_name(alternative, tenant, lambda summary: summary.other_refusals)

    def bound_by(self, alternative: str, tenant: str) -> dict[str, float]:
        """Return the share of each cause in the total delay of accepted messages; empty if there was none."""
        totals: dict[str, float] = {}
        for summaries in self.runs[alternative]:
            for name, seconds in summaries[tenant].bound_by.items():
                totals[name] = totals.get(name, 0.0) + seconds
        total = sum(totals.values())
        shares = {name: seconds / total for name, seconds in totals.items()} if total > INSTANT else {}
        return {name: share for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share > 0}

    def _by_name(
        self, alternative: str, tenant: str, pick: Callable[[Summary], Mapping[str, float]]
    ) -> dict[str, Estimate]:
        found = [pick(summaries[tenant]) for summaries in self.runs[alternative]]
        names = dict.fromkeys(name for one in found for name in one)
        return {name: Estimate.of([one.get(name, 0.0) for one in found]) for name in names}

    def difference(self, than: str, alternative: str) -> dict[str, dict[str, Estimate]]:
        """Return by how much an alternative differs from another, by tenant and metric, paired by replication."""
        shared = [tenant for tenant in self.tenants(alternative) if tenant in self.tenants(than)]
        return {
            tenant: {
                metric: paired(self.values(alternative, tenant, metric), self.values(than, tenant, metric))
                for metric in METRICS
            }
            for tenant in shared
        }

    def conclusion(self, under: Reading | None = None) -> frozenset[str]:
        """Return the alternatives that are not worse than the best: by `on_time`, without a deadline by `accepted`.

        Summed over the tenants that are not neighbours; an alternative belongs to the set if its paired difference
        from the best does not exclude 0.
        """
        metric = "accepted" if self.scenario.deadline is None else "on_time"
        own = [tenant.name for tenant in self.scenario.tenants if not tenant.neighbour]
        totals = {
            alternative: np.sum([self.values(alternative, tenant, metric, under) for tenant in own], axis=0)
            for alternative in self.runs
        }
        best = max(totals.values(), key=lambda values: float(values.mean()))
        found = set()
        for alternative, values in totals.items():
            gap = paired(values.tolist(), best.tolist())
            if gap.mean == 0 or (gap.low is not None and gap.high is not None and gap.low <= 0 <= gap.high):
                found.add(alternative)
        return frozenset(found)

    def flips(self) -> list[dict[str, Any]]:
        """Return, for each other reading of a limit in use, whether the conclusion changes under it alone."""
        standing = self.conclusion()
        return [
            {"limit": limit, "reading": reading, "flips": self.conclusion((limit, reading)) != standing}
            for limit, reading in self.under
        ]

    def assumptions(self) -> list[dict[str, str]]:
        """Return what the numbers rest on: facts graded assumed or with an assumed field, and own figures."""
        return self.scenario.rests_on(list(self.runs), self.as_of)

    def ends_at(self, alternative: str) -> str:
        """Return the providers at which an alternative's channels end."""
        lanes = self.scenario.lanes(alternative, self.as_of)
        return ", ".join(dict.fromkeys(lane.provider.name for lane in lanes))

    def role(self, alternative: str) -> str:
        """Return where an alternative's mail is accepted: ``delivery`` at mailbox providers, else ``submission``."""
        lanes = self.scenario.lanes(alternative, self.as_of)
        return "delivery" if all(lane.provider.role == "delivery" for lane in lanes) else "submission"

    def json(self) -> dict[str, Any]:
        """Return the document of the contract (`compare --json`)."""
        alternatives = {}
        for alternative in self.runs:
            tenants = {}
            for tenant in self.tenants(alternative):
                numbers: dict[str, Any] = {
                    metric: self.estimate(alternative, tenant, metric).json() for metric in METRICS
                }
                if math.isnan(self.values(alternative, tenant, "delivered")[0]):
                    numbers["delivered"] = None
                if self.scenario.deadline is None:
                    numbers["on_time"] = None
                probability, low, high = self.finished(alternative, tenant)
                numbers["finished"] = {"probability": probability, "low": low, "high": high}
                numbers["refusals"] = {k: v.json() for k, v in self.refusals(alternative, tenant).items()}
                numbers["other_refusals"] = {k: v.json() for k, v in self.other_refusals(alternative, tenant).items()}
                numbers["bound_by"] = self.bound_by(alternative, tenant)
                tenants[tenant] = numbers
            alternatives[alternative] = {"ends_at": self.ends_at(alternative), "tenants": tenants}
        differences = {}
        for alternative in list(self.runs)[1:]:
            changes = self.difference(self.baseline, alternative)
            differences[alternative] = {
                tenant: {metric: {"mean": e.mean, "low": e.low, "high": e.high} for metric, e in found.items()}
                for tenant, found in changes.items()
            }
        return {
            "scenario": self.scenario.name,
            "as_of": self.as_of.isoformat(),
            "replications": self.replications,
            "seed": self.seed,
            "baseline": self.baseline,
            "alternatives": alternatives,
            "differences": differences,
            "best": sorted(self.conclusion()),
            "rests_on": self.assumptions(),
            "readings": self.flips(),
            "random": self.scenario.random_parts(),
        }

    def table(self) -> "pd.DataFrame":
        """Return one row per alternative, tenant and metric: mean, low, high, random."""
        import pandas as pd

        rows = [
            {"alternative": alternative, "tenant": tenant, "metric": metric}
            | self.estimate(alternative, tenant, metric).json()
            for alternative in self.runs
            for tenant in self.tenants(alternative)
            for metric in METRICS
        ]
        return pd.DataFrame(rows)

    @cached_property
    def attempts(self) -> "pd.DataFrame":
        """Every attempt of every replication and alternative (DESIGN §8); simulated again when first asked."""
        import pandas as pd

        return pd.concat(self.frames(), ignore_index=True)

    def frames(self) -> "Iterator[pd.DataFrame]":
        """Yield the record of each run, one alternative and replication after the other."""
        for alternative in self.runs:
            for replication in range(self.replications):
                attempts = run(self.scenario, alternative, self.seed, replication, self.as_of)
                found = frame(attempts, self.scenario.zero)
                found.insert(0, "alternative", alternative)
                found.insert(1, "replication", replication)
                yield found

    def timeline(self, alternative: str, replication: int = 0) -> "pd.DataFrame":
        """Return what happened in each minute of a run: accepted, held, refused; see `plot.timeline`."""
        attempts = run(self.scenario, alternative, self.seed, replication, self.as_of)
        return timeline(attempts, self.scenario, self.scenario.lanes(alternative, self.as_of))

    def delays(self, alternative: str, tenant: str, replication: int = 0) -> Floats:
        """Return a run's delays from creation to acceptance, in seconds, of a tenant's offered messages; inf if never.

        Shape ``(messages,)``, ascending; messages created before `transient` are left out.
        """
        attempts = run(self.scenario, alternative, self.seed, replication, self.as_of)
        return delays(attempts, self.scenario, self.scenario.lanes(alternative, self.as_of), tenant)

    def fates(self, tenant: str, under: Reading | None = None) -> "pd.DataFrame":
        """Return what became of a tenant's messages on each channel, on average: `plot.comparison` draws it.

        Returns
        -------
        DataFrame
            One row an alternative: ``alternative``; in messages ``offered``, ``at_once`` (accepted, and no limit in the
            way), ``held`` (accepted though a limit held or deferred them), ``refused``, ``expired``, ``waiting``,
            ``on_time`` (nan without a deadline); ``held_mean``, the mean delay of ``held``, in seconds.
        """
        import pandas as pd

        names = list(self.runs if under is None else self.under[under])
        rows = []
        for alternative in names:
            if tenant not in self.tenants(alternative):
                continue
            mean = {
                metric: float(np.mean(self.values(alternative, tenant, metric, under)))
                for metric in METRICS
                if metric not in ("delivered", "finished_at")
            }
            rows.append(
                {
                    "alternative": alternative,
                    "offered": mean["offered"],
                    "at_once": mean["accepted"] - mean["throttled_accepted"],
                    "held": mean["throttled_accepted"],
                    "refused": mean["rejected"],
                    "expired": mean["expired"],
                    "waiting": mean["waiting"],
                    "on_time": mean["on_time"],
                    "held_mean": mean["throttled_delay_mean"],
                }
            )
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        means = self.table().pivot_table("mean", ["alternative", "tenant"], "metric", sort=False)
        return str(means.to_html(float_format="{:,.6g}".format, na_rep="–"))


def compare(
    scenario: Scenario,
    replications: int = 20,
    seed: int = 1,
    jobs: int | None = None,
    as_of: dt.date | None = None,
    progress: Progress | None = None,
) -> Result:
    """Simulate every alternative on the same arrivals, so many times.

    Parameters
    ----------
    scenario : Scenario
        The question.
    replications : int
        How many runs of each alternative.
    seed : int
        Same scenario and seed, same result, whatever `jobs`.
    jobs : int, optional
        How many processes; by default as many as there are cores, if the work is worth starting them.
    as_of : date, optional
        The date whose facts apply; the scenario's by default.
    progress : callable, optional
        Told how many replications are done, of how many.

    Returns
    -------
    Result
        Means, intervals, paired differences, and under which other readings the conclusion changes.

    Raises
    ------
    ValueError
        If `replications` or `jobs` is less than 1.

    Examples
    --------
    >>> scenario = Scenario.build({
    ...     "name": "80 at once", "duration": "1h",
    ...     "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": 80}}],
    ...     "alternatives": {"Office 365": {"channels": [{"name": "o", "tenants": ["us"], "to": "office365"}]}},
    ... })
    >>> compare(scenario, replications=2).estimate("Office 365", "us", "throttled").mean
    50.0
    """
    for name, value in (("replications", replications), ("jobs", jobs)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    variants: list[Variant] = [(None, alternative, scenario) for alternative in scenario.alternatives]
    runs = _simulate_all(variants, replications, seed, jobs, as_of, progress)[None]
    return Result(scenario, as_of or scenario.date, replications, seed, runs, jobs, progress)


def _simulate_all(
    variants: "Sequence[Variant]",
    replications: int,
    seed: int,
    jobs: int | None,
    as_of: dt.date | None,
    progress: Progress | None,
) -> "dict[Reading | None, Runs]":
    """Run every variant so many times, in several processes if that is worth it; the result doesn't depend on it."""
    if not variants:
        return {}
    tell = progress or (lambda done, of: None)
    began = time.perf_counter()
    found = [_replicate(variants, seed, 0, as_of)]
    tell(1, replications)
    rest = (time.perf_counter() - began) * (replications - 1)
    workers = min(jobs or (os.cpu_count() or 1), max(1, replications - 1))
    if workers > 1 and (jobs is not None or rest > WORTH_PROCESSES):
        from joblib import Parallel, delayed

        tasks = (delayed(_replicate)(variants, seed, number, as_of) for number in range(1, replications))
        with _deaf_children():
            results = Parallel(n_jobs=workers, return_as="generator")(tasks)
        with warnings.catch_warnings(), contextlib.closing(results):
            warnings.simplefilter("ignore", UserWarning)  # who interrupts needn't hear how many tasks that cancels
            for one in results:
                found.append(one)
                tell(len(found), replications)
    else:
        for number in range(1, replications):
            found.append(_replicate(variants, seed, number, as_of))
            tell(len(found), replications)
    runs: dict[Reading | None, dict[str, list[Mapping[str, Summary]]]] = {}
    for key, alternative, _ in variants:
        runs.setdefault(key, {})[alternative] = [one[key, alternative] for one in found]
    return dict(runs)


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Let processes that are started meanwhile ignore Ctrl-C: we end them, and one of us reports it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _replicate(
    variants: Sequence[Variant], seed: int, replication: int, as_of: dt.date | None
) -> dict[tuple[Reading | None, str], dict[str, Summary]]:
    """Run every variant once, on the same messages."""
    messages = variants[0][2].messages(seed, replication)
    found = {}
    for key, alternative, scenario in variants:
        attempts = run(scenario, alternative, seed, replication, as_of, messages)
        found[key, alternative] = summarize(attempts, scenario, scenario.lanes(alternative, as_of))
    return found


# The record as a table


def frame(attempts: Attempts, zero: dt.datetime) -> "pd.DataFrame":
    """Return the record of a run as DESIGN §8 has it, times as `Timestamp` with zone and again in seconds (``_s``).

    Parameters
    ----------
    attempts : Attempts
        The record.
    zero : datetime
        The moment of second 0, with a zone.
    """
    import pandas as pd

    messages = attempts.messages
    message = attempts["message"].astype(int)
    kind = attempts["kind"].astype(int)
    sender = messages.sender[message]
    created_at = messages.created_at[message]

    def said(position: int) -> Any:
        return np.array([kind[position] for kind in attempts.kinds], dtype=object)[kind]

    columns: dict[str, Any] = {
        "message_id": np.array(messages.ids(), dtype=object)[message],
        "label": np.array(messages.labels or ("",), dtype=object)[messages.label[message]],
        "tenant": np.array(messages.tenants, dtype=object)[messages.tenant[message]],
        "sender": np.array(messages.addresses, dtype=object)[sender],
        "recipients": messages.recipients[message],
        "bytes": messages.bytes[message],
        "ip": np.array([*attempts.ips, ""], dtype=object)[attempts["ip"].astype(int)],
        "provider": said(0),
        "retry": attempts["retry"].astype(int),
    }
    for name, seconds in (
        ("created_at", created_at),
        ("started_at", attempts["started"]),
        ("ended_at", attempts["ended"]),
    ):
        columns[name] = pd.Timestamp(zero) + pd.to_timedelta(seconds, unit="s")
        columns[f"{name}_s"] = seconds
    columns |= {
        "held": attempts["held"],
        "stage": said(4),
        "code": said(1).astype(int),
        "enhanced": said(2),
        "text": _texts(attempts, zero, said(3), columns["sender"], columns["ip"]),
        "limit": said(5),
        "final": attempts["final"] > 0,
        "session": attempts["session"].astype(int),
        "transaction": attempts["transaction"].astype(int),
    }
    return pd.DataFrame(columns)


def _texts(attempts: Attempts, zero: dt.datetime, texts: Any, senders: Any, ips: Any) -> Any:
    """Fill the placeholders of the sentences in, as of the moment each reply left."""
    for row in np.flatnonzero(["{" in text for text in texts]).tolist():
        provider, account = attempts.queues[int(attempts["queue"][row])][1:]
        texts[row] = render(
            texts[row],
            provider=provider,
            clock=zero + dt.timedelta(seconds=float(attempts["ended"][row])),
            session=int(attempts["session"][row]),
            transaction=int(attempts["transaction"][row]),
            ip=ips[row],
            account=account or ips[row],
            sender=senders[row],
        )
    return texts


def timeline(attempts: Attempts, scenario: Scenario, lanes: Sequence[Lane]) -> "pd.DataFrame":
    """Return what happened in each minute of a run.

    Returns
    -------
    DataFrame
        Index: the minute's beginning. Columns, in attempts: ``accepted`` (no limit kept the message waiting),
        ``held`` (accepted, after a limit did), ``refused``; and ``holding``, the share of the minute in which some
        reply was held.
    """
    import pandas as pd

    message, code, limit, late = _columns(attempts, lanes)
    causes, throttled_by = _causes(attempts, message, limit, late, scenario.duration)
    kept = np.add.reduce([causes[name] for name in throttled_by] or [np.zeros(len(attempts.messages))])
    ended = ~np.isnan(attempts["ended"])
    at = (attempts["ended"] + np.where(late, attempts["held"], 0.0))[ended]  # accepted late: when it was moved on
    code, held = code[ended], attempts["held"][ended]
    waited = kept[message[ended]] > INSTANT
    minutes = np.arange(math.ceil((at.max() if len(at) else 0) / 60) + 1)
    minute = (at // 60).astype(int)
    good = (code >= 200) & (code < 300)
    table: dict[str, Any] = {
        name: np.bincount(minute[chosen], minlength=len(minutes))
        for name, chosen in (("accepted", good & ~waited), ("held", good & waited), ("refused", ~good))
    }
    table["holding"] = np.zeros(len(minutes))
    holding = held > INSTANT
    if holding.any():
        union = _union([((at - held)[holding], at[holding])])
        table["holding"] = np.diff(union(np.append(minutes, len(minutes)) * 60.0)) / 60
    return pd.DataFrame(table, index=pd.Timestamp(scenario.zero) + pd.to_timedelta(minutes * 60.0, unit="s"))
