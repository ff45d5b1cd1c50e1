"""Faults: which commands they strike, what the client then sees, and what the provider's books have."""

import asyncio
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import Answer, Client, Running, bearer, conversation, encoded, running
from hypothesis import given
from hypothesis import strategies as st
from test_replay import AT_ONCE, everybody

from simlib.experiment import compare, run
from simlib.faults import Faults, FaultyReceiver, Occasion, Schedule
from simlib.provider import STAGES, Provider, Reply, Stage
from simlib.receiver import Account, Receiver, Session
from simlib.record import frame
from simlib.report import comparison, one_off
from simlib.scenario import Scenario
from simlib.summary import summarize

US = "rep01@us.example"
THEM = "to@them.example"
TEXT = "Subject: hello\r\n\r\nhello\r\n.\r\n"


def faults(*tables: dict[str, Any], seed: int = 1) -> Faults:
    return Faults.build({"faults": tables}, seed=seed)


def struck(schedule: Schedule, commands: int, **known: Any) -> list[bool]:
    return [schedule.strike(Occasion("MAIL", float(now), **known)) is not None for now in range(commands)]


# Which commands


@pytest.mark.parametrize(
    ("odds", "block", "each"), [(0, 100, 0), ("0%", 7, 0), ("1%", 100, 1), (0.3, 10, 3), (1, 9, 9)]
)
def test_odds_are_exact(odds: Any, block: int, each: int) -> None:
    found = struck(Schedule(faults({"kind": "drop_before", "at": "MAIL", "odds": odds}), "ses"), 40 * block)
    assert [sum(found[start : start + block]) for start in range(0, len(found), block)] == [each] * 40


@given(st.integers(0, 1000), st.integers(1, 300))
def test_any_odds_are_met_by_the_end_of_each_block(per_mille: int, seed: int) -> None:
    schedule = Schedule(faults({"kind": "drop_before", "at": "MAIL", "odds": per_mille / 1000}, seed=seed), "ses")
    assert sum(struck(schedule, 1000)) == per_mille


def test_the_seed_says_which() -> None:
    def of(seed: int, provider: str = "ses", **more: Any) -> list[bool]:
        one = faults({"kind": "drop_before", "at": "MAIL", "odds": 0.5, **more}, seed=seed)
        return struck(Schedule(one, provider), 200)

    assert of(1) == of(1)
    assert len({tuple(found) for found in (of(1), of(2), of(1, "gmail"), of(1, name="another"))}) == 4


def test_a_rare_fault_is_not_always_at_the_same_place() -> None:
    found = struck(Schedule(faults({"kind": "drop_before", "at": "MAIL", "odds": "1%"}), "ses"), 10_000)
    assert len({place % 100 for place, hit in enumerate(found) if hit}) > 50


AIMED: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"ip": "127.0.0.1"}, {"ip": "127.0.0.1"}, {"ip": "127.0.0.2"}),
    ({"ip": "127.0.1.0/24"}, {"ip": "127.0.1.9"}, {"ip": "127.0.2.9"}),
    ({"account": "Rep01@us.example"}, {"account": "rep01@US.example"}, {"account": "rep02@us.example"}),
    ({"sender": "*@us.example"}, {"sender": "Rep01@us.Example"}, {"sender": "rep01@we.example"}),
    ({"recipient": "a@*"}, {"recipients": ("b@x.test", "A@x.test")}, {"recipients": ("b@x.test",)}),
    ({"from": "10s"}, {"now": 10.0}, {"now": 9.9}),
    ({"until": "10s"}, {"now": 9.9}, {"now": 10.0}),
    ({"provider": "ses"}, {}, {"provider": "gmail"}),
]


@pytest.mark.parametrize(("keys", "one", "other"), AIMED)
def test_whom_a_fault_is_about(keys: dict[str, Any], one: dict[str, Any], other: dict[str, Any]) -> None:
    def meets(provider: str = "ses", now: float = 0.0, stage: Stage = "EOD", **known: Any) -> bool:
        schedule = Schedule(faults({"kind": "drop_before", "at": "EOD", **keys}), provider)
        return schedule.strike(Occasion(stage, now, **{"ip": "127.0.0.1", **known})) is not None

    assert meets(**one)
    assert not meets(**other)
    assert not meets(**one, stage="DATA")


