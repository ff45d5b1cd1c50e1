"""Experiments: against theory, against the record, and against what can be worked out by hand.

Checks against theory ask whether the closed form lies in the 99.9 % interval of the mean over replications, each from
an empty system whose transient is cut. The seeds were written before the first run.
"""

import datetime as dt
import json
import math
import runpy
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import stdtrit

from simlib import theory
from simlib.channel import Attempts
from simlib.estimate import Estimate, paired, wilson
from simlib.experiment import Result, compare, run
from simlib.record import frame
from simlib.scenario import Scenario
from simlib.sizing import MOST, largest_send
from simlib.summary import METRICS, Summary, _union, summarize, timeline
from simlib.windows import INSTANT

SOURCE = {"source": "made up for this test", "as_of": "2026-01-01"}
QUOTA = {"id": "quota", "count": "messages", "per": "account", "window": "sliding", "at": "EOD", **SOURCE}
PLAIN = {"title": "Plain", "role": "submission", "credential": "account", "auth": ["PLAIN"]}
MX = {"title": "MX", "role": "delivery", "credential": "ip", "auth": []}
MINUTE_LIMIT = "office365/messages-per-minute"


def scenario(
    *arrivals: dict[str, Any],
    senders: int = 1,
    duration: str = "1h",
    provider: dict[str, Any] | None = None,
    limits: tuple[dict[str, Any], ...] = (),
    extra: dict[str, Any] | None = None,
    **channel: Any,
) -> Scenario:
    """One tenant on one channel to one provider, by default a submission provider without limits."""
    return Scenario.build(
        {
            "name": "test",
            "start": "2026-06-01T00:00",
            "duration": duration,
            "tenants": [{"name": "us", "senders": senders, "arrivals": list(arrivals)}],
            "alternatives": {"it": {"channels": [{"name": "channel", "tenants": ["us"], "to": "plain", **channel}]}},
            "providers": {"plain": {**PLAIN, "limits": list(limits), **(provider or {})}},
            **(extra or {}),
        }
    )


def batch(size: int, first: str = "0s", **more: Any) -> dict[str, Any]:
    return {"kind": "batches", "size": size, "first": first, **more}


def summary(asked: Scenario, alternative: str = "it", tenant: str = "us", **more: Any) -> Summary:
    return summarize(run(asked, alternative, **more), asked, asked.lanes(alternative))[tenant]


def check(expected: float, samples: list[float]) -> None:
    """The value lies in the 99.9 % interval of the mean of independent replications."""
    half_width = stdtrit(len(samples) - 1, 0.9995) * stdev(samples) / math.sqrt(len(samples))
    assert abs(fmean(samples) - expected) <= half_width


# Queues against theory


def queue(law: dict[str, Any], rate: str, connections: int, duration: str, transient: str) -> Scenario:
    arrivals = {"kind": "poisson", "rate": rate}
    return scenario(arrivals, duration=duration, extra={"transient": transient}, service=law, connections=connections)


@pytest.mark.parametrize(
    ("law", "rate", "connections", "expected", "seed"),
    [
        ({"kind": "exponential", "mean": "1s"}, 1.4, 2, theory.mmc_mean_wait(1.4, 1, 2), 601),
        ({"kind": "exponential", "mean": "2s"}, 2.0, 5, theory.mmc_mean_wait(2.0, 0.5, 5), 602),
        ({"mean": "1s"}, 0.7, 1, theory.md1_mean_wait(0.7, 1), 603),
        ({"mean": "1s"}, 1.6, 2, theory.mdc_mean_wait(1.6, 1, 2), 604),
        ({"kind": "lognormal", "mean": "1s", "scv": 2}, 0.5, 1, theory.mg1_mean_wait(0.5, 1, 2), 605),
    ],
    ids=["M/M/2", "M/M/5", "M/D/1", "M/D/2", "M/G/1"],
)
def test_the_mean_wait_is_the_theorys(
    law: dict[str, Any], rate: float, connections: int, expected: float, seed: int
) -> None:
    asked = queue(law, f"{rate}/s", connections, "2400s", "400s")
    result = compare(asked, replications=25, seed=seed, jobs=1)
    check(expected, result.values("it", "us", "wait_mean"))


def test_messages_in_the_system_are_arrival_rate_times_sojourn() -> None:
    """Little's law at moments that have nothing to do with the messages, in an M/M/2 queue."""
    asked = queue({"kind": "exponential", "mean": "1s"}, "1.4/s", 2, "1200s", "200s")
    moments = np.arange(200, 1200, 5.0)
    in_system = []
    for replication in range(30):
        attempts = run(asked, "it", seed=606, replication=replication)
        left = np.sort(np.where(np.isnan(attempts["ended"]), np.inf, attempts["ended"]))
        came = np.searchsorted(attempts.messages.created_at, moments, side="right")
        in_system.append(float((came - np.searchsorted(left, moments, side="right")).mean()))
    check(1.4 * (theory.mmc_mean_wait(1.4, 1, 2) + 1), in_system)


@given(
    sizes=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4)), min_size=1, max_size=8),
    connections=st.integers(1, 3),
    quarters=st.integers(0, 12),
)
@settings(max_examples=40, deadline=None)
def test_the_area_under_messages_in_the_system_is_their_total_delay(
    sizes: list[tuple[int, int]], connections: int, quarters: int
) -> None:
    """Little's law exactly, when the system ends empty: times are multiples of 1/4 s, so nothing is rounded."""
    arrivals = [batch(size, f"{at}s") for at, size in sizes]
    asked = scenario(*arrivals, connections=connections, service=f"{quarters / 4}s")
    attempts = run(asked, "it")
    steps = Counter(attempts.messages.created_at.tolist())
    steps.subtract(Counter(attempts["ended"].tolist()))
    area = count = 0.0
    for before, now in pairwise(sorted(steps)):
        count += steps[before]
        area += count * (now - before)
    numbers = summary(asked).numbers
    assert numbers["delay_mean"] == area / numbers["accepted"]


# Losses against theory


def losses(asked: Scenario, rate: float, seed: int, metric: str = "rejected", replications: int = 25) -> list[float]:
    """Each replication's share of lost messages; by the expected number offered: a ratio would be biased."""
    result = compare(asked, replications=replications, seed=seed, jobs=1)
    expected = rate * (asked.duration - asked.transient)
    return [lost / expected for lost in result.values("it", "us", metric)]


def limited(rate: float, **limit: Any) -> Scenario:
    arrivals = {"kind": "poisson", "rate": f"{rate}/s"}
    quota = {**QUOTA, "on_excess": "reject", **limit}
    return scenario(arrivals, duration="40min", limits=(quota,), extra={"transient": "10min"})


@pytest.mark.parametrize("burst", [1, 5, 20])
def test_a_token_bucket_loses_what_theory_says(burst: int) -> None:
    asked = limited(1.1, limit="60/min", window="token_bucket", burst=burst)
    check(theory.token_bucket_loss(offered=1.1, bucket=burst), losses(asked, 1.1, seed=611))


