"""What if an assumption were another: a comparison again and again, and where its conclusion flips."""

import datetime as dt
import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simlib.experiment import Progress, Result, compare
from simlib.facts import Rate, duration
from simlib.report import rests_on
from simlib.scenario import Scenario
from simlib.summary import in_time

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Axis", "Point", "Sweep", "assume", "sweep"]

OVERRIDES = ("limits", "readings")
"""Tables of a scenario in which any name may be set, there or not."""
ASKED = re.compile(r'((?:"[^"]*"|[^="])+)=(.+)')
"""``NAME=a,b,c``; a quoted part of the name may have a ``=``."""
METRICS = ("offered", "accepted", "rejected", "expired", "waiting", "on_time", "within_hour", "delay_p95")
"""What `--json` says about each point."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An assumption and the values that it is given in turn.

    Parameters
    ----------
    name : str
        A limit's amount, ``google-mx/quota``, or a key of the scenario file as a TOML key:
        ``tenants.strangers.arrivals.rate``, ``alternatives."Office 365".channels.o365.connections``. Tables in lists
        go by their `name` or `label`, or by their number from 1.
    values : tuple
        As TOML has them.

    Examples
    --------
    >>> Axis.parse("google-mx/quota=500/h,1000/h").values
    ('500/h', '1000/h')
    >>> Axis.parse("tenants.us.senders=10,25").values
    (10, 25)
    """

    name: str
    values: tuple[Any, ...]

    @classmethod
    def parse(cls, text: str) -> "Axis":
        """Read ``NAME=a,b,c``; anything else is a ValueError."""
        found = ASKED.fullmatch(text.strip())
        if not found:
            raise ValueError(f"--sweep must look like google-mx/quota=500/h,1000/h, got {text!r}")
        name, values = found[1].strip(), _values(found[2])
        if len({repr(value) for value in values}) < len(values):
            raise ValueError(f"--sweep {name}: a value is given twice in {found[2]!r}")
        return cls(name, values)

    @property
    def path(self) -> tuple[str, ...]:
        """The steps to the key in the scenario file."""
        if "/" in self.name and not self.name.startswith(OVERRIDES):
            return ("limits", self.name)
        try:
            found: Any = tomllib.loads(f"{self.name} = 0")
        except tomllib.TOMLDecodeError:
            known = 'google-mx/quota, tenants.us.senders, alternatives."Office 365".channels.o365.connections'
            raise ValueError(f"--sweep must name a limit or a key, such as {known}; got {self.name!r}") from None
        steps = []
        while isinstance(found, dict):
            ((step, found),) = found.items()
            steps.append(step)
        return tuple(steps)

    def set(self, scenario: Scenario, value: Any) -> Scenario:
        """Return the scenario with that value.

        Raises
        ------
        ValueError
            One line, if there is no such limit or key, no alternative meets the limit, or the value can't be.
        """
        path = self.path
        if path[0] in OVERRIDES and len(path) == 2:
            provider = path[1].partition("/")[0]
            met = {name for one in scenario.alternatives.values() for channel in one.channels for name in channel.to}
            if provider not in met:
                raise ValueError(
                    f"--sweep {self.name}: no alternative sends to {provider!r} (they send to: {_list(met)})"
                )
        return Scenario.build(_put(scenario.data, path, value, f"--sweep {self.name}"), f"--sweep {self.name}={value}")

    def places(self) -> tuple[list[float], str]:
        """Return where the values stand on an axis, and its unit: empty if they are no numbers."""
        for read, unit in ((_number, " "), (_per_hour, ", an hour"), (_seconds, ", in seconds")):
            try:
                return [read(value) for value in self.values], unit.rstrip()
            except ValueError:
                continue
        return list(map(float, range(1, len(self.values) + 1))), f": {', '.join(map(str, self.values))}"


def _values(text: str) -> tuple[Any, ...]:
    """Read values as TOML has them; what isn't TOML is text, and so are dates and times."""
    try:
        found = tomllib.loads(f"values = [{text}]")["values"]
    except tomllib.TOMLDecodeError:
        found = []
        for part in text.split(","):
            try:
                found.append(tomllib.loads(f"value = {part}")["value"])
            except tomllib.TOMLDecodeError:
                found.append(part.strip())
    return tuple(value.isoformat() if isinstance(value, dt.date | dt.time) else value for value in found)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    return float(value)


def _per_hour(value: Any) -> float:
    return Rate.parse(value).per_second * 3600


def _seconds(value: Any) -> float:
    return duration(value)


def _list(names: "Sequence[str] | set[str]") -> str:
    return ", ".join(sorted(names)) or "none"


