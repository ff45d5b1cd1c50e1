"""What one run says about each tenant: the metrics, as DESIGN §4 and §7 define them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from simlib.attempts import Attempts
from simlib.channel import Lane
from simlib.scenario import Scenario
from simlib.windows import INSTANT
from simlib.workload import Messages

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["METRICS", "Summary", "Tally", "delays", "in_time", "outcomes", "summarize", "timeline"]

Floats = np.typing.NDArray[np.float64]
Ints = np.typing.NDArray[np.int64]
Bools = np.typing.NDArray[np.bool_]

COUNTS = (
    *("offered", "accepted", "delivered", "rejected", "expired", "waiting", "on_time", "within_hour"),
    *("duplicates", "ambiguous"),
    *("throttled", "held", "throttled_accepted", "attempts", "deferred_attempts", "rejected_attempts"),
)
TIMES = (
    *("delay_mean", "delay_p50", "delay_p95", "delay_p99", "wait_mean"),
    *("held_mean", "held_max", "throttled_delay_mean", "finished_at"),
)
METRICS = (*COUNTS, "goodput_per_hour", *TIMES)
HOUR = 3600.0
CAUSES = ("retry", "pace", "service", "reaction", "connections", "warmup")


def in_time(scenario: Scenario) -> tuple[str, str]:
    """Return the metric that says how much mail a scenario gets through in time, and that in words.

    Without a deadline that is what is accepted within an hour of its creation. What is `accepted` at all would hardly
    tell channels apart in a long run: mail that is kept back for hours is accepted at last.

    Parameters
    ----------
    scenario : Scenario
        The question.

    Returns
    -------
    tuple of (str, str)
        A name in `METRICS`, and what it counts.

    Examples
    --------
    >>> in_time(Scenario.load("notebooks/scenarios/team_day.toml"))
    ('on_time', 'on time by 17:30')
    """
    if scenario.deadline is None:
        return "within_hour", "accepted within an hour"
    return "on_time", f"on time by {scenario.deadline:%H:%M}"


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
    """Return the delays of a tenant's offered messages in one run, ascending, inf if never accepted; in seconds.

    Parameters
    ----------
    attempts : Attempts
        The record of the run.
    scenario : Scenario
        For the duration and the transient.
    lanes : sequence of Lane
        The alternative's channels, on their way to each provider.
    tenant : str
        Whose messages.

    Returns
    -------
    array of float
        From when a message was offered until it was accepted.
    """
    messages = attempts.messages
    message, code, _, late = _columns(attempts, lanes)
    fates = _fates(attempts, message, code, late)
    mine = (messages.tenant == messages.tenants.index(tenant)) & (messages.created_at >= scenario.transient)
    return np.sort((fates.accepted_at - messages.created_at)[mine])


def outcomes(attempts: Attempts, lanes: Sequence[Lane]) -> tuple[Floats, Bools]:
    """Return when each message was accepted, in seconds, inf if never; and whether it was refused or given up.

    Parameters
    ----------
    attempts : Attempts
        The record of the run.
    lanes : sequence of Lane
        The alternative's channels: they say what `accept_late` means.

    Returns
    -------
    tuple of (array of float, array of bool)
        Both in the order of the messages.
    """
    message, code, _, late = _columns(attempts, lanes)
    fates = _fates(attempts, message, code, late)
    return fates.accepted_at, fates.rejected | fates.expired


@dataclass(frozen=True, slots=True)
class _Fates:
    """What became of each message; arrays of shape ``(messages,)``."""

    accepted: Bools
    rejected: Bools
    expired: Bools
    accepted_at: Floats
    first_start: Floats
    outcome_at: Floats
    ambiguous: Bools
    copies: Ints


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
    tally = Tally(scenario, lanes)
    tally.add(attempts)
    return tally.summaries()


class Tally:
    """Counts and measures a run from parts of its record, so that it needn't be in memory as a whole.

    What it keeps is a number a message: its delay. What a message waited for is told from its own part: where it waited
    behind another part's held reply, that counts as `connections`.

    Parameters
    ----------
    scenario : Scenario
        For the deadline, the duration and the transient.
    lanes : sequence of Lane
        The alternative's channels.
    """

    def __init__(self, scenario: Scenario, lanes: Sequence[Lane]) -> None:
        self._scenario = scenario
        self._lanes = lanes
        self._found: dict[str, _Sums] = {}

    def add(self, attempts: Attempts) -> None:
        """Take a part into account: some messages, and all their attempts."""
        messages, lanes = attempts.messages, self._lanes
        message, code, limit, late = _columns(attempts, lanes)
        fates = _fates(attempts, message, code, late)
        causes, throttled_by = _causes(attempts, message, code, limit, late, self._scenario.duration)
        throttled, kept = _throttled(causes, throttled_by, len(messages))
        begun = ~np.isnan(attempts["started"])
        answered = begun & ~np.isnan(attempts["ended"])
        last = np.where(attempts["final"] > 0, attempts["kind"], -1).astype(int)
        own, tries = _by_tenant(messages, message, self._scenario.transient)
        for tenant, mine, rows in zip(messages.tenants, own, tries, strict=True):
            if _ends_at_mx(tenant, lanes) is None:
                continue  # a neighbour that this alternative leaves out
            sums = self._found.setdefault(tenant, _Sums())
            sums.add("attempts", np.count_nonzero(begun[rows]))
            _count(sums, messages, fates, mine, code[rows[answered[rows]]], self._scenario.deadline_at)
            accepted, over = fates.accepted[mine], throttled[mine]
            sums.add("throttled", np.count_nonzero(over))
            late_anyway = mine[accepted & over]
            sums.add("throttled_accepted", len(late_anyway))
            sums.add("throttled_delay", (fates.accepted_at[late_anyway] - messages.created_at[late_anyway]).sum())
            mine_kept = kept[mine]
            held = mine_kept[accepted & over & (mine_kept > INSTANT)]
            sums.add("held", len(held))
            sums.add("held_for", held.sum())
            sums.held_max = max(sums.held_max, float(held.max(initial=0.0)))
            for name, by in throttled_by.items():
                sums.refusals[name] = sums.refusals.get(name, 0.0) + float(np.count_nonzero(by[mine]))
            taken = mine[accepted]
            for name, seconds in causes.items():
                sums.bound_by[name] = sums.bound_by.get(name, 0.0) + float(seconds[taken].sum())
            for name, times in _other_refusals(attempts, last[rows]).items():
                sums.other_refusals[name] = sums.other_refusals.get(name, 0.0) + times

    def summaries(self) -> dict[str, Summary]:
        """Return what was found so far, by tenant."""
        return {
            tenant: Summary(
                _numbers(sums, self._scenario, bool(_ends_at_mx(tenant, self._lanes))),
                sums.refusals,
                sums.bound_by,
                sums.other_refusals,
            )
            for tenant, sums in self._found.items()
        }


@dataclass(slots=True)
class _Sums:
    """One tenant's sums over the parts of a run; times in seconds."""

    total: dict[str, float] = field(default_factory=dict)
    delays: list[Floats] = field(default_factory=list)
    finished_at: float = -math.inf
    held_max: float = 0.0
    refusals: dict[str, float] = field(default_factory=dict)
    bound_by: dict[str, float] = field(default_factory=dict)
    other_refusals: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, amount: Any) -> None:
        """Add to a sum."""
        self.total[name] = self.total.get(name, 0.0) + float(amount)


