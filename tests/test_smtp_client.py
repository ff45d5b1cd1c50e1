"""`loadtests.smtp`: what the client says, what it makes of the answers, and that it never takes silence for a yes."""

import asyncio
import smtplib
import ssl
import threading
from email import message_from_bytes

import gevent
import pytest
from fakes import START, certificates, running, trusting
from scripted import CLOSE, GREETING, PIPELINING, Conversation, Scripted, answering, decoded, scripted

from loadtests.smtp import Lost, Reply, Session, text
from simlib.port import held_port
from simlib.provider import Provider, names

TO = ("to0@them.example",)
SERVED = [name for name in names() if Provider.load(name).transport == "smtp"]


class Meeting(Session):
    """A session whose end the test need not see to."""

    def __enter__(self) -> "Meeting":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def met(server: Scripted) -> Meeting:
    """A session that has said EHLO."""
    session = Meeting("127.0.0.1", server.port)
    session.banner()
    session.ehlo()
    return session


# Replies


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        (b"250 Ok\r\n", Reply(250, "", "Ok")),
        (b"250\r\n", Reply(250, "", "")),
        (b"250 \n", Reply(250, "", "")),
        (b"250 2.0.0 Ok: queued\r\n", Reply(250, "2.0.0", "Ok: queued")),
        (b"550 5.7.1\r\n", Reply(550, "5.7.1", "")),
        (b"550-5.7.1 One\r\n550-5.7.1 two\r\n550 5.7.1 three\r\n", Reply(550, "5.7.1", "One\ntwo\nthree")),
        (b"550-5.7.1 One\r\n550 two\r\n", Reply(550, "5.7.1", "One\ntwo")),
        (b"250-mx.example\r\n250-SIZE 1000\r\n250 PIPELINING\r\n", Reply(250, "", "mx.example\nSIZE 1000\nPIPELINING")),
        (b"550 5.7.1234 no such code\r\n", Reply(550, "", "5.7.1234 no such code")),
        ("550 déjà vu\r\n".encode("latin-1"), Reply(550, "", "d�j� vu")),
    ],
)
def test_a_reply_is_code_enhanced_code_and_text(lines: bytes, reply: Reply) -> None:
    assert Reply.parse(lines) == reply


NO_SMTP = (
    b"\r\n",
    b"25\r\n",
    b"hello\r\n",
    b"250Ok\r\n",
    b"199 x\r\n",
    b"600 x\r\n",
    b"250-a\r\n550 b\r\n",
    b"\xff\xfe\r\n",
)


@pytest.mark.parametrize("lines", NO_SMTP)
def test_what_is_no_reply_is_not_taken_for_one(lines: bytes) -> None:
    with pytest.raises(Lost, match="that is no SMTP"):
        Reply.parse(lines)


def test_a_reply_may_come_in_any_pieces() -> None:
    whole = b"250-scripted.example\r\n250-SIZE 1000\r\n250 PIPELINING\r\n"

    def script(one: Conversation) -> None:
        one.say(*(bytes([byte]) for byte in GREETING["CONNECT"]))
        one.hear()
        one.say(*(bytes([byte]) for byte in whole))
        one.hear()

    with scripted(script) as server, met(server) as session:
        assert session.keywords == {"SIZE": "1000", "PIPELINING": ""}


def test_several_replies_may_come_in_one_piece() -> None:
    def script(one: Conversation) -> None:
        one.say(GREETING["CONNECT"])
        one.hear()
        one.say(PIPELINING)
        for _ in range(3):
            one.hear()
        one.say(b"250 2.1.0 Ok\r\n550 5.1.1 Nobody\r\n503 5.5.1 Need RCPT\r\n")
        one.hear()
        one.say(b"250 2.0.0 Ok\r\n")

    with scripted(script) as server, met(server) as session:
        assert session.offer("us@us.example", TO) == ("RCPT", Reply(550, "5.1.1", "Nobody"))
        assert server.verbs == ["EHLO", "MAIL", "RCPT", "DATA", "RSET"]


