"""Channels, message by message: what is offered when, over which session and IP, and which reply it gets.

Each test writes a small scenario, runs it and compares the record with what can be worked out by hand.
"""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, poisson

from simlib import pacing
from simlib.attempts import COLUMNS, Attempts
from simlib.channel import Service
from simlib.experiment import run
from simlib.provider import Limit, Provider, names, parse
from simlib.receiver import Account, Receiver
from simlib.record import frame
from simlib.scenario import Scenario
from simlib.sender import Pace
from simlib.summary import summarize
from simlib.workload import stream

MINUTE = 60.0
SOURCE = {"source": "made up for this test", "as_of": "2026-01-01"}
QUOTA = {"id": "quota", "count": "messages", "per": "account", "window": "sliding", "at": "EOD", **SOURCE}
ONE_RECIPIENT = {"id": "recipients", "count": "recipients", "per": "message", "limit": 1, "at": "RCPT", **SOURCE}


def scenario(
    *arrivals: dict[str, Any],
    to: str | dict[str, float] = "plain",
    senders: int = 1,
    duration: str = "1h",
    provider: dict[str, Any] | None = None,
    limits: tuple[dict[str, Any], ...] = (),
    tenant: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
    **channel: Any,
) -> Scenario:
    """One tenant on one channel, by default to a submission provider without limits."""
    plain = {"title": "Plain", "role": "submission", "credential": "account", "auth": ["PLAIN"], "limits": list(limits)}
    return Scenario.build(
        {
            "name": "test",
            "start": "2026-06-01T00:00",
            "duration": duration,
            "tenants": [{"name": "us", "senders": senders, "arrivals": list(arrivals), **(tenant or {})}],
            "alternatives": {"it": {"channels": [{"name": "channel", "tenants": ["us"], "to": to, **channel}]}},
            "providers": {"plain": {**plain, **(provider or {})}},
            **(extra or {}),
        }
    )


MX = {"role": "delivery", "credential": "ip", "auth": []}


def batch(size: int, first: str = "0s", **more: Any) -> dict[str, Any]:
    return {"kind": "batches", "size": size, "first": first, **more}


def record(asked: Scenario, **more: Any) -> pd.DataFrame:
    return frame(run(asked, "it", **more), asked.zero)


def numbers(asked: Scenario) -> dict[str, float]:
    return summarize(run(asked, "it"), asked, asked.lanes("it"))["us"].numbers


def rows(asked: Scenario, *columns: str) -> list[tuple[Any, ...]]:
    """The record's columns, a row an attempt; messages by their number alone."""
    found = record(asked)
    found["message"] = found["message_id"].str.removeprefix("us-").astype(int)
    found["started"], found["ended"] = found["started_at_s"], found["ended_at_s"]
    return list(found[list(columns)].itertuples(index=False, name=None))


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


# Sessions and IPs


def test_the_attempt_that_opens_a_session_starts_with_the_connect() -> None:
    asked = scenario(batch(5), messages_per_session=2, session_setup="1s", service="2s")
    assert rows(asked, "started", "ended", "session", "transaction") == [
        (0.0, 3.0, 1, 1),
        (3.0, 5.0, 1, 2),
        (5.0, 8.0, 2, 1),
        (8.0, 10.0, 2, 2),
        (10.0, 13.0, 3, 1),
    ]


def test_no_idle_session_is_kept() -> None:
    asked = scenario(batch(2, every="10s"), duration="25s", session_setup="1s")
    assert rows(asked, "started", "ended", "session") == [
        (0.0, 1.0, 1),
        (1.0, 1.0, 1),
        (10.0, 11.0, 2),
        (11.0, 11.0, 2),
        (20.0, 21.0, 3),
        (21.0, 21.0, 3),
    ]


