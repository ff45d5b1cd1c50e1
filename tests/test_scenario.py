"""The scenario file: what each key means, what is checked, and how a mistake is answered (DESIGN §6)."""

import copy
import datetime as dt
import itertools
import math
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenarios import FULL, TRACE, small

from simlib.channel import Service
from simlib.experiment import run
from simlib.provider import Provider, names
from simlib.scenario import Scenario
from simlib.sender import NO_RETRY, Pace, Retry
from simlib.tool import Tool, tools
from simlib.workload import stream


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the scenario of everything, `full.toml`, and its trace."""
    (tmp_path / "full.toml").write_text(FULL, encoding="utf-8")
    (tmp_path / "day.csv").write_text(TRACE, encoding="utf-8")
    return tmp_path


@pytest.fixture
def full(folder: Path) -> Scenario:
    return Scenario.load(folder / "full.toml")


# What the keys mean


def test_every_key_is_read(full: Scenario) -> None:
    zone = dt.timezone(dt.timedelta(hours=9))
    us, neighbours, traced = full.tenants
    assert (full.name, full.duration, full.transient, full.time_scale) == (
        "25 reps and a morning campaign",
        36000,
        0,
        60,
    )
    assert (full.start, full.zero) == (dt.datetime(2026, 12, 1, 8, tzinfo=zone),) * 2
    assert (full.deadline, full.deadline_at) == (dt.time(17, 30), 9.5 * 3600)
    assert (full.day.start, full.day.duration) == (8 * 3600, 36000)
    assert (us.domain, us.senders, us.spread, us.recipients, us.bytes) == ("us.example", 3, "even", 2, 30000)
    assert (us.complaint_rate, us.neighbour, neighbours.neighbour) == (0.0005, False, True)
    labels = [arrival.label for arrival in us.arrivals]
    assert labels == ["ordinary", "campaign", "group e-mail", "poisson", "digest", "now and then"]
    assert [arrival.kind for arrival in neighbours.arrivals] == ["poisson"]  # one table is a list of one
    assert traced.names(full.day) == ("ann", "bob")
    assert list(full.alternatives) == ["shared pool", "Office 365", "everything said"]
    assert [event.kind for event in full.events] == ["password_change", "blocklisted"]


def test_what_is_left_out_has_its_default() -> None:
    scenario = Scenario.build(small())
    us = scenario.tenants[0]
    assert (scenario.transient, scenario.start, scenario.time_scale) == (0, dt.time(), 1)
    assert (scenario.deadline, scenario.deadline_at, scenario.events) == (None, None, ())
    assert (scenario.readings, scenario.limits, scenario.providers) == ({}, {}, {})
    assert (us.domain, us.recipients, us.bytes, us.complaint_rate, us.neighbour) == ("us.example", 1, 20000, 0, False)
    assert us.addresses(scenario.day) == ("rep01@us.example", "rep02@us.example")
    channel = scenario.alternatives["A"].channels[0]
    assert (channel.to, channel.ips, channel.service, channel.session_setup) == (
        {"office365": 1},
        1,
        Service.model_validate({"mean": "0s"}),
        0,
    )
    assert (channel.timeout, channel.heed_quota, channel.assumed) == (600, False, ())
    assert scenario.messages(1, 0).created_at.tolist() == [0, 0, 0, 0]  # first = "0s"


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("us", "us.example"),
        ("Our Team", "our-team.example"),
        ("eu_core", "eu_core.example"),
        ("営業", "xn--j2rs27b.example"),
    ],
)
def test_a_tenant_s_domain_is_its_name(name: str, domain: str) -> None:
    tenant = {"name": name, "senders": 1, "arrivals": {"kind": "batches", "size": 1}}
    data = small(
        tenants=[tenant], alternatives={"A": {"channels": [{"name": "c", "tenants": [name], "to": "office365"}]}}
    )
    assert Scenario.build(data).tenants[0].domain == domain


@pytest.mark.parametrize(
    ("start", "second", "date"),
    [
        ('"2026-12-01T08:00+09:00"', 8 * 3600, "2026-12-01"),
        ('"2026-12-01T08:00"', 8 * 3600, "2026-12-01"),
        ("2026-12-01T08:00:30+09:00", 8 * 3600 + 30, "2026-12-01"),
        ("2026-12-01T08:00:00", 8 * 3600, "2026-12-01"),
        ("2026-12-01T08:00:00.5", 8 * 3600 + 0.5, "2026-12-01"),
        ('"08:00"', 8 * 3600, None),
        ("08:00:00", 8 * 3600, None),
    ],
)
def test_a_start_is_a_moment_or_a_time_of_day(folder: Path, start: str, second: float, date: str | None) -> None:
    path = folder / "full.toml"
    path.write_text(FULL.replace('"2026-12-01T08:00+09:00"', start), encoding="utf-8")
    scenario = Scenario.load(path)
    assert scenario.day.start == second
    assert scenario.zero.tzinfo is not None
    if date is not None:
        assert scenario.date == dt.date.fromisoformat(date)


def test_the_facts_are_as_of_the_start_or_of_the_newest_in_use_never_today() -> None:
    assert Scenario.build(small(start="2026-12-01T08:00")).date == dt.date(2026, 12, 1)
    assert Scenario.build(small(start="08:00")).date == Provider.load("office365").newest
    relay = {"title": "r", "role": "submission", "credential": "none", "auth": []}
    channels = [{"name": "c", "tenants": ["us"], "to": "relay"}]
    unknown = Scenario.build(small(providers={"relay": relay}, alternatives={"A": {"channels": channels}}))
    assert unknown.date == max(Provider.load(name).newest for name in names())  # it has no facts of its own


def test_facts_that_change_on_a_date_follow_as_of() -> None:
    dated = {
        "title": "r",
        "role": "submission",
        "credential": "none",
        "auth": [],
        "limits": [limit(id="old", until=dt.date(2027, 1, 1)), limit(id="new", **{"from": dt.date(2027, 1, 1)})],
    }
    channels = [{"name": "c", "tenants": ["us"], "to": "relay"}]
    scenario = Scenario.build(
        small(start="2026-12-31T08:00", providers={"relay": dated}, alternatives={"A": {"channels": channels}})
    )
    assert [found.id for found in scenario.provider("relay").limits] == ["old"]
    assert [found.id for found in scenario.provider("relay", dt.date(2027, 1, 1)).limits] == ["new"]
    assert [found.id for found in scenario.lanes("A")[0].provider.limits] == ["old"]
    assert [found.id for found in scenario.lanes("A", dt.date(2027, 1, 1))[0].provider.limits] == ["new"]


def limit(**changes: Any) -> dict[str, Any]:
    """Return a limit as an inline provider has it, and the changes."""
    return {
        "id": "messages-per-day",
        "count": "messages",
        "per": "account",
        "limit": "200/d",
        "window": "sliding",
        "on_excess": "defer",
        "at": "EOD",
        "source": "our own configuration",
        "as_of": dt.date(2026, 11, 1),
        "grade": "A",
    } | changes


def test_readings_and_amounts_change_the_provider_and_nothing_else(full: Scenario) -> None:
    office, google, sparkpost = (full.provider(name) for name in ("office365", "google-mx", "sparkpost"))
    assert office.limit("messages-per-minute").on_excess == "reject"
    assert Provider.load("office365").limit("messages-per-minute").on_excess == "hold_reply"
    assert str(google.limit("quota").limit) == "500/h"
    assert str(sparkpost.limit("messages-per-day").limit) == "50000/d"
    assert [found.id for found in google.limits] == [found.id for found in Provider.load("google-mx").limits]
    assert full.provider("my-relay").limit("messages-per-day").source == "our own configuration"


def test_an_amount_may_be_off() -> None:
    off = Scenario.build(small(limits={"office365/messages-per-minute": "off"}))
    assert off.provider("office365").limit("messages-per-minute").limit is None


# Channels: the channel's own keys win over the tool's, the tool's over the provider's shaping

LANES: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
    ("nothing said", {"to": "office365"}, (1, None, None, NO_RETRY, False)),
    ("shaping", {"to": "google-mx"}, (5, 50, None, NO_RETRY, False)),
    ("over shaping", {"to": "google-mx", "connections": 2, "messages_per_session": 3}, (2, 3, None, NO_RETRY, False)),
    ("tool", {"to": "office365", "tool": "sales-connect"}, (1, None, Pace(25, 45), NO_RETRY, False)),
    (
        "over tool",
        {"to": "office365", "tool": "sales-connect", "connections": 3, "pace": "30/min", "retry": "exim"},
        (3, None, Pace(1, 2), "exim", False),
    ),
    ("tool elsewhere", {"to": "own-postfix", "tool": "sales-connect"}, (1, None, None, NO_RETRY, False)),
    ("tool over shaping", {"to": "google-mx", "tool": "postfix"}, (20, 50, None, "postfix", False)),
    ("no retry over tool", {"to": "google-mx", "tool": "postfix", "retry": "none"}, (20, 50, None, NO_RETRY, False)),
    ("schedule", {"to": "google-mx", "retry": "postfix"}, (5, 50, None, "postfix", False)),
    ("delays", {"to": "google-mx", "retry": ["5min", "1h"]}, (5, 50, None, Retry((300, 3600)), False)),
    (
        "lifetime",
        {"to": "google-mx", "retry": ["5min"], "queue_lifetime": "1d"},
        (5, 50, None, Retry((300,), 86400), False),
    ),
    ("oauth only", {"to": "gmail-oauth"}, (1, None, None, NO_RETRY, True)),
    ("oauth asked for", {"to": "office365", "auth": "oauth"}, (1, None, None, NO_RETRY, True)),
    ("password asked for", {"to": "office365", "auth": "password"}, (1, None, None, NO_RETRY, False)),
]


@pytest.mark.parametrize(("keys", "expected"), [pytest.param(*lane[1:], id=lane[0]) for lane in LANES])
def test_a_channel_s_keys_its_tool_s_and_the_shaping(keys: dict[str, Any], expected: tuple[Any, ...]) -> None:
    channels = [{"name": "c", "tenants": ["us"]} | keys]
    (lane,) = Scenario.build(small(alternatives={"A": {"channels": channels}})).lanes("A")
    connections, messages_per_session, pace, retry, oauth = expected
    if isinstance(retry, str):  # named after the tool or mail server whose facts have it
        retry = next(habit.schedule for habit in Tool.load(retry).habits if habit.schedule)
    assert lane.connections == connections
    assert lane.messages_per_session == messages_per_session
    assert (lane.pace, lane.retry, lane.oauth) == (pace, retry, oauth)


@pytest.mark.parametrize(
    "name",
    ["none", *(tool for tool in tools() if any(h.schedule and h.schedule.delays for h in Tool.load(tool).habits))],
)
def test_every_schedule_of_the_facts_is_a_name_for_retry(name: str) -> None:
    channels = [{"name": "c", "tenants": ["us"], "to": "generic-mx", "retry": name}]
    (lane,) = Scenario.build(small(alternatives={"A": {"channels": channels}})).lanes("A")
    assert bool(lane.retry.delays) == (name != "none")


def test_a_named_schedule_may_have_another_lifetime() -> None:
    channels = [{"name": "c", "tenants": ["us"], "to": "generic-mx", "retry": "postfix", "queue_lifetime": "1h"}]
    (lane,) = Scenario.build(small(alternatives={"A": {"channels": channels}})).lanes("A")
    own = next(habit.schedule for habit in Tool.load("postfix").habits)
    assert own is not None
    assert lane.retry == Retry(own.delays, 3600)


def test_a_channel_reads_every_key(full: Scenario) -> None:
    relay, rest = full.lanes("everything said")
    assert (relay.channel.ips, relay.connections, relay.messages_per_session) == (2, 3, 10)
    assert (relay.pace, relay.retry, relay.channel.timeout) == (Pace(25, 45), Retry((60, 300), 3600), 300)
    assert relay.channel.service == Service.model_validate({"kind": "lognormal", "mean": "1s", "scv": 4})
    assert (relay.channel.session_setup, relay.channel.heed_quota, relay.oauth) == (0.5, True, False)
    assert (rest.pace, rest.channel.service, rest.oauth) == (Pace(1, 2), Service.model_validate({"mean": "0.2s"}), True)
    assert [lane.provider.name for lane in full.lanes("shared pool")] == ["google-mx", "microsoft-mx"]


def test_heeding_a_quota_is_knowing_its_temporary_limits() -> None:
    relay = {
        "title": "r",
        "role": "submission",
        "credential": "account",
        "auth": ["LOGIN"],
        "limits": [limit(id="goes-away", on_excess="reject", temporary=True), limit(id="stays", on_excess="reject")],
    }

    def heeds(heed_quota: bool) -> frozenset[str]:
        channel = {"name": "c", "tenants": ["us"], "to": "relay", "heed_quota": heed_quota}
        scenario = Scenario.build(small(providers={"relay": relay}, alternatives={"A": {"channels": [channel]}}))
        return scenario.lanes("A")[0].heeds

    assert [sorted(heeds(False)), sorted(heeds(True))] == [[], ["relay/goes-away"]]


# Who logs in where


def test_a_neighbour_may_be_missing_and_nobody_else(full: Scenario) -> None:
    assert [channel.tenants for channel in full.alternatives["Office 365"].channels] == [("us", "traced")]
    with pytest.raises(ValueError, match=r"alternatives\.Office 365: no channel carries tenant 'neighbours'$"):
        full.replace(tenants={"neighbours": {"neighbour": False}})


@pytest.mark.parametrize(
    ("provider", "users"),
    [
        ("office365", {"rep01@us.example", "rep02@us.example"}),
        ("sparkpost", {"us.example"}),
    ],
)
def test_accounts_are_the_senders_or_the_domain(provider: str, users: set[str]) -> None:
    channels = [{"name": "c", "tenants": ["us"], "to": provider}]
    scenario = Scenario.build(small(alternatives={"A": {"channels": channels}}))
    receiver = scenario.receivers(scenario.lanes("A"))[provider]
    accounts = {user: receiver.accounts.get(user) for user in users}
    assert all(account is not None and account.domains == {"us.example"} for account in accounts.values())
    assert set(dict(receiver.accounts)) == users
    assert receiver.start == scenario.zero


def test_all_channels_to_a_provider_meet_one_receiver() -> None:
    tenants = [{"name": name, "senders": 1, "arrivals": {"kind": "batches", "size": 1}} for name in ("a", "b")]
    channels = [{"name": name, "tenants": [name], "to": "office365"} for name in ("a", "b")]
    scenario = Scenario.build(small(tenants=tenants, alternatives={"A": {"channels": channels}}))
    receivers = scenario.receivers(scenario.lanes("A"))
    assert list(receivers) == ["office365"]
    assert set(dict(receivers["office365"].accounts)) == {"rep01@a.example", "rep01@b.example"}


# Events


def rng(*name: str) -> np.random.Generator:
    return stream(1, 0, *name)


def test_an_event_strikes_whom_it_names(full: Scenario) -> None:
    office = full.incidents(full.lanes("Office 365"), rng)
    assert [(found.at, found.kind, found.targets, found.repaired_at, providers) for found, providers in office] == [
        (7200, "password_change", ("rep01@us.example", "rep02@us.example"), 14400, ("office365",))
    ]
    pool = full.incidents(full.lanes("shared pool"), rng)  # no passwords there
    assert {found.kind for found, _ in pool} == {"blocklisted"}
    assert {(found.targets, providers) for found, providers in pool} == {
        (("127.0.1.3",), ("google-mx", "microsoft-mx"))
    }
    assert [found.at for found, _ in pool] == sorted(found.at for found, _ in pool)
    lasted = [found.repaired_at - found.at for found, _ in pool]
    assert min(lasted) == pytest.approx(3600)  # longer, where it was listed again before
    assert all(one.repaired_at <= other.at for (one, _), (other, _) in itertools.pairwise(pool))


@pytest.mark.parametrize(
    ("kind", "keys", "struck"),
    [
        ("password_change", {"to": "office365"}, ("rep01@us.example", "rep02@us.example")),
        ("password_change", {"to": "office365", "auth": "oauth"}, None),
        ("password_change", {"to": "sparkpost"}, ("us.example",)),
        ("password_change", {"to": "google-mx"}, None),
        ("token_revoked", {"to": "office365"}, None),
        ("token_revoked", {"to": "office365", "auth": "oauth"}, ("rep01@us.example", "rep02@us.example")),
        ("token_revoked", {"to": "gmail-oauth"}, ("rep01@us.example", "rep02@us.example")),
        ("auth_disabled", {"to": "office365"}, ("rep01@us.example", "rep02@us.example")),
        ("auth_disabled", {"to": "office365", "auth": "oauth"}, ("rep01@us.example", "rep02@us.example")),
    ],
)
def test_an_event_breaks_the_credential_in_use(kind: str, keys: dict[str, Any], struck: tuple[str, ...] | None) -> None:
    channels = [{"name": "c", "tenants": ["us"]} | keys]
    event = {"kind": kind, "at": "1min", "tenant": "us"}
    scenario = Scenario.build(small(events=[event], alternatives={"A": {"channels": channels}}))
    found = scenario.incidents(scenario.lanes("A"), rng)
    assert [(one.targets, one.repaired_at) for one, _ in found] == ([] if struck is None else [(struck, math.inf)])


def test_events_with_a_rate_come_at_it_to_each_sender() -> None:
    tenant = {"name": "us", "senders": 40, "arrivals": {"kind": "batches", "size": 1}}
    event = {"kind": "password_change", "rate": "2/h", "tenant": "us", "senders": 30}
    scenario = Scenario.build(small(tenants=[tenant], events=[event], duration="10h"))
    counts = [
        len(scenario.incidents(scenario.lanes("A"), lambda *name, seed=seed: stream(seed, 0, *name)))
        for seed in range(1, 21)
    ]
    expected = 20 * 30 * 2 * 10
    assert abs(sum(counts) - expected) < 3.29 * math.sqrt(expected)  # Poisson, 99.9 %
    found = scenario.incidents(scenario.lanes("A"), rng)
    assert {one.targets for one, _ in found} == {(f"rep{number:02}@us.example",) for number in range(1, 31)}
    assert all(0 <= one.at < 36000 for one, _ in found)


def test_another_sender_changes_nobody_s_moments() -> None:
    def moments(senders: int) -> list[float]:
        tenant = {"name": "us", "senders": senders, "arrivals": {"kind": "batches", "size": 1}}
        scenario = Scenario.build(
            small(tenants=[tenant], events=[{"kind": "password_change", "rate": "5/h", "tenant": "us"}])
        )
        found = scenario.incidents(scenario.lanes("A"), rng)
        return [one.at for one, _ in found if one.targets == ("rep01@us.example",)]

    assert moments(1) == moments(2) != []


# What the numbers rest on


def assuming(**keys: Any) -> dict[str, Any]:
    limits = [
        limit(id="stated"),
        limit(id="half-stated", assumed=["window"]),
        limit(id="guessed", grade="assumed"),
        limit(id="guessed-but-off", grade="assumed", limit="off"),
        limit(
            id="disputed",
            readings=[
                {"name": "stricter", "limit": "20/d", "source": "s", "as_of": dt.date(2026, 1, 1), "grade": "B"},
                {"name": "refused", "on_excess": "reject", "source": "s", "as_of": dt.date(2026, 1, 1), "grade": "B"},
                {
                    "name": "worded",
                    "reply": "450 4.7.1 Later",
                    "source": "s",
                    "as_of": dt.date(2026, 1, 1),
                    "grade": "B",
                },
            ],
        ),
    ]
    relay = {"title": "r", "role": "submission", "credential": "account", "auth": ["LOGIN"], "limits": limits}
    channels = [{"name": "c", "tenants": ["us"], "to": "relay", "connections": 2, "assumed": ["connections"]}]
    more = [{"name": "d", "tenants": ["us"], "to": "office365", "tool": "sales-connect"}]
    alternatives = {"A": {"channels": channels}, "B": {"channels": more}}
    return small(providers={"relay": relay}, alternatives=alternatives, **keys)


def test_rests_on_lists_assumed_facts_and_own_figures() -> None:
    scenario = Scenario.build(assuming())
    assert scenario.rests_on(["A"]) == [
        {"id": "relay/half-stated", "grade": "A"},
        {"id": "relay/guessed", "grade": "assumed"},
        {"id": "c: connections", "grade": "assumed"},
    ]
    both = scenario.rests_on(["A", "B"])
    assert [found["id"] for found in both].count("relay/guessed") == 1
    assert {"id": "sales-connect/gmail-and-exchange", "grade": "A"} in both
    assert scenario.rests_on(["A", "A"]) == scenario.rests_on(["A"])


def test_an_amount_set_for_what_was_off_rests_on_it() -> None:
    scenario = Scenario.build(assuming(limits={"relay/guessed-but-off": "5/d", "relay/guessed": "off"}))
    assert [found["id"] for found in scenario.rests_on(["A"])] == [
        "relay/half-stated",
        "relay/guessed-but-off",
        "c: connections",
    ]


def test_readings_of_are_the_others_that_change_a_number() -> None:
    scenario = Scenario.build(assuming())
    assert scenario.readings_of("A") == [("relay/disputed", "stricter"), ("relay/disputed", "refused")]
    chosen = Scenario.build(assuming(readings={"relay/disputed": "stricter"}))
    assert chosen.readings_of("A") == [("relay/disputed", "published"), ("relay/disputed", "refused")]
    back = chosen.replace(readings={"relay/disputed": "published"})
    assert back.provider("relay") == scenario.provider("relay")
    assert Scenario.build(assuming(limits={"relay/disputed": "off"})).readings_of("A") == []
    assert Scenario.build(assuming(limits={"relay/disputed": "7/d"})).readings_of("A") == [
        ("relay/disputed", "refused")
    ]


def test_what_is_random_is_listed(full: Scenario) -> None:
    assert full.random_parts() == [
        "us: ordinary: times of arrival",
        "us: poisson: times of arrival",
        "us: now and then: times of arrival",
        "neighbours: strangers: times of arrival",
        "relay: service times",
        "pool: which provider a message goes to",
        "blocklisted: when",
    ]
    assert Scenario.build(small()).random_parts() == []
    drawn = full.replace(tenants={"us": {"spread": "observed"}}).random_parts()
    assert [part for part in drawn if part.endswith("who sends")] == [
        "us: group e-mail: who sends",
        "us: digest: who sends",
    ]
    traces = {"kind": "trace", "file": "day.csv", "label": "trace"}
    resampled = full.replace(tenants={"traced": {"arrivals": traces}}).random_parts()
    assert "traced: trace: whose rows of the trace each sender sends" in resampled


# Changed copies


def test_replace_changes_a_copy_by_name(full: Scenario) -> None:
    before = copy.deepcopy(full.data)
    more = full.replace(
        tenants={"us": {"senders": 40}},
        duration="12h",
        alternatives={"Office 365": {"channels": {"o365": {"connections": 3}}}},
    )
    assert [tenant.senders for tenant in more.tenants] == [40, 4, None]
    assert more.duration == 12 * 3600
    assert more.alternatives["Office 365"].channels[0].connections == 3
    assert more.alternatives["Office 365"].channels[0].tool == "sales-connect"
    assert full.data == before
    assert (full.tenants[0].senders, full.duration) == (3, 36000)
    assert list(more.alternatives) == list(full.alternatives)
    assert more.lanes("Office 365")[0].connections == 3  # nothing is remembered from the original
    assert full.lanes("Office 365")[0].connections == 1


def test_replace_adds_and_takes_away(full: Scenario) -> None:
    added = full.replace(
        alternatives={"SparkPost": {"channels": [{"name": "s", "tenants": ["us", "traced"], "to": "sparkpost"}]}},
        limits={"office365/messages-per-minute": "10/min"},
        readings={"office365/messages-per-minute": "clock"},
        deadline=None,
        events=[],
    )
    assert list(added.alternatives) == [*full.alternatives, "SparkPost"]
    assert dict(added.limits) == {**full.limits, "office365/messages-per-minute": "10/min"}
    assert (added.deadline_at, added.events, added.readings) == (None, (), {"office365/messages-per-minute": "clock"})


def test_replaced_arrivals_keep_nothing_of_the_old_ones() -> None:
    tenant = {"name": "us", "senders": 2, "arrivals": {"kind": "poisson", "rate": "100/h"}}
    scenario = Scenario.build(small(tenants=[tenant]))
    changed = scenario.replace(tenants={"us": {"arrivals": {"kind": "batches", "size": 8}}})
    assert changed.messages(1, 0).created_at.tolist() == [0] * 8


def test_a_replaced_trace_is_looked_for_beside_the_scenario(full: Scenario, folder: Path) -> None:
    (folder / "night.csv").write_text("seconds,sender,recipients\n7,cleo,1\n", encoding="utf-8")
    trace = {"kind": "trace", "file": "night.csv", "resample": "none"}
    changed = full.replace(tenants={"traced": {"arrivals": trace}})
    assert changed.tenants[2].addresses(changed.day) == ("cleo@traced.example",)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tenants": {"them": {"senders": 1}}}, "replace: unknown name 'them' (there are: us, neighbours, traced)"),
        ({"tenant": {"us": {"senders": 1}}}, "tenant: unknown key"),
        ({"tenants": {"us": {"senders": 0}}}, "tenants[us].senders"),
        ({"tenants": {"us": {"sender": 1}}}, "tenants[us].sender: unknown key"),
        ({"alternatives": {"Office 365": {"channels": {"pool": {"ips": 1}}}}}, "replace: unknown name 'pool'"),
        ({"alternatives": {"Office 365": {"channels": {"o365": {"tenants": {"us": 1}}}}}}, "tenants: must be a list"),
        ({"duration": "1h"}, "first: must lie within the scenario's hours"),
        ({"readings": {"office365/messages-per-minute": "louder"}}, "no reading 'louder'"),
    ],
)
def test_replace_is_checked_like_a_file(full: Scenario, folder: Path, changes: dict[str, Any], named: str) -> None:
    where = "" if named.startswith("replace") else str(folder / "full.toml: ")
    with pytest.raises(ValueError, match=f"^{re.escape(where)}.*{re.escape(named)}"):
        full.replace(**changes)


def test_nobody_can_change_a_scenario_from_outside() -> None:
    data = small()
    scenario = Scenario.build(data)
    data["tenants"][0]["senders"] = scenario.data["tenants"][0]["senders"] = 99
    data["alternatives"]["A"]["channels"][0]["connections"] = 99
    other = scenario.replace(name="other")
    assert other.tenants[0].senders == 2
    assert other.alternatives["A"].channels[0].connections is None
    with pytest.raises(ValueError, match="frozen"):
        scenario.duration = 5.0


def test_a_scenario_travels_to_another_process(full: Scenario) -> None:
    sent = pickle.loads(pickle.dumps(full))
    assert sent.data == full.data
    assert sent.replace(duration="11h").duration == 11 * 3600
    assert [lane.provider.name for lane in sent.lanes("everything said")] == ["my-relay", "gmail-oauth"]


def test_a_changed_trace_is_read_again(full: Scenario, folder: Path) -> None:
    path = folder / "day.csv"
    changed_at = path.stat().st_mtime_ns
    path.write_text("seconds,sender,recipients\n7,cleo,1\n", encoding="utf-8")
    os.utime(path, ns=(changed_at + 10**9,) * 2)
    assert Scenario.load(folder / "full.toml").tenants[2].names(full.day) == ("cleo",)


def test_a_trace_saved_by_excel_is_read(folder: Path) -> None:
    (folder / "day.csv").write_bytes(b"\xef\xbb\xbf" + TRACE.replace("\n", "\r\n").encode())
    full = Scenario.load(folder / "full.toml")
    assert full.tenants[2].names(full.day) == ("ann", "bob")


# Run


def test_batches_that_repeat_may_have_begun_before_the_day() -> None:
    arrivals = {"kind": "batches", "size": 1, "first": "07:30", "every": "1h"}
    scenario = Scenario.build(
        small(start="08:00", duration="2h", tenants=[{"name": "us", "senders": 1, "arrivals": arrivals}])
    )
    assert scenario.messages(1, 0).created_at.tolist() == [1800, 5400]


def test_a_scenario_with_everything_in_it_runs(full: Scenario) -> None:
    messages = full.messages(1, 0)
    assert set(messages.labels) == {
        "ordinary",
        "campaign",
        "group e-mail",
        "poisson",
        "digest",
        "now and then",
        "strangers",
        "trace",
    }
    counts = dict(zip(*np.unique(np.array(messages.labels)[messages.label], return_counts=True), strict=True))
    # three senders have 40 each; half past, hourly, ten times; the rows from second 0 on, before the end
    assert (counts["campaign"], counts["group e-mail"], counts["digest"], counts["trace"]) == (120, 100, 20, 3)
    traced = messages.tenant == 2
    assert messages.created_at[traced].tolist() == [60, 60.5, 3600]
    assert messages.recipients[traced].tolist() == [1, 3, 2]
    assert messages.bytes[traced].tolist() == [1000, 2000, 20000]
    for alternative in full.alternatives:
        attempts = run(full, alternative, messages=messages)
        carried = {name for channel in full.alternatives[alternative].channels for name in channel.tenants}
        mine = np.isin(messages.tenant, [messages.tenants.index(name) for name in carried])
        assert set(attempts["message"].astype(int)) == set(np.flatnonzero(mine))


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "notebooks" / "scenarios").glob("*.toml")), ids=lambda p: p.stem
)
def test_the_shipped_scenarios_are_scenarios(path: Path) -> None:
    scenario = Scenario.load(path)
    assert [alternative for alternative in scenario.alternatives if not scenario.lanes(alternative)] == []


@pytest.mark.parametrize(
    ("events", "spans"),
    [
        ([("0s", "10min"), ("5min", "10min")], [(0, 900)]),
        ([("0s", "10min"), ("5min", "1min")], [(0, 600)]),
        ([("0s", "10min"), ("10min", "10min")], [(0, 600), (600, 1200)]),
        ([("0s", "5min"), ("2min", "5min"), ("6min", "5min")], [(0, 660)]),
    ],
)
def test_what_strikes_again_before_it_is_over_ends_with_the_later_repair(
    events: list[tuple[str, str]], spans: list[tuple[float, float]]
) -> None:
    those = [{"kind": "auth_disabled", "at": at, "repaired_after": after, "tenant": "us"} for at, after in events]
    scenario = Scenario.build(small(events=those))
    found = scenario.incidents(scenario.lanes("A"), rng)
    assert [(one.at, one.repaired_at) for one, _ in found] == spans


def test_a_delisting_ends_a_listing_and_the_next_one_is_its_own() -> None:
    channels = [{"name": "c", "tenants": ["us"], "to": "google-mx"}]
    those = [
        {"kind": "blocklisted", "at": "0s", "repaired_after": "1h", "channel": "c", "ip": 1},
        {"kind": "delisted", "at": "10min", "channel": "c", "ip": 1},
        {"kind": "blocklisted", "at": "20min", "repaired_after": "10min", "channel": "c", "ip": 1},
    ]
    scenario = Scenario.build(small(events=those, alternatives={"A": {"channels": channels}}))
    found = scenario.incidents(scenario.lanes("A"), rng)
    assert [(one.kind, one.at, one.repaired_at) for one, _ in found] == [
        ("blocklisted", 0, 600),
        ("delisted", 600, math.inf),
        ("blocklisted", 1200, 1800),
    ]
