"""DNS beside the fakes: it leads a relay to them, knows nothing else, and a real Postfix finds its way by it."""

import json
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from dnslib import DNSRecord
from hypothesis import given
from hypothesis import strategies as st
from postfix import NAMESERVER, PASSING_ON, missing, postfix
from test_serve import refused, serving

from fake_servers.accounts import is_reserved
from fake_servers.zone import Zone, hosts_of
from simlib import provider
from simlib.provider import Provider

EVERY: Final = {name: one for name in provider.names() if (one := Provider.load(name)).transport == "smtp"}
WITHIN: Final = 60.0  # seconds


def zone(*served: str) -> Zone:
    return Zone([EVERY[name] for name in served], "127.0.0.1")


def asked(one: Zone, name: str, kind: str) -> tuple[str, list[str]]:
    """Ask as a client does: the code, and the records."""
    answer = one.answer(bytes(DNSRecord.question(name, kind).pack()))
    return read(answer)


def read(answer: bytes | None) -> tuple[str, list[str]]:
    assert answer is not None
    found = DNSRecord.parse(answer)
    return str(DNSRecord.parse(answer)).split("status: ")[1].split(",")[0], [str(one.rdata) for one in found.rr]


# What it knows


@pytest.mark.parametrize(
    ("name", "kind", "code", "records"),
    [
        ("google-mx.test", "MX", "NOERROR", ["10 gmail-smtp-in.l.google.com.", "20 aspmx.l.google.com."]),
        ("d07.Google-MX.TEST", "MX", "NOERROR", ["10 gmail-smtp-in.l.google.com.", "20 aspmx.l.google.com."]),
        ("a.b.yahoo-mx.test", "MX", "NOERROR", ["10 mx1.yahoodns.net."]),
        ("gmail-smtp-in.l.google.com", "A", "NOERROR", ["127.0.0.10"]),
        ("aspmx.l.google.com", "A", "NOERROR", ["127.0.0.11"]),
        ("mx1.yahoodns.net", "A", "NOERROR", ["127.0.0.12"]),
        ("mx1.yahoodns.net", "AAAA", "NOERROR", []),
        ("mx1.yahoodns.net", "MX", "NOERROR", []),
        ("us.example", "MX", "NOERROR", ["10 gmail-smtp-in.l.google.com.", "20 aspmx.l.google.com."]),
        ("us.example", "TXT", "NOERROR", []),
        ("us.example", "A", "NOERROR", []),
        ("_dmarc.us.example", "TXT", "NOERROR", []),
        ("localhost", "A", "NOERROR", ["127.0.0.1"]),
        ("7.1.0.127.in-addr.arpa", "PTR", "NOERROR", ["127-0-1-7.sendlab.example."]),
        ("127-0-1-7.sendlab.example", "A", "NOERROR", ["127.0.1.7"]),
        ("7.1.0.127.in-addr.arpa", "TXT", "NOERROR", []),
        ("d01.generic-mx.test", "MX", "NXDOMAIN", []),  # a provider that isn't served
        ("d01.gmail-oauth.test", "MX", "NXDOMAIN", []),
        ("us.invalid", "MX", "NXDOMAIN", []),
        ("google.com", "MX", "NXDOMAIN", []),
        ("mx2.yahoodns.net", "A", "NXDOMAIN", []),
        ("x.aspmx.l.google.com", "A", "NXDOMAIN", []),
        ("example.jp", "MX", "NXDOMAIN", []),
        ("google-mx.test.example.jp", "MX", "NXDOMAIN", []),
        ("1.0.0.10.in-addr.arpa", "PTR", "NXDOMAIN", []),
        ("300.0.0.127.in-addr.arpa", "PTR", "NXDOMAIN", []),
        (".", "MX", "NXDOMAIN", []),
    ],
)
def test_answers(name: str, kind: str, code: str, records: list[str]) -> None:
    assert asked(zone("google-mx", "yahoo-mx"), name, kind) == (code, records)


@pytest.mark.parametrize(
    ("served", "records"),
    [
        (["google-mx", "generic-mx"], ["10 mx.generic-mx.test."]),
        (["office365", "yahoo-mx", "google-mx"], ["10 mx1.yahoodns.net."]),
    ],
)
def test_senders_get_their_reports_where_nothing_else_is_measured(served: list[str], records: list[str]) -> None:
    assert asked(zone(*served), "us.example", "MX") == ("NOERROR", records)


def test_without_a_mailbox_provider_senders_have_no_domain() -> None:
    assert asked(zone("office365"), "us.example", "MX") == ("NXDOMAIN", [])
    assert asked(zone("office365"), "smtp.office365.com", "A") == ("NOERROR", ["127.0.0.10"])


def test_the_address_that_is_in_use_is_left_out() -> None:
    addresses = [one.address for one in Zone([EVERY["google-mx"], EVERY["yahoo-mx"]], "127.0.0.11").exchanges]
    assert addresses == ["127.0.0.10", "127.0.0.12", "127.0.0.13"]


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_provider_s_answer_fits_in_a_datagram(name: str) -> None:
    longest = f"{'.'.join(['x' * 63] * 3)}.{'x' * (55 - len(name))}.{name}.test"
    assert len(longest) == 253
    answer = zone(name).answer(bytes(DNSRecord.question(longest, "MX").pack()))
    assert answer is not None
    assert len(read(answer)[1]) == len(hosts_of(EVERY[name]))
    assert len(answer) <= 512


