"""The provider's side of SMTP, without I/O: every decision about which reply a client gets.

Rule 1: whatever decides a reply lives here and in `windows`; what goes wrong, in `faults`. The simulator and the
fake servers only ask.
Rule 2: this file knows no clock, no socket and no SimPy. It is told the time, in seconds since second 0, and time
never goes back.
A client's behaviour never raises: it gets a `Reply`.

A session goes through `connect`, `ehlo`, `starttls`, `auth`, then per message `mail`, `rcpt`, `data` and `end_of_data`
(or `rset`), and ends with `quit` or `disconnect`.
"""

import datetime as dt
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from operator import attrgetter
from typing import ClassVar, Final, NamedTuple

from simlib.provider import STAGES, Limit, Provider, Reply, Stage, When
from simlib.reputation import Band, Reputation, Standing
from simlib.windows import INSTANT, Window, rescale, window_of

__all__ = ["TOKEN_LIFETIME", "Account", "Receiver", "Session", "is_scaled"]

DAY: Final = 86400.0
UNLISTED: Final = "127.1."
"""How the addresses begin that no domain's SPF record lists: what comes from there, and isn't signed, is nobody's."""
TOKEN_LIFETIME: Final = 3600.0
"""How long an access token is good for, in seconds: `expires_in` of the token endpoint (DESIGN §7)."""


@dataclass(slots=True)
class Account:
    """What AUTH proves: a mailbox, or a domain's credential.

    Parameters
    ----------
    user : str
        The name that AUTH gives, in lower case.
    password : str
        What a password login has to say; the provider's side may change it.
    refresh_token : str
        What the token endpoint asks for.
    domains : frozenset of str
        The domains it may send as, where the provider's credential is a domain's.
    listed : bool
        Whether somebody wrote these domains down for it; else they are a guess, which not every provider makes.
    disabled : bool
        SMTP AUTH is switched off for it.
    revoked : bool
        Its OAuth grant is withdrawn: no new token, and the old ones fail.

    Examples
    --------
    >>> account = Account("key", domains=frozenset({"us.example"}))
    >>> account.disabled, sorted(account.domains)
    (False, ['us.example'])
    """

    user: str
    password: str = field(default="password", repr=False)
    refresh_token: str = field(default="", repr=False)
    domains: frozenset[str] = frozenset()
    listed: bool = True
    disabled: bool = False
    revoked: bool = False


class Session:
    """One connection, from connect to close, as the provider sees it.

    Parameters
    ----------
    number : int
        Its number at this provider, from 1.
    ip : str
        The address it comes from.
    plan : mapping
        What it has to pass at each stage: caps, rules that are tested, rules that are taken.
    """

    one: ClassVar[int] = 1  # what a test asks for where there is nothing to measure
    none: ClassVar[int] = 0

    @property
    def first(self) -> int:
        """1 at the first recipient: what a transaction counts where recipients come one by one."""
        return int(self.recipients == 1)

    __slots__ = (
        "account",
        "domain",
        "greeted",
        "ip",
        "mail_from",
        "messages",
        "number",
        "occupied",
        "plan",
        "rcpt_domain",
        "recipients",
        "size",
        "started",
        "taken",
        "tenant",
        "tls",
        "transaction",
    )

    def __init__(self, number: int, ip: str, plan: "Plan") -> None:
        self.number = number
        self.ip = ip
        self.plan = plan
        self.greeted = False
        self.tls = False
        self.account = ""
        self.tenant = ""
        self.messages = 0  # accepted in this session
        self.transaction = 0  # how many MAIL commands began one
        self.started = False  # a transaction is in progress
        self.mail_from = ""
        self.domain = ""
        self.rcpt_domain = ""
        self.recipients = 0
        self.size = 0
        self.taken: list[tuple[Window, float, float]] = []  # given back if the transaction fails
        self.occupied: list[Window] = []  # given back when the connection closes


class Outright(NamedTuple):
    """A refusal that needs no counting."""

    reply: Reply
    attempts: bool = False


