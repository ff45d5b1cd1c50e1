"""Inline providers, and conversations with a `Receiver` as lines of text."""

import datetime as dt
from collections.abc import Callable
from typing import Any

from simlib.provider import Provider, Reply, parse
from simlib.receiver import Account, Receiver, Session

DAY, HOUR = 86_400.0, 3_600.0
ME, OTHER = "rep01@us.example", "rep02@us.example"
SOURCE = {"source": "https://facts.example", "as_of": dt.date(2026, 1, 1), "grade": "A"}
HEADER = {"name": "mx", "title": "inline", "role": "submission", "credential": "account", "auth": ["LOGIN", "XOAUTH2"]}
HOLD = {"window": "sliding", "on_excess": "hold_reply"}


def provider(*limits: dict[str, Any], replies: tuple[dict[str, Any], ...] = (), **header: Any) -> Provider:
    """Return an inline provider; a limit is on messages per account, refused at EOD with a 4yz, if it doesn't say."""
    each = {"count": "messages", "per": "account", "on_excess": "defer", "at": "EOD", **SOURCE}
    return parse(
        {
            **HEADER,
            "limits": [{**each, **limit} for limit in limits],
            "replies": [{**SOURCE, **reply} for reply in replies],
            **header,
        },
        "mx.toml",
    )


def accounts(*users: str) -> dict[str, Account]:
    return {
        user: Account(user, refresh_token=f"refresh {user}", domains=frozenset([user.rpartition("@")[2]]))
        for user in users
    }


def receiver_of(facts: Provider, start: dt.datetime | None = None) -> Receiver:
    return Receiver(facts, accounts(ME, OTHER, "us.example", "eu.example"), start)


def talk(receiver: Receiver, *lines: str) -> list[str]:
    """Feed `time session command [argument]` and list the replies: code, which limit spoke, how long it held.

    `connect` says EHLO too, `login` takes the account (rep01's by default), `mail` the sender (the account by
    default), `rcpt` the recipient, `dot` the size, and `send` is a whole transaction with so many recipients: its
    reply is the first refusal, after which it says RSET, or the one to the dot.
    """
    sessions: dict[str, Session] = {}
    replies = []
    for line in lines:
        time, name, command, *rest = line.split()
        now, argument = float(time), rest[0] if rest else ""
        if command == "connect":
            sessions[name], reply = receiver.connect(argument or "127.0.0.1", now)
            if reply.code < 400:
                reply = receiver.ehlo(sessions[name], now)
        else:
            reply = say(receiver, sessions[name], now, command, argument)
        held = f" held {reply.held:g}" if reply.held else ""
        replies.append(f"{reply.code}{' ' if reply.limit else ''}{reply.limit.removeprefix('mx/')}{held}")
    return replies


def say(receiver: Receiver, session: Session, now: float, command: str, argument: str) -> Reply:
    mail_from = session.account if "@" in session.account else ME
    user, _, password = (argument or ME).partition("/")
    match command:
        case "ehlo":
            reply = receiver.ehlo(session, now)
        case "tls":
            reply = receiver.starttls(session, now)
        case "login":
            reply = receiver.auth(session, user, password or "password", now)
        case "mail":
            reply = receiver.mail(session, argument or mail_from, now)
        case "rcpt":
            reply = receiver.rcpt(session, argument or "you@there.example", now)
        case "data":
            reply = receiver.data(session, now)
        case "dot":
            reply = receiver.end_of_data(session, int(argument or 1000), now)
        case "send":
            reply = transaction(receiver, session, now, mail_from, int(argument or 1))
        case "rset":
            reply = receiver.rset(session, now)
        case "quit":
            reply = receiver.quit(session, now)
        case _:
            assert command == "drop"
            receiver.disconnect(session, now)
            reply = Reply(0, "", "", "EOD")
    return reply


def transaction(receiver: Receiver, session: Session, now: float, mail_from: str = ME, recipients: int = 1) -> Reply:
    reply = receiver.mail(session, mail_from, now)
    for number in range(recipients):
        if reply.code < 400:
            reply = receiver.rcpt(session, f"you{number}@there.example", now)
    if reply.code < 400:
        reply = receiver.data(session, now)
    if reply.code < 400:
        return receiver.end_of_data(session, 1000, now)
    receiver.rset(session, now)
    return reply


def logged_in(receiver: Receiver, user: str = ME, now: float = 0.0) -> Session:
    session, _ = receiver.connect("127.0.0.1", now)
    receiver.ehlo(session, now)
    if receiver.provider.tls == "required":
        receiver.starttls(session, now)
        receiver.ehlo(session, now)
    if receiver.provider.role == "submission" and receiver.provider.auth:
        assert receiver.auth(session, user, "password", now).code == 235
    return session


class Client:
    """A client that goes through whole conversations and gives the first reply that isn't at once good."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.session: Session | None = None
        self.user = ME if receiver.provider.credential == "account" else "us.example"
        live = [limit for limit in receiver.provider.limits if limit.limit is not None]
        self.ip = "127.1.1.1" if live and all(limit.only for limit in live) else "127.0.0.1"

    def connect(self, now: float) -> Reply:
        receiver, facts = self.receiver, self.receiver.provider
        self.session, reply = receiver.connect(self.ip, now)
        steps: list[Callable[[Session], Reply]] = [lambda s: receiver.ehlo(s, now)]
        if facts.tls == "required":
            steps += [lambda s: receiver.starttls(s, now), lambda s: receiver.ehlo(s, now)]
        if facts.auth:
            token = set(facts.auth) <= {"XOAUTH2", "OAUTHBEARER"}
            secret = receiver.issue_token(self.user, f"refresh {self.user}", now) if token else "password"
            assert secret is not None
            steps.append(lambda s: receiver.auth(s, self.user, secret, now, token))
        for step in steps:
            if reply.code >= 400:
                break
            reply = step(self.session)
        return reply

    def begin(self, now: float, recipients: int = 1) -> Reply:
        """MAIL, every RCPT and DATA, in a new session if there is none."""
        if self.session is None:
            reply = self.connect(now)
            if reply.code >= 400:
                return reply
        assert self.session is not None
        return self.receiver.offer(self.session, ME, recipients, now)

    def send(self, now: float, recipients: int = 1, size: int = 1000) -> Reply:
        reply = self.begin(now, recipients)
        if reply.code >= 400:
            return reply
        assert self.session is not None
        return self.receiver.end_of_data(self.session, size, now)