def test_a_free_session_is_used_before_a_new_one_is_opened() -> None:
    asked = scenario(batch(3), batch(1, "2.5s"), connections=2, session_setup="1s", service="1s")
    assert rows(asked, "message", "started", "ended", "session") == [
        (0, 0.0, 2.0, 1),
        (1, 0.0, 2.0, 2),
        (2, 2.0, 3.0, 1),
        (3, 2.5, 4.5, 3),  # the first session is busy, the second ended when nothing was due
    ]


def test_refused_messages_count_towards_messages_per_session() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "reject"}
    asked = scenario(batch(4), limits=(limit,), messages_per_session=2)
    assert rows(asked, "code", "session") == [(250, 1), (550, 1), (550, 2), (550, 2)]


def test_new_sessions_go_to_the_ips_in_turn_each_with_its_connections() -> None:
    asked = scenario(batch(12), provider=MX, ips=3, connections=2, service="1s", messages_per_session=1)
    found = record(asked)
    in_turn = ["127.0.1.1", "127.0.1.2", "127.0.1.3"]
    assert found.sort_values("session")["ip"].tolist() == in_turn * 4
    assert Counter(zip(found["started_at_s"], found["ip"], strict=True)) == {
        (at, ip): 2 for at in (0.0, 1.0) for ip in in_turn
    }


def test_an_ip_without_a_free_connection_is_passed_over() -> None:
    # IP 1 has a reply held from 20 to 60; sessions from IP 2 are over at once, since it is listed
    limit = {**QUOTA, "per": "ip", "limit": "1/min", "on_excess": "hold_reply"}
    events = [event("blocklisted", "5s", channel="channel", ip=2)]
    asked = scenario(
        batch(1, every="10s"), duration="60s", provider=MX, limits=(limit,), ips=2, extra={"events": events}
    )
    assert rows(asked, "started", "ended", "ip", "code") == [
        (0.0, 0.0, "127.0.1.1", 250),
        (10.0, 10.0, "127.0.1.2", 554),
        (20.0, 60.0, "127.0.1.1", 250),
        (30.0, 30.0, "127.0.1.2", 554),
        (40.0, 40.0, "127.0.1.2", 554),
        (50.0, 50.0, "127.0.1.2", 554),
    ]


def test_accounts_share_the_turns_of_the_ips() -> None:
    asked = scenario(batch(4), senders=4, ips=3)
    assert Counter(record(asked)["ip"]) == {"127.0.1.1": 2, "127.0.1.2": 1, "127.0.1.3": 1}


def test_channels_have_their_own_ips() -> None:
    asked = scenario(batch(2), provider=MX, ips=2)
    asked = asked.replace(
        tenants=[
            {"name": "us", "senders": 1, "arrivals": batch(1)},
            {"name": "them", "senders": 1, "arrivals": batch(1)},
        ],
        alternatives={
            "it": {
                "channels": [
                    {"name": "one", "tenants": ["us"], "to": "plain", "ips": 2},
                    {"name": "two", "tenants": ["them"], "to": "plain"},
                ]
            }
        },
    )
    found = record(asked)
    assert dict(zip(found["tenant"], found["ip"], strict=True)) == {"us": "127.0.1.1", "them": "127.0.2.1"}


def test_all_channels_to_one_provider_meet_the_same_limits() -> None:
    limit = {**QUOTA, "per": "recipient_domain", "limit": "3/min", "on_excess": "defer"}
    asked = scenario(batch(2), provider=MX, limits=(limit,)).replace(
        tenants=[
            {"name": "us", "senders": 1, "arrivals": batch(2)},
            {"name": "them", "senders": 1, "arrivals": batch(2, "1s")},
        ],
        alternatives={
            "it": {
                "channels": [
                    {"name": "one", "tenants": ["us"], "to": "plain"},
                    {"name": "two", "tenants": ["them"], "to": "plain"},
                ]
            }
        },
    )
    found = record(asked)
    assert list(zip(found["tenant"], found["code"], strict=True)) == [
        ("us", 250), ("us", 250), ("them", 250), ("them", 451),
    ]  # fmt: skip


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


# Retries