def test_a_fixed_window_loses_what_theory_says() -> None:
    asked = limited(0.5, limit="30/min", window="fixed", anchor="clock")
    check(theory.fixed_window_loss(limit=30, offered=30), losses(asked, 0.5, seed=612))


def test_a_sliding_window_of_accepted_messages_loses_what_theory_says() -> None:
    asked = limited(0.5, limit="30/min")
    check(theory.sliding_accepted_loss(limit=30, offered=30), losses(asked, 0.5, seed=613))


def test_a_sliding_window_of_attempts_loses_what_theory_says() -> None:
    asked = limited(0.5, limit="30/min", counts="attempts")
    check(theory.sliding_attempts_loss(limit=30, offered=30), losses(asked, 0.5, seed=614))


@pytest.mark.parametrize(
    "law",
    [{"mean": "2s"}, {"kind": "exponential", "mean": "2s"}, {"kind": "lognormal", "mean": "2s", "scv": 4}],
    ids=["constant", "exponential", "lognormal"],
)
def test_a_connection_limit_loses_what_erlang_says_under_every_law_of_service(law: dict[str, Any]) -> None:
    limit = {"id": "connections", "count": "connections", "per": "ip", "limit": 5, "at": "CONNECT", **SOURCE}
    asked = scenario(
        {"kind": "poisson", "rate": "2/s"},
        duration="20min",
        limits=({**limit, "on_excess": "close"},),
        extra={"transient": "2min"},
        connections=60,  # more than ever wait
        service=law,
    )
    check(theory.erlang_b(servers=5, offered_load=4), losses(asked, 2, seed=615, metric="expired"))


def test_a_held_excess_waits_as_long_as_theory_says() -> None:
    """A token bucket that holds is a shaper, whoever waits for it."""
    quota = {**QUOTA, "limit": "60/min", "window": "token_bucket", "burst": 3, "on_excess": "hold_reply"}
    asked = scenario(
        {"kind": "poisson", "rate": "0.8/s"},
        duration="50min",
        limits=(quota,),
        extra={"transient": "5min"},
        timeout="1h",
    )
    result = compare(asked, replications=25, seed=616, jobs=1)
    check(theory.shaper_mean_delay(arrival_rate=0.8, token_rate=1, bucket=3), result.values("it", "us", "delay_mean"))


# What holds in every run

WINDOWS: list[dict[str, Any]] = [
    {"window": "sliding"},
    {"window": "fixed", "anchor": "clock"},
    {"window": "fixed", "anchor": "first_event"},
    {"window": "token_bucket", "burst": 2},
    {"window": "token_bucket", "burst": 6},
]
EXCESSES: list[dict[str, Any]] = [
    {"on_excess": "reject"},
    {"on_excess": "reject", "temporary": True},
    {"on_excess": "defer"},
    {"on_excess": "close"},
    {"on_excess": "hold_reply"},
    {"on_excess": "accept_late"},
]


@st.composite
def quotas(draw: st.DrawFn) -> dict[str, Any]:
    amount, period = draw(st.integers(1, 6)), draw(st.sampled_from([7, 20, 60]))
    excess = draw(st.sampled_from(EXCESSES))
    holds = excess["on_excess"] in ("hold_reply", "accept_late")
    stage = "EOD" if holds else draw(st.sampled_from(["MAIL", "DATA", "EOD"]))
    counts = draw(st.sampled_from(["accepted", "attempts"]))
    quota = {**QUOTA, **draw(st.sampled_from(WINDOWS)), **excess, "limit": f"{amount}/{period}s"}
    return {**quota, "counts": counts, "at": stage, "per": draw(st.sampled_from(["account", "ip"]))}


SERVICES: list[Any] = [
    "0s",
    "1.5s",
    {"kind": "exponential", "mean": "2s"},
    {"kind": "lognormal", "mean": "2s", "scv": 4},
]


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    limits = [draw(quotas())]
    if draw(st.booleans()):
        limits.append({**draw(quotas()), "id": "second"})
    if draw(st.booleans()):
        at_once = {"id": "connections", "count": "connections", "per": "ip", "limit": 2, "at": "CONNECT", **SOURCE}
        limits.append({**at_once, "on_excess": draw(st.sampled_from(["close", "defer"]))})
    channel: dict[str, Any] = {
        "ips": draw(st.integers(1, 2)),
        "connections": draw(st.integers(1, 3)),
        "service": draw(st.sampled_from(SERVICES)),
        "session_setup": draw(st.sampled_from(["0s", "0.7s"])),
        "timeout": draw(st.sampled_from(["5s", "600s"])),
        "heed_quota": draw(st.booleans()),
        "retry": draw(st.sampled_from(["none", ["13s"], ["5s", "31s"]])),
        "queue_lifetime": draw(st.sampled_from(["60s", "10min"])),
    }
    if draw(st.booleans()):
        channel["messages_per_session"] = draw(st.sampled_from([1, 3]))
    if draw(st.booleans()):
        channel["pace"] = draw(st.sampled_from(["20/min", {"batch": 3, "wait": "10s"}]))
    if channel["retry"] == "none":
        del channel["queue_lifetime"]
    role = draw(st.sampled_from([PLAIN, {**PLAIN, "credential": "domain"}, MX]))
    event = {"kind": "password_change", "rate": "10/h", "tenant": "us", "repaired_after": "20s"}
    arrivals = [{"kind": "poisson", "rate": "6/min"}, batch(draw(st.integers(1, 15)), "30s", every="2min")]
    return scenario(
        *arrivals,
        senders=2,
        duration=draw(st.sampled_from(["90s", "5min"])),
        limits=tuple(limits),
        provider=role,
        extra={"events": [event] if draw(st.booleans()) else [], "transient": draw(st.sampled_from(["0s", "40s"]))},
        **channel,
    )


def fate_of(last: "pd.Series[Any]") -> str:
    """What became of a message, by its last attempt."""
    if not last["final"]:
        return "waiting"
    return "accepted" if 200 <= last["code"] < 300 else "rejected" if last["code"] >= 500 else "expired"


