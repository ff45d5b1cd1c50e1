"""The control port: HTTP on loopback, for people (a page), Prometheus, and whoever drives the fakes."""

import asyncio
import ipaddress
import json
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from fake_servers.clock import VirtualClock
from fake_servers.server import Fake
from fake_servers.state import Collector, snapshot
from simlib.faults import Faults
from simlib.receiver import TOKEN_LIFETIME

__all__ = ["Control", "listen"]

log = logging.getLogger("fake_servers")

LONGEST_HEAD: Final = 2**14  # bytes of a request's line and headers
LONGEST_BODY: Final = 2**20  # bytes of a form
CHUNK: Final = 2**16  # bytes of the ledger sent at a time
LONGEST_TOKEN: Final = 10_000  # characters; more than fit in an AUTH line


class Request(NamedTuple):
    """What was asked.

    Parameters
    ----------
    method, path : str
        The request line's, the path without its query.
    form : dict of str to str
        The fields of query and body.
    body : str
        As it came.
    """

    method: str
    path: str
    form: dict[str, str]
    body: str


class Response(NamedTuple):
    """What is answered; a body of None is the ledger."""

    status: int
    kind: str
    body: bytes | None


class RequestError(Exception):
    """A request that can't be served: the status, and one line that says why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def _json(document: object, status: int = 200) -> Response:
    return Response(status, "application/json", json.dumps(document).encode() + b"\n")


class Control:
    """Answers HTTP requests about the fakes.

    Parameters
    ----------
    fakes : sequence of Fake
        What is served; all share one clock and one ledger.
    """

    def __init__(self, fakes: Sequence[Fake]) -> None:
        self.fakes = fakes
        self.ledger = fakes[0].shared.ledger
        self.clock = fakes[0].shared.clock
        self._open: set[asyncio.StreamWriter] = set()
        self._routes: dict[tuple[str, str], Callable[[Request], Response | Awaitable[Response]]] = {
            ("GET", "/"): lambda request: Response(200, "text/html; charset=utf-8", _page()),
            ("GET", "/state"): lambda request: _json(snapshot(self.fakes)),
            ("GET", "/waiting"): self._waiting,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/ledger"): lambda request: Response(200, "application/jsonl", None),
            ("POST", "/token"): self._token,
            ("POST", "/clock"): self._move,
            ("POST", "/blocked"): self._block,
            ("POST", "/reset"): self._reset,
            ("GET", "/faults"): self._faults,
            ("PUT", "/faults"): self._put_faults,
            ("DELETE", "/faults"): self._put_faults,
        }

    # HTTP

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client, as many requests as it sends (RFC 9112)."""
        self._open.add(writer)
        try:
            stays = True
            while stays:
                try:
                    request, stays = await _read(reader)
                    response = await self._answer(request)
                except RequestError as refusal:
                    stays = stays and refusal.status in (404, 405, 409)
                    response = _json({"error": str(refusal)}, refusal.status)
                await self._write(writer, response, stays)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            self._open.discard(writer)
            writer.close()

    def close(self) -> None:
        """Close every connection."""
        for writer in tuple(self._open):
            writer.close()

    async def _answer(self, request: Request) -> Response:
        route = self._routes.get((request.method, request.path))
        if route is None and request.path.startswith("/accounts/"):
            return self._account(request)
        if route is None:
            methods = [method for method, path in self._routes if path == request.path]
            if methods:
                raise RequestError(405, f"{request.path} takes {' or '.join(methods)}, got {request.method}")
            raise RequestError(404, f"no such page: {request.path}")
        try:
            response = route(request)
            return response if isinstance(response, Response) else await response
        except RequestError:
            raise
        except Exception:
            log.exception("%s %s", request.method, request.path)
            raise RequestError(500, "internal error; the log on stderr has it") from None

    async def _write(self, writer: asyncio.StreamWriter, response: Response, stays: bool) -> None:
        size = self.ledger.size() if response.body is None else len(response.body)
        head = (
            f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
            f"Content-Type: {response.kind}\r\nContent-Length: {size}\r\nCache-Control: no-store\r\n"
            f"Connection: {'keep-alive' if stays else 'close'}\r\n\r\n"
        )
        if response.body is not None:
            writer.write(head.encode() + response.body)
            await writer.drain()
            return
        writer.write(head.encode())
        for start in range(0, size, CHUNK):
            writer.write(self.ledger.read(start, min(CHUNK, size - start)))
            await writer.drain()

    # What there is to ask

    def _waiting(self, request: Request) -> Response:
        """How many replies are held, and how many connections are open: for whoever moves the clock step by step."""
        held = sum(fake.waiting for fake in self.fakes)
        return _json({"held": held, "open": sum(len(fake.connections) for fake in self.fakes)})

    def _metrics(self, request: Request) -> Response:
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        return Response(200, CONTENT_TYPE_LATEST, generate_latest(Collector(self.fakes)))

    def _token(self, request: Request) -> Response:
        """OAuth 2's refresh-token grant (RFC 6749 §6); `provider` says whose, `length` how long a token is wanted."""
        form = request.form
        if form.get("grant_type") != "refresh_token":
            kind = "unsupported_grant_type" if form.get("grant_type") else "invalid_request"
            return _json({"error": kind, "error_description": "grant_type must be refresh_token"}, 400)
        refresh_token = form.get("refresh_token", "")
        length = form.get("length", "0")
        if not refresh_token or not (length.isascii() and length.isdigit() and int(length) <= LONGEST_TOKEN):
            rule = f"needs refresh_token; length, if given, is at most {LONGEST_TOKEN}"
            return _json({"error": "invalid_request", "error_description": rule}, 400)
        fakes = [fake for fake in self.fakes if {"XOAUTH2", "OAUTHBEARER"} & set(fake.provider.auth)]
        if "provider" in form:
            fakes = [fake for fake in fakes if fake.provider.name == form["provider"]]
        if len(fakes) != 1:
            names = ", ".join(fake.provider.name for fake in self.fakes)
            rule = f"provider must name one that is served and takes tokens (served: {names})"
            return _json({"error": "invalid_request", "error_description": rule}, 400)
        user = fakes[0].user_of(refresh_token)
        token = fakes[0].issue_token(user, refresh_token, int(length)) if user else None
        if token == "":
            return _json({"error": "temporarily_unavailable", "error_description": "the token endpoint is down"}, 503)
        if token is None:
            return _json({"error": "invalid_grant", "error_description": "unknown or revoked"}, 400)
        return _json({"access_token": token, "token_type": "Bearer", "expires_in": int(TOKEN_LIFETIME)})

    async def _move(self, request: Request) -> Response:
        if not isinstance(self.clock, VirtualClock):
            raise RequestError(409, "this is the wall's clock; only --clock virtual is moved")
        try:
            to = float(request.form.get("seconds", ""))
        except ValueError:
            to = math.nan
        if not math.isfinite(to):
            raise RequestError(400, f"seconds must be a number, got {request.form.get('seconds', '')!r}")
        try:
            await self.clock.advance(to)
        except ValueError as error:
            raise RequestError(409, str(error)) from None
        return _json({"seconds": self.clock.now()})

    def _account(self, request: Request) -> Response:
        user, _, what = request.path.removeprefix("/accounts/").rpartition("/")
        user = unquote(user).lower()
        if what not in ("password", "revoke", "restore", "disable", "enable"):
            raise RequestError(404, f"no such page: {request.path}")
        if request.method != "POST":
            raise RequestError(405, f"/accounts/USER/{what} takes POST, got {request.method}")
        known = [fake for fake in self._served(request.form) if fake.receiver.accounts.get(user) is not None]
        if not known:
            raise RequestError(404, f"no such account: {user}")
        password = request.form.get("password", "")
        if what == "password" and not password:
            raise RequestError(400, "password must not be empty")
        for fake in known:
            account = fake.receiver.accounts[user]
            if what == "password":
                account.password = password
            elif what == "revoke":
                fake.receiver.revoke(user)
            elif what == "restore":
                account.revoked = False
            else:
                account.disabled = what == "disable"
        return _json({"user": user, "providers": [fake.provider.name for fake in known]})

    def _block(self, request: Request) -> Response:
        form = request.form
        blocked = form.get("blocked", "")
        try:
            ip = str(ipaddress.ip_address(form.get("ip", "")))
        except ValueError:
            raise RequestError(400, f"ip must be an IP address, got {form.get('ip', '')!r}") from None
        if blocked not in ("0", "1"):
            raise RequestError(400, f"blocked must be 1 or 0, got {blocked!r}")
        fakes = self._served(form)
        for fake in fakes:
            if blocked == "1":
                fake.receiver.blocked.add(ip)
            else:
                fake.receiver.blocked.discard(ip)
        return _json({"ip": ip, "blocked": blocked == "1", "providers": [fake.provider.name for fake in fakes]})

    def _served(self, form: dict[str, str]) -> list[Fake]:
        """Return the fakes of the field `provider`; all of them without it."""
        fakes = [fake for fake in self.fakes if form.get("provider", fake.provider.name) == fake.provider.name]
        if not fakes:
            names = ", ".join(fake.provider.name for fake in self.fakes)
            raise RequestError(400, f"provider must be one that is served ({names}), got {form['provider']!r}")
        return fakes

    def _reset(self, request: Request) -> Response:
        for fake in self.fakes:
            fake.reset()
        self.clock.reset()
        return _json({"seconds": self.clock.now()})

    def _faults(self, request: Request) -> Response:
        """Tell what goes wrong, how many commands each fault was about, and how many of them it struck."""
        counted: dict[str, list[int]] = {}
        for fake in self.fakes:
            for name, met, struck in fake.receiver.schedule.counts():
                so_far = counted.setdefault(name, [0, 0])
                so_far[0], so_far[1] = so_far[0] + met, so_far[1] + struck
        faults = self.fakes[0].receiver.faults
        found = [
            {**fault, "met": counted.get(fault["name"], [0, 0])[0], "struck": counted.get(fault["name"], [0, 0])[1]}
            for fault in faults.data()
        ]
        return _json({"faults": found})

    def _put_faults(self, request: Request) -> Response:
        """Let other things go wrong from now on; none at all after DELETE."""
        seed = self.fakes[0].receiver.faults.seed
        try:
            faults = Faults.parse(request.body if request.method == "PUT" else "", seed=seed)
            faults = faults.meant_for([fake.provider.name for fake in self.fakes])
        except ValueError as error:
            raise RequestError(400, " ".join(str(error).split())) from None
        for fake in self.fakes:
            fake.receiver.set_faults(faults)
        return self._faults(request)


