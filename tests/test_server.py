"""A fake speaks SMTP as its provider does, and stays calm whatever it is told."""

import asyncio
import socket
import ssl
import time
from base64 import b64decode

import pytest
from fakes import START, bearer, conversation, encoded, running, trusting
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_servers.clock import VirtualClock, WallClock
from fake_servers.server import ERRORS, OVERSHOOT, READ, REPORT
from simlib.provider import Provider, Sentence, names
from simlib.receiver import Account

REP = "rep01@us.example"
BUSY = "Service not available, closing transmission channel"


def office365(**limits: object) -> Provider:
    return Provider.load("office365").on(START.date()).set({id_.replace("_", "-"): to for id_, to in limits.items()})


# What it says


@conversation
async def test_the_dialogue_is_the_provider_s() -> None:
    async with running("office365") as server:
        client = await server.connect()
        host = "SENDLAB4113"
        assert str(client.banner) == (
            f"220 {host}.outlook.office365.com Microsoft ESMTP MAIL Service ready at Tue, 24 Nov 2026 08:00:00 +0000 "
            "[8f4898be5e6e818b]"
        )
        assert (await client.ask("EHLO me.example")).text.split("\n") == [
            f"{host}.outlook.office365.com Hello [127.0.0.1]",
            "SIZE 157286400",
            "PIPELINING",
            "ENHANCEDSTATUSCODES",
            "STARTTLS",
            "8BITMIME",
            "SMTPUTF8",
        ]
        assert str(await client.starttls()) == "220 2.0.0 SMTP server ready"
        assert "AUTH LOGIN XOAUTH2" in (await client.ask("EHLO me.example")).text.split("\n")
        assert b64decode((await client.ask("AUTH LOGIN")).text) == b"Username:"
        assert b64decode((await client.ask(encoded(REP))).text) == b"Password:"
        assert str(await client.ask(encoded("password"))) == "235 2.7.0 Authentication successful"
        assert str(await client.ask(f"MAIL FROM:<{REP}>")) == "250 2.1.0 Sender OK"
        assert str(await client.ask("RCPT TO:<to@them.example>")) == "250 2.1.5 Recipient OK"
        assert str(await client.ask("DATA")) == "354 Start mail input; end with <CRLF>.<CRLF>"
        accepted = await client.ask(b"Subject: hello\r\n\r\nhello\r\n.\r\n")
        assert accepted.text.endswith(f"@{host}.namprd17.prod.outlook.com> [Hostname={host}.namprd17.prod.outlook.com]")
        assert str(await client.ask("RSET")) == "250 2.0.0 Resetting"
        assert str(await client.ask("QUIT")) == "221 2.0.0 Service closing transmission channel"
        assert await client.is_closed()


@conversation
async def test_a_long_sentence_repeats_both_codes_on_every_line() -> None:
    async with running("gmail") as server:
        client = await server.connect()
        await client.hello(tls=True)
        client.send(f"AUTH LOGIN {encoded(REP)}\r\n{encoded('wrong')}\r\n")
        await client.answer()
        lines = [await client.reader.readline() for _ in range(2)]
        assert [line[:10] for line in lines] == [b"535-5.7.8 ", b"535 5.7.8 "]


@conversation
async def test_helo_gets_one_line() -> None:
    async with running("generic-mx") as server:
        client = await server.connect()
        assert (await client.ask("HELO me.example")).text.count("\n") == 0


@conversation
async def test_where_no_source_has_the_ehlo_reply_it_lists_what_works() -> None:
    async with running("gmail-relay") as server:
        client = await server.connect()
        assert (await client.hello()).text.split("\n")[1:] == [
            "STARTTLS",
            "PIPELINING",
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "SMTPUTF8",
        ]
        await client.starttls()
        assert "AUTH LOGIN PLAIN" in (await client.hello()).text.split("\n")