@given(asked=scenarios(), seed=st.integers(0, 999))
@settings(max_examples=120, deadline=None)
def test_in_every_run_every_message_has_one_fate_and_every_second_one_cause(asked: Scenario, seed: int) -> None:
    attempts = run(asked, "it", seed=seed)
    found = summarize(attempts, asked, asked.lanes("it"))["us"]
    table = frame(attempts, asked.zero)
    late = [one.id for one in asked.provider("plain").limits if one.on_excess == "accept_late"]
    fates: Counter[str] = Counter()
    total = 0.0
    for _, mine in table.groupby("message_id"):
        tries = mine.sort_values("retry")
        assert tries["retry"].tolist() == list(range(len(tries)))
        assert not tries["final"][:-1].any()
        began, ended = tries["started_at_s"].tolist(), tries["ended_at_s"].tolist()
        assert all(after > before for before, after in zip(ended, began[1:], strict=False))
        last = tries.iloc[-1]
        assert not began[0] < last["created_at_s"]
        assert not last["ended_at_s"] > asked.duration
        if last["created_at_s"] >= asked.transient:
            fate = fate_of(last)
            fates[fate] += 1
            if fate == "accepted":
                moved_on = last["held"] if last["limit"].removeprefix("plain/") in late else 0.0
                total += last["ended_at_s"] + moved_on - last["created_at_s"]
    assert table["message_id"].nunique() == len(attempts.messages)
    numbers = found.numbers
    assert {fate: numbers[fate] for fate in ("accepted", "rejected", "expired", "waiting")} == {
        fate: fates[fate] for fate in ("accepted", "rejected", "expired", "waiting")
    }
    assert numbers["offered"] == fates.total()
    # sums of floats in another order: equal up to rounding
    assert sum(found.bound_by.values()) == pytest.approx(total, rel=1e-9, abs=INSTANT)
    assert all(seconds >= 0 for seconds in found.bound_by.values())
    assert numbers["throttled"] <= numbers["offered"]
    assert numbers["held"] <= min(numbers["accepted"], numbers["throttled"])


