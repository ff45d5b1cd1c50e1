"""`simlib.target`: what a server of one's own offers, and to whom no password is sent."""

from pathlib import Path

import pytest
from loads import serving
from scripted import CLOSE, answering, scripted

from simlib import target
from simlib.port import held_port
from simlib.safety import Target
from simlib.target import Offer, ask

AUTH = b"250-scripted.example\r\n250 AUTH LOGIN PLAIN\r\n"


def here(port: int, name: str = "127.0.0.1") -> Target:
    return Target(name, "127.0.0.1", port)


def test_a_relay_that_trusts_this_machine_is_sent_to_as_it_is() -> None:
    with scripted(answering()) as server:
        offer = ask(here(server.port, "localhost"))
        assert server.verbs == ["ehlo", "QUIT"]
    assert (offer.tls, offer.auth) == (False, False)
    assert offer.notes == (
        f"localhost:{server.port} offers no AUTH by PLAIN or LOGIN: nobody logged in.",
        f"localhost:{server.port} offers no STARTTLS: no TLS.",
    )


def test_on_this_machine_a_password_needs_no_tls() -> None:
    with scripted(answering(EHLO=AUTH)) as server:
        offer = ask(here(server.port))
        assert server.verbs == ["ehlo", "QUIT"]  # nobody logs in just to see
    assert (offer.tls, offer.auth) == (False, True)


def test_a_mechanism_that_takes_no_password_is_none() -> None:
    with scripted(answering(EHLO=b"250-x\r\n250 AUTH GSSAPI XOAUTH2\r\n")) as server:
        assert not ask(here(server.port)).auth


def test_no_password_leaves_this_machine_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "_offered", lambda *_: {"auth": "PLAIN"})
    with pytest.raises(ValueError, match=r"target mx\.example:25 asks for passwords without TLS, and none leaves"):
        ask(Target("mx.example", "192.0.2.1", 25))
    assert ask(Target("mx.example", "127.0.0.1", 25)).auth


def test_a_certificate_is_verified_before_a_password_is_sent(tmp_path: Path) -> None:
    """AUTH is offered in TLS only, as at Office 365: who can't verify it has to be told by whom it is."""
    ca = tmp_path / "ca.pem"
    with serving("office365", "--ca", ca) as server:
        assert ask(here(server.port), ca) == Offer(tls=True, auth=True)
        with pytest.raises(ValueError, match=r"can't be verified \(.*\), and a password .* with --ca FILE"):
            ask(here(server.port))
        with pytest.raises(ValueError, match="can't be verified"):
            ask(here(server.port, "mail.example"), ca)  # another name than the certificate's


def test_who_offers_a_password_without_tls_too_gets_it_on_this_machine(tmp_path: Path) -> None:
    with serving("own-postfix", "--ca", tmp_path / "ca.pem") as server:
        offer = ask(here(server.port))
    assert (offer.tls, offer.auth) == (False, True)
    assert "can't be verified" in offer.notes[0]


def test_without_a_password_a_certificate_that_nobody_knows_is_no_obstacle(tmp_path: Path) -> None:
    """Debian's Postfix as it is installed: STARTTLS by a certificate that it signed itself, and no AUTH."""
    with serving("generic-mx", "--ca", tmp_path / "ca.pem") as server:
        offer = ask(here(server.port))
    assert (offer.tls, offer.auth) == (False, False)
    assert ["nobody logged in" in offer.notes[0], "can't be verified" in offer.notes[1]] == [True, True]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"CONNECT": b"554 5.7.1 Go away\r\n"}, "it says 554 '5.7.1 Go away'"),
        ({"CONNECT": CLOSE}, "Connection unexpectedly closed"),
        ({"EHLO": b"502 5.5.1 What?\r\n"}, "it says 502 '5.5.1 What?'"),
        ({"EHLO": b"250-x\r\n250 STARTTLS\r\n", "STAR": b"454 4.7.0 Not now\r\n"}, "it says 454 '4.7.0 Not now'"),
    ],
)
def test_who_does_not_speak_smtp_is_no_target(said: dict[str, bytes], why: str) -> None:
    with scripted(answering(**said)) as server, pytest.raises(ValueError, match="doesn't answer as") as error:
        ask(here(server.port))
    assert str(error.value) == f"target 127.0.0.1:{server.port} doesn't answer as an SMTP server does: {why}"


def test_nobody_there_is_said_before_any_mail() -> None:
    said = "doesn't answer as an SMTP server does: Connection refused"
    with held_port() as port, pytest.raises(ValueError, match=said):
        ask(here(port))


@pytest.mark.parametrize("text", [None, "no certificate", ""])
def test_a_file_without_certificates_is_no_authority(tmp_path: Path, text: str | None) -> None:
    ca = tmp_path / "ca.pem"
    if text is not None:
        ca.write_text(text)
    with pytest.raises(ValueError, match=r"ca must be a file with certificates \(PEM\), got '.*ca\.pem'"):
        ask(here(1), ca)


def test_starttls_without_tls_behind_it_is_no_smtp() -> None:
    with scripted(answering(EHLO=b"250-x\r\n250 STARTTLS\r\n", STAR=b"220 2.0.0 Ready\r\n")) as server:
        with pytest.raises(ValueError, match=f"target 127.0.0.1:{server.port} doesn't answer as an SMTP server does: "):
            ask(here(server.port))
        assert len(server.conversations) == 1
