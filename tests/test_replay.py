"""The exact half of the twin run: no reply differs, for every shipped scenario; and one that differs is found."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from loads import mixed
from test_agreement import IN_THE_WAY, SERVED, small

from simlib.load import fakes, lines
from simlib.provider import STAGES, Provider
from simlib.replay import compare_ledger, exact, record, replay
from simlib.scenario import Scenario
from simlib.validate import over_smtp

SCENARIOS = Path(__file__).parents[1] / "notebooks" / "scenarios"
# the morning's campaign is in it, a tenth as large; whole, these take a minute or more
SHORT = {"team_day": "550min", "pool_60_days": "2h", "neighbours": "10h"}
CASES = [
    pytest.param(path, name, id=f"{path.stem}-{name}")
    for path in sorted(SCENARIOS.glob("*.toml"))
    for name in over_smtp(Scenario.load(path))[0]
]


@pytest.mark.parametrize(("path", "alternative"), CASES)
def test_no_reply_differs(path: Path, alternative: str, tmp_path: Path) -> None:
    scenario = Scenario.load(path)
    if path.stem in SHORT:
        more: dict[str, Any] = {}
        if path.stem == "team_day":
            more = {"deadline": "09:10", "tenants": {"team": {"arrivals": _until_nine(scenario)}}}
        scenario = scenario.replace(duration=SHORT[path.stem], **more)
    found = exact(tmp_path, scenario, alternative)
    assert found.differences == ()
    assert found.replies > 100


def _until_nine(scenario: Scenario) -> list[dict[str, Any]]:
    arrivals = scenario.data["tenants"][0]["arrivals"]
    return [
        {**one, "per_sender": 4} if one.get("first") == "09:00" else one
        for one in arrivals
        if one.get("first") != "10:00"
    ]


AT_ONCE = 5


def everybody(number: int) -> Scenario:
    """A scenario with a channel to each provider, every fifth of whose limits is so low that it is met.

    And something happens to everybody's credentials and addresses meanwhile.
    """
    tenants, channels, events = [], [], []
    limits: dict[str, Any] = {}
    for place, name in enumerate(SERVED):
        provider = Provider.load(name)
        lowered = {one.id: small(one) for one in provider.limits[number::AT_ONCE]}
        limits |= {f"{name}/{id_}": amount for id_, amount in (IN_THE_WAY.get(name, {}) | lowered).items()}
        for kind, recipients, size in (("large", 1, 4_000), ("few", 1, 1_500), ("many", 4, 1_500)):
            at_once = {"kind": "batches", "first": f"{10 + place / 10}s", "size": 14 if kind == "few" else 6}
            soon = {
                "kind": "batches",
                "first": "10min",
                "size": 1,
            }  # in new sessions, while windows of an hour are full
            later = {"kind": "batches", "first": "2h", "size": 3}
            one = {"name": f"{kind}-{name}", "senders": 1, "recipients": recipients, "bytes": size}
            tenants.append({**one, "arrivals": [at_once, soon, later]})
        mine = [f"{kind}-{name}" for kind in ("large", "few", "many")]
        takes_time = "transactions" in lowered or not any(limit.holds for limit in provider.limits)
        channels.append(
            {
                **{"name": name, "tenants": mine, "to": name, "connections": 4, "ips": 2},
                **{"messages_per_session": 4, "retry": ["40s", "61s", "25h"], "service": "2s" if takes_time else "0s"},
            }
        )
        if any(provider.limit(id_).only for id_ in lowered):
            channels[-1]["aligned"] = False
        if provider.role == "delivery":
            listed = {"channel": name, "ip": 1}
            events += [{"kind": "blocklisted", "at": "1h", **listed}, {"kind": "delisted", "at": "3h", **listed}]
        elif provider.auth and provider.credential in ("account", "domain"):
            broken = ("password_change", "auth_disabled", "token_revoked")[(place + number) % 3]
            more = {"at": "1h", "tenant": f"few-{name}", "senders": 1, "repaired_after": "2h"}
            events.append({"kind": broken, **more})
    alternative = {"all": {"channels": channels}}
    data = {"name": f"limit {number}", "duration": "30h", "tenants": tenants, "alternatives": alternative}
    return Scenario.build({**data, "limits": limits, "events": events})


@pytest.mark.parametrize("number", range(AT_ONCE))
def test_no_reply_of_any_provider_differs(number: int, tmp_path: Path) -> None:
    """All that are served at once, and each of the lowered limits has spoken."""
    scenario = everybody(number)
    log = record(scenario, "all", scenario.messages(1, 0))
    spoke = {command.reply.limit for command in log if command.reply is not None} - {""}
    assert {limit for limit, amount in scenario.data["limits"].items() if amount != "off"} - spoke == set()
    found = exact(tmp_path, scenario, "all")
    assert found.differences == ()


def test_incidents_tokens_and_holds_are_replayed_too(tmp_path: Path) -> None:
    more = [
        {"kind": "auth_disabled", "at": "30s", "tenant": "refused", "senders": 1, "repaired_after": "20s"},
        {"kind": "blocklisted", "at": "20s", "channel": "pool", "ip": 1, "repaired_after": "10s"},
    ]
    scenario = mixed()
    scenario = scenario.replace(events=[*scenario.data["events"], *more])
    log = record(scenario, "all", scenario.messages(1, 0))
    assert {command.what for command in log} >= {"token", "password", "state", "log_in", "offer", "end_of_data"}
    assert exact(tmp_path, scenario, "all").differences == ()


@pytest.mark.parametrize(
    "changed",
    [{"limits": {"google-mx/quota": "3/h"}}, {"limits": {"sparkpost/messages-per-day": "19/d"}}],
    ids=["one more", "one less"],
)
def test_a_provider_that_counts_otherwise_is_found(changed: dict[str, Any], tmp_path: Path) -> None:
    scenario = mixed()
    log = record(scenario, "all", scenario.messages(1, 0))
    providers = ["office365", "sparkpost", "google-mx", "gmail"]
    with fakes(tmp_path, scenario.replace(**changed), providers, virtual=True) as running:
        differences = replay(log, running, scenario, "all")
    assert differences
    assert compare_ledger(log, list(lines(running.ledger)), scenario, "all")


@pytest.mark.parametrize(
    ("rate", "said"),
    [("29/min", "simulated 250 '2.0.0 OK"), ("34/min", "the server should have {'held': 1}, has {'held': 0")],
    ids=["held by the server only", "held in the simulation only"],
)
def test_who_holds_a_reply_otherwise_is_found_without_waiting_for_it(
    rate: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is moved by hand: a reply that is held by the server alone would never come."""
    monkeypatch.setattr("simlib.replay.TIMEOUT", 1e6)  # seconds: who waits for it is ended by pytest
    scenario = mixed()
    log = record(scenario, "all", scenario.messages(1, 0))
    otherwise = scenario.replace(limits={"office365/messages-per-minute": rate})
    with fakes(tmp_path, otherwise, ["office365", "sparkpost", "google-mx", "gmail"], virtual=True) as running:
        (difference,) = replay(log, running, scenario, "all")
    assert said in difference


