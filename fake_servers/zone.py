"""DNS for a relay under test: reserved domains lead to the fakes, under the names of the providers' real servers.

A relay then sorts, shapes and retries its mail as it would outside. All answers are made here: nothing is ever passed
on to another server, no name is known but reserved ones and those of the providers that are served, and no address is
answered that isn't a loopback address.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from dnslib import CLASS, MX, PTR, QTYPE, RCODE, RD, RR, A, DNSBuffer, DNSHeader, DNSQuestion, DNSRecord

from fake_servers.accounts import is_reserved
from simlib.provider import Provider, names

__all__ = ["Exchange", "Listening", "Zone", "hosts_of", "listen"]

SINK: Final = "generic-mx"
FIRST: Final = 10  # of 127.0.0.x: below are those that people use themselves
TTL: Final = 60  # seconds
LONGEST_NAME: Final = 255  # bytes (RFC 1035 §2.3.4)
LONGEST_LABEL: Final = 63
HEADER: Final = 12  # bytes
IDLE: Final = 30.0  # seconds that a TCP connection may last
TRIES: Final = 16  # ports that are tried if any will do
ADDRESS: Final = re.compile(r"127-(\d{1,3})-(\d{1,3})-(\d{1,3})\.sendlab\.example")
REVERSE: Final = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.127\.in-addr\.arpa")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A server of a provider, as DNS shows it.

    Parameters
    ----------
    provider : str
        Whose it is.
    name : str
        Its host name.
    address : str
        The loopback address on which the provider's fake is reached under that name.
    """

    provider: str
    name: str
    address: str


def hosts_of(provider: Provider) -> tuple[str, ...]:
    """Return the names of a provider's servers, the first that is to be tried first.

    They are the real ones. Where the facts have only what the names end in, ``mx1`` stands before it; where they have
    nothing, it is ``mx.PROVIDER.test``.

    Parameters
    ----------
    provider : Provider
        Its facts.

    Returns
    -------
    tuple of str
        Host names, at least one.

    Examples
    --------
    >>> hosts_of(Provider.load("google-mx"))
    ('gmail-smtp-in.l.google.com', 'aspmx.l.google.com')
    >>> hosts_of(Provider.load("yahoo-mx")), hosts_of(Provider.load("generic-mx"))
    (('mx1.yahoodns.net',), ('mx.generic-mx.test',))
    """
    whole = tuple(host for host in provider.hosts if not host.startswith("."))
    return whole or tuple(f"mx1{host}" for host in provider.hosts) or (f"mx.{provider.name}.test",)


class Zone:
    """What is known of names.

    ``PROVIDER.test`` and all below it belong to that provider. Every other reserved domain belongs to senders: their
    mail, reports among it, goes to ``generic-mx`` if that is served, else to the first mailbox provider that is.

    Parameters
    ----------
    providers : sequence of Provider
        Those that are served.
    host : str
        The address that is in use already.

    Raises
    ------
    ValueError
        If two of them have a host in common: a name leads to one of them only.

    Examples
    --------
    >>> zone = Zone([Provider.load("google-mx"), Provider.load("generic-mx")], "127.0.0.1")
    >>> zone.hosts("d07.google-mx.test")
    ('gmail-smtp-in.l.google.com', 'aspmx.l.google.com')
    >>> zone.address("aspmx.l.google.com"), zone.hosts("us.example"), zone.hosts("google.com")
    ('127.0.0.11', ('mx.generic-mx.test',), None)
    """

    def __init__(self, providers: Sequence[Provider], host: str) -> None:
        free = (address for number in range(FIRST, 255) if (address := f"127.0.0.{number}") != host)
        named = [(provider.name, name) for provider in providers for name in hosts_of(provider)]
        self.exchanges = tuple(Exchange(*pair, address) for pair, address in zip(named, free, strict=False))
        self._addresses: dict[str, str] = {}
        for one in self.exchanges:
            if one.name in self._addresses:
                whose = " and ".join(other.provider for other in self.exchanges if other.name == one.name)
                raise ValueError(f"--dns-port: {whose} both have the host {one.name}: serve them apart")
            self._addresses[one.name] = one.address
        self._hosts = {provider.name: hosts_of(provider) for provider in providers}
        inboxes = [provider.name for provider in providers if provider.role == "delivery"]
        self._inbox = self._hosts[SINK if SINK in inboxes else inboxes[0]] if inboxes else None
        self._known = frozenset(names())

    def hosts(self, domain: str) -> tuple[str, ...] | None:
        """Return the servers that take a domain's mail, best first; None if there is no such domain."""
        labels = domain.split(".")
        if labels[-1] == "test" and len(labels) > 1 and labels[-2] in self._known:
            return self._hosts.get(labels[-2])
        return self._inbox if is_reserved(domain) and labels[-1] != "invalid" else None  # RFC 6761 §6.4

    def address(self, name: str) -> str | None:
        """Return the address of a host, None if it has none."""
        if name == "localhost":
            return "127.0.0.1"
        found = ADDRESS.fullmatch(name)
        if found and all(int(number) < 256 for number in found.groups()):
            return f"127.{'.'.join(str(int(number)) for number in found.groups())}"
        return self._addresses.get(name)

    def _records(self, name: str, kind: str) -> list[RD] | None:
        """Return a name's records of a kind; None if there is no such name."""
        back = REVERSE.fullmatch(name)
        if back:
            host = f"127-{back[3]}-{back[2]}-{back[1]}.sendlab.example"
            return None if self.address(host) is None else [PTR(host)] if kind == "PTR" else []
        hosts, address = self.hosts(name), self.address(name)
        if hosts is None and address is None:
            return None
        if kind == "MX":
            return [MX(host, 10 * number) for number, host in enumerate(hosts or (), 1)]
        return [A(address)] if kind == "A" and address is not None else []

    def answer(self, request: bytes) -> bytes | None:
        """Answer a request; None if it is none, so that two servers can't keep each other busy."""
        if len(request) < HEADER or request[2] & 0x80:
            return None
        try:
            buffer = DNSBuffer(request)
            header = DNSHeader.parse(buffer)
            if header.opcode != 0 or header.q != 1:
                return _failure(request, "NOTIMP" if header.opcode else "FORMERR")
            asked = DNSQuestion.parse(buffer)  # what follows it, an OPT record, changes nothing
        except Exception:  # dnslib meets rubbish with exceptions of many kinds
            return _failure(request, "FORMERR")
        labels = asked.qname.label
        if sum(map(len, labels)) + len(labels) >= LONGEST_NAME or any(len(one) > LONGEST_LABEL for one in labels):
            return _failure(request, "FORMERR")
        if asked.qclass != CLASS.IN:
            return _failure(request, "REFUSED")
        # no name that is known has a dot within a label, or letters beyond ASCII
        name = ".".join(one.decode().lower() if one.isascii() and b"." not in one else "\0" for one in labels)
        records = self._records(name, QTYPE.get(asked.qtype, ""))
        reply = DNSRecord(DNSHeader(id=header.id, qr=1, aa=1, rd=header.rd, ra=1), q=asked)
        if records is None:
            reply.header.rcode = RCODE.NXDOMAIN
        else:
            reply.add_answer(*(RR(asked.qname, asked.qtype, rdata=one, ttl=TTL) for one in records))
        return bytes(reply.pack())