def _by_tenant(messages: Messages, message: Ints, transient: float) -> tuple[list[Ints], list[Ints]]:
    """Return the positions of each tenant's messages, and of their attempts, in order; those of the transient left out.

    Sorted once, not searched through for each of a pool's many tenants.
    """
    counted = messages.created_at >= transient
    groups = []
    for chosen in (counted, counted[message]):
        here = np.flatnonzero(chosen)
        tenant = messages.tenant[here if chosen is counted else message[here]]
        bounds = np.cumsum(np.bincount(tenant, minlength=len(messages.tenants)))[:-1]
        small = tenant.astype(np.min_scalar_type(len(messages.tenants)))  # sorted by counting
        groups.append(np.split(here[np.argsort(small, kind="stable")], bounds))
    return groups[0], groups[1]


def _other_refusals(attempts: Attempts, last: Ints) -> dict[str, float]:
    """Count the messages that ended with a reply that isn't a limit's: a credential's, a block list's, none at all.

    `last` has the kind of each attempt that was a message's last, -1 for the others.
    """
    counts = np.bincount(last + 1, minlength=len(attempts.kinds) + 1)[1:]
    found: dict[str, float] = {}
    for count, (_, code, enhanced, _, stage, limit) in zip(counts.tolist(), attempts.kinds, strict=True):
        if count and not limit and not 200 <= code < 300:
            said = " ".join(part for part in (str(code), enhanced) if part) if code else "no reply"
            found[f"{said} at {stage}"] = found.get(f"{said} at {stage}", 0.0) + count
    return found