async def _read(reader: asyncio.StreamReader) -> tuple[Request, bool]:
    """Read a request; and whether the client means to stay."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.LimitOverrunError:
        raise RequestError(413, f"a request's headers may have {LONGEST_HEAD} bytes") from None
    first, *lines = head[:-4].split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise RequestError(400, "not an HTTP/1.1 request")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "transfer-encoding" in headers:
        raise RequestError(411, "a body needs Content-Length")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise RequestError(400, f"Content-Length must be a number, got {length!r}")
    if int(length) > LONGEST_BODY:
        raise RequestError(413, f"a body may have {LONGEST_BODY} bytes, got {length}")
    body = (await reader.readexactly(int(length))).decode("utf-8", "replace")
    target = urlsplit(words[1])
    form = dict(parse_qsl(target.query, keep_blank_values=True)) | dict(parse_qsl(body, keep_blank_values=True))
    connection = headers.get("connection", "").lower()
    stays = connection == "keep-alive" if words[2] == "HTTP/1.0" else connection != "close"
    return Request(words[0], target.path, form, body), stays


@cache
def _page() -> bytes:
    return (files("fake_servers") / "page.html").read_bytes()


async def listen(control: Control, host: str, port: int) -> asyncio.Server:
    """Open the control port.

    Parameters
    ----------
    control : Control
        What answers.
    host, port : str, int
        Where to listen; port 0 picks a free one.

    Returns
    -------
    asyncio.Server
        Serving already.
    """
    return await asyncio.start_server(control.serve, host, port, limit=LONGEST_HEAD)