def test_a_retry_joins_the_queue_when_it_is_due() -> None:
    limit = {**QUOTA, "limit": "3/min", "window": "fixed", "anchor": "clock", "on_excess": "defer"}
    later = [batch(1, "85s"), batch(1, "89s"), batch(1, "91s")]
    asked = scenario(batch(4), *later, limits=(limit,), service="10s", retry=["50s"])
    assert rows(asked, "message", "retry", "started", "ended", "code", "final") == [
        (0, 0, 0.0, 10.0, 250, True),
        (1, 0, 10.0, 20.0, 250, True),
        (2, 0, 20.0, 30.0, 250, True),
        (3, 0, 30.0, 40.0, 451, False),
        (4, 0, 85.0, 95.0, 250, True),
        (5, 0, 95.0, 105.0, 250, True),
        (3, 1, 105.0, 115.0, 250, True),  # due at 90: after number 5, before number 6
        (6, 0, 115.0, 125.0, 250, True),
    ]


def test_the_last_delay_repeats_until_the_lifetime_is_over() -> None:
    limit = {**ONE_RECIPIENT, "on_excess": "defer"}
    asked = scenario(batch(1), limits=(limit,), tenant={"recipients": 2}, retry=["60s", "100s"], queue_lifetime="300s")
    assert rows(asked, "retry", "started", "stage", "code", "final") == [
        (0, 0.0, "RCPT", 451, False),
        (1, 60.0, "RCPT", 451, False),
        (2, 160.0, "RCPT", 451, False),
        (3, 260.0, "RCPT", 451, True),
    ]
    assert numbers(asked)["expired"] == 1


def test_without_a_schedule_a_deferred_message_expires_at_once() -> None:
    asked = scenario(batch(1), limits=({**ONE_RECIPIENT, "on_excess": "defer"},), tenant={"recipients": 2})
    assert rows(asked, "retry", "code", "final") == [(0, 451, True)]
    assert numbers(asked)["expired"] == 1


def test_5yz_is_final_under_every_schedule() -> None:
    asked = scenario(
        batch(2), limits=({**ONE_RECIPIENT, "on_excess": "reject"},), tenant={"recipients": 2}, retry="postfix"
    )
    assert rows(asked, "message", "code", "final") == [(0, 550, True), (1, 550, True)]


def test_421_closes_the_session_450_does_not() -> None:
    limit = {**QUOTA, "limit": "1/min", "reply": "421 4.7.0 Too much", "on_excess": "close"}
    assert rows(scenario(batch(3), limits=(limit,)), "code", "session") == [(250, 1), (421, 1), (421, 2)]
    limit |= {"reply": "450 4.7.0 Too much", "on_excess": "defer"}
    assert rows(scenario(batch(3), limits=(limit,)), "code", "session") == [(250, 1), (450, 1), (450, 1)]


def test_connections_that_the_provider_refuses() -> None:
    """Being turned away takes as long as a session's set-up: a surplus connection tries one message a second."""
    limit = {"id": "connections", "count": "connections", "per": "ip", "limit": 1, "at": "CONNECT", **SOURCE}
    limit |= {"on_excess": "close", "reply": "421 4.7.0 {ip} has {limit} already"}
    asked = scenario(
        batch(3), limits=(limit,), provider=MX, connections=2, service="1s", session_setup="1s", retry=["10s"]
    )
    assert rows(asked, "message", "retry", "started", "ended", "stage", "code", "session", "transaction", "text") == [
        (1, 0, 0.0, 1.0, "CONNECT", 421, 2, 0, "127.0.1.1 has 1 already"),
        (0, 0, 0.0, 2.0, "EOD", 250, 1, 1, "Ok"),
        (2, 0, 1.0, 2.0, "CONNECT", 421, 3, 0, "127.0.1.1 has 1 already"),
        (1, 1, 11.0, 13.0, "EOD", 250, 4, 1, "Ok"),
        (2, 1, 12.0, 13.0, "CONNECT", 421, 5, 0, "127.0.1.1 has 1 already"),
        (2, 2, 23.0, 25.0, "EOD", 250, 6, 1, "Ok"),
    ]


