"""What a target of one's own offers, asked once before any mail goes there: TLS, and somebody to log in as.

Whoever tests a relay may have it ask for a password, as a provider does, or trust this machine's address, as a relay
inside a company does. Both are right, so the load does what the target offers, and says so.
"""

import smtplib
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from simlib.safety import Target

__all__ = ["Offer", "ask", "greet"]

PATIENCE: Final = 30.0  # seconds of real time that a reply may take
MECHANISMS: Final = ("PLAIN", "LOGIN")  # those of `loadtests.smtp` for a password
US: Final = "sendlab.example"


@dataclass(frozen=True, slots=True)
class Offer:
    """What a target's sessions use.

    Parameters
    ----------
    tls : bool
        Whether they go on in TLS; its certificate has then been verified.
    auth : bool
        Whether senders log in with a password.
    notes : tuple of str
        A sentence on each thing that a provider would want and this target doesn't.
    """

    tls: bool
    auth: bool
    notes: tuple[str, ...] = ()


def ask(target: Target, ca: Path | None = None) -> Offer:
    """Say EHLO to a target, and again in TLS where it offers that; nothing secret is said.

    Parameters
    ----------
    target : Target
        Where; `safety.checked` has seen it.
    ca : Path, optional
        A file with the certificates to trust (PEM); the system's by default.

    Returns
    -------
    Offer
        What it can do.

    Raises
    ------
    ValueError
        If nobody answers there in SMTP, or a password would have to be sent unprotected: in TLS that can't be verified,
        or without TLS to another machine.
    """
    where = _spelled(target)
    try:
        verifying = ssl.create_default_context(cafile=ca)
    except OSError:  # `ssl.SSLError` is one
        raise ValueError(f"ca must be a file with certificates (PEM), got {str(ca)!r}") from None
    here = ip_address(target.address).is_loopback
    unverified = ""
    try:
        offered = _offered(target, verifying)
    except ssl.SSLCertVerificationError as error:
        unverified = error.verify_message
        offered = _offered(target)
        if _logs_in(_offered(target, _believing())) and not (here and _logs_in(offered)):
            raise ValueError(
                f"target {where}: its certificate can't be verified ({unverified}), and a password is sent to nobody "
                "unknown: name its authority with --ca FILE, and the target as the certificate does"
            ) from None
    tls = "starttls" in offered and not unverified
    auth = _logs_in(offered)
    if auth and not tls and not here:
        raise ValueError(
            f"target {where} asks for passwords without TLS, and none leaves this machine in the clear: "
            "let it offer STARTTLS, or no AUTH"
        )
    notes = []
    if not auth:
        notes.append(f"{where} offers no AUTH by {' or '.join(MECHANISMS)}: nobody logged in.")
    if unverified:
        notes.append(
            f"The certificate of {target.name} can't be verified ({unverified}): no TLS. --ca FILE names its authority."
        )
    elif not tls:
        notes.append(f"{where} offers no STARTTLS: no TLS.")
    return Offer(tls, auth, tuple(notes))


def greet(target: Target) -> None:
    """Say EHLO to a target, to see that somebody is there.

    Parameters
    ----------
    target : Target
        Where; `safety.checked` has seen it.

    Raises
    ------
    ValueError
        If nobody answers there in SMTP.
    """
    _offered(target)


def _spelled(target: Target) -> str:
    return f"[{target.name}]:{target.port}" if ":" in target.name else f"{target.name}:{target.port}"


def _logs_in(offered: dict[str, str]) -> bool:
    return any(mechanism in MECHANISMS for mechanism in offered.get("auth", "").upper().split())


def _offered(target: Target, context: ssl.SSLContext | None = None) -> dict[str, str]:
    """Return what EHLO offers, with a context in TLS if there is any; ``starttls`` stays among it."""
    try:
        with smtplib.SMTP(target.address, target.port, US, PATIENCE) as session:
            _expect(250, session.ehlo())
            if context is None or not session.has_extn("starttls"):
                return dict(session.esmtp_features)
            _expect(220, session.docmd("STARTTLS"))
            # `session.starttls` would verify the address, which was looked up, instead of the name that was given
            assert session.sock is not None
            session.sock = context.wrap_socket(session.sock, server_hostname=target.name)
            session.file = None
            _expect(250, session.ehlo())
            return {**session.esmtp_features, "starttls": ""}
    except ssl.SSLCertVerificationError:
        raise
    except smtplib.SMTPResponseException as error:
        said = f"it says {error.smtp_code} {_text(error.smtp_error)!r}"
    except (OSError, smtplib.SMTPException) as error:
        said = getattr(error, "strerror", None) or str(error)
    raise ValueError(f"target {_spelled(target)} doesn't answer as an SMTP server does: {said}")


def _expect(code: int, reply: tuple[int, bytes]) -> None:
    if reply[0] != code:
        raise smtplib.SMTPResponseException(*reply)


def _text(said: bytes | str) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said


def _believing() -> ssl.SSLContext:
    """Return a context that takes any certificate: enough to see what is offered, too little for a password."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
