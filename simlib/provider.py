"""A provider: the limits, sentences and credentials of the party at the other end of our connection.

Everything here is read from ``simlib/providers/NAME.toml``; no limit and no sentence of a provider stands in the code.
"""

import datetime as dt
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, field_validator, model_validator

from simlib.facts import Fact, Frozen, Rate, Seconds, check, read_toml, table_html, table_text

__all__ = ["STAGES", "Limit", "Provider", "Reply", "Sentence", "Shaping", "names"]

Stage = Literal["CONNECT", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "EOD"]
STAGES: tuple[Stage, ...] = ("CONNECT", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "EOD")

Count = Literal[
    "messages",
    "recipients",
    "unique_recipients",
    "external_recipients",
    "connections",
    "transactions",
    "sessions",
    "logins",
    "bytes",
]
Per = Literal["account", "sender", "domain", "ip", "tenant", "recipient_domain", "session", "message"]
Excess = Literal["reject", "defer", "close", "hold_reply", "accept_late"]
HOLDS = ("hold_reply", "accept_late")
PUBLISHED = "published"
"""The reading of a limit as its file has it."""
WIRE = re.compile(r"([2345]\d\d)(?: ([245]\.\d{1,3}\.\d{1,3}))?(?: (.*))?", re.DOTALL)


class Reply(NamedTuple):
    r"""What a client gets: a code, a sentence and, where a limit spoke, which one and how late.

    Parameters
    ----------
    code : int
        The reply code (RFC 5321 §4.2).
    enhanced : str
        The enhanced status code (RFC 3463), empty where the provider gives none.
    text : str
        The sentence, its lines joined by ``\n``, with placeholders still in it (see `Receiver.render`).
    stage : str
        The command that is answered: one of `STAGES`.
    limit : str
        The id of the limit that refused or held, ``"office365/messages-per-minute"``; else empty.
    held : float
        How long a limit keeps the message back, in seconds.
    delay : float
        How long after the command the reply leaves, in seconds: `held`, or 0 where the provider accepts at once and
        moves the message on later.
    fault : str
        The name of the fault that had a hand in it (see `simlib.faults`); else empty.
    breaks : str
        What becomes of the connection by a fault: it ends ``after`` the reply or ``instead`` of it; ``silence``: it
        stays, and no reply ever comes. Empty: nothing. Without a reply the client has code 0, whatever is in this one.

    Examples
    --------
    >>> reply = Reply(432, "4.3.2", "Concurrent connections limit exceeded.", "EOD", "office365/transactions")
    >>> reply.temporary, reply.closes
    (True, False)
    """

    code: int
    enhanced: str
    text: str
    stage: Stage
    limit: str = ""
    held: float = 0.0
    delay: float = 0.0
    fault: str = ""
    breaks: Literal["", "after", "instead", "silence"] = ""

    @property
    def accepted(self) -> bool:
        """2yz: done."""
        return 200 <= self.code < 300

    @property
    def temporary(self) -> bool:
        """4yz, or no reply at all (code 0): try again later."""
        return self.code < 200 or 400 <= self.code < 500

    @property
    def closes(self) -> bool:
        """421: the provider closes the connection (RFC 5321 §3.8)."""
        return self.code == 421


def _wire(value: object) -> object:
    """Split ``"432 4.3.2 Concurrent…"`` into code, enhanced code and text."""
    found = WIRE.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"must be a reply like '450 4.7.1 Error: too much mail', got {value!r}")
    return int(found[1]), found[2] or "", found[3] or ""


Wire = Annotated[
    tuple[int, str, str],
    BeforeValidator(_wire),
    PlainSerializer(lambda wire: " ".join(str(part) for part in wire if part), return_type=str),
]


def _amount(value: object) -> object:
    return None if value in ("off", None) else Rate.parse(value)


Amount = Annotated[
    Rate | None,
    BeforeValidator(_amount),
    PlainSerializer(lambda rate: "off" if rate is None else str(rate) if rate.period else rate.amount),
]


