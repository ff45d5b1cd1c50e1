"""One process's share of a plan, sent on time: open loop, over as many connections as the channel has.

When a message may go is asked of `simlib.sender`, as the simulation does; here is what needs sockets and greenlets.
Times are scenario seconds since second 0 unless they say otherwise.
"""

import http.client
import json
import math
import os
import re
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import gevent
import gevent.resolver.blocking
from gevent.event import Event
from pydantic_core import to_json

from loadtests.plan import Entry, Incident, Lane, Plan, Route, share
from loadtests.smtp import Lost, Reply, Session, text
from loadtests.underway import UnderWay
from simlib.sender import Due, Ips, Queue

__all__ = ["LATE", "Connection", "Generator", "Note", "connections", "plain_text", "post"]

LATE: Final = 0.05  # seconds of real time after which an attempt began late (DESIGN §10)
TOKEN_LIFETIME: Final = 3600.0  # seconds: what the fakes' token endpoint says itself
BEFORE_MAIL: Final = ("CONNECT", "EHLO", "AUTH")
STAGES: Final = ("connect", "tls", "auth", "mail", "data")

Write = Callable[[Entry], bytes]


class Note(NamedTuple):
    """A stage of an attempt, for whoever counts them.

    Parameters
    ----------
    provider, stage : str
        Where, and which: ``connect``, ``tls``, ``auth``, ``mail`` (MAIL, RCPT and DATA), ``data`` (the text), or
        ``message``: all of it, from the scheduled time to the final reply.
    seconds : float
        Of real time.
    bytes : int
        How much was sent.
    refusal : str
        The reply, if it was one; the same for all replies that are the same sentence.
    """

    provider: str
    stage: str
    seconds: float
    bytes: int
    refusal: str