def _put(data: Any, path: Sequence[str], value: Any, where: str) -> Any:
    """Return a copy of nested tables and lists with one key set; its last step need not be there yet."""
    step, *rest = path
    if isinstance(data, list):
        known = [str(item.get("name", item.get("label", number))) for number, item in enumerate(data, 1)]
        numbered = [str(number) for number in range(1, len(data) + 1)]
        names = known if step in known else numbered
        if step not in names and len(data) == 1:  # the only one needs no name
            return [_put(data[0], path, value, where)]
        if step not in names or not rest:
            raise ValueError(f"{where}: there is no {step!r} (there are: {', '.join(known)})")
        return [
            _put(item, rest, value, where) if name == step else item for name, item in zip(names, data, strict=True)
        ]
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: {step!r} is no key of a table")
    if not rest:
        return {**data, step: value}
    if step not in data and step not in OVERRIDES:
        raise ValueError(f"{where}: there is no {step!r} (there are: {', '.join(map(str, data))})")
    return {**data, step: _put(data.get(step, {}), rest, value, where)}


@dataclass(frozen=True, slots=True)
class Point:
    """A comparison under assumed values.

    Parameters
    ----------
    values : tuple
        One for each axis.
    result : Result
        What came out.
    """

    values: tuple[Any, ...]
    result: Result = field(repr=False)


@dataclass(frozen=True)
class Sweep:
    """What `sweep` found: a comparison for each combination of the values, the last axis changing fastest.

    Parameters
    ----------
    axes : tuple of Axis
        One or two.
    points : tuple of Point
        All combinations.
    standing : Result
        The scenario as it is.
    """

    axes: tuple[Axis, ...]
    points: tuple[Point, ...]
    standing: Result = field(repr=False)

    @property
    def metric(self) -> str:
        """By what the conclusions go: `on_time`, without a deadline `within_hour` (`summary.in_time`)."""
        return in_time(self.points[0].result.scenario)[0]

    def best(self, result: Result) -> list[str]:
        """Return which alternatives are not shown to be worse than the best in what is accepted in time.

        Parameters
        ----------
        result : Result
            That of a point, or the scenario's as it stands.

        Returns
        -------
        list of str
            Their names, in the scenario's order.
        """
        found = result.conclusion(metric=in_time(result.scenario)[0])
        return [name for name in result.runs if name in found]

    def flips(self) -> list[dict[str, Any]]:
        """Return between which neighbouring values of an axis the conclusion changes, all else equal.

        An alternative changes sides where its paired difference from the best excludes 0 at one of the two values, and
        doesn't at the other: what luck may have done is no flip.

        Returns
        -------
        list of dict
            ``name`` of the axis, ``from`` and ``to`` its values, ``at`` the other axis's value by its name,
            ``best_from`` and ``best_to``, the conclusions, and ``behind``: of each alternative that changes sides, its
            difference from the best at both values, ``{NAME: {"from": …, "to": …}}``.
        """
        found = []
        for number, axis in enumerate(self.axes):
            others = [other for place, other in enumerate(self.axes) if place != number]
            for held in itertools.product(*(other.values for other in others)):
                rest = [p for p in self.points if p.values[:number] + p.values[number + 1 :] == held]
                for before, after in itertools.pairwise(rest):
                    one, two = self.best(before.result), self.best(after.result)
                    if one != two:
                        gaps = [point.result.behind(metric=self.metric) for point in (before, after)]
                        found.append(
                            {
                                "name": axis.name,
                                "from": before.values[number],
                                "to": after.values[number],
                                "at": dict(zip((other.name for other in others), held, strict=True)),
                                "best_from": one,
                                "best_to": two,
                                "behind": {
                                    name: {"from": gaps[0][name].json(), "to": gaps[1][name].json()}
                                    for name in before.result.runs
                                    if (name in one) != (name in two)
                                },
                            }
                        )
        return found

    def json(self) -> dict[str, Any]:
        """Return what `compare --json` has under ``sweep``."""
        standing = self.best(self.standing)
        return {
            "names": [axis.name for axis in self.axes],
            "metric": self.metric,
            "points": [
                {
                    "values": dict(zip((axis.name for axis in self.axes), point.values, strict=True)),
                    "best": self.best(point.result),
                    "flips": self.best(point.result) != standing,
                    "alternatives": {
                        name: {
                            tenant: {metric: _estimate(point.result, name, tenant, metric) for metric in METRICS}
                            for tenant in point.result.tenants(name)
                        }
                        for name in point.result.runs
                    },
                }
                for point in self.points
            ],
            "flips_between": self.flips(),
        }

    def lines(self) -> list[str]:
        """Say by what alternatives are told apart, which are best at each point, and where that flips: a line each."""
        metric, what = in_time(self.points[0].result.scenario)
        why = "" if metric == "on_time" else ", as there is no deadline, and what waits for hours is accepted at last"
        said = [f"Best are those with most mail {what}{why}; whose difference from the best excludes 0 is behind."]
        standing = self.best(self.standing)
        for point in self.points:
            given = ", ".join(f"{axis.name} = {value}" for axis, value in zip(self.axes, point.values, strict=True))
            found = self.best(point.result)
            mark = "  (another conclusion than the scenario's)" if found != standing else ""
            said.append(f"If {given}: {'; '.join(found)}{mark}")
        flips = self.flips()
        for one in flips:
            given = "".join(f", with {name} = {value}" for name, value in one["at"].items())
            between = f"{one['name']} = {one['from']} and {one['to']}{given}"
            said.append(f"Flips between {between}: from {'; '.join(one['best_from'])} to {'; '.join(one['best_to'])}.")
            said += [
                f"  {name} against the best: {_gap(gaps['from'])}, then {_gap(gaps['to'])} messages"
                for name, gaps in one["behind"].items()
            ]
        if not flips:
            said.append("Between these values the conclusion never flips.")
        return said

    def figures(self) -> dict[str, Any]:
        """Draw the messages accepted in time (`metric`) over the first axis, a figure per other value.

        Returns
        -------
        dict of str to Figure
            ``sweep``, or ``sweep-1``, ``sweep-2`` and so on.
        """
        import pandas as pd

        from simlib import plot

        metric, counted = in_time(self.points[0].result.scenario)
        what = f"Messages {counted}"
        first, *others = self.axes
        places, unit = first.places()
        tenant = next(one.name for one in self.standing.scenario.tenants if not one.neighbour)
        found = {}
        held = list(itertools.product(*(other.values for other in others)))
        for number, rest in enumerate(held, 1):
            mine = [point for point in self.points if point.values[1:] == rest]
            rows = [
                {"name": name, "x": x} | _estimate(point.result, name, tenant, metric)
                for name in self.standing.runs
                for x, point in zip(places, mine, strict=True)
            ]
            given = "".join(f", {other.name} = {value}" for other, value in zip(others, rest, strict=True))
            figure = plot.dependence(
                _numbers(pd.DataFrame(rows)), f"{what}{given}", f"{first.name} (assumed){unit}", what
            )
            plot.note(figure, rests_on(self.standing))
            found["sweep" if len(held) == 1 else f"sweep-{number}"] = figure
        return found


