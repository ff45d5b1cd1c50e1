"""What stands on the wire, read and written: replies, paths, parameters, headers, credentials, reports. No I/O here.

A client's text never raises: what can't be read is None.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesHeaderParser, HeaderParser
from email.utils import getaddresses
from typing import Any, Final, NamedTuple

__all__ = ["Credential", "Path", "author", "bearer", "decoded", "message_id", "parameters", "path", "plain", "reply"]
__all__ += ["report"]

PATH: Final = re.compile(
    r"""[ ]*<(?:@[^\s<>:]+:)?                                     # a source route is read and ignored (RFC 5321 App. C)
    ((?:[^\s<>@"\\(),:;\[\]\0-\x1f]+|"(?:[^"\\]|\\.)*")           # local part: dot-string or quoted string
    @(?:[^\s<>@\[\]\0-\x1f]+|\[[^\s<>@\[\]]+\])                   # domain or address literal
    |postmaster|)>                                                # "<Postmaster>" and "<>" need no domain
    (?:[ ]+(.*))?""",
    re.VERBOSE | re.IGNORECASE,
)
PARAMETER: Final = re.compile(r"([A-Z0-9][A-Z0-9-]*)(?:=([^\s=\0-\x1f]+))?", re.IGNORECASE)
FROM: Final = re.compile(rb"\nfrom[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)", re.IGNORECASE)
MESSAGE_ID: Final = re.compile(rb"\nmessage-id[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)", re.IGNORECASE)
OWN_ID: Final = re.compile(rb"\nx-sendlab-id[ \t]*:[ \t\r\n]*([^\s<>]+)[ \t]*(?:\r\n|$)", re.IGNORECASE)
IN_BRACKETS: Final = re.compile(r"[^<>,\"()]*<([^<>\s@,]+@[^<>\s@,]+)>\s*")
OURS: Final = "@sendlab.example>"
STATUS: Final = ("message/delivery-status", "message/global-delivery-status")  # RFC 3464 §2.1, RFC 6533 §4
RETURNED: Final = ("message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers")
BLANK: Final = re.compile(r"(?:\r\n[ \t]*){2,}")  # between the fields of one recipient and those of the next
TYPED: Final = re.compile(r"^[A-Za-z0-9-]+ *; *")  # the type before an address or a diagnostic (RFC 3464 §2.1.2)


class Path(NamedTuple):
    """The argument of MAIL FROM or RCPT TO: an address (empty for the null sender) and what follows it.

    Parameters
    ----------
    address : str
        Without its brackets; empty for the null sender.
    parameters : str
        What follows it, as it stands.
    """

    address: str
    parameters: str


class Credential(NamedTuple):
    """What an AUTH exchange says: a user, and a password or token. `acts_as` is whom the user wants to be.

    Parameters
    ----------
    user : str
        Who logs in.
    secret : str
        The password or token.
    acts_as : str, optional
        Whom the user wants to be; empty for the user itself.
    """

    user: str
    secret: str
    acts_as: str = ""


def reply(code: int, enhanced: str, text: str) -> bytes:
    r"""Write a reply: code and enhanced code stand on every line (RFC 5321 §4.2.1, RFC 2034 §4).

    Parameters
    ----------
    code : int
        Three digits.
    enhanced : str
        The enhanced code; empty for none.
    text : str
        One line or several.

    Returns
    -------
    bytes
        As on the wire.

    Examples
    --------
    >>> reply(452, "4.5.3", "Too many.\nGo away.")
    b'452-4.5.3 Too many.\r\n452 4.5.3 Go away.\r\n'
    """
    prefix = f"{enhanced} " if enhanced else ""
    lines = text.split("\n")
    head = "".join(f"{code}-{prefix}{line}\r\n" for line in lines[:-1])
    return f"{head}{code} {prefix}{lines[-1]}\r\n".encode("utf-8", "surrogateescape")


def path(argument: str, keyword: str) -> Path | None:
    """Read ``FROM:<a@b.example> SIZE=7`` or ``TO:<…>`` (RFC 5321 §4.1.2); None if it isn't one.

    Parameters
    ----------
    argument : str
        What follows the verb.
    keyword : str
        ``FROM:`` or ``TO:``.

    Returns
    -------
    Path or None
        None if it can't be read.

    Examples
    --------
    >>> path("FROM:<a@b.example> SIZE=7", "FROM:")
    Path(address='a@b.example', parameters='SIZE=7')
    """
    if argument[: len(keyword)].upper() != keyword:
        return None
    found = PATH.fullmatch(argument, len(keyword))
    return Path(found[1], found[2] or "") if found else None


def parameters(text: str) -> dict[str, str] | None:
    """Read ``SIZE=7 BODY=8BITMIME`` (RFC 5321 §4.1.2); a keyword without a value has an empty one.

    Parameters
    ----------
    text : str
        What follows the address in MAIL or RCPT.

    Returns
    -------
    dict of str to str or None
        By keyword, in capitals; None if it can't be read.

    Examples
    --------
    >>> parameters("size=7 SMTPUTF8")
    {'SIZE': '7', 'SMTPUTF8': ''}
    """
    found: dict[str, str] = {}
    for word in text.split():
        match = PARAMETER.fullmatch(word)
        if match is None or match[1].upper() in found:
            return None
        found[match[1].upper()] = match[2] or ""
    return found


def author(head: bytes) -> str:
    r"""Return the address in the From header of a header block, the first of several; empty if there is none.

    Parameters
    ----------
    head : bytes
        A header block, as on the wire.

    Returns
    -------
    str
        The address without its name.

    Examples
    --------
    >>> author(b'Subject: x\r\nFrom: "Rep, One" <rep01@us.example>\r\n')
    'rep01@us.example'
    """
    found = FROM.search(b"\n" + head)
    if found is None:
        return ""
    value = found[1].decode("utf-8", "replace").strip()
    simple = IN_BRACKETS.fullmatch(value)
    if simple:
        return simple[1]
    return next((address for _, address in getaddresses([value.replace("\r\n", "")]) if "@" in address), "")


def message_id(head: bytes) -> str:
    r"""Return the id of a message from its header block.

    It is ``ID`` where the Message-ID is ``<ID@sendlab.example>``, else that of ``X-Sendlab-ID: ID``, which stays when
    somebody on the way writes a Message-ID of his own, else the Message-ID as it stands.

    Parameters
    ----------
    head : bytes
        A header block, as on the wire.

    Returns
    -------
    str
        Without brackets where it is ours; empty if there is none.

    Examples
    --------
    >>> message_id(b"Message-ID: <us-7@sendlab.example>\r\n"), message_id(b"message-id: <7@a.example>\r\n")
    ('us-7', '<7@a.example>')
    >>> message_id(b"Message-ID: <7@a.example>\r\nX-Sendlab-ID: us-7\r\n")
    'us-7'
    """
    head = b"\n" + head
    found = MESSAGE_ID.search(head)
    value = found[1].decode("utf-8", "replace").strip() if found else ""
    if value.endswith(OURS) and value.startswith("<"):
        return value[1 : -len(OURS)]
    own = OWN_ID.search(head)
    return own[1].decode("utf-8", "replace") if own else value


def report(message: bytes) -> dict[str, Any] | None:
    r"""Read a report on what became of a message (RFC 3464); None if it isn't one, or has no recipient.

    Parameters
    ----------
    message : bytes
        As on the wire, headers and body.

    Returns
    -------
    dict or None
        `message_id` of the message that it is about, empty where the report doesn't return it, and `recipients`, each
        with `recipient`, `action`, `status` and `diagnostic`.

    Examples
    --------
    >>> found = report(
    ...     b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
    ...     b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.example\r\n\r\n"
    ...     b"Final-Recipient: rfc822; to@them.example\r\nAction: failed\r\nStatus: 5.1.1\r\n"
    ...     b"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <us-7@sendlab.example>\r\n--b--\r\n"
    ... )
    >>> found["message_id"], found["recipients"]
    ('us-7', [{'recipient': 'to@them.example', 'action': 'failed', 'status': '5.1.1', 'diagnostic': ''}])
    """
    try:
        return _report(message)
    except Exception:  # the email package meets rubbish with exceptions of many kinds
        return None


def _report(message: bytes) -> dict[str, Any] | None:
    if _header(message).get_content_type() != "multipart/report":
        return None
    recipients: list[dict[str, str]] = []
    about = ""
    for part in _parts(message):
        kind = _header(part).get_content_type()
        if kind in STATUS:
            groups = map(HeaderParser().parsestr, BLANK.split(_content(part).decode("utf-8", "replace").strip()))
            recipients += [_recipient(fields) for fields in groups if "Action" in fields]
        elif kind in RETURNED and not about:
            about = message_id(_content(part).lstrip().partition(b"\r\n\r\n")[0] + b"\r\n")
    return {"message_id": about, "recipients": recipients} if recipients else None


def _header(text: bytes) -> Message:
    """Read the header block; the rest, however deep its parts are nested, stays as it is."""
    return BytesHeaderParser().parsebytes(text)


def _parts(message: bytes) -> Iterator[bytes]:
    """Yield the parts of a multipart entity; the last one also if its end is missing (RFC 2046 §5.1.1)."""
    boundary = _header(message).get_boundary()
    if not boundary:
        return
    mark = re.compile(rb"\r\n--" + re.escape(boundary.encode()) + rb"(--)?[ \t]*(?=\r\n|$)")
    body = b"\r\n" + message.partition(b"\r\n\r\n")[2]
    marks = list(mark.finditer(body))
    ends = [one.start() for one in marks[1:]] + [len(body)]
    for one, end in zip(marks, ends, strict=True):
        if one[1]:
            return
        yield body[one.end() + 2 : end] + b"\r\n"


def _content(part: bytes) -> bytes:
    """Return what a part holds, its transfer encoding undone."""
    content = _header(part).get_payload(decode=True)
    return content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") if isinstance(content, bytes) else b""


def _recipient(fields: Message) -> dict[str, str]:
    def value(name: str) -> str:
        return " ".join(str(fields.get(name, "")).split())

    address = value("Final-Recipient") or value("Original-Recipient")
    return {
        "recipient": TYPED.sub("", address),
        "action": value("Action").lower(),
        "status": value("Status").partition(" ")[0],
        "diagnostic": TYPED.sub("", value("Diagnostic-Code")),
    }


def decoded(text: str) -> str | None:
    """Decode base64 as AUTH uses it (RFC 4954 §4); ``=`` is the empty response, and what isn't base64 is None.

    Parameters
    ----------
    text : str
        A line of an AUTH exchange.

    Returns
    -------
    str or None
        None if it isn't base64 of UTF-8.

    Examples
    --------
    >>> decoded("cmVwMDE="), decoded("="), decoded("?")
    ('rep01', '', None)
    """
    if text == "=":
        return ""
    try:
        return b64decode(text, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None


def plain(response: str) -> Credential | None:
    r"""Read the response of PLAIN (RFC 4616).

    Parameters
    ----------
    response : str
        What the client sent, decoded.

    Returns
    -------
    Credential or None
        None if it can't be read.

    Examples
    --------
    >>> plain("\0rep01@us.example\0password").user
    'rep01@us.example'
    """
    parts = response.split("\0")
    return Credential(parts[1], parts[2], parts[0]) if len(parts) == 3 and parts[1] else None


def bearer(response: str) -> Credential | None:
    r"""Read the response of XOAUTH2 (Google's protocol page) or OAUTHBEARER (RFC 7628 §3.1).

    The user is empty if an OAUTHBEARER client leaves it out: then the token alone says who it is.

    Parameters
    ----------
    response : str
        What the client sent, decoded.

    Returns
    -------
    Credential or None
        None if it can't be read.

    Examples
    --------
    >>> bearer("user=rep01@us.example\1auth=Bearer t0k3n\1\1") == bearer("n,a=rep01@us.example,\1auth=Bearer t0k3n\1\1")
    True
    """
    if not response.endswith("\1\1"):
        return None
    head, *fields = response[:-2].split("\1")
    gs2 = head.split(",")
    if head.startswith("user="):
        user = head[5:]
    elif len(gs2) == 3 and gs2[0] in ("n", "y") and not gs2[2] and (not gs2[1] or gs2[1].startswith("a=")):
        user = gs2[1][2:].replace("=2C", ",").replace("=3D", "=")
    else:
        return None
    token = next((field[5:] for field in fields if field.startswith("auth=")), "")
    scheme, _, secret = token.partition(" ")
    return Credential(user, secret.strip()) if scheme.lower() == "bearer" and secret.strip() else None
