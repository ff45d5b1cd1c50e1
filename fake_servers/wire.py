"""What stands on the wire, read and written: replies, paths, parameters, headers, credentials. No I/O here.

A client's text never raises: what can't be read is None.
"""

import binascii
import re
from base64 import b64decode
from email.utils import getaddresses
from typing import Final, NamedTuple

__all__ = ["Credential", "Path", "author", "bearer", "decoded", "message_id", "parameters", "path", "plain", "reply"]

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
IN_BRACKETS: Final = re.compile(r"[^<>,\"()]*<([^<>\s@,]+@[^<>\s@,]+)>\s*")
OURS: Final = "@sendlab.example>"


class Path(NamedTuple):
    """The argument of MAIL FROM or RCPT TO: an address (empty for the null sender) and what follows it."""

    address: str
    parameters: str


class Credential(NamedTuple):
    """What an AUTH exchange says: a user, and a password or token. `acts_as` is whom the user wants to be."""

    user: str
    secret: str
    acts_as: str = ""


def reply(code: int, enhanced: str, text: str) -> bytes:
    r"""Write a reply: code and enhanced code stand on every line (RFC 5321 §4.2.1, RFC 2034 §4).

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
    r"""Return the Message-ID of a header block: ``ID`` of ``<ID@sendlab.example>``, any other as it stands.

    Examples
    --------
    >>> message_id(b"Message-ID: <us-7@sendlab.example>\r\n"), message_id(b"message-id: <7@a.example>\r\n")
    ('us-7', '<7@a.example>')
    """
    found = MESSAGE_ID.search(b"\n" + head)
    value = found[1].decode("utf-8", "replace").strip() if found else ""
    return value[1 : -len(OURS)] if value.endswith(OURS) and value.startswith("<") else value


def decoded(text: str) -> str | None:
    """Decode base64 as AUTH uses it (RFC 4954 §4); ``=`` is the empty response, and what isn't base64 is None."""
    if text == "=":
        return ""
    try:
        return b64decode(text, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None


def plain(response: str) -> Credential | None:
    r"""Read the response of PLAIN (RFC 4616).

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
