"""Who may send as whom, after which login: accounts, tokens and passwords, TLS and listed IPs."""

import datetime as dt
from typing import Any

import pytest
from receivers import ME, OTHER, logged_in, provider, receiver_of, talk, transaction

from simlib.provider import Provider, names
from simlib.receiver import TOKEN_LIFETIME, Account, Receiver


def test_an_account_sends_only_as_itself() -> None:
    receiver = receiver_of(Provider.load("office365").on(dt.date(2026, 6, 1)))
    session = logged_in(receiver)
    reply = transaction(receiver, session, 0, OTHER)
    assert (reply.code, reply.enhanced, reply.stage, reply.limit) == (554, "5.2.252", "EOD", "")
    assert receiver.render(reply, session, 0).startswith(
        f"SendAsDenied; {ME} not allowed to send as {OTHER}; STOREDRV.Submission.Exception:SendAsDeniedException."
    )
    assert transaction(receiver, session, 0, ME.upper()).code == 250

    for mail_from, header_from, code in ((ME, OTHER, 554), (OTHER, ME, 554), (ME, ME, 250)):
        receiver.offer(session, mail_from, 1, 0)
        assert receiver.end_of_data(session, 1000, 0, header_from).code == code


def test_a_domain_credential_sends_as_anyone_in_its_domains() -> None:
    receiver = receiver_of(Provider.load("sparkpost"))
    session = logged_in(receiver, "us.example")
    senders = ["anyone@us.example", "Other@US.example", "anyone@eu.example", "anyone@sub.us.example"]
    assert [transaction(receiver, session, 0, sender).code for sender in senders] == [250, 250, 550, 550]
    reply = transaction(receiver, session, 0, "anyone@eu.example")
    text = receiver.render(reply, session, 0)
    assert (reply.code, reply.enhanced, reply.stage) == (550, "5.7.1", "EOD")
    assert text.startswith("Unconfigured Sending Domain")
    assert "eu.example" in text


def test_send_as_is_refused_at_the_stage_that_the_facts_state() -> None:
    receiver = receiver_of(Provider.load("own-postfix"))
    session = logged_in(receiver, "us.example")
    assert receiver.mail(session, "x@eu.example", 0).code == 250
    reply = receiver.rcpt(session, "y@there.example", 0)
    assert (reply.code, reply.enhanced, reply.stage) == (553, "5.7.1", "RCPT")
    receiver.rset(session, 0)
    assert receiver.offer(session, "x@eu.example", 1, 0) == reply
    assert transaction(receiver, session, 0, "x@us.example").code == 250


def test_a_provider_that_goes_by_a_list_holds_nobody_to_a_guess() -> None:
    for listed, codes in ((True, [553, 250, 250]), (False, [250, 250, 250])):
        user = Account("us.example", domains=frozenset(["us.example"]), listed=listed)
        receiver = Receiver(Provider.load("own-postfix"), {"us.example": user})
        session = logged_in(receiver, "us.example")
        senders = ["x@eu.example", "x@us.example", ""]
        assert [transaction(receiver, session, 0, sender).code for sender in senders] == codes


def test_refused_for_its_sender_a_try_counts_only_among_attempts() -> None:
    for counts, code in (("accepted", 250), ("attempts", 451)):
        receiver = receiver_of(provider({"id": "q", "limit": "1/h", "window": "sliding", "counts": counts}))
        session = logged_in(receiver)
        assert transaction(receiver, session, 0, OTHER).code == 550
        assert transaction(receiver, session, 0, ME).code == code


@pytest.mark.parametrize("facts", ["gmail", "gmail-personal", "office365", "gmail-oauth"])
def test_a_token_is_good_for_an_hour(facts: str) -> None:
    receiver = receiver_of(Provider.load(facts).on(dt.date(2026, 6, 1)))

    def login(token: str, now: float, user: str = ME) -> int:
        session, _ = receiver.connect("127.0.0.1", now)
        receiver.ehlo(session, now)
        receiver.starttls(session, now)
        receiver.ehlo(session, now)
        return receiver.auth(session, user, token, now, token=True).code

    token = receiver.issue_token(ME.upper(), f"refresh {ME}", now=100)
    assert token is not None
    assert [login(token, now) for now in (100, 100 + TOKEN_LIFETIME - 1, 100 + TOKEN_LIFETIME)] == [235, 235, 535]
    assert login(token, 100, OTHER) == 535
    assert login("made up", 100) == 535
    assert receiver.issue_token(ME, "wrong", now=0) is None
    assert receiver.issue_token("nobody@us.example", "", now=0) is None
    newer = receiver.issue_token(ME, f"refresh {ME}", now=3700)
    assert newer is not None
    assert newer != token
    assert login(newer, 3701) == 235


