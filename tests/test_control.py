"""The control port: tokens, clock, accounts, metrics, ledger and the page's numbers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest
from fakes import START, Client, Running, bearer, conversation, encoded, running
from prometheus_client.parser import text_string_to_metric_families

from fake_servers.clock import WallClock
from fake_servers.control import Control, listen
from fake_servers.state import used
from simlib.provider import Provider
from simlib.windows import FixedWindow, InUse, SlidingWindow, TokenBucket, Window

REP = "rep01@us.example"


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Controlled(NamedTuple):
    """A fake with its control port, and one connection to that."""

    server: Running
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, method: str, path: str, **form: object) -> Response:
        body = urlencode(form).encode()
        return await self.raw(f"{method} {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    async def raw(self, request: bytes) -> Response:
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head[:-4].split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return Response(int(first.split()[1]), headers, body)


@asynccontextmanager
async def controlled(provider: Provider | str, **options: Any) -> AsyncIterator[Controlled]:
    async with running(provider, **options) as server:
        control = Control([server.fake])
        port = await listen(control, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*port.sockets[0].getsockname())
        try:
            yield Controlled(server, reader, writer)
        finally:
            port.close()
            control.close()
            writer.close()
            await writer.wait_closed()


async def token_login(server: Running, token: str) -> int:
    client = await server.connect()
    await client.hello(tls=True)
    return (await client.ask(f"AUTH XOAUTH2 {bearer(REP, token)}")).code


async def password_login(server: Running, password: str) -> int:
    client: Client = await server.connect()
    await client.hello(tls=True)
    await client.ask(f"AUTH LOGIN {encoded(REP)}")
    return (await client.ask(encoded(password))).code


# Tokens


@conversation
async def test_a_token_comes_from_the_refresh_token_grant() -> None:
    async with controlled("office365") as one:
        granted = await one.ask("POST", "/token", grant_type="refresh_token", refresh_token=REP, client_id="any")
        assert granted.status == 200
        assert granted.json | {"access_token": ""} == {"access_token": "", "token_type": "Bearer", "expires_in": 3600}
        assert granted.headers["cache-control"] == "no-store"
        assert await token_login(one.server, granted.json["access_token"]) == 235
        long = await one.ask("POST", "/token", grant_type="refresh_token", refresh_token=REP, length=3_000)
        assert len(long.json["access_token"]) == 3_000
        assert await token_login(one.server, long.json["access_token"]) == 235
        assert await token_login(one.server, long.json["access_token"][:-1]) == 535


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password", "refresh_token": REP}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "nobody@example.jp"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": REP, "length": "-1"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": REP, "provider": "gmail"}, "invalid_request"),
    ],
)
@conversation
async def test_a_bad_grant_is_refused_as_rfc_6749_says(form: dict[str, str], error: str) -> None:
    async with controlled("office365") as one:
        refused = await one.ask("POST", "/token", **form)
        assert (refused.status, refused.json["error"]) == (400, error)


@conversation
async def test_a_revoked_account_gets_no_token_and_its_old_ones_fail() -> None:
    async with controlled("office365") as one:
        token = (await one.ask("POST", "/token", grant_type="refresh_token", refresh_token=REP)).json["access_token"]
        revoked = await one.ask("POST", f"/accounts/{quote(REP)}/revoke")
        assert revoked.json == {"user": REP, "providers": ["office365"]}
        assert await token_login(one.server, token) == 535
        refused = await one.ask("POST", "/token", grant_type="refresh_token", refresh_token=REP)
        assert refused.json["error"] == "invalid_grant"


@conversation
async def test_a_grant_that_is_given_again_brings_new_tokens_and_the_old_ones_still_fail() -> None:
    async with controlled("office365") as one:
        form = {"grant_type": "refresh_token", "refresh_token": REP}
        old = (await one.ask("POST", "/token", **form)).json["access_token"]
        await one.ask("POST", f"/accounts/{quote(REP)}/revoke")
        assert (await one.ask("POST", f"/accounts/{quote(REP)}/restore")).status == 200
        new = (await one.ask("POST", "/token", **form)).json["access_token"]
        assert [await token_login(one.server, token) for token in (old, new)] == [535, 235]


# Accounts


@conversation
async def test_smtp_auth_is_switched_off_and_on_for_one_account() -> None:
    async with controlled("office365") as one:
        codes = []
        for what in ("disable", "enable"):
            answer = await one.ask("POST", f"/accounts/{quote(REP)}/{what}")
            assert answer.json == {"user": REP, "providers": ["office365"]}
            client = await one.server.connect()
            await client.hello(tls=True)
            await client.ask(f"AUTH LOGIN {encoded(REP)}")
            codes.append(str(await client.ask(encoded("password")))[:9])
        assert codes == ["535 5.7.1", "235 2.7.0"]
        assert await password_login(one.server, "wrong") == 535


@conversation
async def test_an_ip_is_blocked_and_let_in_again_and_nobody_else_notices() -> None:
    async with controlled("microsoft-mx") as one:
        seen = []
        for blocked in (1, 0):
            answer = await one.ask("POST", "/blocked", ip="127.0.1.7", blocked=blocked, provider="microsoft-mx")
            assert answer.json == {"ip": "127.0.1.7", "blocked": bool(blocked), "providers": ["microsoft-mx"]}
            for ip in ("127.0.1.7", "127.0.0.1"):
                client = await one.server.connect(ip)
                await client.hello()
                seen.append((await client.message(REP)).code)
        assert seen == [550, 250, 250, 250]
        await one.ask("POST", "/blocked", ip="127.0.1.7", blocked=1)
        await one.ask("POST", "/reset")
        client = await one.server.connect("127.0.1.7")
        await client.hello()
        assert (await client.message(REP)).code == 250


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"blocked": "1"}, "ip must be an IP address, got ''"),
        ({"ip": "127.1", "blocked": "1"}, "ip must be an IP address, got '127.1'"),
        ({"ip": "127.0.0.1"}, "blocked must be 1 or 0, got ''"),
        ({"ip": "127.0.0.1", "blocked": "yes"}, "blocked must be 1 or 0, got 'yes'"),
        (
            {"ip": "127.0.0.1", "blocked": "1", "provider": "gmail"},
            "provider must be one that is served (office365), got 'gmail'",
        ),
    ],
)
@conversation
async def test_a_block_that_can_not_be_says_why(form: dict[str, str], error: str) -> None:
    async with controlled("office365") as one:
        refused = await one.ask("POST", "/blocked", **form)
        assert (refused.status, refused.json) == (400, {"error": error})


@conversation
async def test_a_password_is_changed() -> None:
    async with controlled("office365") as one:
        assert (await one.ask("POST", f"/accounts/{quote(REP.upper())}/password", password="new")).status == 200
        assert await password_login(one.server, "password") == 535
        assert await password_login(one.server, "new") == 235


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", f"/accounts/{REP}/password", 400),
        ("GET", f"/accounts/{REP}/password", 405),
        ("POST", "/accounts/me@example.jp/revoke", 404),
        ("POST", f"/accounts/{REP}/delete", 404),
        ("GET", f"/accounts/{REP}/disable", 405),
        ("POST", "/accounts/me@example.jp/enable", 404),
        ("POST", f"/accounts/{REP}/restore?provider=gmail", 400),
        ("GET", "/blocked", 405),
        ("GET", "/nothing", 404),
        ("GET", "/reset", 405),
    ],
)
@conversation
async def test_what_can_not_be_done_says_why(method: str, path: str, status: int) -> None:
    async with controlled("office365") as one:
        refused = await one.ask(method, path)
        assert refused.status == status
        assert refused.json["error"]
        if status != 400:
            assert (await one.ask("GET", "/state")).status == 200


LOST = '[[faults]]\nkind = "lose_reply"\nname = "lost"\nodds = "50%"\n'


async def put(one: Controlled, text: str) -> Response:
    return await one.raw(f"PUT /faults HTTP/1.1\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())


@conversation
async def test_faults_are_put_counted_and_taken_away() -> None:
    async with controlled("generic-mx") as one:
        lost = {"kind": "lose_reply", "name": "lost", "odds": 0.5}
        assert (await put(one, LOST)).json == {"faults": [{**lost, "met": 0, "struck": 0}]}
        for _ in range(10):
            client = await one.server.connect()
            await client.hello()
            with suppress(asyncio.IncompleteReadError):
                await client.message(REP)
        assert (await one.ask("GET", "/faults")).json == {"faults": [{**lost, "met": 10, "struck": 5}]}
        assert (
            b'sendlab_faults_total{fault="lost",provider="generic-mx"} 5.0' in (await one.ask("GET", "/metrics")).body
        )
        assert [entry.get("fault") for entry in one.server.entries].count("lost") == 5
        assert (await put(one, json.dumps({"faults": [lost]}))).json["faults"][0]["met"] == 0
        assert (await one.ask("DELETE", "/faults")).json == {"faults": []}
        assert not one.server.fake.receiver.faults


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "faults: not valid TOML"),
        (LOST.replace("50%", "500%"), "faults: faults[lost].odds: must be from 0 % to 100 %, got 500 %"),
        (LOST + 'provider = "gmail"', "unknown provider 'gmail' (there are: generic-mx)"),
    ],
)
@conversation
async def test_faults_that_can_not_be_leave_those_that_are(text: str, words: str) -> None:
    async with controlled("generic-mx") as one:
        await put(one, LOST)
        refused = await put(one, text)
        assert refused.status == 400
        assert words in refused.json["error"]
        assert "\n" not in refused.json["error"]
        assert one.server.fake.receiver.faults.names == ("lost",)


@conversation
async def test_a_token_endpoint_that_is_down_is_no_revoked_grant() -> None:
    async with controlled("gmail") as one:
        await put(one, '[[faults]]\nkind = "token_outage"\nuntil = "60s"')
        grant = {"grant_type": "refresh_token", "refresh_token": REP}
        down = await one.ask("POST", "/token", **grant)
        assert (down.status, down.json["error"]) == (503, "temporarily_unavailable")
        await one.ask("POST", "/clock", seconds="60")
        assert (await one.ask("POST", "/token", **grant)).status == 200


# The clock


@conversation
async def test_moving_the_clock_lets_a_held_reply_go() -> None:
    provider = Provider.load("office365").on(START.date()).set({"messages-per-minute": "1/min"})
    async with controlled(provider) as one:
        client = await one.server.log_in()
        await client.message(REP)
        await client.envelope(REP)
        client.send("Subject: x\r\n\r\nhello\r\n.\r\n")
        await one.server.until_waiting(1)
        assert (await one.ask("POST", "/clock", seconds="59.5")).json == {"seconds": 59.5}
        assert one.server.fake.waiting == 1
        assert (await one.ask("POST", "/clock", seconds="60")).json == {"seconds": 60.0}
        assert (await client.answer()).code == 250


@pytest.mark.parametrize(("seconds", "status"), [("", 400), ("soon", 400), ("nan", 400), ("inf", 400), ("9.9", 409)])
@conversation
async def test_a_clock_is_moved_forward_to_a_number(seconds: str, status: int) -> None:
    async with controlled("office365") as one:
        await one.ask("POST", "/clock", seconds="10")
        refused = await one.ask("POST", "/clock", seconds=seconds)
        assert refused.status == status
        assert refused.json["error"].startswith("seconds must")


@conversation
async def test_the_wall_s_clock_is_not_moved() -> None:
    async with controlled("office365", clock=WallClock()) as one:
        assert (await one.ask("POST", "/clock", seconds="10")).status == 409


@conversation
async def test_reset_makes_this_second_0_and_keeps_the_ledger() -> None:
    async with controlled(Provider.load("ses").set({"recipients-per-day": "1/d"})) as one:
        client = await one.server.log_in()
        await one.ask("POST", "/clock", seconds="5")
        assert [(await client.message(REP)).code for _ in range(2)] == [250, 454]
        await one.ask("POST", f"/accounts/{REP}/password", password="new")
        assert (await one.ask("POST", "/reset")).json == {"seconds": 0.0}
        again = await one.server.log_in()
        assert (await again.message(REP)).code == 250
        assert [(entry["time"], entry["session"]) for entry in one.server.entries] == [(5.0, 1), (5.0, 1), (0.0, 1)]


# Numbers


@conversation
async def test_metrics_and_ledger_tell_the_same_story() -> None:
    provider = (
        Provider.load("office365").on(START.date()).set({"messages-per-minute": "2/min", "recipients-per-day": "3/d"})
    )
    async with controlled(provider) as one:
        client = await one.server.log_in()
        for number in range(4):
            await client.envelope(REP)
            client.send("Subject: x\r\n\r\nhello\r\n.\r\n")
            if number == 2:
                await one.server.until_waiting(1)
                await one.ask("POST", "/clock", seconds="60")
            await client.answer()
        assert await password_login(one.server, "wrong") == 535
        families = text_string_to_metric_families((await one.ask("GET", "/metrics")).body.decode())
        found = {(s.name, s.labels.get("limit")): s.value for family in families for s in family.samples if s.value}
        assert found == {
            ("sendlab_accepted_total", None): 3.0,
            ("sendlab_held_total", "office365/messages-per-minute"): 1.0,
            ("sendlab_refused_total", "office365/recipients-per-day"): 1.0,
            ("sendlab_refused_total", ""): 1.0,
            ("sendlab_connections_total", None): 2.0,
            ("sendlab_auth_failures_total", None): 1.0,
            ("sendlab_open_connections", None): 2.0,
        }
        ledger = await one.ask("GET", "/ledger")
        assert ledger.headers["content-type"] == "application/jsonl"
        assert [json.loads(line)["code"] for line in ledger.body.splitlines()] == [250, 250, 250, 554, 535]


@conversation
async def test_the_state_says_how_full_each_window_is() -> None:
    provider = Provider.load("office365").on(START.date()).set({"recipients-per-day": "4/d"})
    async with controlled(provider) as one:
        client = await one.server.log_in()
        assert [(await client.message(REP, "a@b.example", "c@b.example")).code for _ in range(3)] == [250, 250, 554]
        (found,) = (await one.ask("GET", "/state")).json["providers"]
        windows = {limit["id"]: limit["windows"] for limit in found["limits"]}
        assert windows["recipients-per-day"] == [{"key": REP, "used": 4, "limit": 4, "wait": 86_400.0, "barred": False}]
        assert windows["messages-per-minute"] == [{"key": REP, "used": 2, "limit": 30, "wait": 0.0, "barred": False}]
        (refusal,) = (await one.ask("GET", "/state")).json["refusals"]
        assert (refusal["stage"], refusal["code"], refusal["limit"]) == ("EOD", 554, "office365/recipients-per-day")


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (lambda: SlidingWindow(10, 60), (3, 10, 0.0)),
        (lambda: FixedWindow(10, 60, 0), (3, 10, 0.0)),
        (lambda: TokenBucket(60, 60, 4), (2.0, 4, 0.0)),
        (lambda: InUse(3), (3, 3, float("inf"))),
    ],
)
def test_how_full_a_window_is(window: Callable[[], Window], expected: tuple[float, float, float]) -> None:
    one = window()
    one.take(3, 10)
    assert used(one, 11) == expected


# HTTP


@conversation
async def test_the_page_needs_nothing_from_elsewhere() -> None:
    async with controlled("office365") as one:
        page = await one.ask("GET", "/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert b"http://" not in page.body.replace(b"http://www.w3.org/", b"")
        assert b"https://" not in page.body


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"rubbish\r\n\r\n", 400),
        (b"GET / HTTP/3\r\n\r\n", 400),
        (b"POST /token HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST /token HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST /token HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 413),
    ],
)
@conversation
async def test_a_request_that_is_none_is_refused_and_the_connection_closed(request_: bytes, status: int) -> None:
    async with controlled("office365") as one:
        assert (await one.raw(request_)).status == status
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await one.raw(b"GET /state HTTP/1.1\r\n\r\n")


@conversation
async def test_an_http_1_0_client_is_answered_once() -> None:
    async with controlled("office365") as one:
        assert (await one.raw(b"GET /state HTTP/1.0\r\n\r\n")).headers["connection"] == "close"