class Rule:
    """A limit at work: one window for each account, address, domain or IP that it is counted by."""

    __slots__ = (
        "asks",
        "attempts",
        "barred",
        "given_back",
        "holds",
        "id",
        "lasts",
        "late",
        "limit",
        "new",
        "penalty",
        "per",
        "reply",
        "takes",
        "takes_at",
        "windows",
    )

    def __init__(self, limit: Limit, provider: Provider, new: Callable[[Limit], Window]) -> None:
        self.limit = limit
        self.id = f"{provider.name}/{limit.id}"
        self.reply = provider.refusal(limit)
        self.holds = limit.holds
        self.late = limit.on_excess == "accept_late"
        self.attempts = limit.counts == "attempts"
        self.penalty = limit.penalty
        self.lasts = limit.count == "connections"  # taken until the connection closes
        self.given_back = not self.attempts and limit.count in ("messages", *MEASURES)
        self.per = KEYS.get(limit.per, limit.per)
        self.takes_at = _takes_at(limit)
        tested, taken = STAGES.index(limit.at), STAGES.index(self.takes_at)
        self.takes = MEASURES.get(limit.count, "one")
        if self.takes_at == "RCPT" and limit.per != "message":
            self.takes = "first" if limit.count == "messages" else "one"
        self.asks = self.takes if tested == taken else "one" if tested < taken else "none"
        self.new = new
        self.windows: dict[object, Window] = {}
        self.barred: dict[object, float] = {}

    def window(self, key: object) -> Window:
        """Return the window of an account, an IP or whatever the limit is counted by."""
        window = self.windows.get(key)
        if window is None:
            window = self.windows[key] = self.new(self.limit)
        return window

    def at_work(self, measure: str, stage: Stage) -> "Counted":
        """Return the rule with what is looked at whenever it is applied, found beforehand for the sake of speed."""
        noted = self.lasts or (self.given_back and stage != "EOD")
        return self, self.windows, attrgetter(self.per), attrgetter(measure), noted

    def elsewhere(self) -> "Rule":
        """Return the rule for events that start its window and count nothing in it."""
        other = copy(self)
        other.takes, other.attempts, other.given_back = "none", True, False
        return other

    def is_barred(self, key: object, now: float) -> bool:
        """Whether a penalty is running."""
        return self.barred.get(key, -math.inf) > now + INSTANT

    def punish(self, key: object, now: float) -> None:
        """Begin the penalty, if the limit has one and it isn't running: after the first excess nothing passes."""
        if self.penalty is not None and not self.is_barred(key, now):
            self.barred[key] = now + self.penalty


KEYS: Final = {"sender": "mail_from", "session": "number", "recipient_domain": "rcpt_domain"}
"""Where a session keeps what a limit is counted by, if not under the same name."""
MEASURES: Final = {
    "recipients": "recipients",
    "unique_recipients": "recipients",  # all recipients are external and distinct (DESIGN §5)
    "external_recipients": "recipients",
    "bytes": "size",
}
"""What a limit counts, where it isn't one by one."""


def is_scaled(limit: Limit) -> bool:
    """Whether what a mailbox provider thinks of an IP changes this limit: one on messages from it in some time.

    Parameters
    ----------
    limit : Limit
        Any of a provider.

    Returns
    -------
    bool
        False for a limit on anything else.
    """
    return (
        limit.per == "ip" and limit.count == "messages" and limit.limit is not None and limit.limit.period is not None
    )


Amount = Callable[[Session], float]
Cap = tuple[Amount, float, "Rule | Outright"]
Counted = tuple[Rule, dict[object, Window], Callable[[Session], object], Amount, bool]
"""A rule, its windows, how a session tells which of them is meant and how much to count, and whether the session notes
it, to give it back."""
Plan = Mapping[str, tuple[Sequence[Cap], Sequence[Counted], Sequence[Counted]]]


def _caps(rules: Sequence[Rule], stage: str) -> Iterator[tuple[Amount, float, Rule]]:
    """Yield what a single message may have at most: measured on the message itself, nothing is counted."""
    for rule in rules:
        if rule.limit.per == "message" and rule.limit.at == stage:
            assert rule.limit.limit is not None
            yield attrgetter(rule.takes), rule.limit.limit.amount, rule


def _outright(provider: Provider, stage: Stage) -> Iterator[Cap]:
    """Yield the sentence for mail that nobody vouches for, as a cap of none."""
    if provider.speaks_of("unauthenticated"):
        reply = provider.says("unauthenticated", "EOD")
        if reply.stage == stage:
            yield attrgetter("one"), 0, Outright(reply)


def _takes_at(limit: Limit) -> Stage:
    """Return the stage at which a limit's amount is taken; `at` is where it is tested."""
    if limit.count in ("connections", "sessions"):
        return "AUTH" if limit.per in ("account", "tenant") else "CONNECT"
    if limit.count in ("transactions", "logins"):
        return "MAIL" if limit.count == "transactions" else "AUTH"
    known_from = {"messages": "MAIL", "bytes": "EOD"}.get(limit.count, "RCPT")
    return limit.at if STAGES.index(limit.at) >= STAGES.index(known_from) else "EOD"


