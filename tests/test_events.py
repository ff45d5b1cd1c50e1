"""Credentials that break and are mended, IPs that are listed and delisted: whom it strikes, and until when."""

from typing import Any

import pytest
from channels import MX, batch, event, record, rows, scenario
from scipy.stats import poisson

from simlib.scenario import Scenario
from simlib.workload import stream


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
