"""Channels, message by message: what is offered when, and which reply it gets.

Each test writes a small scenario, runs it and compares the record with what can be worked out by hand.
"""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from channels import MINUTE, MX, ONE_RECIPIENT, QUOTA, batch, numbers, record, rows, scenario
from scipy.stats import binom

from simlib.channel import Service
from simlib.experiment import run
from simlib.receiver import Account

# Office 365, as anybody can check by hand


def test_a_thousand_at_once_through_one_office365_mailbox() -> None:
    asked = scenario(batch(1000), to="office365", connections=3)
    found, counted = record(asked), numbers(asked)
    assert counted["accepted"] == 1000
    assert counted["throttled"] == 970
    assert counted["finished_at"] == 1980
    assert counted["held_max"] == 1980  # from creation: the reply itself is held 60 s at most
    assert found["held"].max() == 60
    assert Counter(found["ended_at_s"]) == {MINUTE * minute: 30 for minute in range(33)} | {1980.0: 10}


def test_a_thousand_at_once_if_the_excess_is_rejected() -> None:
    asked = scenario(
        batch(1000), to="office365", connections=3, extra={"readings": {"office365/messages-per-minute": "reject"}}
    )
    found, counted = record(asked), numbers(asked)
    assert (counted["accepted"], counted["rejected"], counted["throttled"]) == (30, 970, 970)
    assert set(found["ended_at_s"]) == {0.0}
    refused = found[found["code"] != 250]
    assert set(refused["text"]) == {"Submission quota exceeded"}
    assert set(refused["limit"]) == {"office365/messages-per-minute"}


def test_eighty_at_once() -> None:
    asked = scenario(batch(80), to="office365", connections=3)
    assert Counter(record(asked)["ended_at_s"]) == {0.0: 30, 60.0: 30, 120.0: 20}
    assert numbers(asked)["throttled"] == 50


def test_25_every_45_seconds_puts_50_into_one_minute() -> None:
    asked = scenario(
        batch(100),
        to="office365",
        pace={"batch": 25, "wait": "45s"},
        extra={"readings": {"office365/messages-per-minute": "reject"}},
    )
    found = record(asked)
    assert Counter(found["started_at_s"]) == {0.0: 25, 45.0: 25, 90.0: 25, 135.0: 25}
    assert Counter(found.loc[found["code"] == 250, "started_at_s"]) == {0.0: 25, 45.0: 5, 90.0: 25, 135.0: 5}


def test_30_every_60_seconds_is_never_throttled() -> None:
    asked = scenario(batch(300), to="office365", pace={"batch": 30, "wait": "60s"})
    assert numbers(asked)["throttled"] == 0
    assert numbers(asked)["finished_at"] == 540


def test_the_fourth_transaction_at_once_is_deferred() -> None:
    asked = scenario(batch(4), to="office365", connections=4, service="1s")
    assert rows(asked, "message", "ended", "code", "limit") == [
        (0, 1.0, 432, "office365/transactions"),
        (1, 1.0, 250, ""),
        (2, 1.0, 250, ""),
        (3, 1.0, 250, ""),
    ]


# Holds


def test_a_reply_held_longer_than_the_timeout_is_lost_but_the_message_accepted() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "hold_reply"}
    asked = scenario(batch(2), batch(1, "70s"), limits=(limit,), timeout="55s")
    assert rows(asked, "message", "started", "ended", "held", "code", "stage", "limit", "final") == [
        (0, 0.0, 0.0, 0.0, 250, "EOD", "", True),
        (1, 0.0, 55.0, 55.0, 0, "EOD", "plain/quota", True),
        # were number 1 not accepted at 60, there would be room at 70
        (2, 70.0, 120.0, 50.0, 250, "EOD", "plain/quota", True),
    ]
    assert numbers(asked)["expired"] == 1


def test_a_lost_reply_ends_the_session_and_the_message_is_tried_again() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "hold_reply"}
    asked = scenario(batch(3), limits=(limit,), timeout="55s", retry=["100s"])
    assert rows(asked, "message", "retry", "started", "ended", "code", "session") == [
        (0, 0, 0.0, 0.0, 250, 1),
        (1, 0, 0.0, 55.0, 0, 1),  # accepted at 60 all the same
        (2, 0, 55.0, 110.0, 0, 2),  # and this at 120
        (1, 1, 155.0, 180.0, 250, 3),
        (2, 1, 210.0, 240.0, 250, 4),
    ]