def _started(rules: Sequence[Rule], provider: Provider, stage: Stage) -> Iterator[Rule]:
    """Yield the rules whose windows start with an event of a stage that counts elsewhere.

    Windows that are anchored at the first event of the same client start together, as in Postfix's anvil: with the
    first event that any of their limits is about, also of those that are off.
    """
    for rule in rules:
        if rule.limit.anchor == "first_event" and rule.takes_at != stage and not rule.holds:
            others = [limit for limit in provider.limits if limit.anchor == "first_event"]
            if any(limit.per == rule.limit.per and _takes_at(limit) == stage for limit in others):
                yield rule.elsewhere()


@dataclass(slots=True)
class _Known:
    """What is known of an IP: its standing at the beginning of the day, and what it has sent since."""

    standing: Standing = field(default_factory=Standing)
    messages: int = 0
    expected: float = 0.0  # complaints about them


class _Opinion:
    """What a mailbox provider thinks of each IP, and the limits that it scales by it."""

    def __init__(self, reputation: Reputation, provider: str, since_midnight: float, scaled: Sequence[Rule]) -> None:
        self.reputation = reputation
        self._rates = reputation.rates
        self._provider = provider
        self._since_midnight = since_midnight
        self._scaled = scaled
        self._known: dict[str, _Known] = {}
        self._day = 0
        self._midnight = -math.inf
        self.day_ends = -math.inf  # within an instant of midnight

    def turn(self, now: float) -> None:
        """Let the days that are over end: their complaints are counted, and the limits of each IP scaled."""
        while now >= self.day_ends:
            if self._known:
                for ip, known in self._known.items():
                    self._end_day(ip, known)
                self._day += 1
            else:
                self._day = math.floor((now + INSTANT + self._since_midnight) / DAY)
            self._midnight = (self._day + 1) * DAY - self._since_midnight
            self.day_ends = self._midnight - INSTANT

    def _end_day(self, ip: str, known: _Known) -> None:
        rules, band = self.reputation.rules, known.standing.band
        sent = self.reputation.day(self._provider, ip, self._day, known.messages, known.expected)
        known.standing = known.standing.after(sent, rules)
        known.messages, known.expected = 0, 0.0
        if known.standing.band != band:
            for rule in self._scaled:
                rescale(rule.window(ip), rule.limit, rules.scale(known.standing.band), self._midnight)

    def of(self, ip: str, now: float) -> _Known:
        """Return what is known of an IP, as of now."""
        if now >= self.day_ends:
            self.turn(now)
        known = self._known.get(ip)
        if known is None:
            known = self._known[ip] = _Known()
        return known

    def note(self, ip: str, domain: str, now: float) -> None:
        """Count an accepted message."""
        known = self.of(ip, now)
        known.messages += 1
        known.expected += self._rates.get(domain, 0.0)


