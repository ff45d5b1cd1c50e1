"""Whatever is said: no sequence of commands raises, nothing taken is lost, two limits pass what both have room for."""

import datetime as dt
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st
from receivers import DAY, HOLD, ME, OTHER, Client, logged_in, provider, receiver_of, say, transaction

from simlib.provider import Provider, names
from simlib.receiver import Receiver, Session
from simlib.windows import InUse, SlidingWindow

USERS = (ME, OTHER, "us.example")
COMMANDS = st.sampled_from(
    [
        *("ehlo", "tls", "login", f"login {OTHER}", f"login {ME}/wrong", "login us.example", "mail", f"mail {OTHER}"),
        *("mail x@else.example", "rcpt", "rcpt x@a.example", "data", "dot", "dot 200000000", "send", "send 3", "rset"),
        *("quit", "drop"),
    ]
)
CONVERSATIONS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.3, 0.6, 1.0]), st.sampled_from("abc"), COMMANDS), max_size=60
)
EVERYTHING = (
    {"id": "connections", "count": "connections", "per": "ip", "limit": 2, "on_excess": "close", "at": "CONNECT"},
    {"id": "connections-per-account", "count": "connections", "limit": 2, "at": "AUTH"},
    {"id": "sessions", "count": "sessions", "per": "ip", "limit": "9/3s", "window": "sliding", "at": "EHLO"},
    {"id": "logins", "count": "logins", "limit": "3/s", "window": "sliding", "at": "AUTH", "counts": "attempts"},
    {"id": "at-mail", "limit": "5/3s", "window": "fixed", "anchor": "clock", "at": "MAIL"},
    {"id": "t", "count": "transactions", "limit": 1, "at": "DATA"},
    {"id": "in-session", "per": "session", "limit": 3, "on_excess": "close", "at": "MAIL"},
    {"id": "at-rcpt", "count": "recipients", "per": "domain", "limit": "6/3s", "window": "sliding", "at": "RCPT"},
    {"id": "in-message", "count": "recipients", "per": "message", "limit": 3, "at": "RCPT"},
    {"id": "tokens", "per": "tenant", "limit": "2/s", "window": "token_bucket", "burst": 4, "at": "DATA"},
    {"id": "tries", "per": "ip", "limit": "9/3s", "window": "fixed", "anchor": "first_event", "counts": "attempts"},
    {"id": "hold", "limit": "2/s", "window": "sliding", "on_excess": "hold_reply"},
    {"id": "ledger", "limit": "1000000/365d", "window": "sliding", "at": "MAIL", "on_excess": "reject"},
    {"id": "size", "count": "bytes", "per": "message", "limit": 1000000, "on_excess": "reject"},
)


def converse(receiver: Receiver, conversation: list[tuple[float, str, str]]) -> tuple[float, int, int]:
    """Say what comes, close at 421, and check after each command what is in use; return time, accepted and held."""
    open_sessions: dict[str, Session] = {}
    now, accepted = 0.0, 0
    held_until: dict[str, deque[float]] = {}
    for pause, name, line in conversation:
        now += pause
        if name not in open_sessions:
            session, reply = receiver.connect("127.0.0.1", now)
            if reply.code >= 400:
                continue
            open_sessions[name] = session
        session = open_sessions[name]
        command, _, argument = line.partition(" ")
        before = session.messages
        account = session.account
        reply = say(receiver, session, now, command, argument)
        assert isinstance(receiver.render(reply, session, now + reply.delay), str)
        accepted += session.messages - before
        if reply.held:
            held_until.setdefault(account, deque()).append(now + reply.held)
        if command in ("quit", "drop") or reply.closes:
            receiver.disconnect(session, now)
            del open_sessions[name]
        for rule in receiver.rules:
            for key, window in rule.windows.items():
                if not isinstance(window, InUse) or rule.limit.per == "session":
                    continue
                window.fits(0, now)
                if rule.limit.count == "connections":
                    expected = sum(getattr(s, rule.limit.per) == key for s in open_sessions.values())
                else:
                    expected = sum(s.account == key and s.started for s in open_sessions.values())
                    expected += sum(until > now for until in held_until.get(str(key), ()))
                assert window.used == expected, (rule.id, line)
    for session in open_sessions.values():
        receiver.disconnect(session, now)
    return now, accepted, sum(map(len, held_until.values()))


@given(CONVERSATIONS)
@settings(max_examples=300)
def test_no_conversation_raises_and_nothing_in_use_is_lost(conversation: list[tuple[float, str, str]]) -> None:
    receiver = receiver_of(provider(*EVERYTHING))
    now, accepted, _ = converse(receiver, conversation)
    for rule in receiver.rules:
        for window in rule.windows.values():
            if isinstance(window, InUse):
                assert window.fits(0, now + DAY)
                assert window.used == 0
        assert rule.limit.per != "session" or not rule.windows  # what a closed session counted is forgotten
    ledger = next(rule for rule in receiver.rules if rule.id == "mx/ledger")
    assert sum(window.used for window in ledger.windows.values() if isinstance(window, SlidingWindow)) == accepted