class Limit(Fact):
    """One limit of a provider.

    As every fact (`facts.Fact`) it says where it comes from: `source`, `as_of`, `grade`, `review_by`, `note`,
    `assumed`, `since` and `until`.

    Parameters
    ----------
    id : str
        Its name, ``messages-per-minute``; everywhere else the provider's name stands before it.
    count : str
        What is counted: ``messages``, ``recipients``, ``unique_recipients``, ``external_recipients``, ``connections``,
        ``transactions``, ``sessions``, ``logins`` or ``bytes``.
    per : str
        Of whom: ``account``, ``sender`` (MAIL FROM), ``domain``, ``ip``, ``tenant``, ``recipient_domain``, ``session``
        or ``message``.
    limit : rate or None
        The amount, in a period: ``"30/min"``; a bare number lasts as long as what is counted. None: off.
    window : str, optional
        How the period runs: ``sliding``, ``fixed`` or ``token_bucket``; none for a bare number.
    anchor : str, optional
        When a fixed window begins: by the provider's ``clock`` since midnight, by the ``utc_day``, or with the
        ``first_event``.
    burst : float, optional
        How much a token bucket holds, in what is counted.
    counts : str, optional
        ``accepted``, or ``attempts``: a refused try uses the quota up, too.
    on_excess : str
        What happens above it: ``reject`` (5yz), ``defer`` (4yz), ``close`` (421), ``hold_reply`` (the 250 comes late)
        or ``accept_late`` (250 at once, moved on later).
    at : str
        The command that is answered: ``CONNECT``, ``EHLO``, ``AUTH``, ``MAIL``, ``RCPT``, ``DATA`` or ``EOD`` (after
        the dot).
    penalty : float, optional
        Seconds for which nothing passes after the first excess.
    temporary : bool, optional
        Whether a 5yz goes away by itself.
    only : str, optional
        ``unauthenticated``: only mail that neither SPF nor DKIM vouches for.
    reply : (int, str, str), optional
        Code, enhanced code and exact text of the refusal; none where no source has it.
    reply_source, reply_as_of, reply_grade : str, date, str, optional
        Where the text comes from, if not from where the amount does.
    readings : tuple of dict, optional
        Where sources disagree, the other readings: a ``name``, and the fields that differ.

    Examples
    --------
    >>> limit = Provider.load("office365").limit("messages-per-minute")
    >>> str(limit.limit), limit.on_excess, limit.at
    ('30/min', 'hold_reply', 'EOD')
    """

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    count: Count
    per: Per
    limit: Amount
    window: Literal["sliding", "fixed", "token_bucket"] | None = None
    anchor: Literal["clock", "utc_day", "first_event"] | None = None
    burst: float | None = Field(default=None, ge=1)
    counts: Literal["accepted", "attempts"] = "accepted"
    on_excess: Excess
    at: Stage
    penalty: Seconds | None = None
    temporary: bool = False
    only: Literal["unauthenticated"] | None = None
    reply: Wire | None = None
    reply_source: str = ""
    reply_as_of: dt.date | None = None
    reply_grade: str = ""
    readings: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> "Limit":
        if self.limit is not None:
            if self.limit.period is not None and self.window is None:
                raise ValueError(f"limit has a period, but there is no window: got '{self.limit}' for {self.id}")
            if self.limit.period is None and self.window is not None:
                raise ValueError(f"limit must have a period like '100/d', got {self.limit} for {self.id}")
            if self.limit.period is None and self.count in _CUMULATIVE and self.per not in ("session", "message"):
                raise ValueError(f"limit must have a period: {self.count} per {self.per} never end, got {self.limit}")
        if (self.anchor is not None) != (self.window == "fixed"):
            raise ValueError(f"anchor belongs to fixed windows, and only to them: {self.id} has window {self.window!r}")
        if (self.burst is not None) != (self.window == "token_bucket"):
            raise ValueError(f"burst belongs to token buckets, and only to them: {self.id} has window {self.window!r}")
        if self.on_excess in HOLDS and self.limit is not None and self.limit.period is None:
            raise ValueError(f"a hold needs a period: nobody knows when something ends, got {self.limit} for {self.id}")
        if self.on_excess in HOLDS and (self.reply is not None or self.at != "EOD"):
            raise ValueError(
                f"a hold answers at EOD and has no refusal: {self.id} has at {self.at!r}, reply {self.reply!r}"
            )
        if self.reply is not None and not _agrees(self.on_excess, self.reply[0]):
            raise ValueError(f"on_excess {self.on_excess!r} does not agree with reply code {self.reply[0]}")
        if self.on_excess in HOLDS and self.penalty is not None:
            raise ValueError(f"penalty belongs to refusals: {self.id} has on_excess {self.on_excess!r}")
        if self.reply is not None:
            _has_known_placeholders(self.reply[2].replace("{limit}", ""))
        self._is_known_in_time()
        return self

    def _is_known_in_time(self) -> None:
        """Refuse a limit that is tested, or begins to count, before it is known whom it concerns."""
        known = "MAIL" if self.per == "message" and self.count == "bytes" else _KNOWN_FROM[self.per]
        if self.per == "message" and self.count not in ("bytes", *_RECIPIENTS):
            raise ValueError(f"per must not be 'message' for {self.count}, got {self.id}")
        if self.per == "message" and self.limit is not None and self.limit.period is not None:
            raise ValueError(f"limit must be a bare number: a message has no period, got {self.limit} for {self.id}")
        begins = {"connections": "AUTH", "sessions": "AUTH", "logins": "AUTH", "transactions": "MAIL"}.get(self.count)
        if begins is not None and STAGES.index(known) > STAGES.index(begins):
            raise ValueError(f"per must be known at {begins} for {self.count}, got {self.per!r} for {self.id}")
        if STAGES.index(known) > STAGES.index(self.at):
            raise ValueError(f"at must be {known} or later for a limit per {self.per}, got {self.at!r} for {self.id}")

    @property
    def holds(self) -> bool:
        """Whether what is over the limit comes late instead of being refused."""
        return self.on_excess in HOLDS

    def acts_as(self, other: "Limit") -> bool:
        """Whether another limit differs in no more than the sentence and where it comes from.

        Parameters
        ----------
        other : Limit
            The one to compare with.

        Returns
        -------
        bool
            True for the same behavior.
        """
        both_off = self.limit is None and other.limit is None
        return both_off or all(getattr(self, field) == getattr(other, field) for field in _BEHAVIOR)

    def read_as(self, name: str) -> "Limit":
        """Return this limit under another reading of the sources; `name` is one of its readings, or ``"published"``.

        Parameters
        ----------
        name : str
            The name of one of its `readings`.

        Returns
        -------
        Limit
            The limit under it.

        Raises
        ------
        ValueError
            If the limit has no reading of that name.
        """
        if name == PUBLISHED:
            return self
        for reading in self.readings:
            if reading.get("name") == name:
                merged = {**self.model_dump(by_alias=True, exclude_unset=True), "readings": self.readings}
                merged |= {key: value for key, value in reading.items() if key != "name"}
                if merged["on_excess"] in HOLDS:
                    merged.pop("reply", None)
                if merged.get("window") != "fixed":
                    merged.pop("anchor", None)
                if merged.get("window") != "token_bucket":
                    merged.pop("burst", None)
                return check(Limit, merged, f"reading {name!r} of {self.id}")
        known = ", ".join(repr(str(reading.get("name"))) for reading in self.readings) or "none"
        raise ValueError(f"no reading {name!r} of {self.id} (there are: {known})")