# heed_quota

PER_MINUTE = {**QUOTA, "limit": "4/min", "on_excess": "reject", "temporary": True}


def test_without_heed_quota_a_temporary_5yz_is_final() -> None:
    asked = scenario(batch(6), limits=(PER_MINUTE,), retry=["30s"])
    assert rows(asked, "message", "code", "final") == [(n, 250 if n < 4 else 550, True) for n in range(6)]


def test_heed_quota_pauses_the_account_and_keeps_the_order() -> None:
    asked = scenario(batch(7), batch(1, "10s"), limits=(PER_MINUTE,), heed_quota=True, retry=["40s"])
    assert rows(asked, "message", "retry", "started", "code", "final") == [
        *((n, 0, 0.0, 250, True) for n in range(4)),
        (4, 0, 0.0, 550, False),
        (4, 1, 40.0, 550, False),
        (4, 2, 80.0, 250, True),
        (5, 0, 80.0, 250, True),
        (6, 0, 80.0, 250, True),
        (7, 0, 80.0, 250, True),
    ]


def test_who_waits_behind_a_heeded_quota_waits_for_its_retry() -> None:
    asked = scenario(batch(7), batch(1, "10s"), limits=(PER_MINUTE,), heed_quota=True, retry=["40s"])
    found = summarize(run(asked, "it"), asked, asked.lanes("it"))["us"]
    assert {cause: seconds for cause, seconds in found.bound_by.items() if seconds} == {"retry": 3 * 80 + 70}
    assert found.refusals == {"plain/quota": 1}


def test_heed_quota_pauses_no_other_account() -> None:
    asked = scenario(
        batch(5, senders=1),
        {"kind": "batches", "per_sender": 1, "first": "10s"},
        senders=2,
        limits=(PER_MINUTE,),
        heed_quota=True,
        retry=["90s"],
    )
    found = record(asked)
    assert found.loc[found["sender"].str.startswith("rep02"), "started_at_s"].tolist() == [10.0]
    assert found.loc[found["sender"].str.startswith("rep01"), "started_at_s"].tolist() == [0.0] * 5 + [90.0] * 2


def test_heed_quota_keeps_the_order_over_several_connections() -> None:
    # number 2 and number 3 are refused at 3 and at 4
    limit = {**PER_MINUTE, "limit": "2/min"}
    asked = scenario(
        batch(1), batch(1, "1s"), batch(1, "2s"), batch(1, "3s"), batch(1, "5s"),
        limits=(limit,), heed_quota=True, retry=["60s"], connections=2, service="1s",
    )  # fmt: skip
    assert rows(asked, "message", "retry", "started", "code")[2:] == [
        (2, 0, 2.0, 550),
        (2, 1, 63.0, 250),
        (3, 0, 63.0, 250),
        (4, 0, 64.0, 550),
        (4, 1, 125.0, 250),
    ]


def test_heed_quota_with_a_pace_offers_the_refused_message_first() -> None:
    asked = scenario(batch(8), limits=(PER_MINUTE,), heed_quota=True, retry=["60s"], pace={"batch": 3, "wait": "5s"})
    found = rows(asked, "message", "retry", "started", "code")
    assert found[:5] == [(0, 0, 0.0, 250), (1, 0, 0.0, 250), (2, 0, 0.0, 250), (3, 0, 5.0, 250), (4, 0, 5.0, 550)]
    assert found[5] == (4, 1, 65.0, 250)
    assert [message for message, *_ in found[5:]] == [4, 5, 6, 7]