def test_the_first_that_strikes_acts_and_the_others_never_know() -> None:
    one = {"kind": "refuse", "at": "MAIL", "reply": "451 4.3.0 First", "odds": 0.5}
    schedule = Schedule(faults(one, {"kind": "stall", "at": "MAIL", "delay": "1s", "odds": 0.5}), "ses")
    struck(schedule, 100)
    assert list(schedule.counts()) == [("refuse-1", 100, 50), ("stall-2", 50, 25)]


def test_a_greylist_goes_by_ip_sender_and_recipient() -> None:
    schedule = Schedule(faults({"kind": "greylist", "delay": "5min", "retention": "1h"}), "ses")

    def passes(now: float, ip: str = "127.0.0.1", sender: str = US, to: str = THEM) -> bool:
        return schedule.strike(Occasion("RCPT", now, ip, "", sender, (to,))) is None

    assert [passes(0), passes(299), passes(300), passes(301)] == [False, False, True, True]
    assert not passes(302, ip="127.0.0.2")
    assert not passes(302, sender="rep02@us.example")
    assert not passes(302, to="other@them.example")
    assert passes(302, to=THEM.upper())
    assert passes(302 + 3600)
    assert not passes(302 + 3600 + 3601)  # not seen for longer than the retention


# What a file may say

