"""`own-postfix` against Debian's Postfix: the same commands from the same addresses in the same seconds.

Postfix goes first, by the wall's clock, and it is written down what it said in which second. Then the fake is asked the
same on a virtual clock that shows those seconds. Only the host's name and the queue's ids may differ.

Postfix's anvil knows whole seconds only, and its window is over when more than `anvil_rate_time_unit` of them have
passed: a unit of 3 s makes windows of 4 (the note of own-postfix says so), and that is what the fake's limits are set
to. Commands keep clear of a second's edges, so that there is no doubt about which one it is.
"""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple

import pytest
from fakes import Client, conversation, encoded, running
from postfix import HOST, missing, postfix

from fake_servers.clock import VirtualClock
from simlib.provider import Provider
from simlib.receiver import Account

COMMANDS: Final = 10_000
SEED: Final = 20261124
CLIENTS: Final = 8
BURSTS: Final = 0, 0, 1, 1, 2, 3, 100, 400  # commands of a client in a second: windows begin with any of them
UNIT: Final = 3  # anvil_rate_time_unit, in seconds
WINDOW: Final = UNIT + 1  # whole seconds until more than that has passed
CLEAR: Final = 0.15, 0.75  # where in a second commands may be sent

RATES: Final = {
    "connections-per-minute": ("smtpd_client_connection_rate_limit", 8),
    "logins-per-minute": ("smtpd_client_auth_rate_limit", 25),
    "messages-per-minute": ("smtpd_client_message_rate_limit", 30),
    "recipients-per-minute": ("smtpd_client_recipient_rate_limit", 40),
}
COUNTS: Final = {
    "connections": ("smtpd_client_connection_count_limit", 3),
    "recipients-per-message": ("smtpd_recipient_limit", 3),
}
SETTINGS: Final = {
    "anvil_rate_time_unit": f"{UNIT}s",
    **{setting: str(amount) for setting, amount in [*RATES.values(), *COUNTS.values()]},
    "smtpd_helo_required": "yes",  # as the profile has it
    "smtpd_discard_ehlo_keywords": "etrn, dsn, chunking",  # left out by the fake
    "smtpd_error_sleep_time": "0",  # errors in a session: not modelled
    "smtpd_soft_error_limit": "1000000",
    "smtpd_hard_error_limit": "1000000",
    "smtpd_junk_command_limit": "1000000",
}
USER: Final = "team@us.example"
EHLO: Final = "EHLO client.example"
PLAIN: Final = {word: f"AUTH PLAIN {encoded(f'{chr(0)}{USER}{chr(0)}{word}')}" for word in ("password", "wrong")}
MAIL: Final = f"MAIL FROM:<{USER}>"
RCPT: Final = "RCPT TO:<to@them.example>"
TEXT: Final = f"From: <{USER}>\r\n\r\n.. hello\r\n."
ANYTHING: Final = (
    *(EHLO, "HELO client.example", "NOOP", "RSET", "QUIT", "close", MAIL, "MAIL FROM:<>", "MAIL FROM:<x@else.example>"),
    *(f"{MAIL} SIZE=1000", f"{MAIL} SIZE=99999999", RCPT, "DATA"),
    *(*PLAIN.values(), "AUTH PLAIN", "AUTH LOGIN", f"AUTH LOGIN {encoded(USER)}"),
)

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with postfix(SETTINGS, {USER: "password"}) as listens_on:
        yield listens_on


def own_postfix() -> Provider:
    rates = {id_: f"{amount}/{WINDOW}s" for id_, (_, amount) in RATES.items()}
    return Provider.load("own-postfix").set(rates | {id_: amount for id_, (_, amount) in COUNTS.items()})


def team(listed: bool) -> dict[str, Account]:
    return {USER: Account(USER, domains=frozenset(["us.example"]), listed=listed)}


# Talking


class Said(NamedTuple):
    """A line, when and by whom it was said, and the reply. "connect" and "close" are lines as well."""

    second: int
    ip: str
    session: int
    line: str
    reply: str