_BEHAVIOR = (
    "count",
    "per",
    "limit",
    "window",
    "anchor",
    "burst",
    "counts",
    "on_excess",
    "at",
    "penalty",
    "temporary",
    "only",
)
_CUMULATIVE = ("messages", "recipients", "unique_recipients", "external_recipients", "bytes", "sessions", "logins")


_RECIPIENTS = ("recipients", "unique_recipients", "external_recipients")
_KNOWN_FROM: dict[Per, Stage] = {
    "ip": "CONNECT",
    "session": "CONNECT",
    "account": "AUTH",
    "tenant": "AUTH",
    "sender": "MAIL",
    "domain": "MAIL",
    "recipient_domain": "RCPT",
    "message": "RCPT",
}


def _has_known_placeholders(text: str) -> str:
    """Refuse a sentence that could not be filled in."""
    try:
        text.format(ip="", host="", id="", time=dt.datetime(1970, 1, 1), account="", sender="", domain="")
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        known = "{ip} {host} {id} {time} {account} {sender} {domain}"
        raise ValueError(f"text takes {known}, other braces doubled, but not {error}: got {text!r}") from None
    return text


def _agrees(on_excess: str, code: int) -> bool:
    if on_excess == "close":
        return code == 421
    return code // 100 == (5 if on_excess == "reject" else 4)


