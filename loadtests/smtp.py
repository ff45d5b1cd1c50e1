"""One SMTP session of a client that measures: sockets, and as few steps as the protocol allows.

`smtplib` takes twice the time for each message (`make bench`), reads replies a byte at a time and knows no PIPELINING.
Sockets are Python's own: under Locust they are gevent's, since Locust patches them. gevent waits for every reply.
"""

import re
import socket
import ssl
from base64 import b64encode
from functools import lru_cache
from typing import Final, NamedTuple

from gevent import Timeout, get_hub

__all__ = ["Lost", "Reply", "Session", "text"]

STAGE_TIMEOUT: Final = 30.0  # seconds of real time that anything but the reply to the text may take
READ: Final = 1  # libev's EV_READ
ENHANCED: Final = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)")
SMTP: Final = re.compile(r"[2-5][0-9]{2}(?:[ -]|$)")
LONGEST_REPLY: Final = 2**16  # bytes


class Reply(NamedTuple):
    r"""What the server said.

    Parameters
    ----------
    code : int
        250 and so on.
    enhanced : str
        The enhanced status code (RFC 3463), if there was one.
    text : str
        The rest, lines joined by ``\n``.
    """

    code: int
    enhanced: str
    text: str

    @classmethod
    def parse(cls, lines: bytes) -> "Reply":
        r"""Read the lines of one reply.

        Examples
        --------
        >>> Reply.parse(b"452-4.5.3 Too many.\r\n452 4.5.3 Go away.\r\n")
        Reply(code=452, enhanced='4.5.3', text='Too many.\nGo away.')
        """
        return _parsed(lines)


@lru_cache(maxsize=256)
def _parsed(lines: bytes) -> Reply:
    decoded = [line.rstrip("\r") for line in lines.decode("utf-8", "replace").rstrip("\r\n").split("\n")]
    if not all(SMTP.match(line) and line[:3] == decoded[0][:3] for line in decoded):
        raise Lost(f"that is no SMTP: {decoded[0][:40]!r}")
    code = int(decoded[0][:3])
    found = ENHANCED.match(decoded[0][4:])
    enhanced = found[1] if found else ""
    said = [line[4:].removeprefix(enhanced).removeprefix(" ") if enhanced else line[4:] for line in decoded]
    return Reply(code, enhanced, "\n".join(said))


class Lost(ConnectionError):  # noqa: N818 # what became of it is lost, too: no mere error
    """The connection ended, or nothing came in time; what the server did meanwhile, nobody knows."""