def test_a_reply_without_end_is_given_up() -> None:
    def script(one: Conversation) -> None:
        one.say(*[b"220-" + b"x" * 2_000 + b"\r\n"] * 40)
        one.hear()

    with (
        scripted(script) as server,
        Meeting("127.0.0.1", server.port) as session,
        pytest.raises(Lost, match="doesn't end"),
    ):
        session.banner()


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_a_reply_that_is_there_already_leaves_others_their_turn(encrypted: bool) -> None:
    """Else one connection to a server that answers at once sends everything, and the others' latencies are its own."""
    met_already, told = threading.Event(), threading.Event()

    def script(one: Conversation) -> None:
        one.say(GREETING["CONNECT"])
        one.hear()
        one.say(GREETING["EHLO"])
        if encrypted:
            one.starttls(certificates())
            one.hear()
            one.say(GREETING["EHLO"])
        met_already.wait(10)
        one.say(GREETING["RSET"])  # unasked: surely there before anybody waits for it
        told.set()
        one.hear()

    with scripted(script) as server, met(server) as session:
        if encrypted:
            session.starttls(trusting(), "127.0.0.1")
        met_already.set()
        told.wait(10)
        others: list[str] = []
        gevent.spawn(others.append, "their turn")
        session.rset()
        assert others == ["their turn"]


# The envelope


PIPELINES = pytest.mark.parametrize("ehlo", [GREETING["EHLO"], PIPELINING], ids=["one by one", "pipelining"])


@PIPELINES
@pytest.mark.parametrize("recipients", [1, 3])
def test_a_message_goes_through(ehlo: bytes, recipients: int) -> None:
    to = tuple(f"to{number}@them.example" for number in range(recipients))
    message = text("us-1", "us@us.example", to, 1_000)
    with scripted(answering(EHLO=ehlo)) as server, met(server) as session:
        assert session.offer("us@us.example", to) == ("DATA", Reply(354, "", "Go on"))
        assert session.send(message) == Reply(250, "2.0.0", "Ok")
        session.quit()
        (one,) = server.conversations
        wanted = ["MAIL FROM:<us@us.example>", *(f"RCPT TO:<{address}>" for address in to), "DATA", "QUIT"]
        assert one.lines == ["EHLO sendlab.example", *wanted]
        assert one.texts == [message]


@PIPELINES
@pytest.mark.parametrize(
    ("stage", "afterwards"),
    [("MAIL", []), ("RCPT", ["RSET"]), ("DATA", ["RSET"])],  # after a refused MAIL there is nothing to take back
)
@pytest.mark.parametrize("code", [451, 550])
def test_a_refusal_is_the_first_one_and_the_session_goes_on(
    ehlo: bytes, stage: str, afterwards: list[str], code: int
) -> None:
    refusal = f"{code} 4.7.1 Not now\r\n".encode()
    rest = b"503 5.5.1 Not in this order\r\n"
    said = {"MAIL": {"MAIL": refusal, "RCPT": rest, "DATA": rest}, "RCPT": {"RCPT": refusal, "DATA": rest}}
    answers = said.get(stage, {stage: refusal})
    to_all = {verb: [answer, GREETING[verb]] for verb, answer in answers.items()}  # the second time all is well
    if ehlo == GREETING["EHLO"]:
        to_all = {stage: to_all[stage]}
    with scripted(answering(EHLO=ehlo, **to_all)) as server, met(server) as session:
        assert session.offer("us@us.example", TO) == (stage, Reply(code, "4.7.1", "Not now"))
        assert not session.gone
        verbs = server.verbs
        assert verbs[verbs.index("DATA") + 1 if "DATA" in verbs else verbs.index(stage) + 1 :] == afterwards
        assert session.offer("us@us.example", TO)[1].code == 354


@PIPELINES
def test_to_several_recipients_the_text_is_never_sent_when_one_is_refused(ehlo: bytes) -> None:
    to = ("to0@them.example", "to1@them.example", "to2@them.example")
    answers = [GREETING["RCPT"], b"550 5.1.1 Nobody\r\n", GREETING["RCPT"]]
    with scripted(answering(EHLO=ehlo, RCPT=answers)) as server, met(server) as session:
        assert session.offer("us@us.example", to) == ("RCPT", Reply(550, "5.1.1", "Nobody"))
        assert "DATA" not in server.verbs
        assert server.verbs[-1] == "RSET"
        assert session.offer("us@us.example", TO)[1].code == 354


