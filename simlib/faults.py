"""What goes wrong at a provider, by a file: refusals, broken connections, lost replies, stalls, greylisting, outages.

A fault says what it does, at which command, to whom, when, and how often. `Schedule` decides which commands it strikes:
a pure function of the file, the seed and the commands so far, so that a simulation and a fake server that see the same
commands show the same faults. `FaultyReceiver` is a `Receiver` that asks it. Nothing here knows a clock or a socket.
"""

import datetime as dt
import ipaddress
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from simlib.facts import Frozen, Seconds, check
from simlib.provider import STAGES, Provider, Reply, Stage, Wire
from simlib.receiver import Account, Receiver, Session
from simlib.reputation import Reputation, chance
from simlib.windows import INSTANT

__all__ = ["NO_FAULTS", "Fault", "Faults", "FaultyReceiver", "Occasion", "Schedule"]


def _odds(value: object) -> object:
    """Read ``"1%"``, or a share such as 0.01."""
    if isinstance(value, str) and value.endswith("%"):
        try:
            return float(Fraction(value[:-1]) / 100)
        except (ValueError, ZeroDivisionError):
            pass
    elif isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"must look like '1%' or be a share from 0 to 1, got {value!r}")


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"must be from 0 % to 100 %, got {value * 100:g} %")
    return value


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError(f"must be an IP address or a network like '127.0.1.0/24', got {value!r}") from None
    return value


Odds = Annotated[float, BeforeValidator(_odds), AfterValidator(_share)]
Pattern = Annotated[str, Field(min_length=1), AfterValidator(str.lower)]


class _Aimed(Frozen):
    """Whom a fault is about, and when: what is left out is everybody, and always."""

    name: str = Field(default="", max_length=100)
    provider: str = ""
    account: Pattern | None = None
    odds: Odds = 1.0
    since: Seconds = Field(default=0.0, alias="from")
    until: Seconds | None = None

    @model_validator(mode="after")
    def _has_a_beginning(self) -> "_Aimed":
        if self.until is not None and self.until <= self.since:
            raise ValueError(f"until must come after from, which is {self.since:g} s, got {self.until:g} s")
        return self

    def aims_at(self, occasion: "Occasion") -> bool:
        """Whether a command is one of those that it is about."""
        return (
            self.since <= occasion.now
            and (self.until is None or occasion.now < self.until)
            and (self.account is None or fnmatchcase(occasion.account.lower(), self.account))
        )


class _AtCommand(_Aimed):
    """What strikes at a command."""

    at: Stage
    ip: Annotated[str, AfterValidator(_network)] | None = None
    sender: Pattern | None = None
    recipient: Pattern | None = None

    @model_validator(mode="after")
    def _knows_whom(self) -> "_AtCommand":
        known = {"account": "AUTH", "sender": "MAIL", "recipient": "RCPT"}
        for key, stage in known.items():
            if getattr(self, key) is not None and STAGES.index(self.at) < STAGES.index(stage):
                raise ValueError(f"{key} is not known before {stage}: leave it out or take a later `at`, got {self.at}")
        return self

    def aims_at(self, occasion: "Occasion") -> bool:
        """Whether a command is one of those that it is about."""
        return (
            occasion.stage == self.at
            and super().aims_at(occasion)
            and (self.ip is None or _within(occasion.ip, self.ip))
            and (self.sender is None or fnmatchcase(occasion.sender.lower(), self.sender))
            and (self.recipient is None or any(fnmatchcase(one.lower(), self.recipient) for one in occasion.recipients))
        )


def _refusal(reply: tuple[int, str, str]) -> tuple[int, str, str]:
    if not 400 <= reply[0] < 600:
        raise ValueError(f"must be a refusal, 4yz or 5yz, got {reply[0]}")
    return reply


Refusal = Annotated[Wire, AfterValidator(_refusal)]


class Refuse(_AtCommand):
    """The command is refused with a reply of one's own; no limit sees it. 421 ends the session."""

    kind: Literal["refuse"] = "refuse"
    reply: Refusal


class DropBefore(_AtCommand):
    """The connection ends instead of a reply; the command is never carried out."""

    kind: Literal["drop_before"] = "drop_before"


class DropAfter(_AtCommand):
    """The command gets its reply, and then the connection ends without a word."""

    kind: Literal["drop_after"] = "drop_after"