@given(asked=scenarios(), seed=st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_nothing_waits_for_a_connection_while_one_is_free_and_nobody_jumps_the_queue(
    asked: Scenario, seed: int
) -> None:
    (lane,) = asked.lanes("it")
    attempts = run(asked, "it", seed=seed)
    slots = lane.connections if lane.by_account else lane.connections * lane.channel.ips
    never = np.isnan(attempts["started"])
    started = np.where(never, asked.duration, attempts["started"])
    ended = np.where(np.isnan(attempts["ended"]), asked.duration, attempts["ended"])
    released = np.where(never, started if lane.pace else attempts["due"], attempts["released"])
    for number in range(len(attempts.queues)):
        mine = attempts["queue"] == number
        if not lane.heeds:  # else a pause keeps them waiting
            moments = np.unique(np.concatenate([released[mine], started[mine], ended[mine]]))
            middles = (moments[:-1] + moments[1:])[np.diff(moments) > INSTANT] / 2
            waiting = (released[mine] < middles[:, None]) & (middles[:, None] < started[mine])
            busy = (started[mine] < middles[:, None]) & (middles[:, None] < ended[mine]) & ~never[mine]
            assert (busy.sum(axis=1) <= slots).all()
            assert (busy.sum(axis=1)[waiting.any(axis=1)] == slots).all()
        if lane.pace is None and not lane.heeds:
            due = attempts["due"][mine & ~never][np.argsort(started[mine & ~never], kind="stable")]
            starts = np.sort(started[mine & ~never])
            latest = np.maximum.accumulate(due)
            assert all(
                due[later] >= latest[np.searchsorted(starts, starts[later]) - 1]
                for later in range(len(due))
                if starts[later] > starts[0]
            )


def most_within(moments: list[float], period: float) -> int:
    """The most moments in any stretch of a period, its end excluded."""
    moments = sorted(moments)
    most = first = 0
    for last, now in enumerate(moments):
        while moments[first] <= now - period + INSTANT:
            first += 1
        most = max(most, last - first + 1)
    return most


def most_in_a_bucket(moments: list[float], rate: float) -> float:
    """The burst that a bucket with that many tokens a second must hold to let all of them through."""
    missing = most = 0.0
    before = -math.inf
    for now in sorted(moments):
        missing = max(0.0, missing - (now - before) * rate) + 1
        before = now
        most = max(most, missing)
    return most


@given(quota=quotas(), seed=st.integers(0, 999), connections=st.integers(1, 3), data=st.data())
@settings(max_examples=80, deadline=None)
def test_what_is_accepted_is_never_over_the_limit(
    quota: dict[str, Any], seed: int, connections: int, data: st.DataObject
) -> None:
    """Counted again from the record, with the definition of each window."""
    quota = {**quota, "at": "EOD", "per": "account"}
    asked = scenario(
        {"kind": "poisson", "rate": "20/min"},
        batch(10, "1min"),
        senders=2,
        duration="10min",
        limits=(quota,),
        connections=connections,
        service=data.draw(st.sampled_from(["0s", {"kind": "exponential", "mean": "2s"}])),
        retry=data.draw(st.sampled_from(["none", ["13s"]])),
        timeout="1h",
    )
    table = frame(run(asked, "it", seed=seed), asked.zero)
    table = table[table["code"] == 250]
    limit = asked.provider("plain").limit("quota")
    assert limit.limit is not None
    amount, period = limit.limit
    assert period is not None
    for _, mine in table.groupby("sender"):
        passed = mine["ended_at_s"] + (mine["held"] if quota["on_excess"] == "accept_late" else 0.0)
        moments = passed.tolist()
        if limit.window == "sliding":
            assert most_within(moments, period) <= amount
        elif limit.window == "token_bucket":
            # an instant's worth of tokens may be rounding
            assert limit.burst is not None
            assert most_in_a_bucket(moments, amount / period) <= limit.burst + INSTANT * len(moments) * amount / period
        elif limit.anchor == "clock":
            assert max(Counter((at + INSTANT) // period for at in moments).values()) <= amount


@given(seed=st.integers(0, 999), allowed=st.integers(1, 4), ips=st.integers(1, 3), connections=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_connections_are_never_over_the_limit(seed: int, allowed: int, ips: int, connections: int) -> None:
    limit = {"id": "connections", "count": "connections", "per": "ip", "limit": allowed, "at": "CONNECT", **SOURCE}
    asked = scenario(
        {"kind": "poisson", "rate": "2/s"},
        duration="3min",
        provider=MX,
        limits=({**limit, "on_excess": "close"},),
        ips=ips,
        connections=connections,
        service={"kind": "exponential", "mean": "1.5s"},
        messages_per_session=3,
    )
    table = frame(run(asked, "it", seed=seed), asked.zero)
    open_ = table[(table["stage"] != "CONNECT") & table["started_at_s"].notna()].fillna({"ended_at_s": asked.duration})
    sessions = open_.groupby("session").agg(
        ip=("ip", "first"), began=("started_at_s", "min"), ended=("ended_at_s", "max")
    )
    for _, mine in sessions.groupby("ip"):
        steps = sorted([(at, 1) for at in mine["began"]] + [(at, -1) for at in mine["ended"]])
        assert max(np.cumsum([step for _, step in steps])) <= min(allowed, connections)
    refused = int((table["stage"] == "CONNECT").sum())
    assert refused == 0 or connections > allowed


# Shared and dedicated, more and fewer

NEIGHBOURS = {"name": "neighbours", "neighbour": True, "senders": 3, "arrivals": {"kind": "poisson", "rate": "30/min"}}
RANDOM = {"kind": "lognormal", "mean": "3s", "scv": 2}
DELIVERY = {
    "to": "mx",
    "connections": 2,
    "service": RANDOM,
    "session_setup": "0.5s",
    "retry": ["40s"],
    "pace": "20/min",
}


def pools() -> Scenario:
    """Our tenant in a pool that only it uses, on its own channel, and in a pool with neighbours."""
    quota = {**QUOTA, "per": "ip", "limit": "20/min", "on_excess": "defer"}
    return Scenario.build(
        {
            "name": "pools",
            "start": "2026-06-01T00:00",
            "duration": "20min",
            "tenants": [
                {"name": "us", "senders": 3, "arrivals": [{"kind": "poisson", "rate": "20/min"}, batch(20, "5min")]},
                NEIGHBOURS,
            ],
            "alternatives": {
                "pool of one": {"channels": [{"name": "pool", "tenants": ["us"], **DELIVERY}]},
                "dedicated": {"channels": [{"name": "dedicated", "tenants": ["us"], **DELIVERY}]},
                "pool": {"channels": [{"name": "pool", "tenants": ["us", "neighbours"], **DELIVERY}]},
                "apart": {
                    "channels": [
                        {"name": "theirs", "tenants": ["neighbours"], **DELIVERY},
                        {"name": "ours", "tenants": ["us"], **DELIVERY, "to": "other-mx"},
                    ]
                },
            },
            "providers": {"mx": {**MX, "limits": [quota]}, "other-mx": {**MX, "limits": [quota]}},
        }
    )


def test_a_shared_pool_with_one_tenant_is_a_dedicated_channel_message_by_message() -> None:
    asked = pools()
    pool, dedicated = (frame(run(asked, name), asked.zero) for name in ("pool of one", "dedicated"))
    assert len(pool) > len(asked.messages(1, 0).created_at) / 2
    pd.testing.assert_frame_equal(pool, dedicated)
    result = compare(asked.replace(), replications=3, jobs=1)
    assert all(estimate.mean in (0, None) for estimate in result.difference("pool of one", "dedicated")["us"].values())


def test_sharing_an_ip_with_neighbours_makes_mail_wait() -> None:
    result = compare(pools(), replications=5, seed=621, jobs=1)
    wait = result.difference("dedicated", "pool")["us"]["wait_mean"]
    assert wait.low is not None
    assert wait.low > 0


def test_adding_a_neighbour_changes_nobody_elses_messages() -> None:
    asked = pools()
    data = asked.data
    alone = Scenario.build(
        {**data, "tenants": data["tenants"][:1], "alternatives": {"dedicated": data["alternatives"]["dedicated"]}}
    )
    ahead = Scenario.build({**data, "tenants": data["tenants"][::-1]})
    ours = frame(run(alone, "dedicated", seed=7, replication=2), alone.zero)
    for other in (asked, ahead):
        pd.testing.assert_frame_equal(frame(run(other, "dedicated", seed=7, replication=2), other.zero), ours)


def test_every_alternative_meets_the_same_messages() -> None:
    found = compare(pools(), replications=2, jobs=1).attempts
    sent = found[(found["tenant"] == "us") & (found["retry"] == 0)].sort_values("message_id")
    columns = ["message_id", "sender", "recipients", "bytes", "created_at_s"]
    for _, of_one_replication in sent.groupby("replication"):
        first, *others = (mine[columns].to_numpy().tolist() for _, mine in of_one_replication.groupby("alternative"))
        assert len(others) == 3
        assert all(other == first for other in others)


@given(seed=st.integers(0, 999), pace=st.sampled_from([None, "12/min"]))
@settings(max_examples=25, deadline=None)
def test_with_more_ips_nothing_ever_starts_later(seed: int, pace: str | None) -> None:
    """Under common random numbers: the same messages and, in order of start, the same service times."""
    arrivals = [{"kind": "poisson", "rate": "1/s"}, batch(30, "1min")]
    starts = []
    for ips in (1, 2, 3, 5):
        asked = scenario(*arrivals, senders=4, duration="6min", provider=MX, ips=ips, service=RANDOM, pace=pace)
        attempts = run(asked, "it", seed=seed)
        began = np.full(len(attempts.messages), math.inf)
        began[attempts["message"].astype(int)] = np.nan_to_num(attempts["started"], nan=math.inf)
        starts.append(began)
    if pace is None:
        assert all((more <= fewer + INSTANT).all() for fewer, more in pairwise(starts))
    waits = [np.where(np.isinf(began), 360.0, began).sum() for began in starts]
    assert all(more <= fewer + INSTANT for fewer, more in pairwise(waits))


# What bound it: hand-made cases


def bound_by(asked: Scenario) -> dict[str, float]:
    found = summary(asked).bound_by
    return {name: seconds for name, seconds in found.items() if seconds}


def test_bound_by_nothing() -> None:
    asked = scenario(batch(3))
    assert bound_by(asked) == {}
    assert compare(asked, replications=2, jobs=1).bound_by("it", "us") == {}


def test_bound_by_pace() -> None:
    # starts at 0, 10 and 20
    assert bound_by(scenario(batch(3), pace="6/min")) == {"pace": 30}


def test_bound_by_connections_and_service() -> None:
    # starts at 0, 5 and 10, each takes 5
    assert bound_by(scenario(batch(3), service="5s")) == {"connections": 15, "service": 15}


def test_session_setup_is_service() -> None:
    assert bound_by(scenario(batch(1), service="5s", session_setup="2s")) == {"service": 7}


def test_bound_by_a_hold() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "hold_reply"}
    assert bound_by(scenario(batch(2), limits=(limit,))) == {"plain/quota": 60}
    # the third waits for the second's reply until 60, then for its own until 120
    assert bound_by(scenario(batch(3), limits=(limit,))) == {"plain/quota": 180}


def test_a_late_acceptance_is_the_limits_time() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "accept_late"}
    assert bound_by(scenario(batch(3), limits=(limit,))) == {"plain/quota": 180}


def test_bound_by_a_retry() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "defer"}
    asked = scenario(batch(2), limits=(limit,), retry=["90s"])
    assert bound_by(asked) == {"retry": 90}
    assert summary(asked).refusals == {"plain/quota": 1}


def test_a_hold_comes_before_pace() -> None:
    # one every 20 s, one a minute: number 1 starts at 20 and is held until 60; number 2 could start at 40, starts at
    # 60 and is held until 120: 20 s of pace each, the rest is the limit's
    limit = {**QUOTA, "limit": "1/min", "on_excess": "hold_reply"}
    assert bound_by(scenario(batch(3), limits=(limit,), pace="3/min")) == {"pace": 40, "plain/quota": 140}


def test_a_hold_comes_before_retry_waits() -> None:
    # number 0 is refused as too big at 0, again at 90; number 1 passes at 0, number 2 is held from 0 until 60
    hold = {**QUOTA, "limit": "1/min", "on_excess": "hold_reply"}
    defer = {**QUOTA, "id": "sessions", "limit": "2/min", "at": "MAIL", "on_excess": "defer", "counts": "attempts"}
    asked = scenario(batch(3), limits=(hold, defer), connections=1, retry=["70s"], messages_per_session=5)
    table = frame(run(asked, "it"), asked.zero)
    assert table[["message_id", "retry", "started_at_s", "ended_at_s", "code"]].to_numpy().tolist() == [
        ["us-0", 0, 0.0, 0.0, 250],
        ["us-1", 0, 0.0, 60.0, 250],
        ["us-2", 0, 60.0, 120.0, 250],
    ]
    asked = scenario(batch(3), limits=(hold, defer), connections=3, retry=["70s"], messages_per_session=5)
    table = frame(run(asked, "it"), asked.zero)
    assert table[["message_id", "retry", "started_at_s", "ended_at_s", "code"]].to_numpy().tolist() == [
        ["us-0", 0, 0.0, 0.0, 250],
        ["us-1", 0, 0.0, 60.0, 250],
        ["us-2", 0, 0.0, 0.0, 451],
        ["us-2", 1, 70.0, 120.0, 250],
    ]
    # of number 2's wait until 70, number 1 was being held for 60; then it was held itself for 50
    assert bound_by(asked) == {"plain/quota": 60 + 60 + 50, "retry": 10}


def test_pace_then_connections_then_service() -> None:
    # released at 0 and 10, started at 0 and 15, done at 15 and 30
    asked = scenario(batch(2), pace="6/min", service="15s")
    assert bound_by(asked) == {"pace": 10, "connections": 5, "service": 30}
    shares = compare(asked, replications=2, jobs=1).bound_by("it", "us")
    assert list(shares) == ["service", "pace", "connections"]
    assert shares == {"service": 30 / 45, "pace": 10 / 45, "connections": 5 / 45}


def test_bound_by_counts_accepted_messages_only() -> None:
    limit = {**QUOTA, "limit": "1/h", "on_excess": "reject"}
    assert bound_by(scenario(batch(3), limits=(limit,), service="5s")) == {"service": 5}


def test_a_time_lost_with_a_reply_is_the_limits() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "hold_reply"}
    # held until 60, given up at 55, tried again at 155
    assert bound_by(scenario(batch(2), limits=(limit,), timeout="55s", retry=["100s"])) == {
        "plain/quota": 55,
        "retry": 100,
    }


