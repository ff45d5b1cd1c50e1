"""The plan between a scenario and the generators: what is written is read, and nothing is sent twice or never."""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from loads import mixed

from loadtests.plan import Entry, Incident, Plan, Route, share
from simlib import plan
from simlib.provider import Provider, names
from simlib.reaction import named
from simlib.receiver import Receiver
from simlib.scenario import Scenario
from simlib.sender import Pace, Retry
from simlib.target import Offer
from simlib.workload import recipients

SERVED = [name for name in names() if Provider.load(name).transport == "smtp"]
WHERE = {
    "office365": ("127.0.0.1", "127.0.0.1", 2525),
    "sparkpost": ("localhost", "127.0.0.1", 2526),
    "google-mx": ("127.0.0.1", "127.0.0.1", 2527),
    "gmail": ("127.0.0.1", "127.0.0.1", 2528),
}
# What else a channel may say
RICH = {
    "name": "rich",
    "duration": "1h",
    "start": "2026-12-01T09:00",
    "tenants": [
        {
            **{"name": "us", "senders": 3, "recipients": 2, "bytes": 1_234},
            "arrivals": [
                {"kind": "poisson", "rate": "1/min", "label": "ordinary"},
                {"kind": "batches", "first": "5min", "size": 9, "label": "campaign"},
            ],
        }
    ],
    "alternatives": {
        "all": {
            "channels": [
                {
                    **{"name": "c", "tenants": ["us"], "to": {"office365": 1.0}, "connections": 2, "heed_quota": True},
                    **{"pace": {"batch": 25, "wait": "45s"}, "messages_per_session": 7, "timeout": "90s"},
                    **{"retry": ["1min", "5min"], "queue_lifetime": "1h"},
                }
            ]
        }
    },
}


def written(folder: Path, scenario: Scenario, **more: Any) -> Plan:
    plan.write(folder, scenario, "all", scenario.messages(1, 0), WHERE, **more)
    return Plan.load(folder)


# What is written is what is read


def test_every_message_is_in_it_as_the_scenario_has_it(tmp_path: Path) -> None:
    scenario = Scenario.build(RICH)
    messages = scenario.messages(1, 0)
    found = written(tmp_path, scenario)
    ids = messages.ids()
    assert [entry.message_id for entry in found.entries] == ids
    assert [entry.due for entry in found.entries] == messages.created_at.tolist()  # to the last bit
    assert [entry.due for entry in found.entries] == sorted(entry.due for entry in found.entries)
    for number, entry in enumerate(found.entries):
        assert entry.mail_from == messages.addresses[messages.sender[number]]
        assert entry.rcpt_to == tuple(recipients("office365", number, 2))
        assert (entry.bytes, entry.tenant) == (1_234, "us")
        assert entry.label == messages.labels[messages.label[number]]
        assert found.routes[entry.route].account == entry.mail_from  # Office 365 logs a mailbox in
    assert (found.duration, found.time_scale, found.control, found.ca) == (3600.0, 1.0, "", "")


def test_a_lane_says_what_the_channel_does(tmp_path: Path) -> None:
    scenario = Scenario.build(RICH)
    (lane,) = written(tmp_path, scenario, time_scale=40, control="127.0.0.1:8025", ca="ca.pem").lanes
    assert (lane.channel, lane.provider, lane.host, lane.port) == ("c", "office365", "127.0.0.1", 2525)
    assert (lane.tls, lane.auth, lane.by_account) == (True, "password", True)
    assert (lane.connections, lane.messages_per_session, lane.timeout) == (2, 7, 90.0)
    assert (lane.pace, lane.retry) == (Pace(25, 45.0), Retry((60.0, 300.0), 3600.0))
    temporary = {f"office365/{one.id}" for one in scenario.provider("office365").limits if one.temporary}
    assert lane.heeds == temporary != set()
    assert lane.ips == ("127.0.1.1",)


def test_a_relay_in_between_wants_no_credentials(tmp_path: Path) -> None:
    """And it has a schedule of its own, so nothing is heeded; what it refuses is refused."""
    (lane,) = written(tmp_path, Scenario.build(RICH), through=True).lanes
    assert (lane.tls, lane.auth, lane.heeds) == (False, "", frozenset())


