"""How a load test and a twin run are told: lines of text for a terminal, the verdict first."""

import math
from collections.abc import Sequence

from simlib.load import LATE_SHARE, Load
from simlib.validate import Validation

__all__ = ["load_lines", "rate", "twin_lines"]

BY_COUNT = ("offered", "accepted", "rejected", "expired", "waiting", "throttled")
BY_TIME = ("delay_p50", "delay_p95", "delay_p99")


def rate(per_second: float) -> str:
    """Write a rate so that it can be read: below one a second also by the minute.

    Parameters
    ----------
    per_second : float
        Messages per second.

    Returns
    -------
    str
        With its unit.

    Examples
    --------
    >>> rate(0.5), rate(12.34), rate(0.002)
    ('0.5/s (30/min)', '12.3/s', '0.002/s (0.12/min)')
    """
    if not math.isfinite(per_second):
        return "all at once"
    if per_second >= 1:
        return f"{per_second:.3g}/s"
    return f"{per_second:.3g}/s ({per_second * 60:.3g}/min)"


def load_lines(found: Load) -> list[str]:
    """Tell what a load test found.

    Parameters
    ----------
    found : Load
        The load test.

    Returns
    -------
    list of str
        Lines for a terminal.
    """
    attempts = sum(row["started_at"] is not None for row in found.rows)
    offered, achieved = found.rates
    verdict = (
        "The generator kept up" if found.counts else "NO RESULT: the generator could not keep up with its own schedule"
    )
    allowed = "" if found.counts else f" ({LATE_SHARE:.0%} are allowed; take a smaller time scale)"
    hurried = f", {found.time_scale:g} times as fast" if found.time_scale != 1 else ""
    lines = [
        f"{found.scenario.name}: {found.alternative}{hurried}, seed {found.seed}",
        f"{verdict}: {found.late:.1%} of {attempts:,} attempts began more than 50 ms late{allowed}.",
        f"Offered {rate(offered)}, achieved {rate(achieved)}, in scenario time.",
        *found.notes,
        "",
    ]
    where = " by the relay" if found.through else ""
    for tenant, summary in found.summaries.items():
        numbers = summary.numbers
        counts = ", ".join(f"{numbers[name]:,.0f} {name}" for name in BY_COUNT)
        lines.append(f"{tenant}{where}: {counts}")
        times = ", ".join(f"{name[6:]} {_seconds(numbers[name])}" for name in BY_TIME)
        lines.append(f"  delay from the scheduled time to acceptance: {times}")
        lines += [f"  throttled by {limit}: {count:,.0f}" for limit, count in summary.refusals.items() if count]
        lines += [f"  refused with {said}: {count:,.0f}" for said, count in summary.other_refusals.items()]
    stages = ", ".join(f"{name} {seconds * 1000:.2f} ms" for name, seconds in found.stages().items() if seconds)
    lines += ["", f"Mean of each stage, in real time: {stages}"]
    if found.time_scale != 1:
        once = found.stages()["mail"] + found.stages()["data"]
        told = f"{once * 1000:.2f} ms of a transaction are {_seconds(once * found.time_scale)} of the scenario"
        lines.append(f"At {found.time_scale:g} times the speed the {told}.")
    if found.relay is not None:
        lines += _relay(found)
    if found.books is not None:
        verdict = "The books balance" if found.books["balances"] else "THE BOOKS DO NOT BALANCE"
        fates = ", ".join(
            f"{count:,} {name.replace('_', ' ')}" for name, count in found.books["messages"].items() if count
        )
        lines += ["", f"{verdict}: {fates}."]
    return lines


def _relay(found: Load) -> list[str]:
    relay = found.relay
    assert relay is not None
    lines = [
        "",
        f"Postfix passed {relay['passed_on']:,} on, deferred {relay['throttled']:,} for a while, bounced "
        f"{relay['bounced']:,}; {relay['in_queue']:,} are in its queue, whose longest was {relay['longest_queue']:,}.",
    ]
    retried = relay["retried"]
    if retried["attempts"] is not None:
        seconds = (relay["schedule"]["seconds"][f"{which}_backoff_time"] for which in ("minimal", "maximal"))
        waits = " to ".join(f"{wait * found.time_scale:,.0f} s" for wait in seconds)
        lines.append(
            f"  Its schedule, {waits} between attempts, tried the deferred ones {retried['attempts']:.3g} times each "
            f"and passed {retried['passed_on']:,} of them on."
        )
        if retried["after"] is not None:
            median, p95 = (_seconds(retried["after"][name]) for name in ("p50", "p95"))
            lines.append(
                f"  From a deferred one's first attempt until then: median {median}, p95 {p95}, in scenario time."
            )
    for name, one in relay["delays"].items():
        if one is not None:
            lines.append(f"  {name.replace('_', ' ')}: median {one['p50']:.3g} s, p95 {one['p95']:.3g} s of real time")
    return lines


def _seconds(value: float) -> str:
    if not math.isfinite(value):
        return "never"
    return f"{value:,.1f} s" if value < 600 else f"{value / 60:,.1f} min"


def twin_lines(found: Validation, left_out: Sequence[str] = ()) -> list[str]:
    """Tell what both gates of a twin run said.

    Parameters
    ----------
    found : Validation
        The twin run.
    left_out : sequence of str, optional
        Sentences about alternatives that speak no SMTP.

    Returns
    -------
    list of str
        Lines for a terminal.
    """
    replies = sum(one.replies for one in found.exact.values())
    differences = sum(len(one.differences) for one in found.exact.values())
    verdict = "Simulation and real SMTP agree" if found.agrees else "SIMULATION AND REAL SMTP DO NOT AGREE"
    if not found.twins:
        verdict += " in the replay; nothing was measured"
    elif not (found.agrees or differences) and all(one.agrees or one.hurry for one in found.twins.values()):
        verdict += ", and need not: the time scale is too high (see the end)"
    lines = [
        f"{verdict}.",
        f"Exact: {replies:,} replies and ledger lines over TCP, on the virtual clock: {differences:,} differ.",
    ]
    lines += [f"Left out: {one}" for one in left_out]
    for name, twin in found.twins.items():
        lines += ["", f"{name}, {twin.load.time_scale:g} times as fast: {twin.load.late:.1%} of the attempts late"]
        rows: list[tuple[str, ...]] = [("", "simulated", "measured", "may differ by", "")]
        rows += [
            (
                f"{one.tenant}, {one.metric}",
                *(f"{value:,.5g}" for value in (one.simulated, one.measured, one.tolerance)),
                "" if one.agrees else "differs",
            )
            for one in twin.comparisons
        ]
        widths = [max(len(row[place]) for row in rows) for place in range(5)]
        lines += [
            "  "
            + "  ".join((row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 4)), row[4])).rstrip()
            for row in rows
        ]
    problems = found.problems()
    if problems:
        lines += ["", *problems[:20]]
        lines += [f"and {len(problems) - 20:,} more"] if len(problems) > 20 else []
    return lines