def test_another_accounts_hold_binds_nobody_but_another_senders_on_the_same_ips_does() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "hold_reply"}
    arrivals = [batch(2, senders=1), {"kind": "batches", "per_sender": 1, "first": "10s", "label": "later"}]
    # submission: rep02's message at 10 has its own account; rep01's waits until 60, then until 120
    assert bound_by(scenario(*arrivals, senders=2, limits=(limit,))) == {"plain/quota": 60 + 110}
    # delivery: all three wait for one IP
    asked = scenario(*arrivals, senders=2, limits=({**limit, "per": "ip"},), provider=MX)
    assert bound_by(asked) == {"plain/quota": 60 + 110 + 170}
    assert summary(asked).numbers["throttled"] == 3


def test_waiting_for_the_own_connection_during_another_accounts_hold_is_not_the_limits() -> None:
    limit = {**QUOTA, "limit": "2/min", "on_excess": "hold_reply"}
    arrivals = [batch(3, senders=1), {"kind": "batches", "per_sender": 2, "senders": 2, "first": "20s"}]
    # rep01: done at 5, 10 and, held from 15, at 65; two more from 65 on. rep02: 20 to 25 and 25 to 30
    asked = scenario(*arrivals, senders=2, limits=(limit,), service="5s")
    table = frame(run(asked, "it"), asked.zero)
    assert table.loc[table["sender"].str.startswith("rep02"), "ended_at_s"].tolist() == [25, 30]
    assert table.loc[table["sender"].str.startswith("rep01"), "ended_at_s"].tolist() == [5, 10, 65, 70, 125]
    # rep01 waits 5 + 10 for its connection, 50 for its held reply; then 45 twice behind it and 5 for the connection;
    # at 75 its last has no room until 65 + 60
    assert bound_by(asked) == {
        "service": 7 * 5,
        "connections": (5 + 10) + 5 + 5,
        "plain/quota": 50 + 45 + 45 + 50,
    }
    assert summary(asked).numbers["throttled"] == 3


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), min_size=1, max_size=8))
def test_time_in_several_holds_counts_once(holds: list[tuple[int, int]]) -> None:
    seconds = {second for begin, length in holds for second in range(begin, begin + length)}
    begin, length = np.array(holds, dtype=float).T
    covered = _union([(begin, begin + length)])
    moments = np.arange(0.0, 50.0)
    assert covered(moments).tolist() == [sum(second < moment for second in seconds) for moment in moments]


# Throttled, held, refused: hand-made cases


def test_throttled_counts_who_waits_behind_a_held_reply() -> None:
    limit = {**QUOTA, "limit": "2/min", "on_excess": "hold_reply"}
    # 0 and 1 pass; 2 is held from 0 to 60; 3 waits behind it, passes at 60; 4 arrives at 60 when nothing is held
    asked = scenario(batch(4), batch(1, "130s"), limits=(limit,))
    found = summary(asked)
    assert found.numbers["throttled"] == 2
    assert found.numbers["held"] == 2
    assert found.refusals == {"plain/quota": 2}
    assert (found.numbers["held_mean"], found.numbers["held_max"]) == (60, 60)


def test_waiting_for_an_instant_is_not_throttled() -> None:
    limit = {**QUOTA, "limit": "2/min", "on_excess": "hold_reply"}
    asked = scenario(batch(3), batch(1, "60s"), limits=(limit,))
    assert summary(asked).numbers["throttled"] == 1


def test_a_refusal_throttles_even_if_a_retry_is_accepted() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "defer"}
    found = summary(scenario(batch(3), limits=(limit,), retry=["90s"]))
    assert (found.numbers["accepted"], found.numbers["throttled"], found.numbers["held"]) == (3, 2, 0)
    assert (found.numbers["attempts"], found.numbers["deferred_attempts"]) == (6, 3)
    assert found.refusals == {"plain/quota": 2}


def test_a_message_under_two_limits_counts_under_both() -> None:
    minute = {**QUOTA, "limit": "1/min", "on_excess": "defer"}
    hour = {**QUOTA, "id": "hourly", "limit": "1/h", "on_excess": "reject"}
    found = summary(scenario(batch(2), limits=(minute, hour), retry=["90s"]))
    # the first limit in the file speaks first, then only the second has no room
    assert found.refusals == {"plain/quota": 1, "plain/hourly": 1}
    assert (found.numbers["throttled"], found.numbers["rejected"]) == (1, 1)
    assert (found.numbers["deferred_attempts"], found.numbers["rejected_attempts"]) == (1, 1)


