"""Where load may go: loopback, or a host that was named; never a provider's, under whatever name or spelling."""

import socket
from typing import Any

import pytest

from simlib.provider import Provider, names
from simlib.safety import Target, checked

REAL = {host for name in names() for host in Provider.load(name).hosts}


def resolving(*addresses: str, alias: str = "") -> Any:
    """Look every name up as these addresses; real hosts have addresses of their own."""

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        found = ("203.0.113.9",) if host == "smtp.office365.com" else addresses
        if host in REAL and host != "smtp.office365.com":
            raise OSError("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, alias, (address, 0)) for address in found]

    return resolve


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("127.0.0.1:2525", "127.0.0.1"),
        ("127.4.5.6:25", "127.4.5.6"),
        ("[::1]:2525", "::1"),
        ("[::ffff:127.0.0.1]:25", "127.0.0.1"),
        ("localhost:2525", "127.0.0.1"),
        ("LOCALHOST.:2525", "127.0.0.1"),
    ],
)
def test_loopback_is_free(target: str, address: str) -> None:
    assert checked(target, resolve=resolving("127.0.0.1")).address == address


@pytest.mark.parametrize(
    "host",
    [
        *("smtp.office365.com", "SMTP.Office365.COM", "smtp.office365.com.", "ｓｍｔｐ．office365．com"),
        *(
            "smtp。office365。com",
            "smtp.office365.com。",
            "smtp.office365.com．",
            "smtp.office\u200b365.com",
        ),
        *("smtp.office365.com..", "SMTP.GMAIL.COM.", "aspmx.l.google.com", "us.mail.protection.outlook.com"),
        *("outlook.office365.com", "office365.com", "anything.l.google.com", "x.amazonaws.com"),
    ],
)
def test_a_provider_s_host_is_refused_however_it_is_spelled_and_whatever_is_allowed(host: str) -> None:
    with pytest.raises(ValueError, match="must not be a provider's own server"):
        checked(f"{host}:587", allowed=[host], resolve=resolving("127.0.0.1"))


@pytest.mark.parametrize("name", [name for name in names() if Provider.load(name).hosts])
def test_no_host_of_the_facts_is_a_target(name: str) -> None:
    for host in Provider.load(name).hosts:
        with pytest.raises(ValueError, match="must not be a provider's own server"):
            checked(f"mx{host}:25" if host.startswith(".") else f"{host}:25", allowed=[host])


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "010.0.0.1", "1.2.3", "8.8.2056"]
)
def test_an_address_is_spelled_out(host: str) -> None:
    with pytest.raises(ValueError, match=r"must (spell|be)"):
        checked(f"{host}:25", resolve=resolving("127.0.0.1"))


@pytest.mark.parametrize(
    "target", ["8.8.8.8:25", "10.0.0.1:25", "0.0.0.0:25", "[::]:25", "[::ffff:8.8.8.8]:25", "[2002:808:808::]:25"]
)
def test_what_is_not_loopback_has_to_be_named(target: str) -> None:
    with pytest.raises(ValueError, match="must be a loopback address, or a host named by --allow-host"):
        checked(target)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("relay.example", "RELAY.Example."),
        ("relay.example", "ｒｅｌａｙ．example"),
        ("[2001:db8::7]", "2001:DB8:0:0::0007"),
        ("2001:db8::7", "[2001:db8::7]"),
        ("[::ffff:10.0.0.7]", "10.0.0.7"),
    ],
)
def test_a_host_is_named_in_any_spelling(host: str, allowed: str) -> None:
    host = f"[{host}]" if ":" in host and "[" not in host else host
    found = checked(f"{host}:25", allowed=[allowed], resolve=resolving("10.0.0.7"))
    assert found.address in ("10.0.0.7", "2001:db8::7")


