"""The exact half of the twin run: a simulated trace, replayed over TCP on the virtual clock, gets the same replies.

The simulation asks receivers that write down every command and its reply; the commands then go over real connections
to fakes whose clock is moved from one moment to the next, in the same order, and every reply has to be the same: code,
text, stage and limit. So has every line of the server's ledger, replayed through a fresh receiver.
"""

import contextlib
import datetime as dt
import http.client
import json
import select
import socket
import ssl
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote, unquote, urlencode

from simlib.faults import NO_FAULTS, Faults, FaultyReceiver
from simlib.load import Fakes, fakes, lines
from simlib.provider import Provider, Reply
from simlib.receiver import Account, Receiver, Session
from simlib.reputation import Reputation
from simlib.scenario import Scenario
from simlib.simulation import simulate
from simlib.workload import Messages, recipients, stream

__all__ = ["Command", "Exact", "Recorder", "exact", "record", "replay"]

PATIENCE: Final = 2_000  # questions until the server has to have read what was sent
ENOUGH: Final = 100  # differences after which a replay has nothing more to say
TIMEOUT: Final = 60.0  # seconds of real time that a reply may take before the replay gives up
QUIET: Final = 0.05  # seconds of real time without a reply after which it is asked whether the server holds it back
NO_REPLY: Final = (0, "no reply")

Steps = Literal["starttls", "auth", "mail", "rcpt", "data", "rset"]  # asked for where something goes wrong
What = Literal["connect", "ehlo", "log_in", "offer", "end_of_data", "disconnect", "token", "password", "state", Steps]


class Command(NamedTuple):
    """Something that the simulation asked of a receiver, or did to it.

    Parameters
    ----------
    at : float
        When, in seconds.
    provider : str
        Of whom.
    what : str
        Which method; ``password`` and ``state`` are what an incident changed.
    session : int
        The number of the session at that provider; 0 if it isn't about one.
    given : tuple
        What the method was given.
    reply : Reply or None
        What it returned.
    said : str
        The reply's text as it leaves, placeholders filled in.
    """

    at: float
    provider: str
    what: What
    session: int
    given: tuple[Any, ...] = ()
    reply: Reply | None = None
    said: str = ""