def test_a_reply_held_as_long_as_the_timeout_still_arrives() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "hold_reply"}
    assert rows(scenario(batch(2), limits=(limit,), timeout="60s"), "ended", "code") == [(0.0, 250), (60.0, 250)]


def test_accepted_late_the_reply_is_at_once_and_what_counts_is_when_it_moves_on() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "accept_late"}
    asked = scenario(batch(3), limits=(limit,), extra={"deadline": "00:01"})
    assert rows(asked, "message", "started", "ended", "held", "code", "limit") == [
        (0, 0.0, 0.0, 0.0, 250, ""),
        (1, 0.0, 0.0, 60.0, 250, "plain/quota"),
        (2, 0.0, 0.0, 120.0, 250, "plain/quota"),
    ]
    counted = numbers(asked)
    assert (counted["accepted"], counted["on_time"], counted["throttled"]) == (3, 2, 2)
    assert (counted["delay_mean"], counted["delay_p99"], counted["finished_at"]) == (60, 120, 120)


def test_a_held_reply_keeps_its_connection_but_not_the_others() -> None:
    limit = {**QUOTA, "limit": "2/min", "on_excess": "hold_reply"}
    asked = scenario(batch(4), limits=(limit,), connections=1)
    assert rows(asked, "started", "ended") == [(0.0, 0.0), (0.0, 0.0), (0.0, 60.0), (60.0, 60.0)]
    asked = scenario(batch(4), limits=(limit,), connections=2)
    assert rows(asked, "started", "ended") == [(0.0, 0.0), (0.0, 0.0), (0.0, 60.0), (0.0, 60.0)]


# Queues


def test_to_an_mx_all_senders_wait_in_one_queue() -> None:
    asked = scenario(batch(3), batch(3, "0.5s"), senders=3, provider=MX, service="1s")
    found = record(asked)
    assert found["started_at_s"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert found["sender"].str[:5].tolist() == ["rep01", "rep02", "rep03"] * 2


def test_each_account_has_its_own_queue_and_connections() -> None:
    asked = scenario(batch(4), batch(2, "0.5s"), senders=2, connections=2, service="1s")
    found = record(asked).sort_values("message_id")
    assert found["sender"].str[:5].tolist() == ["rep01", "rep02"] * 3
    assert found["started_at_s"].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]


def test_a_domains_credential_is_one_account() -> None:
    asked = scenario(batch(4), senders=2, provider={"credential": "domain"}, service="1s")
    found = record(asked)
    assert found["started_at_s"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert found["sender"].str[:5].tolist() == ["rep01", "rep02"] * 2


def test_one_accounts_held_reply_delays_nobody_else() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "hold_reply"}
    each = {"kind": "batches", "per_sender": 1, "first": "10s"}
    asked = scenario(batch(3, senders=1), each, senders=2, limits=(limit,))
    found = record(asked)
    other = found[found["sender"].str.startswith("rep02")]
    assert (other["started_at_s"].tolist(), other["ended_at_s"].tolist()) == ([10.0], [10.0])


def test_the_pace_is_each_senders_own() -> None:
    asked = scenario(batch(6), senders=2, pace="6/min", provider=MX)
    found = record(asked)
    assert list(zip(found["sender"].str[:5], found["started_at_s"], strict=True)) == [
        ("rep01", 0.0),
        ("rep02", 0.0),
        ("rep01", 10.0),
        ("rep02", 10.0),
        ("rep01", 20.0),
        ("rep02", 20.0),
    ]


def test_messages_go_whole_to_one_provider_in_the_channels_shares() -> None:
    arrivals = {"kind": "poisson", "rate": "1/s"}
    asked = scenario(arrivals, tenant={"recipients": 3}, to={"plain": 0.75, "google-mx": 0.25}, provider=MX)
    found = record(asked)
    assert found["message_id"].is_unique
    low, high = binom.interval(0.999, len(found), 0.75)
    assert low <= (found["provider"] == "plain").sum() <= high


# The end of the run