def test_a_refusal_that_no_limit_speaks_throttles_nobody() -> None:
    event = {"kind": "auth_disabled", "at": "0s", "tenant": "us"}
    found = summary(scenario(batch(3, "1s"), extra={"events": [event]}))
    assert (found.numbers["rejected"], found.numbers["throttled"], found.refusals) == (3, 0, {})
    assert found.other_refusals == {"535 5.7.8 at AUTH": 3}


def test_what_still_waits_behind_a_hold_at_the_end_is_throttled_but_not_held() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "hold_reply"}
    found = summary(scenario(batch(4), limits=(limit,), duration="90s"))
    numbers = found.numbers
    assert (numbers["accepted"], numbers["waiting"], numbers["throttled"], numbers["held"]) == (2, 2, 3, 1)


def test_somebody_elses_hold_during_a_retry_wait_takes_time_but_doesnt_throttle() -> None:
    hold = {**QUOTA, "limit": "2/min", "on_excess": "hold_reply"}
    disabled = {"when": "auth_disabled", "at": "AUTH", "code": 454, "text": "Later", **SOURCE}
    asked = scenario(
        *(batch(1, "1s"), batch(3, "20s")),
        limits=(hold,),
        connections=3,
        retry=["90s"],
        provider={"replies": [disabled]},
        extra={"events": [{"kind": "auth_disabled", "at": "0s", "tenant": "us", "repaired_after": "10s"}]},
    )
    # number 0 can't log in at 1 and is accepted at 91; number 3 is held from 20 to 80
    found = summary(asked)
    assert (found.numbers["accepted"], found.numbers["throttled"]) == (4, 1)
    assert bound_by(asked) == {"plain/quota": 60 + 60, "retry": 30}


# Numbers of one run


def test_refused_messages_wait_for_ever_in_the_quantiles() -> None:
    limit = {**QUOTA, "limit": "96/h", "on_excess": "reject"}
    result = compare(scenario(batch(100), limits=(limit,), service="1s"), replications=3, jobs=1)
    found = {metric: result.estimate("it", "us", metric).mean for metric in METRICS if metric.startswith("delay")}
    # number k of 96 is done after k + 1 seconds; inverted CDF
    assert found == {"delay_mean": 48.5, "delay_p50": 50, "delay_p95": 95, "delay_p99": None}
    limit = {**QUOTA, "limit": "94/h", "on_excess": "reject"}
    result = compare(scenario(batch(100), limits=(limit,), service="1s"), replications=3, jobs=1)
    assert result.estimate("it", "us", "delay_p95") == Estimate(None, None, None, random=False)


def test_counts_and_times_of_a_run_by_hand() -> None:
    limit = {**QUOTA, "limit": "2/min", "on_excess": "defer"}
    asked = scenario(batch(3), batch(2, "30min"), limits=(limit,), service="10s", extra={"deadline": "00:30"})
    numbers = summary(asked).numbers
    assert math.isnan(numbers.pop("delivered"))
    assert numbers == {
        **dict.fromkeys(("held", "held_mean", "held_max", "waiting", "rejected", "rejected_attempts"), 0),
        **dict.fromkeys(("throttled_accepted", "throttled_delay_mean", "duplicates", "ambiguous"), 0),
        "offered": 5,
        "accepted": 4,
        "expired": 1,
        "on_time": 2,
        "within_hour": 4,
        "throttled": 1,
        "attempts": 5,
        "deferred_attempts": 1,
        "goodput_per_hour": 4,
        "delay_mean": (10 + 20 + 10 + 20) / 4,
        "delay_p50": 20,
        "delay_p95": math.inf,
        "delay_p99": math.inf,
        "wait_mean": (0 + 10 + 20 + 0 + 10) / 5,
        "finished_at": 1820,
        "finished": 1,
    }


def test_delivered_is_what_an_mx_accepted() -> None:
    assert summary(scenario(batch(3), provider=MX)).numbers["delivered"] == 3


def test_the_transient_is_cut_by_creation() -> None:
    asked = scenario(batch(4), batch(3, "10min"), service="10min", extra={"transient": "5min"}, duration="80min")
    found = summary(asked)
    # those of 0 are done at 10, 20, 30, 40; those of 10 at 50, 60, 70
    assert (found.numbers["offered"], found.numbers["accepted"], found.numbers["attempts"]) == (3, 3, 3)
    assert found.numbers["goodput_per_hour"] == 3 / 75 * 60
    assert found.numbers["wait_mean"] == (30 + 40 + 50) * 60 / 3
    assert sum(found.bound_by.values()) == (40 + 50 + 60) * 60


def test_on_time_is_until_the_deadline_its_second_included() -> None:
    asked = scenario(batch(3), service="60s", extra={"deadline": "00:02"})
    assert summary(asked).numbers["on_time"] == 2


def test_tenants_are_counted_apart_and_neighbours_left_out_where_they_are_not_carried() -> None:
    asked = pools()
    for name, carried in (("dedicated", ["us"]), ("pool", ["us", "neighbours"])):
        attempts = run(asked, name)
        found = summarize(attempts, asked, asked.lanes(name))
        assert list(found) == carried
        for tenant, of in found.items():
            mine = attempts.messages.tenant == attempts.messages.tenants.index(tenant)
            assert of.numbers["offered"] == mine.sum()


def minutes(*arrivals: dict[str, Any], retry: Any = "none", **limit: Any) -> dict[str, list[float]]:
    asked = scenario(*arrivals, limits=({**QUOTA, "limit": "2/min", **limit},), retry=retry)
    found = timeline(run(asked, "it"), asked, asked.lanes("it"))
    assert found.index.tolist() == [asked.zero + pd.Timedelta(minute, "min") for minute in range(len(found))]
    return {name: found[name].tolist() for name in found if found[name].any()}


def test_the_timeline_counts_by_minute() -> None:
    assert minutes(batch(3, "30s"), batch(1, "130s"), on_excess="hold_reply") == {
        "accepted": [2, 0, 1, 0],
        "held": [0, 1, 0, 0],
        "holding": [0.5, 0.5, 0, 0],
    }
    assert minutes(batch(3, "30s"), on_excess="accept_late") == {
        "accepted": [2, 0, 0],
        "held": [0, 1, 0],
        "holding": [0.5, 0.5, 0],
    }
    assert minutes(batch(5, "30s"), on_excess="reject") == {"accepted": [2, 0], "refused": [3, 0]}
    deferred = minutes(batch(3, "30s"), on_excess="defer", retry=["60s"])
    assert deferred == {"accepted": [2, 1, 0], "deferred": [1, 0, 0]}


# Intervals


def test_an_estimate_is_a_t_interval() -> None:
    numbers = [3.0, 5.0, 4.0, 8.0, 1.0]
    low, high = stats.t.interval(0.95, 4, np.mean(numbers), stats.sem(numbers))
    found = Estimate.of(numbers)
    assert (found.mean, found.random) == (4.2, True)
    assert [found.low, found.high] == pytest.approx([low, high])