class Recorder(FaultyReceiver):
    """A receiver that writes down what it is asked and what it answers, in a log that all of a run share.

    Parameters
    ----------
    provider, accounts, start
        As a `FaultyReceiver` takes them.
    log : list of Command
        Where to.
    reputation, faults
        As a `FaultyReceiver` takes them.
    """

    def __init__(
        self,
        provider: Provider,
        accounts: Mapping[str, Account],
        start: dt.datetime,
        log: list[Command],
        reputation: Reputation | None = None,
        faults: Faults = NO_FAULTS,
    ) -> None:
        super().__init__(provider, accounts, start, reputation, faults)
        self._log = log
        self._known: dict[str, tuple[str, bool, bool]] = {}
        self._known_blocked: frozenset[str] = frozenset()

    def _note(self, what: What, session: Session, now: float, given: tuple[Any, ...], reply: Reply) -> Reply:
        said = self.render(reply, session, now + reply.delay)
        self._log.append(Command(now, self.provider.name, what, session.number, given, reply, said))
        return reply

    def _note_changes(self, now: float, user: str = "") -> None:
        """Write down what an incident has changed since: before the first command that could notice."""
        if self.blocked != self._known_blocked:
            for ip in sorted(self.blocked ^ self._known_blocked):
                form = {"ip": ip, "blocked": str(int(ip in self.blocked))}
                self._log.append(Command(now, self.provider.name, "state", 0, ("/blocked", form)))
            self._known_blocked = frozenset(self.blocked)
        account = self.accounts.get(user.lower()) if user else None
        if account is None:
            return
        before = self._known.get(account.user, ("password", False, False))
        after = account.password, account.disabled, account.revoked
        if after == before:
            return
        self._known[account.user] = after
        path = f"/accounts/{quote(account.user, safe='')}"
        if after[0] != before[0]:
            self._log.append(
                Command(now, self.provider.name, "password", 0, (f"{path}/password", {"password": after[0]}))
            )
        for was, now_is, verbs in (
            (before[1], account.disabled, ("enable", "disable")),
            (before[2], account.revoked, ("restore", "revoke")),
        ):
            if was != now_is:
                verb = verbs[now_is]
                self._log.append(Command(now, self.provider.name, "state", 0, (f"{path}/{verb}", {})))

    def connect(self, ip: str, now: float) -> tuple[Session, Reply]:
        """Open a session."""
        self._note_changes(now)
        session, reply = super().connect(ip, now)
        return session, self._note("connect", session, now, (ip,), reply)

    def ehlo(self, session: Session, now: float) -> Reply:
        """EHLO."""
        self._note_changes(now)
        return self._note("ehlo", session, now, (), super().ehlo(session, now))

    def log_in(self, session: Session, user: str, secret: str, now: float, token: bool = False) -> Reply:
        """EHLO, STARTTLS and AUTH."""
        self._note_changes(now, user)
        reply = super().log_in(session, user, secret, now, token)
        return self._note("log_in", session, now, (user, secret, token), reply)

    def offer(self, session: Session, mail_from: str, recipients: int, now: float) -> Reply:
        """MAIL, RCPT and DATA."""
        self._note_changes(now)
        return self._note(
            "offer", session, now, (mail_from, recipients), super().offer(session, mail_from, recipients, now)
        )

    def end_of_data(self, session: Session, size: int, now: float, header_from: str = "") -> Reply:
        """Answer the dot."""
        self._note_changes(now)
        return self._note("end_of_data", session, now, (size,), super().end_of_data(session, size, now, header_from))

    # A run in which something goes wrong asks command by command; else these are part of `log_in` and `offer`

    def starttls(self, session: Session, now: float) -> Reply:
        """STARTTLS."""
        reply = super().starttls(session, now)
        return self._note("starttls", session, now, (), reply) if self.faults else reply

    def auth(
        self, session: Session, user: str, secret: str, now: float, token: bool = False, begun: bool = False
    ) -> Reply:
        """AUTH."""
        if self.faults:
            self._note_changes(now, user)
        reply = super().auth(session, user, secret, now, token, begun)
        return self._note("auth", session, now, (user, secret, token), reply) if self.faults else reply

    def mail(self, session: Session, mail_from: str, now: float, size: int = 0) -> Reply:
        """MAIL FROM."""
        if self.faults:
            self._note_changes(now)
        reply = super().mail(session, mail_from, now, size)
        return self._note("mail", session, now, (mail_from,), reply) if self.faults else reply

    def rcpt(self, session: Session, rcpt_to: str, now: float) -> Reply:
        """RCPT TO."""
        if self.faults:
            self._note_changes(now)
        reply = super().rcpt(session, rcpt_to, now)
        return self._note("rcpt", session, now, (rcpt_to,), reply) if self.faults else reply

    def data(self, session: Session, now: float) -> Reply:
        """Answer the verb DATA."""
        if self.faults:
            self._note_changes(now)
        reply = super().data(session, now)
        return self._note("data", session, now, (), reply) if self.faults else reply

    def rset(self, session: Session, now: float) -> Reply:
        """RSET."""
        reply = super().rset(session, now)
        return self._note("rset", session, now, (), reply) if self.faults else reply

    def disconnect(self, session: Session, now: float) -> None:
        """End the session."""
        super().disconnect(session, now)
        self._log.append(Command(now, self.provider.name, "disconnect", session.number))

    def issue_token(self, user: str, refresh_token: str, now: float) -> str | None:
        """Give an access token."""
        self._note_changes(now, user)
        token = super().issue_token(user, refresh_token, now)
        self._log.append(Command(now, self.provider.name, "token", 0, (user, refresh_token, token)))
        return token


