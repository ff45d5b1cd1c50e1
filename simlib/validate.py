"""The twin run: simulation and real SMTP on the same arrivals, and whether they agree (DESIGN §10).

Two gates. *Exact*: the simulated attempts, replayed over TCP on the virtual clock, get the same replies; nothing is
allowed to differ. *Measured*: Locust on the wall clock, against a simulation whose service times are those that the
load measured.
"""

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from simlib.attempts import Attempts
from simlib.experiment import run
from simlib.load import LATE_SHARE, Load, load
from simlib.replay import Exact, exact
from simlib.scenario import Scenario
from simlib.summary import Summary, summarize

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COUNTS", "DELAYS", "Comparison", "Twin", "Validation", "over_smtp", "twin", "validate"]

UNASKED: Final = 600.0
"""Seconds of real time beyond which an alternative is measured only if a time scale was asked for or stated."""
COUNTS: Final = ("offered", "accepted", "rejected", "expired", "waiting", "throttled")
DELAYS: Final = ("delay_p50", "delay_p95", "delay_p99")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One number, twice.

    Parameters
    ----------
    tenant, metric : str
        Whose, and which; ``refusals: ID`` counts the messages that a limit throttled.
    simulated, measured : float
        Messages, messages an hour, or seconds.
    tolerance : float
        By how much they may differ, in the same unit.
    """

    tenant: str
    metric: str
    simulated: float
    measured: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether they are as close as they may be; two that are infinite are the same."""
        if math.isinf(self.simulated) or math.isinf(self.measured):
            return self.simulated == self.measured
        if math.isnan(self.simulated) or math.isnan(self.measured):
            return math.isnan(self.simulated) and math.isnan(self.measured)
        return abs(self.simulated - self.measured) <= self.tolerance


@dataclass(frozen=True, slots=True)
class Times:
    """What a load took, by channel, in scenario seconds.

    Parameters
    ----------
    setups, transactions : dict of str to float
        To open a session, and to hand over a message, holds left out.
    """

    setups: dict[str, float]
    transactions: dict[str, float]

    def of(self, channel: str) -> float:
        """Return what a message takes that opens its session.

        Parameters
        ----------
        channel : str
            Its name.

        Returns
        -------
        float
            In scenario seconds.
        """
        return self.setups[channel] + self.transactions[channel]

    def scaled(self, share: float) -> "Times":
        """Return so much of it: what it would be at so much of the time scale.

        Parameters
        ----------
        share : float
            Of the time scale.

        Returns
        -------
        Times
            In scenario seconds.
        """
        both = (self.setups, self.transactions)
        return Times(*({name: seconds * share for name, seconds in one.items()} for one in both))


@dataclass(frozen=True, slots=True)
class Hurry:
    """Why a time scale is too high: the load's own times, which scatter, decide the numbers.

    Parameters
    ----------
    channel : str
        The one that takes longest.
    fast, slow : float
        What set-up and transaction take there, in scenario seconds: means of the faster and of the slower half.
    differs : Comparison
        A number that they decide.
    enough : float
        A time scale at which they decide none.
    """

    channel: str
    fast: float
    slow: float
    differs: Comparison
    enough: float


