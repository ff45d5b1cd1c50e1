"""Run, replicate, compare: from a scenario to numbers with intervals (DESIGN §7 and §9)."""

import contextlib
import datetime as dt
import functools
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simlib import summary
from simlib.attempts import Attempts
from simlib.estimate import Estimate, paired, wilson
from simlib.fairness import Fairness, gather, shares
from simlib.kept import keeping, kept
from simlib.processes import deaf_children
from simlib.record import frame
from simlib.scenario import Scenario
from simlib.simulation import by_day, splits
from simlib.summary import METRICS, Summary, Tally
from simlib.windows import INSTANT
from simlib.workload import DAY, Messages, stream

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Result", "compare", "days", "run"]

Floats = np.typing.NDArray[np.float64]

WORTH_PROCESSES = 4.0  # seconds of work below which starting processes costs more than it saves


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

    Examples
    --------
    >>> scenario = Scenario.build({
    ...     "name": "40 at once", "duration": "1h",
    ...     "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": 40}}],
    ...     "alternatives": {"Office 365": {"channels": [{"name": "o365", "tenants": ["us"], "to": "office365"}]}},
    ... })
    >>> attempts = run(scenario, "Office 365")
    >>> len(attempts.rows), float(attempts["held"].max())
    (40, 60.0)
    """
    if alternative not in scenario.alternatives:
        known = ", ".join(map(repr, scenario.alternatives))
        raise ValueError(f"unknown alternative {alternative!r} (there are: {known})")

    whole = scenario.messages(seed, replication) if messages is None else messages
    (attempts,) = _run(scenario, alternative, seed, replication, as_of, [(scenario.duration, whole)])
    return attempts


def days(
    scenario: Scenario, alternative: str, seed: int = 1, replication: int = 0, as_of: dt.date | None = None
) -> Iterator[Attempts]:
    """Simulate one alternative once, a day at a time: what `run` does, in memory for a day's mail.

    Where mail waits for a credential or a held reply, a day can't be told from the next, and the run is yielded in one
    piece (`simulation.splits`).

    Parameters
    ----------
    scenario, alternative, seed, replication, as_of
        As for `run`.

    Yields
    ------
    Attempts
        All attempts of the messages that were decided that day; the last one has also what wasn't decided.
    """
    if splits(scenario.lanes(alternative, as_of)):
        yield from _run(scenario, alternative, seed, replication, as_of, scenario.days(seed, replication))
    else:
        _has_room(scenario, alternative)
        yield run(scenario, alternative, seed, replication, as_of)


A_MESSAGE = 500
"""Bytes that a message takes at least in a run in one piece: itself, its queue, an attempt, and what is summed up."""
ROWS = 250_000  # of the record, of which tables are made at a time


def _memory() -> float:
    """Return how many bytes of memory this machine has; inf where it can't be asked."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def _has_room(scenario: Scenario, alternative: str) -> None:
    """Refuse a run in one piece that can't fit, before hours are spent on it."""
    count, memory = scenario.expected(alternative), _memory()
    if count * A_MESSAGE > memory:
        needed, there = (size / 2**30 for size in (count * A_MESSAGE, memory))
        raise ValueError(
            f"{alternative}: {count:,.0f} messages take {needed:.1f} GiB or more, and this machine has {there:.1f}; "
            "with accounts or held replies a run is simulated in one piece: make its duration shorter, or "
            "volumes and limits smaller together"
        )


def _run(
    scenario: Scenario,
    alternative: str,
    seed: int,
    replication: int,
    as_of: dt.date | None,
    parts: Iterable[tuple[float, Messages]],
) -> Iterator[Attempts]:
    def rng(*name: str) -> np.random.Generator:
        return stream(seed, replication, *name)

    lanes = scenario.lanes(alternative, as_of)
    receivers = scenario.receivers(lanes, seed, replication)
    return by_day(lanes, parts, receivers, scenario.duration, rng, scenario.incidents(lanes, rng))