def record(
    scenario: Scenario,
    alternative: str,
    messages: Messages,
    seed: int = 1,
    as_of: dt.date | None = None,
) -> list[Command]:
    """Simulate one alternative, and return what was asked of its providers, in order.

    Parameters
    ----------
    scenario, alternative : Scenario, str
        What is sent how.
    messages : Messages
        What is offered.
    seed : int, optional
        Of the random streams.
    as_of : date, optional
        The date whose facts apply; the scenario's by default.

    Returns
    -------
    list of Command
        Commands with their replies, in the order in which they happened.
    """
    lanes = scenario.lanes(alternative, as_of)
    log: list[Command] = []
    receivers = {
        name: Recorder(one.provider, one.accounts, one.start, log, one.reputation, scenario.faults_of(seed))
        for name, one in scenario.receivers(lanes, seed).items()
    }

    def rng(*name: str) -> Any:
        return stream(seed, 0, *name)

    simulate(lanes, messages, receivers, scenario.duration, rng, scenario.incidents(lanes, rng))
    return log


@dataclass(frozen=True, slots=True)
class Exact:
    """What a replay found.

    Parameters
    ----------
    replies : int
        How many were compared.
    differences : tuple of str
        One line for each that differed: over the wire, or in the ledger.
    """

    replies: int
    differences: tuple[str, ...]