class Generator:
    """Sends one process's share of a plan, and keeps its ledger.

    Parameters
    ----------
    plan : Plan
        What all processes send together.
    note : callable
        Told of every stage.
    """

    def __init__(self, plan: Plan, note: Callable[[Note], None]) -> None:
        self.plan = plan
        self.note = note
        self.begun = Event()
        self.over = Event()
        self.sessions = 0
        self.waiting: deque[Connection] = deque()  # connections for which no user has come yet
        self.lines: list[Line] = []
        self.undecided = 0
        self.tokens: dict[tuple[str, str], tuple[str, float]] = {}
        self.password = os.environ.get("SENDLAB_PASSWORD", "password")
        self.changed: dict[str, str] = {}  # accounts' passwords at the provider, where they were changed
        self.renewed: dict[str, str] = {}  # and as we know them
        self.context = ssl.create_default_context(cafile=plan.ca or None) if any(x.tls for x in plan.lanes) else None
        self._ledger = -1
        self._zero = 0.0
        # a plan's addresses are numbers: nothing is looked up, so no thread has to be asked for each connection
        gevent.get_hub().resolver = gevent.resolver.blocking.Resolver()

    # Time

    def now(self) -> float:
        """Return the time."""
        return (time.perf_counter() - self._zero) * self.plan.time_scale

    def begin(self, ledger: Path, zero: float, part: int, parts: int) -> None:
        """Start.

        Parameters
        ----------
        ledger : Path
            The file to append to, a JSON line for each attempt.
        zero : float
            Second 0, as the system's clock shows it (`time.time`).
        part, parts : int
            Which share of the plan, from 0, of how many.
        """
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        mine = {route.number: route for route in share(self.plan, part, parts)}
        entries: dict[int, list[Entry]] = {number: [] for number in mine}
        for entry in self.plan.entries:
            if entry.route in entries:
                entries[entry.route].append(entry)
                self.undecided += 1
        turns = [
            Ips(
                len(lane.ips) or 1,
                math.inf if lane.by_account else lane.connections,
                lane.reaction,
                lane.throttles,
            )
            for lane in self.plan.lanes
        ]
        for number, route in mine.items():
            line = Line(self, route, self.plan.lanes[route.lane], turns[route.lane], entries[number])
            self.lines.append(line)
            for _ in range(connections(route, len(entries[number]))):
                self.waiting.append(Connection(line, len(self.waiting)))
        longest = max((len(entry.message_id) for mine in entries.values() for entry in mine), default=0)
        self.under_way = UnderWay(ledger, len(self.waiting), longest)
        self._zero = time.perf_counter() - (time.time() - zero)
        for incident in self.plan.incidents:
            gevent.spawn(self._renew, incident)
            if part == 0:
                gevent.spawn(self._strike, incident)
        if not self.undecided:
            self.over.set()
        gevent.spawn(self._end)
        self.begun.set()

    def until(self, at: float) -> None:
        """Wait for a moment."""
        while (left := at - self.now()) > 0:
            gevent.sleep(left / self.plan.time_scale)

    def _end(self) -> None:
        self.until(self.plan.duration)
        self.over.set()

    def close(self) -> None:
        """Write down what was never offered, and close the ledger."""
        if self._ledger >= 0:
            for line in self.lines:
                line.write_what_is_left()
            self.under_way.close()
            os.close(self._ledger)
            self._ledger = -1

    # The ledger

    def write(self, row: dict[str, Any]) -> None:
        """Append one attempt."""
        os.write(self._ledger, to_json(row) + b"\n")

    def decided(self) -> None:
        """Take note that a message needs no further attempt."""
        self.undecided -= 1
        if not self.undecided:
            self.over.set()

    # Credentials

    def secret(self, lane: Lane, account: str) -> str:
        """Return the account's password, or its access token, renewed if it ran out; empty if it is refused one."""
        if lane.auth == "password":
            return self.renewed.get(account, self.password)
        token, until = self.tokens.get((lane.provider, account), ("", -1.0))
        now = self.now()
        if now >= until:
            form = {"grant_type": "refresh_token", "refresh_token": account, "provider": lane.provider}
            try:
                answer = post(self.plan.control, "/token", form)
            except (OSError, http.client.HTTPException, ValueError):  # nobody there who could give one
                answer = {}
            if answer.get("error") == "temporarily_unavailable":
                raise Lost("no token: the endpoint is down")
            token = answer.get("access_token", "")
            self.tokens[lane.provider, account] = token, now + (answer["expires_in"] if token else 0.0)
        return token

    # Incidents

    def _strike(self, incident: Incident) -> None:
        self.until(incident.at)
        for path, form in self._requests(incident, begins=True):
            post(self.plan.control, path, form)
        if incident.repaired_at <= self.plan.duration:
            self.until(incident.repaired_at)
            for path, form in self._requests(incident, begins=False):
                post(self.plan.control, path, form)

    def _requests(self, incident: Incident, begins: bool) -> Iterable[tuple[str, dict[str, str]]]:
        for target in incident.targets:
            user = quote(target, safe="")
            match incident.kind, begins:
                case "password_change", True:
                    yield f"/accounts/{user}/password", {"password": self._new_password(target)}
                case "token_revoked", _:
                    yield f"/accounts/{user}/{'revoke' if begins else 'restore'}", {}
                case "auth_disabled", _:
                    yield f"/accounts/{user}/{'disable' if begins else 'enable'}", {}
                case "blocklisted", _:
                    yield "/blocked", {"ip": target, "blocked": str(int(begins))}
                case "delisted", True:
                    yield "/blocked", {"ip": target, "blocked": "0"}

    def _new_password(self, account: str) -> str:
        """Make the provider's next password up: the same in every process."""
        self.changed[account] = f"{self.changed.get(account, self.password)}'"
        return self.changed[account]

    def _renew(self, incident: Incident) -> None:
        """Use the new password, or ask for a new token, once somebody has seen to it."""
        if incident.kind not in ("password_change", "token_revoked") or incident.repaired_at > self.plan.duration:
            return
        self.until(incident.repaired_at)
        for account in incident.targets:
            if incident.kind == "password_change":
                changes = sum(
                    one.kind == "password_change" and account in one.targets and one.at <= incident.repaired_at
                    for one in self.plan.incidents
                )
                self.renewed[account] = self.password + "'" * changes
            else:
                for key in [key for key in self.tokens if key[1] == account]:
                    del self.tokens[key]


def connections(route: Route, messages: int) -> int:
    """Return how many connections a queue can make use of: no more than it has messages.

    Parameters
    ----------
    route : Route
        The queue.
    messages : int
        How many it has.

    Returns
    -------
    int
        Of them, and of what the route allows, the smaller.
    """
    return min(route.connections, messages)