@dataclass(frozen=True)
class Twin:
    """One alternative, measured and simulated with the times that were measured.

    Parameters
    ----------
    load : Load
        What was measured.
    scenario : Scenario
        The question with the measured service times and session set-ups in it.
    simulated : Attempts
        The record of its simulation.
    times : Times
        The means measured.
    tolerance : float
        The share by which counts and delays may differ.
    """

    load: Load
    scenario: Scenario
    simulated: Attempts = field(repr=False)
    times: Times
    tolerance: float

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        """What became of each tenant's messages in the simulation."""
        lanes = self.scenario.lanes(self.load.alternative, self.load.as_of)
        return summarize(self.simulated, self.scenario, lanes)

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Each number of each tenant, simulated and measured."""
        return tuple(
            comparison for tenant in self.summaries for comparison in self._of(tenant) if tenant in self.load.summaries
        )

    def _of(self, tenant: str) -> list[Comparison]:
        return self._compared(tenant, self.summaries[tenant], self.load.summaries[tenant])

    def _compared(self, tenant: str, simulated: Summary, measured: Summary, share: float = 1.0) -> list[Comparison]:
        """Hold two runs against each other in which the measured times are so much shorter."""
        count = max(1.0, self.tolerance * simulated.numbers["offered"])
        channel = next(
            channel.name
            for channel in self.scenario.alternatives[self.load.alternative].channels
            if tenant in channel.tenants
        )
        once = self.times.of(channel) * share
        found = [Comparison(tenant, name, simulated.numbers[name], measured.numbers[name], count) for name in COUNTS]
        for limit in dict.fromkeys((*simulated.refusals, *measured.refusals)):
            counts = simulated.refusals.get(limit, 0.0), measured.refusals.get(limit, 0.0)
            found.append(Comparison(tenant, f"refusals: {limit}", *counts, count))
        hours = (self.scenario.duration - self.scenario.transient) / 3600
        rates = simulated.numbers["goodput_per_hour"], measured.numbers["goodput_per_hour"]
        found.append(Comparison(tenant, "goodput_per_hour", *rates, count / hours))
        for name in DELAYS:
            seconds = simulated.numbers[name]
            allowed = self.tolerance * seconds + once if math.isfinite(seconds) else 0.0
            found.append(Comparison(tenant, name, seconds, measured.numbers[name], allowed))
        return found

    @cached_property
    def hurry(self) -> Hurry | None:
        """Why the time scale is too high, if it is, and which one would do.

        A hurried transaction takes long in the scenario's time, and not always the same. Where the simulation says one
        thing with the mean of the faster half and another with that of the slower half, it is this machine that
        decides, not the channel. Nothing of the kind can be said at scale 1, nor where load and simulation agree.
        """
        if self.load.time_scale <= 1 or all(comparison.agrees for comparison in self.comparisons):
            return None
        fast, slow = times(self.load, end=0.5), times(self.load, begin=0.5)
        scale, first = self.load.time_scale, None
        while scale > 1:
            share = scale / self.load.time_scale
            ends = [self._summaries_with(took.scaled(share)) for took in (fast, slow)]
            found = [one for name in ends[0] for one in self._compared(name, ends[0][name], ends[1][name], share)]
            differs = next((one for one in found if not one.agrees), None)
            if differs is None:
                break
            first = first or differs
            scale = max(1.0, scale / 2)
        if first is None:
            return None
        channel = max(self.times.setups, key=self.times.of)
        return Hurry(channel, fast.of(channel), slow.of(channel), first, scale)

    def _summaries_with(self, took: Times) -> dict[str, Summary]:
        scenario, attempts = _simulated(self.load, took)
        return summarize(attempts, scenario, scenario.lanes(self.load.alternative, self.load.as_of))

    @property
    def once(self) -> float:
        """One measured set-up and one measured transaction of the slowest channel, in scenario seconds."""
        return max(map(self.times.of, self.times.setups))

    @property
    def agrees(self) -> bool:
        """Whether the load kept up, and every number is as close as it may be."""
        return self.load.counts and all(comparison.agrees for comparison in self.comparisons)

    def table(self) -> "pd.DataFrame":
        """Return every number side by side: tenant, metric, simulated, measured, tolerance, agrees.

        Returns
        -------
        DataFrame
            A row a number.
        """
        import pandas as pd

        rows = [(x.tenant, x.metric, x.simulated, x.measured, x.tolerance, x.agrees) for x in self.comparisons]
        return pd.DataFrame(rows, columns=["tenant", "metric", "simulated", "measured", "tolerance", "agrees"])

    def _repr_html_(self) -> str:
        return str(self.table().to_html(index=False, float_format="{:,.6g}".format))

    def residuals(self) -> "pd.DataFrame":
        """Return by how much later than simulated each message was accepted, in scenario seconds.

        Returns
        -------
        DataFrame
            One row a message that was accepted in both: ``created_at``, ``tenant``, ``residual``
            and, as simulated, ``delay``.
        """
        import pandas as pd

        simulated, measured = _accepted_at(self.simulated), _accepted_at(self.load.attempts)
        both = np.isfinite(simulated) & np.isfinite(measured)
        messages = self.simulated.messages
        return pd.DataFrame(
            {
                "created_at": messages.created_at[both],
                "tenant": np.array(messages.tenants, dtype=object)[messages.tenant[both]],
                "residual": measured[both] - simulated[both],
                "delay": simulated[both] - messages.created_at[both],
            }
        )


def _accepted_at(attempts: Attempts) -> Any:
    found = np.full(len(attempts.messages), math.inf)
    codes = np.array([kind[1] for kind in attempts.kinds])[attempts["kind"].astype(int)]
    accepted = (codes >= 200) & (codes < 300) & (attempts["final"] > 0)
    found[attempts["message"][accepted].astype(int)] = attempts["ended"][accepted]
    return found


@dataclass(frozen=True)
class Validation:
    """What both gates said.

    Parameters
    ----------
    exact : dict of str to Exact
        By alternative.
    twins : dict of str to Twin
        By alternative.
    """

    exact: Mapping[str, Exact]
    twins: Mapping[str, Twin]

    @property
    def agrees(self) -> bool:
        """Whether nothing differed over TCP, and everything measured was close enough."""
        return not any(one.differences for one in self.exact.values()) and all(
            twin.agrees for twin in self.twins.values()
        )

    def json(self) -> dict[str, Any]:
        """Return the document of the contract (`validate --json`).

        Returns
        -------
        dict
            What `json.dumps` takes.
        """
        alternatives: dict[str, Any] = {}
        for name, twin in self.twins.items():
            tenants: dict[str, dict[str, Any]] = {}
            for one in twin.comparisons:
                tenants.setdefault(one.tenant, {})[one.metric] = {
                    "simulated": _finite(one.simulated),
                    "measured": _finite(one.measured),
                    "tolerance": _finite(one.tolerance),
                    "agrees": one.agrees,
                }
            alternatives[name] = tenants
        return {
            "agrees": self.agrees,
            "exact": {
                "replies": sum(one.replies for one in self.exact.values()),
                "differences": sum(len(one.differences) for one in self.exact.values()),
            },
            "alternatives": alternatives,
            "loads": {
                name: {
                    "result": twin.load.counts,
                    "late": twin.load.late,
                    "time_scale": twin.load.time_scale,
                    "session_setup": twin.times.setups,
                    "transaction": twin.times.transactions,
                    "time_scale_that_would_do": None if twin.hurry is None else _rounded_down(twin.hurry.enough),
                }
                for name, twin in self.twins.items()
            },
        }

    def problems(self) -> list[str]:
        """Return one line for each thing that doesn't agree.

        Returns
        -------
        list of str
            Empty if all agrees.
        """
        found = [line for one in self.exact.values() for line in one.differences]
        for name, twin in self.twins.items():
            if twin.hurry is not None:
                found.append(f"{name}: {_too_high(twin, twin.hurry)}")
            if not twin.load.counts:
                found.append(
                    f"{name}: {twin.load.late:.1%} of the attempts began more than 50 ms late, {LATE_SHARE:.0%} are "
                    "allowed: the generator couldn't keep up, so this is no result; take a smaller time scale"
                )
            found += [
                f"{name}: {one.tenant}, {one.metric}: simulated {one.simulated:,.6g}, measured {one.measured:,.6g}, "
                f"may differ by {one.tolerance:,.3g}"
                for one in twin.comparisons
                if not one.agrees
            ]
        return found


def _too_high(twin: Twin, hurry: Hurry) -> str:
    """Say it in plain words."""
    said = next(
        one for one in twin.load.scenario.alternatives[twin.load.alternative].channels if one.name == hurry.channel
    )
    own = said.session_setup + said.service.mean
    return (
        f"the time scale is too high. At {twin.load.time_scale:g} times the speed, opening a session and sending a "
        f"message over {hurry.channel!r} takes {twin.times.of(hurry.channel):,.3g} s "
        f"of the scenario, which itself says {own:,.3g} s; and whether it is {hurry.fast:,.3g} or {hurry.slow:,.3g} s, "
        "as the quicker and the slower half were, decides the result "
        f"({hurry.differs.tenant}, {hurry.differs.metric}). --time-scale {_rounded_down(hurry.enough):g} would do"
    )


def _rounded_down(scale: float) -> float:
    """Leave two digits of a time scale."""
    digit = 10.0 ** (math.floor(math.log10(scale)) - 1)
    return round(math.floor(scale / digit + 1e-9) * digit, 9)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def validate(
    scenario: Scenario,
    folder: Path,
    alternatives: Sequence[str] | None = None,
    *,
    time_scale: float | None = None,
    tolerance: float = 0.01,
    seed: int = 1,
    as_of: dt.date | None = None,
    progress: Progress | None = None,
) -> Validation:
    """Run the twin: load first, then the same messages simulated with the times that it measured; and the replay.

    Parameters
    ----------
    scenario : Scenario
        The question.
    folder : Path
        Where ledgers go; each alternative has a folder of its own in it.
    alternatives : sequence of str, optional
        Which; all that speak SMTP by default.
    time_scale : float, optional
        Scenario seconds in a real one; the scenario's own by default. A scenario of more than `UNASKED` seconds that
        states none is only replayed.
    tolerance : float
        The share of `offered` by which counts, and the share of themselves by which delays may differ.
    seed : int
        Of the messages: those of its replication 0.
    as_of : date, optional
        The date whose facts apply; the scenario's by default.
    progress : callable, optional
        Told what is being done, how far it is, and of how much.

    Returns
    -------
    Validation
        What both gates said.

    Raises
    ------
    ValueError
        If `tolerance` is not from 0 to less than 1, or there is no such alternative.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be at least 0 and below 1, got {tolerance:g}")
    chosen, _ = over_smtp(scenario, alternatives or (), as_of)
    replays: dict[str, Exact] = {}
    twins: dict[str, Twin] = {}
    for number, name in enumerate(chosen, 1):
        place = folder / f"{number:02}"
        (place / "exact").mkdir(parents=True, exist_ok=True)
        tell = _telling(progress, name)
        if time_scale is not None or measurable(scenario):
            told = tell("measured")
            measured = load(scenario, name, place, seed=seed, time_scale=time_scale, as_of=as_of, progress=told)
            twins[name] = twin(measured, tolerance)
        replays[name] = exact(place / "exact", scenario, name, seed, as_of, tell("exact"))
    return Validation(replays, twins)