def _numbers(table: "pd.DataFrame") -> "pd.DataFrame":
    return table.astype(dict.fromkeys(("x", "mean", "low", "high"), float))


def _estimate(result: Result, alternative: str, tenant: str, metric: str) -> dict[str, Any]:
    return result.estimate(alternative, tenant, metric).json()


def _gap(estimate: Mapping[str, Any]) -> str:
    """Write a difference with its interval: ``-120 (-200 to -40)``."""
    mean, low, high = (estimate[key] for key in ("mean", "low", "high"))
    return f"{mean:,.0f}" + ("" if low in (None, high) else f" ({low:,.0f} to {high:,.0f})")


def assume(scenario: Scenario, axes: Sequence[Axis]) -> list[tuple[tuple[Any, ...], Scenario]]:
    """Return the scenario under each combination of values, the last axis changing fastest.

    Parameters
    ----------
    scenario : Scenario
        As it stands.
    axes : sequence of Axis
        One or two assumptions, and their values.

    Returns
    -------
    list of tuple of (tuple of object, Scenario)
        Each combination, and the scenario under it.

    Raises
    ------
    ValueError
        If there are no axes or more than two, or one can't be set.
    """
    if not 1 <= len(axes) <= 2:
        raise ValueError(f"--sweep takes one or two assumptions, got {len(axes)}")
    if len({axis.path for axis in axes}) < len(axes):
        raise ValueError(f"--sweep names the same assumption twice: {axes[0].name}")
    found = []
    for values in itertools.product(*(axis.values for axis in axes)):
        changed = scenario
        for axis, value in zip(axes, values, strict=True):
            changed = axis.set(changed, value)
        found.append((values, changed))
    return found


def sweep(standing: Result, axes: Sequence[Axis], progress: Progress | None = None) -> Sweep:
    """Compare again under each combination of assumed values, on the same random numbers.

    Parameters
    ----------
    standing : Result
        The scenario as it is; replications, seed, jobs and date are its.
    axes : sequence of Axis
        One or two.
    progress : callable, optional
        Told how many comparisons are done, of how many.

    Returns
    -------
    Sweep
        What came out, and where the conclusion flips.

    Raises
    ------
    ValueError
        If there are no axes or more than two, or one can't be set: nothing is simulated then.
    """
    found = assume(standing.scenario, axes)
    points = []
    for values, changed in found:
        result = compare(changed, standing.replications, standing.seed, standing.jobs, standing.as_of)
        points.append(Point(values, result))
        if progress is not None:
            progress(len(points), len(found))
    return Sweep(tuple(axes), tuple(points), standing)