When = Literal[
    "banner",
    "ehlo",
    "ehlo_tls",
    "starttls",
    "auth_ok",
    "auth_failed",
    "auth_required",
    "auth_disabled",
    "password_refused",
    "token_challenge",
    "token_refused",
    "tls_required",
    "ehlo_first",
    "bad_sequence",
    "already_authenticated",
    "no_recipients",
    "size_declared",
    "mail",
    "rcpt",
    "data",
    "accepted",
    "send-as",
    "unauthenticated",
    "blocklisted",
    "rset",
    "quit",
]


class Sentence(Fact):
    """One sentence of a provider that no limit speaks: banner, EHLO keywords, 250s, refusals of credentials.

    As every fact (`facts.Fact`) it says where it comes from: `source`, `as_of`, `grade`, `review_by`, `note`,
    `assumed`, `since` and `until`.

    Parameters
    ----------
    when : str
        The occasion: ``banner``, ``accepted``, ``auth_failed``, ``send-as`` and so on.
    at : str, optional
        The command that is answered, where the occasion leaves that open.
    code : int
        The reply code (RFC 5321 §4.2).
    enhanced : str, optional
        The enhanced status code (RFC 3463).
    text : str
        As on the wire, with placeholders: ``{ip}``, ``{host}``, ``{account}`` and so on.
    """

    when: When
    at: Stage | None = None
    code: int = Field(ge=200, le=599)
    enhanced: str = Field(default="", pattern=r"^([245]\.\d{1,3}\.\d{1,3})?$")
    text: Annotated[str, AfterValidator(_has_known_placeholders)]


class Shaping(Fact):
    """What careful senders keep to: a channel's defaults, never a refusal.

    As every fact (`facts.Fact`) it says where it comes from: `source`, `as_of`, `grade`, `review_by`, `note`,
    `assumed`, `since` and `until`.

    Parameters
    ----------
    connections : int, optional
        Connections open at once.
    messages_per_session : int, optional
        Messages after which a session ends.
    """

    connections: int | None = Field(default=None, ge=1)
    messages_per_session: int | None = Field(default=None, ge=1)