def over_smtp(
    scenario: Scenario, alternatives: Sequence[str] = (), as_of: dt.date | None = None
) -> tuple[list[str], list[str]]:
    """Return the alternatives that speak SMTP, and a line for each that doesn't.

    Parameters
    ----------
    scenario : Scenario
        Whose alternatives.
    alternatives : sequence of str, optional
        Which were asked for; all if none.
    as_of : date, optional
        The date whose facts apply; the scenario's by default.

    Returns
    -------
    tuple of (list of str, list of str)
        Their names, and the sentences about the others.

    Raises
    ------
    ValueError
        If one that was asked for doesn't, or there is no such one.
    """
    chosen: list[str] = []
    left_out: list[str] = []
    for name in alternatives or scenario.alternatives:
        if name not in scenario.alternatives:
            raise ValueError(f"unknown alternative {name!r} (there are: {', '.join(map(repr, scenario.alternatives))})")
        others = [lane.provider for lane in scenario.lanes(name, as_of) if lane.provider.transport != "smtp"]
        if not others:
            chosen.append(name)
            continue
        why = f"{name}: {others[0].name} speaks {others[0].transport.upper()}, not SMTP"
        if alternatives:
            raise ValueError(why)
        left_out.append(why)
    if not chosen:
        raise ValueError(f"no alternative speaks SMTP ({'; '.join(left_out)})")
    return chosen, left_out