class LoseReply(_AtCommand):
    """The message is accepted (or refused) as ever, and nobody is told: the connection ends, or stays silent."""

    kind: Literal["lose_reply"] = "lose_reply"
    at: Literal["EOD"] = "EOD"
    silent: bool = False


class Stall(_AtCommand):
    """The reply leaves late; at CONNECT it is a slow banner."""

    kind: Literal["stall"] = "stall"
    delay: Annotated[Seconds, Field(gt=0)]


class Greylist(_AtCommand):
    """Recipients are deferred until the same IP, sender and recipient come again after a while (RFC 6647).

    A try before the delay is over is deferred as well, and doesn't begin it anew. Who wasn't seen for longer than the
    retention is a stranger again.
    """

    kind: Literal["greylist"] = "greylist"
    at: Literal["RCPT"] = "RCPT"
    delay: Annotated[Seconds, Field(gt=0)]
    retention: Seconds
    reply: Refusal = (450, "4.7.1", "sendlab: greylisted, try again later")

    @model_validator(mode="after")
    def _lets_somebody_pass(self) -> "Greylist":
        if self.odds != 1:
            raise ValueError(f"odds: a greylist knows by itself whom it defers: leave it out, got {self.odds:g}")
        if self.retention <= self.delay:
            raise ValueError(f"retention must be longer than the delay of {self.delay:g} s, got {self.retention:g} s")
        return self


class AuthOutage(_AtCommand):
    """AUTH fails for a while, whatever the credential (RFC 4954 §6)."""

    kind: Literal["auth_outage"] = "auth_outage"
    at: Literal["AUTH"] = "AUTH"
    reply: Refusal = (454, "4.7.0", "Temporary authentication failure")


class TokenOutage(_Aimed):
    """The token endpoint gives no tokens."""

    kind: Literal["token_outage"] = "token_outage"


Fault = Annotated[
    Refuse | DropBefore | DropAfter | LoseReply | Stall | Greylist | AuthOutage | TokenOutage,
    Field(discriminator="kind"),
]
"""Something that goes wrong: one table of the file."""