def test_heed_quota_keeps_the_pace() -> None:
    asked = scenario(batch(8), limits=(PER_MINUTE,), heed_quota=True, retry=["60s"], pace="6/min")
    assert rows(asked, "message", "retry", "started", "code") == [
        *((n, 0, 10.0 * n, 250) for n in range(4)),
        (4, 0, 40.0, 550),
        (4, 1, 100.0, 250),
        (5, 0, 110.0, 250),
        (6, 0, 120.0, 250),
        (7, 0, 130.0, 250),
    ]


# Events


def event(kind: str, at: str, **more: Any) -> dict[str, Any]:
    who = {} if "channel" in more else {"tenant": "us"}
    return {"kind": kind, "at": at, **who, **more}


def codes_by_minute(asked: Scenario, who: str = "rep01") -> list[int]:
    found = record(asked)
    return [int(code) for code in found.loc[found["sender"].str.startswith(who), "code"]]


def every_minute(minutes: int, senders: int = 1, events: tuple[dict[str, Any], ...] = (), **more: Any) -> Scenario:
    arrivals = {"kind": "batches", "per_sender": 1, "every": "1min"}
    extra = {"events": list(events)}
    return scenario(arrivals, senders=senders, duration=f"{minutes}min", extra=extra, **more)


@pytest.mark.parametrize(
    ("kind", "auth", "breaks"),
    [
        ("password_change", "password", True),
        ("password_change", "oauth", False),
        ("token_revoked", "password", False),
        ("token_revoked", "oauth", True),
        ("auth_disabled", "password", True),
        ("auth_disabled", "oauth", True),
    ],
)
def test_a_broken_credential_fails_until_it_is_repaired(kind: str, auth: str, breaks: bool) -> None:
    asked = every_minute(
        6,
        senders=2,
        events=(event(kind, "90s", senders=1, repaired_after="2min"),),
        provider={"auth": ["PLAIN", "XOAUTH2"]},
        auth=auth,
    )
    broken = 535 if breaks else 250
    assert codes_by_minute(asked) == [250, 250, broken, broken, 250, 250]
    assert codes_by_minute(asked, "rep02") == [250] * 6
    assert set(rows(asked, "code", "stage")) <= {(250, "EOD"), (535, "AUTH")}


def test_a_broken_credential_without_repair_fails_for_good() -> None:
    asked = every_minute(5, events=(event("password_change", "90s"),))
    assert codes_by_minute(asked) == [250, 250, 535, 535, 535]


def test_a_password_change_breaks_new_sessions_only() -> None:
    asked = scenario(
        batch(6), service="10s", messages_per_session=3, extra={"events": [event("password_change", "15s")]}
    )
    assert rows(asked, "message", "started", "code") == [
        (0, 0.0, 250),
        (1, 10.0, 250),
        (2, 20.0, 250),
        (3, 30.0, 535),
        (4, 30.0, 535),
        (5, 30.0, 535),
    ]


def test_a_domains_credential_breaks_for_all_its_senders() -> None:
    asked = every_minute(3, 2, (event("password_change", "90s", senders=1),), provider={"credential": "domain"})
    assert codes_by_minute(asked) == codes_by_minute(asked, "rep02") == [250, 250, 535]


def test_an_access_token_is_renewed_when_it_runs_out() -> None:
    asked = scenario(batch(1, every="25min"), duration="5h", provider={"auth": ["XOAUTH2"]})
    assert set(rows(asked, "code")) == {(250,)}


@pytest.mark.parametrize("over", [{"repaired_after": "2min"}, {}])
def test_a_listed_ip_is_refused_until_it_is_delisted(over: dict[str, str]) -> None:
    events = [event("blocklisted", "90s", channel="channel", ip=1, **over)]
    if not over:
        events.append(event("delisted", "210s", channel="channel", ip=1))
    asked = every_minute(6, events=tuple(events), provider=MX)
    assert codes_by_minute(asked) == [250, 250, 554, 554, 250, 250]


def test_only_the_listed_ip_is_refused() -> None:
    asked = every_minute(6, events=(event("blocklisted", "30s", channel="channel", ip=2),), provider=MX, ips=2)
    assert rows(asked, "ip", "code") == [("127.0.1.1", 250), ("127.0.1.2", 554)] * 3


