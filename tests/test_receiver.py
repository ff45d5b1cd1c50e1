"""The provider's side of SMTP: commands with times in, replies out; what each kind of limit does."""

import datetime as dt
from collections import Counter

import pytest
from receivers import HOLD, HOUR, ME, OTHER, logged_in, provider, receiver_of, talk, transaction

from simlib.provider import Provider, Reply, names

# Windows


def test_a_sliding_window_is_half_open() -> None:
    receiver = receiver_of(provider({"id": "minute", "limit": "2/min", "window": "sliding"}))
    assert talk(
        receiver,
        "0 a connect",
        "0 a login",
        "0 a send",
        "10 a send",
        "59.9 a send",
        "60 a send",
        "60 a send",
        "70 a send",
    ) == ["250", "235", "250", "250", "451 minute", "250", "451 minute", "250"]


def test_a_fixed_window_of_the_clock_follows_the_providers_clock() -> None:
    facts = provider({"id": "hour", "limit": "1/h", "window": "fixed", "anchor": "clock"})
    receiver = receiver_of(facts, dt.datetime(2026, 12, 1, 8, 30))
    assert talk(receiver, "0 a connect", "0 a login", "0 a send", "1799 a send", "1800 a send", "5399 a send") == [
        "250",
        "235",
        "250",
        "451 hour",
        "250",
        "451 hour",
    ]


def test_a_utc_day_follows_utc_whatever_the_providers_clock_shows() -> None:
    facts = provider({"id": "day", "limit": "1/d", "window": "fixed", "anchor": "utc_day"})
    start = dt.datetime(2026, 12, 1, 8, tzinfo=dt.timezone(dt.timedelta(hours=9)))  # 23:00 UTC
    assert talk(receiver_of(facts, start), "0 a connect", "0 a login", "0 a send", "3599 a send", "3600 a send") == [
        "250",
        "235",
        "250",
        "451 day",
        "250",
    ]


def test_a_window_of_the_first_event_starts_with_it() -> None:
    facts = provider({"id": "minute", "limit": "2/min", "window": "fixed", "anchor": "first_event"})
    assert talk(
        receiver_of(facts),
        "0 a connect",
        "0 a login",
        "50 a send",
        "109 a send",
        "109 a send",
        "110 a send",
        "110 a send",
        "169 a send",
        "170 a send",
    ) == ["250", "235", "250", "250", "451 minute", "250", "250", "451 minute", "250"]


ANVIL = {"per": "ip", "window": "fixed", "anchor": "first_event", "counts": "attempts"}
"""As Postfix counts: whatever a client does begins the windows of all that it is counted for."""
MAILS = {**ANVIL, "id": "m", "limit": "1/min", "at": "MAIL"}


def anvil(other: str) -> Provider:
    """Messages are counted at MAIL, sessions, logins and recipients as well or, if `other` is "off", not at all."""
    return provider(
        {**ANVIL, "id": "s", "count": "sessions", "limit": other, "at": "CONNECT", "on_excess": "close"},
        {**ANVIL, "id": "l", "count": "logins", "limit": other, "at": "AUTH"},
        MAILS,
        {**ANVIL, "id": "r", "count": "recipients", "limit": other, "at": "RCPT"},
    )


@pytest.mark.parametrize("other", ["9/min", "off"])
@pytest.mark.parametrize("event", ["b connect", "b login", "a rcpt"])
def test_a_clients_first_event_begins_all_its_windows(other: str, event: str) -> None:
    """The window from 0 to 60 is over; the event at 70 begins the next one, although it isn't a message."""
    lines = ["0 a connect", "0 a login", "0 b connect", "0 a mail", f"70 {event}"]
    lines += ["80 a rset", "80 a mail", "129 a rset", "129 a mail", "130 a rset", "130 a mail"]
    assert talk(receiver_of(anvil(other)), *lines)[-5::2] == ["250", "451 m", "250"]


@pytest.mark.parametrize("other", ["1/min", "9/min"])
def test_a_refused_event_begins_them_as_well(other: str) -> None:
    facts = anvil(other)
    lines = ["0 a connect", "0 a login", "70 b connect", "70 c connect", "80 a mail", "129 a rset", "129 a mail"]
    replies = talk(receiver_of(facts), *lines, "130 a rset", "130 a mail")
    assert replies[3] == ("421 s" if other == "1/min" else "250")
    assert replies[4::2] == ["250", "451 m", "250"]