def test_what_is_under_way_at_the_end_has_no_outcome_and_what_never_began_no_start() -> None:
    asked = scenario(batch(5), duration="10s", service="4s")
    found = record(asked)
    assert found[["message_id", "started_at_s", "ended_at_s", "code", "stage", "final"]].astype(object).where(
        found[["message_id", "started_at_s", "ended_at_s", "code", "stage", "final"]].notna(), None
    ).to_numpy().tolist() == [
        ["us-0", 0.0, 4.0, 250, "EOD", True],
        ["us-1", 4.0, 8.0, 250, "EOD", True],
        ["us-2", 8.0, None, 0, "", False],
        ["us-3", None, None, 0, "", False],
        ["us-4", None, None, 0, "", False],
    ]  # fmt: skip
    counted = numbers(asked)
    assert (counted["offered"], counted["accepted"], counted["waiting"]) == (5, 2, 3)
    assert (counted["attempts"], counted["deferred_attempts"]) == (3, 0)
    assert np.isnan(counted["finished_at"])


def test_a_reply_still_held_at_the_end() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "hold_reply"}
    asked = scenario(batch(3), duration="45s", limits=(limit,))
    attempts = run(asked, "it")
    assert attempts["held"].tolist() == [0, 45, 0]
    assert attempts["final"].tolist() == [1, 0, 0]
    assert [attempts.kinds[int(kind)][1:] for kind in attempts["kind"]] == [
        (250, "2.0.0", "Ok", "EOD", ""),
        (0, "", "", "EOD", "plain/quota"),
        (0, "", "", "", ""),
    ]
    counted = numbers(asked)
    assert (counted["accepted"], counted["waiting"], counted["throttled"]) == (1, 2, 2)


def test_a_session_still_being_set_up_at_the_end() -> None:
    asked = scenario(batch(1), duration="5s", session_setup="10s")
    assert rows(asked, "started", "stage", "transaction", "final") == [(0.0, "", 0, False)]
    assert numbers(asked)["waiting"] == 1


def test_a_message_between_two_tries_at_the_end_is_waiting() -> None:
    limit = {**ONE_RECIPIENT, "on_excess": "defer"}
    asked = scenario(batch(1), duration="50s", limits=(limit,), tenant={"recipients": 2}, retry=["60s"])
    assert rows(asked, "retry", "code", "final") == [(0, 451, False)]
    assert (numbers(asked)["waiting"], numbers(asked)["expired"]) == (1, 0)


def test_a_run_without_messages() -> None:
    asked = scenario({"kind": "poisson", "rate": "0.000001/d"})
    assert record(asked).empty
    assert (numbers(asked)["offered"], numbers(asked)["finished"]) == (0, 1)


# Service times


@pytest.mark.parametrize(
    ("law", "scv"),
    [
        ({"mean": "2s"}, 0.0),
        ({"kind": "exponential", "mean": "2s"}, 1.0),
        ({"kind": "lognormal", "mean": "2s", "scv": 4}, 4.0),
    ],
)
def test_service_times_have_the_mean_and_variance_asked_for(law: dict[str, Any], scv: float) -> None:
    drawn = Service.model_validate(law).draw(np.random.default_rng(20260601), 400_000)
    for power, expected in ((1, 2.0), (2, 4.0 * (1 + scv))):
        values = drawn**power
        # 3.29 standard errors: 99.9 %
        assert abs(values.mean() - expected) <= 3.29 * values.std() / np.sqrt(len(values))


@pytest.mark.parametrize(
    ("service", "message"),
    [
        ({"kind": "lognormal", "mean": "0s"}, "mean must be longer than 0 for lognormal service times, got 0 s"),
        ({"kind": "exponential", "mean": "1s", "scv": 2}, "scv belongs to lognormal service times, got 2"),
        ("1", "must be a duration like '45s'"),
    ],
)
def test_a_service_time_that_makes_no_sense_is_refused(service: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scenario(batch(1), service=service)


def test_accounts_are_known_by_lower_case() -> None:
    asked = scenario(batch(1), tenant={"domain": "US.example"})
    assert set(asked.receivers(asked.lanes("it"))["plain"].accounts) == {"rep01@us.example"}
    assert isinstance(asked.receivers(asked.lanes("it"))["plain"].accounts["rep01@us.example"], Account)
    assert rows(asked, "code", "final") == [(250, True)]