def measurable(scenario: Scenario) -> bool:
    """Whether measuring takes no longer than somebody expects who didn't ask for a time scale."""
    return "time_scale" in scenario.model_fields_set or scenario.duration <= UNASKED


def _telling(progress: Progress | None, name: str) -> Callable[[str], Callable[[int, int], None] | None]:
    def of(gate: str) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, of: progress(f"{name}, {gate}", done, of)

    return of


def twin(measured: Load, tolerance: float = 0.01) -> Twin:
    """Simulate what a load test sent, with the service times and session set-ups that it measured.

    Parameters
    ----------
    measured : Load
        The load test.
    tolerance : float, optional
        The share of `offered` by which counts, and the share of themselves by which delays may differ.

    Returns
    -------
    Twin
        Measured and simulated figures beside each other.
    """
    took = times(measured)
    scenario, simulated = _simulated(measured, took)
    return Twin(measured, scenario, simulated, took, tolerance)


def _simulated(measured: Load, took: Times) -> tuple[Scenario, Attempts]:
    """Simulate the messages of a load test with these times."""
    changes = {
        name: {"session_setup": f"{took.setups[name]:.9f}s", "service": f"{took.transactions[name]:.9f}s"}
        for name in took.setups
    }
    scenario = measured.scenario.replace(alternatives={measured.alternative: {"channels": changes}})
    return scenario, run(scenario, measured.alternative, measured.seed, 0, measured.as_of, measured.attempts.messages)


def times(measured: Load, begin: float = 0.0, end: float = 1.0) -> Times:
    """Return the mean of each channel's session set-ups and of its transactions, holds left out, in scenario seconds.

    Of all, or of the quickest, the slowest: from one share of them, in order, to another.

    A transaction holds its connection from the moment it could begin until the client has written the reply down and
    can go on.
    """
    lanes = measured.scenario.lanes(measured.alternative, measured.as_of)
    accepts_late = {
        f"{lane.provider.name}/{limit.id}"
        for lane in lanes
        for limit in lane.provider.limits
        if limit.on_excess == "accept_late"
    }
    channel_of = [channel for channel, _, _ in measured.attempts.queues]
    setups: dict[str, list[float]] = {lane.channel.name: [] for lane in lanes}
    transactions: dict[str, list[float]] = {lane.channel.name: [] for lane in lanes}
    for row in measured.rows:
        if not row["stage"] or row["ended_at"] is None:
            continue
        channel, scale = channel_of[row["route"]], measured.time_scale
        if row["connect"] > 0 and row["mail"] > 0:
            setups[channel].append((row["connect"] + row["tls"] + row["auth"]) * scale)
        if row["stage"] == "EOD" and row["code"]:
            held = 0.0 if row["limit"] in accepts_late else row["held"]
            busy = row["late"] + row["mail"] + row["data"] + row["after"]
            transactions[channel].append(busy * scale - held)

    def mean(took: list[float]) -> float:
        some = sorted(took)[math.floor(begin * len(took)) : math.ceil(end * len(took))]
        return max(0.0, float(np.mean(some))) if some else 0.0

    return Times(*({name: mean(took) for name, took in each.items()} for each in (setups, transactions)))