class Line:
    """A queue, with the connections that wait for its messages."""

    def __init__(self, generator: Generator, route: Route, lane: Lane, ips: Ips, entries: list[Entry]) -> None:
        self.generator = generator
        self.lane = lane
        self.route = route
        self.ips = ips
        self.entries = entries
        self.offered = [False] * len(entries)
        self.queue = Queue(
            [entry.due for entry in entries],
            range(len(entries)),
            [entry.mail_from for entry in entries] if lane.pace else None,
            lane.pace,
            lane.retry,
            lane.heeds,
            lane.messages_per_session,
        )
        self.idle: deque[Event] = deque()
        self.watched_until = math.inf
        self.free = connections(route, len(entries))
        self.free_since = 0.0
        self._patterns = [(limit, sentence, re.compile(pattern)) for limit, sentence, pattern in lane.sentences]

    def ready_at(self) -> float:
        """Return the earliest moment at which a connection without a session may have a message to offer."""
        return max(self.queue.ready_at(), self.ips.opens_at())

    def wait(self, now: float) -> None:
        """Wait until there may be a message: one idle connection by the clock, the others until it calls them."""
        at = self.ready_at()
        called = Event()
        self.idle.append(called)
        if at < self.watched_until:
            self.watched_until = at
            called.wait((at - now) / self.generator.plan.time_scale)
            self.watched_until = math.inf
        else:
            called.wait()
        if called in self.idle:
            self.idle.remove(called)

    def call(self, now: float) -> None:
        """Before a connection gets busy: see to it that an idle one takes, or waits for, what is due next."""
        if self.idle and self.ready_at() < max(self.watched_until, now):
            self.idle.popleft().set()

    def sentence(self, reply: Reply) -> tuple[str, str]:
        """Return the limit that spoke, if the facts know the sentence, and the sentence without what differs."""
        said = f"{reply.code} {reply.enhanced} {reply.text}"
        for limit, sentence, pattern in self._patterns:
            if pattern.fullmatch(said):
                return limit, sentence
        return "", said if reply.code else reply.text

    def facts(self, entry: Entry, retry: int, due_at: float) -> dict[str, Any]:
        """Return what the ledger has of an attempt that the plan knows."""
        return {
            "message_id": entry.message_id,
            "label": entry.label,
            "tenant": entry.tenant,
            "sender": entry.mail_from,
            "recipients": len(entry.rcpt_to),
            "bytes": entry.bytes,
            "provider": self.lane.provider,
            "route": self.route.number,
            "retry": retry,
            "created_at": entry.due,
            "due_at": due_at,
        }

    def write_what_is_left(self) -> None:
        """Write down the messages that were never offered."""
        nothing = dict.fromkeys(("released_at", "started_at", "ended_at", "late"))
        said = {"held": 0.0, "stage": "", "code": 0, "enhanced": "", "text": "", "limit": "", "final": False}
        for entry, offered in zip(self.entries, self.offered, strict=True):
            if not offered:
                row = {**self.facts(entry, 0, entry.due), "ip": "", "session": 0, "transaction": 0, **nothing, **said}
                self.generator.write(row | dict.fromkeys((*STAGES, "after"), 0.0))