def test_events_at_random_moments_are_each_senders_own() -> None:
    asked = every_minute(60, 3, ({"kind": "password_change", "rate": "2/h", "tenant": "us", "repaired_after": "1s"},))
    lanes = asked.lanes("it")
    found = [
        incident
        for replication in range(50)
        for incident, providers in asked.incidents(lanes, lambda *name, r=replication: stream(11, r, *name))
    ]
    low, high = poisson.interval(0.999, 50 * 3 * 2)
    assert low <= len(found) <= high
    assert {incident.targets for incident in found} == {(f"rep0{n}@us.example",) for n in (1, 2, 3)}
    assert all(incident.repaired_at == incident.at + 1 for incident in found)
    assert len({incident.at for incident in found}) == len(found)


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


# The record

COLUMNS_OF_THE_RECORD = [
    *("message_id", "label", "tenant", "sender", "recipients", "bytes", "ip", "provider", "retry"),
    *("created_at", "started_at", "ended_at", "held", "stage", "code", "enhanced", "text", "limit", "final"),
]


def test_the_record_has_the_columns_of_the_contract() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "hold_reply"}
    asked = scenario(batch(3, "5s", label="hello"), limits=(limit,), tenant={"bytes": 700}, duration="66s")
    found = record(asked)
    assert [name for name in found.columns if name in COLUMNS_OF_THE_RECORD] == COLUMNS_OF_THE_RECORD
    second = found.iloc[1][COLUMNS_OF_THE_RECORD].to_dict()
    assert second == {
        "message_id": "us-1",
        "label": "hello",
        "tenant": "us",
        "sender": "rep01@us.example",
        "recipients": 1,
        "bytes": 700,
        "ip": "127.0.1.1",
        "provider": "plain",
        "retry": 0,
        "created_at": pd.Timestamp("2026-06-01T00:00:05Z"),
        "started_at": pd.Timestamp("2026-06-01T00:00:05Z"),
        "ended_at": pd.Timestamp("2026-06-01T00:01:05Z"),
        "held": 60.0,
        "stage": "EOD",
        "code": 250,
        "enhanced": "2.0.0",
        "text": "Ok",
        "limit": "plain/quota",
        "final": True,
    }
    assert found["created_at_s"].tolist() == [5.0, 5.0, 5.0]


def test_times_carry_the_scenarios_zone() -> None:
    asked = scenario(batch(1, "09:00"), extra={"start": "2026-12-01T08:00+09:00"}, duration="2h")
    assert record(asked)["started_at"][0].isoformat() == "2026-12-01T09:00:00+09:00"


def test_a_message_never_offered_has_no_times_no_ip_and_no_stage() -> None:
    never = record(scenario(batch(2), duration="5s", service="10s")).iloc[1]
    assert (never["stage"], never["ip"], never["code"], never["final"]) == ("", "", 0, False)
    assert never[["started_at", "ended_at"]].isna().all()


def test_placeholders_are_filled_in_as_of_when_the_reply_leaves() -> None:
    text = "450 4.7.1 {sender} ({account}, {domain}) over {limit} from {ip} at {time:%H:%M:%S}"
    limit = {**QUOTA, "limit": "1/min", "on_excess": "defer", "reply": text}
    asked = scenario(batch(2, "30s"), limits=(limit,), service="5s")
    assert record(asked)["text"][1] == (
        "rep01@us.example (rep01@us.example, us.example) over 1/min from 127.0.1.1 at 00:00:40"
    )


