"""What is said of one run: what bound it, what was throttled, its numbers; hand-made cases."""

import math
from typing import Any

import numpy as np
import pandas as pd
from experiments import MX, QUOTA, SOURCE, batch, pools, scenario, summary
from hypothesis import given
from hypothesis import strategies as st

from simlib.estimate import Estimate
from simlib.experiment import compare, run
from simlib.record import frame
from simlib.scenario import Scenario
from simlib.summary import METRICS, _union, summarize, timeline

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