@dataclass
class Dialogue:
    """A session as its client knows it."""

    client: Client
    reply: str
    greeted: bool = False
    authenticated: bool = False
    started: bool = False
    recipients: int = 0

    def note(self, line: str, reply: str) -> None:
        """Learn from a reply where the session stands."""
        verb = line.partition(" ")[0]
        if reply < "4":
            self.greeted |= verb in ("EHLO", "HELO")
            self.authenticated |= reply.startswith("235")
            self.recipients += verb == "RCPT"
            if verb == "MAIL":
                self.started = True
            elif verb in ("EHLO", "HELO", "RSET") or self.reply.startswith("354"):
                self.started, self.recipients = False, 0
        self.reply = reply


@dataclass
class Server:
    """A server, and the sessions that are open with it, by address and number."""

    port: int
    sessions: dict[tuple[str, int], Dialogue] = field(default_factory=dict)

    async def says(self, ip: str, number: int, line: str) -> str:
        """Send a line and return the reply, after the last one of a session when the server has closed it."""
        if line == "connect":
            client = await Client.connect(self.port, ip)
            reply = str(client.banner)
            self.sessions[ip, number] = Dialogue(client, reply)
        elif line == "close":
            client, reply = self.sessions[ip, number].client, ""
            client.writer.write_eof()
        else:
            client = self.sessions[ip, number].client
            reply = str(await client.ask(line))
            self.sessions[ip, number].note(line, reply)
        if line in ("close", "QUIT") or reply.startswith("421"):
            assert await client.is_closed()
            await client.close()
            del self.sessions[ip, number]
        return without_names(reply)

    async def close(self) -> None:
        for dialogue in self.sessions.values():
            await dialogue.client.close()


def without_names(reply: str) -> str:
    """Take out what may differ: the host's name and the queue's id."""
    return re.sub(r"(?<=queued as )\w+", "ID", re.sub(rf"{re.escape(HOST)}|SENDLAB\d{{4}}", "HOST", reply))


def next_line(rng: random.Random, dialogue: Dialogue, stays: bool) -> str:
    """Return what the client says next: mostly what takes it further, otherwise anything at all."""
    if dialogue.reply.startswith("354"):
        return TEXT
    if dialogue.reply.startswith("552"):
        return "RSET"  # or Postfix takes the size that was refused for the next message's (own-postfix's note)
    if dialogue.reply.startswith("334"):
        asked = {encoded("Username:"): USER, encoded("Password:"): rng.choice(["password", "password", "wrong"])}
        return encoded(asked.get(dialogue.reply[4:], f"\0{USER}\0password"))
    line = rng.choice(ANYTHING)
    if rng.random() < 0.7:
        line = RCPT if dialogue.recipients <= rng.randrange(5) else "DATA"
        if not dialogue.started:
            line = MAIL if dialogue.authenticated else PLAIN[rng.choice(["password", "wrong"])]
        if not dialogue.greeted:
            line = EHLO
    if (stays and line in ("QUIT", "close")) or (line.startswith("MAIL") and not dialogue.authenticated):
        return "NOOP"  # mail without a login is refused elsewhere (see below), and who stays is never forgotten
    return line


async def clear_second() -> int:
    """Wait until the clock is well within a second, and return which one it is."""
    while not CLEAR[0] < (now := time.time()) % 1 < CLEAR[1]:
        await asyncio.sleep((CLEAR[0] - now) % 1 + 0.001)
    return int(now)


async def second_after(last: int) -> int:
    """Wait until the clock is well within a later second."""
    while (now := await clear_second()) <= last:
        await asyncio.sleep(last + 1 + CLEAR[0] - time.time())
    return now


async def spoken_with(server: Server) -> list[Said]:
    """Say everything, from several addresses in turn, second by second.

    An address whose command took longer than the second it began in is given up for another one.
    """
    rng = random.Random(SEED)
    addresses = (f"127.0.{number // 250 + 1}.{number % 250 + 1}" for number in count())
    clients = [next(addresses) for _ in range(CLIENTS)]
    log: list[Said] = []
    numbers = count(1)
    zero = second = await clear_second()
    while len(log) < COMMANDS:
        second = await second_after(second)
        for place, ip in enumerate(clients):
            for _ in range(rng.choice(BURSTS)):
                mine = [number for other, number in server.sessions if other == ip]
                number, line = next(numbers), "connect"
                if mine and rng.random() > 0.05:
                    number = rng.choice(mine)
                    line = next_line(rng, server.sessions[ip, number], stays=number == mine[0])
                second = await clear_second()
                reply = await server.says(ip, number, line)
                if int(time.time()) > second:
                    clients[place] = next(addresses)
                    break
                log.append(Said(second - zero, ip, number, line, reply))
    return log


