"""A server that says exactly what it is told to, in a thread, and remembers what it heard."""

import socket
import socketserver
import ssl
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

GREETING = {
    "CONNECT": b"220 scripted.example\r\n",
    "EHLO": b"250-scripted.example\r\n250 8BITMIME\r\n",
    "MAIL": b"250 2.1.0 Ok\r\n",
    "RCPT": b"250 2.1.5 Ok\r\n",
    "DATA": b"354 Go on\r\n",
    "EOD": b"250 2.0.0 Ok\r\n",
    "RSET": b"250 2.0.0 Ok\r\n",
    "QUIT": b"221 2.0.0 Bye\r\n",
}
PIPELINING = b"250-scripted.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
CLOSE = b""  # an answer: the server says nothing and closes


class Conversation:
    """The server's side of one connection."""

    def __init__(self, connection: socket.socket, ip: str, number: int) -> None:
        self.socket = connection
        self.ip = ip
        self.number = number
        self.lines: list[str] = []
        self.texts: list[bytes] = []
        self._received = connection.makefile("rb")

    def say(self, *pieces: bytes) -> None:
        """Send bytes, each piece in a packet of its own."""
        for piece in pieces:
            self.socket.sendall(piece)

    def hear(self) -> str | None:
        """Return the next line, and remember it; None: there is none any more."""
        line = self._received.readline().decode(errors="replace")
        if not line:
            return None
        self.lines.append(line.rstrip("\r\n"))
        return self.lines[-1]

    def hear_text(self) -> bytes:
        """Return a message up to its dot."""
        text = b""
        while not (text.endswith(b"\r\n.\r\n") or text == b".\r\n"):
            line = self._received.readline()
            if not line:
                break
            text += line
        self.texts.append(text)
        return text

    def starttls(self, context: ssl.SSLContext) -> None:
        """Agree to TLS, and go on in it."""
        self.hear()
        self.say(b"220 2.0.0 Go ahead\r\n")
        self._received.close()
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self._received = self.socket.makefile("rb")

    def hang_up(self) -> None:
        """Close as a server does whose last words are to be read."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
            while self._received.read(4096):
                pass
        with suppress(OSError):
            self._received.close()
        self.socket.close()


Script = Callable[[Conversation], None]


class Scripted(NamedTuple):
    """A server that runs.

    Parameters
    ----------
    port : int
        Where, on 127.0.0.1.
    conversations : list of Conversation
        What was said, in the order in which connections came.
    """

    port: int
    conversations: list[Conversation]

    @property
    def verbs(self) -> list[str]:
        """What the first client said, without arguments."""
        return [line.partition(" ")[0] for line in self.conversations[0].lines]


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def scripted(script: Script) -> Iterator[Scripted]:
    """Run a server whose every connection follows a script."""
    conversations: list[Conversation] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one = Conversation(self.request, self.client_address[0], len(conversations) + 1)
            conversations.append(one)
            try:
                with suppress(OSError):
                    script(one)
            finally:
                one.hang_up()

    with _Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Scripted(server.server_address[1], conversations)
        finally:
            server.shutdown()
            thread.join()


def answering(**answers: bytes | list[bytes]) -> Script:
    """Write a script: what is answered to each verb; of several, one after the other, and the last one repeats.

    ``EOD`` is the reply after the text, ``RESPONSE`` the one to a line that is no command. The server closes after a
    421, and after an answer that isn't a whole line.
    """
    every: dict[str, bytes | list[bytes]] = {**GREETING, **answers}
    told: dict[str, int] = {}  # on all connections
    lock = threading.Lock()

    def script(one: Conversation) -> None:
        def tell(verb: str) -> bytes:
            answer = every.get(verb, b"500 5.5.2 What?\r\n")
            if isinstance(answer, list):
                with lock:
                    number = told[verb] = told.get(verb, -1) + 1
                answer = answer[min(number, len(answer) - 1)]
            one.say(answer)
            return answer

        last = tell("CONNECT")
        while last.endswith(b"\n") and not last.startswith((b"421", b"221")):
            line = one.hear()
            if line is None:
                return
            verb = line[:4].upper()
            last = tell(verb if verb in every else "RESPONSE")
            if verb == "DATA" and last.startswith(b"354"):
                one.hear_text()
                last = tell("EOD")

    return script


def decoded(text: str) -> str:
    """Read base64."""
    return b64decode(text).decode()