def test_a_354_after_a_refused_recipient_gets_an_empty_text() -> None:
    """Some servers say it, and then take everything for the text until a dot comes (RFC 2920 §3.1)."""
    script = answering(EHLO=PIPELINING, RCPT=b"550 5.1.1 Nobody\r\n", EOD=b"554 5.5.1 No valid recipients\r\n")
    with scripted(script) as server, met(server) as session:
        assert session.offer("us@us.example", TO) == ("RCPT", Reply(550, "5.1.1", "Nobody"))
        assert server.conversations[0].texts == [b".\r\n"]
        assert server.verbs[-1] == "RSET"
        assert not session.gone


@PIPELINES
@pytest.mark.parametrize("recipients", [1, 2])
@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
def test_a_421_is_heard_wherever_it_comes(ehlo: bytes, recipients: int, stage: str) -> None:
    to = tuple(f"to{number}@them.example" for number in range(recipients))
    script = answering(EHLO=ehlo, **{stage: b"421 4.7.0 Too fast\r\n"})
    with scripted(script) as server, met(server) as session:
        assert session.offer("us@us.example", to) == (stage, Reply(421, "4.7.0", "Too fast"))
        assert session.gone


@pytest.mark.parametrize("rset", [CLOSE, b"421 4.7.0 Enough\r\n", b"nonsense\r\n"])
@PIPELINES
def test_a_refusal_stands_though_the_server_leaves_after_it(ehlo: bytes, rset: bytes) -> None:
    script = answering(EHLO=ehlo, RCPT=b"550 5.1.1 Nobody\r\n", DATA=b"503 5.5.1 No\r\n", RSET=rset)
    with scripted(script) as server, met(server) as session:
        assert session.offer("us@us.example", TO) == ("RCPT", Reply(550, "5.1.1", "Nobody"))
        assert session.gone


def test_a_421_after_the_text_and_at_the_greeting_is_a_reply() -> None:
    with scripted(answering(EOD=b"421 4.3.2 Shutting down\r\n")) as server, met(server) as session:
        session.offer("us@us.example", TO)
        assert session.send(text("us-1", "us@us.example", TO, 500)) == Reply(421, "4.3.2", "Shutting down")
    for said in ({"CONNECT": b"421 4.7.0 No\r\n"}, {"EHLO": b"421 4.7.0 No\r\n"}):
        with scripted(answering(**said)) as server, Meeting("127.0.0.1", server.port) as session:
            replies = [session.banner()]
            if replies[0].code < 400:
                replies.append(session.ehlo())
            assert replies[-1] == Reply(421, "4.7.0", "No")


# Lost


WRONG = pytest.mark.parametrize("answer", [CLOSE, b"250-half of\r\n250", b"nonsense\r\n", b"334 unasked\r\n"])


@PIPELINES
@WRONG
@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "EOD"])
def test_at_every_stage_the_connection_may_be_lost(ehlo: bytes, stage: str, answer: bytes) -> None:
    def talk(session: Session) -> None:
        session.banner()
        session.ehlo()
        session.offer("us@us.example", TO)
        session.send(text("us-1", "us@us.example", TO, 500))

    script = answering(**{"EHLO": ehlo, stage: answer})
    with scripted(script) as server, Meeting("127.0.0.1", server.port) as session:
        with pytest.raises(Lost):
            talk(session)
        assert session.stage == {"CONNECT": "", "EHLO": "", "EOD": "DATA"}.get(stage, stage)  # the envelope's


def test_a_250_to_data_is_no_acceptance() -> None:
    """It would pass for a message that is delivered, of which not a line was sent."""
    script = answering(DATA=b"250 2.0.0 Ok\r\n")
    with scripted(script) as server, met(server) as session, pytest.raises(Lost, match="no answer here: 250"):
        session.offer("us@us.example", TO)


def test_a_354_to_the_dot_is_no_acceptance() -> None:
    with scripted(answering(EOD=b"354 More\r\n")) as server, met(server) as session:
        session.offer("us@us.example", TO)
        with pytest.raises(Lost, match="no answer here: 354"):
            session.send(text("us-1", "us@us.example", TO, 500))


