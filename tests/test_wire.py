"""What stands on the wire is read as the RFCs have it, and nothing in it raises."""

import time
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_servers import wire
from fake_servers.accounts import Anybody

ANY_TEXT = st.text(alphabet=st.characters(max_codepoint=0x17F), max_size=80)
ADDRESS = st.from_regex(r"[a-z0-9.+-]{1,20}@[a-z0-9]{1,10}\.example", fullmatch=True)


@pytest.mark.parametrize(
    ("argument", "found"),
    [
        ("TO:<a@b.example>", ("a@b.example", "")),
        ("to: <a@b.example>  NOTIFY=NEVER", ("a@b.example", "NOTIFY=NEVER")),
        ("TO:<@one.example,@two.example:a@b.example>", ("a@b.example", "")),
        ("TO:<Postmaster>", ("Postmaster", "")),
        ("TO:<>", ("", "")),
        ('TO:<"a b\\"@c"@d.example>', ('"a b\\"@c"@d.example', "")),
        ("TO:<a@[192.0.2.1]>", ("a@[192.0.2.1]", "")),
        ("TO:a@b.example", None),
        ("TO:<a@b.example", None),
        ("TO:<a>", None),
        ("TO:<a@b.example>x", None),
        ("TO:<a@b@c.example>", None),
        ("FROM:<a@b.example>", None),
    ],
)
def test_paths(argument: str, found: tuple[str, str] | None) -> None:
    assert wire.path(argument, "TO:") == found


@given(ADDRESS)
def test_every_plain_address_is_a_path_and_an_author(address: str) -> None:
    assert wire.path(f"FROM:<{address}>", "FROM:") == (address, "")
    assert wire.author(f"From: A Name <{address}>\r\n".encode()) == address
    assert wire.author(f"Subject: x\r\nFrom: {address}\r\n".encode()) == address


@given(ANY_TEXT)
def test_nothing_raises(text: str) -> None:
    wire.path(f"TO:{text}", "TO:")
    wire.parameters(text)
    wire.decoded(text)
    wire.plain(text)
    wire.bearer(text)
    wire.author(f"From: {text}\r\n".encode())
    wire.message_id(f"Message-ID: {text}\r\nX-Sendlab-ID: {text}\r\n".encode())
    Anybody().get(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("SIZE=10 body=8BITMIME", {"SIZE": "10", "BODY": "8BITMIME"}),
        ("SIZE=1 SIZE=2", None),
        ("SIZE=", None),
        ("=1", None),
        ("AUTH=<>", {"AUTH": "<>"}),
    ],
)
def test_parameters(text: str, found: dict[str, str] | None) -> None:
    assert wire.parameters(text) == found


@pytest.mark.parametrize(
    ("head", "address"),
    [
        (b"Subject: x\r\n", ""),
        (b"from:a@b.example\r\n", "a@b.example"),
        (b"From: a@b.example, c@d.example\r\n", "a@b.example"),
        (b'From: "Last, First <no@where>" <a@b.example>\r\n', "a@b.example"),
        (b"From: =?utf-8?q?J=C3=BCrgen?=\r\n <a@b.example>\r\n", "a@b.example"),
        (b"From: a@b.example (a comment)\r\n", "a@b.example"),
        (b"X-From: no@b.example\r\nFrom: a@b.example\r\nFrom: c@d.example\r\n", "a@b.example"),
        (b"From: nobody\r\n", ""),
        (b"From: \xff\xfe <a@b.example>\r\n", "a@b.example"),
    ],
)
def test_authors(head: bytes, address: str) -> None:
    assert wire.author(head) == address


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"", ""),
        (b"Message-ID: <us-1@sendlab.example>\r\n", "us-1"),
        (b"MESSAGE-ID:\r\n <us-1@sendlab.example>\r\n", "us-1"),
        (b"Message-Id: <1@sendlab.example.com>\r\n", "<1@sendlab.example.com>"),
        (b"References: <us-1@sendlab.example>\r\n", ""),
        (b"X-Sendlab-ID: us-1\r\n", "us-1"),
        (b"x-sendlab-id:us-1 \r\nMessage-ID: <1@relay.example>\r\n", "us-1"),
        (b"Message-ID: <1@relay.example>\r\nX-SENDLAB-ID:\r\n us-1\r\nTo: x\r\n", "us-1"),
        (b"X-Sendlab-ID: us-2\r\nMessage-ID: <us-1@sendlab.example>\r\n", "us-1"),
        (b"Message-ID: <1@relay.example>\r\nX-Sendlab-ID:\r\n", "<1@relay.example>"),
        (b"Message-ID: <1@relay.example>\r\nX-Sendlab-ID:\r\nTo: x\r\n", "<1@relay.example>"),
        (b"Message-ID: <1@relay.example>\r\nX-Not-X-Sendlab-ID: us-1\r\n", "<1@relay.example>"),
    ],
)
def test_message_ids(head: bytes, found: str) -> None:
    assert wire.message_id(head) == found


