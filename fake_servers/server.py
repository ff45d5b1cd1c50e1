"""One provider being served, and one connection to it, on aiosmtpd.

aiosmtpd has the connection, the STARTTLS handshake and the shape of a server; the `Receiver` has every decision. What
is overridden here is what a fake can't use (sentences of aiosmtpd's own, no hook at CONNECT, a 421 that leaves the
connection open) and what costs time (reflection for each connection, a timer for each command, a drain for each reply,
DATA line by line).

Replies leave together when there is no more input to answer (RFC 2920 §3.2), and only after their ledger line.
"""

import asyncio
import datetime as dt
import logging
import math
import re
import ssl
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from aiosmtpd.smtp import SMTP, TLSSetupException

from fake_servers import wire
from fake_servers.clock import Clock
from fake_servers.ledger import Ledger
from simlib.faults import NO_FAULTS, Faults, FaultyReceiver
from simlib.provider import Provider, Reply, Stage, When
from simlib.receiver import Account, Session
from simlib.reputation import Reputation

Sentence = tuple[int, str, str]

__all__ = ["Connection", "Fake", "Listener", "Shared"]

log = logging.getLogger("fake_servers")

IDLE: Final = 300.0  # seconds of real time (RFC 5321 §4.5.3.2.7)
LINGER: Final = 2.0  # seconds that a client has to read the 421 before the connection is cut
LINE: Final = 512  # bytes in a command line, CRLF included (RFC 5321 §4.5.3.1.4)
LINES: Final = {b"MAIL": 1024, b"RCPT": 1024, b"AUTH": 16384}  # with parameters; with tokens (RFC 4954 §4: 12288)
AUTH_LINE: Final = 16384
ENDLESS: Final = 2**20  # bytes without a line's end that are not taken for a slip any more
HEAD: Final = 2**16  # bytes of a message that are searched for its headers
REPORT: Final = 2**18  # bytes of a message from the null sender that are read as a report
READ: Final = 2**16  # bytes that one read may bring
ERRORS: Final = 20  # commands in a session that no server understands (Postfix's smtpd_hard_error_limit)
OVERSHOOT: Final = 1000  # refused recipients of a message (Postfix's smtpd_recipient_overshoot_limit)
LINE_DOT: Final = re.compile(rb"\r\n\.")
TURN: Final = 100  # commands after which other connections get their turn

