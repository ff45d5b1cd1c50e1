"""The simulation: each connection of a channel is a SimPy event that comes again, and leaves a record.

A connection asks the `Queue` for the next message and the `Receiver` for the reply. Neither decision is made here.
"""

import math
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from struct import Struct

import numpy as np
import simpy
from simpy.events import NORMAL, ProcessGenerator
from simpy.events import Event as SimEvent

from simlib.attempts import COLUMNS, Attempts
from simlib.channel import Incident, Lane, Service, allotments, routes
from simlib.faults import FaultyReceiver
from simlib.provider import Reply
from simlib.receiver import TOKEN_LIFETIME, Account, Receiver, Session
from simlib.sender import Due, Ips, Queue
from simlib.windows import INSTANT
from simlib.workload import Messages, recipients

__all__ = ["by_day", "simulate", "splits"]

RNG = Callable[..., np.random.Generator]
Floats = np.typing.NDArray[np.float64]
Ints = np.typing.NDArray[np.int64]
Conversation = Generator[None, SimEvent, tuple[Session, Reply]]
BEFORE_MAIL = ("CONNECT", "EHLO", "AUTH")
ROW = Struct(f"{len(COLUMNS)}d")  # packed, a row joins the array four times as fast as number by number


class _Wake(SimEvent):
    """What a connection waits for: one event that happens again and again, for less than a process's timeouts cost."""

    _ok, _value = True, None  # it can't fail
    moment = math.nan  # what an idle connection was called for

    def wakes(self, connection: "Connection") -> None:
        """Let a connection run until it waits for this, and go on whenever this happens."""
        self.calls = [connection.send]
        next(connection)

    def after(self, seconds: float) -> None:
        """Let it happen so much later."""
        self.callbacks = self.calls  # SimPy has taken them off when it happened last
        self.env.schedule(self, NORMAL, seconds)

    def at(self, moment: float, now: float) -> None:
        """Let it happen at a moment that is known already, or now: it calls an idle connection."""
        self.moment = moment
        self.after(moment - now)


Connection = Generator[None, SimEvent, None]


@dataclass(slots=True)
class _Line:
    """A queue in the simulation, with the connections that are idle."""

    number: int
    lane: Lane
    account: str
    messages: Ints
    queue: Queue
    receiver: Receiver
    next_service: Callable[[], float]
    ips: Ips
    addresses: Sequence[int]
    idle: deque[_Wake] = field(default_factory=deque)
    watched_until: float = math.inf
    under_way: dict[int, tuple[Due, Session, int, float]] = field(default_factory=dict)

    def ready_at(self) -> float:
        """Return the earliest moment at which a connection without a session may have a message to offer."""
        ready_at = self.queue.ready_at()
        return max(ready_at, self.ips.opens_at()) if self.ips.gates else ready_at


PART = 32
"""A message's number in a run is that of its part, so many bits to the left, plus its position in the part."""
POSITION = (1 << PART) - 1


class _Part:
    """The messages of a part of the run, as the connections need them, and which of them aren't decided yet."""

    __slots__ = ("before", "bytes", "created_at", "mail_from", "messages", "open", "recipients")

    def __init__(self, messages: Messages, before: int) -> None:
        self.messages = messages
        self.before = before  # messages of earlier parts: a recipient goes by its message's number in the run
        self.open = np.ones(len(messages), dtype=bool)
        self.created_at = array("d", messages.created_at.tobytes())
        self.recipients = array("q", messages.recipients.tobytes())
        self.bytes = array("q", messages.bytes.tobytes())
        self.mail_from = [messages.addresses[sender] for sender in messages.sender.tolist()]


def _heard(reply: Reply, timeout: float) -> Reply:
    """Return what a client hears that waits so long: if it goes away, or is left, 0 and how long that took."""
    delay = math.inf if reply.breaks == "silence" else reply.delay
    if delay <= timeout and reply.breaks != "instead":
        return reply
    return Reply(0, "", "", reply.stage, reply.limit, min(reply.held, timeout), min(delay, timeout))