class Provider(Frozen):
    """The party at the other end of our connection, whose limits bind.

    `sender_check` says whether a credential is held to its addresses always, or only where they are listed.

    Parameters
    ----------
    name : str
        Its file's name, which every limit's id begins with.
    title : str
        What people call it.
    role : str
        ``submission`` (AUTH, port 587) or ``delivery`` (a mailbox provider's MX, port 25).
    hosts : tuple of str, optional
        The real ones: load tests refuse them.
    credential : str
        What one credential may send as: ``account``, ``domain``, ``ip`` or ``none``.
    sender_check : str, optional
        Whether a credential is held to its addresses ``always``, or only where they are ``listed``.
    auth : tuple of str
        The mechanisms of AUTH.
    tls : str, optional
        ``none``, ``optional`` or ``required``.
    transport : str, optional
        ``smtp``, or ``http`` for an API.
    note : str, optional
        What isn't known, and why.
    shaping : Shaping, optional
        What careful senders keep to; never a refusal.
    limits : tuple of Limit, optional
        Each with its source, date and grade.
    replies : tuple of Sentence, optional
        What it says, each with its source, date and grade.

    Examples
    --------
    >>> provider = Provider.load("sparkpost")
    >>> provider.credential, [str(limit.limit) for limit in provider.limits if limit.id == "messages-per-day"]
    ('domain', ['1000/d'])
    """

    name: str
    title: str
    role: Literal["submission", "delivery"]
    hosts: tuple[str, ...] = ()
    credential: Literal["account", "domain", "ip", "none"]
    sender_check: Literal["always", "listed"] = "always"
    auth: tuple[Literal["LOGIN", "PLAIN", "XOAUTH2", "OAUTHBEARER"], ...]
    tls: Literal["none", "optional", "required"] = "optional"
    transport: Literal["smtp", "http"] = "smtp"
    note: str = ""
    shaping: Shaping = Shaping()
    limits: tuple[Limit, ...] = ()
    replies: tuple[Sentence, ...] = ()

    @field_validator("limits")
    @classmethod
    def _ids_are_unique(cls, limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        ids = [limit.id for limit in limits]
        twice = next((id_ for id_ in ids if ids.count(id_) > 1), None)
        if twice:
            raise ValueError(f"limit id given twice: {twice!r}")
        for limit in limits:
            for reading in limit.readings:
                for field in ("name", "source", "as_of", "grade"):
                    if not reading.get(field):
                        raise ValueError(f"a reading of {limit.id} lacks `{field}`")
                limit.read_as(reading["name"])
            named = [reading["name"] for reading in limit.readings]
            if PUBLISHED in named:
                raise ValueError(f"a reading must not be named {PUBLISHED!r}: that is {limit.id} without one")
            if len(set(named)) < len(named):
                raise ValueError(f"a reading of {limit.id} is given twice, got {', '.join(map(repr, named))}")
        return limits

    @model_validator(mode="after")
    def _knows_who_logs_in(self) -> "Provider":
        if self.role == "submission" and bool(self.auth) != (self.credential in ("account", "domain")):
            offered = " ".join(self.auth) or "none"
            raise ValueError(
                f"credential must be account or domain where auth is offered, else ip or none, "
                f"got {self.credential!r} with auth {offered}"
            )
        return self

    @classmethod
    def load(cls, name: str) -> "Provider":
        """Read ``simlib/providers/NAME.toml``.

        Parameters
        ----------
        name : str
            A file's name, as `sendlab providers` lists them.

        Returns
        -------
        Provider
            With its facts of every date; see `on`.

        Raises
        ------
        ValueError
            If there is no such provider, or its file breaks a rule; the line names file, key and value.
        """
        return _load(name)

    @property
    def newest(self) -> dt.date:
        """The newest `as_of` among the facts; a provider without facts is as old as Unix time."""
        dates = (fact.as_of for fact in (*self.limits, *self.replies) if fact.as_of)
        return max(dates, default=dt.date(1970, 1, 1))

    def limit(self, id_: str) -> Limit:
        """Return the limit of that id, with or without the provider's name before it.

        Parameters
        ----------
        id_ : str
            ``messages-per-minute`` or ``office365/messages-per-minute``.

        Returns
        -------
        Limit
            Amount, window, stage and sources.

        Raises
        ------
        ValueError
            If there is no such limit; the line lists those that there are.
        """
        for limit in self.limits:
            if limit.id == id_.removeprefix(f"{self.name}/"):
                return limit
        known = ", ".join(limit.id for limit in self.limits)
        raise ValueError(f"{self.name} has no limit {id_!r} (it has: {known})")

    def __repr__(self) -> str:
        return f"<Provider {self.name}: {len(self.limits)} limits, {len(self.replies)} sentences>"

    def __str__(self) -> str:
        rows = [{name: cell for name, cell in row.items() if name != "source"} for row in self._rows()]
        return table_text(rows, self._caption)

    def _repr_html_(self) -> str:
        return table_html(self._rows(), self._caption)

    @property
    def _caption(self) -> str:
        return f"{self.title} ({self.role}, a credential per {self.credential})"

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "limit": limit.id,
                "amount": "off" if limit.limit is None else f"{limit.limit} {limit.count} per {limit.per}",
                "over it": f"{limit.on_excess} at {limit.at}",
                "other readings": ", ".join(reading["name"] for reading in limit.readings),
                "as of": limit.as_of or "",
                "grade": f"{limit.grade} (assumed: {', '.join(limit.assumed)})" if limit.assumed else limit.grade,
                "source": limit.source,
            }
            for limit in self.limits
        ]

    def on(self, date: dt.date) -> "Provider":
        """Return the provider as the facts say it is on that date.

        Parameters
        ----------
        date : date
            The day.

        Returns
        -------
        Provider
            Another one; facts that begin later or have ended are left out.
        """
        return self.model_copy(
            update={
                "limits": tuple(limit for limit in self.limits if limit.holds_on(date)),
                "replies": tuple(sentence for sentence in self.replies if sentence.holds_on(date)),
            }
        )

    def read_as(self, readings: Mapping[str, str]) -> "Provider":
        """Return the provider with other readings of its limits: ``{"messages-per-minute": "reject"}``.

        Parameters
        ----------
        readings : mapping of str to str
            By the limit's id, the reading's name.

        Returns
        -------
        Provider
            Another one.
        """
        return self._with({self.limit(id_).id: self.limit(id_).read_as(name) for id_, name in readings.items()})

    def set(self, limits: Mapping[str, object]) -> "Provider":
        """Return the provider with an account's own amounts: ``{"messages-per-day": "50000/d"}``, or ``"off"``.

        Parameters
        ----------
        limits : mapping of str to object
            By the limit's id, an amount such as ``"50000/d"``.

        Returns
        -------
        Provider
            Another one.
        """
        changed = {}
        for id_, amount in limits.items():
            limit = self.limit(id_)
            data = {**limit.model_dump(by_alias=True, exclude_unset=True), "limit": amount}
            changed[limit.id] = check(Limit, data, f"{self.name}/{limit.id}")
        return self._with(changed)

    def _with(self, changed: Mapping[str, Limit]) -> "Provider":
        return self.model_copy(update={"limits": tuple(changed.get(limit.id, limit) for limit in self.limits)})

    def says(self, when: When, stage: Stage) -> Reply:
        """Return the provider's sentence for an occasion, or a neutral one where no source gives it.

        A refusal that isn't sourced names itself as ours: a fake never speaks an invented sentence in a provider's
        name.

        Parameters
        ----------
        when : str
            The occasion: ``banner``, ``auth_failed``, ``send-as``, …
        stage : str
            The command that is answered, where no source says: one of `STAGES`.

        Returns
        -------
        Reply
            Placeholders are still in its text.
        """
        said = [sentence for sentence in self.replies if sentence.when == when]
        # several may be told apart by stage; a single one is said wherever the occasion arises
        fitting = [s for s in said if s.at == stage] or [s for s in said if s.at is None or len(said) == 1]
        if fitting:
            there = fitting[0]
            return Reply(there.code, there.enhanced, there.text, there.at or stage)
        if when in BAD_SEQUENCES:
            return self.says("bad_sequence", stage)
        code, enhanced, text = NEUTRAL[when]
        if code >= 400 and not text:
            text = f"sendlab: {self.name}/{when}, text not published"
        return Reply(code, enhanced, text, stage)

    @property
    def asks_for_authentication(self) -> bool:
        """Whether the facts say what becomes of mail that neither SPF nor DKIM vouches for."""
        by_limit = any(limit.only == "unauthenticated" and limit.limit is not None for limit in self.limits)
        return by_limit or self.speaks_of("unauthenticated")

    def speaks_of(self, when: When) -> bool:
        """Whether the facts have a sentence for that occasion.

        Parameters
        ----------
        when : str
            The occasion: ``banner``, ``auth_failed``, ``send-as``, …

        Returns
        -------
        bool
            True if it has.
        """
        return any(sentence.when == when for sentence in self.replies)

    def refusal(self, limit: Limit) -> Reply:
        """Return what the client reads when it is over the limit.

        Parameters
        ----------
        limit : Limit
            One of its limits.

        Returns
        -------
        Reply
            The published sentence, or one that says it isn't published.
        """
        full_id = f"{self.name}/{limit.id}"
        unpublished = {"reject": 550, "close": 421}.get(limit.on_excess, 451)
        code, enhanced, text = limit.reply or (
            unpublished,
            f"{unpublished // 100}.7.1",
            f"sendlab: {full_id}, text not published",
        )
        amount = "off" if limit.limit is None else str(limit.limit)
        return Reply(code, enhanced, text.replace("{limit}", amount), limit.at, full_id)