async def differences(server: Server, clock: VirtualClock, log: list[Said]) -> list[tuple[Said, str]]:
    """Say the same in the same seconds, and return the first reply to each address that isn't the same, if any."""
    found: dict[str, tuple[Said, str]] = {}
    for said in log:
        if said.ip not in found:
            await clock.advance(said.second)
            reply = await server.says(said.ip, said.session, said.line)
            if reply != said.reply:
                found[said.ip] = said, reply
    return list(found.values())


def openings(log: list[Said]) -> list[tuple[int, str, str]]:
    """Return when something passed that the last time had been too much for its window: second, address and verb."""
    found = []
    shut: set[tuple[str, str]] = set()
    for said in log:
        verb = said.line.partition(" ")[0]
        if "Error: too m" in said.reply and not said.reply.startswith("452"):
            shut.add((said.ip, verb))
        elif said.reply < "4" and (said.ip, verb) in shut:
            shut.remove((said.ip, verb))
            found.append((said.second, said.ip, verb))
    return found


def test_every_reply_is_postfixs_and_every_window_opens_in_the_same_second(port: int) -> None:
    async def both() -> tuple[list[Said], list[tuple[Said, str]]]:
        real = Server(port)
        log = await spoken_with(real)
        await real.close()
        async with running(own_postfix(), team(listed=False)) as server:
            assert isinstance(server.clock, VirtualClock)
            fake = Server(server.port)
            differ = await differences(fake, server.clock, log)
            await fake.close()
            return log, differ

    log, differ = asyncio.run(both())
    assert differ == []
    # it was worth asking: every limit spoke, and every kind of window was seen to open again
    opened = Counter(verb for _, _, verb in openings(log))
    assert min(opened[verb] for verb in ("connect", "AUTH", "MAIL", "RCPT")) >= 3
    assert {said.reply[:9] for said in log} >= {"452 4.5.3", "552 5.3.4", "554 5.5.1", "535 5.7.8", "250 2.0.0"}


async def replies(port: int, *lines: str, ip: str = "127.0.0.1") -> list[str]:
    """Say some lines in a session of their own."""
    server = Server(port)
    found = [await server.says(ip, 1, line) for line in ("connect", *lines)]
    await server.close()
    return found


@conversation
async def test_a_session_over_tls(port: int) -> None:
    async def session(port: int) -> list[str]:
        client = await Client.connect(port, "127.0.0.2")
        before = [str(client.banner), str(await client.ask(EHLO)), str(await client.starttls())]
        lines = [MAIL, EHLO, "STARTTLS", PLAIN["wrong"], PLAIN["password"], MAIL, RCPT, "DATA", TEXT, "QUIT"]
        after = [str(await client.ask(line)) for line in lines]
        await client.close()
        return list(map(without_names, before + after))

    async with running(own_postfix(), team(listed=False)) as server:
        assert await session(server.port) == await session(port)


@conversation
async def test_a_team_whose_domains_are_listed_is_held_to_them() -> None:
    lines = [EHLO, PLAIN["password"]]
    for sender in ("x@else.example", "other@us.example", ""):
        lines += [f"MAIL FROM:<{sender}>", RCPT, "RSET"]
    owners = {"smtpd_sender_login_maps": f"inline:{{ {{@us.example = {USER}}} }}"}
    with postfix(
        {**SETTINGS, **owners, "smtpd_sender_restrictions": "reject_sender_login_mismatch"}, {USER: "password"}
    ) as port:
        told = await replies(port, *lines)
    async with running(own_postfix(), team(listed=True)) as server:
        assert await replies(server.port, *lines) == told
    assert told[4] == f"553 5.7.1 <x@else.example>: Sender address rejected: not owned by user {USER}"