class _Simulation:
    """The state of one run; what a connection does is one of its methods."""

    def __init__(self, duration: float) -> None:
        self.env = simpy.Environment()
        self.parts: dict[int, _Part] = {}  # those with messages that aren't decided
        self.duration = duration
        self.rows = array("d")
        self.kinds: dict[tuple[str, int, str, str, str, str], int] = {}
        self.ips: list[str] = []
        self.lines: list[_Line] = []
        self.passwords: dict[tuple[str, str], str] = {}
        self.tokens: dict[tuple[str, str], tuple[str, float]] = {}
        self.unheard: dict[int, int] = {}

    # Queues and their connections

    def add(self, line: _Line, connections: int) -> None:
        """Put a line to work with so many connections."""
        self.lines.append(line)
        for _ in range(connections):
            wake = _Wake(self.env)
            wake.wakes(self.connection(line, wake))

    def hand_over(self, line: _Line, now: float) -> None:
        """Before a connection gets busy with a message: see to it that an idle one comes for what is due next."""
        if not line.idle:
            return
        at = line.ready_at()
        if at <= now + INSTANT:
            line.idle.popleft().at(now, now)
        elif at < line.watched_until and at <= self.duration:
            line.watched_until = at
            line.idle.popleft().at(at, now)

    def connection(self, line: _Line, wake: _Wake) -> Connection:
        """One connection: take the next message, open a session if there is none, offer it, note the reply."""
        env, queue, receiver, lane = self.env, line.queue, line.receiver, line.lane
        next_due, offer, end_of_data, next_service = queue.next, receiver.offer, receiver.end_of_data, line.next_service
        ips, addresses, reacts = line.ips, line.addresses, bool(line.ips.gates)
        setup, timeout, provider = lane.channel.session_setup, lane.channel.timeout, lane.provider.name
        faulty = isinstance(receiver, FaultyReceiver) and bool(receiver.faults)
        parts, kinds = self.parts, self.kinds
        add_row, as_bytes = self.rows.frombytes, ROW.pack
        session: Session | None = None
        said: Reply | None = None  # the last reply of the provider's, and what came of it
        unheard, delay = False, 0.0
        position = carried = kind = 0
        now = env.now
        while True:
            if reacts and session is not None and ips.opens_at(position) > now:
                self.close(line, session, position, now)  # its IP has to wait; another may not
                session = None
            due = None if reacts and session is None and ips.opens_at() > now else next_due(now)
            if due is None:
                if session is not None:
                    self.close(line, session, position, now)
                    session = None
                at = line.ready_at()
                if at < line.watched_until and at <= self.duration:
                    line.watched_until = at  # one idle connection comes for the next message, the others when called
                    wake.at(at, now)
                else:
                    line.idle.append(wake)
                yield
                if wake.moment == line.watched_until:
                    line.watched_until = math.inf
                now = env.now
                continue
            message, retry, due_at, released_at = due
            part, place = parts[message >> PART], message & POSITION
            started = now
            refusal: Reply | None = None
            if session is None:
                position, carried = ips.take(now), 0
            if reacts:
                ips.begin(position, now)
            if faulty:
                session, reply = yield from self.converse(line, wake, due, session, position)
                now = env.now
                refusal = reply if reply.stage in BEFORE_MAIL else None
            elif session is None:
                session, reply = receiver.connect(self.ips[addresses[position]], now)
                if setup > 0:  # being turned away takes as long: else a surplus connection would try all mail at once
                    line.under_way[message] = due, session, position, started
                    wake.after(setup)
                    self.hand_over(line, now)
                    yield
                    now += setup
                refusal = reply if reply.code >= 400 else self.log_in(line, session, now)
            if refusal is not None:
                reply = refusal
            elif not faulty:
                reply = offer(session, part.mail_from[place], part.recipients[place], now)
                if reply.code < 400:
                    service = next_service()
                    if service > 0:
                        wake.after(service)
                        if started == now:
                            line.under_way[message] = due, session, position, started
                            self.hand_over(line, now)
                        yield
                        now += service
                    reply = end_of_data(session, part.bytes[place], now)
            carried += 1
            if reply is not said:
                said, heard = reply, _heard(reply, timeout)
                unheard = heard is not reply and reply.accepted
                kind = kinds.setdefault((provider, *heard[:5]), len(kinds))
                code, limit, held, delay = heard.code, heard.limit, heard.held, heard.delay
            if unheard:
                self.unheard[message] = self.unheard.get(message, 0) + 1
            ended = now + delay
            final = 200 <= code < 300 or queue.settle(due, code, limit, part.created_at[place], ended)
            add_row(
                as_bytes(
                    message, line.number, session.number, session.transaction, addresses[position], retry,
                    due_at, released_at, started, ended, held, kind, final,
                )
            )  # fmt: skip
            if line.under_way:
                line.under_way.pop(message, None)
            if delay > 0:
                wake.after(delay)
                if started == now:
                    self.hand_over(line, now)
                yield
                now += delay
            if reacts:
                ips.end(position, started, now, code, reply.stage, limit)
            if refusal is not None or code in (0, 421) or queue.session_is_full(carried):
                self.close(line, session, position, now)
                session = None

    def converse(self, line: _Line, wake: _Wake, due: Due, session: Session | None, position: int) -> Conversation:
        """Make one attempt command by command, as it has to be where any reply may be late or missing.

        Return the session, and what the client has heard last; of the reply to the dot, what the provider says.
        """
        env, receiver, lane, message = self.env, line.receiver, line.lane, due.message
        patience, started = lane.channel.timeout, env.now
        part, place = self.parts[message >> PART], message & POSITION

        def wait(one: Session, seconds: float) -> Connection:
            if seconds > 0:
                line.under_way[message] = due, one, position, started
                wake.after(seconds)
                self.hand_over(line, env.now)
                yield

        def hear(one: Session, reply: Reply) -> Generator[None, SimEvent, Reply]:
            late = math.inf if reply.breaks == "silence" else reply.delay
            yield from wait(one, min(late, patience))
            lost = late > patience or reply.breaks == "instead"
            return Reply(0, "", "", reply.stage) if lost else reply._replace(delay=0.0)

        commands: list[Callable[[float], Reply]] = []
        if session is None:
            session, banner = receiver.connect(self.ips[line.addresses[position]], started)
            reply = yield from hear(session, banner)
            yield from wait(session, lane.channel.session_setup)  # being turned away takes as long
            commands = self.opening(line, session)
        else:
            reply = Reply(220, "", "", "CONNECT")
        to = recipients(lane.provider.name, part.before + place, part.recipients[place])
        commands.append(partial(receiver.mail, session, part.mail_from[place]))
        commands += [partial(receiver.rcpt, session, address) for address in to]
        commands.append(partial(receiver.data, session))
        for command in commands:
            if not 0 < reply.code < 400:
                break
            reply = yield from hear(session, command(env.now))
        if 0 < reply.code < 400:
            yield from wait(session, line.next_service())
            return session, receiver.end_of_data(session, part.bytes[place], env.now)
        if reply.code not in (0, 421) and reply.stage not in BEFORE_MAIL:
            receiver.rset(session, env.now)
        return session, reply

    def opening(self, line: _Line, session: Session) -> list[Callable[[float], Reply]]:
        """Return the commands before the first MAIL; each is told the time."""
        receiver, provider = line.receiver, line.lane.provider
        if not receiver.needs_auth:
            return [partial(receiver.ehlo, session)]

        def log_in(now: float) -> Reply:
            if not line.lane.oauth:
                password = self.passwords.get((provider.name, line.account), "password")
                return receiver.auth(session, line.account, password, now)
            token = self.token(line)
            # without a word from the endpoint there is nothing to log in with: a reason to come again
            return Reply(0, "", "", "AUTH") if token is None else receiver.auth(session, line.account, token, now, True)

        tls = [partial(receiver.starttls, session), partial(receiver.ehlo, session)]
        return [partial(receiver.ehlo, session), *(tls if provider.tls == "required" else []), log_in]

    @staticmethod
    def close(line: _Line, session: Session, position: int, now: float) -> None:
        """End a session, and free its place on the IP."""
        line.receiver.disconnect(session, now)
        line.ips.free(position)

    def log_in(self, line: _Line, session: Session, now: float) -> Reply | None:
        """EHLO, STARTTLS and AUTH, as far as the provider has them; return the refusal, if there is one."""
        receiver, lane = line.receiver, line.lane
        if not receiver.needs_auth:
            reply = receiver.ehlo(session, now)
        elif lane.oauth:
            reply = receiver.log_in(session, line.account, self.token(line) or "", now, token=True)
        else:
            password = self.passwords.get((lane.provider.name, line.account), "password")
            reply = receiver.log_in(session, line.account, password, now)
        return reply if reply.code >= 400 else None

    def token(self, line: _Line) -> str | None:
        """Return the access token that the client has, renewed if it ran out.

        Empty if it is refused one; None if the endpoint is down.
        """
        key = line.lane.provider.name, line.account
        token, until = self.tokens.get(key, ("", -math.inf))
        if self.env.now >= until:
            account = line.receiver.accounts[line.account]
            issued = line.receiver.issue_token(line.account, account.refresh_token, self.env.now)
            if issued == "":
                return None
            token = issued or ""
            self.tokens[key] = token, self.env.now + (TOKEN_LIFETIME if token else 0.0)
        return token

    # Incidents

    def incident(self, incident: Incident, receivers: Iterable[Receiver]) -> ProcessGenerator:
        """Let it happen, and let it be repaired."""
        yield self.env.timeout(incident.at)
        self.strike(incident, receivers)
        if incident.repaired_at < math.inf:
            yield self.env.timeout(incident.repaired_at - self.env.now)
            self.repair(incident, receivers)

    def strike(self, incident: Incident, receivers: Iterable[Receiver]) -> None:
        """Change the provider's side."""
        for receiver in receivers:
            if incident.kind == "blocklisted":
                receiver.blocked.update(incident.targets)
            elif incident.kind == "delisted":
                receiver.blocked.difference_update(incident.targets)
            else:
                for account in self.accounts(incident, receiver):
                    if incident.kind == "password_change":
                        account.password += "'"
                    elif incident.kind == "token_revoked":
                        receiver.revoke(account.user)
                    else:
                        account.disabled = True

    def repair(self, incident: Incident, receivers: Iterable[Receiver]) -> None:
        """Change our side, or the provider's back."""
        for receiver in receivers:
            if incident.kind == "blocklisted":
                receiver.blocked.difference_update(incident.targets)
                continue
            for account in self.accounts(incident, receiver):
                if incident.kind == "password_change":
                    self.passwords[receiver.provider.name, account.user] = account.password
                elif incident.kind == "token_revoked":
                    account.revoked = False
                    self.tokens.pop((receiver.provider.name, account.user), None)
                elif incident.kind == "auth_disabled":
                    account.disabled = False

    @staticmethod
    def accounts(incident: Incident, receiver: Receiver) -> Iterable[Account]:
        """Return those of the targets that this provider knows."""
        found = (receiver.accounts.get(user) for user in incident.targets)
        return [account for account in found if account is not None]

    # The record

    def decided(self, queues: tuple[tuple[str, str, str], ...]) -> Attempts:
        """Take out of the record what is decided, all attempts of those messages."""
        rows = np.frombuffer(self.rows).reshape(-1, len(COLUMNS)).copy()
        del self.rows[:]  # in place: the connections hold on to it
        numbers = rows[:, COLUMNS.index("message")].astype(np.int64)
        chosen = np.unique(numbers[rows[:, COLUMNS.index("final")] > 0])
        mine = np.isin(numbers, chosen)
        self.rows.frombytes(rows[~mine].tobytes())
        for line in self.lines:
            line.messages = line.messages[~np.isin(line.messages, chosen)]
        return self.record(rows[mine], chosen, queues)

    def rest(self, queues: tuple[tuple[str, str, str], ...]) -> Attempts:
        """Return the record as of the end of the run: what was under way has no outcome, what never began no start."""
        nothing = [
            self.kinds.setdefault((line.lane.provider.name, 0, "", "", "", ""), len(self.kinds)) for line in self.lines
        ]
        for line, kind in zip(self.lines, nothing, strict=True):
            for (message, retry, due_at, released_at), session, position, started in line.under_way.values():
                begun = (message, line.number, session.number, session.transaction, line.addresses[position], retry)
                self.rows.extend((*begun, due_at, released_at, started, math.nan, 0.0, kind, False))
        offered = np.unique(np.frombuffer(self.rows)[:: len(COLUMNS)].astype(np.int64))
        waiting = np.concatenate([line.messages for line in self.lines]) if self.lines else offered
        never = ~np.isin(waiting, offered)  # of all queues at once: most have a few messages
        owner = np.repeat(np.arange(len(self.lines)), [len(line.messages) for line in self.lines])
        for message, number in zip(waiting[never].tolist(), owner[never].tolist(), strict=True):
            at = self.parts[message >> PART].created_at[message & POSITION]
            line, kind = self.lines[number], nothing[number]
            self.rows.extend((message, line.number, 0, 0, -1, 0, at, *[math.nan] * 3, 0.0, kind, False))
        rows = np.frombuffer(self.rows).reshape(-1, len(COLUMNS))
        column = {name: position for position, name in enumerate(COLUMNS)}
        late = rows[:, column["ended"]] > self.duration
        kinds = list(self.kinds)
        for row in np.flatnonzero(late):
            # the reply was still held when the run ended
            provider, _, _, _, stage, limit = kinds[int(rows[row, column["kind"]])]
            answered_at = rows[row, column["ended"]] - rows[row, column["held"]]
            rows[row, column["held"]] = max(0.0, self.duration - answered_at)
            rows[row, column["kind"]] = self.kinds.setdefault((provider, 0, "", "", stage, limit), len(self.kinds))
        rows[late, column["ended"]] = math.nan
        rows[late, column["final"]] = False
        left = [np.flatnonzero(part.open) + (number << PART) for number, part in self.parts.items()]
        return self.record(rows, np.concatenate(left), queues)

    def record(self, rows: Floats, chosen: Ints, queues: tuple[tuple[str, str, str], ...]) -> Attempts:
        """Return the rows of the messages with these numbers, in ascending order, as a record of its own."""
        if len(chosen) and chosen[-1] >= len(chosen):
            numbers = rows[:, COLUMNS.index("message")].astype(np.int64)
            rows[:, COLUMNS.index("message")] = np.searchsorted(chosen, numbers)
        found = []
        for number, part in list(self.parts.items()):
            here = chosen[chosen >> PART == number] & POSITION
            whole = len(here) == len(part.open)
            found.append(part.messages if whole else part.messages.at(here))
            part.open[here] = False
            if not part.open.any() and number < max(self.parts):
                del self.parts[number]
        slowed = tuple((line.number, *episode) for line in self.lines for episode in line.ips.slowed())
        unheard = {}
        for number in np.intersect1d(list(self.unheard), chosen).tolist():
            unheard[int(np.searchsorted(chosen, number))] = self.unheard.pop(number)
        return Attempts(Messages.joined(found), rows, tuple(self.kinds), queues, tuple(self.ips), slowed, unheard)