class Connection:
    """One connection of a line: it takes what is next, opens a session if there is none, and sends.

    Parameters
    ----------
    line : Line
        Whose messages it takes.
    place : int
        Its own place among those that are under way.
    """

    def __init__(self, line: Line, place: int) -> None:
        self.line = line
        self.place = place  # in what is under way
        self.generator = line.generator
        self.session: Session | None = None
        self.number = 0  # the session's
        self.carried = 0
        self.position = -1
        self.ip = ""
        self.stage = "CONNECT"  # of the reply, or of the first command that has none, as the record has it
        self.timed = "connect"  # and as the clock has it
        self.seconds: dict[str, float] = {}
        self.after = 0.0  # seconds that the attempt before kept the connection after its reply
        self._at = 0.0

    def serve(self, write: Write) -> None:
        """Send what is due until the run is over; `write` makes a message's text."""
        line, queue, now_of = self.line, self.line.queue, self.generator.now
        while True:
            now = now_of()
            if self.session is not None and line.ips.opens_at(self.position) > now:
                self.close()  # its IP has to wait; another may not
            opened = line.ips.opens_at(-1 if self.session is None else self.position)
            due = queue.next(now) if opened <= now else None
            if due is None:
                self.close()
                line.wait(now_of())
                continue
            could = max(due.released_at, line.free_since, opened)
            if self.session is None:
                self.position = line.ips.take(now)
            line.ips.begin(self.position, now)
            line.free -= 1
            line.call(now)
            self.attempt(due, now, max(0.0, now - could) / self.generator.plan.time_scale, write)
            self.after = time.perf_counter() - self._at
            now = now_of()
            if not line.free:
                line.free_since = now
            line.free += 1
            line.call(now)

    def attempt(self, due: Due, started: float, late: float, write: Write) -> None:
        """Offer one message, and write down what came of it."""
        line, generator = self.line, self.generator
        entry = line.entries[due.message]
        line.offered[due.message] = True
        generator.under_way.note(self.place, entry.message_id, len(entry.rcpt_to), due.retry, started)
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.stage, self.timed, self._at = "CONNECT", "connect", time.perf_counter()
        reply, ended, final = Reply(0, "", ""), math.nan, False
        limit = said = ""
        try:
            reply = self.exchange(entry, write)
            ended = generator.now()
            if not 200 <= reply.code < 300:
                limit, said = line.sentence(reply)
            final = line.queue.settle(due, reply.code, limit, entry.due, ended)
            line.ips.end(self.position, started, ended, reply.code, self.stage, limit)
        finally:
            # also when the run ends meanwhile: then nobody knows what becomes of it
            generator.write(
                {
                    **line.facts(entry, due.retry, due.due_at),
                    "ip": self.ip,
                    "session": self.number,
                    "transaction": self.carried,
                    "released_at": due.released_at,
                    "started_at": started,
                    "ended_at": None if math.isnan(ended) else ended,
                    "late": late,
                    "held": 0.0,
                    "stage": self.stage,
                    "code": reply.code,
                    "enhanced": reply.enhanced,
                    "text": reply.text,
                    "limit": limit,
                    "final": final,
                    **self.seconds,
                    "after": self.after,
                }
            )
        if final:
            seconds = (ended - entry.due) / generator.plan.time_scale
            generator.note(Note(line.lane.provider, "message", seconds, entry.bytes, said))
            generator.decided()
        if reply.code in (0, 421) or (self.session is not None and self.session.gone):
            self.close(gone=True)
        elif self.stage in BEFORE_MAIL or line.queue.session_is_full(self.carried):
            self.close()

    def exchange(self, entry: Entry, write: Write) -> Reply:
        """Say it all, and return the last reply; code 0 if there was none."""
        try:
            if self.session is None:
                reply = self.open()
                if reply.code >= 400:
                    return reply
            session = self.session
            assert session is not None
            self.carried += 1
            self.timed = "mail"
            try:
                _, reply = session.offer(entry.mail_from, entry.rcpt_to)
            finally:  # also if the connection is lost, or the run ends meanwhile
                self.stage = session.stage
            self.done(reply)
            if reply.code == 354:
                self.stage, self.timed = "EOD", "data"
                text = write(entry)
                reply = session.send(text)
                self.done(reply, len(text))
        except Lost as error:
            reply = Reply(0, "", str(error))
            self.done(reply)
        return reply

    def open(self) -> Reply:
        """Open a session, and return the refusal, or the last reply."""
        line, lane = self.line, self.line.lane
        self.generator.sessions += 1
        self.number, self.carried = self.generator.sessions, 0
        self.ip = lane.ips[self.position] if lane.ips else ""
        timeout = lane.timeout / self.generator.plan.time_scale
        session = self.session = Session(lane.address, lane.port, self.ip, timeout)
        reply = session.banner()
        if reply.code < 400:
            self.stage = "EHLO"
            reply = session.ehlo()
        self.done(reply)
        if reply.code < 400 and lane.tls:
            self.timed = "tls"
            assert self.generator.context is not None
            reply = session.starttls(self.generator.context, lane.host)
            self.done(reply)
        if reply.code < 400 and lane.auth:
            self.stage, self.timed = "AUTH", "auth"
            account = line.route.account
            secret = self.generator.secret(lane, account)
            try:
                reply = session.auth(account, secret, token=lane.auth == "oauth")
            except ValueError as error:  # it offers no way to log in: that is what became of the attempt
                raise Lost(str(error)) from error
            self.done(reply)
        return reply

    def done(self, reply: Reply, size: int = 0) -> None:
        """Time a stage that is over."""
        now = time.perf_counter()
        seconds, self._at = now - self._at, now
        self.seconds[self.timed] += seconds
        refusal = "" if 200 <= reply.code < 400 else self.line.sentence(reply)[1]
        self.generator.note(Note(self.line.lane.provider, self.timed, seconds, size, refusal))

    def close(self, gone: bool = False) -> None:
        """End the session, if there is one; `gone`: there is nobody to say goodbye to."""
        if self.position >= 0:
            self.line.ips.free(self.position)
            self.position = -1
        session, self.session = self.session, None
        if session is not None:
            if gone:
                session.close()
            else:
                session.quit()


def post(control: str, path: str, form: dict[str, str]) -> dict[str, Any]:
    """Ask a control port for something, and return its answer.

    Parameters
    ----------
    control : str
        The address of a control port: ``http://HOST:PORT``.
    path : str
        What is asked for.
    form : dict of str to str
        The fields to send.

    Returns
    -------
    dict of str to object
        The JSON document that came back.
    """
    connection = http.client.HTTPConnection(control, timeout=30)
    try:
        connection.request("POST", path, urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"})
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return answer


def plain_text(entry: Entry) -> bytes:
    """Write a message as `loadtests.smtp.text` does.

    Parameters
    ----------
    entry : Entry
        The message, as the plan has it.

    Returns
    -------
    bytes
        As on the wire, dot and all.
    """
    return text(entry.message_id, entry.mail_from, entry.rcpt_to, entry.bytes)
