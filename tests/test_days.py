"""A run a day at a time: the same messages and the same record as in one go, in memory for a day's mail."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simlib.experiment import compare, days, run
from simlib.record import frame
from simlib.scenario import Scenario
from simlib.simulation import splits
from simlib.summary import Tally, summarize

DAY = 86400.0
POOL = {"name": "pool", "tenants": ["us", "others"], "to": {"google-mx": 0.5, "generic-mx": 0.5}, "ips": 2}


def question(duration: str = "3d", tenants: Any = None, limits: Any = None, **channel: Any) -> Scenario:
    """Return a pool whose quota binds around midnight, so that retries of one day fall into the next."""
    return Scenario.build(
        {
            "name": "days",
            "start": "2026-12-01T18:00",
            "duration": duration,
            "tenants": [
                {
                    "name": "us",
                    "senders": 3,
                    "complaint_rate": 0.01,
                    "arrivals": [
                        {"kind": "poisson", "rate": "10/h"},
                        {"kind": "batches", "first": "17:50", "every": "1d", "size": 40},
                    ],
                },
                {"name": "others", "neighbour": True, "senders": 7, "arrivals": {"kind": "poisson", "rate": "15/h"}},
                *(tenants or []),
            ],
            "alternatives": {"pool": {"channels": [{**POOL, "retry": "postfix", "service": "2s", **channel}]}},
            "reputation": True,
            "limits": {"google-mx/quota": "10/h"} if limits is None else limits,
        }
    )


def whole(scenario: Scenario, alternative: str = "pool") -> pd.DataFrame:
    return by_message(frame(run(scenario, alternative), scenario.zero))


def by_message(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["message_id", "retry"], ignore_index=True)


@pytest.mark.parametrize(
    ("service", "reaction"), [("0s", "none"), ("2s", "none"), ("40s", "none"), ("2s", "kumomta"), ("2s", "google")]
)
def test_the_record_of_the_days_is_that_of_the_run(service: str, reaction: str) -> None:
    scenario = question(service=service, reaction=reaction)
    parts = list(days(scenario, "pool"))
    assert len(parts) == 3
    together = pd.concat([frame(part, scenario.zero) for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(whole(scenario), by_message(together))
    assert (together["retry"] > 0).sum() > 50  # and they cross midnight:
    late = together[(together["retry"] > 0) & (together["started_at_s"] // DAY > together["created_at_s"] // DAY)]
    assert late["final"].any()


def test_faults_strike_the_same_commands_from_day_to_day() -> None:
    faults = [
        {"kind": "refuse", "at": "RCPT", "reply": "450 4.2.1 Mailbox busy", "recipient": "*@d01.google-mx.test"},
        {"kind": "greylist", "delay": "5min", "retention": "36h", "recipient": "*@d02.generic-mx.test"},
        {"kind": "stall", "at": "EOD", "delay": "30s", "odds": "3%"},
        {"kind": "drop_after", "at": "DATA", "odds": "2%"},
    ]
    scenario = question(limits={"google-mx/quota": "20/h"}).replace(faults=faults)
    parts = list(days(scenario, "pool"))
    assert len(parts) == 3
    together = pd.concat([frame(part, scenario.zero) for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(whole(scenario), by_message(together))
    assert {"4.2.1", "4.7.1", "4.7.28"} <= set(together["enhanced"])
    assert (together["code"] == 0).any()


def warmed(**new: Any) -> Scenario:
    """Return a new IP of our own beside the pool: what is over its schedule goes there, or with no overflow waits."""
    way = {"to": POOL["to"], "retry": "postfix", "service": "2s"}
    return question(limits={"google-mx/quota": "60/h"}).replace(
        tenants={"us": {"arrivals": [{"kind": "batches", "first": "17:50", "every": "1d", "size": 400}]}},
        alternatives={
            "new": {
                "channels": [
                    {**way, "name": "new", "tenants": ["us"], "warmup": "braze-moderate", **new},
                    {**way, "name": "old", "tenants": ["others"]},
                ]
            }
        },
    )


@pytest.mark.parametrize("overflow", [True, False])
def test_a_new_ip_is_warmed_up_from_day_to_day_as_in_one_run(overflow: bool) -> None:
    scenario = warmed(overflow="old") if overflow else warmed()
    parts = list(days(scenario, "new"))
    assert len(parts) == 3
    together = pd.concat([frame(part, scenario.zero) for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(whole(scenario, "new"), by_message(together))
    first = together[(together["tenant"] == "us") & (together["retry"] == 0) & together["started_at_s"].notna()]
    waited = first["started_at_s"] // DAY - first["created_at_s"] // DAY
    assert (waited.max() >= 1) != overflow  # it falls due on a later day
    assert (first["ip"].nunique() > 1) == overflow
    lanes, tally = scenario.lanes("new"), Tally(scenario, scenario.lanes("new"))
    for part in parts:
        tally.add(part)
    found, expected = tally.summaries()["us"], summarize(run(scenario, "new"), scenario, lanes)["us"]
    assert found.numbers == pytest.approx(expected.numbers, rel=1e-9, nan_ok=True)
    assert found.bound_by == pytest.approx(expected.bound_by, rel=1e-9)
    assert (found.bound_by["warmup"] > 0) != overflow


def test_a_part_has_all_attempts_of_what_was_decided_and_only_the_last_has_what_wasn_t() -> None:
    parts = list(days(question(), "pool"))
    for until, part in enumerate(parts[:-1], 1):
        final = np.zeros(len(part.messages), dtype=int)
        np.add.at(final, part["message"].astype(int), part["final"].astype(int))
        assert (final == 1).all()
        assert part["ended"].max() < until * DAY
    assert (parts[-1]["final"] == 0).any()


LOST_REPLIES = {"kind": "lose_reply", "odds": "10%"}


@pytest.mark.parametrize(
    ("reaction", "faults"), [("none", []), ("kumomta", []), ("google", []), ("none", [LOST_REPLIES])]
)
def test_the_summary_of_the_days_is_that_of_the_run(reaction: str, faults: list[dict[str, str]]) -> None:
    scenario = question(reaction=reaction).replace(faults=faults)
    lanes = scenario.lanes("pool")
    tally = Tally(scenario, lanes)
    for part in days(scenario, "pool"):
        tally.add(part)
    found, expected = tally.summaries(), summarize(run(scenario, "pool"), scenario, lanes)
    assert (expected["us"].bound_by["reaction"] > 0) == (reaction != "none")
    assert (expected["us"].numbers["duplicates"] > 0) == bool(faults)
    assert list(found) == list(expected)
    for tenant, summary in expected.items():
        for name, numbers in (("numbers", summary.numbers), ("bound_by", summary.bound_by)):
            assert getattr(found[tenant], name) == pytest.approx(numbers, rel=1e-9, nan_ok=True)
        assert found[tenant].refusals == summary.refusals
        assert found[tenant].other_refusals == summary.other_refusals


def test_what_a_comparison_says_of_a_long_run_is_what_the_run_says() -> None:
    scenario = question()
    told: list[float] = []
    result = compare(scenario, replications=1, progress=lambda done, of: told.append(done))
    attempts = run(scenario, "pool")
    summaries = summarize(attempts, scenario, scenario.lanes("pool"))
    assert result.values("pool", "us", "accepted") == [summaries["us"].numbers["accepted"]]
    assert told == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0, 1]
    pd.testing.assert_frame_equal(
        by_message(result.attempts.drop(columns=["alternative", "replication"])), whole(scenario)
    )
    timeline = result.timeline("pool")
    assert timeline["accepted"].sum() + timeline["held"].sum() == sum(
        one.numbers["accepted"] for one in summaries.values()
    )
    assert len(result.delays("pool", "us")) == summaries["us"].numbers["offered"]


def test_each_day_draws_its_own_mail_and_deals_it_on() -> None:
    scenario = question(limits={})
    messages = scenario.messages(1, 0)
    joined = [part for _, part in scenario.days(1, 0)]
    assert [until for until, _ in scenario.days(1, 0)] == [DAY, 2 * DAY, 3 * DAY]
    assert np.concatenate([part.created_at for part in joined]).tolist() == messages.created_at.tolist()
    assert len(set(messages.ids())) == len(messages)
    clocks = [part.created_at % DAY for part in joined]
    assert len({tuple(clock[:5]) for clock in clocks}) == 3
    others = messages.tenant == messages.tenants.index("others")
    dealt = messages.sender[others] - messages.sender[others].min()
    assert dealt.tolist() == [number % 7 for number in range(len(dealt))]


def test_the_first_day_is_the_same_whatever_follows() -> None:
    one, four = question("1d").messages(1, 0), question("3d").messages(1, 0)
    assert four.created_at[four.created_at < DAY].tolist() == one.created_at.tolist()


@pytest.mark.parametrize(
    "channel",
    [{"to": "office365"}, {"to": "own-postfix"}],
    ids=["an account each", "one credential"],
)
def test_what_goes_on_from_day_to_day_is_run_in_one_piece(channel: dict[str, Any]) -> None:
    scenario = question("2d", limits={}, **channel)
    assert not splits(scenario.lanes("pool"))
    (part,) = days(scenario, "pool")
    assert part.rows.tobytes() == run(scenario, "pool").rows.tobytes()


def test_what_is_kept_is_that_of_a_day() -> None:
    """What is yielded does not grow with the number of days."""
    sizes = [len(part.rows) for part in days(question("20d", limits={}), "pool")]
    assert max(sizes) < 1.3 * np.median(sizes)


@pytest.mark.parametrize(("duration", "jobs"), [("3d", 1), ("20h", 2)])
def test_what_is_kept_is_told_without_simulating_again(
    duration: str, jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = question(duration)
    simulated = compare(scenario, replications=2, jobs=jobs)
    expected = simulated.attempts, simulated.timeline("pool", "us", 1), simulated.delays("pool", "us", 1)
    result = compare(scenario, replications=2, jobs=jobs, keep=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("simlib.experiment.by_day", None)
        pd.testing.assert_frame_equal(expected[0], result.attempts)
        pd.testing.assert_frame_equal(expected[1], result.timeline("pool", "us", 1))
        assert expected[2].tolist() == result.delays("pool", "us", 1).tolist()
    assert len(list(result.frames())) == 2 * (3 if duration == "3d" else 1)
    for path in tmp_path.iterdir():
        path.unlink()
    pd.testing.assert_frame_equal(expected[1], result.timeline("pool", "us", 1))  # gone: simulated again


def test_another_record_is_not_taken_for_this_one(tmp_path: Path) -> None:
    compare(question("1d"), replications=1, keep=tmp_path)
    with pytest.raises(ValueError, match="keep must be an empty folder"):
        compare(question("1d"), replications=1, seed=2, keep=tmp_path)


def test_a_table_of_the_record_has_so_many_rows_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = question("2d", limits={}, to="own-postfix")
    result = compare(scenario, replications=1)
    attempts = result.attempts
    monkeypatch.setattr("simlib.experiment.ROWS", 100)
    frames = list(result.frames())
    assert [len(one) for one in frames[:-1]] == [100] * (len(frames) - 1)
    pd.testing.assert_frame_equal(pd.concat(frames, ignore_index=True), attempts)


@pytest.mark.parametrize(
    ("channel", "fits"), [({}, True), ({"warmup": "mailtrap"}, True), ({"to": "own-postfix"}, False)]
)
def test_what_memory_cannot_hold_is_refused_before_anything_is_simulated(
    channel: dict[str, Any], fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = question("10d", limits={}, **channel)
    messages = scenario.expected("pool")
    assert messages == 10 * 24 * (10 + 15) + 10 * 40  # the batch once a day
    monkeypatch.setattr("simlib.experiment._memory", lambda: messages * 400.0)
    if fits:
        assert len(list(days(scenario, "pool"))) == 10
        return
    monkeypatch.setattr("simlib.experiment.by_day", None)
    for refused in (lambda: compare(scenario, replications=1), lambda: next(days(scenario, "pool"))):
        with pytest.raises(ValueError, match=r"pool: 6,\d00 messages take .* GiB or more, and this machine has"):
            refused()