def _failure(request: bytes, code: str) -> bytes:
    """Answer what can't be read, or isn't a question, with its own id."""
    return request[:2] + bytes([0x80 | request[2] & 0x79, getattr(RCODE, code)]) + bytes(HEADER - 4)


# Listening


class _Datagrams(asyncio.DatagramProtocol):
    """UDP. Every answer fits in a datagram of 512 bytes."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self.zone.answer(data)
        if answer is not None:
            self.transport.sendto(answer, addr)


class _Stream(asyncio.Protocol):
    """TCP: two bytes say how long a message is (RFC 1035 §4.2.2)."""

    def __init__(self, zone: Zone, connections: set["_Stream"]) -> None:
        self.zone = zone
        self.connections = connections
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.timer = asyncio.get_running_loop().call_later(IDLE, transport.close)
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.timer.cancel()
        self.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer
        buffer += data
        while len(buffer) >= 2 and len(buffer) >= (end := 2 + int.from_bytes(buffer[:2])):
            answer = self.zone.answer(bytes(buffer[2:end]))
            del buffer[:end]
            if answer is None:
                self.transport.close()
                return
            self.transport.write(len(answer).to_bytes(2) + answer)


@dataclass(frozen=True, slots=True)
class Listening:
    """A zone that is asked over UDP and TCP.

    Parameters
    ----------
    port : int
        The port of both.
    """

    port: int
    _server: asyncio.Server
    _datagrams: asyncio.DatagramTransport
    _connections: set[_Stream]

    def close(self) -> None:
        """Close everything."""
        self._server.close()
        self._datagrams.close()
        for connection in tuple(self._connections):
            connection.transport.close()


async def listen(zone: Zone, host: str, port: int) -> Listening:
    """Answer for a zone; port 0 picks one that is free for UDP and TCP.

    Parameters
    ----------
    zone : Zone
        What is answered.
    host, port : str, int
        Where to listen.

    Returns
    -------
    Listening
        Both sockets, and the port that they have.

    Raises
    ------
    OSError
        If the port can't be had.
    """
    loop = asyncio.get_running_loop()
    connections: set[_Stream] = set()
    for left in reversed(range(TRIES)):
        server = await loop.create_server(lambda: _Stream(zone, connections), host, port)
        number = server.sockets[0].getsockname()[1]
        # bound by hand: asyncio's own error doesn't say what was wrong
        datagrams = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            datagrams.bind((host, number))
        except OSError:
            datagrams.close()
            server.close()
            if port or not left:
                raise
        else:
            datagrams.setblocking(False)
            transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(zone), sock=datagrams)
            return Listening(number, server, transport, connections)
    raise AssertionError