@given(st.sampled_from(names()), CONVERSATIONS)
@settings(max_examples=300)
def test_no_provider_raises_whatever_is_said(name: str, conversation: list[tuple[float, str, str]]) -> None:
    facts = Provider.load(name).on(dt.date(2026, 6, 1))
    receiver = receiver_of(facts)
    if name.startswith("g"):
        receiver.blocked.add("127.0.0.1")
    now, _, _ = converse(receiver, conversation)
    for rule in receiver.rules:
        for window in rule.windows.values():
            if isinstance(window, InUse):
                assert window.fits(0, now + DAY)
                assert window.used == 0


@given(
    st.sampled_from(["", *names()]),
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.6]),
            st.sampled_from([ME, "x@else.example"]),
            st.sampled_from([1, 2, 4, 51, 101, 501, 1001]),
            st.sampled_from([1000, 10**7, 10**9]),
        ),
        max_size=15,
    ),
)
def test_an_offer_gets_what_its_commands_would(name: str, sends: list[tuple[float, str, int, int]]) -> None:
    facts = Provider.load(name).on(dt.date(2026, 6, 1)) if name else provider(*EVERYTHING)
    ours, theirs = receiver_of(facts), receiver_of(facts)
    one, other = Client(ours), Client(theirs)
    assert one.connect(0) == other.connect(0)
    assert one.session is not None
    assert other.session is not None
    now = 0.0
    for pause, mail_from, recipients, size in sends:
        now += pause
        offered = ours.offer(one.session, mail_from, recipients, now)
        reply = theirs.mail(other.session, mail_from, now)
        for _ in range(recipients):
            if reply.code < 400:
                reply = theirs.rcpt(other.session, "", now)
        reply = theirs.data(other.session, now) if reply.code < 400 else reply
        if reply.code >= 400:
            theirs.rset(other.session, now)
        assert offered == reply
        if offered.code < 400:
            assert ours.end_of_data(one.session, size, now) == theirs.end_of_data(other.session, size, now)
        assert one.session.messages == other.session.messages


@given(
    st.lists(st.tuples(st.sampled_from([0, 3, 6, 10]), st.sampled_from([ME, OTHER]), st.integers(1, 3)), max_size=40),
    st.integers(1, 4),
    st.integers(2, 8),
)
def test_two_limits_pass_exactly_what_both_have_room_for(
    sends: list[tuple[int, str, int]], messages: int, recipients: int
) -> None:
    """Messages per account in a second, and recipients per tenant in two: counted by hand, in tenths of a second."""
    facts = provider(
        {"id": "messages", "limit": f"{messages}/s", "window": "sliding"},
        {"id": "recipients", "count": "recipients", "per": "tenant", "limit": f"{recipients}/2s", "window": "sliding"},
    )
    receiver = receiver_of(facts)
    sessions = {user: logged_in(receiver, user) for user in (ME, OTHER)}
    log: list[tuple[int, str, int]] = []
    now = 0
    for pause, user, count in sends:
        now += pause
        room = sum(at > now - 10 and who == user for at, who, _ in log) < messages
        more_room = sum(many for at, _, many in log if at > now - 20) + count <= recipients
        reply = transaction(receiver, sessions[user], now / 10, user, count)
        assert reply.limit == ("" if room and more_room else "mx/messages" if not room else "mx/recipients")
        if room and more_room:
            log.append((now, user, count))


@given(
    st.lists(st.tuples(st.sampled_from([0, 3, 6, 10]), st.booleans()), max_size=40),
    st.integers(1, 3),
    st.integers(1, 6),
)
def test_a_hold_and_a_refusal_pass_exactly_what_both_have_room_for(
    sends: list[tuple[int, bool]], held: int, refused: int
) -> None:
    """So many a second are let through, the rest in their turn; more than so many in three seconds are refused."""
    facts = provider(
        {"id": "second", "limit": f"{held}/s", **HOLD},
        {"id": "three", "limit": f"{refused}/3s", "window": "sliding", "on_excess": "reject"},
    )
    receiver = receiver_of(facts)
    session = logged_in(receiver)
    leaves: list[int] = []
    now = 0
    for pause, _ in sends:
        now += pause
        reply = transaction(receiver, session, now / 10)
        if sum(at > now - 30 for at in leaves) >= refused:
            assert reply.limit == "mx/three"
            continue
        at = max(now, *leaves) if leaves else now
        while sum(other > at - 10 for other in leaves) >= held:
            at += 1
        assert (reply.code, round(reply.held * 10)) == (250, at - now)
        leaves.append(at)