def exact(
    folder: Path,
    scenario: Scenario,
    alternative: str,
    seed: int = 1,
    as_of: dt.date | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Exact:
    """Replay what an alternative is offered in replication 0 over TCP, and compare every reply.

    Parameters
    ----------
    folder : Path
        Where the fakes' ledger goes.
    scenario, alternative : Scenario, str
        What is sent how.
    seed : int
        Of the messages.
    as_of : date, optional
        The date whose facts apply; the scenario's by default.
    progress : callable, optional
        Told how many commands are done, of how many.

    Returns
    -------
    Exact
        How many commands were compared, and which replies differed.
    """
    messages = scenario.messages(seed, 0)
    log = record(scenario, alternative, messages, seed, as_of)
    providers = list(dict.fromkeys(lane.provider.name for lane in scenario.lanes(alternative, as_of)))
    with fakes(folder, scenario, providers, as_of, virtual=True, seed=seed) as running:
        differences = replay(log, running, scenario, alternative, as_of, progress)
    ledger = list(lines(running.ledger))
    differences += compare_ledger(log, ledger, scenario, alternative, as_of, seed)
    replies = sum(command.reply is not None for command in log)
    return Exact(replies + len(ledger), tuple(differences))


def replay(
    log: Sequence[Command],
    running: Fakes,
    scenario: Scenario,
    alternative: str,
    as_of: dt.date | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Give the fakes the commands of a log, and return a line for each reply that wasn't the recorded one.

    Parameters
    ----------
    log : sequence of Command
        What was recorded.
    running : Fakes
        The fakes, with a virtual clock.
    scenario, alternative : Scenario, str
        What it was the record of.
    as_of : date, optional
        The date whose facts apply; the scenario's by default.
    progress : callable, optional
        Told how many commands are done, of how many.

    Returns
    -------
    list of str
        Empty if every reply was the same.
    """
    lanes = {lane.provider.name: lane for lane in scenario.lanes(alternative, as_of)}
    with contextlib.ExitStack() as stack:
        control = stack.enter_context(contextlib.closing(_Control(running.control)))
        context = ssl.create_default_context(cafile=str(running.ca))
        one = _Replay(running, {name: lane.provider for name, lane in lanes.items()}, control, context)
        stack.callback(one.close)
        for number, command in enumerate(log):
            if one.over or len(one.differences) > ENOUGH:
                break
            one.do(command)
            if progress is not None and number % 500 == 0:
                progress(number, len(log))
        if not one.over:
            one.finish(scenario.duration)
        return one.differences


class _Control:
    """The fakes' control port, over one connection."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)

    def ask(self, method: str, path: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Ask for something; an error is an answer as well."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        self._http.request(method, path, urlencode(form or {}) if method == "POST" else None, headers)
        found: dict[str, Any] = json.loads(self._http.getresponse().read())
        return found

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


@dataclass(slots=True)
class _Client:
    """One connection of the replay."""

    socket: socket.socket
    ip: str
    received: bytes = b""
    awaited: Command | None = None  # whose reply is held
    gone: bool = False  # the server has closed, or is about to

    def ask(self, *said: str | bytes) -> tuple[int, str]:
        """Say some lines one by one, each once the last is answered without a refusal; return the last reply."""
        code, text = 0, ""
        for line in said:
            self.send(line)
            code, text = self.answer()
            if code >= 400:
                break
        return code, text

    def send(self, line: str | bytes) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # that the server has gone, the answer tells
            self.socket.sendall(line if isinstance(line, bytes) else f"{line}\r\n".encode())

    def answer(self) -> tuple[int, str]:
        """Read one reply: its code, and its lines without it."""
        found: list[str] = []
        while True:
            end = self.received.find(b"\n")
            while end < 0:
                try:
                    more = self.socket.recv(4096)
                except TimeoutError:
                    return NO_REPLY
                except (ConnectionError, ssl.SSLError):
                    more = b""
                if not more:
                    return 0, "the server closed the connection"
                self.received += more
                end = self.received.find(b"\n")
            line, self.received = self.received[:end].rstrip(b"\r").decode(), self.received[end + 1 :]
            found.append(line[4:])
            if line[3:4] != "-":
                return int(line[:3]), "\n".join(found)


class _Replay:
    """The clients, and what differed."""

    def __init__(
        self, running: Fakes, providers: Mapping[str, Provider], control: _Control, context: ssl.SSLContext
    ) -> None:
        self.running = running
        self.providers = providers
        self.control = control
        self.context = context
        self.clients: dict[tuple[str, int], _Client] = {}
        self.tokens: dict[str, str] = {}
        self.differences: list[str] = []
        self.over = False  # simulation and server have parted so far that nothing after it can be compared
        self.now = 0.0
        self.releases: list[float] = []  # when what is held now leaves
        self.silent = 0  # clients whose reply will never come
        self.offered = 0

    def do(self, command: Command) -> None:
        """Do what was done then."""
        if command.at > self.now:
            self.move(command.at)
        key = command.provider, command.session
        client = self.clients.get(key)
        if client is not None and client.awaited is not None:
            self.take_held(client)
        match command.what:
            case "connect":
                self.connect(command)
            case "ehlo" | "starttls" | "mail" | "rcpt" | "data" | "rset":
                assert client is not None
                self.say(client, command)
            case "auth":
                assert client is not None
                self.auth(client, command)
            case "log_in":
                assert client is not None
                self.compare(command, self.log_in(client, command))
            case "offer":
                assert client is not None
                self.compare(command, self.offer(client, command))
            case "end_of_data":
                assert client is not None
                self.end_of_data(client, command)
            case "disconnect":
                assert client is not None
                self.disconnect(self.clients.pop(key))
            case "token":
                self.token(command)
            case _:
                self.control.ask("POST", *command.given)

    def move(self, to: float) -> None:
        """Move the clock; replies that were held until then leave on the way."""
        self.now = to
        self.control.ask("POST", "/clock", {"seconds": repr(to)})
        while self.releases and self.releases[0] <= to:
            heappop(self.releases)

    def compare(self, command: Command, got: tuple[int, str]) -> None:
        """Note a reply that isn't the recorded one."""
        assert command.reply is not None
        wanted = _wire(command.reply, command.said)
        if command.reply.breaks == "instead" and got != NO_REPLY:
            wanted = 0, got[1]
        if got != wanted and not (command.what in ("ehlo", "connect") and got[0] == wanted[0] < 400):
            where = f"{command.provider}, session {command.session}, {command.what} at {command.at:.6f} s"
            self.differences.append(f"{where}: simulated {wanted[0]} {wanted[1]!r}, got {got[0]} {got[1]!r}")
            self.over = got == NO_REPLY

    def connect(self, command: Command) -> None:
        (ip,) = command.given
        address = "127.0.0.1", self.running.ports[command.provider]
        client = _Client(socket.create_connection(address, TIMEOUT, (ip, 0)), ip)
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.clients[command.provider, command.session] = client
        self.hear(client, command)

    def say(self, client: _Client, command: Command) -> None:
        """Say one line, and hear what comes."""
        if command.what == "mail":
            self.offered += 1
        line = {
            "ehlo": "EHLO client.example",
            "starttls": "STARTTLS",
            "mail": "MAIL FROM:<{}>",
            "rcpt": "RCPT TO:<{}>",
            "data": "DATA",
            "rset": "RSET",
        }[command.what]
        client.send(line.format(*command.given))
        self.hear(client, command)
        if command.what == "starttls" and command.reply is not None and command.reply.code == 220:
            client.socket = self.context.wrap_socket(client.socket, server_hostname="127.0.0.1")

    def hear(self, client: _Client, command: Command) -> None:
        """Hear the reply to what was said; one that is late, when its time has come."""
        reply = command.reply
        assert reply is not None
        if reply.breaks == "silence" or reply.delay > 0:
            client.awaited = command
            if reply.breaks == "silence":
                self.silent += 1
            else:
                heappush(self.releases, command.at + reply.delay)
            self.until(client, held=len(self.releases) + self.silent)
            return
        self.compare(command, self.answer(client))
        if reply.breaks == "after":
            self.compare(command._replace(reply=reply._replace(breaks="instead")), self.answer(client))
        client.gone = reply.breaks != "" or reply.closes or (command.what == "connect" and reply.code >= 400)

    def auth(self, client: _Client, command: Command) -> None:
        """Log in; a challenge that explains a refusal is answered."""
        user, secret, token = command.given
        provider = self.providers[command.provider]
        if token:
            client.send(self.bearer(provider, user, secret))
            assert command.reply is not None
            explains = "OAUTHBEARER" in provider.auth or provider.speaks_of("token_challenge")
            if explains and command.reply == provider.says("token_refused", "AUTH"):
                client.answer()
                client.send("" if "XOAUTH2" in provider.auth else "AQ==")
        elif "PLAIN" in provider.auth:
            client.send(f"AUTH PLAIN {_base64(chr(0) + user + chr(0) + secret)}")
        elif client.ask("AUTH LOGIN")[0] == 334 and client.ask(_base64(user))[0] == 334:
            client.send(_base64(secret))
        self.hear(client, command)

    def log_in(self, client: _Client, command: Command) -> tuple[int, str]:
        user, secret, token = command.given
        provider = self.providers[command.provider]
        got = client.ask("EHLO client.example")
        if provider.tls == "required" and got[0] < 400:
            got = client.ask("STARTTLS")
            if got[0] == 220:
                client.socket = self.context.wrap_socket(client.socket, server_hostname="127.0.0.1")
                got = client.ask("EHLO client.example")
        if got[0] >= 400:
            return got
        if token:
            got = client.ask(self.bearer(provider, user, secret))
            return client.ask("" if "XOAUTH2" in provider.auth else "AQ==") if got[0] == 334 else got
        if "PLAIN" in provider.auth:
            return client.ask(f"AUTH PLAIN {_base64(chr(0) + user + chr(0) + secret)}")
        return client.ask("AUTH LOGIN", _base64(user), _base64(secret))

    def bearer(self, provider: Provider, user: str, secret: str) -> str:
        """Write the line that logs in with a token."""
        token = f"auth=Bearer {self.tokens.get(secret, secret)}\1\1"
        if "XOAUTH2" in provider.auth:
            return f"AUTH XOAUTH2 {_base64(f'user={user}{chr(1)}{token}')}"
        return f"AUTH OAUTHBEARER {_base64(f'n,a={user},{chr(1)}{token}')}"

    def offer(self, client: _Client, command: Command) -> tuple[int, str]:
        mail_from, count = command.given
        self.offered += 1
        to = [f"RCPT TO:<{address}>" for address in recipients(command.provider, self.offered, count)]
        got = client.ask(f"MAIL FROM:<{mail_from}>", *to, "DATA")
        if got[0] >= 400 and got[0] != 421:
            client.ask("RSET")
        client.gone = got[0] == 421
        return got

    def end_of_data(self, client: _Client, command: Command) -> None:
        client.send(_text(self.offered, command.given[0]))
        self.hear(client, command)

    def answer(self, client: _Client) -> tuple[int, str]:
        """Wait for a reply, but not if the server holds it back, where it would be waited for in vain."""
        for _ in range(round(TIMEOUT / QUIET)):
            if _readable(client, QUIET):
                break
            if self.control.ask("GET", "/waiting")["held"] > len(self.releases) + self.silent:
                return NO_REPLY
        return client.answer()

    def take_held(self, client: _Client) -> None:
        """Read a reply that was held, now that something else is about to be said; its time has come, or never will."""
        command, client.awaited = client.awaited, None
        assert command is not None
        reply = command.reply
        assert reply is not None
        if reply.breaks != "silence" and command.at + reply.delay <= self.now:
            self.hear(client, command._replace(reply=reply._replace(delay=0.0)))
        else:
            client.gone = True  # the client's patience was shorter than the hold
            client.socket.close()
            if reply.breaks == "silence":
                self.silent -= 1
            else:
                self.releases.remove(command.at + reply.delay)
                heapify(self.releases)

    def disconnect(self, client: _Client) -> None:
        """Say goodbye, and see to it that the server knows."""
        if not client.gone:
            client.ask("QUIT")
        client.socket.close()
        self.until(open=sum(not one.gone for one in self.clients.values()))

    def until(self, client: _Client | None = None, **wanted: int) -> None:
        """Wait until the server has read what was sent: so many replies held (unless one comes), or connections."""
        for _ in range(PATIENCE):
            answered = client is not None and _readable(client)
            found = self.control.ask("GET", "/waiting")
            if all(found[name] == count for name, count in wanted.items()):
                return
            if answered:
                break
        self.over = True
        self.differences.append(f"at {self.now:.6f} s: the server should have {wanted}, has {found}")

    def token(self, command: Command) -> None:
        user, refresh_token, token = command.given
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "provider": command.provider}
        answer = self.control.ask("POST", "/token", form)
        wanted = "temporarily_unavailable" if token == "" else None if token else "invalid_grant"
        if answer.get("error") != wanted:
            self.differences.append(f"{command.provider}, token for {user}: simulated {token!r}, got {answer!r}")
        elif token:
            self.tokens[token] = answer["access_token"]

    def finish(self, duration: float) -> None:
        """Let the run end: replies that are due by then are read."""
        if duration > self.now:
            self.move(duration)
        for client in self.clients.values():
            command = client.awaited
            if command is not None and command.reply is not None and command.at + command.reply.delay <= duration:
                self.take_held(client)

    def close(self) -> None:
        """Close every connection."""
        for client in self.clients.values():
            client.socket.close()


def _readable(client: _Client, within: float = 0.0) -> bool:
    return bool(select.select([client.socket], [], [], within)[0])


def _wire(reply: Reply, said: str) -> tuple[int, str]:
    """Return a reply as it stands on the wire: the enhanced code is on every line (RFC 2034 §4)."""
    prefix = f"{reply.enhanced} " if reply.enhanced else ""
    return reply.code, "\n".join(prefix + line for line in said.split("\n"))


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _text(number: int, size: int) -> bytes:
    """Write a message of exactly so many bytes, dot not counted."""
    head = f"Message-ID: <replay-{number}@sendlab.example>\r\n\r\n".encode()
    return head + b"x" * max(0, size - len(head) - 2) + b"\r\n.\r\n"


def compare_ledger(
    log: Sequence[Command],
    ledger: Sequence[Mapping[str, Any]],
    scenario: Scenario,
    alternative: str,
    as_of: dt.date | None = None,
    seed: int = 1,
) -> list[str]:
    """Replay the log through fresh receivers, and return a line for each ledger line that they wouldn't have written.

    What is compared: time, provider, session, stage, code, enhanced code, text, limit, fault and how long it was held.
    """
    fresh = scenario.receivers(scenario.lanes(alternative, as_of), seed)
    sessions: dict[tuple[str, int], Session] = {}
    wanted: Counter[tuple[Any, ...]] = Counter()
    for command in log:
        receiver = fresh[command.provider]
        key = command.provider, command.session
        reply: Reply | None = None
        match command.what:
            case "connect":
                (ip,) = command.given
                sessions[key], reply = receiver.connect(ip, command.at)
            case "ehlo" | "log_in" | "offer" | "end_of_data" | "starttls" | "auth" | "mail" | "rcpt" | "data" | "rset":
                reply = getattr(receiver, command.what)(sessions[key], *_timed(command))
            case "disconnect":
                receiver.disconnect(sessions[key], command.at)
            case "token":
                user, refresh_token, _ = command.given
                receiver.issue_token(user, refresh_token, command.at)
            case _:
                _change(receiver, *command.given)
        if reply is not None and _is_written(command, reply):
            # a line is written when the server decides, the text is as of when it leaves
            said = receiver.render(reply, sessions[key], command.at + reply.delay)
            wanted[_line(command.at, command.provider, command.session, reply, said)] += 1
    found = Counter(
        (
            round(line["time"], 6),
            *(line[name] for name in ("provider", "session", "stage", "code", "enhanced", "text", "limit")),
            line.get("fault", ""),
            round(line["held"], 6),
        )
        for line in ledger
    )
    missing, extra = wanted - found, found - wanted
    return [f"ledger: a fresh receiver would have written {line}" for line in missing.elements()] + [
        f"ledger: a fresh receiver wouldn't have written {line}" for line in extra.elements()
    ]


def _is_written(command: Command, reply: Reply) -> bool:
    """Whether the server's ledger has a line for it: an outcome, or a command that a fault left without a reply."""
    return reply.code >= 400 or (command.what == "end_of_data" if reply.code else bool(reply.fault))


def _timed(command: Command) -> tuple[Any, ...]:
    """Return what a receiver's method takes: the time stands before what may be left out."""
    if command.what in ("log_in", "auth"):
        user, secret, token = command.given
        return user, secret, command.at, token
    return *command.given, command.at


def _change(receiver: Receiver, path: str, form: Mapping[str, str]) -> None:
    if path == "/blocked":
        (receiver.blocked.add if form["blocked"] == "1" else receiver.blocked.discard)(form["ip"])
        return
    _, _, user, verb = path.split("/")
    account = receiver.accounts[unquote(user)]
    if verb == "password":
        account.password = form["password"]
    elif verb == "revoke":
        receiver.revoke(account.user)
    elif verb == "restore":
        account.revoked = False
    else:
        account.disabled = verb == "disable"


def _line(at: float, provider: str, session: int, reply: Reply, said: str) -> tuple[Any, ...]:
    held = round(reply.held, 6)
    said_by = reply.limit, reply.fault
    return round(at, 6), provider, session, reply.stage, reply.code, reply.enhanced, said, *said_by, held