def test_another_clients_events_and_other_windows_begin_nothing() -> None:
    facts = provider({"id": "l", "count": "logins", "limit": "9/min", "window": "sliding", "at": "AUTH"}, MAILS)
    lines = ["0 a connect", "0 a login", "30 a mail", "89 a rset", "89 a mail", "90 a rset", "90 a mail"]
    assert talk(receiver_of(facts), *lines)[2::2] == ["250", "451 m", "250"]
    lines = ["0 a connect 127.0.0.2", "0 a login", "50 b connect", "50 b login", "80 b mail", "109 b rset"]
    assert talk(receiver_of(anvil("off")), *lines, "109 b mail", "110 b rset", "110 b mail")[4::2] == [
        *("250", "451 m", "250"),
    ]


def test_a_limit_on_attempts_speaks_before_one_on_what_a_message_holds() -> None:
    facts = provider(
        {"id": "in-message", "count": "recipients", "per": "message", "limit": 1, "at": "RCPT"},
        {**ANVIL, "id": "r", "count": "recipients", "limit": "2/min", "at": "RCPT"},
    )
    assert talk(receiver_of(facts), "0 a connect", "0 a login", "0 a mail", "0 a rcpt", "0 a rcpt", "0 a rcpt")[3:] == [
        *("250", "451 in-message", "451 r"),
    ]


def test_a_limit_that_needs_no_name_speaks_at_the_verb_and_counts_whatever_else_is_wrong() -> None:
    receiver = receiver_of(provider({**ANVIL, "id": "l", "count": "logins", "limit": "4/min", "at": "AUTH"}))
    session, _ = receiver.connect("127.0.0.1", 0)
    early = receiver.begin_auth(session, 0)
    assert early is not None
    assert early.code == 503
    receiver.ehlo(session, 0)
    assert receiver.begin_auth(session, 0) is None
    assert receiver.auth(session, ME, "wrong", 0, begun=True).code == 535
    assert receiver.auth(session, ME, "password", 0).code == 235
    assert receiver.auth(session, ME, "password", 0).code == 503
    refusal = receiver.begin_auth(session, 0)
    assert refusal is not None
    assert refusal.limit == "mx/l"


def test_a_limit_per_account_waits_for_the_name() -> None:
    limit = {"id": "l", "count": "logins", "limit": "1/min", "window": "sliding", "at": "AUTH"}
    receiver = receiver_of(provider(limit))
    logged_in(receiver)
    session, _ = receiver.connect("127.0.0.1", 0)
    receiver.ehlo(session, 0)
    assert receiver.begin_auth(session, 0) is None
    assert receiver.auth(session, ME, "password", 0, begun=True).limit == "mx/l"
    assert receiver.auth(session, OTHER, "password", 0, begun=True).code == 235


def test_a_token_bucket_lets_a_burst_through_and_then_a_trickle() -> None:
    facts = provider({"id": "bucket", "limit": "30/min", "window": "token_bucket", "burst": 3})
    assert talk(
        receiver_of(facts),
        "0 a connect",
        "0 a login",
        "0 a send",
        "0 a send",
        "0 a send",
        "1.9 a send",
        "2 a send",
        "3 a send",
        "4 a send",
    ) == ["250", "235", "250", "250", "250", "451 bucket", "250", "451 bucket", "250"]


# What counts


@pytest.mark.parametrize(("counts", "last"), [("accepted", "250"), ("attempts", "451 minute")])
def test_a_refused_try_uses_the_quota_up_exactly_where_attempts_count(counts: str, last: str) -> None:
    facts = provider({"id": "minute", "limit": "1/min", "window": "sliding", "counts": counts})
    lines = ["0 a connect", "0 a login", "0 a send", "30 a send", "60 a send"]
    assert talk(receiver_of(facts), *lines) == ["250", "235", "250", "451 minute", last]


def test_attempts_count_though_another_limit_refuses() -> None:
    facts = provider(
        {"id": "size", "count": "bytes", "per": "message", "limit": 1000, "on_excess": "reject"},
        {"id": "minute", "limit": "1/min", "window": "sliding", "counts": "attempts"},
    )
    assert talk(
        receiver_of(facts), "0 a connect", "0 a login", "0 a mail", "0 a rcpt", "0 a data", "0 a dot 1001", "1 a send"
    ) == ["250", "235", "250", "250", "354", "550 size", "451 minute"]


