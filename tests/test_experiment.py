"""Experiments: the same mail on every alternative, replications, what may be concluded; the largest send."""

import datetime as dt
import json
import math
import runpy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from experiments import MINUTE_LIMIT, MX, PLAIN, QUOTA, RANDOM, SOURCE, batch, pools, scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from simlib.attempts import Attempts
from simlib.estimate import Estimate
from simlib.experiment import Result, compare, run
from simlib.record import frame
from simlib.scenario import Scenario
from simlib.sizing import MOST, largest_send
from simlib.summary import METRICS
from simlib.windows import INSTANT

# Shared and dedicated, more and fewer


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


def test_one_run_alone_shows_nobody_to_be_worse() -> None:
    data = {key: value for key, value in CHOICE.items() if key != "deadline"}
    late = Scenario.build({**data, "readings": {MINUTE_LIMIT: "reject"}})
    alone = compare(late, replications=1, jobs=1)
    assert alone.behind()["Office 365"].mean != 0
    assert alone.conclusion() == {"Office 365", "Own"}


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
    with pytest.raises(ValueError, match=r"unknown alternative 'Gmail' \(there are: 'Office 365', 'Own'\)"):
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


def test_the_largest_send_of_a_new_ip_goes_on_through_the_pool() -> None:
    """Mailtrap allows 60 in the first hour; an IP of the pool takes 300 of the rest."""
    new = {"name": "new", "tenants": ["us"], "to": "google-mx", "warmup": "mailtrap"}
    pool = {"name": "pool", "tenants": ["others"], "to": "google-mx"}
    sends = {"senders": 1, "arrivals": {"kind": "batches", "size": 1}}
    asked = Scenario.build(
        {
            "name": "new",
            "duration": "2d",
            "tenants": [{"name": "us", **sends}, {"name": "others", "neighbour": True, **sends}],
            "alternatives": {
                "overflow": {"channels": [{**new, "overflow": "pool"}, pool]},
                "waiting": {"channels": [new, pool]},
            },
            "limits": {"google-mx/quota": "300/h"},
        }
    )
    assert {name: largest_send(asked, name) for name in asked.alternatives} == {"overflow": 360, "waiting": 60}


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