@pytest.mark.parametrize("allowed", ["relay.example:25", "example", "xrelay.example", "*", "10.0.0.70", ""])
def test_no_other_host_is_meant(allowed: str) -> None:
    with pytest.raises(ValueError, match=r"must be a loopback address|must be a name"):
        checked("relay.example:25", allowed=[allowed], resolve=resolving("10.0.0.7"))


@pytest.mark.parametrize(
    "address",
    ["203.0.113.9", "::ffff:203.0.113.9", "2002:cb00:7109::1", "64:ff9b::203.0.113.9", "2001:0:a00:1::34ff:8ef6"],
)
def test_a_provider_s_address_is_refused_also_where_a_gateway_leads_to_it(address: str) -> None:
    """As itself, as IPv6 has it, through 6to4 (RFC 3056), NAT64 (RFC 6052) and Teredo (RFC 4380)."""
    target = f"[{address}]:25" if ":" in address else f"{address}:25"
    with pytest.raises(ValueError, match=r"has the address of smtp\.office365\.com"):
        checked(target, allowed=[address], resolve=resolving("10.0.0.7"))


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "[::ffff:0.0.0.0]", "224.0.0.1", "[ff02::1]"])
def test_what_is_nobody_s_or_everybody_s_address_is_no_target_though_it_is_named(host: str) -> None:
    with pytest.raises(ValueError, match="must be one host's address"):
        checked(f"{host}:25", allowed=[host], resolve=resolving("10.0.0.7"))


def test_a_name_has_to_be_named_even_if_it_resolves_to_loopback() -> None:
    with pytest.raises(ValueError, match="or a host named by --allow-host"):
        checked("relay.example:25", resolve=resolving("127.0.0.1"))


def test_a_host_that_is_named_is_looked_up_once_and_its_address_kept() -> None:
    asked = []

    def rebinding(host: str, *_: Any, **__: Any) -> list[Any]:
        if host != "relay.example":
            raise OSError("no such name")
        asked.append(host)
        found: list[Any] = resolving("10.0.0.7" if len(asked) == 1 else "203.0.113.9")(host)
        return found

    found = checked("Relay.Example:25", allowed=["relay.example."], resolve=rebinding)
    assert found == Target("relay.example", "10.0.0.7", 25)
    assert asked == ["relay.example"]


def test_another_name_for_a_provider_s_server_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'relay\.example' has the address of smtp\.office365\.com"):
        checked("relay.example:25", allowed=["relay.example"], resolve=resolving("203.0.113.9"))
    alias = resolving("10.0.0.7", alias="smtp.office365.com")
    with pytest.raises(ValueError, match="must not be a provider's own server"):
        checked("relay.example:25", allowed=["relay.example"], resolve=alias)


def test_of_several_addresses_each_has_to_be_allowed() -> None:
    with pytest.raises(ValueError, match=r"or a host named by --allow-host, got '10\.0\.0\.1'"):
        checked("localhost:25", resolve=resolving("127.0.0.1", "10.0.0.1"))


@pytest.mark.parametrize("target", ["", "x", ":25", "localhost", "localhost:0", "localhost:65536", "::1:25", "a b:25"])
def test_a_target_is_a_host_and_a_port(target: str) -> None:
    with pytest.raises(ValueError, match="must"):
        checked(target, resolve=resolving("127.0.0.1"))


def test_a_refusal_comes_before_any_socket(say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", opened)
    monkeypatch.setattr(socket, "create_connection", opened)
    scenario = "notebooks/scenarios/twin_hour.toml"
    monkeypatch.setattr(socket, "getaddrinfo", opened)
    for target, *more in (
        ("smtp.sparkpostmail.com:587",),
        ("smtp.sparkpostmail.com:587", "--allow-host", "smtp.sparkpostmail.com"),
        ("10.0.0.1:25",),
        ("relay.example:25", "--allow-host", "other.example"),
        ("0x7f.1:25",),
        ("nonsense",),
    ):
        code, out, err = say("load", scenario, "--alternative", "SparkPost", "--target", target, *more)
        assert (code, out, err.count("\n")) == (2, "", 1)