def test_a_revoked_grant_fails_at_once_and_until_it_is_given_again() -> None:
    receiver = receiver_of(provider())
    session, _ = receiver.connect("127.0.0.1", 0)
    receiver.ehlo(session, 0)
    token = receiver.issue_token(ME, f"refresh {ME}", 0)
    other = receiver.issue_token(OTHER, f"refresh {OTHER}", 0)
    assert token is not None
    assert other is not None
    receiver.revoke(ME.upper())
    assert receiver.auth(session, ME, token, 0, token=True).code == 535
    assert receiver.issue_token(ME, f"refresh {ME}", 0) is None
    receiver.accounts[ME].revoked = False
    assert receiver.auth(session, ME, token, 0, token=True).code == 535
    again = receiver.issue_token(ME, f"refresh {ME}", 0)
    assert again is not None
    assert receiver.auth(session, ME, again, 0, token=True).code == 235
    session, _ = receiver.connect("127.0.0.1", 0)
    receiver.ehlo(session, 0)
    assert receiver.auth(session, OTHER, other, 0, token=True).code == 235


def test_a_changed_password_fails_until_the_client_has_it_and_open_sessions_go_on() -> None:
    receiver = receiver_of(provider())
    session = logged_in(receiver)
    receiver.accounts[ME].password = "new"
    assert transaction(receiver, session, 0).code == 250
    assert talk(receiver, "0 a connect", "0 a login", f"0 a login {ME}/new", "0 a send") == ["250", "535", "235", "250"]


def test_switched_off_is_said_before_the_password_is_looked_at() -> None:
    receiver = receiver_of(Provider.load("office365").on(dt.date(2026, 6, 1)))
    receiver.accounts[ME].disabled = True
    session, _ = receiver.connect("127.0.0.1", 0)
    receiver.ehlo(session, 0)
    receiver.starttls(session, 0)
    receiver.ehlo(session, 0)
    reply = receiver.auth(session, ME, "wrong", 0)
    assert (reply.code, reply.enhanced) == (535, "5.7.139")
    receiver.accounts[ME].disabled = False
    assert receiver.auth(session, ME, "password", 0).code == 235


def test_office365_takes_no_passwords_from_the_end_of_2026_on() -> None:
    for date, code in ((dt.date(2026, 12, 30), 235), (dt.date(2026, 12, 31), 550)):
        receiver = receiver_of(Provider.load("office365").on(date))
        session, _ = receiver.connect("127.0.0.1", 0)
        receiver.ehlo(session, 0)
        receiver.starttls(session, 0)
        receiver.ehlo(session, 0)
        reply = receiver.auth(session, ME, "password", 0)
        assert reply.code == code
        if code == 550:
            text = receiver.render(reply, session, 0)
            assert f"{reply.code} {reply.enhanced} {text}" == (
                "550 5.7.30 Basic authentication is not supported for Client Submission."
            )
            token = receiver.issue_token(ME, f"refresh {ME}", 0)
            assert token is not None
            assert receiver.auth(session, ME, token, 0, token=True).code == 235


def test_users_are_the_same_in_any_case() -> None:
    receiver = receiver_of(provider({"id": "q", "limit": "1/h", "window": "sliding"}))
    assert talk(receiver, "0 a connect", f"0 a login {ME.upper()}", "0 a send", "0 b connect", "0 b login", "0 b send")[
        2::3
    ] == ["250", "451 q"]