def _limits(attempts: Attempts) -> list[str]:
    return [name for name in dict.fromkeys(kind[5] for kind in attempts.kinds) if name]


def _columns(attempts: Attempts, lanes: Sequence[Lane]) -> tuple[Ints, Floats, Ints, Bools]:
    """Return each attempt's message, reply code and limit, and whether it was accepted at once but moved on late.

    A limit is a position in `_limits`, or -1.
    """
    kind = attempts["kind"].astype(int)
    code = np.array([kind[1] for kind in attempts.kinds], dtype=float)[kind]
    place = {name: position for position, name in enumerate(_limits(attempts))}
    limit = np.array([place.get(kind[5], -1) for kind in attempts.kinds], dtype=int)[kind]
    accepts_late = {
        f"{lane.provider.name}/{one.id}"
        for lane in lanes
        for one in lane.provider.limits
        if one.on_excess == "accept_late"
    }
    late = np.array([kind[5] in accepts_late for kind in attempts.kinds], dtype=bool)[kind]
    return attempts["message"].astype(int), code, limit, late & (attempts["held"] > 0)


def _ends_at_mx(tenant: str, lanes: Sequence[Lane]) -> bool | None:
    roles = [lane.provider.role for lane in lanes if tenant in lane.channel.tenants]
    return all(role == "delivery" for role in roles) if roles else None


def _fates(attempts: Attempts, message: Ints, code: Floats, late: Bools) -> _Fates:
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
    ambiguous = np.zeros(count, dtype=bool)
    ambiguous[message[_lost_at_the_dot(attempts)]] = True
    copies = accepted.astype(int)
    for number, more in attempts.unheard.items():
        copies[number] += more
    return _Fates(accepted, rejected, expired, accepted_at, first_start, outcome_at, ambiguous & ~accepted, copies)


def _lost_at_the_dot(attempts: Attempts) -> Bools:
    """Return which attempts got no reply after the message was sent: whether it was accepted, they don't know."""
    kinds = np.array([code == 0 and stage == "EOD" for _, code, _, _, stage, _ in attempts.kinds], dtype=bool)
    lost: Bools = kinds[attempts["kind"].astype(int)] & ~np.isnan(attempts["ended"])
    return lost


def _count(sums: _Sums, messages: Messages, fates: _Fates, mine: Ints, answers: Floats, deadline: float | None) -> None:
    """Add one tenant's messages, and the codes of the replies that it got."""
    created_at, accepted_at = messages.created_at[mine], fates.accepted_at[mine]
    delay = accepted_at - created_at
    wait = fates.first_start[mine] - created_at
    wait = wait[np.isfinite(wait)]
    for name, amount in (
        ("offered", len(mine)),
        ("accepted", np.count_nonzero(fates.accepted[mine])),
        ("rejected", np.count_nonzero(fates.rejected[mine])),
        ("expired", np.count_nonzero(fates.expired[mine])),
        ("duplicates", np.count_nonzero(fates.copies[mine] > 1)),
        ("ambiguous", np.count_nonzero(fates.ambiguous[mine])),
        ("on_time", 0 if deadline is None else np.count_nonzero(accepted_at <= deadline)),
        ("within_hour", np.count_nonzero(delay <= HOUR)),
        ("deferred_attempts", np.count_nonzero((answers < 200) | ((answers >= 400) & (answers < 500)))),
        ("rejected_attempts", np.count_nonzero(answers >= 500)),
        ("delay", delay[np.isfinite(delay)].sum()),
        ("wait", wait.sum()),
        ("started", len(wait)),
    ):
        sums.add(name, amount)
    sums.delays.append(delay)
    sums.finished_at = max(sums.finished_at, float(fates.outcome_at[mine].max(initial=-math.inf)))