# What RFC 5321 §4.2.2 and RFC 4954 §6 say themselves: no provider's sentence. Code, enhanced code, text.
UNRECOGNIZED: Final = 500, "5.5.2", "Syntax error, command unrecognized"
TOO_LONG: Final = 500, "5.5.2", "Line too long"
AUTH_TOO_LONG: Final = 500, "5.5.6", "Authentication Exchange line is too long"
BAD_ARGUMENT: Final = 501, "5.5.4", "Syntax error in parameters or arguments"
NOT_IMPLEMENTED: Final = 502, "5.5.1", "Command not implemented"
NO_SUCH_MECHANISM: Final = 504, "5.5.4", "Command parameter not implemented"
NO_SUCH_PARAMETER: Final = 555, "5.5.4", "MAIL FROM/RCPT TO parameters not recognized or not implemented"
NOT_ASCII: Final = 553, "5.6.7", "Non-ASCII addresses not permitted for that sender/recipient"
CANCELLED: Final = 501, "5.7.0", "Authentication cancelled"
NOT_BASE64: Final = 501, "5.5.2", "Cannot decode response"
CANNOT_VERIFY: Final = 252, "2.1.5", "Cannot VRFY user, but will accept message and attempt delivery"
HELP: Final = 214, "2.0.0", "See RFC 5321"
NOOP: Final = 250, "2.0.0", "Ok"
CLOSING: Final = "Service not available, closing transmission channel"
TOO_MANY_ERRORS: Final = 421, "4.7.0", CLOSING
IDLE_TOO_LONG: Final = 421, "4.4.2", CLOSING
SHUTTING_DOWN: Final = 421, "4.3.2", CLOSING
BROKEN: Final = 421, "4.3.0", CLOSING


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a provider listens.

    Parameters
    ----------
    host, port : str, int
        The address.
    tls : bool
        Whether TLS starts at once (RFC 8314 §3), without STARTTLS.
    name : str
        The host's name in the DNS that is served beside it, if it is there for that.
    """

    host: str
    port: int
    tls: bool
    name: str = ""


@dataclass(slots=True)
class Shared:
    """What all fakes of a process have in common.

    Parameters
    ----------
    clock : Clock
        The providers' clock.
    ledger : Ledger
        Where outcomes are written.
    start : datetime
        What the clock shows at second 0.
    context : future of SSLContext, optional
        For STARTTLS; it may still be in the making.
    """

    clock: Clock
    ledger: Ledger
    start: dt.datetime
    context: "asyncio.Future[ssl.SSLContext] | None" = None


class Message(NamedTuple):
    """What is known of a message when a command is answered, as the ledger has it."""

    account: str
    mail_from: str = ""
    recipients: int = 0
    bytes: int = 0
    message_id: str = ""
    report: dict[str, Any] | None = None
    opened: float = 0.0  # when its session began


class Fake:
    """One provider being served: its receiver, its connections, and what is counted.

    Parameters
    ----------
    provider : Provider
        The facts, with readings, amounts and date already chosen.
    accounts : callable
        Makes the accounts as they are at second 0.
    shared : Shared
        Clock, ledger and certificates.
    reputation : Reputation, optional
        How it forms its opinion of an IP; it has none by default.
    faults : Faults, optional
        What goes wrong; nothing by default.
    """

    def __init__(
        self,
        provider: Provider,
        accounts: Callable[[], Mapping[str, Account]],
        shared: Shared,
        reputation: Reputation | None = None,
        faults: Faults = NO_FAULTS,
    ) -> None:
        self.provider = provider
        self.shared = shared
        self.clock = shared.clock
        self.listeners: list[Listener] = []
        self.connections: set[Connection] = set()
        self.unsent: list[Connection] = []
        self.waiting = 0  # replies that are held at this moment
        self.accepted = 0
        self.sessions = 0
        self.auth_failures = 0
        self.held: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.recent: deque[dict[str, Any]] = deque(maxlen=50)
        self.fixed: dict[tuple[int, str, str], bytes] = {}
        self.ehlo = _ehlo(provider, tls=False), _ehlo(provider, tls=True)
        self.keywords = tuple(frozenset(re.split("[ =]", line)[0] for line in text[1:]) for text in self.ehlo)
        self.needs_author = provider.credential in ("account", "domain")
        self._accounts = accounts
        self.issued: dict[str, tuple[str, str]] = {}
        self._reputation = reputation
        self.receiver = FaultyReceiver(provider, accounts(), shared.start, reputation, faults)

    def reset(self) -> None:
        """Forget every session, window, token and changed password; open connections are closed, faults begin anew."""
        self.close()
        self.issued.clear()
        faults = self.receiver.faults
        self.receiver = FaultyReceiver(self.provider, self._accounts(), self.shared.start, self._reputation, faults)

    def close(self) -> None:
        """Close every connection."""
        for connection in tuple(self.connections):
            connection.cut(SHUTTING_DOWN)

    def send_soon(self, connection: "Connection") -> None:
        """Send what a connection has said, at the end of this round of the loop together with what others have.

        Clients on this machine then wake up once for all replies, not once for each.
        """
        if not self.unsent:
            connection.loop.call_soon(self._send)
        self.unsent.append(connection)

    def _send(self) -> None:
        unsent, self.unsent = self.unsent, []
        for connection in unsent:
            connection.flush()

    def user_of(self, refresh_token: str) -> str | None:
        """Return whose refresh token it is."""
        accounts = self.receiver.accounts
        named = accounts.get(refresh_token.lower())
        if named is not None and named.refresh_token == refresh_token:
            return named.user
        return next((account.user for account in accounts.values() if account.refresh_token == refresh_token), None)

    def issue_token(self, user: str, refresh_token: str, length: int = 0) -> str | None:
        """Give an access token of at least `length` characters: see `Receiver.issue_token`."""
        token = self.receiver.issue_token(user, refresh_token, self.clock.now())
        if not token:
            return token
        shown = token if len(token) >= length else f"{token}.{token * (length // len(token))}"[:length]
        self.issued[shown] = user.lower(), token
        return shown

    def note(self, session: Session, reply: Reply, text: str, now: float, message: Message) -> None:
        """Count an outcome and write it to the ledger."""
        entry: dict[str, Any] = {
            "time": now,
            "provider": self.provider.name,
            "session": session.number,
            "ip": session.ip,
            "account": message.account,
            "mail_from": message.mail_from,
            "recipients": message.recipients,
            "bytes": message.bytes,
            "message_id": message.message_id,
            "stage": reply.stage,
            "code": reply.code,
            "enhanced": reply.enhanced,
            "text": text,
            "limit": reply.limit,
            "held": reply.held,
            "opened": message.opened,
            "tls": session.tls,
        }
        if message.report is not None:
            entry["report"] = message.report
        if reply.fault:
            entry["fault"] = reply.fault
        self.shared.ledger.write(entry)
        if reply.accepted:
            self.accepted += 1
            if reply.held:
                self.held[reply.limit] += 1
        elif reply.code:
            self.refused[reply.limit] += 1
            self.recent.append(entry)


def _ehlo(provider: Provider, tls: bool) -> tuple[str, ...]:
    """Return the lines of the EHLO reply; where no source has it, the keywords of what works here."""
    when: When = "ehlo_tls" if tls else "ehlo"
    lines = provider.says(when, "EHLO").text.split("\n")
    caps = [limit for limit in provider.limits if (limit.count, limit.per) == ("bytes", "message") and limit.limit]
    if provider.speaks_of(when):
        sizes = {
            f"SIZE {limit.limit.amount:.0f}" for limit in caps if limit.limit
        }  # of an account's own, if it has one
        return tuple(sizes.pop() if sizes and line.startswith("SIZE ") else line for line in lines)
    if provider.tls != "none" and not tls:
        lines.append("STARTTLS")
    if provider.auth and (tls or provider.tls != "required"):
        lines.append(" ".join(("AUTH", *provider.auth)))
    lines += [f"SIZE {limit.limit.amount:.0f}" for limit in caps if limit.limit]
    return (*lines, "PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8")


class Reader(asyncio.StreamReader):
    """What has arrived and isn't read yet: taken out a line, or a whole message, at a time."""

    _buffer: bytearray
    _eof: bool

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(READ, loop)
        self.fed = 0
        self._searched = 0
        self._overrun = 0

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]
        """Take what has arrived."""
        self.fed += 1
        super().feed_data(data)

    async def more(self) -> None:
        """Wait for more.

        Raises
        ------
        EOFError
            If there will be none.
        """
        if self._eof:
            raise EOFError
        await self._wait_for_data("more")  # type: ignore[attr-defined]

    def line(self) -> bytes | None:
        """Return the next line with its end, None if it isn't complete; one that is far too long comes as ``b""``.

        Raises
        ------
        OverflowError
            If it doesn't end at all.
        """
        buffer = self._buffer
        end = buffer.find(b"\n", self._searched)
        if end < 0:
            if len(buffer) > AUTH_LINE:
                self._overrun += len(buffer) - 1
                del buffer[:-1]
                if self._overrun > ENDLESS:
                    raise OverflowError
            self._searched = len(buffer)
            return None
        line = bytes(buffer[: end + 1])
        del buffer[: end + 1]
        self._searched = 0
        if self._overrun:
            self._overrun = 0
            return b""
        return line

    async def message(self, whole: bool = False) -> tuple[int, bytes]:
        r"""Read a message up to its lone dot: its size in bytes, and its header block, or as much as a report may have.

        Only ``\r\n.\r\n`` ends it (RFC 5321 §4.1.1.4); any other dot is text, whatever line ends are around it.
        """
        buffer = self._buffer
        buffer[:0] = b"\r\n"  # the end of the line before the text begins, so that a dot at once is found as well
        most = REPORT if whole else HEAD
        size, head, at = -2, b"", 0
        while True:
            found = LINE_DOT.search(buffer, at, len(buffer) - 2)  # once over the text, three times as fast as `find`
            if found is None:
                at = max(at, len(buffer) - 4)
                if at > READ:
                    if len(head) < most:
                        head += bytes(buffer[:at])
                    size += at
                    del buffer[:at]
                    at = 0
                await self.more()
            elif buffer.startswith(b"\r\n", found.end()):
                break
            else:
                size -= 1  # a dot that was doubled counts once (§4.5.2)
                at = found.end()
        end = found.start()
        size += end + 2
        if whole:
            head = (head + buffer[: end + 2])[:most].replace(b"\r\n..", b"\r\n.")
        elif not head:
            blank = buffer.find(b"\r\n\r\n", 0, end + 4)
            head = bytes(buffer[: blank if 0 <= blank < end else end + 2])
        del buffer[: end + 5]
        return size, head if whole else head.partition(b"\r\n\r\n")[0] + b"\r\n"

    async def discard(self) -> None:
        """Read until the client closes, and keep nothing."""
        while True:
            self._buffer.clear()
            await self.more()