@pytest.mark.parametrize("at", ["MAIL", "RCPT", "DATA", "EOD"])
@pytest.mark.parametrize("count", ["messages", "recipients", "unique_recipients", "external_recipients"])
def test_messages_count_once_and_recipients_each_at_whatever_stage(count: str, at: str) -> None:
    """Two messages to two recipients each: four recipients, two messages. The next one is refused at its stage."""
    amount = 2 if count == "messages" else 4
    receiver = receiver_of(provider({"id": "q", "count": count, "limit": f"{amount}/h", "window": "sliding", "at": at}))
    session = logged_in(receiver)
    assert [transaction(receiver, session, 0, recipients=2).code for _ in range(2)] == [250, 250]
    refused = transaction(receiver, session, 0)
    # before RCPT nobody knows how many recipients there will be: it is tested there, and taken after the dot
    assert (refused.code, refused.stage, refused.limit) == (451, at, "mx/q")


def test_a_message_counts_once_though_each_of_its_recipients_is_answered() -> None:
    receiver = receiver_of(provider({"id": "q", "limit": "1/min", "window": "sliding", "at": "RCPT"}))
    assert talk(
        receiver,
        *("0 a connect", "0 a login", "0 a mail", "0 a rcpt", "0 a rcpt", "0 a rcpt", "0 a data", "0 a dot"),
        *("0 a mail", "0 a rcpt", "0 a rcpt"),
    )[-5:] == ["354", "250", "250", "451 q", "451 q"]


def test_recipients_at_rcpt_are_counted_one_by_one() -> None:
    facts = provider({"id": "q", "count": "recipients", "limit": "3/min", "window": "sliding", "at": "RCPT"})
    assert talk(
        receiver_of(facts),
        *("0 a connect", "0 a login", "0 a mail", "0 a rcpt", "0 a rcpt", "0 a rcpt", "0 a rcpt"),
        *("0 a data", "0 a dot", "59 a send", "60 a send 3"),
    )[2:] == ["250", "250", "250", "250", "451 q", "354", "250", "451 q", "250"]


def test_bytes_count_after_the_dot_where_their_number_is_known() -> None:
    for at in ("MAIL", "DATA", "EOD"):
        receiver = receiver_of(
            provider({"id": "q", "count": "bytes", "limit": "2000/min", "window": "sliding", "at": at})
        )
        session = logged_in(receiver)
        replies = [transaction(receiver, session, now) for now in (0, 0, 0, 60)]
        assert [(reply.code, reply.limit) for reply in replies] == [(250, ""), (250, ""), (451, "mx/q"), (250, "")]


@pytest.mark.parametrize("per", ["account", "sender", "domain", "ip", "tenant", "session"])
def test_each_has_its_own_quota_exactly_where_the_limit_counts_by_it(per: str) -> None:
    """Two accounts of one tenant over one session each, from different addresses; same domain, different senders."""
    receiver = receiver_of(provider({"id": "q", "per": per, "limit": "1/h", "window": "sliding"}))
    replies = talk(
        receiver,
        *("0 a connect 127.0.0.1", "0 a login rep01@us.example", "0 a send"),
        *("0 b connect 127.0.0.2", "0 b login rep02@us.example", "0 b send"),
    )
    assert replies[-1] == ("451 q" if per in ("domain", "tenant") else "250")


def test_a_recipients_domain_has_its_own_quota() -> None:
    receiver = receiver_of(provider({"id": "q", "per": "recipient_domain", "limit": "1/h", "window": "sliding"}))
    send = ["0 a mail", "0 a rcpt x@{}", "0 a data", "0 a dot"]
    lines = [line.format(domain) for domain in ("a.example", "A.example", "b.example") for line in send]
    assert talk(receiver, "0 a connect", "0 a login", *lines)[5::4] == ["250", "451 q", "250"]


def test_domains_are_the_same_in_any_case() -> None:
    receiver = receiver_of(provider({"id": "q", "per": "domain", "limit": "1/h", "window": "sliding"}))
    session = logged_in(receiver)
    assert [transaction(receiver, session, 0, mail_from).code for mail_from in (ME, ME.upper())] == [250, 451]


# What is given back