def test_session_and_transaction_identify_the_text() -> None:
    """What the record says is what a receiver that hears the same commands says."""
    limit = {**QUOTA, "limit": "2/min", "on_excess": "defer", "reply": "450 4.7.1 {id} {host} {time:unix}"}
    asked = scenario(batch(5), limits=(limit,), service="7s", messages_per_session=2)
    lanes = asked.lanes("it")
    receiver = asked.receivers(lanes)["plain"]
    said, session = [], None
    for row in record(asked).itertuples():
        if session is None or session.number != row.session:
            session, _ = receiver.connect(row.ip, row.started_at_s)
            receiver.log_in(session, row.sender, "password", row.started_at_s)
        receiver.offer(session, row.sender, row.recipients, row.started_at_s)
        reply = receiver.end_of_data(session, row.bytes, row.ended_at_s)
        said.append((reply.code, receiver.render(reply, session, row.ended_at_s)))
    assert said == rows(asked, "code", "text")


@pytest.mark.parametrize("name", names())
def test_every_provider_takes_a_message_from_everyone(name: str) -> None:
    asked = scenario(batch(3), to=name, senders=3, connections=1, service="2s")
    assert len(set(record(asked)["sender"])) == 3
    assert set(rows(asked, "code", "stage", "final")) == {(250, "EOD", True)}


def test_the_rows_are_all_numbers() -> None:
    attempts = run(scenario(batch(3), service="1s"), "it")
    assert isinstance(attempts, Attempts)
    assert attempts.rows.shape == (3, len(COLUMNS))
    assert attempts.rows.dtype == np.float64


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


# What pace a limit allows


def limit_of(**fields: Any) -> Limit:
    base = {"id": "quota", "count": "messages", "per": "ip", "on_excess": "reject", "at": "EOD", **SOURCE}
    return Limit.model_validate({**base, **fields})


def exceeds(limit: Limit, moments: list[float]) -> bool:
    """Whether a provider with that limit refuses any of the messages sent at these moments."""
    facts = {"name": "test", "title": "T", "role": "delivery", "credential": "ip", "auth": []}
    data = {**facts, "limits": [limit.model_dump(by_alias=True, exclude_unset=True)]}
    receiver = Receiver(parse(data, "test"), {})
    session, _ = receiver.connect("127.0.0.1", moments[0])
    receiver.ehlo(session, moments[0])
    for now in moments:
        receiver.offer(session, "a@us.example", 1, now)
        if receiver.end_of_data(session, 1, now).code >= 400:
            return True
    return False


def batches(size: int, wait: float, phase: float, count: int) -> list[float]:
    return [phase + number * wait for number in range(count) for _ in range(size)]


def phases(limit: Limit, wait: float) -> list[float]:
    """Where in a window of the clock the first batch may fall: the edges between one number of batches and another."""
    period = limit.limit.period if limit.limit and limit.limit.period else 0.0
    return [0.0] if limit.anchor != "clock" else sorted({0.0, period % wait, wait / 2, wait - 1})


def enough(limit: Limit, size: int, wait: float) -> int:
    """After how many batches a pace that exceeds a limit must have shown it."""
    assert limit.limit is not None
    assert limit.limit.period is not None
    spare = size - wait * limit.limit.per_second
    drained = (limit.burst or 0) / spare if spare > 0 else 0
    return int(2 * limit.limit.period / wait + drained) + 3


LIMITS: list[dict[str, Any]] = [
    *({"limit": rate, "window": "sliding"} for rate in ("30/min", "7/min", "3/10s", "100/h", "1000/d", "2/7s")),
    *({"limit": rate, "window": "fixed", "anchor": "clock"} for rate in ("30/min", "7/min", "100/h")),
    *({"limit": rate, "window": "fixed", "anchor": "first_event"} for rate in ("30/min", "7/min", "100/h")),
    *({"limit": "30/min", "window": "token_bucket", "burst": burst} for burst in (1, 10, 30, 60)),
    {"limit": "7/min", "window": "token_bucket", "burst": 20},
    {"limit": "14/s", "window": "token_bucket", "burst": 14},
]