# What it never does

WORDS: Final = (
    *("google-mx", "yahoo-mx", "office365", "smtp", "google", "l", "aspmx", "mx1", "yahoodns", "127-0-0-1", "sendlab"),
    *("test", "example", "com", "net", "org", "jp", "localhost", "invalid", "10", "127", "in-addr", "arpa"),
)
NAME: Final = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(".".join)


@given(NAME, st.sampled_from(["A", "AAAA", "MX", "PTR", "TXT", "ANY", "SOA", "NS", "CNAME", "SRV"]))
def test_it_speaks_only_of_reserved_domains_and_of_what_is_served(name: str, kind: str) -> None:
    one = zone("google-mx", "yahoo-mx", "office365")
    ours = {exchange.name for exchange in one.exchanges}
    code, records = asked(one, name, kind)
    if not (is_reserved(name) or name in ours or name.endswith(".127.in-addr.arpa")):
        assert (code, records) == ("NXDOMAIN", [])
    for record in records:
        if kind == "A":
            assert record.startswith("127.")
        elif kind == "MX":
            assert record.split()[1].rstrip(".") in ours
        else:
            assert (kind, record.endswith(".sendlab.example.")) == ("PTR", True)


@given(st.binary(max_size=60), st.binary(max_size=40))
def test_rubbish_gets_an_error_or_nothing(head: bytes, name: bytes) -> None:
    one = zone("google-mx")
    for request in (head, b"\0\1\1\0\0\1\0\0\0\0\0\0" + name, b"\0\1\1\0\0\1\0\0\0\0\0\0" + name + b"\0\0\1\0\1"):
        answer = one.answer(request)
        assert answer is None or (answer[:2] == request[:2] and answer[2] & 0x80)


def test_an_answer_is_not_answered() -> None:
    one = zone("google-mx")
    answer = one.answer(bytes(DNSRecord.question("us.example", "MX").pack()))
    assert answer is not None
    assert one.answer(answer) is None