@pytest.mark.parametrize("at", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("end", ["rset", "ehlo", "drop", "quit", "refused"])
@pytest.mark.parametrize("counts", ["accepted", "attempts"])
def test_what_a_transaction_took_is_given_back_if_it_is_not_accepted(at: str, end: str, counts: str) -> None:
    facts = provider(
        {"id": "q", "limit": "1/h", "window": "sliding", "at": at, "counts": counts},
        {"id": "size", "count": "bytes", "per": "message", "limit": 1000, "on_excess": "reject"},
    )
    ending = "0 a dot 1001" if end == "refused" else f"0 a {end}"
    replies = talk(
        receiver_of(facts),
        *("0 a connect", "0 a login", "0 a mail", "0 a rcpt", "0 a data", ending),
        *("0 b connect", "0 b login", "0 b send", "0 b send"),
    )
    assert replies[-2:] == (["250", "451 q"] if counts == "accepted" else ["451 q", "451 q"])


def test_recipients_are_given_back_one_by_one() -> None:
    facts = provider({"id": "q", "count": "recipients", "limit": "3/h", "window": "sliding", "at": "RCPT"})
    assert talk(
        receiver_of(facts),
        *("0 a connect", "0 a login", "0 a mail", "0 a rcpt", "0 a rcpt", "0 a rset", "0 a send 3", "0 a send"),
    )[-2:] == ["250", "451 q"]


def test_what_was_accepted_stays_taken_though_the_session_ends_badly() -> None:
    facts = provider({"id": "q", "limit": "1/h", "window": "sliding", "at": "MAIL"})
    lines = ["0 a connect", "0 a login", "0 a send", "0 a rset", "0 a drop", "0 b connect", "0 b login", "0 b send"]
    assert talk(receiver_of(facts), *lines)[-1] == "451 q"


# Several limits


def test_limits_of_a_stage_are_checked_together_then_taken_together() -> None:
    """The first has room and the second refuses: then the first has taken nothing either."""
    facts = provider(
        {"id": "recipients", "count": "recipients", "limit": "10/h", "window": "sliding"},
        {"id": "messages", "limit": "1/min", "window": "sliding", "on_excess": "reject"},
    )
    assert talk(
        receiver_of(facts), "0 a connect", "0 a login", "0 a send 1", "0 a send 9", "60 a send 9", "120 a send"
    )[2:] == ["250", "550 messages", "250", "451 recipients"]


def test_the_limit_that_stands_first_in_the_file_speaks_first() -> None:
    limits = [{"id": name, "limit": "1/h", "window": "sliding"} for name in ("first", "second")]
    for order in (limits, limits[::-1]):
        assert (
            talk(receiver_of(provider(*order)), "0 a connect", "0 a login", "0 a send", "0 a send")[-1]
            == f"451 {order[0]['id']}"
        )


def test_refusals_come_before_holds_and_what_is_refused_holds_nobody_up() -> None:
    facts = provider(
        {"id": "minute", "limit": "1/min", **HOLD},
        {"id": "hour", "limit": "3/h", "window": "sliding", "on_excess": "reject"},
    )
    receiver = receiver_of(facts)
    assert talk(receiver, "0 a connect", "0 a login", *["0 a send"] * 4, "3600 a send")[2:] == [
        "250",
        "250 minute held 60",
        "250 minute held 120",
        "550 hour",
        "250",
    ]


def test_of_several_holds_the_longest_counts() -> None:
    facts = provider({"id": "minute", "limit": "1/min", **HOLD}, {"id": "five", "limit": "2/5min", **HOLD})
    assert talk(receiver_of(facts), "0 a connect", "0 a login", *["0 a send"] * 4)[2:] == [
        "250",
        "250 minute held 60",
        "250 five held 300",
        "250 minute held 360",
    ]


def test_what_is_held_takes_its_place_when_it_is_let_through() -> None:
    """One a minute: the second leaves at 60 and counts from there, so a third at 61 waits until 120."""
    facts = provider({"id": "minute", "limit": "1/min", **HOLD})
    assert talk(receiver_of(facts), "0 a connect", "0 a login", "0 a send", "1 a send", "61 a send", "180 a send")[
        2:
    ] == ["250", "250 minute held 59", "250 minute held 59", "250"]


def test_what_never_fits_is_not_held_but_refused() -> None:
    facts = provider({"id": "minute", "count": "recipients", "limit": "2/min", **HOLD})
    assert talk(receiver_of(facts), "0 a connect", "0 a login", "0 a send 3", "0 a send 2")[2:] == ["451 minute", "250"]


def test_microsofts_eighty_at_once_leave_in_three_minutes() -> None:
    """30 now, 30 after 60 s, 20 after 120 s, whether minutes slide or follow the clock."""
    raw = Provider.load("office365").on(dt.date(2026, 6, 1)).set({"transactions": "off"})
    for facts in (raw, raw.read_as({"messages-per-minute": "clock"})):
        receiver = receiver_of(facts, dt.datetime(2026, 6, 1, 9))
        session = logged_in(receiver)
        replies = [transaction(receiver, session, 0.0) for _ in range(80)]
        assert Counter(reply.held for reply in replies) == {0.0: 30, 60.0: 30, 120.0: 20}
        assert [reply.held for reply in replies] == sorted(reply.held for reply in replies)
        assert {(reply.code, reply.delay - reply.held) for reply in replies} == {(250, 0.0)}


@pytest.mark.parametrize(("on_excess", "delay"), [("hold_reply", 60.0), ("accept_late", 0.0)])
def test_a_hold_delays_the_reply_exactly_where_it_is_not_accepted_late(on_excess: str, delay: float) -> None:
    facts = provider(
        {"id": "transactions", "count": "transactions", "limit": 1, "at": "MAIL"},
        {"id": "minute", "limit": "1/min", "window": "sliding", "on_excess": on_excess},
    )
    receiver = receiver_of(facts)
    first, second = logged_in(receiver), logged_in(receiver)
    assert transaction(receiver, first, 0).held == 0
    late = transaction(receiver, first, 0)
    assert (late.code, late.limit, late.held, late.delay) == (250, "mx/minute", 60.0, delay)
    # its transaction lasts until the reply leaves
    assert (receiver.mail(second, ME, 59).limit == "mx/transactions") == (delay > 0)
    receiver.rset(second, 59)
    assert receiver.mail(second, ME, 60).code == 250


def test_a_client_that_goes_away_during_a_hold_changes_nothing_for_those_behind_it() -> None:
    facts = provider({"id": "minute", "limit": "1/min", **HOLD})
    assert (
        talk(
            receiver_of(facts),
            *("0 a connect", "0 a login", "0 a send", "0 a send", "10 a drop"),
            *("20 b connect", "20 b login", "20 b send"),
        )[-1]
        == "250 minute held 100"
    )


def test_after_the_first_excess_nothing_passes_until_the_penalty_is_over() -> None:
    facts = provider({"id": "q", "limit": "2/min", "window": "sliding", "at": "MAIL", "penalty": "1h"})
    assert talk(
        receiver_of(facts),
        *("0 a connect", "0 a login", "0 a send", "0 a send", "10 a send", "70 a send", "3609 a send"),
        *("3610 a send", "3610 a send", "3610 a send", "7209 a send", "7210 a send"),
    )[2:] == ["250", "250", "451 q", "451 q", "451 q", "250", "250", "451 q", "451 q", "250"]


def test_a_penalty_is_the_accounts_own() -> None:
    facts = provider({"id": "q", "limit": "1/min", "window": "sliding", "penalty": "1h"})
    receiver = receiver_of(facts)
    first, second = logged_in(receiver, ME), logged_in(receiver, OTHER)
    assert [transaction(receiver, first, now).code for now in (0, 0, 60)] == [250, 451, 451]
    assert transaction(receiver, second, 60, OTHER).code == 250


# What lasts


def test_connections_count_from_connect_to_close() -> None:
    facts = provider(
        {"id": "c", "count": "connections", "per": "ip", "limit": 2, "on_excess": "close", "at": "CONNECT"}
    )
    assert talk(
        receiver_of(facts),
        *("0 a connect", "0 b connect", "0 c connect", "0 d connect 127.0.0.2"),
        *("1 a quit", "1 c connect", "1 d connect", "2 b drop", "2 e connect"),
    ) == ["250", "250", "421 c", "250", "221", "250", "421 c", "0", "250"]


def test_connections_of_an_account_count_from_its_login() -> None:
    facts = provider({"id": "c", "count": "connections", "limit": 1, "at": "AUTH"})
    assert talk(
        receiver_of(facts),
        *("0 a connect", "0 b connect", "0 a login", "0 b login", "0 b login rep02@us.example"),
        *("1 a quit", "1 c connect", "1 c login"),
    ) == ["250", "250", "235", "451 c", "235", "221", "250", "235"]


def test_a_login_that_fails_occupies_nothing() -> None:
    facts = provider({"id": "c", "count": "connections", "limit": 1, "at": "AUTH"})
    assert talk(
        receiver_of(facts),
        *("0 a connect", f"0 a login {ME}/wrong", f"0 a login {ME}/wrong", "0 b connect", "0 b login"),
        *("0 a login", "1 b drop", "1 a login"),
    ) == ["250", "535", "535", "250", "235", "451 c", "0", "235"]


def test_a_limit_on_connections_may_be_tested_later() -> None:
    """Microsoft's: the session stays open, and its place taken."""
    facts = provider({"id": "c", "count": "connections", "per": "ip", "limit": 1, "at": "MAIL"})
    assert talk(
        receiver_of(facts),
        *("0 a connect", "0 a login", "0 b connect", "0 b login", "0 b mail", "0 a mail", "1 a drop", "1 b mail"),
    )[4:] == ["451 c", "451 c", "0", "250"]


def test_transactions_are_in_progress_from_mail_to_the_reply_to_the_dot() -> None:
    facts = provider({"id": "t", "count": "transactions", "limit": 1})
    open_one = ["0 a connect", "0 a login", "0 a mail", "0 a rcpt", "0 a data"]
    open_two = [line.replace("a", "b", 1) for line in open_one]
    receiver = receiver_of(facts)
    assert talk(receiver, *open_one, *open_two, "0 b dot", "0 a dot")[-2:] == ["451 t", "250"]
    for end in ("dot", "rset", "ehlo", "drop"):
        assert talk(receiver_of(facts), *open_one, *open_two, f"0 a {end}", "0 b dot")[-1] == "250"


def test_messages_of_a_session_are_those_accepted_in_it() -> None:
    facts = provider(
        {"id": "s", "per": "session", "limit": 2, "on_excess": "close", "at": "MAIL"},
        {"id": "size", "count": "bytes", "per": "message", "limit": 1000, "on_excess": "reject"},
    )
    assert talk(
        receiver_of(facts),
        *("0 a connect", "0 a login", "0 a send", "0 a mail", "0 a rset", "0 a mail", "0 a rcpt", "0 a data"),
        *("0 a dot 1001", "0 a send", "0 a send", "0 b connect", "0 b login", "0 b send"),
    )[-6:] == ["550 size", "250", "421 s", "250", "235", "250"]


def test_a_message_may_have_so_many_recipients() -> None:
    facts = provider({"id": "r", "count": "recipients", "per": "message", "limit": 2, "at": "RCPT"})
    assert talk(
        receiver_of(facts),
        *("0 a connect", "0 a login", "0 a mail", "0 a rcpt", "0 a rcpt", "0 a rcpt", "0 a rcpt", "0 a data"),
        *("0 a dot", "0 a send 2", "0 a send 3"),
    )[2:] == ["250", "250", "250", "451 r", "451 r", "354", "250", "250", "451 r"]


def test_a_message_may_have_so_many_bytes() -> None:
    facts = provider({"id": "size", "count": "bytes", "per": "message", "limit": 1000, "on_excess": "reject"})
    assert talk(
        receiver_of(facts),
        *("0 a connect", "0 a login", "0 a mail", "0 a rcpt", "0 a data", "0 a dot 1001"),
        *("0 a mail", "0 a rcpt", "0 a data", "0 a dot 1000"),
    )[5::4] == ["550 size", "250"]


def test_the_size_that_a_client_declares_is_tested_at_mail() -> None:
    facts = provider(
        {"id": "size", "count": "bytes", "per": "message", "limit": 1000, "on_excess": "reject", "at": "MAIL"}
    )
    receiver = receiver_of(facts)
    session = logged_in(receiver)
    assert receiver.mail(session, ME, 0, size=1001).limit == "mx/size"
    assert receiver.mail(session, ME, 0, size=1000).code == 250


def test_a_declared_size_is_refused_after_the_limits_of_mail_and_gives_back_what_they_took() -> None:
    size = {"id": "size", "count": "bytes", "per": "message", "limit": 1000, "on_excess": "reject"}
    minute = {"id": "minute", "limit": "1/min", "window": "sliding", "at": "MAIL"}
    declared = {"when": "size_declared", "at": "MAIL", "code": 552, "enhanced": "5.3.4", "text": "too big, you say"}
    for counts, code in (("accepted", 250), ("attempts", 451)):
        receiver = receiver_of(provider(size, {**minute, "counts": counts}, replies=(declared,)))
        session = logged_in(receiver)
        reply = receiver.mail(session, ME, 0, size=1001)
        assert (reply.code, reply.text, reply.limit, reply.stage) == (552, "too big, you say", "mx/size", "MAIL")
        assert not session.started
        assert receiver.mail(session, ME, 0, size=1000).code == code
    assert receiver.mail(session, ME, 0, size=1001).limit == "mx/minute"


@pytest.mark.parametrize(("count", "at"), [("sessions", "CONNECT"), ("sessions", "EHLO"), ("logins", "AUTH")])
@pytest.mark.parametrize("counts", ["accepted", "attempts"])
def test_sessions_and_logins_count_the_one_tested(count: str, at: str, counts: str) -> None:
    facts = provider(
        {"id": "q", "count": count, "per": "ip", "limit": "2/min", "window": "sliding", "at": at, "counts": counts}
    )
    receiver = receiver_of(facts)
    passed = [
        talk(receiver, f"{now} a connect", f"{now} a login")[-1]
        if count == "logins"
        else talk(receiver, f"{now} a connect")[-1]
        for now in (0, 0, 30, 60)
    ]
    refused_counts = counts == "attempts" or at == "EHLO"  # at EHLO the session has begun already
    assert [reply.endswith(" q") for reply in passed] == [False, False, True, False]
    again = talk(receiver, "60 a connect", "60 a login")[0 if count == "sessions" else 1]
    assert again.endswith(" q") == refused_counts


@pytest.mark.parametrize(("counts", "last"), [("accepted", "235"), ("attempts", "451 q")])
def test_a_login_with_a_wrong_password_counts_exactly_where_attempts_count(counts: str, last: str) -> None:
    facts = provider(
        {"id": "q", "count": "logins", "limit": "2/min", "window": "sliding", "at": "AUTH", "counts": counts}
    )
    lines = ["0 a connect", f"0 a login {ME}/wrong", f"0 a login {ME}/wrong", "0 a login"]
    assert talk(receiver_of(facts), *lines) == ["250", "535", "535", last]


@pytest.mark.parametrize(
    ("per", "at"), [("ip", "CONNECT"), ("ip", "EHLO"), ("ip", "AUTH"), ("account", "AUTH"), ("account", "MAIL")]
)
def test_a_limit_before_mail_is_tested_there_and_taken_after_the_dot(per: str, at: str) -> None:
    """One more has to fit; what is in the message counts when it is accepted, and may exceed the rest (SendGrid)."""
    facts = provider({"id": "q", "count": "recipients", "per": per, "limit": "3/h", "window": "sliding", "at": at})
    receiver = receiver_of(facts)
    session = logged_in(receiver)
    assert transaction(receiver, session, 0, recipients=2).code == 250
    again = logged_in(receiver, now=0)
    assert transaction(receiver, again, 0, recipients=2).code == 250
    replies = talk(receiver, "0 a connect", "0 a login", "0 a mail")
    stage = {"CONNECT": 0, "EHLO": 0, "AUTH": 1, "MAIL": 2}[at]
    assert [reply for reply in replies if reply == "451 q"][:1] == ["451 q"]
    assert replies[stage] == "451 q"
    assert talk(receiver, "3600 a connect", "3600 a login", "3600 a send")[-1] == "250"


def test_sendgrids_credits_are_tested_at_login_and_taken_after_the_dot() -> None:
    """A session that is open goes on sending; the next one can't log in until the UTC day is over."""
    start = dt.datetime(2026, 12, 1, 8, 30, tzinfo=dt.timezone(dt.timedelta(hours=9)))  # 23:30 UTC
    receiver = receiver_of(Provider.load("sendgrid"), start)
    assert talk(
        receiver,
        *("0 a connect", "0 a login us.example", "0 a send 99", "1 b connect", "1 b login us.example"),
        *("1 b send 50", "2 b send", "3 c connect", "3 c login us.example", "3 c login eu.example"),
        *("1799 d connect", "1799 d login us.example", "1800 d login us.example"),
    ) == [
        *("250", "235", "250", "250", "235", "250", "250"),
        *("250", "451 sendgrid/messages-per-day", "235", "250", "451 sendgrid/messages-per-day", "235"),
    ]


def test_microsofts_daily_example_comes_free_batch_by_batch() -> None:
    """10,000 recipients in batches at 9, 10 and 11 h are free again at the same hours of the next day."""
    receiver = receiver_of(Provider.load("office365").on(dt.date(2026, 6, 1)), dt.datetime(2026, 6, 1))
    session = logged_in(receiver)

    def send(hours: float, recipients: int) -> str:
        """Send so many recipients, 500 a message at most."""
        left, reply = recipients, None
        while left > 0:
            reply = transaction(receiver, session, hours * HOUR, recipients=min(left, 500))
            left -= 500
        assert reply is not None
        return reply.limit if reply.code >= 400 else "accepted"

    refused = "office365/recipients-per-day"
    assert [send(9, 5000), send(10, 2500), send(11, 2500)] == ["accepted"] * 3
    assert [send(11.01, 1), send(32.99, 1)] == [refused] * 2
    assert [send(33, 5000), send(33, 1), send(33.99, 1)] == ["accepted", refused, refused]
    assert [send(34, 2500), send(34.99, 1)] == ["accepted", refused]
    assert [send(35, 2500), send(35.01, 1)] == ["accepted", refused]


# The order of commands


def test_commands_out_of_order_get_a_503_and_change_nothing() -> None:
    receiver = receiver_of(provider({"id": "q", "limit": "1/h", "window": "sliding"}))
    assert talk(
        receiver,
        *("0 a connect", "0 a login", "0 a rcpt", "0 a data", "0 a dot", "0 a mail", "0 a mail", "0 a data", "0 a dot"),
        *("0 a rcpt", "0 a data", "0 a dot", "0 a data", "0 a dot", "0 a rset", "0 a rcpt", "0 a send"),
    )[2:] == [
        *("503", "503", "503", "250", "503", "503", "503", "250", "354", "250"),
        *("503", "503", "250", "503", "451 q"),
    ]


def test_nothing_is_answered_before_the_greeting() -> None:
    receiver = receiver_of(provider())
    session, _ = receiver.connect("127.0.0.1", 0)
    assert receiver.auth(session, ME, "password", 0).code == 503
    assert receiver.mail(session, ME, 0).code == 503


def test_a_sentence_told_apart_by_stage_is_not_said_at_another() -> None:
    said = {"when": "bad_sequence", "code": 503, "enhanced": "5.5.1"}
    receiver = receiver_of(
        provider(replies=({**said, "at": "MAIL", "text": "nested"}, {**said, "at": "RCPT", "text": "need MAIL"}))
    )
    session = logged_in(receiver)
    assert receiver.rcpt(session, "x@there.example", 0).text == "need MAIL"
    receiver.mail(session, ME, 0)
    assert receiver.mail(session, ME, 0).text == "nested"
    assert receiver.auth(session, ME, "password", 0).text == "Bad sequence of commands"


# What goes over the wire


def test_placeholders_are_filled_in() -> None:
    text = "{ip} {host} {id} {time:%Y-%m-%dT%H:%M:%S} {time:unix} {account} {sender} {domain} {{x}}"
    facts = provider(
        {
            "id": "q",
            "limit": "1/h",
            "window": "sliding",
            "reply": "450 4.7.1 at most {limit} for {account}",
        },
        replies=({"when": "mail", "code": 250, "text": text},),
    )
    start = dt.datetime(2026, 12, 1, 8, tzinfo=dt.timezone(dt.timedelta(hours=9)))
    receiver = receiver_of(facts, start)
    session = logged_in(receiver)
    words = receiver.render(receiver.mail(session, ME, 0), session, 90).split()
    host, id_ = words.pop(1), words.pop(1)
    assert words == ["127.0.0.1", "2026-11-30T23:01:30", "1796079690", ME, ME, "us.example", "{x}"]
    assert host.startswith("SENDLAB")
    assert host.isalnum()
    int(id_, 16)
    receiver.rset(session, 0)
    transaction(receiver, session, 0)
    assert receiver.render(transaction(receiver, session, 0), session, 0) == f"at most 1/h for {ME}"


def test_host_and_id_are_functions_of_provider_session_and_transaction() -> None:
    facts = provider(replies=({"when": "mail", "code": 250, "text": "{host} {id}"},))

    def said(facts: Provider) -> list[str]:
        receiver = receiver_of(facts)
        found = []
        for _ in range(2):
            session = logged_in(receiver)
            for _ in range(2):
                reply = receiver.mail(session, ME, 0)
                found += [receiver.render(reply, session, now) for now in (0, 1)]
                receiver.rset(session, 0)
        return found

    once = said(facts)
    assert once == said(facts)
    assert once != said(provider(replies=({"when": "mail", "code": 250, "text": "{host} {id}"},), name="mx2"))
    assert once[0::2] == once[1::2]
    hosts, ids = zip(*(line.split() for line in once[0::2]), strict=True)
    assert hosts[0] == hosts[1]
    assert hosts[2] == hosts[3]
    assert hosts[0] != hosts[2]
    assert len(set(ids)) == 4


@pytest.mark.parametrize("name", names())
def test_every_sentence_can_be_filled_in(name: str) -> None:
    facts = Provider.load(name)
    receiver = receiver_of(facts)
    session, _ = receiver.connect("127.0.0.1", 0)
    session.account, session.mail_from = ME, OTHER
    said = [Reply(s.code, s.enhanced, s.text, "EOD") for s in facts.replies]
    said += [facts.refusal(limit) for limit in facts.limits]
    said += [
        facts.read_as({limit.id: reading["name"]}).refusal(facts.limit(limit.id).read_as(reading["name"]))
        for limit in facts.limits
        for reading in limit.readings
    ]
    for reply in said:
        text = receiver.render(reply, session, 12.5)
        assert "{" not in text.replace('{"', "").replace("{{", ""), text
        assert "\r" not in text
        assert text.isascii()
        assert text == receiver.render(reply, session, 12.5)