def _numbers(sums: _Sums, scenario: Scenario, ends_at_mx: bool) -> dict[str, float]:
    """Return a number for each of `METRICS`, and `finished`."""
    total = sums.total
    offered, accepted = int(total["offered"]), int(total["accepted"])
    rejected, expired = int(total["rejected"]), int(total["expired"])
    waiting = offered - accepted - rejected - expired
    delay = np.concatenate(sums.delays)
    p50, p95, p99 = np.quantile(delay, [0.5, 0.95, 0.99], method="inverted_cdf") if offered else (math.nan,) * 3
    return {
        "offered": offered,
        "accepted": accepted,
        "rejected": rejected,
        "expired": expired,
        "waiting": waiting,
        "duplicates": total["duplicates"],
        "ambiguous": total["ambiguous"],
        "on_time": math.nan if scenario.deadline is None else total["on_time"],
        "within_hour": total["within_hour"],
        "attempts": total["attempts"],
        "deferred_attempts": total["deferred_attempts"],
        "rejected_attempts": total["rejected_attempts"],
        "goodput_per_hour": accepted / (scenario.duration - scenario.transient) * 3600,
        "delay_mean": total["delay"] / accepted if accepted else math.nan,
        "delay_p50": float(p50),
        "delay_p95": float(p95),
        "delay_p99": float(p99),
        "wait_mean": total["wait"] / total["started"] if total["started"] else math.nan,
        "finished_at": sums.finished_at if offered and not waiting else math.nan,
        "finished": float(not waiting),
        "delivered": accepted if ends_at_mx else math.nan,
        "throttled": total["throttled"],
        "throttled_accepted": total["throttled_accepted"],
        "throttled_delay_mean": total["throttled_delay"] / (total["throttled_accepted"] or 1.0),
        "held": total["held"],
        "held_mean": total["held_for"] / (total["held"] or 1.0),
        "held_max": sums.held_max,
    }


def _causes(
    attempts: Attempts,
    message: Ints,
    code: Floats,
    limit: Ints,
    late: Bools,
    duration: float,
) -> tuple[dict[str, Floats], dict[str, Bools]]:
    """Split each message's time by what it waited for, and say which limits throttled it.

    Returns
    -------
    causes : dict of str to ndarray
        Seconds for each limit and each of `CAUSES`; shape ``(messages,)`` each.
    throttled_by : dict of str to ndarray of bool
        For each limit, whether it made the message late or lost.
    """
    count = len(attempts.messages)
    due, released, started = attempts["due"], attempts["released"], attempts["started"]
    held, queue = attempts["held"], attempts["queue"]
    ended = np.where(np.isnan(attempts["ended"]), duration, attempts["ended"])
    delayed = np.where(late, 0.0, held)  # how long the reply was held, the connection waiting
    # every queue gets a stretch of one long time axis to itself
    shift = queue * (duration + 1.0)
    again = np.zeros(count, dtype=bool)
    again[message[attempts["retry"] > 0]] = True
    several = np.flatnonzero(again[message])  # sorted, those of a message one after the other
    order = several[np.lexsort((attempts["retry"][several], message[several]))]
    before = np.full(len(message), math.nan)  # when the attempt before ended
    after = np.full(len(message), duration)  # when the next one was due
    same = message[order][1:] == message[order][:-1]
    before[order[1:][same]] = ended[order[:-1][same]]
    after[order[:-1][same]] = due[order[1:][same]]
    waits_until = np.where(np.isnan(started), duration, started)
    released = np.where(np.isnan(released), waits_until, released)
    spans = [(np.where(np.isnan(before), due, before), due), (due, released), (released, waits_until)]

    causes: dict[str, Any] = {}
    throttled_by: dict[str, Bools] = {}
    covered = [np.zeros(len(message)) for _ in spans]
    intervals: list[tuple[Floats, Floats]] = []
    for position, name in enumerate(_limits(attempts)):
        own = limit == position
        holding = own & (delayed > INSTANT)
        mine = np.zeros(len(message))
        if holding.any():
            intervals.append(((ended - delayed + shift)[holding], (ended + shift)[holding]))
            union = _union(intervals)
            for which, (begin, over) in enumerate(spans):
                overlap = union(over + shift) - union(begin + shift)
                mine += overlap - covered[which]
                covered[which] = overlap
        by = np.zeros(count, dtype=bool)
        by[message[own | (attempts["retry"] == 0) & (mine > INSTANT)]] = True
        throttled_by[name] = by
        causes[name] = np.bincount(message, mine + np.where(own, held, 0.0), count)
    rest = [over - begin - found for (begin, over), found in zip(spans, covered, strict=True)]

    def meanwhile(begin: Floats, over: Floats) -> Any:
        """Take out of what each waited for a connection how much of it lay in these intervals and in none before."""
        if not len(begin):
            return 0.0
        intervals.append((begin, over))
        union = _union(intervals)
        overlap = union(waits_until + shift) - union(released + shift)
        found, covered[2] = overlap - covered[2], overlap
        rest[2] -= found
        return found

    # a 5yz that wasn't final: a quota that is heeded; whoever is behind waits for the same retry
    quota = (code >= 500) & (attempts["final"] == 0) & ~np.isnan(attempts["ended"])
    paused = meanwhile((ended + shift)[quota], (after + shift)[quota])
    those = np.array(attempts.slowed).reshape(-1, 3)
    kept_back = meanwhile(*(np.minimum(those[:, place], duration) + those[:, 0] * (duration + 1.0) for place in (1, 2)))
    service = np.where(np.isnan(started), 0.0, ended - delayed - np.where(np.isnan(started), ended, started))
    warmup = np.where(attempts["retry"] == 0, due - attempts.messages.created_at[message], 0.0)
    waits = rest[0] + paused, rest[1], service, np.zeros(len(message)) + kept_back, rest[2], warmup
    for name, seconds in zip(CAUSES, waits, strict=True):
        causes[name] = np.bincount(message, np.maximum(seconds, 0.0), count)
    return causes, throttled_by