def test_an_estimate_of_equal_numbers_is_not_random() -> None:
    assert Estimate.of([7.0, 7.0]) == Estimate(7.0, 7.0, 7.0, random=False)
    # a mean of equal numbers that are no binary fractions is that number, not one nearby
    assert Estimate.of([0.1] * 3) == Estimate(0.1, 0.1, 0.1, random=False)


@pytest.mark.parametrize("values", [[], [1.0, math.inf], [math.nan, 2.0]])
def test_without_a_number_there_is_no_estimate(values: list[float]) -> None:
    assert Estimate.of(values).json() | {"random": None} == {"mean": None, "low": None, "high": None, "random": None}


def test_one_replication_gives_no_interval() -> None:
    assert Estimate.of([3.0]).json() | {"random": None} == {"mean": 3.0, "low": None, "high": None, "random": None}


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(631)
    trials = 4000
    found = [Estimate.of(row) for row in rng.normal(5, 2, (trials, 8)).tolist()]
    covered = sum(one.low <= 5 <= one.high for one in found if one.low is not None and one.high is not None)
    low, high = stats.binom.interval(0.999, trials, 0.95)
    assert low <= covered <= high


@pytest.mark.parametrize(("successes", "expected"), [(0, (0.0, 0.161)), (10, (0.299, 0.701)), (20, (0.839, 1.0))])
def test_a_probability_has_a_wilson_interval(successes: int, expected: tuple[float, float]) -> None:
    assert tuple(round(bound, 3) for bound in wilson(successes, 20)) == expected


def test_a_paired_difference_is_of_each_replication() -> None:
    assert paired([1.0, 2.0, 4.0], [0.0, 1.0, 3.0]) == Estimate(1.0, 1.0, 1.0, random=False)
    assert paired([1.0, 2.0, 6.0], [0.0, 0.0, 3.0]) == Estimate.of([1.0, 2.0, 3.0])


# Many runs

CHOICE = {
    "name": "two ways",
    "start": "2026-06-01T09:00",
    "duration": "30min",
    "deadline": "09:20",
    "tenants": [{"name": "us", "senders": 2, "arrivals": [{"kind": "poisson", "rate": "2/min"}, batch(80, senders=1)]}],
    "alternatives": {
        "Office 365": {"channels": [{"name": "office", "tenants": ["us"], "to": "office365", "connections": 3}]},
        "Own": {"channels": [{"name": "own", "tenants": ["us"], "to": "plain"}]},
    },
    "providers": {"plain": PLAIN},
}


def choice(**changes: Any) -> Scenario:
    return Scenario.build({**CHOICE, **changes})


def test_the_conclusion_flips_if_the_excess_is_rejected() -> None:
    result = compare(choice(), replications=5, seed=641, jobs=1)
    assert result.conclusion() == {"Office 365", "Own"}
    assert result.conclusion((MINUTE_LIMIT, "reject")) == {"Own"}
    flips = {one["limit"] + " " + one["reading"]: one["flips"] for one in result.flips()}
    assert flips.pop(f"{MINUTE_LIMIT} reject") is True
    assert set(flips.values()) == {False}
    assert f"{MINUTE_LIMIT} accept-late" in flips


def test_the_conclusion_without_a_deadline_is_by_what_is_accepted() -> None:
    data = {key: value for key, value in CHOICE.items() if key != "deadline"}
    late = Scenario.build({**data, "readings": {MINUTE_LIMIT: "reject"}})
    assert compare(late, replications=3, jobs=1).conclusion() == {"Own"}


def test_the_conclusion_keeps_what_cannot_be_told_from_the_best() -> None:
    def result(**totals: list[float]) -> Result:
        ways = {name: {"channels": [{"name": "own", "tenants": ["us"], "to": "plain"}]} for name in totals}
        found = compare(choice(alternatives=ways), replications=3, jobs=1)
        for name, values in totals.items():
            for summaries, value in zip(found.runs[name], values, strict=True):
                summaries["us"].numbers["on_time"] = value
        return found

    assert result(a=[10, 12, 11], b=[10, 12, 11]).conclusion() == {"a", "b"}
    assert result(a=[10, 12, 11], b=[9, 11, 10]).conclusion() == {"a"}  # always one less: no doubt
    assert result(a=[10, 12, 11], b=[11, 10, 9]).conclusion() == {"a", "b"}
    assert result(a=[10, 20, 30], b=[9, 18.9, 29.1]).conclusion() == {"a"}  # paired, the difference is clear


def test_neighbours_have_no_say_in_the_conclusion() -> None:
    asked = pools()
    result = compare(asked, replications=2, jobs=1)
    for summaries in result.runs["pool"]:
        summaries["neighbours"].numbers["accepted"] += 1e6
    assert "dedicated" in result.conclusion()


def test_finished_says_how_often_nothing_was_left_waiting() -> None:
    done = compare(scenario(batch(3), service="1s"), replications=20, jobs=1)
    probability, low, high = done.finished("it", "us")
    assert (probability, round(low, 3), high) == (1.0, 0.839, 1.0)
    assert done.estimate("it", "us", "finished_at") == Estimate(3.0, 3.0, 3.0, random=False)
    never = compare(scenario(batch(3), service="1h"), replications=20, jobs=1)
    probability, low, high = never.finished("it", "us")
    assert (probability, low, round(high, 3)) == (0.0, 0.0, 0.161)
    assert never.estimate("it", "us", "finished_at").mean is None


def test_finished_at_is_over_the_replications_that_finished() -> None:
    asked = scenario({"kind": "poisson", "rate": "1/min"}, duration="10min", service="50s")
    result = compare(asked, replications=20, seed=642, jobs=1)
    times = [time for time in result.values("it", "us", "finished_at") if not math.isnan(time)]
    probability, *_ = result.finished("it", "us")
    assert 0 < probability < 1
    assert len(times) == probability * 20
    assert result.estimate("it", "us", "finished_at") == Estimate.of(times)


def width(estimate: Estimate) -> float:
    assert estimate.high is not None
    assert estimate.low is not None
    return estimate.high - estimate.low


def test_differences_are_paired_against_the_first_alternative() -> None:
    asked = choice(readings={MINUTE_LIMIT: "reject"})
    result = compare(asked, replications=6, seed=643, jobs=1)
    ours, theirs = (result.values(name, "us", "accepted") for name in ("Own", "Office 365"))
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    found = result.json()["differences"]
    assert list(found) == ["Own"]
    expected = Estimate.of(differences)
    assert found["Own"]["us"]["accepted"] == {"mean": expected.mean, "low": expected.low, "high": expected.high}
    # the arrivals differ between replications, the difference hardly
    unpaired = Estimate.of(ours)
    assert unpaired.random
    assert width(expected) < width(unpaired)