@pytest.mark.parametrize("facts", [name for name in names() if Provider.load(name).role == "submission"])
def test_mail_needs_a_login(facts: str) -> None:
    receiver = receiver_of(Provider.load(facts).on(dt.date(2026, 6, 1)))
    said = {s.when: s for s in receiver.provider.replies}
    for tls in (False, True):
        session, _ = receiver.connect("127.0.0.1", 0)
        receiver.ehlo(session, 0)
        if tls:
            receiver.starttls(session, 0)
            receiver.ehlo(session, 0)
        reply = receiver.mail(session, ME, 0)
        assert reply.code in (530, 550)
        if "auth_required" in said:  # TLS or not, wherever that text exists
            assert (reply.code, reply.text) == (said["auth_required"].code, said["auth_required"].text)
        elif tls or receiver.provider.tls != "required":
            assert reply.text == f"sendlab: {facts}/auth_required, text not published"
        assert receiver.rcpt(session, "x@there.example", 0).code == 503


@pytest.mark.parametrize(
    "header", [{"role": "delivery", "credential": "ip", "auth": []}, {"credential": "ip", "auth": []}]
)
def test_mail_needs_tls_where_it_is_required(header: dict[str, Any]) -> None:
    receiver = receiver_of(provider(**header, tls="required"))
    assert talk(receiver, "0 a connect", "0 a mail", "0 a tls", "0 a mail", "0 a ehlo", "0 a mail") == [
        *("250", "530", "220", "503", "250", "250"),
    ]


def test_a_login_needs_tls_where_it_is_required() -> None:
    receiver = receiver_of(provider(tls="required"))
    assert talk(receiver, "0 a connect", "0 a login", "0 a tls", "0 a login", "0 a ehlo", "0 a login") == [
        *("250", "530", "220", "503", "250", "235"),
    ]


def test_starttls_forgets_what_was_said_before_it() -> None:
    facts = provider(
        {"id": "c", "count": "connections", "limit": 1, "at": "AUTH"},
        {"id": "t", "count": "transactions", "limit": 1, "at": "MAIL"},
    )
    receiver = receiver_of(facts)
    assert talk(
        receiver,
        *("0 a connect", "0 a login", "0 a mail", "0 a tls", "0 a mail", "0 a ehlo", "0 a mail"),
        *("0 a login", "0 a send", "0 a tls", "0 a send"),
    ) == ["250", "235", "250", "220", "503", "250", "530", "235", "250", "503", "250"]
    assert talk(receiver, "0 b connect", "0 b login") == ["250", "451 c"]


def test_one_logs_in_once_and_not_within_a_transaction() -> None:
    receiver = receiver_of(provider({"id": "t", "count": "transactions", "limit": 1, "at": "MAIL"}))
    assert talk(
        receiver, "0 a connect", "0 a login", f"0 a login {OTHER}", "0 a mail", f"0 a login {OTHER}", "0 a rset"
    ) == ["250", "235", "503", "250", "503", "250"]
    assert talk(receiver, "0 a connect", "0 a login", "0 a send")[-1] == "250"


def test_a_listed_ip_is_refused_at_the_stage_that_the_facts_state() -> None:
    stages = {}
    for name in names():
        said = next((s for s in Provider.load(name).replies if s.when == "blocklisted"), None)
        if said is None:
            continue
        receiver = Receiver(Provider.load(name))
        receiver.blocked.add("127.0.0.1")
        for offers in (True, False):
            session, reply = receiver.connect("127.0.0.1", 0)
            receiver.ehlo(session, 0)
            if reply.code >= 400:
                pass  # the provider has hung up
            elif offers:
                reply = receiver.offer(session, "x@us.example", 1, 0)
                reply = receiver.end_of_data(session, 1000, 0) if reply.code < 400 else reply
            else:
                reply = transaction(receiver, session, 0)
            assert (reply.code, reply.text, reply.stage) == (said.code, said.text, said.at)
        free, _ = receiver.connect("127.0.0.2", 0)
        receiver.ehlo(free, 0)
        assert transaction(receiver, free, 0).code == 250
        receiver.blocked.discard("127.0.0.1")
        session, _ = receiver.connect("127.0.0.1", 0)
        receiver.ehlo(session, 0)
        assert transaction(receiver, session, 0).code == 250
        stages[name] = said.at
    assert {"generic-mx": "RCPT", "google-mx": "EOD", "microsoft-mx": "MAIL"}.items() <= stages.items()