def _throttled(causes: Mapping[str, Floats], throttled_by: Mapping[str, Bools], count: int) -> tuple[Bools, Floats]:
    """Return which messages any limit throttled, and for how long limits kept each, in seconds."""
    throttled = np.logical_or.reduce(list(throttled_by.values()) or [np.zeros(count, dtype=bool)])
    kept = np.add.reduce([causes[name] for name in throttled_by] or [np.zeros(count)])
    return throttled, kept


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


def timeline(
    attempts: Attempts, scenario: Scenario, lanes: Sequence[Lane], tenant: str | None = None
) -> "pd.DataFrame":
    """Return what happened in each minute of a run, to one tenant's messages or to all.

    Parameters
    ----------
    attempts : Attempts
        The record of the run.
    scenario : Scenario
        For the duration and the transient.
    lanes : sequence of Lane
        The alternative's channels, on their way to each provider.
    tenant : str, optional
        Whose messages; all by default.

    Returns
    -------
    DataFrame
        Index: the minute's beginning. Columns, in attempts: ``accepted`` (no limit kept the message waiting),
        ``held`` (accepted, after a limit did), ``deferred`` (tried again later), ``refused`` (for good); and
        ``holding``, the share of the minute in which some reply was held.
    """
    import pandas as pd

    message, code, limit, late = _columns(attempts, lanes)
    causes, throttled_by = _causes(attempts, message, code, limit, late, scenario.duration)
    throttled, kept = _throttled(causes, throttled_by, len(attempts.messages))
    ended = ~np.isnan(attempts["ended"])
    if tenant is not None:
        ended &= (attempts.messages.tenant == attempts.messages.tenants.index(tenant))[message]
    at = (attempts["ended"] + np.where(late, attempts["held"], 0.0))[ended]  # accepted late: when it was moved on
    code, held = code[ended], attempts["held"][ended]
    final = attempts["final"][ended] > 0
    waited = (throttled & (kept > INSTANT))[message[ended]]
    minutes = np.arange(math.ceil((at.max() if len(at) else 0) / 60) + 1)
    minute = (at // 60).astype(int)
    good = (code >= 200) & (code < 300)
    table: dict[str, Any] = {
        name: np.bincount(minute[chosen], minlength=len(minutes))
        for name, chosen in (
            ("accepted", good & ~waited),
            ("held", good & waited),
            ("deferred", ~good & ~final),
            ("refused", ~good & final),
        )
    }
    table["holding"] = np.zeros(len(minutes))
    holding = held > INSTANT
    if holding.any():
        union = _union([((at - held)[holding], at[holding])])
        table["holding"] = np.diff(union(np.append(minutes, len(minutes)) * 60.0)) / 60
    return pd.DataFrame(table, index=pd.Timestamp(scenario.zero) + pd.to_timedelta(minutes * 60.0, unit="s"))