def test_nobody_there_is_lost() -> None:
    with held_port() as port, pytest.raises(Lost, match=f"no connection to 127.0.0.1:{port}"):
        Session("127.0.0.1", port)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_a_server_that_does_not_read_has_a_stage_s_time_and_not_the_text_s(
    encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also once a reply to a text was waited for: its time is only its own.

    The stage's time is short only from then on, so that no stage before has to be quick.
    """
    given_up = threading.Event()

    def script(one: Conversation) -> None:
        one.say(GREETING["CONNECT"])
        one.hear()
        one.say(GREETING["EHLO"])
        if encrypted:
            one.starttls(certificates())
            one.hear()
            one.say(GREETING["EHLO"])
        for verb in ("MAIL", "RCPT", "DATA"):
            one.hear()
            one.say(GREETING[verb])
        one.hear_text()
        one.say(GREETING["EOD"])
        given_up.wait(10)

    with scripted(script) as server, Meeting("127.0.0.1", server.port, timeout=60.0) as session:
        session.banner()
        session.ehlo()
        if encrypted:
            session.starttls(trusting(), "127.0.0.1")
        session.offer("a@us.example", TO)
        monkeypatch.setattr("loadtests.smtp.STAGE_TIMEOUT", 1.0)
        session._socket.settimeout(1.0)
        assert session.send(text("1", "a@us.example", TO, 1_000)).code == 250
        with pytest.raises(Lost, match="timed out"):
            session.send(text("2", "a@us.example", TO, 50_000_000))
        given_up.set()


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_silence_after_the_text_ends_with_the_patience_for_it_and_no_other_does(encrypted: bool) -> None:
    """The time for the reply to the text is the channel's; what comes before and after has its own, which is longer."""
    heard = threading.Event()

    def script(one: Conversation) -> None:
        one.say(GREETING["CONNECT"])
        one.hear()
        one.say(GREETING["EHLO"])
        if encrypted:
            one.starttls(certificates())
            one.hear()
            one.say(GREETING["EHLO"])
        for verb in ("MAIL", "RCPT", "DATA"):
            one.hear()
            heard.wait(0.03)  # longer than the text's
            one.say(GREETING[verb])
        one.hear_text()
        heard.wait(10)

    with scripted(script) as server, Meeting("127.0.0.1", server.port, timeout=0.02) as session:
        session.banner()
        session.ehlo()
        if encrypted:
            session.starttls(trusting(), "127.0.0.1")
        assert session.offer("us@us.example", TO)[1].code == 354
        with pytest.raises(Lost, match="timed out"):
            session.send(text("us-1", "us@us.example", TO, 500))
        heard.set()


def test_goodbye_to_somebody_who_is_gone_is_no_error() -> None:
    with scripted(answering(QUIT=CLOSE)) as server:
        met(server).quit()


# STARTTLS and AUTH


def test_what_was_said_before_the_handshake_is_not_believed() -> None:
    """A reply that somebody on the way puts behind the 220 would be read as the server's own (CVE-2011-0411)."""
    injected = b"220 2.0.0 Go ahead\r\n250-scripted.example\r\n250 AUTH PLAIN\r\n"
    script = answering(STAR=injected)
    with scripted(script) as server, met(server) as session, pytest.raises(Lost, match="more than 220 before"):
        session.starttls(ssl.create_default_context(), "127.0.0.1")


def test_starttls_may_be_refused() -> None:
    with scripted(answering(STAR=b"454 4.7.0 Not now\r\n")) as server, met(server) as session:
        assert session.starttls(ssl.create_default_context(), "127.0.0.1") == Reply(454, "4.7.0", "Not now")
        assert session.offer("us@us.example", TO)[1].code == 354


def test_a_handshake_that_fails_is_lost() -> None:
    def script(one: Conversation) -> None:
        for answer in (GREETING["CONNECT"], GREETING["EHLO"], b"220 2.0.0 Go ahead\r\n"):
            one.say(answer)
            one.hear()

    with scripted(script) as server, met(server) as session, pytest.raises(Lost, match="no TLS"):
        session.starttls(ssl.create_default_context(), "127.0.0.1")


def offering(mechanisms: str) -> bytes:
    return f"250-scripted.example\r\n250 AUTH {mechanisms}\r\n".encode()


PLAIN = "\0us@us.example\0secret"
XOAUTH2 = "user=us@us.example\1auth=Bearer secret\1\1"
OAUTHBEARER = "n,a=us@us.example,\1auth=Bearer secret\1\1"


@pytest.mark.parametrize(
    ("mechanisms", "token", "first"),
    [
        ("PLAIN", False, f"PLAIN {PLAIN}"),
        ("LOGIN PLAIN", False, f"PLAIN {PLAIN}"),
        ("plain", False, f"PLAIN {PLAIN}"),
        ("XOAUTH2 LOGIN", True, f"XOAUTH2 {XOAUTH2}"),
        ("OAUTHBEARER PLAIN", True, f"OAUTHBEARER {OAUTHBEARER}"),
        ("OAUTHBEARER XOAUTH2", True, f"XOAUTH2 {XOAUTH2}"),
    ],
)
def test_who_logs_in_says_it_in_one_line(mechanisms: str, token: bool, first: str) -> None:
    script = answering(EHLO=offering(mechanisms), AUTH=b"235 2.7.0 Welcome\r\n")
    with scripted(script) as server, met(server) as session:
        assert session.auth("us@us.example", "secret", token) == Reply(235, "2.7.0", "Welcome")
        verb, mechanism, response = server.conversations[0].lines[-1].split(" ")
        assert (verb, f"{mechanism} {decoded(response)}") == ("AUTH", first)


def test_login_is_asked_for_both() -> None:
    asked = [b"334 UGFzc3dvcmQ6\r\n", b"235 2.7.0 Welcome\r\n"]
    script = answering(EHLO=offering("LOGIN"), AUTH=b"334 VXNlcm5hbWU6\r\n", RESPONSE=asked)
    with scripted(script) as server, met(server) as session:
        assert session.auth("us@us.example", "secret").code == 235
        assert list(map(decoded, server.conversations[0].lines[-2:])) == ["us@us.example", "secret"]


@pytest.mark.parametrize(
    "said", [{"AUTH": b"535 5.7.8 No\r\n"}, {"AUTH": b"334 x\r\n", "RESPONSE": b"535 5.7.8 No\r\n"}]
)
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_password_may_be_refused(said: dict[str, bytes], mechanism: str) -> None:
    with scripted(answering(EHLO=offering(mechanism), **said)) as server, met(server) as session:
        assert session.auth("us@us.example", "wrong") == Reply(535, "5.7.8", "No")


@pytest.mark.parametrize(("mechanism", "answer"), [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")])
def test_a_token_s_refusal_has_a_reason_that_is_acknowledged(mechanism: str, answer: str) -> None:
    """334 and JSON in base64; only after an empty answer, or ^A (RFC 7628 §3.2.3), the refusal itself comes."""
    heard = []

    def script(one: Conversation) -> None:
        one.say(GREETING["CONNECT"])
        one.hear()
        one.say(offering(mechanism))
        one.hear()
        one.say(b"334 eyJzdGF0dXMiOiI0MDEifQ==\r\n")
        heard.append(one.hear())
        one.say(b"535 5.7.8 Bad token\r\n")

    with scripted(script) as server, met(server) as session:
        assert session.auth("us@us.example", "secret", token=True) == Reply(535, "5.7.8", "Bad token")
        assert heard == [answer]


@pytest.mark.parametrize("said", [{"AUTH": b"334 x\r\n", "RESPONSE": b"334 x\r\n"}, {"AUTH": b"250 Ok\r\n"}])
def test_who_is_asked_on_and_on_is_not_logged_in(said: dict[str, bytes]) -> None:
    with scripted(answering(EHLO=offering("LOGIN"), **said)) as server, met(server) as session, pytest.raises(Lost):
        session.auth("us@us.example", "secret")


@pytest.mark.parametrize(
    ("ehlo", "token", "got"),
    [
        (offering("XOAUTH2"), False, "PLAIN or LOGIN, got XOAUTH2"),
        (offering("LOGIN"), True, "XOAUTH2 or OAUTHBEARER, got LOGIN"),
        (GREETING["EHLO"], False, "PLAIN or LOGIN, got no AUTH"),
    ],
)
def test_without_a_mechanism_nothing_secret_is_said(ehlo: bytes, token: bool, got: str) -> None:
    with scripted(answering(EHLO=ehlo)) as server, met(server) as session:
        with pytest.raises(ValueError, match=got):
            session.auth("us@us.example", "secret", token)
        assert server.verbs == ["EHLO"]


# The text


@pytest.mark.parametrize("recipients", [1, 2])
def test_a_text_has_exactly_its_size(recipients: int) -> None:
    to = tuple(f"to{number}@d01.google-mx.test" for number in range(recipients))
    for size in range(300, 701):
        message = text("us-1234", "rep01@us.example", to, size)
        body, end = message[:-3], message[-3:]
        assert (len(body), end) == (size, b".\r\n")
        lines = body.split(b"\r\n")
        assert lines[-1] == b""  # the last line is whole
        assert not any(b"\r" in line or b"\n" in line or line.startswith(b".") or len(line) > 78 for line in lines)
        found = message_from_bytes(body)
        assert (found["Message-ID"], found["X-Sendlab-ID"]) == ("<us-1234@sendlab.example>", "us-1234")


def test_a_text_is_never_shorter_than_its_header() -> None:
    message = text("us-1234", "rep01@us.example", TO, 10)
    assert message_from_bytes(message[:-3])["X-Sendlab-ID"] == "us-1234"
    assert message.endswith(b"\r\n\r\n.\r\n")


# Against the fakes, and beside a client that others wrote


@pytest.mark.parametrize("name", SERVED)
def test_every_fake_takes_a_message_from_it(name: str) -> None:
    provider = Provider.load(name).on(START.date())
    sender = "rep01@us.example"

    def talk(port: int, token: str) -> list[int]:
        with Meeting("127.0.0.1", port, "127.0.1.7") as session:
            said = [session.banner(), session.ehlo()]
            if provider.tls == "required":
                said.append(session.starttls(trusting(), "127.0.0.1"))
            if provider.role == "submission" and provider.auth:
                tokens = provider.auth[0] in ("XOAUTH2", "OAUTHBEARER")
                said.append(session.auth(sender, token if tokens else "password", tokens))
            said.append(session.offer(sender, TO)[1])
            said.append(session.send(text("us-7", sender, TO, 1_000)))
            said.append(session.rset())
            session.quit()
            return [reply.code for reply in said]

    async def meet() -> None:
        async with running(provider) as server:
            token = server.fake.issue_token(sender, sender) or ""
            codes = await asyncio.to_thread(talk, server.port, token)
            assert codes[-3:] == [354, 250, 250]
            taken = [(line["ip"], line["message_id"], line["bytes"]) for line in server.entries]
            assert taken == [("127.0.1.7", "us-7", 1_000)]

    asyncio.run(meet())


def test_it_reads_the_same_replies_as_smtplib() -> None:
    script = answering(
        EHLO=PIPELINING,
        RCPT=[GREETING["RCPT"]] * 2 + [b"452-4.5.3 Too many\r\n452 4.5.3 recipients\r\n"],
        EOD=b"552-5.3.4 Too\r\n552 5.3.4 large\r\n",
    )
    message = text("us-1", "us@us.example", TO, 500)
    with scripted(script) as server, met(server) as session, smtplib.SMTP("127.0.0.1", server.port) as other:
        other.ehlo()
        assert set(session.keywords) == {name.upper() for name in other.esmtp_features}
        other.mail("us@us.example")
        other.rcpt(TO[0])
        code, said = other.data(message[:-3])
        session.offer("us@us.example", TO)
        assert session.send(message) == Reply(code, "5.3.4", said.decode().replace("5.3.4 ", ""))
        ours, theirs = server.conversations
        assert ours.texts == theirs.texts
        other.mail("us@us.example")
        code, said = other.rcpt(TO[0])
        assert session.offer("us@us.example", TO) == ("RCPT", Reply(code, "4.5.3", said.decode().replace("4.5.3 ", "")))