Runs = Mapping[str, Sequence[Mapping[str, Summary]]]  # alternative -> replication -> tenant
Reading = tuple[str, str]  # limit id, name of the reading
Variant = tuple[Reading | None, str, Scenario]  # what is simulated: an alternative, as asked or under a reading
Progress = Callable[[float, int], None]  # told how many replications are done, of how many


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
    jobs : int, optional
        As given to `compare`: what is simulated later is simulated the same way.
    progress : callable, optional
        As given to `compare`.
    keep : Path, optional
        As given to `compare`: where the record is that `attempts`, `frames`, `timeline` and `delays` are told from.

    Examples
    --------
    >>> scenario = Scenario.build({
    ...     "name": "40 at once", "duration": "1h",
    ...     "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": 40}}],
    ...     "alternatives": {"Office 365": {"channels": [{"name": "o365", "tenants": ["us"], "to": "office365"}]}},
    ... })
    >>> result = compare(scenario, replications=2)
    >>> result.estimate("Office 365", "us", "throttled").mean, result.conclusion()
    (10.0, frozenset({'Office 365'}))
    """

    scenario: Scenario
    as_of: dt.date
    replications: int
    seed: int
    runs: Runs = field(repr=False)
    jobs: int | None = field(default=None, repr=False)
    progress: Progress | None = field(default=None, repr=False)
    keep: Path | None = field(default=None, repr=False)

    @cached_property
    def under(self) -> Mapping[Reading, Runs]:
        """Under each other reading of a limit, runs of the alternatives that meet it; simulated when first asked."""
        variants: list[Variant] = []
        for alternative in self.runs:
            for limit, reading in self.scenario.readings_of(alternative, self.as_of):
                other = self.scenario.replace(readings={limit: reading})
                variants.append(((limit, reading), alternative, other))
        found = _simulate_all(variants, self.replications, self.seed, self.jobs, self.as_of, self.progress, None)
        return {key: runs for key, runs in found.items() if key is not None}

    @property
    def baseline(self) -> str:
        """The alternative that the others are compared with: the first."""
        return next(iter(self.runs))

    def values(self, alternative: str, tenant: str, metric: str, under: Reading | None = None) -> list[float]:
        """Return one number per replication.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.
        tenant : str
            The name of one of its tenants.
        metric : str
            A name in `summary.METRICS`: ``on_time``, ``delay_p95``, …; messages, or seconds where it is a time.
        under : (str, str), optional
            A limit's id and another reading of it; as asked by default.

        Returns
        -------
        list of float
            In messages or in seconds, as the metric is.
        """
        runs = {**self.runs, **(self.under[under] if under else {})}
        return [summaries[tenant].numbers[metric] for summaries in runs[alternative]]

    def estimate(self, alternative: str, tenant: str, metric: str, under: Reading | None = None) -> Estimate:
        """Return a metric with its interval.

        `finished_at` is over the replications in which nothing was left waiting.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.
        tenant : str
            The name of one of its tenants.
        metric : str
            A name in `summary.METRICS`: ``on_time``, ``delay_p95``, …; messages, or seconds where it is a time.
        under : (str, str), optional
            A limit's id and another reading of it; as asked by default.

        Returns
        -------
        Estimate
            Mean, low and high, in messages or in seconds.
        """
        values = self.values(alternative, tenant, metric, under)
        if metric == "finished_at":
            values = [value for value in values if not math.isnan(value)]
        return Estimate.of(values)

    def tenants(self, alternative: str) -> list[str]:
        """Return the tenants that an alternative carries.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.

        Returns
        -------
        list of str
            Their names.
        """
        return list(self.runs[alternative][0])

    def finished(self, alternative: str, tenant: str) -> tuple[float, float, float]:
        """Return how often nothing was left waiting at the end, with its Wilson interval.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.
        tenant : str
            The name of one of its tenants.

        Returns
        -------
        tuple of float
            The probability, and the ends of its 95 % interval.
        """
        times = sum(self.values(alternative, tenant, "finished"))
        return times / self.replications, *wilson(int(times), self.replications)

    def refusals(self, alternative: str, tenant: str) -> dict[str, Estimate]:
        """Return, for each limit, the messages that it throttled.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.
        tenant : str
            The name of one of its tenants.

        Returns
        -------
        dict of str to Estimate
            By the limit's id, in messages.
        """
        return self._by_name(alternative, tenant, lambda summary: summary.refusals)

    def other_refusals(self, alternative: str, tenant: str) -> dict[str, Estimate]:
        """Return, for each reply that isn't a limit's, the messages that ended with it.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.
        tenant : str
            The name of one of its tenants.

        Returns
        -------
        dict of str to Estimate
            By the reply, in messages.
        """
        return self._by_name(alternative, tenant, lambda summary: summary.other_refusals)

    def bound_by(self, alternative: str, tenant: str) -> dict[str, float]:
        """Return the share of each cause in the total delay of accepted messages; empty if there was none.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.
        tenant : str
            The name of one of its tenants.

        Returns
        -------
        dict of str to float
            Shares that add up to 1.
        """
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
        """Return by how much an alternative differs from another, by tenant and metric, paired by replication.

        Parameters
        ----------
        than : str
            The alternative that is subtracted.
        alternative : str
            The one that it is subtracted from.

        Returns
        -------
        dict of str to dict of str to Estimate
            By tenant, then metric; in messages or seconds.
        """
        shared = [tenant for tenant in self.tenants(alternative) if tenant in self.tenants(than)]
        return {
            tenant: {
                metric: paired(self.values(alternative, tenant, metric), self.values(than, tenant, metric))
                for metric in METRICS
            }
            for tenant in shared
        }

    def conclusion(self, under: Reading | None = None, metric: str | None = None) -> frozenset[str]:
        """Return the alternatives that are not worse than the best: whose `behind` doesn't exclude 0.

        Parameters
        ----------
        under : (str, str), optional
            A limit's id and another reading of it; as asked by default.
        metric : str, optional
            By what; by `on_time`, without a deadline by `accepted`, by default.

        Returns
        -------
        frozenset of str
            The alternatives' names.
        """
        return frozenset(name for name, gap in self.behind(under, metric).items() if not gap.excludes_zero)

    def behind(self, under: Reading | None = None, metric: str | None = None) -> dict[str, Estimate]:
        """Return by how much each alternative differs from the best, paired by replication.

        Parameters
        ----------
        under : (str, str), optional
            A limit's id and another reading of it; as asked by default.
        metric : str, optional
            A name in `summary.METRICS` of which more is better, summed over the tenants that are not neighbours; by
            default `on_time`, without a deadline `accepted`.

        Returns
        -------
        dict of str to Estimate
            By alternative, in messages; 0 for the best.
        """
        by = metric or ("accepted" if self.scenario.deadline is None else "on_time")
        own = [tenant.name for tenant in self.scenario.tenants if not tenant.neighbour]
        totals = {
            alternative: np.sum([self.values(alternative, tenant, by, under) for tenant in own], axis=0)
            for alternative in self.runs
        }
        best = max(totals.values(), key=lambda values: float(values.mean()))
        return {alternative: paired(values.tolist(), best.tolist()) for alternative, values in totals.items()}

    def flips(self) -> list[dict[str, Any]]:
        """Return, for each other reading of a limit in use, whether the conclusion changes under it alone.

        Returns
        -------
        list of dict
            ``limit``, ``reading``, ``flips``, as in `compare --json`.
        """
        standing = self.conclusion()
        return [
            {"limit": limit, "reading": reading, "flips": self.conclusion((limit, reading)) != standing}
            for limit, reading in self.under
        ]

    def assumptions(self) -> list[dict[str, str]]:
        """Return what the numbers rest on: facts graded assumed or with an assumed field, and own figures.

        Returns
        -------
        list of dict
            ``id`` and ``grade`` of each.
        """
        return self.scenario.rests_on(list(self.runs), self.as_of)

    def ends_at(self, alternative: str) -> str:
        """Return the providers at which an alternative's channels end.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.

        Returns
        -------
        str
            Their names, joined by commas.
        """
        lanes = self.scenario.lanes(alternative, self.as_of)
        return ", ".join(dict.fromkeys(lane.provider.name for lane in lanes))

    def role(self, alternative: str) -> str:
        """Return where an alternative's mail is accepted: ``delivery`` at mailbox providers, else ``submission``.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.

        Returns
        -------
        str
            ``delivery`` or ``submission``.
        """
        lanes = self.scenario.lanes(alternative, self.as_of)
        return "delivery" if all(lane.provider.role == "delivery" for lane in lanes) else "submission"

    def json(self) -> dict[str, Any]:
        """Return the document of the contract (`compare --json`).

        Returns
        -------
        dict
            Numbers, texts, lists and dictionaries only; counts are messages, times seconds.
        """
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
        """Return one row per alternative, tenant and metric: mean, low, high, random.

        Returns
        -------
        DataFrame
            Counts in messages, times in seconds.
        """
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
        """Every attempt of every replication and alternative (DESIGN §8); simulated again unless `keep` has them."""
        import pandas as pd

        return pd.concat(self.frames(), ignore_index=True)

    def frames(self) -> "Iterator[pd.DataFrame]":
        """Yield the record of each run, one alternative and replication after the other, long runs in several tables.

        Yields
        ------
        DataFrame
            As of `record.frame`, with ``alternative`` and ``replication``.
        """
        for alternative in self.runs:
            for replication in range(self.replications):
                for attempts in self._parts(alternative, replication):
                    for begin in range(0, max(1, len(attempts.rows)), ROWS):
                        rows = attempts.rows[begin : begin + ROWS]
                        found = frame(replace(attempts, rows=rows), self.scenario.zero)
                        found.insert(0, "alternative", alternative)
                        found.insert(1, "replication", replication)
                        yield found

    def _parts(self, alternative: str, replication: int) -> Iterator[Attempts]:
        """Yield the record of a run, long ones a day at a time: what was kept, else simulated again."""
        if self.keep is not None and alternative in self.runs and replication < self.replications:
            path = _place(self.keep, list(self.runs).index(alternative), replication)
            if path.exists():
                return kept(path)
        return days(self.scenario, alternative, self.seed, replication, self.as_of)

    def timeline(self, alternative: str, tenant: str | None = None, replication: int = 0) -> "pd.DataFrame":
        """Return what happened in each minute of a run: accepted, held, refused; see `plot.timeline`.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.
        tenant : str, optional
            Whose messages; by default everybody's.
        replication : int, optional
            Which run, from 0.

        Returns
        -------
        DataFrame
            A row a minute, in attempts per minute.
        """
        lanes = self.scenario.lanes(alternative, self.as_of)
        found = [
            summary.timeline(attempts, self.scenario, lanes, tenant)
            for attempts in self._parts(alternative, replication)
        ]
        return functools.reduce(lambda one, other: one.add(other, fill_value=0).astype(one.dtypes), found)

    def delays(self, alternative: str, tenant: str, replication: int = 0) -> Floats:
        """Return a run's delays from creation to acceptance, in seconds, of a tenant's offered messages; inf if never.

        Shape ``(messages,)``, ascending; messages created before `transient` are left out.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.
        tenant : str
            The name of one of its tenants.
        replication : int, optional
            Which run, from 0.

        Returns
        -------
        ndarray of float
            Seconds.
        """
        lanes = self.scenario.lanes(alternative, self.as_of)
        parts = self._parts(alternative, replication)
        return np.sort(np.concatenate([summary.delays(part, self.scenario, lanes, tenant) for part in parts]))

    def fairness(self, alternative: str, tenant: str) -> Fairness:
        """Return how a tenant's senders fared beside each other, and who starved whom; simulated again.

        Parameters
        ----------
        alternative : str
            The name of one of the scenario's alternatives.
        tenant : str
            The name of one of its tenants.

        Returns
        -------
        Fairness
            Tables of the senders, and Jain's index.
        """
        lanes = self.scenario.lanes(alternative, self.as_of)
        numbers = range(self.replications)
        runs = (run(self.scenario, alternative, self.seed, number, self.as_of) for number in numbers)
        return gather([shares(attempts, self.scenario, lanes, tenant) for attempts in runs])

    def fates(self, tenant: str, under: Reading | None = None) -> "pd.DataFrame":
        """Return what became of a tenant's messages on each channel, on average: `plot.comparison` draws it.

        Parameters
        ----------
        tenant : str
            Whose messages.
        under : (str, str), optional
            A limit's id and another reading of it; as asked by default.

        Returns
        -------
        DataFrame
            One row an alternative: ``alternative``; in messages ``offered``, ``at_once`` (accepted, and no limit in the
            way), ``held`` (accepted though a limit held or deferred them), ``refused``, ``expired``, ``waiting``,
            ``on_time`` (nan without a deadline), ``within_hour``; in seconds ``held_mean``, the mean delay of ``held``.
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
                    "within_hour": mean["within_hour"],
                    "held_mean": mean["throttled_delay_mean"],
                }
            )
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        return (
            f"<Result {self.scenario.name!r}: {len(self.runs)} alternatives, {self.replications} replications, "
            f"seed {self.seed}, facts as of {self.as_of}>"
        )

    def __str__(self) -> str:
        return str(self._means().to_string(float_format="{:,.6g}".format, na_rep="–"))

    def _repr_html_(self) -> str:
        from simlib import plot  # who asks for numbers doesn't wait for matplotlib

        table = self._means().to_html(float_format="{:,.6g}".format, na_rep="–")
        tenant = next(one.name for one in self.scenario.tenants if not one.neighbour)
        title = f"What becomes of the messages of {tenant}"
        deadline = "" if self.scenario.deadline is None else f"{self.scenario.deadline:%H:%M}"
        return f"{table}{plot.img(plot.comparison(self.fates(tenant), title, deadline), title, '40em')}"

    def _means(self) -> "pd.DataFrame":
        return self.table().pivot_table("mean", "metric", ["alternative", "tenant"], sort=False)