class Session:
    """A connection to a server, from the banner to QUIT.

    Parameters
    ----------
    host, port : str, int
        Where the server listens; an IP address, since nothing is looked up.
    ip : str, optional
        The address to go out from.
    timeout : float
        Seconds of real time that the reply to the text may take.

    Raises
    ------
    Lost
        By each method, if the connection ends or nothing comes in time.
    """

    def __init__(self, host: str, port: int, ip: str = "", timeout: float = STAGE_TIMEOUT) -> None:
        self.keywords: dict[str, str] = {}
        self.stage = ""  # of the envelope: the first command that is refused, or has no reply
        self.gone = False  # the server has closed, or is about to, though the attempt has its reply
        self._received = b""
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._socket.settimeout(STAGE_TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if ip:
                self._socket.bind((ip, 0))
            self._socket.connect((host, port))
        except OSError as error:
            self._socket.close()
            raise Lost(f"no connection to {host}:{port}: {error}") from error
        self._hub = get_hub()
        self._readable = self._hub.loop.io(self._socket.fileno(), READ)
        late = TimeoutError("timed out")
        self._patience, self._patience_for_text = Timeout(STAGE_TIMEOUT, late), Timeout(timeout, late)

    def banner(self) -> Reply:
        """Wait for the server's first words."""
        return self._answer()

    def ehlo(self, name: str = "sendlab.example") -> Reply:
        """Say who we are, and remember what the server can do."""
        reply = self._ask(f"EHLO {name}\r\n".encode())
        words = [line.partition(" ") for line in reply.text.split("\n")[1:]]
        self.keywords = {keyword.upper(): parameters for keyword, _, parameters in words}
        return reply

    def starttls(self, context: ssl.SSLContext, host: str) -> Reply:
        """Go on in TLS, and say EHLO again (RFC 3207 §4.2)."""
        reply = self._ask(b"STARTTLS\r\n")
        if reply.code != 220:
            return reply
        if self._received:
            raise Lost("the server said more than 220 before the handshake")  # a command injection (CVE-2011-0411)
        try:
            self._socket = context.wrap_socket(self._socket, server_hostname=host)
        except OSError as error:
            raise Lost(f"no TLS: {error}") from error
        return self.ehlo()

    def auth(self, user: str, secret: str, token: bool = False) -> Reply:
        """Log in, by a mechanism that the server offers: a password (PLAIN, LOGIN) or an access token.

        Raises
        ------
        ValueError
            If the server offers none of them.
        """
        offered = self.keywords.get("AUTH", "").upper().split()
        known = ("XOAUTH2", "OAUTHBEARER") if token else ("PLAIN", "LOGIN")
        mechanism = next((one for one in known if one in offered), None)
        if mechanism is None:
            raise ValueError(f"the server must offer {' or '.join(known)}, got {' '.join(offered) or 'no AUTH'}")
        if mechanism == "LOGIN":
            reply = self._ask(b"AUTH LOGIN\r\n", b"334")
            for word, good in ((user, b"334"), (secret, b"2")):
                if reply.code == 334:
                    reply = self._ask(b64encode(word.encode()) + b"\r\n", good)
            return reply
        reply = self._ask(f"AUTH {mechanism} {_initial(mechanism, user, secret)}\r\n".encode(), (b"2", b"334"))
        if reply.code == 334:  # the reason of a refusal, in base64 (RFC 7628 §3.2.3)
            reply = self._ask(b"AQ==\r\n" if mechanism == "OAUTHBEARER" else b"\r\n")
        return reply

    def offer(self, mail_from: str, rcpt_to: tuple[str, ...]) -> tuple[str, Reply]:
        """MAIL, RCPT and DATA: the first refusal with its stage, or the 354; after a refusal, RSET.

        In one go to one recipient, where the server can (RFC 2920). To several, DATA waits for the replies to RCPT:
        after a 354 there would be no way back. Where a reply is awaited, or lost, `stage` is that of the first command
        that got none, however many went with it.
        """
        steps = [("MAIL", f"MAIL FROM:<{mail_from}>\r\n".encode())]
        steps += [("RCPT", f"RCPT TO:<{address}>\r\n".encode()) for address in rcpt_to]
        data = [("DATA", b"DATA\r\n")]
        if "PIPELINING" not in self.keywords:
            goes = [[step] for step in (*steps, *data)]
        else:
            goes = [steps + data] if len(rcpt_to) == 1 else [steps, data]
        refused: tuple[str, Reply] | None = None
        try:
            for go in goes:
                self.stage = go[0][0]
                self._send(b"".join([line for _, line in go]))
                for stage, _ in go:
                    if refused is None:
                        self.stage = stage
                    reply = self._answer(b"354" if stage == "DATA" else b"2")
                    if reply.code >= 400 and refused is None:
                        refused = stage, reply
                    if refused is not None and reply.code == 421:
                        self.gone = True  # nothing comes after it
                        return refused
                if refused is not None:
                    break
            else:
                return "DATA", reply
            if reply.code == 354:
                self._ask(b".\r\n")  # nobody to send it to, and yet it wants a text (RFC 2920 §3.1)
            if refused[0] != "MAIL":  # else no transaction has begun
                self.gone = self.rset().code == 421
        except Lost:
            if refused is None:
                raise
            self.gone = True  # and yet the reply is known
        return refused

    def send(self, message: bytes) -> Reply:
        """Send the text with its dot, and wait for the reply."""
        self._send(message)
        return self._answer(b"2", self._patience_for_text)

    def rset(self) -> Reply:
        """Take the transaction back."""
        return self._ask(b"RSET\r\n")

    def quit(self) -> None:
        """Say goodbye, hear it, and close."""
        try:
            self._ask(b"QUIT\r\n")
        except Lost:
            pass  # the other side was faster
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection without a word."""
        for one in (self._readable, self._patience, self._patience_for_text, self._socket):
            one.close()

    def _ask(self, line: bytes, good: bytes | tuple[bytes, ...] = b"2") -> Reply:
        self._send(line)
        return self._answer(good)

    def _send(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)
            if sent < len(data):
                self._socket.sendall(data[sent:])
        except OSError as error:
            raise Lost(str(error)) from error

    def _answer(self, good: bytes | tuple[bytes, ...] = b"2", patience: Timeout | None = None) -> Reply:
        """Wait for a reply: a refusal, or one whose code begins as a good one does here."""
        received = self._received
        while not (found := _complete(received)):
            if len(received) > LONGEST_REPLY:
                raise Lost("the server's reply doesn't end")
            received += self._more(patience or self._patience)
        self._received = received[found:]
        reply = Reply.parse(received[:found])
        if reply.code < 400 and not received.startswith(good):
            raise Lost(f"that is no answer here: {reply.code} {reply.text[:40]!r}")
        return reply

    def _more(self, patience: Timeout) -> bytes:
        """Wait until something comes, and return it; the other connections get their turn even if it is there already.

        gevent's `recv` looks first: to a server that answers at once, one connection would send everything while the
        replies to the others lie there, and are timed. And each time it waits, it makes a timer, at twice the cost.
        """
        try:
            decrypted = 0
            tls = self._socket if isinstance(self._socket, ssl.SSLSocket) else None
            if tls:
                decrypted = tls.pending()
                tls.settimeout(patience.seconds)  # what comes may be nothing to read yet
            if not decrypted:
                patience.start()
                try:
                    self._hub.wait(self._readable)
                finally:
                    patience.cancel()
            more = self._socket.recv(4096)
            if tls:
                tls.settimeout(STAGE_TIMEOUT)  # what is sent next waits no longer than without TLS
        except OSError as error:
            raise Lost(str(error)) from error
        if not more:
            raise Lost("the server closed the connection")
        return more


def _complete(received: bytes) -> int:
    """Return how long the first reply is; 0 if it isn't complete."""
    start = 0
    while True:
        end = received.find(b"\n", start)
        if end < 0:
            return 0
        if received[start + 3 : start + 4] != b"-":
            return end + 1
        start = end + 1


def _initial(mechanism: str, user: str, secret: str) -> str:
    if mechanism == "PLAIN":
        return b64encode(f"\0{user}\0{secret}".encode()).decode()
    if mechanism == "XOAUTH2":
        return b64encode(f"user={user}\1auth=Bearer {secret}\1\1".encode()).decode()
    return b64encode(f"n,a={user},\1auth=Bearer {secret}\1\1".encode()).decode()  # RFC 7628 §4.1


def text(message_id: str, mail_from: str, rcpt_to: tuple[str, ...], size: int) -> bytes:
    r"""Write a message of `size` bytes as it goes over the wire, dot and all; the dot's line isn't counted.

    Its id stands in two headers, since some relays write a Message-ID of their own.

    Parameters
    ----------
    message_id : str
        Its id; the Message-ID is ``<ID@sendlab.example>``.
    mail_from : str
        Who sends.
    rcpt_to : tuple of str
        Who gets it; the first stands in the To header.
    size : int
        Bytes, headers among them.

    Returns
    -------
    bytes
        As on the wire, the line with the final dot at its end.

    Examples
    --------
    >>> message = text("us-7", "rep01@us.example", ("to@them.example",), 2000)
    >>> len(message), message.endswith(b"\r\n.\r\n")
    (2003, True)
    """
    head = (
        f"From: <{mail_from}>\r\nTo: <{rcpt_to[0]}>\r\nSubject: {message_id}\r\n"
        f"Message-ID: <{message_id}@sendlab.example>\r\nX-Sendlab-ID: {message_id}\r\n\r\n"
    ).encode()
    return head + _filler(size - len(head)) + b".\r\n"


@lru_cache(maxsize=64)
def _filler(size: int) -> bytes:
    """Return so many bytes of text, in lines of 72 characters; none if the header alone is larger."""
    lines, rest = divmod(max(0, size), 72)
    if rest == 1 and lines:
        lines, rest = lines - 1, 73  # no line is shorter than its end
    return (b"x" * 70 + b"\r\n") * lines + (b"x" * (rest - 2) + b"\r\n" if rest > 1 else b"")
