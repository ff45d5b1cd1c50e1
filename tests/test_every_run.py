"""What holds in every run, whatever the limits, the services and the seed."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from experiments import MX, PLAIN, QUOTA, SOURCE, batch, scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from simlib.experiment import run
from simlib.record import frame
from simlib.scenario import Scenario
from simlib.summary import summarize
from simlib.windows import INSTANT

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