def test_a_target_s_sessions_are_as_it_offers(tmp_path: Path) -> None:
    """Whatever the provider would want; and where a provider wants nothing, nothing is used."""
    everything = Offer(tls=True, auth=True)
    for offer in (everything, Offer(tls=True, auth=False), Offer(tls=False, auth=True), Offer(tls=False, auth=False)):
        (lane,) = written(tmp_path, Scenario.build(RICH), offer=offer).lanes
        assert (lane.tls, lane.auth) == (offer.tls, "password" if offer.auth else "")
    delivery = [lane for lane in written(tmp_path, mixed(), offer=everything).lanes if lane.provider == "google-mx"]
    assert [(lane.tls, lane.auth) for lane in delivery] == [(False, "")] * 2


@pytest.mark.parametrize(("address", "ip"), [("127.0.0.9", "127.0.1.1"), ("192.0.2.1", ""), ("::1", "")])
def test_only_on_this_machine_sessions_go_out_from_the_channel_s_addresses(
    address: str, ip: str, tmp_path: Path
) -> None:
    """127.x.y.z leads nowhere else: a connection to another machine would fail."""
    scenario = Scenario.build(RICH)
    plan.write(tmp_path, scenario, "all", scenario.messages(1, 0), {"office365": ("mx.example", address, 25)})
    (lane,) = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["lanes"]
    first = json.loads((tmp_path / "plan.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert ("".join(lane["ips"]), first["ip"]) == (ip, ip)


def test_a_reaction_and_what_it_answers_to_are_in_it(tmp_path: Path) -> None:
    pool = {"name": "pool", "tenants": ["us"], "to": "google-mx", "reaction": "google"}
    limits = {"google-mx/quota": "50/h", "google-mx/domain-quota": "20/h"}
    scenario = Scenario.build({**RICH, "alternatives": {"all": {"channels": [pool]}}, "limits": limits})
    (lane,) = written(tmp_path, scenario).lanes
    assert (lane.reaction, lane.throttles) == (named("google"), frozenset(["google-mx/quota"]))
    with pytest.raises(ValueError, match="reaction: a relay reacts in its own way: leave --through out"):
        written(tmp_path, scenario, through=True)


def test_who_logs_in_is_the_account(tmp_path: Path) -> None:
    found = written(tmp_path, mixed(), control="127.0.0.1:8025")
    accounts: dict[str, set[str]] = {lane.provider: set() for lane in found.lanes}
    for route in found.routes:
        accounts[found.lanes[route.lane].provider].add(route.account)
    assert accounts["sparkpost"] == {"refused.example"}  # one credential for the domain
    assert accounts["gmail"] == {f"rep{number:02}@oauth.example" for number in (1, 2, 3)}
    assert {lane.provider: lane.auth for lane in found.lanes} == {
        **{"office365": "password", "sparkpost": "password", "google-mx": "", "gmail": "oauth"}
    }


def test_incidents_are_in_it_only_where_somebody_can_make_them_happen(tmp_path: Path) -> None:
    assert written(tmp_path, mixed()).incidents == ()
    assert set(written(tmp_path, mixed(), control="127.0.0.1:8025").incidents) == {
        Incident(25.0, "password_change", ("refused.example",), 50.0),
        Incident(25.0, "token_revoked", ("rep01@oauth.example",), 50.0),
    }
    never = mixed().replace(events=[{"kind": "auth_disabled", "at": "1s", "tenant": "oauth"}])
    (one,) = written(tmp_path, never, control="127.0.0.1:8025").incidents
    assert one.repaired_at == math.inf


@pytest.mark.parametrize("text", ["", "{}", '{"lanes": []}', '{"lanes": 1}'])
def test_what_is_no_plan_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    (tmp_path / "plan.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="not a plan that `sendlab load --out` wrote"):
        Plan.load(tmp_path)


def test_no_secret_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDLAB_PASSWORD", "correct horse")
    written(tmp_path, mixed(), control="127.0.0.1:8025")
    said = "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())
    assert "correct horse" not in said


# Where to


def test_providers_may_listen_elsewhere_but_on_loopback_only(tmp_path: Path) -> None:
    found = written(tmp_path, mixed(), control="127.0.0.1:8025")
    moved = found.at(["google-mx=127.0.0.9:99", "office365=[::1]:98"], control="127.0.0.1:97", ca="other.pem")
    assert {lane.provider: (lane.address, lane.port) for lane in moved.lanes} == {
        "google-mx": ("127.0.0.9", 99),
        "office365": ("::1", 98),
        "sparkpost": ("127.0.0.1", 2526),
        "gmail": ("127.0.0.1", 2528),
    }
    assert (moved.control, moved.ca) == ("127.0.0.1:97", "other.pem")
    for target in ("google-mx=8.8.8.8:25", "google-mx=mx.example:25", "google-mx=0.0.0.0:25", "google-mx=[::]:25"):
        with pytest.raises(ValueError, match="target must be"):
            found.at([target])
    for target in ("google-mx", "google-mx=25", "127.0.0.1:25", "google-mx=127.0.0.1:x"):
        with pytest.raises(ValueError, match="must look like PROVIDER=HOST:PORT"):
            found.at([target])
    with pytest.raises(ValueError, match="names no provider of the plan, got 'ses'"):
        found.at(["ses=127.0.0.1:25"])


def test_a_plan_that_was_changed_by_hand_still_goes_nowhere_else(tmp_path: Path) -> None:
    written(tmp_path, mixed())
    path = tmp_path / "run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    run["lanes"][0]["address"] = "198.51.100.1"
    path.write_text(json.dumps(run), encoding="utf-8")
    with pytest.raises(ValueError, match=r"target must be a loopback address, got '198\.51\.100\.1'"):
        Plan.load(tmp_path).at([])


# Several generators


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 5])
def test_shares_are_split_and_not_multiplied(parts: int, tmp_path: Path) -> None:
    found = written(tmp_path, mixed())
    shares = [share(found, part, parts) for part in range(parts)]
    assert sorted(route.number for mine in shares for route in mine) == [route.number for route in found.routes]
    mine = [{route.number for route in routes} for routes in shares]
    sent = Counter(entry.message_id for numbers in mine for entry in found.entries if entry.route in numbers)
    assert sent == {entry.message_id: 1 for entry in found.entries}
    again = [share(Plan.load(tmp_path), part, parts) for part in range(parts)]
    assert shares == again  # each process works it out by itself


def test_shares_are_as_even_as_whole_queues_can_be() -> None:
    routes = tuple(Route(number, 0, "", 1) for number in range(6))
    sizes = (5, 4, 3, 3, 2, 1)
    entries = [Entry(0.0, "", number, "", (), 0, "", "") for number, size in enumerate(sizes) for _ in range(size)]
    whole = Plan(1.0, 1.0, "", "", (), routes, tuple(entries), ())
    shares = [share(whole, part, 2) for part in range(2)]
    assert [sum(sizes[route.number] for route in mine) for mine in shares] == [9, 9]
    with pytest.raises(ValueError, match="part must be from 0 to 1, got 2"):
        share(whole, 2, 2)


# Sentences


@pytest.mark.parametrize("name", SERVED)
def test_every_refusal_is_known_by_its_sentence(name: str) -> None:
    """Filled in as a server says it, with its own host, ids and clock, it is told which limit spoke."""
    provider = Provider.load(name)
    provider = provider.on(provider.newest)
    receiver = Receiver(provider)
    session, _ = receiver.connect("127.0.9.9", now=0)
    patterns = [(limit, re.compile(pattern)) for limit, _, pattern in plan.sentences(provider)]
    for limit in provider.limits:
        if limit.holds:
            continue
        reply = provider.refusal(limit)
        said = f"{reply.code} {reply.enhanced} {receiver.render(reply, session, now=1234.5)}"
        first = next(known for known, pattern in patterns if pattern.fullmatch(said))
        same = [
            f"{name}/{other.id}"
            for other in provider.limits
            if not other.holds and _sentence(provider, other) == _sentence(provider, limit)
        ]
        assert first == same[0]  # of limits that say the same, the first speaks for all
    accepted = provider.says("accepted", "EOD")
    assert not any(p.fullmatch(f"{accepted.code} {accepted.enhanced} {accepted.text}") for _, p in patterns)


def _sentence(provider: Provider, limit: Any) -> str:
    reply = provider.refusal(limit)
    return f"{reply.code} {reply.enhanced} {reply.text}"