@conversation
async def test_every_word_of_ehlo_works() -> None:
    async with running("generic-mx") as server:
        client = await server.connect()
        words = [line.split()[0] for line in (await client.hello()).text.split("\n")[1:]]
        assert words == ["PIPELINING", "SIZE", "VRFY", "STARTTLS", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8"]
        client.send(
            "MAIL FROM:<ü@us.example> SIZE=9 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<ö@them.example>\r\nRSET\r\nVRFY me\r\n"
        )
        assert [(await client.answer()).code for _ in range(4)] == [250, 250, 250, 252]
        assert (
            str(await client.ask("MAIL FROM:<a@us.example> SIZE=10240001"))
            == "552 5.3.4 Message size exceeds fixed limit"
        )


@conversation
async def test_a_parameter_that_is_not_announced_is_refused() -> None:
    async with running("ses") as server:
        client = await server.log_in()
        assert (await client.ask(f"MAIL FROM:<{REP}> SIZE=1")).code == 555
        assert (await client.ask(f"MAIL FROM:<{REP}> RET=HDRS")).code == 555
        assert (await client.ask(f"MAIL FROM:<{REP}>")).code == 250
        assert (await client.ask("RCPT TO:<to@them.example> NOTIFY=NEVER")).code == 555


# TLS


@conversation
async def test_what_came_in_one_packet_with_starttls_is_discarded() -> None:
    async with running("generic-mx") as server:
        client = await server.connect()
        await client.hello()
        client.send("STARTTLS\r\nMAIL FROM:<evil@us.example>\r\nRCPT TO:<to@them.example>\r\n")
        await client.answer()
        await client.writer.start_tls(trusting())
        assert (await client.ask("MAIL FROM:<a@us.example>")).text == "5.5.1 Error: send HELO/EHLO first"
        await client.hello()
        assert (await client.ask("RCPT TO:<to@them.example>")).text == "5.5.1 Error: need MAIL command"
        assert str(await client.ask("STARTTLS")) == "554 5.5.1 Error: TLS already active"


@conversation
async def test_no_password_is_asked_for_before_tls() -> None:
    async with running("gmail") as server:
        client = await server.connect()
        assert (await client.ask("AUTH LOGIN")).code == 503
        await client.hello()
        assert (await client.ask("AUTH LOGIN")).text.startswith("5.7.0 Must issue a STARTTLS command first.")


@pytest.mark.parametrize(("version", "works"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@conversation
async def test_tls_is_1_2_or_newer(version: str, works: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]

    def shakes_hands(port: int) -> bool:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for command in (b"", b"EHLO a.example\r\n", b"STARTTLS\r\n"):
                connection.sendall(command)
                connection.recv(1000)
            try:
                context.wrap_socket(connection).close()
            except ssl.SSLError:
                return False
            return True

    async with running("generic-mx") as server:
        assert await asyncio.to_thread(shakes_hands, server.port) == works
        await server.until_open(0)


# Credentials


@conversation
async def test_plain_with_and_without_an_initial_response() -> None:
    async with running("own-postfix") as server:
        for asks in (True, False):
            client = await server.connect()
            await client.hello()
            response = encoded(f"\0{REP}\0password")
            if asks:
                assert str(await client.ask("AUTH PLAIN")) == "334 "
                answer = await client.ask(response)
            else:
                answer = await client.ask(f"auth plain {response}")
            assert answer.code == 235
            assert (await client.ask(f"AUTH PLAIN {response}")).code == 503


@pytest.mark.parametrize(
    ("said", "then", "reply"),
    [
        ("AUTH PLAIN *not base64*", None, "501 5.5.2 Cannot decode response"),
        ("AUTH PLAIN =", None, "501 5.5.2 Cannot decode response"),
        ("AUTH PLAIN", "*", "501 5.7.0 Authentication cancelled"),
        ("AUTH LOGIN", "é", "501 5.5.2 Cannot decode response"),
        ("AUTH CRAM-MD5", None, "504 5.5.4 Command parameter not implemented"),
        ("AUTH", None, "501 5.5.4 Syntax error in parameters or arguments"),
        ("AUTH PLAIN", "x" * 20_000, "500 5.5.6 Authentication Exchange line is too long"),
        ("AUTH PLAIN " + "x" * 20_000, None, "500 5.5.6 Authentication Exchange line is too long"),
        (f"AUTH PLAIN {encoded('boss@us.example' + chr(0) + REP + chr(0) + 'password')}", None, "535 5.7.8 "),
    ],
)
@conversation
async def test_a_strange_auth_is_refused_and_the_session_goes_on(said: str, then: str | None, reply: str) -> None:
    async with running("own-postfix") as server:
        client = await server.connect()
        await client.hello()
        answer = await client.ask(said)
        assert str(await client.ask(then) if then else answer).startswith(reply)
        assert (await client.ask("NOOP")).code == 250


@conversation
async def test_a_bad_token_is_explained_before_it_is_refused() -> None:
    async with running("gmail") as server:
        client = await server.connect()
        await client.hello(tls=True)
        for mechanism, response in (
            ("XOAUTH2", bearer(REP, "no")),
            ("OAUTHBEARER", encoded(f"n,a={REP},\1auth=Bearer no\1\1")),
        ):
            challenge = await client.ask(f"AUTH {mechanism} {response}")
            assert challenge.code == 334
            assert (
                b64decode(challenge.text) == b'{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}'
            )
            assert (await client.ask("" if mechanism == "XOAUTH2" else encoded("\1"))).code == 535
        assert server.fake.auth_failures == 2


@conversation
async def test_office365_refuses_a_bad_token_at_once() -> None:
    async with running("office365") as server:
        client = await server.connect()
        await client.hello(tls=True)
        assert (await client.ask(f"AUTH XOAUTH2 {bearer(REP, 'no')}")).text.startswith(
            "5.7.3 Authentication unsuccessful"
        )


@pytest.mark.parametrize("length", [0, 3_000, 10_000])
@conversation
async def test_a_token_logs_in_whatever_its_length(length: int) -> None:
    async with running("gmail") as server:
        token = server.fake.issue_token(REP, REP, length)
        assert token is not None
        assert len(token) >= length
        for command in (
            f"AUTH XOAUTH2 {bearer(REP, token)}",
            "AUTH OAUTHBEARER " + encoded(f"n,a={REP},\1host=fake.example\1port=587\1auth=Bearer {token}\1\1"),
            "AUTH OAUTHBEARER " + encoded(f"n,,\1auth=Bearer {token}\1\1"),
        ):
            client = await server.connect()
            await client.hello(tls=True)
            assert str(await client.ask(command)) == "235 2.7.0 Accepted"


@conversation
async def test_a_token_expires_but_a_session_keeps_its_login() -> None:
    async with running("office365") as server:
        assert isinstance(server.clock, VirtualClock)
        token = server.fake.issue_token(REP, REP)
        sessions = [await server.connect() for _ in range(3)]
        answers = []
        for client, at in zip(sessions, (0, 3_599, 3_600), strict=True):
            await server.clock.advance(at)
            await client.hello(tls=True)
            answers.append((await client.ask(f"AUTH XOAUTH2 {bearer(REP, token or '')}")).code)
        assert answers == [235, 235, 535]
        server.fake.receiver.revoke(REP)
        assert (await sessions[0].message(REP)).code == 250


@conversation
async def test_a_changed_password_breaks_the_next_login_only() -> None:
    async with running("office365") as server:
        client = await server.log_in()
        server.fake.receiver.accounts[REP].password = "new"
        assert (await client.message(REP)).code == 250
        late = await server.connect()
        await late.hello(tls=True)
        await late.ask(f"AUTH LOGIN {encoded(REP)}")
        assert (await late.ask(encoded("password"))).text.startswith("5.7.3 Authentication unsuccessful")


@conversation
async def test_passwords_end_on_their_date() -> None:
    async with running("office365", start=START.replace(month=12, day=31)) as server:
        client = await server.connect()
        await client.hello(tls=True)
        await client.ask(f"AUTH LOGIN {encoded(REP)}")
        answer = await client.ask(encoded("password"))
        assert str(answer) == "550 5.7.30 Basic authentication is not supported for Client Submission."


@pytest.mark.parametrize(
    ("provider", "mail_from", "header", "code"),
    [
        ("office365", REP, REP, 250),
        ("office365", "other@us.example", REP, 554),
        ("office365", REP, "Other <other@us.example>", 554),
        ("sparkpost", "anybody@one.example", "anybody@two.example", 250),
        ("sparkpost", "anybody@one.example", "anybody@example.jp", 550),
        ("gmail", REP, REP, 250),
    ],
)
@conversation
async def test_whom_a_credential_may_send_as(provider: str, mail_from: str, header: str, code: int) -> None:
    async with running(provider) as server:
        client = await server.log_in()
        answer = await client.message(mail_from, text=f"Subject: x\r\nFrom: {header}\r\n\r\nhello\r\n")
        assert answer.code == code
        assert [entry["stage"] for entry in server.entries] == ["EOD"]


@conversation
async def test_mail_without_a_login() -> None:
    async with running("office365") as server:
        client = await server.connect()
        await client.hello()
        assert str(await client.ask(f"MAIL FROM:<{REP}>")) == "530 5.7.57 Client not authenticated to send mail."
        assert server.entries[0]["mail_from"] == REP


# Held replies


@conversation
async def test_a_reply_is_held_and_nobody_else_waits() -> None:
    async with running(office365(messages_per_minute="2/min")) as server:
        assert isinstance(server.clock, VirtualClock)
        client, other = await server.log_in(), await server.log_in("rep02@us.example")
        assert [(await client.message(REP)).code for _ in range(2)] == [250, 250]
        await client.envelope(REP)
        client.send("Subject: x\r\nMessage-ID: <us-3@sendlab.example>\r\n\r\nhello\r\n.\r\n")
        await server.until_waiting(1)
        assert (await other.message("rep02@us.example")).code == 250
        assert server.entries[2] | {"text": ""} == {
            "time": 0.0,
            "provider": "office365",
            "session": 1,
            "ip": "127.0.0.1",
            "account": REP,
            "mail_from": REP,
            "recipients": 1,
            "bytes": 57,
            "message_id": "us-3",
            "stage": "EOD",
            "code": 250,
            "enhanced": "2.0.0",
            "text": "",
            "limit": "office365/messages-per-minute",
            "held": 60.0,
            "opened": 0.0,
            "tls": True,
        }
        await server.clock.advance(59.999)
        assert server.fake.waiting == 1
        await server.clock.advance(60)
        assert (await client.answer()).code == 250
        assert server.fake.held == {"office365/messages-per-minute": 1}


@conversation
async def test_a_held_reply_that_can_not_be_given_is_not_replaced_by_another() -> None:
    """The message is accepted: a 421 in place of its 250 would have the client send it twice."""
    async with running(office365(messages_per_minute="1/min")) as server:
        client = await server.log_in()
        await client.message(REP)
        await client.envelope(REP)
        client.send("Subject: x\r\n\r\nhello\r\n.\r\n")
        await server.until_waiting(1)
        server.fake.close()
        assert await client.is_closed()
        assert [entry["code"] for entry in server.entries] == [250, 250]


@pytest.mark.parametrize("half", [False, True])
@conversation
async def test_a_client_that_goes_away_while_it_is_held_has_sent_its_message(half: bool) -> None:
    without_tls = office365(messages_per_minute="1/min").model_copy(update={"tls": "optional"})
    async with running(without_tls) as server:
        client = await server.log_in()
        await client.message(REP)
        await client.envelope(REP)
        client.send("Subject: x\r\n\r\nhello\r\n.\r\n")
        await server.until_waiting(1)
        if half:
            client.writer.write_eof()
        else:
            await client.close()
        await server.until_open(0)
        assert not half or await client.is_closed()
        assert [entry["code"] for entry in server.entries] == [250, 250]
        late = await server.log_in()
        await late.envelope(REP)
        late.send("Subject: x\r\n\r\nhello\r\n.\r\n")
        await server.until_waiting(1)
        assert server.entries[2]["held"] == 120.0  # its place in the line is taken, too


@conversation
async def test_a_held_reply_tells_the_time_at_which_it_leaves() -> None:
    provider = office365(messages_per_minute="1/min")
    said = {"when": "accepted", "code": 250, "text": "{time:%H:%M}", "source": "here", "as_of": START.date()}
    replies = (*(reply for reply in provider.replies if reply.when != "accepted"), Sentence.model_validate(said))
    async with running(provider.model_copy(update={"replies": replies})) as server:
        assert isinstance(server.clock, VirtualClock)
        client = await server.log_in()
        assert str(await client.message(REP)) == "250 08:00"
        await client.envelope(REP)
        client.send("Subject: x\r\n\r\nhello\r\n.\r\n")
        await server.until_waiting(1)
        await server.clock.advance(86_400)
        assert str(await client.answer()) == "250 08:01"
        assert [entry["text"] for entry in server.entries] == ["08:00", "08:01"]


@conversation
async def test_what_was_sent_behind_a_held_message_is_answered_at_its_moment() -> None:
    async with running(office365(messages_per_minute="1/min")) as server:
        assert isinstance(server.clock, VirtualClock)
        client = await server.log_in()
        await client.message(REP)
        await client.envelope(REP)
        client.send(f"Subject: x\r\n\r\nhello\r\n.\r\nMAIL FROM:<{REP}>\r\nRCPT TO:<x y>\r\n")
        await server.until_waiting(1)
        await server.clock.advance(600)
        assert [(await client.answer()).code for _ in range(3)] == [250, 250, 501]
        assert server.entries[-1]["time"] == 60.0


@conversation
async def test_a_hurried_clock_decides_as_an_unhurried_one() -> None:
    """What was held in real time for how long is what a clock that is moved to the same moments says, exactly."""
    scale = 1_440.0
    async with running(office365(messages_per_minute="3/min"), clock=WallClock(scale)) as server:
        client = await server.log_in()
        took = []
        while len([entry for entry in server.entries if entry["held"]]) < 2:  # four messages were quick enough, twice
            await client.envelope(REP)
            began = time.monotonic()
            assert (await client.ask(b"Subject: x\r\n\r\nhello\r\n.\r\n")).code == 250
            took.append(time.monotonic() - began)
        hurried = server.entries
    assert all(entry["held"] / scale <= real for entry, real in zip(hurried, took, strict=True))

    async with running(office365(messages_per_minute="3/min")) as server:
        assert isinstance(server.clock, VirtualClock)
        await server.clock.advance(hurried[0]["opened"])
        client = await server.log_in()
        for entry in hurried:
            await client.envelope(REP)
            await server.clock.advance(entry["time"])
            client.send("Subject: x\r\n\r\nhello\r\n.\r\n")
            if entry["held"]:
                await server.until_waiting(1)
                await server.clock.advance(entry["time"] + entry["held"])
            assert (await client.answer()).code == 250
        assert server.entries == hurried


# Connections


@conversation
async def test_a_421_closes_the_connection_and_frees_its_place() -> None:
    async with running(Provider.load("generic-mx").set({"connections": 1})) as server:
        first = await server.connect()
        second = await server.connect()
        assert second.banner.code == 421
        assert second.banner.text.endswith("Error: too many connections from 127.0.0.1")
        assert await second.is_closed()
        elsewhere = await server.connect("127.0.0.2")
        assert elsewhere.banner.code == 220
        await first.ask("QUIT")
        third = await server.connect()
        assert third.banner.code == 220
        await third.close()
        await server.until_open(1)  # it went without QUIT
        assert (await server.connect()).banner.code == 220


@conversation
async def test_a_limit_that_closes_in_mid_session() -> None:
    async with running(Provider.load("ses").set({"messages-per-session": 1})) as server:
        client = await server.log_in()
        assert (await client.message(REP)).code == 250
        assert str(await client.ask(f"MAIL FROM:<{REP}>")).startswith("421 Connection closed by server.")
        assert await client.is_closed()
        await server.until_open(0)


@conversation
async def test_sentences_after_the_end_of_input_are_still_answered() -> None:
    async with running("generic-mx") as server:
        client = await server.connect()
        client.send("EHLO a.example\r\nMAIL FROM:<a@us.example>\r\nRCPT TO:<b@them.example>\r\nDATA\r\nhello\r\n.\r\n")
        client.writer.write_eof()
        assert [(await client.answer()).code for _ in range(5)] == [250, 250, 250, 354, 250]
        assert await client.is_closed()


@pytest.mark.parametrize("arrives", ["hello\r\n.\r\n", "DATA\r\n"])
@conversation
async def test_what_arrives_as_the_connection_is_closed_is_no_outcome(arrives: str) -> None:
    async with running("generic-mx") as server:
        client = await server.connect()
        await client.hello()
        await client.envelope("a@us.example")
        if arrives == "DATA\r\n":
            await client.ask(".")  # which leaves no transaction to say DATA in
        (connection,) = server.fake.connections
        fed, lines = connection._reader.fed, len(server.entries)
        client.send(arrives)
        while connection._reader.fed == fed:
            await asyncio.sleep(0)
        server.fake.reset()
        assert str(await client.answer()).startswith("421 4.3.2")
        assert await client.is_closed()
        assert len(server.entries) == lines


@conversation
async def test_reset_closes_connections_and_forgets() -> None:
    account = Account(REP, refresh_token=REP)
    async with running(office365(recipients_per_day="1/d"), {REP: account}) as server:
        client = await server.log_in()
        assert [(await client.message(REP)).code for _ in range(2)] == [250, 554]
        server.fake.reset()
        assert str(await client.answer()) == f"421 4.3.2 {BUSY}"
        assert await client.is_closed()
        again = await server.log_in()
        assert (await again.message(REP)).code == 250
        assert [entry["session"] for entry in server.entries] == [1, 1, 1]


# Messages


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (b".\r\n", 0),
        (b"\r\n.\r\n", 2),
        (b"Subject: x\r\n\r\n..\r\n...\r\n.\r\n", 14 + 3 + 4),
        (b"a\n.\nb\r\n.\r\n", 7),
        (b"a\r\n.\nMAIL FROM:<evil@us.example>\r\n.\r\n", 3 + 1 + 27 + 2),
        (b"a\n.\r\nb\r\n.\r\n", 8),
        (b"a\r.\rb\r\n.\r\n", 7),
        (b"a\r.\r\nb\r\n.\r\n", 8),
        (b"\0\xff" + b"x" * 200_000 + b"\r\n.\r\n", 200_004),
        (b"x" * 65_536 + b"\r\n.." + b"y" * 131_072 + b"\r\n.\r\n", 65_536 + 3 + 131_072 + 2),
    ],
)
@conversation
async def test_only_crlf_dot_crlf_ends_a_message(text: bytes, size: int) -> None:
    async with running("generic-mx") as server:
        client = await server.connect()
        await client.hello()
        await client.envelope("a@us.example")
        assert (await client.ask(text)).code == 250
        assert (await client.ask("NOOP")).code == 250
        assert [entry["bytes"] for entry in server.entries] == [size]


@conversation
async def test_a_message_in_pieces_is_the_same_message() -> None:
    text = b"Message-ID: <us-1@sendlab.example>\r\n\r\n..hello\r\n.\r\n"
    async with running("generic-mx") as server:
        client = await server.connect()
        client.writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await client.hello()
        await client.envelope("a@us.example")
        connection = next(iter(server.fake.connections))
        for byte in text:
            fed = connection._reader.fed
            client.send(bytes([byte]))
            while connection._reader.fed == fed:
                await asyncio.sleep(0)
        assert (await client.answer()).code == 250
        assert [(entry["bytes"], entry["message_id"]) for entry in server.entries] == [(len(text) - 4, "us-1")]


@conversation
async def test_a_message_is_counted_as_it_comes_and_not_kept() -> None:
    async with running("generic-mx") as server:
        client = await server.connect()
        await client.hello()
        await client.envelope("a@us.example")
        (connection,) = server.fake.connections
        client.send("x" * 2**20 + "\r\n.\r\n")
        answer = asyncio.ensure_future(client.answer())
        kept = 0
        while not answer.done():
            kept = max(kept, len(connection._reader._buffer))
            await asyncio.sleep(0)
        assert answer.result().code == 250
        assert server.entries[0]["bytes"] == 2**20 + 2
        assert kept <= 3 * READ  # two at which reading pauses, and the one that made it so


@conversation
async def test_a_second_data_needs_a_second_mail() -> None:
    async with running("generic-mx") as server:
        client = await server.connect()
        await client.hello()
        assert (await client.message("a@us.example")).code == 250
        assert str(await client.ask("DATA")) == "503 5.5.1 Error: need RCPT command"


# Reports


def report_of(kept: int) -> bytes:
    """A report whose human part has so many bytes, dots at line ends and all."""
    return (
        b"From: MAILER-DAEMON@relay.example\r\nMessage-ID: <1@relay.example>\r\n"
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/plain\r\n\r\n" + (b"..\r\n" * kept)[-kept:] + b"\r\n"
        b"--b\r\nContent-Type: message/delivery-status\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"Reporting-MTA: dns; relay.example\r\n\r\n"
        b"Final-Recipient: rfc822; to@them=\r\n..example\r\nAction: failed\r\nStatus: 5.2.2\r\n"
        b"Diagnostic-Code: smtp; 550 5.2.2 Full\r\n"
        b"--b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <us-7@sendlab.example>\r\n\r\nhello\r\n--b--\r\n.\r\n"
    )


READ_AS = {
    "message_id": "us-7",
    "recipients": [
        {"recipient": "to@them.example", "action": "failed", "status": "5.2.2", "diagnostic": "550 5.2.2 Full"}
    ],
}
DELIVERY = [name for name in names() if Provider.load(name).role == "delivery"]


@pytest.mark.parametrize("provider", DELIVERY)
@conversation
async def test_a_report_from_the_null_sender_is_taken_and_read(provider: str) -> None:
    async with running(provider) as server:
        client = await server.connect()
        await client.hello()
        assert (await client.envelope("", "rep01@us.example")).code == 354
        assert (await client.ask(report_of(100))).code == 250
        (entry,) = server.entries
        assert (entry["mail_from"], entry["message_id"]) == ("", "<1@relay.example>")
        assert entry["report"] == READ_AS


@pytest.mark.parametrize(
    ("mail_from", "text", "found"),
    [
        ("", report_of(READ + 10), READ_AS),
        ("", report_of(REPORT - 1500), READ_AS),
        ("", report_of(REPORT), None),
        ("rep01@us.example", report_of(100), None),
        ("", b"Subject: away\r\n\r\nI am out.\r\n.\r\n", None),
        ("", b"\r\nContent-Type: multipart/report; boundary=b\r\n\r\n" + report_of(9), None),  # no headers
        ("", b".\r\n", None),
    ],
)
@conversation
async def test_only_a_report_is_read_and_every_message_counts_its_bytes(
    mail_from: str, text: bytes, found: object
) -> None:
    async with running("generic-mx") as server:
        client = await server.connect()
        await client.hello()
        await client.envelope(mail_from)
        assert (await client.ask(text)).code == 250
        assert (await client.message("next@us.example")).code == 250
        entry, after = server.entries
        assert entry.get("report") == found
        assert ("report" in entry) == (found is not None)
        assert entry["bytes"] == len(text.replace(b"\r\n..", b"\r\n.")) - len(".\r\n")
        assert after["bytes"] == len("Subject: hello\r\n\r\nhello\r\n")


# Bad input


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"\r\n", "500 5.5.2 Syntax error, command unrecognized"),
        (b"NOOP\n", "500 5.5.2 Syntax error, command unrecognized"),
        (b"NO\rOP\r\n", "500 5.5.2 Syntax error, command unrecognized"),
        (b"NOOP \0\r\n", "500 5.5.2 Syntax error, command unrecognized"),
        (b"\xff\xfe\r\n", "500 5.5.2 Syntax error, command unrecognized"),
        (b"NOOP \xff\r\n", "501 5.5.4 Syntax error in parameters or arguments"),
        (b"BDAT 1 LAST\r\n", "502 5.5.1 Command not implemented"),
        (b"NOOP " + b"x" * 506 + b"\r\n", "500 5.5.2 Line too long"),
        (b"NOOP " + b"x" * 505 + b"\r\n", "250 2.0.0 Ok"),
        (b"x" * 100_000 + b"\r\n", "500 5.5.2 Line too long"),
        (b"EHLO\r\n", "501 5.5.4 Syntax error in parameters or arguments"),
        (b"MAIL FROM:a@us.example\r\n", "501 5.5.4 Syntax error in parameters or arguments"),
        (b"MAIL FROM:<a b@us.example>\r\n", "501 5.5.4 Syntax error in parameters or arguments"),
        (b"MAIL FROM:<a@us.example> SIZE=x\r\n", "501 5.5.4 Syntax error in parameters or arguments"),
        (
            b"MAIL FROM:<\xc3\xbc@us.example>\r\n",
            "553 5.6.7 Non-ASCII addresses not permitted for that sender/recipient",
        ),
        (b"MAIL FROM:<\xfc@us.example> SMTPUTF8\r\n", "501 5.5.4 Syntax error in parameters or arguments"),
        (b"RCPT TO:<>\r\n", "501 5.5.4 Syntax error in parameters or arguments"),
        (b"mail from: <@relay.example:a@us.example>\r\n", "250 2.1.0 Ok"),
        (b'MAIL FROM:<"a \\" b"@us.example>\r\n', "250 2.1.0 Ok"),
        (b"MAIL FROM:<>\r\n", "250 2.1.0 Ok"),
    ],
)
@conversation
async def test_a_strange_line_gets_the_reply_of_the_rfc(line: bytes, reply: str) -> None:
    async with running("generic-mx") as server:
        client = await server.connect()
        await client.hello()
        assert str(await client.ask(line)) == reply
        assert (await client.ask("NOOP")).code == 250


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n", b"x\r\n" * ERRORS, b"x" * 3_000_000])
@conversation
async def test_a_client_that_talks_rubbish_is_sent_away(junk: bytes) -> None:
    async with running("generic-mx") as server:
        client, other = await server.connect(), await server.connect()
        client.send(junk)
        answer = await client.answer()
        while answer.code == 500:
            answer = await client.answer()
        assert str(answer) in (f"421 4.7.0 {BUSY}",)
        assert await client.is_closed()
        assert (await other.hello()).code == 250