class Connection(SMTP):
    """One client's connection.

    Parameters
    ----------
    fake : Fake
        The provider it talks to.
    tls : bool
        Whether TLS has begun already.
    """

    _reader: Reader
    _paused: bool
    _handle_hooks: dict[str, Any] = {}  # noqa: RUF012 # aiosmtpd asks for hooks here; there are none

    def __init__(self, fake: Fake, tls: bool = False) -> None:
        # not SMTP.__init__: it looks up its own methods by reflection, each time, and takes hooks that aren't used here
        loop = asyncio.get_running_loop()
        asyncio.StreamReaderProtocol.__init__(self, Reader(loop), self._cb_client_connected, loop)
        self.loop = loop
        self.enable_SMTPUTF8 = False
        self.transport = None
        self._original_transport = None
        self._tls_protocol = None
        self._timeout_handle = None
        self._handler_coroutine = None
        self.fake = fake
        self.out = bytearray()
        self.over = False
        self.holding = False
        self._implicit_tls = tls
        self._fed = 0
        self._errors = 0
        self._overshoot = 0
        self._turn = 0
        self._lingers = False
        self._utf8 = False
        self._mail_from: str | None = None  # of the transaction in progress
        self._size = 0
        self._now = 0.0
        self._opened = 0.0
        self.dialogue: Session

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; also called when the STARTTLS handshake is done."""
        if hasattr(transport, "max_size"):
            transport.max_size = READ  # asyncio's own 256 kB are allocated anew for each read
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Be told that the client has gone. What it was told, or would have been, stands."""
        self._leave()
        super().connection_lost(error)

    def eof_received(self) -> bool:
        """Be told that the client says no more; what it said before is still answered, unless it would have to wait."""
        self._reader.feed_eof()
        if self.holding:
            self._leave()
        return not (self.holding or self._implicit_tls or self._tls_protocol is not None)

    def cut(self, sentence: Sentence) -> None:
        """Say a last word and close."""
        if not self.over and not self.holding:
            self._put(Reply(*sentence, self._stage()))
        self._leave()
        self.flush()
        if self.transport is not None:
            cast(asyncio.WriteTransport, self.transport).close()

    def _leave(self) -> None:
        """Be gone, for the receiver."""
        self.over = True
        if self in self.fake.connections:
            self.fake.connections.discard(self)
            self.fake.receiver.disconnect(self.dialogue, self.fake.clock.now())

    def _reset_timeout(self, duration: float | None = None) -> None:
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_later(IDLE, self._timeout_cb)

    def _timeout_cb(self) -> None:
        if self._fed == self._reader.fed and not self.holding:
            self.cut(IDLE_TOO_LONG)
            return
        self._fed = self._reader.fed
        self._timeout_handle = self.loop.call_later(IDLE, self._timeout_cb)

    def _set_post_data_state(self) -> None:
        """Nothing: the receiver's session has the state."""

    async def push(self, status: Any) -> None:
        """Send what was said; aiosmtpd's own sentence is dropped."""
        self.flush()

    async def _handle_client(self) -> None:
        try:
            await self._greet()
            await self._converse()
            await self._part()
        except (EOFError, ConnectionError):
            pass  # the client has gone
        except TLSSetupException:
            assert self._original_transport is not None
            self._original_transport.close()  # nobody else will: the TLS layer has never begun
            self.transport = None
        except Exception:
            log.exception("%s: a connection was closed", self.fake.provider.name)
            self.cut(BROKEN)
        finally:
            self._leave()
            assert self._timeout_handle is not None
            self._timeout_handle.cancel()
            if self.transport is not None:
                self.flush()
                cast(asyncio.WriteTransport, self.transport).close()

    async def _greet(self) -> None:
        fake = self.fake
        assert self.session is not None
        if self.session.peer is None:
            raise ConnectionResetError  # it has gone before anybody saw who it was
        self._opened = self._tick()
        self.dialogue, reply = fake.receiver.connect(self.session.peer[0], self._opened)
        if self._implicit_tls:
            fake.receiver.starttls(self.dialogue, self._now)
        fake.sessions += 1
        fake.connections.add(self)
        await self._tell(reply)
        if reply.code >= 400:
            self.over = self._lingers = True

    async def _converse(self) -> None:
        commands = COMMANDS
        while not self.over:
            try:
                line = await self._line()
            except OverflowError:
                self._protest(TOO_MANY_ERRORS)
                return
            verb, _, rest = line.partition(b" ")
            verb = verb.rstrip().upper()
            command = commands.get(verb)
            # the end of a line is CRLF, and nothing else (RFC 5321 §2.3.8)
            if not line.endswith(b"\r\n") or b"\r" in line[:-2] or b"\0" in line:
                self._protest(UNRECOGNIZED if line else TOO_LONG)
            elif command is None:
                self._protest(NOT_IMPLEMENTED if verb in KNOWN else TOO_MANY_ERRORS if verb in HTTP else UNRECOGNIZED)
            elif len(line) > LINES.get(verb, LINE):
                self._protest(AUTH_TOO_LONG if verb == b"AUTH" else TOO_LONG)
            else:
                try:
                    argument = rest.strip().decode()
                except UnicodeDecodeError:
                    self._protest(BAD_ARGUMENT)
                else:
                    await command(self, argument)

    async def _line(self) -> bytes:
        """Return the next line; before waiting for it, send what was said."""
        reader = self._reader
        while (line := reader.line()) is None:
            await self._send()
            await reader.more()
            self._go_on()
        self._turn += 1
        if self._turn % TURN == 0:
            await self._send()
            await asyncio.sleep(0)
        return line

    def _go_on(self) -> None:
        """Give up if the connection was closed in the meantime: nobody hears any more what would be answered."""
        if self.over:
            raise ConnectionResetError

    async def _part(self) -> None:
        """Close after a 421 in such a way that the client can read it, whatever it is still sending."""
        self._leave()
        self.flush()
        transport = cast(asyncio.WriteTransport, self.transport)
        if self._lingers and transport.can_write_eof():
            transport.write_eof()
            try:
                async with asyncio.timeout(LINGER):
                    await self._reader.discard()
            except TimeoutError:
                transport.abort()

    # Replies

    def _tick(self) -> float:
        """Look at the clock: the moment of a decision is that of its ledger line."""
        self._now = self.fake.clock.now()
        return self._now

    def _say(self, reply: Reply, account: str | None = None, message_id: str = "") -> None:
        """Answer, after a ledger line if it is a refusal; 421 ends the session."""
        if reply.code >= 400:
            reply = self._refuse(reply, account, message_id)
        self._put(reply)
        if reply.closes:
            self.over = self._lingers = True

    async def _tell(self, reply: Reply, account: str | None = None, message_id: str = "") -> None:
        """Answer what the receiver has decided; and if a fault had a hand in it, as the fault will have it."""
        if not reply.fault:
            self._say(reply, account, message_id)
            return
        if not reply.accepted and reply.code != 354:
            reply = self._refuse(reply, account, message_id)
        await self._send()
        await self._spoil(reply)

    async def _spoil(self, reply: Reply) -> None:
        """Answer late, for the last time, or not at all."""
        leaves = math.inf if reply.breaks == "silence" else self._now + reply.delay
        if leaves > self._now:
            await self._hold(leaves)
            self._now = leaves
        if reply.breaks != "instead":
            self._put(reply)
        if reply.breaks or reply.closes:
            self.over = self._lingers = True

    def _protest(self, sentence: Sentence, stage: Stage | None = None) -> None:
        """Say a sentence of the protocol itself."""
        self._tick()
        self._say(Reply(*sentence, stage or self._stage()))

    def _stage(self) -> Stage:
        """Return where the session stands, for what belongs to no command."""
        return "RCPT" if self.dialogue.started else "MAIL" if self.dialogue.greeted else "EHLO"

    def _refuse(self, reply: Reply, account: str | None, message_id: str) -> Reply:
        """Count a refusal, and write it to the ledger; return it, or the last one that there will be."""
        fake, dialogue, now, stage = self.fake, self.dialogue, self._now, reply.stage
        if reply.code in JUNK:
            self._errors += 1
        elif stage == "RCPT":
            self._overshoot += 1
        if self._errors >= ERRORS or self._overshoot > OVERSHOOT:
            reply = Reply(*TOO_MANY_ERRORS, stage)
        who = dialogue.account if account is None else account
        message = Message(who, message_id=message_id, opened=self._opened)
        if self._mail_from is not None and stage in ("MAIL", "RCPT", "DATA", "EOD"):
            recipients = dialogue.recipients if stage != "MAIL" else 0
            message = message._replace(mail_from=self._mail_from, recipients=recipients, bytes=self._size)
        fake.note(dialogue, reply, fake.receiver.render(reply, dialogue, now + reply.delay), now, message)
        return reply

    def _put(self, reply: Reply) -> None:
        """Queue a reply for sending."""
        key = reply[:3]
        data = self.fake.fixed.get(key)
        if data is None:
            text = self.fake.receiver.render(reply, self.dialogue, self._now)
            data = wire.reply(reply.code, reply.enhanced, text)
            if text is reply.text:
                self.fake.fixed[key] = data
        self.out += data

    def flush(self) -> None:
        """Send what was said."""
        if self.out and self.transport is not None:
            cast(asyncio.WriteTransport, self.transport).write(bytes(self.out))
        self.out.clear()

    async def _send(self) -> None:
        """Let what was said be sent; wait if the client doesn't read."""
        if self.transport is None:
            raise ConnectionResetError
        if self.out:
            self.fake.send_soon(self)
        if self._paused:
            await self._drain_helper()  # type: ignore[attr-defined]

    # Commands

    async def smtp_EHLO(self, argument: str) -> None:
        """EHLO: who is there, and what works."""
        await self._hello(argument, extended=True)

    async def smtp_HELO(self, argument: str) -> None:
        """HELO: as EHLO, without the keywords."""
        await self._hello(argument, extended=False)

    async def _hello(self, argument: str, extended: bool) -> None:
        if not argument or not argument.isascii():
            self._protest(BAD_ARGUMENT, "EHLO")
            return
        self._mail_from = None
        reply = self.fake.receiver.ehlo(self.dialogue, self._tick())
        if reply.accepted:
            lines = self.fake.ehlo[self.dialogue.tls]
            reply = reply._replace(text="\n".join(lines if extended else lines[:1]))
        await self._tell(reply)

    async def smtp_STARTTLS(self, argument: str) -> None:
        """STARTTLS: the handshake, and everything said before it is forgotten (RFC 3207 §4.2)."""
        fake = self.fake
        if argument:
            self._protest(BAD_ARGUMENT, "EHLO")
        elif fake.shared.context is None or fake.provider.tls == "none":
            self._protest(NOT_IMPLEMENTED, "EHLO")
        elif self.dialogue.tls:
            self._say(fake.receiver.starttls(self.dialogue, self._tick()))
        else:
            await self._send()
            self.tls_context = await asyncio.shield(fake.shared.context)
            self._mail_from = None
            self._say(fake.receiver.starttls(self.dialogue, self._tick()))
            await super().smtp_STARTTLS("")

    async def smtp_AUTH(self, argument: str) -> None:
        """AUTH: LOGIN, PLAIN, XOAUTH2 or OAUTHBEARER, as far as the provider has them (RFC 4954)."""
        fake, dialogue = self.fake, self.dialogue
        provider = fake.provider
        mechanism, _, initial = argument.partition(" ")
        mechanism = mechanism.upper()
        if not provider.auth:
            self._protest(NOT_IMPLEMENTED, "AUTH")
        elif refusal := fake.receiver.begin_auth(dialogue, self._tick()):
            self._say(refusal)  # before the secret is sent
        elif mechanism not in provider.auth:
            self._protest(NO_SUCH_MECHANISM if mechanism else BAD_ARGUMENT, "AUTH")
        elif mechanism in ("LOGIN", "PLAIN"):
            await self._password(mechanism, initial)
        else:
            await self._token(mechanism, initial)

    async def _password(self, mechanism: str, initial: str) -> None:
        fake = self.fake
        credential: wire.Credential | None
        if mechanism == "LOGIN":
            user = await self._response(initial, "Username:")
            password = None if user is None else await self._response("", "Password:")
            if user is None or password is None:
                return
            credential = wire.Credential(user, password)
        else:
            response = await self._response(initial, "")
            if response is None:
                return
            credential = wire.plain(response)
            if credential is None:
                self._protest(NOT_BASE64, "AUTH")
                return
        user, password, acts_as = credential
        if acts_as and acts_as.lower() != user.lower():
            reply = fake.provider.says("auth_failed", "AUTH")  # nobody may act as somebody else (RFC 4616 §2)
        else:
            reply = fake.receiver.auth(self.dialogue, user, password, self._tick(), begun=True)
        await self._logged_in(reply, user)

    async def _token(self, mechanism: str, initial: str) -> None:
        fake = self.fake
        response = await self._response(initial, "")
        if response is None:
            return
        user, secret, _ = wire.bearer(response) or wire.Credential("", "")
        owner, token = fake.issued.get(secret, ("", ""))
        user = user or owner
        reply = fake.receiver.auth(self.dialogue, user, token, self._tick(), token=True, begun=True)
        explains = mechanism == "OAUTHBEARER" or fake.provider.speaks_of("token_challenge")
        if explains and reply == fake.provider.says("token_refused", "AUTH"):
            # the error comes as a challenge, the client answers anything, and only then it fails (RFC 7628 §3.2.3)
            challenge = fake.provider.says("token_challenge", "AUTH")
            await self._challenge(fake.receiver.render(challenge, self.dialogue, self._tick()))
        await self._logged_in(reply, user)

    async def _logged_in(self, reply: Reply, user: str) -> None:
        if reply.code >= 400 and not (reply.limit or reply.fault):
            self.fake.auth_failures += 1
        await self._tell(reply, account=user.lower())

    async def _response(self, initial: str, challenge: str) -> str | None:
        """Return what the client answers, decoded, or None if it was refused already."""
        line = initial.encode() or await self._challenge(challenge)
        if line == b"*":
            self._protest(CANCELLED, "AUTH")
            return None
        response = wire.decoded(line.decode("ascii", "replace")) if line is not None else None
        if response is None:
            self._protest(AUTH_TOO_LONG if line is None else NOT_BASE64, "AUTH")
        return response

    async def _challenge(self, text: str) -> bytes | None:
        """Send a challenge and return the line that answers it; None if it is too long."""
        self.out += b"334 " + b64encode(text.encode()) + b"\r\n"
        try:
            line = await self._line()
        except OverflowError:
            return None
        return line.strip() if 0 < len(line) <= AUTH_LINE else None

    async def smtp_MAIL(self, argument: str) -> None:
        """MAIL FROM: a transaction begins."""
        fake = self.fake
        found = wire.path(argument, "FROM:")
        if found is None or found.address.lower() == "postmaster":
            self._protest(BAD_ARGUMENT, "MAIL")
            return
        address, more = found
        size, utf8 = 0, False
        if more:
            refusal, size, utf8 = self._parameters(more)
            if refusal is not None:
                self._protest(refusal, "MAIL")
                return
        if not (utf8 or address.isascii()):
            self._protest(NOT_ASCII, "MAIL")
            return
        if not self.dialogue.started:
            self._mail_from, self._size, self._utf8, self._overshoot = address, size, utf8, 0
        await self._tell(fake.receiver.mail(self.dialogue, address, self._tick(), size))

    def _parameters(self, text: str) -> tuple[Sentence | None, int, bool]:
        """Read MAIL's parameters: a refusal or None, the size, and whether addresses may be UTF-8."""
        fake = self.fake
        given = wire.parameters(text)
        if given is None:
            return BAD_ARGUMENT, 0, False
        known = fake.keywords[self.dialogue.tls]
        size, body, utf8 = given.pop("SIZE", None), given.pop("BODY", None), given.pop("SMTPUTF8", None)
        identity = given.pop("AUTH", None)
        announced = (
            (size is None or "SIZE" in known)
            and (body is None or "8BITMIME" in known)
            and (utf8 is None or "SMTPUTF8" in known)
            and (identity is None or "AUTH" in known)
        )
        if given or not announced:
            return NO_SUCH_PARAMETER, 0, False
        wrong_size = size is not None and not (size.isascii() and size.isdigit() and len(size) <= 20)  # RFC 1870 §3
        wrong_body = body is not None and body.upper() not in ("7BIT", "8BITMIME")
        if wrong_size or wrong_body or utf8:
            return BAD_ARGUMENT, 0, False
        return None, int(size or 0), utf8 is not None

    async def smtp_RCPT(self, argument: str) -> None:
        """RCPT TO: one recipient."""
        fake = self.fake
        found = wire.path(argument, "TO:")
        if found is None or not found.address:
            self._protest(BAD_ARGUMENT, "RCPT")
        elif found.parameters:
            self._protest(BAD_ARGUMENT if wire.parameters(found.parameters) is None else NO_SUCH_PARAMETER, "RCPT")
        elif not (self._utf8 or found.address.isascii()):
            self._protest(NOT_ASCII, "RCPT")
        else:
            await self._tell(fake.receiver.rcpt(self.dialogue, found.address, self._tick()))

    async def smtp_DATA(self, argument: str) -> None:
        """Answer DATA: the message, and the verdict on it."""
        fake, dialogue = self.fake, self.dialogue
        receiver = fake.receiver
        if argument:
            self._protest(BAD_ARGUMENT, "DATA")
            return
        reply = receiver.data(dialogue, self._tick())
        await self._tell(reply)
        if reply.code >= 400 or self.over:
            return
        await self._send()
        from_nobody = not self._mail_from  # as reports are (RFC 5321 §4.5.5)
        size, head = await self._reader.message(whole=from_nobody)
        self._go_on()
        report = None
        if from_nobody:
            report = wire.report(head[2:])  # without the line end before it
            head = head.partition(b"\r\n\r\n")[0] + b"\r\n"
        message_id = wire.message_id(head)
        now = self._tick()
        self._size = size
        reply = receiver.end_of_data(dialogue, size, now, wire.author(head) if fake.needs_author else "")
        if not reply.accepted:
            await self._tell(reply, message_id=message_id)
            self._mail_from = None
            return
        leaves = now + reply.delay
        text = receiver.render(reply, dialogue, leaves)
        sender, recipients = self._mail_from or "", dialogue.recipients
        message = Message(dialogue.account, sender, recipients, size, message_id, report, self._opened)
        fake.note(dialogue, reply, text, now, message)
        self._mail_from = None
        if reply.fault:
            await self._spoil(reply)
            return
        if reply.delay:
            await self._hold(leaves)
        self.out += wire.reply(reply.code, reply.enhanced, text)

    async def _hold(self, until: float) -> None:
        """Keep a reply back; for ever: until the client goes away. Its message is accepted all the same."""
        self.holding = True
        self.fake.waiting += 1
        try:
            await (self._reader.discard() if until == math.inf else self.fake.clock.until(until))
        finally:
            self.holding = False
            self.fake.waiting -= 1
        self._go_on()

    async def smtp_RSET(self, argument: str) -> None:
        """RSET: the transaction is dropped."""
        self._mail_from = None
        self._say(self.fake.receiver.rset(self.dialogue, self._tick()))

    async def smtp_NOOP(self, argument: str) -> None:
        """NOOP: nothing."""
        self._protest(NOOP)

    async def smtp_VRFY(self, argument: str) -> None:
        """VRFY: what may always be said (RFC 5321 §3.5.3)."""
        self._protest(CANNOT_VERIFY if argument else BAD_ARGUMENT)

    async def smtp_HELP(self, argument: str) -> None:
        """HELP: where to find it."""
        self._protest(HELP)

    async def smtp_QUIT(self, argument: str) -> None:
        """QUIT: the session is over."""
        reply = self.fake.receiver.quit(self.dialogue, self._tick())
        self._put(reply)
        self._leave()


JUNK: Final = (500, 501, 502, 504, 555)
KNOWN: Final = (b"BDAT", b"BURL", b"ETRN", b"EXPN", b"SAML", b"SEND", b"SOML", b"TURN")
HTTP: Final = (b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT")  # a browser, led astray
COMMANDS: Final = {
    name.removeprefix("smtp_").encode(): command
    for name, command in vars(Connection).items()
    if name.startswith("smtp_")
}