class Receiver:
    """A provider that answers SMTP commands: limits, credentials and sentences from its facts.

    Parameters
    ----------
    provider : Provider
        The facts, with readings, amounts and date already chosen.
    accounts : mapping of str to Account, optional
        Who may log in, by lower-case user name. Anything with a `get` serves.
    start : datetime, optional
        What the provider's clock shows at second 0; midnight UTC of the newest fact by default.
    reputation : Reputation, optional
        How complaints about the mail from an IP change the provider's limits per IP; not at all by default. Days are
        those of the provider's clock.

    Examples
    --------
    >>> office365 = Provider.load("office365").on(dt.date(2026, 6, 1))
    >>> receiver = Receiver(office365, {"rep01@us.example": Account("rep01@us.example")})
    >>> session, banner = receiver.connect("127.0.0.1", now=0)
    >>> receiver.ehlo(session, now=0).code, receiver.starttls(session, now=0).code, receiver.ehlo(session, now=0).code
    (250, 220, 250)
    >>> receiver.auth(session, "rep01@us.example", "password", now=0).code
    235
    >>> receiver.mail(session, "rep01@us.example", now=0).code, receiver.rcpt(session, "a@b.example", now=0).code
    (250, 250)
    >>> receiver.data(session, now=0).code, receiver.end_of_data(session, 20_000, now=0).code
    (354, 250)
    """

    __slots__ = (
        "_accepted",
        "_at_once",
        "_banner",
        "_blocklisted",
        "_busy",
        "_caps",
        "_credential",
        "_data",
        "_ehlo",
        "_issued",
        "_mail",
        "_nameless",
        "_needs_tls",
        "_opinion",
        "_per_session",
        "_plan",
        "_plan_unlisted",
        "_rcpt",
        "_said",
        "_send_as_at",
        "_takes",
        "_takes_passwords",
        "_tests",
        "_tokens",
        "_transactions",
        "accounts",
        "blocked",
        "needs_auth",
        "provider",
        "rules",
        "sessions",
        "start",
    )

    def __init__(
        self,
        provider: Provider,
        accounts: Mapping[str, Account] | None = None,
        start: dt.datetime | None = None,
        reputation: Reputation | None = None,
    ) -> None:
        self.provider = provider
        self.accounts: Mapping[str, Account] = {} if accounts is None else accounts
        self._issued = 0
        start = start or dt.datetime.combine(provider.newest, dt.time(), dt.UTC)
        self.start = start if start.tzinfo else start.replace(tzinfo=dt.UTC)
        self.sessions = 0
        self.blocked: set[str] = set()
        self._tokens: dict[str, tuple[Account, float]] = {}
        clock, utc = _since_midnight(self.start), _since_midnight(self.start.astimezone(dt.UTC))

        def new(limit: Limit) -> Window:
            return window_of(limit, clock, utc)

        self.rules = tuple(Rule(limit, provider, new) for limit in provider.limits if limit.limit is not None)
        counting = tuple(rule for rule in self.rules if rule.limit.per != "message")
        self._caps = {stage: tuple(_caps(self.rules, stage)) for stage in STAGES}
        self._tests = {stage: tuple(rule for rule in counting if rule.limit.at == stage) for stage in STAGES}
        self._takes = {stage: tuple(rule for rule in counting if rule.takes_at == stage) for stage in STAGES}
        one_by_one = bool(self._tests["RCPT"] or self._takes["RCPT"])
        self._takes = {stage: (*self._takes[stage], *_started(counting, provider, stage)) for stage in STAGES}
        self._plan_unlisted = self._planned({stage: tuple(_outright(provider, stage)) for stage in STAGES})
        self._takes = {stage: tuple(rule for rule in self._takes[stage] if not rule.limit.only) for stage in STAGES}
        self._tests = {stage: tuple(rule for rule in self._tests[stage] if not rule.limit.only) for stage in STAGES}
        self._plan = self._planned(dict.fromkeys(STAGES, ()))
        self._busy = {stage: any(self._plan_unlisted[stage]) for stage in STAGES}
        self._opinion: _Opinion | None = None
        if reputation is not None:
            scaled = [rule for rule in counting if provider.role == "delivery" and is_scaled(rule.limit)]
            self._opinion = _Opinion(reputation, provider.name, clock, scaled)
        at_auth = (*self._tests["AUTH"], *self._takes["AUTH"])
        self._nameless = all(rule.attempts and rule.per in ("ip", "number") for rule in at_auth)
        self._per_session = tuple(rule for rule in self.rules if rule.limit.per == "session")
        transactions = (rule for rule in self.rules if rule.limit.count == "transactions")
        self._transactions = tuple(rule.at_work("one", "EOD") for rule in transactions)
        self._credential = provider.credential
        self._takes_passwords = not provider.speaks_of("password_refused")
        self._said: dict[tuple[When, Stage], Reply] = {}
        self._banner = provider.says("banner", "CONNECT")
        self._ehlo = provider.says("ehlo", "EHLO"), provider.says("ehlo_tls", "EHLO")
        self._mail = provider.says("mail", "MAIL")
        self._rcpt = provider.says("rcpt", "RCPT")
        self._data = provider.says("data", "DATA")
        self._accepted = provider.says("accepted", "EOD")
        self._blocklisted = provider.says("blocklisted", "CONNECT")
        self._send_as_at: Stage | None = None
        if provider.credential in ("account", "domain"):
            self._send_as_at = provider.says("send-as", "EOD").stage
            self._busy[self._send_as_at] = True
        self._at_once = not (one_by_one or self._send_as_at == "RCPT" or self._busy["DATA"])
        self._needs_tls = provider.tls == "required"
        self.needs_auth = provider.role == "submission" and bool(provider.auth)

    def _planned(self, outright: Mapping[Stage, Sequence[Cap]]) -> Plan:
        """Return what a session has to pass at each stage, as of the rules that are set now."""
        return {
            stage: (
                (*outright[stage], *self._caps[stage]),
                tuple(rule.at_work(rule.asks, stage) for rule in self._tests[stage]),
                tuple(rule.at_work(rule.takes, stage) for rule in self._takes[stage]),
            )
            for stage in STAGES
        }

    # The session

    def connect(self, ip: str, now: float) -> tuple[Session, Reply]:
        """Open a session; a reply of 4yz or 5yz means that the provider closes it at once.

        Parameters
        ----------
        ip : str
            The address it comes from.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.

        Returns
        -------
        tuple of (Session, Reply)
            The session, and the banner or what refuses it.
        """
        self.sessions += 1
        session = Session(self.sessions, ip, self._plan_unlisted if ip.startswith(UNLISTED) else self._plan)
        return session, self._greet(session, now)

    def _greet(self, session: Session, now: float) -> Reply:
        if self._opinion is not None:
            self._opinion.of(session.ip, now)
        if self._busy["CONNECT"] or self.blocked:
            return self._refusal(session, "CONNECT", now) or self._banner
        return self._banner

    def ehlo(self, session: Session, now: float) -> Reply:
        """EHLO or HELO; a transaction in progress is dropped (RFC 5321 §4.1.4).

        Parameters
        ----------
        session : Session
            The session that the command came in.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.

        Returns
        -------
        Reply
            What the client gets.
        """
        if self._busy["EHLO"] or self.blocked:
            refusal = self._refusal(session, "EHLO", now)
            if refusal:
                return refusal
        if session.started:
            self._end_transaction(session, now, failed=True)
        session.greeted = True
        return self._ehlo[session.tls]

    def starttls(self, session: Session, now: float) -> Reply:
        """STARTTLS; what was said before it is forgotten (RFC 3207 §4.2).

        Parameters
        ----------
        session : Session
            The session that the command came in.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.

        Returns
        -------
        Reply
            What the client gets.
        """
        if session.tls:
            return self._says("bad_sequence", "EHLO")
        self._end_transaction(session, now, failed=True)
        if session.account:
            self._log_out(session, now)
        session.tls = True
        session.greeted = False
        return self._says("starttls", "EHLO")

    def begin_auth(self, session: Session, now: float) -> Reply | None:
        """AUTH, before it is said who it is: what refuses it already, or None.

        Where no limit at AUTH needs a name, they are all asked here, whatever else may be wrong.

        Parameters
        ----------
        session : Session
            The session that the command came in.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.

        Returns
        -------
        Reply or None
            The refusal.
        """
        refusal = self._refusal(session, "AUTH", now) if self._nameless else None
        if refusal:
            return refusal
        if not session.greeted:
            return self._says("ehlo_first", "AUTH")
        if session.started:
            return self._says("bad_sequence", "AUTH")  # not within a transaction, and only once (RFC 4954 §4)
        if session.account:
            return self._says("already_authenticated", "AUTH")
        if self._needs_tls and not session.tls:
            return self._says("tls_required", "AUTH")
        return None

    def auth(
        self, session: Session, user: str, secret: str, now: float, token: bool = False, begun: bool = False
    ) -> Reply:
        """AUTH with a password, or with an access token.

        Parameters
        ----------
        session : Session
            The session that logs in; it keeps its account until it ends.
        user : str
            The name given, a mailbox or the user of a domain's credential.
        secret : str
            The password, or the access token where `token` is true.
        now : float
            The time, in seconds.
        token : bool
            Whether the mechanism is XOAUTH2 or OAUTHBEARER.
        begun : bool
            Whether `begin_auth` has let it begin already.

        Returns
        -------
        Reply
            What the client gets.
        """
        refusal = None if begun else self.begin_auth(session, now)
        if refusal:
            return refusal
        user = user.lower()
        session.account, session.tenant = user, user.rpartition("@")[2]
        refusal = None if self._nameless else self._refusal(session, "AUTH", now)
        if refusal:
            session.account = session.tenant = ""
            return refusal
        refusal = self._bad_credential(user, secret, now, token)
        if refusal:
            self._log_out(session, now, failed=True)
            return refusal
        return self._says("auth_ok", "AUTH")

    def _log_out(self, session: Session, now: float, failed: bool = False) -> None:
        """Forget who logged in, and free what a login occupies; one that failed doesn't count as accepted."""
        for rule in self._takes["AUTH"]:
            window = rule.window(getattr(session, rule.per))
            if window in session.occupied:
                session.occupied.remove(window)
                window.give_back(1, now)
            elif failed and not rule.attempts:
                window.give_back(1, now)
        session.account = session.tenant = ""

    def log_in(self, session: Session, user: str, secret: str, now: float, token: bool = False) -> Reply:
        """EHLO, STARTTLS where it is required, EHLO again and AUTH at one moment: the first refusal, or the 235.

        Parameters
        ----------
        session : Session
            The session that the command came in.
        user : str
            The name given, a mailbox or the user of a domain's credential.
        secret : str
            The password, or the access token where `token` is true.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.
        token : bool, optional
            Whether the mechanism is XOAUTH2 or OAUTHBEARER.

        Returns
        -------
        Reply
            What the client gets.
        """
        if self._busy["EHLO"] or self.blocked:
            refusal = self._refusal(session, "EHLO", now)
            if refusal:
                return refusal
        session.greeted = True
        session.tls = self._needs_tls
        return self.auth(session, user, secret, now, token)

    def _bad_credential(self, user: str, secret: str, now: float, token: bool) -> Reply | None:
        says = self._says
        account = self.accounts.get(user)
        if account is not None and account.disabled:
            return says("auth_disabled", "AUTH")
        if token:
            owner, until = self._tokens.get(secret, (None, 0.0))
            good = owner is not None and owner is account and not owner.revoked and now < until
            return None if good else says("token_refused", "AUTH")
        if not self._takes_passwords:
            return says("password_refused", "AUTH")
        return None if account is not None and secret == account.password else says("auth_failed", "AUTH")

    def issue_token(self, user: str, refresh_token: str, now: float) -> str | None:
        """Give an access token for `TOKEN_LIFETIME` seconds; None if the grant is unknown or revoked (RFC 6749 §6).

        Parameters
        ----------
        user : str
            Whose token.
        refresh_token : str
            What proves the grant.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.

        Returns
        -------
        str or None
            The access token.
        """
        account = self.accounts.get(user.lower())
        if account is None or account.revoked or refresh_token != account.refresh_token:
            return None
        self._issued += 1
        token = _digest(self.provider.name, account.user, self._issued, size=32)
        self._tokens[token] = account, now + TOKEN_LIFETIME
        return token

    def revoke(self, user: str) -> None:
        """Withdraw an account's OAuth grant: its tokens fail at once, and none is issued until it is given again.

        Parameters
        ----------
        user : str
            Whose grant; an unknown name changes nothing.
        """
        account = self.accounts.get(user.lower())
        if account is not None:
            account.revoked = True
            self._tokens = {token: owned for token, owned in self._tokens.items() if owned[0] is not account}

    def quit(self, session: Session, now: float) -> Reply:
        """QUIT: the session is over.

        Parameters
        ----------
        session : Session
            The session that the command came in.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.

        Returns
        -------
        Reply
            What the client gets.
        """
        self.disconnect(session, now)
        return self._says("quit", "EOD")

    def disconnect(self, session: Session, now: float) -> None:
        """End the session, by whichever side; what it occupied is free from `now` on.

        Parameters
        ----------
        session : Session
            The session that ends.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.
        """
        if session.started:
            self._end_transaction(session, now, failed=True)
        while session.occupied:
            session.occupied.pop().give_back(1, now)
        for rule in self._per_session:
            rule.windows.pop(session.number, None)

    # The transaction

    def mail(self, session: Session, mail_from: str, now: float, size: int = 0) -> Reply:
        """MAIL FROM, with the size that the client declares (RFC 1870), in bytes.

        Parameters
        ----------
        session : Session
            The session that the command came in.
        mail_from : str
            The envelope's sender; empty for a report's.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.
        size : int, optional
            What the client declares, in bytes; 0: nothing.

        Returns
        -------
        Reply
            What the client gets.
        """
        if not session.greeted or session.started:
            return self._says("bad_sequence" if session.started else "ehlo_first", "MAIL")
        if not session.account:
            if self._needs_tls and not session.tls:
                speaks_of_auth = self.needs_auth and self.provider.speaks_of("auth_required")
                return self._says("auth_required" if speaks_of_auth else "tls_required", "MAIL")
            if self.needs_auth:
                return self._says("auth_required", "MAIL")
            session.account = session.ip
        if self._opinion is not None and now >= self._opinion.day_ends:
            self._opinion.turn(now)
        if mail_from != session.mail_from:
            session.mail_from = mail_from
            session.domain = mail_from.rpartition("@")[2].lower()
        session.recipients = 0
        session.size = size
        session.transaction += 1
        if self._busy["MAIL"] or self.blocked:
            refusal = self._refusal(session, "MAIL", now)
            if refusal:
                return refusal
        session.started = True
        for _, most, rule in self._caps["EOD"] if size else ():
            if rule.takes == "size" and size > most:  # declared too big (RFC 1870 §6.1)
                self._end_transaction(session, now, failed=True)
                own = self._says("size_declared", "MAIL") if self.provider.speaks_of("size_declared") else rule.reply
                return own._replace(stage="MAIL", limit=rule.id)
        return self._mail

    def rcpt(self, session: Session, rcpt_to: str, now: float) -> Reply:
        """RCPT TO; each recipient is counted on its own.

        Parameters
        ----------
        session : Session
            The session that the command came in.
        rcpt_to : str
            The recipient's address.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.

        Returns
        -------
        Reply
            What the client gets.
        """
        if not session.started:
            return self._says("bad_sequence", "RCPT")
        session.recipients += 1
        session.rcpt_domain = rcpt_to.rpartition("@")[2].lower()
        if self._busy["RCPT"] or self.blocked:
            refusal = self._refusal(session, "RCPT", now)
            if refusal:
                session.recipients -= 1
                return refusal
        return self._rcpt

    def data(self, session: Session, now: float) -> Reply:
        """Answer the verb DATA; the message follows if it is 354.

        Parameters
        ----------
        session : Session
            The session that the command came in.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.

        Returns
        -------
        Reply
            What the client gets.
        """
        if not session.started or not session.recipients:
            return self._says("no_recipients" if session.started else "bad_sequence", "DATA")
        if self._busy["DATA"] or self.blocked:
            return self._refusal(session, "DATA", now) or self._data
        return self._data

    def offer(self, session: Session, mail_from: str, recipients: int, now: float) -> Reply:
        """MAIL, RCPT for each of `recipients` and DATA at one moment: the first refusal, or the 354.

        A client whose RCPT or DATA is refused sends RSET; so does this.

        Parameters
        ----------
        session : Session
            The session that the command came in.
        mail_from : str
            The envelope's sender.
        recipients : int
            How many RCPT commands there are.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.

        Returns
        -------
        Reply
            What the client gets.
        """
        reply = self.mail(session, mail_from, now)
        if reply.code >= 400:
            return reply
        if self._at_once and not self.blocked:
            # nothing is counted one by one: the first recipient too many is as good as the last
            session.recipients = recipients
            for amount_of, most, rule in self._caps["RCPT"]:
                if amount_of(session) > most:
                    self.rset(session, now)
                    return rule.reply
            return self._data
        for _ in range(recipients):
            reply = self.rcpt(session, "", now)
            if reply.code >= 400:
                break
        else:
            reply = self.data(session, now)
        if reply.code >= 400:
            self.rset(session, now)
        return reply

    def end_of_data(self, session: Session, size: int, now: float, header_from: str = "") -> Reply:
        """Answer the dot after the message: accepted, refused, or accepted late.

        Parameters
        ----------
        session : Session
            The session whose transaction ends.
        size : int
            The message's size, in bytes.
        now : float
            The time of the dot, in seconds. The reply leaves `Reply.delay` later.
        header_from : str, optional
            The address of the From header; the envelope's by default.

        Returns
        -------
        Reply
            What the client gets.
        """
        if not session.started or not session.recipients:
            return self._says("bad_sequence", "EOD")
        session.size = size
        verdict = self._accepted
        if self._busy["EOD"] or self.blocked:
            verdict = self._refusal(session, "EOD", now, header_from) or verdict
        failed = verdict.code >= 400
        self._end_transaction(session, now + verdict.delay, failed)
        if not failed:
            session.messages += 1
            if self._opinion is not None:
                self._opinion.note(session.ip, session.domain, now)
        return verdict

    def rset(self, session: Session, now: float) -> Reply:
        """RSET: the transaction is dropped, and what it took is given back.

        Parameters
        ----------
        session : Session
            The session that the command came in.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.

        Returns
        -------
        Reply
            What the client gets.
        """
        self._end_transaction(session, now, failed=True)
        return self._says("rset", "MAIL")

    def _end_transaction(self, session: Session, at: float, failed: bool) -> None:
        if session.taken:
            if failed:
                for window, amount, taken_at in session.taken:
                    window.give_back(amount, taken_at)
            session.taken.clear()
        if session.started:
            for rule, windows, key_of, _, _ in self._transactions:
                key = key_of(session)
                (windows.get(key) or rule.window(key)).give_back(1, at)
            session.started = False

    def _may_send_as(self, session: Session, author: str) -> bool:
        """Whether the credential covers the envelope's sender and the header's author."""
        if self._credential == "account":
            return session.account == author == session.mail_from or (
                session.account == author.lower() == session.mail_from.lower()
            )
        if self._credential == "domain":
            account = self.accounts.get(session.account)
            if account is None or (self.provider.sender_check == "listed" and not (account.listed and author)):
                return True  # a list of owners leaves the null sender alone
            return author.rpartition("@")[2].lower() in account.domains
        return True

    def _says(self, when: When, stage: Stage) -> Reply:
        """Return the provider's sentence for an occasion, looked up once."""
        reply = self._said.get((when, stage))
        if reply is None:
            reply = self._said[when, stage] = self.provider.says(when, stage)
        return reply

    # Admission

    def _refusal(self, session: Session, stage: Stage, now: float, header_from: str = "") -> Reply | None:
        """Apply the admission rule: None if there is room now, else a refusal, or an acceptance that comes late.

        Limits of one stage are checked together, then taken together; refusals come before holds, and of several
        holds the longest counts. What is held takes its place when it is let through.
        """
        if self.blocked and session.ip in self.blocked and self._blocklisted.stage == stage:
            return self._blocklisted
        if self._send_as_at == stage and not self._may_send_as(session, header_from or session.mail_from):
            self._count_attempt(session, stage, now)
            return self._says("send-as", stage)
        refused: Rule | Outright | None = None
        holder: Rule | None = None
        held = 0.0
        caps, tests, takes = session.plan[stage]
        for amount_of, most, rule in caps:
            if amount_of(session) > most:
                refused = refused or rule
        for rule, windows, key_of, amount_of, _ in tests:
            key = key_of(session)
            window = windows.get(key) or rule.window(key)
            if window.fits(amount_of(session), now) and not (rule.barred and rule.is_barred(key, now)):
                continue
            rule.punish(key, now)
            wait = window.wait(amount_of(session), now) if rule.holds else math.inf
            if wait == math.inf:
                if refused is None or rule.attempts > refused.attempts:
                    refused = rule  # what counts attempts speaks first: it counts the command, not what it brings
            elif wait > held:
                held, holder = wait, rule
        if refused:
            self._count_attempt(session, stage, now)
            return refused.reply
        at = now + held
        for rule, windows, key_of, amount_of, noted in takes:
            key = key_of(session)
            window = windows.get(key) or rule.window(key)
            amount = amount_of(session)
            window.take(amount, at)
            if noted:
                if rule.lasts:
                    session.occupied.append(window)
                else:
                    session.taken.append((window, amount, at))
        if holder is None:
            return None
        code, enhanced, text = self._accepted[:3]
        return Reply(code, enhanced, text, "EOD", holder.id, held, 0.0 if holder.late else held)

    def _count_attempt(self, session: Session, stage: Stage, now: float) -> None:
        """Count a refused try where refused tries use the quota up."""
        for rule, _, key_of, amount_of, _ in session.plan[stage][2]:
            if rule.attempts:
                rule.window(key_of(session)).take(amount_of(session), now)

    # What it thinks of an IP

    @property
    def reputation(self) -> Reputation | None:
        """How it forms its opinion of an IP; None if it has none."""
        return None if self._opinion is None else self._opinion.reputation

    def band(self, ip: str, now: float) -> Band:
        """Return the band that an IP is in at a moment; ``high`` where the provider keeps no opinion.

        Parameters
        ----------
        ip : str
            The sending address.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.

        Returns
        -------
        str
            ``high``, ``medium``, ``low`` or ``blocked``.
        """
        if ip in self.blocked:
            return "blocked"
        return "high" if self._opinion is None else self._opinion.of(ip, now).standing.band

    # What goes over the wire

    def render(self, reply: Reply, session: Session, now: float) -> str:
        """Fill the placeholders of a reply's text in, as of the moment at which it leaves.

        Parameters
        ----------
        reply : Reply
            What the client gets.
        session : Session
            Where it is said.
        now : float
            The time, in seconds since second 0; never before that of an earlier command.

        Returns
        -------
        str
            The text as on the wire, lines joined by newlines.
        """
        if "{" not in reply.text:
            return reply.text
        return render(
            reply.text,
            provider=self.provider.name,
            clock=self.start + dt.timedelta(seconds=now),
            session=session.number,
            transaction=session.transaction,
            ip=session.ip,
            account=session.account,
            sender=session.mail_from,
        )