# Reports

STATUS = """\
Reporting-MTA: dns; relay.example
Arrival-Date: Tue, 24 Nov 2026 08:00:00 +0000 (UTC)

Original-Recipient: rfc822;to@them.example
Final-Recipient: rfc822; to@them.example
Action: failed
Status: 5.2.2
Remote-MTA: dns; mx.them.example
Diagnostic-Code: smtp; 452-4.2.2 Over quota.
    452 4.2.2 Go; away.

Final-Recipient: RFC822; two@them.example
Action: Delayed
Status: 4.4.1 (no connection)
"""
OURS = "Received: by relay.example\nMessage-ID: <us-7@sendlab.example>\nSubject: hello\n"
RECIPIENTS = [
    {
        "recipient": "to@them.example",
        "action": "failed",
        "status": "5.2.2",
        "diagnostic": "452-4.2.2 Over quota. 452 4.2.2 Go; away.",
    },
    {"recipient": "two@them.example", "action": "delayed", "status": "4.4.1", "diagnostic": ""},
]


def part(kind: str, text: str, more: str = "") -> str:
    return f"--b/1=\nContent-Type: {kind}\n{more}\n{text}\n"


def dsn(
    *parts: str, head: str = 'multipart/report; report-type=delivery-status;\n boundary="b/1="', end: str = ""
) -> bytes:
    text = f"From: MAILER-DAEMON\nContent-Type: {head}\n\nThis is MIME.\n\n{''.join(parts)}{end}"
    return text.replace("\n", "\r\n").encode()


NOTE = part("text/plain", "I'm sorry to have to inform you")
WHOLE = part("message/rfc822", f"{OURS}\nMessage-ID: <no@body.example>\n")


@pytest.mark.parametrize(
    "message",
    [
        dsn(NOTE, part("message/delivery-status", STATUS), WHOLE, end="--b/1=--\n"),
        dsn(NOTE, part("message/delivery-status", STATUS), part("text/rfc822-headers", OURS), end="--b/1=--\n\nbye\n"),
        dsn(part("message/delivery-status", STATUS), WHOLE, part("message/rfc822", "Message-ID: <2@relay.example>\n")),
        dsn(part("Message/Delivery-Status; x=1", STATUS), WHOLE),  # its end is missing
        dsn(NOTE, part("message/global-delivery-status", STATUS), part("message/global", f"{OURS}\nhello\n")),
        dsn(part("message/delivery-status", STATUS), WHOLE, head="Multipart/Report; boundary=b/1="),
        dsn(
            part("message/delivery-status", b64encode(STATUS.encode()).decode(), "Content-Transfer-Encoding: base64\n"),
            part("text/rfc822-headers", OURS.replace("<", "=3C"), "Content-Transfer-Encoding: quoted-printable\n"),
        ),
    ],
)
def test_a_report_names_the_message_and_what_became_of_each_recipient(message: bytes) -> None:
    assert wire.report(message) == {"message_id": "us-7", "recipients": RECIPIENTS}


