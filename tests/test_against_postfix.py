"""`own-postfix` against Debian's Postfix: seeded commands from several addresses, and the same replies in the same second.

Postfix runs first, by the wall's clock, and what it was told in which second is written down; then the fake is told
the same, on a virtual clock that shows those seconds. The host's name and the queue's ids are the only differences.

Its anvil counts in whole seconds, and a window is over when more than `anvil_rate_time_unit` has passed on them: a
window of 3 s is one of 4 whole seconds (own-postfix's note says so), so the fake's is set to 4 s. Every command stays
clear of the second's edges, so that both sides agree on which one it is.
"""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import pytest
from fakes import Client, encoded, running
from postfix import missing, postfix

from fake_servers.clock import VirtualClock
from simlib.provider import Provider
from simlib.receiver import Account

COMMANDS: Final = 10_000
UNIT: Final = 3  # anvil_rate_time_unit, in seconds
WINDOW: Final = UNIT + 1  # whole seconds until it has passed
CLEAR: Final = 0.15, 0.75  # of a second: when commands may be sent
CLIENTS: Final = 6
BURSTS: Final = 0, 0, 0, 40, 120, 260
USER: Final = "team@us.example"
RATES: Final = {
    "connections-per-minute": 5,
    "logins-per-minute": 6,
    "messages-per-minute": 6,
    "recipients-per-minute": 9,
}
COUNTS: Final = {"connections": 3, "recipients-per-message": 4}
SETTINGS: Final = {
    "anvil_rate_time_unit": f"{UNIT}s",
    "smtpd_client_connection_count_limit": str(COUNTS["connections"]),
    "smtpd_client_connection_rate_limit": str(RATES["connections-per-minute"]),
    "smtpd_client_auth_rate_limit": str(RATES["logins-per-minute"]),
    "smtpd_client_message_rate_limit": str(RATES["messages-per-minute"]),
    "smtpd_client_recipient_rate_limit": str(RATES["recipients-per-minute"]),
    "smtpd_recipient_limit": str(COUNTS["recipients-per-message"]),
    "smtpd_helo_required": "yes",
    "smtpd_discard_ehlo_keywords": "etrn, dsn, chunking",  # which the fake leaves out
    "smtpd_error_sleep_time": "0",  # and what it doesn't model: errors in a session
    "smtpd_soft_error_limit": "1000000",
    "smtpd_hard_error_limit": "1000000",
    "smtpd_junk_command_limit": "1000000",
}

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with postfix(SETTINGS, {USER: "password"}) as listens_on:
        yield listens_on


class Said(NamedTuple):
    """A command and its reply."""

    second: int
    ip: str
    session: int
    line: str
    reply: str


@dataclass
class Open:
    """A session as its client knows it."""

    client: Client
    last: str = ""
    greeted: bool = False
    authenticated: bool = False
    started: bool = False
    recipients: int = 0

    def learn(self, line: str, reply: str) -> None:
        verb, good = line.partition(" ")[0], reply < "4"
        if verb in ("EHLO", "HELO") and good:
            self.greeted = True
        if reply.startswith("235"):
            self.authenticated = True
        if verb == "MAIL" and good:
            self.started = True
        if verb == "RCPT" and good:
            self.recipients += 1
        if (verb in ("EHLO", "HELO", "RSET") or self.last.startswith("354")) and good:
            self.started, self.recipients = False, 0
        self.last = reply


@dataclass
class Talk:
    """Sessions with one server, by address and number."""

    port: int
    sessions: dict[tuple[str, int], Open] = field(default_factory=dict)

    async def say(self, ip: str, number: int, line: str) -> str:
        """Send a line and return the reply; after the last one, wait until the server has closed."""
        if line == "connect":
            opened = self.sessions[ip, number] = Open(await Client.connect(self.port, ip))
            reply = str(opened.client.banner)
        elif line == "close":
            opened = self.sessions[ip, number]
            opened.client.writer.write_eof()
            reply = ""
        else:
            opened = self.sessions[ip, number]
            reply = str(await opened.client.ask(line))
            opened.learn(line, reply)
        if line in ("close", "QUIT") or reply.startswith("421"):
            assert await opened.client.is_closed()
            await self.sessions.pop((ip, number)).client.close()
        return re.sub(r"mail\.example|SENDLAB\d{4}", "HOST", re.sub(r"(queued as) \w+", r"\1 ID", reply))

    async def close(self) -> None:
        for opened in self.sessions.values():
            await opened.client.close()


