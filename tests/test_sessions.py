"""Sessions and IPs: which connection a message goes over, and from which address.

Each test writes a small scenario, runs it and compares the record with what can be worked out by hand.
"""

from collections import Counter

from channels import MX, QUOTA, batch, event, record, rows, scenario


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