def test_a_report_may_know_the_message_by_our_own_header_or_not_at_all() -> None:
    status = part("message/delivery-status", STATUS)
    own = OURS.replace("us-7@sendlab.example", "7@relay.example") + "X-Sendlab-ID: us-8\n"
    about = [wire.report(dsn(NOTE, status, *more)) for more in ((part("text/rfc822-headers", own),), ())]
    assert about == [{"message_id": id_, "recipients": RECIPIENTS} for id_ in ("us-8", "")]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"Subject: sorry\r\n\r\nIt bounced.\r\n",
        dsn(NOTE, WHOLE),
        dsn(part("message/delivery-status", "Reporting-MTA: dns; relay.example\n"), WHOLE),
        dsn(part("message/delivery-status", STATUS), WHOLE, head="multipart/mixed; boundary=b/1="),
        dsn(part("message/delivery-status", STATUS), WHOLE, head="multipart/report"),
        dsn(part("message/delivery-status", STATUS), WHOLE, head="multipart/report; boundary=other"),
        dsn(part("message/disposition-notification", "Final-Recipient: rfc822; to@them.example\n"), WHOLE),
        dsn(part("message/delivery-status", "!!", "Content-Transfer-Encoding: base64\n"), WHOLE),
    ],
)
def test_what_is_no_report(message: bytes) -> None:
    assert wire.report(message) is None


@given(st.binary(max_size=200), st.integers(0, 900), st.integers(0, 900))
def test_a_damaged_report_never_raises(junk: bytes, start: int, end: int) -> None:
    message = dsn(NOTE, part("message/delivery-status", STATUS), WHOLE, end="--b/1=--\n")
    found = wire.report(message[:start] + junk + message[end:])
    assert found is None or found["recipients"]


@pytest.mark.parametrize(
    "parts",
    [
        b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" * 5_000,
        b"--b\r\n" * 50_000,
        b"--b\r\nContent-Type: message/delivery-status\r\n\r\n" + b"\r\n \t" * 60_000,
        b"--b\r\nContent-Type: message/delivery-status\r\n\r\n" + b"Action: x\r\n\r\n" * 18_000,
    ],
)
def test_a_report_of_the_worst_kind_takes_no_time(parts: bytes) -> None:
    before = time.process_time()
    wire.report(b"Content-Type: multipart/report; boundary=b\r\n\r\n" + parts)
    assert time.process_time() - before < 5  # what is not linear takes minutes


@pytest.mark.parametrize(
    ("response", "credential"),
    [
        ("user=a@b.example\1auth=Bearer t\1\1", ("a@b.example", "t", "")),
        ("user=a@b.example\1auth=bearer t\1\1", ("a@b.example", "t", "")),
        ("n,a=a@b.example,\1host=h\1port=587\1auth=Bearer t\1\1", ("a@b.example", "t", "")),
        ("n,a=one=2Ctwo=3D@b.example,\1auth=Bearer t\1\1", ("one,two=@b.example", "t", "")),
        ("n,,\1auth=Bearer t\1\1", ("", "t", "")),
        ("n,a=a@b.example,\1auth=Basic t\1\1", None),
        ("n,a=a@b.example,\1auth=Bearer \1\1", None),
        ("user=a@b.example\1auth=Bearer t\1", None),
        ("p=tls-unique,,\1auth=Bearer t\1\1", None),
        ("", None),
    ],
)
def test_bearers(response: str, credential: tuple[str, str, str] | None) -> None:
    assert wire.bearer(response) == credential


def test_a_user_with_a_line_end_is_nobody() -> None:
    users = (
        "a\r\nb@us.example",
        "a b@us.example",
        "a@us.example\r\n",
        "a@u s.example",
        "a@b@us.example",
        "@us.example",
    )
    assert [Anybody().get(user) for user in users] == [None] * 6