PLAIN: Final = {word: f"AUTH PLAIN {encoded(f'{chr(0)}{USER}{chr(0)}{word}')}" for word in ("password", "wrong")}
TEXT: Final = f"From: <{USER}>\r\nSubject: hello\r\n\r\nhello\r\n."


def next_line(rng: random.Random, session: Open, stays: bool) -> str:
    """What the client says next: mostly what takes it further, sometimes anything."""
    if session.last.startswith("354"):
        return TEXT
    if session.last.startswith("334"):
        asked = {encoded("Username:"): USER, encoded("Password:"): rng.choice(["password", "wrong"])}
        return encoded(asked.get(session.last[4:], f"\0{USER}\0password"))
    if rng.random() < 0.7:
        if not session.greeted:
            return "EHLO client.example"
        if not session.authenticated:
            return PLAIN["password"]
        if not session.started:
            return f"MAIL FROM:<{USER}>"
        return "DATA" if session.recipients > rng.randrange(5) else f"RCPT TO:<to{rng.randrange(99)}@them.example>"
    line = rng.choice(
        ["EHLO client.example", "HELO client.example", "NOOP", "RSET", "DATA", "RCPT TO:<to@them.example>", "QUIT"]
        + ["AUTH PLAIN", "AUTH LOGIN", f"AUTH LOGIN {encoded(USER)}", *PLAIN.values(), "MAIL FROM:<>", "close"]
    )
    if (line in ("QUIT", "close") and stays) or (line.startswith("MAIL") and session.greeted > session.authenticated):
        return "NOOP"
    return line


async def clear_second() -> int:
    """Wait until the clock is well within a second, and return which."""
    while not CLEAR[0] < (now := time.time()) % 1 < CLEAR[1]:
        await asyncio.sleep((CLEAR[0] - now) % 1 + 0.001)
    return int(now)


async def converse_with_postfix(port: int) -> list[Said]:
    """Say everything to Postfix; a client whose command went over the second's edge is given up, another one comes."""
    rng = random.Random(20261124)
    talk, log = Talk(port), list[Said]()
    names = (f"127.0.{number // 250 + 1}.{number % 250 + 1}" for number in count())
    clients = [next(names) for _ in range(CLIENTS)]
    zero = await clear_second()
    numbers = count(1)
    second = zero
    while len(log) < COMMANDS:
        while await clear_second() == second:
            await asyncio.sleep(0.01)
        second = await clear_second()
        for place, ip in enumerate(clients):
            for _ in range(rng.choice(BURSTS)):
                mine = [number for other, number in talk.sessions if other == ip]
                number = rng.choice(mine) if mine and rng.random() < 0.94 else 0
                line = "connect"
                if number:
                    line = next_line(rng, talk.sessions[ip, number], stays=number == mine[0])
                number = number or next(numbers)
                second = await clear_second()
                reply = await talk.say(ip, number, line)
                if int(time.time()) != second:
                    clients[place] = next(names)
                    break
                log.append(Said(second - zero, ip, number, line, reply))
    await talk.close()
    return log


async def differences(log: list[Said]) -> list[tuple[Said, str]]:
    """Say the same to the fake, in the same seconds: for each client the first reply that isn't Postfix's, if any."""
    limits = COUNTS | {id_: f"{amount}/{WINDOW}s" for id_, amount in RATES.items()}
    provider = Provider.load("own-postfix").set(limits)
    found: dict[str, tuple[Said, str]] = {}
    async with running(provider, {USER: Account(USER, domains=frozenset(["us.example"]))}) as server:
        assert isinstance(server.clock, VirtualClock)
        talk = Talk(server.port)
        for said in log:
            if said.ip not in found:
                await server.clock.advance(said.second)
                reply = await talk.say(said.ip, said.session, said.line)
                if reply != said.reply:
                    found[said.ip] = said, reply
        await talk.close()
    return list(found.values())


def test_every_reply_is_postfixs(port: int) -> None:
    log = asyncio.run(converse_with_postfix(port))

    assert asyncio.run(differences(log)) == []