BAD_SEQUENCES = ("already_authenticated", "no_recipients")
"""Occasions for which some servers have words of their own, and the others those for any bad sequence."""

NEUTRAL: dict[str, tuple[int, str, str]] = {
    "banner": (220, "", "{host} ESMTP"),
    "ehlo": (250, "", "{host}"),
    "ehlo_tls": (250, "", "{host}"),
    "starttls": (220, "2.0.0", "Ready to start TLS"),
    "auth_ok": (235, "2.7.0", "Authentication successful"),
    "auth_failed": (535, "5.7.8", ""),
    "auth_required": (530, "5.7.0", ""),
    "auth_disabled": (535, "5.7.8", ""),
    "password_refused": (535, "5.7.8", ""),
    "token_challenge": (334, "", '{{"status":"400","schemes":"Bearer"}}'),
    "token_refused": (535, "5.7.8", ""),
    "tls_required": (530, "5.7.0", ""),
    "ehlo_first": (503, "5.5.1", "Send EHLO first"),
    "bad_sequence": (503, "5.5.1", "Bad sequence of commands"),
    "mail": (250, "2.1.0", "Ok"),
    "rcpt": (250, "2.1.5", "Ok"),
    "data": (354, "", "End data with <CR><LF>.<CR><LF>"),
    "accepted": (250, "2.0.0", "Ok"),
    "send-as": (550, "5.7.1", ""),
    "unauthenticated": (550, "5.7.26", ""),
    "size_declared": (552, "5.3.4", ""),
    "blocklisted": (554, "5.7.1", ""),
    "rset": (250, "2.0.0", "Ok"),
    "quit": (221, "2.0.0", "Bye"),
}


@cache
def _load(name: str) -> Provider:
    if name not in names():
        raise ValueError(f"unknown provider {name!r} (there are: {', '.join(names())})")
    path = _folder() / f"{name}.toml"
    provider = parse(read_toml(path), path.name)
    if provider.name != name:
        raise ValueError(f"{path.name}: name must be {name!r}, got {provider.name!r}")
    return provider


def parse(data: Mapping[str, Any], where: str) -> Provider:
    """Check the parsed TOML of a provider's file: every fact in it has a source, a date and a grade."""
    provider = check(Provider, data, where)
    for kind, facts in (("limits", provider.limits), ("replies", provider.replies)):
        for fact in facts:
            name = getattr(fact, "id", None) or getattr(fact, "when", "")
            if not fact.source or fact.as_of is None:
                raise ValueError(f"{where}: {kind}[{name}]: `source` and `as_of` are missing")
    return provider


def names() -> tuple[str, ...]:
    """Return the names of the providers whose facts come with sendlab.

    Returns
    -------
    tuple of str
        In alphabetical order.

    Examples
    --------
    >>> "office365" in names()
    True
    """
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def _folder() -> Path:
    return Path(str(files("simlib") / "providers"))