@conversation
async def test_a_message_that_is_too_big(port: int) -> None:
    line = "x" * 998
    for lines, code in ((10_000, "250"), (10_241, "552")):
        text = "\r\n".join(["", *[line] * lines, "."])
        told = await replies(port, EHLO, PLAIN["password"], MAIL, RCPT, "DATA", text, ip="127.0.0.3")
        async with running(own_postfix(), team(listed=False)) as server:
            assert await replies(server.port, EHLO, PLAIN["password"], MAIL, RCPT, "DATA", text) == told
        assert told[-1][:3] == code


# What the notes of own-postfix say is otherwise


@conversation
async def test_mail_without_a_login_is_refused_one_command_earlier(port: int) -> None:
    told = await replies(port, EHLO, MAIL, RCPT, ip="127.0.0.4")
    assert told[-2:] == ["250 2.1.0 Ok", "554 5.7.1 <to@them.example>: Relay access denied"]
    async with running(own_postfix(), team(listed=False)) as server:
        assert (await replies(server.port, EHLO, MAIL))[-1].startswith("530 5.7.0 sendlab: own-postfix/auth_required")


@conversation
async def test_a_refused_size_sticks_to_the_next_message(port: int) -> None:
    lines = (EHLO, PLAIN["password"], f"{MAIL} SIZE=99999999", MAIL, "RSET", MAIL)
    told = await replies(port, *lines, ip="127.0.0.5")
    async with running(own_postfix(), team(listed=False)) as server:
        ours = await replies(server.port, *lines)
    assert told[4] == told[3] == "552 5.3.4 Message size exceeds fixed limit"
    assert [*told[:4], ours[4], *told[5:]] == ours


@conversation
async def test_a_size_is_counted_with_what_postfix_adds(port: int) -> None:
    text = "\r\n".join(["", *["x" * 998] * 10_239, "x" * 996, "."])
    lines = (EHLO, PLAIN["password"], MAIL, RCPT, "DATA", text)
    assert (await replies(port, *lines, ip="127.0.0.6"))[-1] == "552 5.3.4 Error: message file too big"
    async with running(own_postfix(), team(listed=False)) as server:
        assert (await replies(server.port, *lines))[-1] == "250 2.0.0 Ok: queued as ID"


@conversation
async def test_a_window_is_over_when_more_than_its_unit_has_passed_in_whole_seconds(port: int) -> None:
    """One second later than the fake's; but who left in the second in which it began is forgotten in time."""
    most = RATES["messages-per-minute"][1]
    sign_in, too_many = (EHLO, PLAIN["password"]), (MAIL, "RSET") * most
    addresses = (f"127.0.200.{number}" for number in count(1))

    async def rehearse() -> tuple[list[str], set[int]]:
        """Return what is said to MAIL after the unit and a second after that, and how late the seconds were."""
        server = Server(port)
        stays, leaves = next(addresses), next(addresses)
        zero = await second_after(int(time.time()))
        late = set[int]()
        said = []
        for ip in (stays, leaves):
            for line in ("connect", *sign_in, *too_many, MAIL):
                reply = await server.says(ip, 1, line)
            said.append(reply)
        await server.says(leaves, 1, "QUIT")
        late.add(int(time.time()) - zero)
        await second_after(zero + UNIT - 1)
        said.append(await server.says(stays, 1, MAIL))
        for line in ("connect", *sign_in, MAIL):
            reply = await server.says(leaves, 2, line)
        said.append(reply)
        late.add(int(time.time()) - zero - UNIT)
        await second_after(zero + UNIT)
        said.append(await server.says(stays, 1, MAIL))
        late.add(int(time.time()) - zero - WINDOW)
        await server.close()
        return said, late

    said, late = await rehearse()
    while late != {0}:  # the machine was busy
        said, late = await rehearse()
    assert [reply[:3] for reply in said] == ["450", "450", "450", "250", "250"]

    provider = Provider.load("own-postfix").set({"messages-per-minute": f"{most}/{UNIT}s"})
    async with running(provider, team(listed=False)) as fake:
        assert isinstance(fake.clock, VirtualClock)
        server = Server(fake.port)
        for line in ("connect", *sign_in, *too_many, MAIL):
            reply = await server.says("127.0.0.1", 1, line)
        await fake.clock.advance(UNIT)
        assert [reply[:3], (await server.says("127.0.0.1", 1, MAIL))[:3]] == ["450", "250"]
        await server.close()