def test_the_document_has_the_keys_of_the_contract_and_is_plain_json() -> None:
    document = compare(choice(), replications=3, jobs=1).json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    keys = {
        "scenario",
        "as_of",
        "replications",
        "seed",
        "baseline",
        "alternatives",
        "differences",
        "rests_on",
        "readings",
    }
    assert keys <= set(document)
    us = document["alternatives"]["Office 365"]["tenants"]["us"]
    counted = "offered accepted delivered rejected expired waiting on_time throttled attempts deferred_attempts "
    counted += "rejected_attempts goodput_per_hour delay_mean delay_p50 delay_p95 delay_p99 wait_mean finished_at"
    assert {*counted.split(), "finished", "refusals", "bound_by"} <= set(us)
    assert us["delivered"] is None
    assert set(us["accepted"]) == {"mean", "low", "high", "random"}
    assert set(us["finished"]) == {"probability", "low", "high"}
    assert document["alternatives"]["Office 365"]["ends_at"] == "office365"
    assert set(us["refusals"]) == {MINUTE_LIMIT}
    assert sum(us["bound_by"].values()) == pytest.approx(1)
    assert document["as_of"] == "2026-06-01"
    data = {key: value for key, value in CHOICE.items() if key != "deadline"}
    late = compare(Scenario.build(data), replications=2, jobs=1).json()
    assert late["alternatives"]["Own"]["tenants"]["us"]["on_time"] is None
    assert late["differences"]["Own"]["us"]["on_time"] == {"mean": None, "low": None, "high": None}


def test_what_is_not_random_has_no_interval() -> None:
    asked = choice(tenants=[{"name": "us", "senders": 1, "arrivals": batch(80)}])
    us = compare(asked, replications=3, jobs=1).json()["alternatives"]["Office 365"]["tenants"]["us"]
    assert us["throttled"] == {"mean": 50.0, "low": 50.0, "high": 50.0, "random": False}
    assert not any(value["random"] for value in us.values() if isinstance(value, dict) and "random" in value)


def test_the_same_seed_gives_the_same_output_whatever_the_jobs() -> None:
    asked = choice()
    one, two = (compare(asked, replications=5, seed=644, jobs=jobs) for jobs in (1, 2))
    assert json.dumps(one.json()) == json.dumps(two.json())
    assert json.dumps(compare(asked, replications=5, seed=645, jobs=1).json()) != json.dumps(one.json())


def test_a_replication_is_the_same_whatever_their_number() -> None:
    few, many = (compare(choice(), replications=count, seed=646, jobs=1) for count in (2, 4))
    for alternative in few.runs:
        for metric in METRICS:
            assert repr(many.values(alternative, "us", metric)[:2]) == repr(few.values(alternative, "us", metric))


def test_an_interrupted_comparison_stops_at_once() -> None:
    done: list[int] = []

    def interrupt(number: int, of: int) -> None:
        done.append(number)
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(choice(), replications=500, jobs=1, progress=interrupt)
    assert done == [1, 2]


def test_progress_counts_every_replication() -> None:
    told: list[tuple[int, int]] = []
    compare(choice(), replications=4, jobs=1, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"replications": 0}, "replications must be at least 1, got 0"),
        ({"jobs": -1}, "jobs must be at least 1, got -1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(asked: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(choice(), **asked)  # type: ignore[arg-type]


def test_an_unknown_alternative_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown alternative 'Gmail' \(there are: Office 365, Own\)"):
        run(choice(), "Gmail")


def test_the_attempts_of_all_runs_carry_alternative_and_replication() -> None:
    result = compare(choice(), replications=2, jobs=1)
    found = result.attempts
    assert list(found.columns[:2]) == ["alternative", "replication"]
    for (alternative, replication), mine in found.groupby(["alternative", "replication"]):
        attempts = run(choice(), str(alternative), 1, int(str(replication)))
        assert isinstance(attempts, Attempts)
        assert len(mine) == len(attempts.rows)
        assert (
            result.values(str(alternative), "us", "attempts")[int(str(replication))] == mine["started_at"].notna().sum()
        )


def test_another_date_has_other_facts() -> None:
    asked = choice(
        providers={
            "plain": {
                **PLAIN,
                "limits": [{**QUOTA, "limit": "10/h", "on_excess": "reject", "from": dt.date(2026, 7, 1)}],
            }
        }
    )
    before, after = (
        compare(asked, replications=2, jobs=1, as_of=dt.date(2026, month, 30)).estimate("Own", "us", "rejected").mean
        for month in (6, 7)
    )
    assert before == 0
    assert after is not None
    assert after > 70


# The largest send


@pytest.mark.parametrize(("reading", "largest"), [(None, 480), ("reject", 30), ("accept-late", 480), ("clock", 480)])
def test_the_largest_send_that_office365_takes(reading: str | None, largest: int) -> None:
    asked = choice(readings={} if reading is None else {MINUTE_LIMIT: reading})
    assert largest_send(asked, "Office 365") == largest


def test_the_largest_send_under_a_pace_and_within_another_time() -> None:
    paced = choice()
    paced = paced.replace(
        alternatives={
            "Own": {
                "channels": [{"name": "own", "tenants": ["us"], "to": "plain", "pace": {"batch": 10, "wait": "1min"}}]
            }
        }
    )
    assert largest_send(paced, "Own", within=300) == 60  # at 0, 1, …, 5 minutes
    assert largest_send(paced, "Own", within=299) == 50
    assert largest_send(paced, "Office 365", within=59) == 30


def test_the_largest_send_is_as_of_the_scenarios_date() -> None:
    quota = {**QUOTA, "limit": "10/h", "on_excess": "reject", "until": dt.date(2026, 6, 30)}
    asked = choice(providers={"plain": {**PLAIN, "limits": [{**quota, "as_of": dt.date(2026, 7, 1)}]}})
    assert largest_send(asked, "Own") == 10
    assert largest_send(asked, "Own", as_of=dt.date(2026, 7, 1)) == MOST


@pytest.mark.parametrize("within", [0, -5, 86400])
def test_a_time_for_the_largest_send_that_makes_no_sense_is_refused(within: float) -> None:
    with pytest.raises(ValueError, match="within must be more than 0 and less than a day, got"):
        largest_send(choice(), "Own", within=within)


def test_no_send_at_all_fits_where_everything_is_refused() -> None:
    never = {
        "id": "recipients",
        "count": "bytes",
        "per": "message",
        "limit": 1,
        "at": "EOD",
        "on_excess": "reject",
        **SOURCE,
    }
    assert largest_send(choice(providers={"plain": {**PLAIN, "limits": [never]}}), "Own") == 0


# The back test


def test_the_baseline_still_holds() -> None:
    """Regenerate with `python -m tests.baselines`, and look at the difference before committing it."""
    folder = Path(__file__).parent / "baselines"
    table: Callable[[], str] = runpy.run_path(str(folder / "__main__.py"))["table"]
    assert table().splitlines() == (folder / "team.csv").read_text(encoding="utf-8").splitlines()