def render(
    text: str, *, provider: str, clock: dt.datetime, session: int, transaction: int, ip: str, account: str, sender: str
) -> str:
    """Fill the placeholders of a sentence in.

    `{host}` and `{id}` are functions of provider, session and transaction number, so that a simulation and a fake
    server that saw the same commands say the same; `{time}` takes strftime formats, and `unix`.
    """
    values: dict[str, object] = {"ip": ip, "account": account, "sender": sender, "domain": sender.rpartition("@")[2]}
    if "{host}" in text:
        values["host"] = f"SENDLAB{int(_digest(provider, session, size=2), 16) % 10_000:04}"
    if "{id}" in text:
        values["id"] = said_id(provider, session, transaction)
    if "{time" in text:
        values["time"] = _Clock.fromtimestamp(clock.timestamp(), dt.UTC)
    return text.format_map(values)


def said_id(provider: str, session: int, transaction: int) -> str:
    """Return what `{id}` becomes in a sentence."""
    return _digest(provider, session, transaction, size=8)


class _Clock(dt.datetime):
    """A time that also formats as Unix seconds: `{time:unix}`."""

    def __format__(self, spec: str) -> str:
        return str(int(self.timestamp())) if spec == "unix" else super().__format__(spec)


def _digest(*parts: object, size: int) -> str:
    """Return hex digits that look random and are always the same for the same parts."""
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=size).hexdigest()


def _since_midnight(moment: dt.datetime) -> float:
    return moment.hour * 3600 + moment.minute * 60 + moment.second + moment.microsecond / 1e6