REFUSED = [
    ("x", "not valid TOML"),
    ('{"faults": [}', "not valid JSON"),
    ('{"faults": 1}', "faults: must be a list"),
    ('{"fault": []}', "fault: unknown key"),
    ('[[faults]]\nkind = "gremlin"', "faults[1]: kind must be one of"),
    ('[[faults]]\nat = "MAIL"', "faults[1]: kind is missing"),
    ('[[faults]]\nkind = "refuse"\nat = "MAIL"', "faults[1].reply: missing"),
    ('[[faults]]\nkind = "refuse"\nat = "MAIL"\nreply = "250 Ok"', "reply: must be a refusal, 4yz or 5yz, got 250"),
    ('[[faults]]\nkind = "drop_after"\nat = "HELLO"', "faults[1].at: must be 'CONNECT', 'EHLO'"),
    ('[[faults]]\nkind = "drop_after"\nat = "EHLO"\nsender = "a@x"', "sender is not known before MAIL"),
    ('[[faults]]\nkind = "drop_after"\nat = "MAIL"\nrecipient = "a@x"', "recipient is not known before RCPT"),
    ('[[faults]]\nkind = "drop_after"\nat = "CONNECT"\naccount = "a@x"', "account is not known before AUTH"),
    ('[[faults]]\nkind = "drop_after"\nat = "MAIL"\nip = "nowhere"', "ip: must be an IP address or a network"),
    ('[[faults]]\nname = "slow"\nkind = "stall"\nat = "MAIL"\ndelay = 3', "faults[slow].delay: must be a duration"),
    ('[[faults]]\nkind = "stall"\nat = "MAIL"\ndelay = "0s"', "delay: must be greater than 0"),
    ('[[faults]]\nkind = "stall"\nat = "MAIL"\ndelay = "1s"\nodds = "101%"', "must be from 0 % to 100 %, got 101 %"),
    ('[[faults]]\nkind = "stall"\nat = "MAIL"\ndelay = "1s"\nodds = "rare"', "must look like '1%' or be a share"),
    ('[[faults]]\nkind = "lose_reply"\nat = "MAIL"', "faults[1].at: must be 'EOD', got 'MAIL'"),
    ('[[faults]]\nkind = "lose_reply"\nfrom = "1h"\nuntil = "1h"', "until must come after from, which is 3600 s"),
    ('[[faults]]\nkind = "token_outage"\nip = "127.0.0.1"', "faults[1].ip: unknown key"),
    ('[[faults]]\nkind = "greylist"\ndelay = "1h"\nretention = "1min"', "retention must be longer than the delay"),
    ('[[faults]]\nkind = "greylist"\ndelay = "1s"\nretention = "1h"\nodds = 0.5', "odds: a greylist knows by itself"),
    ('[[faults]]\nname = "a"\nkind = "lose_reply"\n' * 2, "name given twice: 'a'"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_what_can_not_be_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as error:
        Faults.parse(text, "faults.toml")
    assert str(error.value).startswith("faults.toml: ")
    assert words in str(error.value)


def test_json_says_the_same_and_it_is_given_back() -> None:
    tables = [{"kind": "stall", "name": "slow", "at": "CONNECT", "delay": "30s", "from": "60s", "odds": 0.01}]
    one = Faults.build({"faults": tables})
    assert one.data() == tables
    text = '{"kind": "stall", "at": "CONNECT", "delay": "0.5min", "name": "slow", "from": "1min", "odds": "1%"}'
    assert Faults.parse(f'{{"faults": [{text}]}}') == one


def test_a_provider_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"faults\[refuse-1\].provider: unknown provider 'sess' \(there are: ses\)"):
        faults({"kind": "refuse", "at": "MAIL", "reply": "451 x", "provider": "sess"}).meant_for(["ses"])


# The receiver


def office365(*tables: dict[str, Any], **limits: Any) -> FaultyReceiver:
    provider = (
        Provider.load("office365").on(dt.date(2026, 6, 1)).set({k.replace("_", "-"): v for k, v in limits.items()})
    )
    return FaultyReceiver(provider, {US: Account(US, refresh_token=US)}, faults=faults(*tables))


def whole(receiver: Receiver, now: float = 0.0, session: Session | None = None) -> tuple[Session, list[Reply]]:
    """One message, command by command, up to the first that isn't taken."""
    replies: list[Reply] = []
    if session is None:
        session, banner = receiver.connect("127.0.0.1", now)
        replies.append(banner)
    one = session
    before: list[Callable[[], Reply]] = [
        lambda: receiver.ehlo(one, now),
        lambda: receiver.starttls(one, now),
        lambda: receiver.ehlo(one, now),
        lambda: receiver.auth(one, US, "password", now),
    ]
    commands: list[Callable[[], Reply]] = [
        lambda: receiver.mail(one, US, now),
        lambda: receiver.rcpt(one, THEM, now),
        lambda: receiver.data(one, now),
        lambda: receiver.end_of_data(one, 2_000, now),
    ]
    for command in (*before, *commands) if replies else commands:
        if replies and not (200 <= replies[-1].code < 400):
            break
        replies.append(command())
    return session, replies


def test_without_a_fault_that_strikes_every_reply_is_a_receiver_s() -> None:
    never = [{"kind": "refuse", "at": stage, "reply": "451 4.3.0 x", "odds": 0} for stage in STAGES]
    faulty, without = office365(*never), office365()
    plain = Receiver(without.provider, without.accounts)
    told = []
    for one in (faulty, without, plain):
        session, replies = whole(one)
        replies += [reply for now in range(40) for reply in whole(one, float(now), session)[1]]
        told.append([*replies, one.rset(session, 40), one.rcpt(session, THEM, 40), one.quit(session, 40)])
    assert told[0] == told[1] == told[2]
    assert any(reply.limit for reply in told[0])


@pytest.mark.parametrize("stage", STAGES)
def test_a_refusal_at_its_stage_is_counted_by_no_limit(stage: Stage) -> None:
    one = office365(
        {"kind": "refuse", "at": stage, "reply": "451 4.3.0 Not now", "until": "1s"}, messages_per_minute="1/min"
    )
    _, replies = whole(one)
    assert replies[-1] == Reply(451, "4.3.0", "Not now", stage, fault="refuse-1")
    session, replies = whole(one, now=1.0)
    assert [reply.held for reply in replies] == [0.0] * 9
    _, replies = whole(one, now=2.0, session=session)
    assert replies[-1].held == 59.0


@pytest.mark.parametrize("stage", STAGES)
def test_a_connection_that_drops_before_and_after(stage: Stage) -> None:
    before = office365({"kind": "drop_before", "at": stage}, transactions=1)
    session, replies = whole(before)
    assert replies[-1] == Reply(0, "", "", stage, fault="drop_before-1", breaks="instead")
    assert before.mail(session, US, 0.0) == Reply(0, "", "", "MAIL", breaks="instead")
    after = office365({"kind": "drop_after", "at": stage, "until": "1s"}, transactions=1)
    session, replies = whole(after)
    last = STAGES.index(stage)
    assert [reply.stage for reply in replies if reply.fault] == [stage]
    if stage != "EOD":
        assert replies[-1].code == 0
        assert replies[-1].stage in (stage, STAGES[last + 1])  # EHLO comes twice
    assert replies[-1 if stage == "EOD" else -2].breaks == "after"
    # its place is free again, though the client hasn't noticed yet
    assert whole(after, now=1.0)[1][-1].code == 250


def test_a_message_whose_reply_is_lost_is_accepted() -> None:
    for silent, breaks in ((False, "instead"), (True, "silence")):
        one = office365({"kind": "lose_reply", "silent": silent, "until": "1s"}, messages_per_minute="1/min")
        assert whole(one)[1][-1][:1] + whole(one, now=1.0)[1][-1][-2:] == (250, "", "")
        one = office365({"kind": "lose_reply", "silent": silent}, messages_per_minute="1/min")
        first, second = (whole(one, now=now)[1][-1] for now in (0.0, 1.0))
        assert (first.code, first.breaks, first.fault, first.held) == (250, breaks, "lose_reply-1", 0.0)
        assert second.held == 59.0  # the first was counted


def test_a_stalled_reply_keeps_its_transaction_going() -> None:
    one = office365({"kind": "stall", "at": "EOD", "delay": "10s", "until": "1s"}, transactions=1)
    assert [(reply.delay, reply.held) for reply in whole(one)[1]][-1] == (10.0, 0.0)
    early, late = (whole(one, now=now)[1][-1] for now in (9.0, 10.0))
    assert (early.limit, late.code) == ("office365/transactions", 250)


def test_an_outage_of_the_token_endpoint_and_of_auth() -> None:
    one = office365({"kind": "auth_outage", "from": "5s"}, {"kind": "token_outage", "from": "5s", "until": "9s"})
    assert one.issue_token(US, US, now=4.0)
    assert [one.issue_token(US, US, now=5.0), one.issue_token(US, "x", now=9.0)] == ["", None]
    assert whole(one, now=4.0)[1][-1].code == 250
    assert whole(one, now=5.0)[1][-1][:4] == (454, "4.7.0", "Temporary authentication failure", "AUTH")


# The wire


async def told(server: Running, ip: str = "127.0.0.1") -> list[tuple[str, Answer | None]]:
    """What a client is told, stage by stage, until it has sent a message or hears nothing more."""
    found: list[tuple[str, Answer | None]] = []
    client: Client | None = None
    said = ["", "EHLO client.example\r\n", f"MAIL FROM:<{US}>\r\n", f"RCPT TO:<{THEM}>\r\n", "DATA\r\n", TEXT]
    try:
        for stage, line in zip((one for one in STAGES if one != "AUTH"), said, strict=True):
            if client is None:
                client = await server.connect(ip)
                found.append((stage, client.banner))
            else:
                found.append((stage, await client.ask(line.encode())))
            if found[-1][1].code >= 400:
                return found
    except (asyncio.IncompleteReadError, ConnectionError):
        found.append((stage, None))
    return found


MX = tuple(stage for stage in STAGES if stage != "AUTH")


@pytest.mark.parametrize("stage", MX)
@conversation
async def test_what_the_client_is_told_when_it_is_refused(stage: Stage) -> None:
    one = faults({"kind": "refuse", "at": stage, "reply": "451 4.3.0 Not now", "until": "1s"})
    async with running("generic-mx", faults=one) as server:
        refused = await told(server)
        assert [name for name, _ in refused] == list(MX[: MX.index(stage) + 1])
        assert refused[-1][1] == Answer(451, "4.3.0 Not now")
        (entry,) = server.entries
        assert (entry["stage"], entry["code"], entry["limit"], entry["fault"]) == (stage, 451, "", "refuse-1")
        await server.clock.advance(1.0)  # type: ignore[union-attr]
        assert [answer is not None and answer.code for _, answer in await told(server)] == [
            220,
            250,
            250,
            250,
            354,
            250,
        ]
        assert "fault" not in server.entries[-1]


@pytest.mark.parametrize("stage", MX)
@conversation
async def test_what_the_client_is_told_when_the_connection_drops(stage: Stage) -> None:
    async with running("generic-mx", faults=faults({"kind": "drop_before", "at": stage})) as server:
        assert [name for name, answer in await told(server) if answer is None] == [stage]
        await server.until_open(0)
        (entry,) = server.entries
        assert (entry["stage"], entry["code"], entry["fault"]) == (stage, 0, "drop_before-1")
    async with running("generic-mx", faults=faults({"kind": "drop_after", "at": stage})) as server:
        heard = await told(server)
        following = MX[MX.index(stage) + 1 :][:1]
        assert tuple(name for name, answer in heard if answer is None) == following
        await server.until_open(0)
        assert [entry["code"] for entry in server.entries] == ([250] if stage == "EOD" else [])


@conversation
async def test_a_lost_reply_stands_in_the_ledger() -> None:
    async with running("generic-mx", faults=faults({"kind": "lose_reply"})) as server:
        assert (await told(server))[-1] == ("EOD", None)
        await server.until_open(0)
        (entry,) = server.entries
        assert (entry["stage"], entry["code"], entry["fault"]) == ("EOD", 250, "lose_reply-1")
        assert server.fake.accepted == 1


@conversation
async def test_a_reply_is_lost_within_tls_as_well() -> None:
    for one in ({"kind": "lose_reply"}, {"kind": "drop_after", "at": "DATA"}):
        async with running("office365", faults=faults(one)) as server:
            client = await server.log_in()
            assert (await client.envelope(US)).code == 354
            client.send(TEXT)
            assert await client.is_closed()
            assert [entry["code"] for entry in server.entries] == ([250] if one["kind"] == "lose_reply" else [])


@conversation
async def test_a_silent_server_waits_for_the_client_to_give_up() -> None:
    async with running("generic-mx", faults=faults({"kind": "lose_reply", "silent": True})) as server:
        client = await server.connect()
        await client.hello()
        assert (await client.envelope(US)).code == 354
        client.send(TEXT)
        await server.until_waiting(1)
        client.send("NOOP\r\nQUIT\r\n")
        await server.clock.advance(86_400)  # type: ignore[union-attr]
        assert (len(server.fake.connections), [entry["code"] for entry in server.entries]) == (1, [250])
        client.writer.write_eof()
        assert await client.is_closed()
        await server.until_open(0)
        assert server.fake.waiting == 0


@pytest.mark.parametrize("stage", MX)
@conversation
async def test_a_reply_that_leaves_late(stage: Stage) -> None:
    async with running("generic-mx", faults=faults({"kind": "stall", "at": stage, "delay": "30s"})) as server:
        waiting = asyncio.ensure_future(told(server))
        await server.until_waiting(1)
        await server.clock.advance(29.9)  # type: ignore[union-attr]
        assert server.fake.waiting == 1
        await server.clock.advance(30.0)  # type: ignore[union-attr]
        assert [answer is not None and answer.code for _, answer in await waiting] == [220, 250, 250, 250, 354, 250]
        assert [(entry["time"], entry["held"]) for entry in server.entries] == [(0.0 if stage == "EOD" else 30.0, 0.0)]


@conversation
async def test_replies_before_a_stalled_one_are_not_kept_back() -> None:
    async with running("generic-mx", faults=faults({"kind": "stall", "at": "RCPT", "delay": "30s"})) as server:
        client = await server.connect()
        await client.hello()
        client.send(f"MAIL FROM:<{US}>\r\nRCPT TO:<{THEM}>\r\nDATA\r\n")
        assert (await client.answer()).code == 250
        await server.until_waiting(1)
        await server.clock.advance(30.0)  # type: ignore[union-attr]
        assert [(await client.answer()).code for _ in range(2)] == [250, 354]


@conversation
async def test_an_auth_outage_is_no_wrong_password() -> None:
    outage = faults({"kind": "auth_outage", "account": US})
    async with running("office365", faults=outage) as server:
        client = await server.connect()
        await client.hello(tls=True)
        await client.ask(f"AUTH LOGIN {encoded(US)}")
        assert await client.ask(encoded("wrong")) == Answer(454, "4.7.0 Temporary authentication failure")
        assert (await client.ask(f"AUTH XOAUTH2 {bearer(US, 'x')}")).code == 454
        assert (server.fake.auth_failures, server.entries[0]["account"]) == (0, US)
        await server.log_in("rep02@us.example")


@conversation
async def test_a_greylist_on_the_wire() -> None:
    async with running("generic-mx", faults=faults({"kind": "greylist", "delay": "5min", "retention": "1h"})) as server:
        client = await server.connect()
        await client.hello()
        assert str(await client.message(US)) == "450 4.7.1 sendlab: greylisted, try again later"
        await client.ask("RSET")
        await server.clock.advance(300.0)  # type: ignore[union-attr]
        assert (await client.message(US)).code == 250
        assert (await client.message(US, THEM, "second@them.example")).code == 450


@conversation
async def test_a_reset_begins_them_anew() -> None:
    async with running(
        "generic-mx", faults=faults({"kind": "refuse", "at": "EHLO", "reply": "451 x", "odds": 0.5})
    ) as one:
        codes = []
        for _ in range(2):
            codes.append([(await (await one.connect()).ask("EHLO x")).code for _ in range(8)])
            one.fake.reset()
        assert codes[0] == codes[1]
        assert sorted(codes[0]) == [250] * 4 + [451] * 4


# The simulation


def scenario(*tables: dict[str, Any], arrivals: Any = None, to: str = "generic-mx", **channel: Any) -> Scenario:
    """One sender, by default with one message, on one channel."""
    arrivals = arrivals or {"kind": "batches", "size": 1}
    return Scenario.build(
        {
            "name": "faults",
            "duration": "1h",
            "tenants": [{"name": "us", "senders": 1, "arrivals": arrivals}],
            "alternatives": {"it": {"channels": [{"name": "c", "tenants": ["us"], "to": to, **channel}]}},
            "faults": list(tables),
        }
    )


def simulated(asked: Scenario) -> tuple[list[tuple[Any, ...]], dict[str, float]]:
    """When each attempt began and ended, at which stage, with which code; and what a summary counts."""
    attempts = run(asked, "it")
    columns = frame(attempts, asked.zero)[["started_at_s", "ended_at_s", "stage", "code", "final"]]
    numbers = summarize(attempts, asked, asked.lanes("it"))["us"].numbers
    counts = ("accepted", "expired", "rejected", "duplicates", "ambiguous", "throttled")
    return list(columns.itertuples(index=False, name=None)), {name: numbers[name] for name in counts if numbers[name]}


def test_who_was_late_for_a_fault_and_then_met_a_hold_was_not_throttled_nor_held() -> None:
    refuse = {"kind": "refuse", "at": "MAIL", "reply": "451 4.3.0 Later", "until": "1s"}
    arrivals = [{"kind": "batches", "size": 1}, {"kind": "batches", "size": 31, "first": "61s"}]
    asked = scenario(refuse, arrivals=arrivals, to="office365", connections=1, retry=["70s"])
    found = summarize(run(asked, "it"), asked, asked.lanes("it"))["us"]
    assert (found.numbers["throttled"], found.numbers["held"], found.numbers["held_max"]) == (1, 1, 60)
    assert found.bound_by["retry"] == 61
    assert found.bound_by["office365/messages-per-minute"] == 60 + 60  # both wait while the last reply is held


def test_a_lost_reply_makes_a_duplicate_of_a_retry() -> None:
    lost = {"kind": "lose_reply", "until": "1s"}
    assert simulated(scenario(lost, retry=["60s"])) == (
        [(0, 0, "EOD", 0, False), (60, 60, "EOD", 250, True)],
        {"accepted": 1, "duplicates": 1},
    )
    assert simulated(scenario(lost)) == ([(0, 0, "EOD", 0, True)], {"expired": 1, "ambiguous": 1})
    assert simulated(scenario({**lost, "silent": True}, retry=["60s"], timeout="5min")) == (
        [(0, 300, "EOD", 0, False), (360, 360, "EOD", 250, True)],
        {"accepted": 1, "duplicates": 1},
    )
    # the provider never had it
    assert simulated(scenario({"kind": "drop_before", "at": "EOD", "until": "1s"}, retry=["60s"])) == (
        [(0, 0, "EOD", 0, False), (60, 60, "EOD", 250, True)],
        {"accepted": 1},
    )


def test_a_connection_that_has_gone_is_noticed_by_the_next_message() -> None:
    two = {"kind": "batches", "size": 2}
    found = simulated(scenario({"kind": "drop_after", "at": "EOD"}, arrivals=two, retry=["60s"]))
    assert found == (
        [(0, 0, "EOD", 250, True), (0, 0, "MAIL", 0, False), (60, 60, "EOD", 250, True)],
        {"accepted": 2},
    )


def test_a_late_reply_takes_its_time_and_one_that_is_too_late_is_not_awaited() -> None:
    late = {"kind": "stall", "at": "MAIL", "delay": "5s"}
    assert simulated(scenario(late, service="1s")) == ([(0, 6, "EOD", 250, True)], {"accepted": 1})
    found = simulated(scenario({**late, "until": "1s"}, timeout="4s", retry=["60s"]))
    assert found == ([(0, 4, "MAIL", 0, False), (64, 64, "EOD", 250, True)], {"accepted": 1})


def test_a_message_that_is_greylisted_comes_again() -> None:
    grey = {"kind": "greylist", "delay": "5min", "retention": "1h"}
    assert simulated(scenario(grey, retry=["2min"])) == (
        [*((at, at, "RCPT", 450, False) for at in (0, 120, 240)), (360, 360, "EOD", 250, True)],
        {"accepted": 1},
    )


@pytest.mark.parametrize(("kind", "code"), [("auth_outage", 454), ("token_outage", 0)])
def test_an_outage_defers_and_rejects_nobody(kind: str, code: int) -> None:
    found = simulated(scenario({"kind": kind, "until": "1min"}, to="gmail", retry=["40s"]))
    assert found == (
        [(0, 0, "AUTH", code, False), (40, 40, "AUTH", code, False), (80, 80, "EOD", 250, True)],
        {"accepted": 1},
    )


@pytest.mark.parametrize("number", range(AT_ONCE))
def test_command_by_command_is_the_same_as_at_once(number: int) -> None:
    """Faults that never strike change no attempt, though each command is then asked for on its own."""
    question = everybody(number)
    channels = {one.name: {"session_setup": "1.5s"} for one in question.alternatives["all"].channels}
    question = question.replace(alternatives={"all": {"channels": channels}})
    never = [{"kind": "refuse", "at": stage, "reply": "451 4.3.0 x", "odds": 0} for stage in STAGES]
    plain, asked = run(question, "all"), run(question.replace(faults=never), "all")
    assert plain.kinds == asked.kinds
    assert np.array_equal(plain.rows, asked.rows, equal_nan=True)


def test_replications_differ_in_what_strikes_and_runs_do_not() -> None:
    asked = scenario(
        {"kind": "lose_reply", "odds": 0.2}, arrivals={"kind": "batches", "size": 50}, retry=["60s"], connections=1
    )
    lost = [
        [row.message_id for row in frame(run(asked, "it", 1, r), asked.zero).itertuples() if not row.code]
        for r in (0, 0, 1)
    ]
    assert lost[0] == lost[1] != lost[2]
    assert "lose_reply-1: which commands it strikes" in asked.random_parts()


def test_a_scenario_takes_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "faults.toml").write_text('[[faults]]\nkind = "lose_reply"\n')
    asked = Scenario.build({**scenario().data, "faults": "faults.toml"}, folder=tmp_path)
    assert asked.faults_of(seed=3) == Faults.build({"faults": [{"kind": "lose_reply"}]}, seed=3)
    assert asked.data["faults"] == [{"kind": "lose_reply", "name": "lose_reply-1"}]


def test_two_alternatives_and_a_fault_of_one_provider() -> None:
    asked = scenario({"kind": "lose_reply", "provider": "generic-mx"})
    other = {"channels": [{"name": "o", "tenants": ["us"], "to": "office365"}]}
    result = compare(asked.replace(alternatives={**asked.data["alternatives"], "other": other}), replications=1)
    assert [result.estimate(name, "us", "ambiguous").mean for name in ("it", "other")] == [1, 0]
    assert "ambiguous" in comparison(result).columns
    assert {name: sends["as in the scenario"] > 0 for name, sends in one_off(result).items()} == {
        "it": True,  # what fits is a question of limits
        "other": True,
    }


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("nowhere.toml", "nowhere.toml: No such file or directory"),
        ([{"kind": "stall", "at": "MAIL", "delay": "5"}], "scenario: faults[1].delay: must be a duration"),
        ([{"kind": "lose_reply", "provider": "gmial"}], "unknown provider 'gmial' (there are: generic-mx, "),
        (3, "scenario: faults: must be"),
    ],
)
def test_a_scenario_whose_faults_can_not_be(said: Any, words: str) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as error:
        Scenario.build({**scenario().data, "faults": said})
    assert words in str(error.value)
