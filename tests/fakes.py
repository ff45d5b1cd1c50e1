"""Fakes in this process, on free ports, and a raw client that says exactly what it is told to."""

import asyncio
import datetime as dt
import json
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache, wraps
from pathlib import Path
from typing import Any, NamedTuple

from fake_servers import tls
from fake_servers.accounts import Anybody
from fake_servers.clock import Clock, VirtualClock
from fake_servers.ledger import Ledger
from fake_servers.server import Connection, Fake, Shared
from simlib.faults import NO_FAULTS, Faults
from simlib.provider import Provider
from simlib.receiver import Account

START = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)


class Answer(NamedTuple):
    """A reply as it stood on the wire: its code, and its lines without it."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.banner: Answer

    @classmethod
    async def connect(cls, port: int, ip: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> "Client":
        client = cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(ip, 0), ssl=context))
        try:
            client.banner = await client.answer()
        except asyncio.IncompleteReadError:
            await client.close()
            raise
        return client

    async def answer(self) -> Answer:
        lines = []
        while True:
            line = (await self.reader.readuntil(b"\r\n"))[:-2].decode()
            lines.append(line[4:])
            if line[3:4] != "-":
                return Answer(int(line[:3]), "\n".join(lines))

    def send(self, data: str | bytes) -> None:
        self.writer.write(data.encode() if isinstance(data, str) else data)

    async def ask(self, command: str | bytes) -> Answer:
        self.send(command if isinstance(command, bytes) else f"{command}\r\n")
        return await self.answer()

    async def starttls(self) -> Answer:
        answer = await self.ask("STARTTLS")
        await self.writer.start_tls(trusting())
        return answer

    async def hello(self, tls: bool = False) -> Answer:
        answer = await self.ask("EHLO client.example")
        if tls:
            await self.starttls()
            answer = await self.ask("EHLO client.example")
        return answer

    async def envelope(self, mail_from: str, *rcpt_to: str) -> Answer:
        """MAIL, RCPT and DATA: the first refusal, or the 354."""
        answer = await self.ask(f"MAIL FROM:<{mail_from}>")
        for recipient in rcpt_to or ("to@them.example",):
            if answer.code < 400:
                answer = await self.ask(f"RCPT TO:<{recipient}>")
        return await self.ask("DATA") if answer.code < 400 else answer

    async def message(self, mail_from: str, *rcpt_to: str, text: str = "Subject: hello\r\n\r\nhello\r\n") -> Answer:
        answer = await self.envelope(mail_from, *rcpt_to)
        return await self.ask(f"{text}.\r\n".encode()) if answer.code == 354 else answer

    async def is_closed(self) -> bool:
        """Wait for the end, and say whether nothing came before it."""
        return await self.reader.read() == b""

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


class Running(NamedTuple):
    """A fake that runs."""

    fake: Fake
    port: int
    ledger: Ledger
    clients: list[Client]

    @property
    def clock(self) -> Clock:
        return self.fake.clock

    @property
    def entries(self) -> list[dict[str, Any]]:
        """What the ledger has."""
        return [json.loads(line) for line in self.ledger.read(0, self.ledger.size()).splitlines()]

    async def connect(self, ip: str = "127.0.0.1") -> Client:
        self.clients.append(await Client.connect(self.port, ip))
        return self.clients[-1]

    async def log_in(self, user: str = "rep01@us.example", password: str = "password") -> Client:
        """A session that has said EHLO, STARTTLS and AUTH."""
        client = await self.connect()
        await client.hello(tls=self.fake.provider.tls == "required")
        await client.ask(f"AUTH LOGIN {encoded(user)}")
        answer = await client.ask(encoded(password))
        assert answer.code == 235
        return client

    async def until_waiting(self, replies: int) -> None:
        """Wait until the fake holds so many replies."""
        while self.fake.waiting < replies:
            await asyncio.sleep(0)

    async def until_open(self, connections: int) -> None:
        """Wait until so many connections are open."""
        while len(self.fake.connections) != connections:
            await asyncio.sleep(0)


@asynccontextmanager
async def running(
    provider: Provider | str,
    accounts: Mapping[str, Account] | None = None,
    clock: Clock | None = None,
    start: dt.datetime = START,
    ledger: Path | None = None,
    faults: Faults = NO_FAULTS,
) -> AsyncIterator[Running]:
    """Run a fake, on a virtual clock if none is given."""
    if isinstance(provider, str):
        provider = Provider.load(provider).on(start.date())
    loop = asyncio.get_running_loop()
    shared = Shared(clock or VirtualClock(), Ledger(ledger), start, loop.create_future())
    assert shared.context is not None
    shared.context.set_result(certificates())
    fake = Fake(provider, Anybody if accounts is None else lambda: accounts, shared, faults=faults)
    connections: list[Connection] = []

    def connection() -> Connection:
        connections.append(Connection(fake))
        return connections[-1]

    server = await loop.create_server(connection, "127.0.0.1", 0)
    clients: list[Client] = []
    try:
        yield Running(fake, server.sockets[0].getsockname()[1], shared.ledger, clients)
    finally:
        server.close()
        fake.close()
        for client in clients:
            await client.close()
        while any(one.transport is not None for one in connections):
            await asyncio.sleep(0)
        shared.ledger.close()


@cache
def certificates() -> ssl.SSLContext:
    return tls.context(["localhost", "127.0.0.1"])


@cache
def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def conversation(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


def encoded(text: str) -> str:
    """Base64, as AUTH wants it."""
    return b64encode(text.encode()).decode()


def bearer(user: str, token: str) -> str:
    """The response of XOAUTH2."""
    return encoded(f"user={user}\1auth=Bearer {token}\1\1")