QUESTION: Final = b"\x02us\x07example\0\0\x0f\0\1"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"\0\1\1\0\0\1\0\0\0\0\0\0" + QUESTION, "NOERROR"),
        (b"\0\1\x29\0\0\1\0\0\0\0\0\0" + QUESTION, "NOTIMP"),  # an UPDATE
        (b"\0\1\1\0\0\2\0\0\0\0\0\0" + QUESTION * 2, "FORMERR"),
        (b"\0\1\1\0\0\0\0\0\0\0\0\0", "FORMERR"),
        (b"\0\1\1\0\0\1\0\0\0\0\0\0" + QUESTION[:-1] + b"\3", "REFUSED"),  # class CHAOS
        (b"\0\1\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", "FORMERR"),  # a name that points to itself
        (b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\x3f" + b"x" * 63 + QUESTION, "NOERROR"),
        (b"\0\1\1\0\0\1\0\0\0\0\0\0" + (b"\x3f" + b"x" * 63) * 4 + QUESTION, "FORMERR"),  # longer than a name is
        (b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\x0aus.example" + b"\0\0\x0f\0\1", "NXDOMAIN"),  # dots within a label
        (b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\2us\5te\xc5\xbft" + b"\0\0\x0f\0\1", "NXDOMAIN"),  # a long s
    ],
)
def test_odd_questions(request_: bytes, code: str) -> None:
    assert read(zone("google-mx").answer(request_))[0] == code


# Served


def ask(port: int, name: str, kind: str, tcp: bool) -> list[str]:
    answer = DNSRecord.question(name, kind).send("127.0.0.1", port, tcp=tcp, timeout=20)
    return [str(one.rdata) for one in DNSRecord.parse(answer).rr]


def test_the_names_lead_to_the_fakes(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    served = "google-mx", "yahoo-mx", "generic-mx"
    with serving(*served, "--dns-port", 0, "--ca", ca, listeners=3 + 4) as server:
        assert [line.get("name") for line in server.lines[:3]] == [None] * 3
        assert {line["dns"] for line in server.lines} == {server.lines[0]["dns"]}
        assert len({line["port"] for line in server.lines[3:]}) == 1
        dns, port = server.lines[0]["dns"], server.lines[3]["port"]
        where = {line["name"]: (line["host"], line["provider"]) for line in server.lines[3:]}
        context = ssl.create_default_context(cafile=str(ca))
        for name in served:
            for host in hosts_of(EVERY[name]):
                addresses = [ask(dns, host, "A", tcp) for tcp in (False, True)]
                assert addresses == [[where[host][0]]] * 2
                with smtplib.SMTP(addresses[0][0], port, timeout=20) as client:
                    client._host = host  # type: ignore[attr-defined] # the name that the certificate is for
                    assert client.starttls(context=context)[0] == 220
                    client.sendmail("", [f"to@d01.{name}.test"], "Subject: x\n\nhello")
        entries = [json.loads(line) for line in server.get("/ledger").splitlines()]
        assert [entry["provider"] for entry in entries] == ["google-mx", "google-mx", "yahoo-mx", "generic-mx"]


def test_a_tcp_connection_takes_questions_as_they_come_and_rubbish_ends_it() -> None:
    with serving("google-mx", "--dns-port", 0, listeners=3) as server:
        with socket.create_connection(("127.0.0.1", server.lines[0]["dns"]), timeout=20) as client:
            question = bytes(DNSRecord.question("us.example", "MX").pack())
            framed = len(question).to_bytes(2) + question
            client.sendall(framed + framed[:5])
            stream = client.makefile("rb")
            assert read(stream.read(int.from_bytes(stream.read(2))))[0] == "NOERROR"
            client.sendall(framed[5:])
            assert read(stream.read(int.from_bytes(stream.read(2))))[0] == "NOERROR"
            client.sendall(b"\0\3abc")
            assert stream.read() == b""
        with socket.create_connection(("127.0.0.1", server.lines[0]["dns"]), timeout=20):
            assert server.stop() == 0
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["google-mx", "--host", "0.0.0.0"], "--host must be a loopback address with --dns-port"),
        (["google-mx", "--host", "localhost"], "--host must be a loopback address with --dns-port"),
        (["gmail", "gmail-personal"], "--dns-port: gmail and gmail-personal both have the host smtp.gmail.com"),
    ],
)
def test_what_dns_can_not_show_is_refused(
    arguments: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(capsys, *arguments, "--dns-port", "0", "--port", "0", "--control-port", "0")


def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.11", 0)) as taken, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        port = taken.getsockname()[1]
        said = refused(capsys, "google-mx", "--dns-port", 0, "--port", port, "--control-port", 0)
        assert said.endswith(f"--port: can't listen on 127.0.0.11 port {port}: Address already in use")
        datagrams.bind(("127.0.0.1", 0))
        port = datagrams.getsockname()[1]
        said = refused(capsys, "google-mx", "--dns-port", port, "--port", 0, "--control-port", 0)
        assert said.endswith(f"--dns-port: can't listen on 127.0.0.1 port {port}: Address already in use")


# A relay


def unable() -> str:
    """Say why no Postfix can be sent to our nameserver here; empty if it can."""
    if missing():
        return missing()
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "a process can't have its own /etc/resolv.conf here (unshare --mount)"


@pytest.mark.skipif(bool(unable()), reason=unable())
def test_a_real_postfix_finds_the_fakes_and_its_reports_arrive() -> None:
    options = "--host", NAMESERVER, "--dns-port", 53
    with serving("google-mx", "microsoft-mx", "generic-mx", *options, listeners=3 + 6) as server:
        server.post("/blocked", ip="127.0.0.1", blocked=1, provider="microsoft-mx")
        settings = {
            "mynetworks": "127.0.0.0/8",
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtp_dns_support_level": "enabled",
            "smtp_host_lookup": "dns",
            "smtp_bind_address": "127.0.0.1",
            "smtp_tcp_port": str(server.lines[3]["port"]),
            "smtp_tls_security_level": "may",
        }
        with postfix(settings, {}, PASSING_ON, NAMESERVER) as port:
            with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
                for number, domain in enumerate(["d07.google-mx.test", "d01.microsoft-mx.test", "us.invalid"]):
                    text = f"Message-ID: <us-{number}@sendlab.example>\n\nhello"
                    client.sendmail("rep01@us.example", [f"to{number}@{domain}"], text)
            entries = until_reported(server, 2)
    accepted = [(one["provider"], one["message_id"]) for one in entries if one["mail_from"] and one["code"] == 250]
    assert accepted == [("google-mx", "us-0")]
    refusal = next(one for one in entries if one["code"] >= 400)
    assert (refusal["provider"], refusal["code"]) == ("microsoft-mx", 550)
    reports = {one["report"]["message_id"]: one["report"]["recipients"] for one in entries if "report" in one}
    assert {one["provider"] for one in entries if "report" in one} == {"generic-mx"}
    assert sorted(reports) == ["us-1", "us-2"]
    ((refused_,), (unknown,)) = reports["us-1"], reports["us-2"]
    assert (refused_["recipient"], refused_["action"], refused_["status"]) == (
        *("to1@d01.microsoft-mx.test", "failed", "5.7.1"),
    )
    assert refused_["diagnostic"] == f"550 {refusal['enhanced']} {refusal['text']}"
    assert (unknown["recipient"], unknown["action"], unknown["status"]) == ("to2@us.invalid", "failed", "5.4.4")


def until_reported(server: Any, reports: int) -> list[dict[str, Any]]:
    """Wait for so many reports, and return the ledger."""
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        entries = [json.loads(line) for line in server.get("/ledger").splitlines()]
        if sum("report" in entry for entry in entries) >= reports:
            return entries
    raise TimeoutError(f"after {WITHIN:g} s the ledger has {entries}")