def simulate(
    lanes: Sequence[Lane],
    messages: Messages,
    receivers: Mapping[str, Receiver],
    duration: float,
    rng: RNG,
    incidents: Sequence[tuple[Incident, tuple[str, ...]]] = (),
) -> Attempts:
    """Run one alternative once.

    Parameters
    ----------
    lanes : sequence of Lane
        Its channels, each on its way to each of its providers.
    messages : Messages
        What is offered, in the order of creation.
    receivers : mapping of str to Receiver
        The providers, by name; all channels to one provider meet the same.
    duration : float
        When the run ends, in seconds.
    rng : callable
        Gives the random stream of a name.
    incidents : sequence of (Incident, providers), optional
        What happens to credentials and IPs, and at which providers.

    Returns
    -------
    Attempts
        The record.
    """
    (whole,) = by_day(lanes, [(duration, messages)], receivers, duration, rng, incidents)
    return whole


def splits(lanes: Sequence[Lane]) -> bool:
    """Whether an alternative can be simulated a day at a time.

    Not where accounts queue apart, or where a reply is held: how long a message waited for another's would then depend
    on more than what became of it.

    Parameters
    ----------
    lanes : sequence of Lane
        The alternative's channels, on their way to each provider.

    Returns
    -------
    bool
        Whether `by_day` may be told several days.
    """
    return all(not lane.by_account and not any(limit.holds for limit in lane.provider.limits) for lane in lanes)