@conversation
async def test_a_million_recipients() -> None:
    async with running("generic-mx") as server:
        client, other = await server.connect(), await server.connect()
        await client.hello()
        await client.ask("MAIL FROM:<a@us.example>")

        async def flood() -> None:
            for _ in range(1_000):
                client.send("RCPT TO:<to@them.example>\r\n" * 1_000)
                await client.writer.drain()

        flooding = asyncio.ensure_future(flood())
        codes = []
        while not codes or codes[-1] != 421:
            codes.append((await client.answer()).code)
        assert codes == [250] * 1_000 + [452] * OVERSHOOT + [421]
        assert (await other.hello()).code == 250
        flooding.cancel()


@conversation
async def test_a_client_that_does_not_read_does_not_fill_the_memory() -> None:
    async with running("google-mx") as server:
        client, other = await server.connect(), await server.connect()
        connection = next(one for one in server.fake.connections if one.dialogue.number == 1)
        client.send("NOOP\r\n" * 2_000_000)
        while not connection._paused:
            await asyncio.sleep(0)
        assert connection.transport is not None
        for _ in range(50):
            assert (await other.hello()).code == 250
        assert connection.transport.get_write_buffer_size() < 200_000
        client.writer.transport.abort()
        await server.until_open(1)


@conversation
async def test_no_secret_is_written_down() -> None:
    async with running("gmail") as server:
        client = await server.connect()
        await client.hello(tls=True)
        for command in (
            f"AUTH PLAIN {encoded(f'{chr(0)}{REP}{chr(0)}s3cret')}",
            f"AUTH PLAIN {encoded('s3cret')}",
            "AUTH PLAIN s3cret*",
        ):
            assert (await client.ask(command)).code in (501, 535)
        await client.ask(f"AUTH XOAUTH2 {bearer(REP, 's3cret')}")
        await client.ask("")
        written = server.ledger.read(0, server.ledger.size()).decode()
        assert len(written.splitlines()) == 4
        assert "s3cret" not in written
        assert encoded("s3cret") not in written
        assert [entry["account"] for entry in server.entries] == [REP, "", "", REP]


VERBS = [
    "EHLO a.example",
    "MAIL FROM:<a@us.example>",
    "RCPT TO:<b@them.example>",
    "DATA",
    "RSET",
    "NOOP",
    "VRFY x",
    "AUTH PLAIN",
    ".",
]
PIECES = st.one_of(
    st.sampled_from(VERBS).map(str.encode),
    st.binary(max_size=40),
    st.sampled_from([b"\r\n", b"\n", b"\r", b"\0", b".\r\n", b"\r\n.\r\n"]),
)


@pytest.mark.parametrize("provider", ["generic-mx", "own-postfix"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, max_size=30))
def test_whatever_a_client_says_the_next_one_is_served(
    provider: str, pieces: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async def talk() -> None:
        async with running(provider) as server:
            client = await server.connect()
            client.send(b"".join(pieces))
            client.writer.write_eof()
            said = await client.reader.read()
            assert all(line[:3].isdigit() and line[3:4] in b" -" for line in said.splitlines())
            await server.until_open(0)
            assert (await (await server.connect()).hello()).code == 250

    asyncio.run(talk())
    assert caplog.text == ""
