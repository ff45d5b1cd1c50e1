"""What is tried again, when, and who waits meanwhile.

Each test writes a small scenario, runs it and compares the record with what can be worked out by hand.
"""

from channels import MX, ONE_RECIPIENT, QUOTA, SOURCE, batch, numbers, record, rows, scenario

from simlib.experiment import run
from simlib.summary import summarize

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