@pytest.mark.parametrize("fields", LIMITS, ids=lambda fields: " ".join(map(str, fields.values())))
def test_every_safe_pace_never_exceeds_the_limit_and_one_more_does(fields: dict[str, Any]) -> None:
    limit = limit_of(**fields)
    listed = pacing.safe(limit)
    assert listed
    for pace in listed:
        count = enough(limit, pace.batch + 1, pace.wait)
        tried = phases(limit, pace.wait)
        assert not any(exceeds(limit, batches(pace.batch, pace.wait, phase, count)) for phase in tried), pace
        assert any(exceeds(limit, batches(pace.batch + 1, pace.wait, phase, count)) for phase in tried), pace


@pytest.mark.parametrize("fields", LIMITS, ids=lambda fields: " ".join(map(str, fields.values())))
def test_for_every_wait_the_largest_batch_is_the_largest(fields: dict[str, Any]) -> None:
    limit = limit_of(**fields)
    for wait in pacing.WAITS:
        size = pacing.most(limit, wait)
        count = min(enough(limit, size + 1, wait), 2000)
        tried = phases(limit, wait)
        assert not size or not any(exceeds(limit, batches(size, wait, phase, count)) for phase in tried), wait
        assert any(exceeds(limit, batches(size + 1, wait, phase, count)) for phase in tried), wait


def test_safe_lists_the_shortest_wait_for_each_batch() -> None:
    for fields in LIMITS:
        listed = pacing.safe(limit_of(**fields))
        assert listed == sorted(listed, key=lambda pace: pace.wait)
        assert [pace.batch for pace in listed] == sorted({pace.batch for pace in listed})
        for wait in pacing.WAITS:
            within = [pace.batch for pace in listed if pace.wait <= wait]
            assert max(within, default=0) == pacing.most(limit_of(**fields), wait)


def test_the_paces_for_office365() -> None:
    minute = Provider.load("office365").limit("messages-per-minute")
    assert {Pace(30, 60), Pace(15, 30), Pace(10, 20)} <= set(pacing.safe(minute))
    assert pacing.most(minute, 45) == 15


@given(
    fields=st.sampled_from(LIMITS),
    wait=st.sampled_from([wait for wait in pacing.WAITS if wait > 1]),
    spread=st.floats(0, 1),
    data=st.data(),
)
def test_a_batch_that_takes_time_never_exceeds_the_limit(
    fields: dict[str, Any], wait: float, spread: float, data: st.DataObject
) -> None:
    limit = limit_of(**fields)
    spread *= wait * 0.99
    size = pacing.most(limit, wait, spread)
    if not size:
        return
    phase = data.draw(st.sampled_from(phases(limit, wait)))
    # the worst: one batch comes at its end, the next ones at their beginning
    late = data.draw(st.integers(0, 3))
    moments = [
        phase + number * wait + (spread if number == late and place else 0.0)
        for number in range(min(enough(limit, size, wait), 300))
        for place in range(size)
    ]
    assert not exceeds(limit, sorted(moments))


@pytest.mark.parametrize(
    ("fields", "wait", "spread", "message"),
    [
        ({"limit": "off"}, 60, 0, "limit must have a period, got quota = off"),
        ({"limit": 3, "count": "transactions"}, 60, 0, "limit must have a period, got quota = 3"),
        ({"limit": "30/min", "window": "sliding"}, 0, 0, "wait must be longer than 0"),
        (
            {"limit": "30/min", "window": "sliding"},
            10,
            10,
            "than the spread of 10 s, got 10",
        ),
    ],
)
def test_what_has_no_safe_pace_is_refused(fields: dict[str, Any], wait: float, spread: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pacing.most(limit_of(**fields), wait, spread)


def test_accounts_are_known_by_lower_case() -> None:
    asked = scenario(batch(1), tenant={"domain": "US.example"})
    assert set(asked.receivers(asked.lanes("it"))["plain"].accounts) == {"rep01@us.example"}
    assert isinstance(asked.receivers(asked.lanes("it"))["plain"].accounts["rep01@us.example"], Account)
    assert rows(asked, "code", "final") == [(250, True)]
