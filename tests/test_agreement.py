"""A simulated trace, replayed over TCP, gets the same replies: for every provider, limit and reading (DESIGN §2).

The sentences, the stage, the limit and the ledger have to agree, to the character. Nothing here sleeps: the clock is
moved from one simulated moment to the next.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from fakes import Client, Running, bearer, encoded, running

from fake_servers.clock import VirtualClock
from simlib.experiment import run
from simlib.provider import Limit, Provider, names
from simlib.receiver import TOKEN_LIFETIME
from simlib.record import frame
from simlib.scenario import Scenario

SERVED = [name for name in names() if Provider.load(name).transport == "smtp"]
SMALL = {"messages": 5, "recipients": 9, "connections": 2, "transactions": 2, "sessions": 2, "logins": 1}
SMALL |= {"unique_recipients": 9, "external_recipients": 9}
IN_THE_WAY = {"ses": {"messages-per-second": "off"}}  # would refuse before the limit that is tried
PERIODS = {"logins": "min", "sessions": "min", "recipients": "min"}


def small(limit: Limit) -> str | int:
    """An amount that a few messages go over, in the published period."""
    if limit.per == "message":
        return 3 if limit.count == "recipients" else 2_000
    if limit.per == "session":
        return 3
    amount = SMALL[limit.count]
    if limit.limit is None:
        return amount if limit.window is None else f"{amount}/{PERIODS.get(limit.count, 'h')}"
    return amount if limit.limit.period is None else f"{amount}/{limit.limit.period:g}s"


def scenario(
    provider: str, limits: dict[str, Any], readings: dict[str, str], holds: bool, auth: str | None = None
) -> Scenario:
    """Two tenants with small and large messages, several connections, and retries that see the windows open again."""
    channel: dict[str, Any] = {"name": "c", "tenants": ["us", "we"], "to": provider, "connections": 4, "ips": 2}
    channel |= {"messages_per_session": 4, "retry": ["40s", "61s", "25h"], "auth": auth}
    if any(Provider.load(provider).limit(id_).only for id_ in limits):
        channel["aligned"] = False
    if not holds:
        channel["service"] = {"kind": "exponential", "mean": "2s"}
    small = [{"kind": "batches", "first": "10s", "size": 14}, {"kind": "batches", "first": "10min", "size": 2}]
    large = {"kind": "batches", "first": "11s", "size": 8}
    return Scenario.build(
        {
            "name": "agreement",
            "duration": "60h",
            "tenants": [
                {"name": "us", "senders": 2, "recipients": 2, "bytes": 1_500, "arrivals": small},
                {"name": "we", "senders": 1, "recipients": 4, "bytes": 4_000, "arrivals": large},
            ],
            "alternatives": {"all": {"channels": [{key: v for key, v in channel.items() if v is not None}]}},
            "limits": {f"{provider}/{id_}": amount for id_, amount in limits.items()},
            "readings": {f"{provider}/{id_}": name for id_, name in readings.items()},
        }
    )


def cases() -> list[Any]:
    """Each provider as it is, each of its limits lowered alone, each of its other readings."""
    found = []
    for name in SERVED:
        found.append(pytest.param(name, {}, {}, None, id=name))
        provider = Provider.load(name)
        if {"XOAUTH2", "LOGIN"} <= set(provider.auth):
            other = "password" if provider.auth[0] == "XOAUTH2" else "oauth"
            found.append(pytest.param(name, {}, {}, other, id=f"{name}-{other}"))
        for limit in provider.limits:
            lowered = {**IN_THE_WAY.get(name, {}), limit.id: small(limit)}
            found.append(pytest.param(name, lowered, {}, None, id=f"{name}-{limit.id}"))
            for reading in limit.readings:
                one = {limit.id: reading["name"]}
                found.append(pytest.param(name, lowered, one, None, id=f"{name}-{limit.id}-{reading['name']}"))
    return found


class Step(NamedTuple):
    """A stretch of one session in which no time passes."""

    at: float
    session: int
    order: int
    row: Any
    whole: bool  # from the beginning of the attempt; else from the dot, or from the held reply
    last: bool  # of its session


def steps(rows: Sequence[Any], holds: bool) -> list[Step]:
    """Take the attempts apart at the moments at which time passed."""
    found = []
    last = {row.session: index for index, row in enumerate(sorted(rows, key=lambda row: row.started_at_s))}
    for index, row in enumerate(sorted(rows, key=lambda row: row.started_at_s)):
        closes = index == last[row.session]
        if row.ended_at_s == row.started_at_s:
            found.append(Step(row.started_at_s, row.session, index, row, whole=True, last=closes))
        else:
            found.append(Step(row.started_at_s, row.session, index, row, whole=True, last=False))
            found.append(Step(row.ended_at_s, row.session, index, row, whole=False, last=closes))
    # at one moment: first what was under way, then new sessions in the order of their numbers
    return sorted(found, key=lambda step: (step.at, step.session, step.order, not step.whole))


class Replay:
    """The clients, and what they were told."""

    def __init__(self, server: Running, scenario: Scenario, holds: bool, oauth: bool) -> None:
        self.server = server
        self.provider = server.fake.provider
        self.holds = holds
        self.oauth = oauth
        self.clients: dict[int, Client] = {}
        self.tokens: dict[str, tuple[str, float]] = {}
        self.told: list[tuple[Any, str, str]] = []  # row, stage, reply
        self.waiting = 0

    async def play(self, found: Sequence[Step]) -> None:
        clock = self.server.clock
        assert isinstance(clock, VirtualClock)
        for step in found:
            await clock.advance(step.at)
            client = self.clients.get(step.session)
            if not step.whole:
                assert client is not None
                if not self.holds:
                    client.send(text_of(step.row))
                self.told.append((step.row, "EOD", str(await client.answer())))
            elif client is None:
                await self.begin(step)
            else:
                await self.offer(client, step)
            if step.last:
                await self.end(step.session)

    async def begin(self, step: Step) -> None:
        client = self.clients[step.session] = await self.server.connect(step.row.ip)
        refused = client.banner if client.banner.code >= 400 else None
        stage = "CONNECT"
        if refused is None:
            answer = await client.hello(tls=self.provider.tls == "required")
            stage, refused = "EHLO", answer if answer.code >= 400 else None
        if refused is None and self.provider.role == "submission" and self.provider.auth:
            answer = await self.log_in(client, step.row)
            stage, refused = "AUTH", answer if answer.code >= 400 else None
        if refused is None:
            await self.offer(client, step)
        else:
            self.told.append((step.row, stage, str(refused)))

    async def log_in(self, client: Client, row: Any) -> Any:
        user = row.sender if self.provider.credential == "account" else row.sender.rpartition("@")[2]
        if self.oauth:
            now = self.server.clock.now()
            token, until = self.tokens.get(user, ("", 0.0))
            if now >= until:
                token, until = self.server.fake.issue_token(user, user) or "", now + TOKEN_LIFETIME
                self.tokens[user] = token, until
            return await client.ask(f"AUTH XOAUTH2 {bearer(user, token)}")
        if "PLAIN" in self.provider.auth:
            plain = f"\0{user}\0password"
            return await client.ask(f"AUTH PLAIN {encoded(plain)}")
        await client.ask(f"AUTH LOGIN {encoded(user)}")
        return await client.ask(encoded("password"))

    async def offer(self, client: Client, step: Step) -> None:
        row = step.row
        answer, stage = await client.ask(f"MAIL FROM:<{row.sender}>"), "MAIL"
        for number in range(row.recipients):
            if answer.code < 400:
                answer, stage = await client.ask(f"RCPT TO:<to{number}@them.example>"), "RCPT"
        if answer.code < 400:
            answer, stage = await client.ask("DATA"), "DATA"
        if answer.code == 354:
            if row.ended_at_s != row.started_at_s:
                if self.holds:
                    client.send(text_of(row))
                    await self.server.until_waiting(self.server.fake.waiting + 1)
                return
            answer, stage = await client.ask(text_of(row)), "EOD"
        self.told.append((row, stage, str(answer)))
        if answer.code >= 400 and answer.code != 421 and stage != "EOD":
            await client.ask("RSET")

    async def end(self, session: int) -> None:
        client = self.clients.pop(session)
        told = next(reply for row, _, reply in reversed(self.told) if row.session == session)
        if told.startswith("421") or client.banner.code >= 400:
            assert await client.is_closed()
        else:
            assert (await client.ask("QUIT")).code == 221
        await client.close()


def text_of(row: Any) -> bytes:
    """A message of exactly the size that the record has."""
    head = f"From: <{row.sender}>\r\nMessage-ID: <{row.message_id}@sendlab.example>\r\n\r\n".encode()
    return head + b"x" * (row.bytes - len(head) - 2) + b"\r\n.\r\n"


@pytest.mark.parametrize(("name", "limits", "readings", "auth"), cases())
def test_every_reply_is_the_recorded_one(
    name: str, limits: dict[str, Any], readings: dict[str, str], auth: str | None
) -> None:
    holds = any(limit.holds for limit in Provider.load(name).limits) and "transactions" not in limits
    question = scenario(name, limits, readings, holds, auth)
    lanes = question.lanes("all")
    attempts = run(question, "all", seed=7)
    rows = [row for row in frame(attempts, question.zero).itertuples() if row.stage]
    assert all(row.code for row in rows)

    async def replay() -> tuple[list[tuple[Any, str, str]], list[dict[str, Any]]]:
        accounts = question.receivers(lanes)[name].accounts
        provider = lanes[0].provider
        async with running(provider, accounts, start=question.zero) as server:
            one = Replay(server, question, holds, lanes[0].oauth)
            await one.play(steps(rows, holds))
            return one.told, server.entries

    told, ledger = asyncio.run(replay())
    assert [said(row) for row, _, _ in told] == [(stage, reply) for _, stage, reply in told]
    assert len(told) == len(rows)
    if limits:
        tried = lanes[0].provider.limit([*limits][-1])
        assert (f"{name}/{tried.id}" in {row.limit for row in rows}) == (tried.limit is not None)
    assert sorted(map(entry, ledger)) == sorted(map(entry_of, rows))


def said(row: Any) -> tuple[str, str]:
    """Stage and reply as the record has them; the enhanced code stands on every line."""
    prefix = f"{row.enhanced} " if row.enhanced else ""
    return row.stage, f"{row.code} " + "\n".join(prefix + line for line in row.text.split("\n"))


def entry_of(row: Any) -> tuple[Any, ...]:
    message_id = row.message_id if row.stage == "EOD" else ""
    return row.session, row.stage, row.code, row.enhanced, row.text, row.limit, row.held, message_id


def entry(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(line[key] for key in ("session", "stage", "code", "enhanced", "text", "limit", "held", "message_id"))