def compare(
    scenario: Scenario,
    replications: int = 20,
    seed: int = 1,
    jobs: int | None = None,
    as_of: dt.date | None = None,
    progress: Progress | None = None,
    keep: Path | None = None,
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
    keep : Path, optional
        An empty folder. The record is kept there, so that what is made of it later (`Result.attempts`, `frames`,
        `timeline`, `delays`) needn't be simulated again; some 60 bytes an attempt.

    Returns
    -------
    Result
        Means, intervals, paired differences, and under which other readings the conclusion changes.

    Raises
    ------
    ValueError
        If `replications` or `jobs` is less than 1, `keep` isn't empty, or memory can't hold a run in one piece.

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
    if keep is not None and any(keep.iterdir()):
        raise ValueError(f"keep must be an empty folder, so that nothing else is taken for the record, got {keep}")
    for alternative in scenario.alternatives:
        if not splits(scenario.lanes(alternative, as_of)):
            _has_room(scenario, alternative)
    variants: list[Variant] = [(None, alternative, scenario) for alternative in scenario.alternatives]
    runs = _simulate_all(variants, replications, seed, jobs, as_of, progress, keep)[None]
    return Result(scenario, as_of or scenario.date, replications, seed, runs, jobs, progress, keep)


def _place(keep: Path, alternative: int, replication: int) -> Path:
    return keep / f"{alternative}-{replication}"


def _simulate_all(
    variants: "Sequence[Variant]",
    replications: int,
    seed: int,
    jobs: int | None,
    as_of: dt.date | None,
    progress: Progress | None,
    keep: Path | None,
) -> "dict[Reading | None, Runs]":
    """Run every variant so many times, in several processes if that is worth it; the result doesn't depend on it."""
    if not variants:
        return {}
    tell = progress or (lambda done, of: None)
    began = time.perf_counter()
    found = [_replicate(variants, seed, 0, as_of, keep, lambda done: tell(done, replications))]
    tell(1, replications)
    rest = (time.perf_counter() - began) * (replications - 1)
    workers = min(jobs or (os.cpu_count() or 1), max(1, replications - 1))
    if workers > 1 and (jobs is not None or rest > WORTH_PROCESSES):
        from joblib import Parallel, delayed

        tasks = (delayed(_replicate)(variants, seed, number, as_of, keep) for number in range(1, replications))
        with deaf_children():
            results = Parallel(n_jobs=workers, return_as="generator")(tasks)
        with warnings.catch_warnings(), contextlib.closing(results):
            warnings.simplefilter("ignore", UserWarning)  # who interrupts needn't hear how many tasks that cancels
            for one in results:
                found.append(one)
                tell(len(found), replications)
    else:
        for number in range(1, replications):
            found.append(_replicate(variants, seed, number, as_of, keep))
            tell(len(found), replications)
    runs: dict[Reading | None, dict[str, list[Mapping[str, Summary]]]] = {}
    for key, alternative, _ in variants:
        runs.setdefault(key, {})[alternative] = [one[key, alternative] for one in found]
    return dict(runs)


def _replicate(
    variants: Sequence[Variant],
    seed: int,
    replication: int,
    as_of: dt.date | None,
    keep: Path | None = None,
    tell: Callable[[float], None] = lambda done: None,
) -> dict[tuple[Reading | None, str], dict[str, Summary]]:
    """Run every variant once, on the same messages; tell what share is done, where that takes several days."""
    longest = max(scenario.duration for *_, scenario in variants)
    messages = variants[0][2].messages(seed, replication) if longest <= DAY else None
    found = {}
    for place, (key, alternative, scenario) in enumerate(variants):
        lanes = scenario.lanes(alternative, as_of)
        tally = Tally(scenario, lanes)
        parts: Iterable[Attempts]
        if messages is not None:
            parts = [run(scenario, alternative, seed, replication, as_of, messages)]
        else:
            parts = days(scenario, alternative, seed, replication, as_of)
        if keep is not None:
            parts = keeping(parts, _place(keep, place, replication))
        for day, attempts in enumerate(parts, 1):
            tally.add(attempts)
            if messages is None:
                tell((place + min(1.0, day * DAY / scenario.duration)) / len(variants))
        found[key, alternative] = tally.summaries()
    return found
