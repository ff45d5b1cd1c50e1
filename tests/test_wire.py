"""What stands on the wire is read as the RFCs have it, and nothing in it raises."""

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
    wire.message_id(f"Message-ID: {text}\r\n".encode())
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
    ],
)
def test_message_ids(head: bytes, found: str) -> None:
    assert wire.message_id(head) == found


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