def test_a_letter_in_a_sentence_is_found(tmp_path: Path) -> None:
    scenario = mixed()
    log = record(scenario, "all", scenario.messages(1, 0))
    place = next(number for number, one in enumerate(log) if one.reply is not None and one.reply.code >= 400)
    log[place] = log[place]._replace(said=log[place].said + "!")
    with fakes(tmp_path, scenario, ["office365", "sparkpost", "google-mx", "gmail"], virtual=True) as running:
        (difference,) = replay(log, running, scenario, "all")
    assert "!" in difference
    ledger = list(lines(running.ledger))
    assert compare_ledger(log, ledger, scenario, "all") == []
    assert len(compare_ledger(log, ledger[1:], scenario, "all")) == 1
    assert len(compare_ledger(log, [{**ledger[0], "limit": "x"}, *ledger[1:]], scenario, "all")) == 2


def test_a_replay_that_differs_is_not_exact(tmp_path: Path) -> None:
    found = exact(tmp_path, mixed(), "all")
    assert found.differences == ()
    assert dataclasses.replace(found, differences=("one",)).differences


# What goes wrong, goes wrong over the wire as well


def faulty() -> Scenario:
    """A channel of each kind, and every kind of fault at every command, each now and then."""
    tenants: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []
    for name in ("office365", "gmail", "generic-mx"):
        arrivals = [{"kind": "poisson", "rate": "400/h"}, {"kind": "batches", "first": "5min", "size": 20}]
        tenants.append({"name": name, "senders": 2, "recipients": 2, "bytes": 1_500, "arrivals": arrivals})
        channels.append({"name": name, "tenants": [name], "to": name, "connections": 2, "messages_per_session": 5})
        channels[-1] |= {"service": "1s", "session_setup": "0.5s", "retry": ["1min", "6min"], "timeout": "5min"}
    channels[1]["auth"] = "oauth"
    faults: list[dict[str, Any]] = [
        {"kind": "refuse", "at": "MAIL", "reply": "421 4.3.2 {domain}, bye", "odds": "3%", "name": "bye"},
        {"kind": "stall", "at": "RCPT", "delay": "10min", "odds": "1%", "name": "longer than anybody waits"},
        {"kind": "lose_reply", "odds": "5%"},
        {"kind": "lose_reply", "odds": "5%", "silent": True, "name": "silence"},
        {"kind": "greylist", "delay": "5min", "retention": "1h", "recipient": "to1@d0*"},
        {"kind": "auth_outage", "from": "10min", "until": "11min"},
        {"kind": "token_outage", "until": "6min"},
    ]
    for number, at in enumerate(STAGES):
        faults += [
            {"kind": "refuse", "at": at, "reply": f"45{number} 4.3.0 Not at {at}", "odds": "3%"},
            {"kind": "drop_before", "at": at, "odds": "3%"},
            {"kind": "drop_after", "at": at, "odds": "3%"},
            {"kind": "stall", "at": at, "delay": "7s", "odds": "3%"},
        ]
    return Scenario.build(
        {
            **{"name": "faults", "duration": "16min", "tenants": tenants, "faults": faults},
            **{"alternatives": {"all": {"channels": channels}}, "limits": {"office365/messages-per-minute": "5/min"}},
        }
    )


def test_no_reply_differs_where_things_go_wrong(tmp_path: Path) -> None:
    question = faulty()
    log = record(question, "all", question.messages(1, 0))
    seen = {command.reply.fault for command in log if command.reply is not None and command.reply.fault}
    down = {command.given[2] for command in log if command.what == "token"}
    assert seen == set(question.faults_of().names) - {"token_outage-7"}
    assert "" in down
    assert any(command.reply.limit for command in log if command.reply is not None)
    found = exact(tmp_path, question, "all")
    assert found.differences == ()
    assert found.replies > 1_500


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "refuse", "at": "EOD", "reply": "451 4.3.0 Not now"},
        {"kind": "drop_after", "at": "MAIL"},
        {"kind": "lose_reply"},
        {"kind": "token_outage"},
    ],
    ids=lambda fault: str(fault["kind"]),
)
def test_faults_that_only_the_server_has_are_found(fault: dict[str, Any], tmp_path: Path) -> None:
    question = faulty().replace(faults=[])
    log = record(question, "all", question.messages(1, 0))[:60]
    providers = ["office365", "gmail", "generic-mx"]
    with fakes(tmp_path, question.replace(faults=[fault]), providers, virtual=True) as running:
        assert replay(log, running, question, "all")