@cache
def _network_of(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


@cache
def _within(ip: str, network: str) -> bool:
    return ipaddress.ip_address(ip) in _network_of(network)


@cache
def _ratio(odds: float) -> Fraction:
    return Fraction(str(odds))


class _File(Frozen):
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, in the order of the file: at each command the first that strikes acts, alone.

    Parameters
    ----------
    faults : tuple of Fault
        Each with a name of its own; without one, its kind and its place (``stall-2``).
    seed, replication : int
        Which commands are struck, where not all are.

    Examples
    --------
    >>> faults = Faults.parse('faults = [{ kind = "lose_reply", odds = "1%", sender = "*@us.example" }]')
    >>> faults.names, faults.faults[0].at, faults.faults[0].odds
    (('lose_reply-1',), 'EOD', 0.01)
    """

    faults: tuple[Fault, ...] = ()
    seed: int = 1
    replication: int = 0

    @classmethod
    def build(cls, data: Mapping[str, Any], where: str = "faults", seed: int = 1, replication: int = 0) -> "Faults":
        """Check faults given as the dictionary that the file would be.

        Parameters
        ----------
        data : mapping
            As read from TOML.
        where : str, optional
            What errors call it.
        seed, replication : int, optional
            Which run of the random streams.

        Returns
        -------
        Faults
            At its beginning.

        Raises
        ------
        ValueError
            One line that names place, key, rule and value, if anything in it can't be.
        """
        read = check(_File, data, where).faults
        named = tuple(
            one if one.name else one.model_copy(update={"name": f"{one.kind}-{place}"})
            for place, one in enumerate(read, 1)
        )
        names = [one.name for one in named]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"{where}: faults: name given twice: {twice!r}")
        return cls(named, seed, replication)

    @classmethod
    def parse(cls, text: str, where: str = "faults", seed: int = 1) -> "Faults":
        """Read faults from TOML or, where the text begins with a brace, from JSON.

        Parameters
        ----------
        text : str
            TOML or JSON.
        where : str, optional
            What errors call it.
        seed : int, optional
            Of the random streams.

        Returns
        -------
        Faults
            At its beginning.

        Raises
        ------
        ValueError
            One line, if it is neither, or if anything in it can't be.
        """
        is_json = text.lstrip().startswith("{")
        try:
            data = json.loads(text) if is_json else tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not valid {'JSON' if is_json else 'TOML'}: {error}") from None
        return cls.build(data, where, seed)

    @classmethod
    def load(cls, path: Path, seed: int = 1) -> "Faults":
        """Read a file, TOML or JSON.

        Parameters
        ----------
        path : Path
            A file of TOML or JSON.
        seed : int, optional
            Of the random streams.

        Returns
        -------
        Faults
            At its beginning.

        Raises
        ------
        ValueError
            One line that names the file, if it can't be read or anything in it can't be.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
        return cls.parse(text, str(path), seed)

    def data(self) -> list[dict[str, Any]]:
        """Return the tables that the file has, each with its name.

        Returns
        -------
        list of dict
            As `build` takes them.
        """
        return [
            {"kind": one.kind, **one.model_dump(mode="json", by_alias=True, exclude_defaults=True)}
            for one in self.faults
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(one.name for one in self.faults)

    def meant_for(self, providers: Sequence[str]) -> "Faults":
        """Return them, if each is about one of these providers, or about all.

        Parameters
        ----------
        providers : sequence of str
            Names of providers.

        Returns
        -------
        Faults
            Themselves.

        Raises
        ------
        ValueError
            If one names another: it would never strike.
        """
        for one in self.faults:
            if one.provider and one.provider not in providers:
                known = f"(there are: {', '.join(providers)})"
                raise ValueError(f"faults[{one.name}].provider: unknown provider {one.provider!r} {known}")
        return self

    def __bool__(self) -> bool:
        return bool(self.faults)


NO_FAULTS: Final = Faults()


class Occasion(NamedTuple):
    """A command at which something may go wrong; what isn't known yet is empty.

    Parameters
    ----------
    stage : str
        The command, one of `STAGES`; ``TOKEN`` where a token is asked for.
    now : float
        When, in seconds.
    ip, account, sender : str
        Whose.
    recipients : tuple of str
        At RCPT the one in question, later those that were taken.
    """

    stage: Stage | Literal["TOKEN"]
    now: float
    ip: str = ""
    account: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()


@dataclass(slots=True)
class _Progress:
    """How far a fault has come."""

    met: int = 0
    struck: int = 0
    left: int = 0  # of the block of commands in which a known number is struck
    due: int = 0  # of them, how many still are
    seen: dict[tuple[str, str, str], tuple[float, float]] = field(default_factory=dict)  # by a greylist: first and last


class Schedule:
    """Which commands are struck, at one provider.

    Odds are exact, not merely expected: of every 100 commands that a fault with ``"1%"`` is about, one is struck, of
    every 10 with ``"30%"`` three; the seed says which. None is with 0, every one with 100 %.

    Parameters
    ----------
    faults : Faults
        The file, and its luck.
    provider : str
        Whose commands; faults that are about another provider are left out.

    Examples
    --------
    >>> schedule = Schedule(Faults.build({"faults": [{"kind": "drop_before", "at": "MAIL", "odds": 0.3}]}), "gmail")
    >>> struck = [schedule.strike(Occasion("MAIL", now=second)) is not None for second in range(1000)]
    >>> {sum(struck[ten : ten + 10]) for ten in range(0, 1000, 10)}
    {3}
    """

    def __init__(self, faults: Faults, provider: str) -> None:
        self.faults = tuple(one for one in faults.faults if one.provider in ("", provider))
        self._luck = faults.seed, faults.replication, "fault", provider
        self._progress = {one.name: _Progress() for one in self.faults}

    @property
    def needs_recipients(self) -> bool:
        """Whether anything depends on who a message is for."""
        return any(isinstance(one, Greylist) or getattr(one, "recipient", None) is not None for one in self.faults)

    def strike(self, occasion: Occasion) -> Fault | None:
        """Return what strikes at a command, if anything does: the first in the file.

        A fault only counts the commands that it is about, and that none before it has struck.
        """
        for one in self.faults:
            if isinstance(one, TokenOutage) != (occasion.stage == "TOKEN") or not one.aims_at(occasion):
                continue
            progress = self._progress[one.name]
            progress.met += 1
            hit = _defers(one, progress, occasion) if isinstance(one, Greylist) else self._is_due(one, progress)
            if hit:
                progress.struck += 1
                return one
        return None

    def _is_due(self, fault: Fault, progress: _Progress) -> bool:
        """Draw, without replacement, from a block of as many commands as the odds' denominator."""
        share = _ratio(fault.odds)
        if not progress.left:
            progress.left, progress.due = share.denominator, share.numerator
        certain = progress.due in (0, progress.left)
        luck = 0.0 if certain else chance(*self._luck, fault.name, progress.met) * progress.left
        hit = luck < progress.due
        progress.left -= 1
        progress.due -= hit
        return hit

    def counts(self) -> Iterator[tuple[str, int, int]]:
        """Yield each fault's name, how many commands it was about, and how many it struck."""
        for name, progress in self._progress.items():
            yield name, progress.met, progress.struck


def _defers(fault: Greylist, progress: _Progress, occasion: Occasion) -> bool:
    """Whether a recipient has to come again, and remember that it came."""
    triplet = occasion.ip, occasion.sender.lower(), "".join(occasion.recipients).lower()
    first, last = progress.seen.get(triplet, (occasion.now, occasion.now))
    if occasion.now - last > fault.retention:
        first = occasion.now
    progress.seen[triplet] = first, occasion.now
    return occasion.now < first + fault.delay - INSTANT


class FaultyReceiver(Receiver):
    """A provider at which something goes wrong now and then: a `Receiver` whose answers faults replace or spoil.

    A command out of order is answered as such, and no fault is about it. What a fault refuses or cuts off, no limit
    sees. `Reply.fault` names the fault, `Reply.breaks` says what becomes of the connection.

    Parameters
    ----------
    provider, accounts, start, reputation
        As a `Receiver` takes them.
    faults : Faults, optional
        What goes wrong; nothing by default.

    Examples
    --------
    >>> faults = Faults.build({"faults": [{"kind": "refuse", "at": "MAIL", "reply": "451 4.3.0 Not now"}]})
    >>> receiver = FaultyReceiver(Provider.load("google-mx").on(dt.date(2026, 6, 1)), faults=faults)
    >>> session, banner = receiver.connect("127.0.0.1", now=0)
    >>> receiver.ehlo(session, now=0).code, receiver.mail(session, "rep01@us.example", now=0)[:4]
    (250, (451, '4.3.0', 'Not now', 'MAIL'))
    """

    def __init__(
        self,
        provider: Provider,
        accounts: Mapping[str, Account] | None = None,
        start: dt.datetime | None = None,
        reputation: Reputation | None = None,
        faults: Faults = NO_FAULTS,
    ) -> None:
        super().__init__(provider, accounts, start, reputation)
        self._stalled = 0.0  # for how long the reply to the command in hand is kept back
        self._cut: set[int] = set()  # sessions whose connection is gone, though the client may not know yet
        self._to: dict[int, list[str]] = {}  # who each session's message is for
        self.set_faults(faults)

    def set_faults(self, faults: Faults) -> None:
        """From now on, let these things go wrong, and nothing else; what they count begins anew."""
        self.faults = faults
        self.schedule = Schedule(faults, self.provider.name)
        self._is_sound = not faults  # asked at each command, and by far the most often true

    def _meet(
        self,
        session: Session,
        occasion: Occasion,
        command: Callable[[], Reply],
        give_up: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Answer a command: as ever, or as a fault will have it; `give_up` does what a refusal does to the session."""
        stage, now = occasion.stage, occasion.now
        assert stage != "TOKEN"
        if session.number in self._cut:
            return Reply(0, "", "", stage, breaks="instead")
        fault = self.schedule.strike(occasion)
        if fault is None:
            return command()
        if isinstance(fault, DropBefore):
            self._cut_off(session, now)
            return Reply(0, "", "", stage, fault=fault.name, breaks="instead")
        if isinstance(fault, Refuse | Greylist | AuthOutage):
            give_up()
            return Reply(*fault.reply, stage, fault=fault.name)
        self._stalled = fault.delay if isinstance(fault, Stall) else 0.0
        try:
            reply = command()
        finally:
            stalled, self._stalled = self._stalled, 0.0
        reply = reply._replace(fault=fault.name, delay=reply.delay + stalled)
        if isinstance(fault, Stall):
            return reply
        if isinstance(fault, LoseReply) and fault.silent:
            return reply._replace(breaks="silence")
        self._cut_off(session, now + reply.delay)
        return reply._replace(breaks="after" if isinstance(fault, DropAfter) else "instead")

    def _cut_off(self, session: Session, at: float) -> None:
        super().disconnect(session, at)
        self._cut.add(session.number)

    def _end_transaction(self, session: Session, at: float, failed: bool) -> None:
        super()._end_transaction(session, at + self._stalled, failed)

    # The commands

    def _greet(self, session: Session, now: float) -> Reply:
        if self._is_sound:
            return super()._greet(session, now)
        return self._meet(session, Occasion("CONNECT", now, session.ip), partial(super()._greet, session, now))

    def ehlo(self, session: Session, now: float) -> Reply:
        """EHLO or HELO."""
        if self._is_sound:
            return super().ehlo(session, now)
        return self._meet(session, Occasion("EHLO", now, session.ip), partial(super().ehlo, session, now))

    def starttls(self, session: Session, now: float) -> Reply:
        """STARTTLS; no fault is about it."""
        if session.number in self._cut:
            return Reply(0, "", "", "EHLO", breaks="instead")
        return super().starttls(session, now)

    def auth(
        self, session: Session, user: str, secret: str, now: float, token: bool = False, begun: bool = False
    ) -> Reply:
        """AUTH with a password, or with an access token."""
        if self._is_sound:
            return super().auth(session, user, secret, now, token, begun)
        refusal = None if begun or session.number in self._cut else self.begin_auth(session, now)
        if refusal:
            return refusal
        command = partial(super().auth, session, user, secret, now, token, begun=True)
        return self._meet(session, Occasion("AUTH", now, session.ip, user), command)

    def issue_token(self, user: str, refresh_token: str, now: float) -> str | None:
        """Give an access token; empty if the endpoint is down, None if the grant is unknown or revoked."""
        if not self._is_sound and self.schedule.strike(Occasion("TOKEN", now, account=user)) is not None:
            return ""
        return super().issue_token(user, refresh_token, now)

    def mail(self, session: Session, mail_from: str, now: float, size: int = 0) -> Reply:
        """MAIL FROM."""
        if self._is_sound:
            return super().mail(session, mail_from, now, size)
        command = partial(super().mail, session, mail_from, now, size)
        if not self._is_met(session, session.greeted and not session.started):
            return command()
        self._to[session.number] = []

        def give_up() -> None:
            session.mail_from, session.domain = mail_from, mail_from.rpartition("@")[2].lower()
            session.recipients, session.size = 0, size
            session.transaction += 1

        return self._meet(session, Occasion("MAIL", now, session.ip, session.account, mail_from), command, give_up)

    def rcpt(self, session: Session, rcpt_to: str, now: float) -> Reply:
        """RCPT TO."""
        if self._is_sound:
            return super().rcpt(session, rcpt_to, now)
        command = partial(super().rcpt, session, rcpt_to, now)
        if not self._is_met(session, session.started):
            return command()
        reply = self._meet(session, self._within_transaction("RCPT", session, now, (rcpt_to,)), command)
        if reply.accepted:
            self._to[session.number].append(rcpt_to)
        return reply

    def data(self, session: Session, now: float) -> Reply:
        """Answer the verb DATA."""
        if self._is_sound:
            return super().data(session, now)
        command = partial(super().data, session, now)
        if not self._is_met(session, session.started and session.recipients > 0):
            return command()
        return self._meet(session, self._within_transaction("DATA", session, now), command)

    def end_of_data(self, session: Session, size: int, now: float, header_from: str = "") -> Reply:
        """Answer the dot after the message."""
        if self._is_sound:
            return super().end_of_data(session, size, now, header_from)
        command = partial(super().end_of_data, session, size, now, header_from)
        if not self._is_met(session, session.started and session.recipients > 0):
            return command()

        def give_up() -> None:
            session.size = size
            self._end_transaction(session, now, failed=True)

        return self._meet(session, self._within_transaction("EOD", session, now), command, give_up)

    def rset(self, session: Session, now: float) -> Reply:
        """RSET; no fault is about it."""
        if session.number in self._cut:
            return Reply(0, "", "", "MAIL", breaks="instead")
        return super().rset(session, now)

    def disconnect(self, session: Session, now: float) -> None:
        """End the session."""
        super().disconnect(session, now)
        self._cut.discard(session.number)
        self._to.pop(session.number, None)

    def _is_met(self, session: Session, in_order: bool) -> bool:
        return in_order or session.number in self._cut

    def _within_transaction(self, stage: Stage, session: Session, now: float, to: tuple[str, ...] = ()) -> Occasion:
        known = to or tuple(self._to.get(session.number, ()))
        return Occasion(stage, now, session.ip, session.account, session.mail_from, known)