def by_day(
    lanes: Sequence[Lane],
    days: Iterable[tuple[float, Messages]],
    receivers: Mapping[str, Receiver],
    duration: float,
    rng: RNG,
    incidents: Sequence[tuple[Incident, tuple[str, ...]]] = (),
) -> Iterator[Attempts]:
    """Run one alternative once, and let go of what is decided at the end of each day: `simulate` in bounded memory.

    Parameters
    ----------
    lanes
        As for `simulate`; several days only where they can be split (`splits`).
    days : iterable of (float, Messages)
        What is offered, and until when, in seconds; the last of them until `duration`.
    receivers, duration, rng, incidents
        As for `simulate`.

    Yields
    ------
    Attempts
        A record of all the attempts of those messages that were decided; the last one has also what wasn't.
    """
    run = _Simulation(duration)
    shared: dict[int, tuple[Callable[[], float], Ips]] = {}  # by lane
    queues: tuple[tuple[str, str, str], ...] = ()
    warming, before = allotments(lanes), 0
    for day, (until, messages) in enumerate(days):
        run.parts[day] = _Part(messages, before)
        before += len(messages)
        run.ips, found = routes(lanes, messages, warming)
        for number, route in enumerate(found):
            lane, numbers = route.lane, route.messages + (day << PART)
            due_at = array(
                "d", (messages.created_at[route.messages] if route.due_at is None else route.due_at).tobytes()
            )
            senders = messages.sender[route.messages].tolist() if lane.pace else None
            if day:
                line = run.lines[number]
                line.messages = np.concatenate([line.messages, numbers])
                line.queue.extend(due_at, array("q", numbers.tobytes()), senders)
                run.hand_over(line, run.env.now)
                continue
            if id(lane) not in shared:
                # named by who sends, so that a pool with one tenant and a dedicated channel draw the same
                stream = rng("service", lane.channel.tenants[0], lane.provider.name)
                most = math.inf if lane.by_account else lane.connections
                turns = Ips(len(route.ips), most, lane.reaction, lane.throttles)
                shared[id(lane)] = _drawing(lane.channel.service, stream), turns
            next_service, turns = shared[id(lane)]
            queue = Queue(
                due_at,
                array("q", numbers.tobytes()),
                senders,
                lane.pace,
                lane.retry,
                lane.heeds,
                lane.messages_per_session,
            )
            receiver = receivers[lane.provider.name]
            line = _Line(number, lane, route.account, numbers, queue, receiver, next_service, turns, route.ips)
            run.add(line, route.connections)
        if not day:
            queues = tuple((route.lane.channel.name, route.lane.provider.name, route.account) for route in found)
            for incident, providers in incidents:
                run.env.process(run.incident(incident, [receivers[name] for name in providers]))
        run.env.run(until=until)
        yield run.decided(queues) if until < duration else run.rest(queues)


def _drawing(service: Service, rng: np.random.Generator) -> Callable[[], float]:
    """Return a function that gives the next service time; drawn in blocks, since single draws are slow."""
    if service.kind == "constant":
        return repeat(service.mean).__next__
    return chain.from_iterable(service.draw(rng, 1024).tolist() for _ in repeat(None)).__next__
