"""``python -m fake_servers`` as a process: options, listeners, signals, and bad input in one line."""

import json
import os
import signal
import smtplib
import socket
import ssl
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from fake_servers.__main__ import main
from simlib import provider
from simlib.port import held_port
from simlib.provider import Provider

REP = "rep01@us.example"
SCENARIO = """
name = "two channels"
duration = "1h"
start = "2026-12-01T08:00+09:00"
[[tenants]]
name = "us"
senders = 2
arrivals = { kind = "batches", size = 1 }
[alternatives.a]
channels = [{ name = "o", tenants = ["us"], to = "office365" }]
[alternatives.b]
channels = [{ name = "s", tenants = ["us"], to = "sparkpost" }]
[limits]
"office365/recipients-per-day" = "1/d"
[readings]
"office365/recipients-per-day" = "newer-text"
"""


class Server(NamedTuple):
    """A process that is ready."""

    process: subprocess.Popen[str]
    lines: list[dict[str, Any]]

    def smtp(self, number: int = 0) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.lines[number]["port"], "client.example", timeout=20)

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.lines[0]['control']}{path}", timeout=20) as answer:
            body: bytes = answer.read()
            return body

    def post(self, path: str, **form: object) -> Any:
        url = f"http://127.0.0.1:{self.lines[0]['control']}{path}"
        with urllib.request.urlopen(url, urlencode(form).encode(), timeout=20) as answer:
            return json.loads(answer.read())

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fake_servers", *map(str, arguments)]


@contextmanager
def serving(*arguments: object, listeners: int = 1, port: int = 0) -> Iterator[Server]:
    every = command(*arguments, "--port", port, "--control-port", 0)
    with subprocess.Popen(every, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server(process, [json.loads(process.stdout.readline()) for _ in range(listeners)])
        finally:
            process.kill()


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a call that can't be says: exit status 2, nothing on stdout, one line on stderr."""
    try:
        status: object = main([*map(str, arguments)])
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    return err.rstrip()


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


# Listeners


def test_several_providers_each_on_its_own_port() -> None:
    with serving("generic-mx", "yahoo-mx", listeners=2) as server:
        assert [set(line) for line in server.lines] == [{"provider", "host", "port", "tls", "control"}] * 2
        assert [line["provider"] for line in server.lines] == ["generic-mx", "yahoo-mx"]
        assert len({line["port"] for line in server.lines} | {server.lines[0]["control"]}) == 3
        for line, word in zip(server.lines, (b"ESMTP Postfix", b"yahoo.com ESMTP ready"), strict=True):
            with socket.create_connection((line["host"], line["port"])) as client:
                assert word in client.recv(1000)


def test_ports_follow_each_other_and_may_be_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with neighbours() as (_, second):
        said = refused(capsys, "generic-mx", "google-mx", "--port", second - 1, "--control-port", 0)
        assert said.endswith(f"--port: can't listen on 127.0.0.1 port {second}: Address already in use")
        said = refused(capsys, "generic-mx", "--port", 0, "--control-port", second)
        assert said.endswith(f"--control-port: can't listen on 127.0.0.1 port {second}: Address already in use")


@contextmanager
def neighbours() -> Iterator[tuple[int, int]]:
    """Two ports, one after the other, of which nobody else is given either: the first is free, the second is taken."""
    with ExitStack() as stack:
        while True:
            first = stack.enter_context(held_port())
            with suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", first + 1)))
                break
        yield first, first + 1


def test_tls_from_the_start_with_a_certificate_of_our_authority(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    with serving("gmail", "--tls-port", 0, "--ca", ca, listeners=2) as server:
        assert [line["tls"] for line in server.lines] == [False, True]
        context = ssl.create_default_context(cafile=str(ca))
        with smtplib.SMTP_SSL("localhost", server.lines[1]["port"], context=context, timeout=20) as client:
            assert client.login(REP, "password")[0] == 235
        with server.smtp() as client:
            client.starttls(context=context)
            assert client.login(REP, "password")[0] == 235


def test_the_certificate_is_good_for_the_real_names_of_every_provider(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    every = {name: found for name in provider.names() if (found := Provider.load(name)).transport == "smtp"}
    with serving(*every, "--tls-port", 0, "--ca", ca, listeners=2 * len(every)) as server:
        context = ssl.create_default_context(cafile=str(ca))
        for line in server.lines:
            for host in every[line["provider"]].hosts if line["tls"] else ():
                name = f"mx1{host}" if host.startswith(".") else host
                with socket.create_connection((line["host"], line["port"])) as client:
                    context.wrap_socket(client, server_hostname=name).close()


def test_starttls_works_before_the_certificates_are_made() -> None:
    with serving("office365") as server, server.smtp() as client:
        client.starttls(context=unverified())
        assert client.login(REP, "password") == (235, b"2.7.0 Authentication successful")


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_and_the_ledger_is_complete(number: int, tmp_path: Path) -> None:
    ledger = tmp_path / "server.jsonl"
    with serving("generic-mx", "--ledger", ledger) as server:
        client = server.smtp()
        client.sendmail("a@us.example", ["b@them.example"], "Message-ID: <us-1@sendlab.example>\n\nhello")
        assert server.stop(number) == 0
        assert client.getreply() == (421, b"4.3.2 Service not available, closing transmission channel")
        client.close()
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
    (line,) = ledger.read_text().splitlines()
    assert json.loads(line)["message_id"] == "us-1"


def test_a_client_that_resets_before_its_greeting_is_no_error() -> None:
    with serving("generic-mx") as server:
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", server.lines[0]["port"])) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() is a reset
        with server.smtp() as client_after:
            assert client_after.noop()[0] == 250
        assert server.stop() == 0
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""


def test_kill_9_loses_no_accepted_message(tmp_path: Path) -> None:
    ledger = tmp_path / "server.jsonl"
    ledger.write_text('{"an": "older line"}\n')
    with serving("generic-mx", "--ledger", ledger) as server:
        client = server.smtp()
        for number in range(50):
            client.sendmail("a@us.example", ["b@them.example"], f"Message-ID: <us-{number}@sendlab.example>\n\nhello")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(20)
        client.close()
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [line.get("message_id") for line in lines] == [None, *(f"us-{number}" for number in range(50))]


# Options


def test_start_and_virtual_clock_and_readings() -> None:
    options = ["--clock", "virtual", "--start", "08:30", "--as-of", "2026-12-01"]
    with serving("office365", *options, "--reading", "office365/messages-per-minute=reject") as server:
        with socket.create_connection(("127.0.0.1", server.lines[0]["port"])) as raw:
            assert b"Tue, 01 Dec 2026 08:30:00 +0000" in raw.recv(1000)
        client = server.smtp()
        client.starttls(context=unverified())
        client.login(REP, "password")
        for _ in range(30):
            client.sendmail(REP, ["b@them.example"], "Subject: x\n\nhello")
        for seconds in (0, 59.5):
            server.post("/clock", seconds=seconds)
            with pytest.raises(smtplib.SMTPDataError) as refusal:
                client.sendmail(REP, ["b@them.example"], "Subject: x\n\nhello")
            assert refusal.value.args == (550, b"5.2.2 Submission quota exceeded")
        server.post("/clock", seconds=60)
        client.sendmail(REP, ["b@them.example"], "Subject: x\n\nhello")
        client.quit()


def test_an_account_s_own_amounts_and_the_size_that_is_announced() -> None:
    own = "--limit", "office365/message-size=1000", "--limit", "office365/recipients-per-day=1/h"
    with (
        serving("office365", "postmark", *own, listeners=2) as server,
        server.smtp() as client,
        server.smtp(1) as other,
    ):
        client.starttls(context=unverified())
        client.login(REP, "password")
        assert client.esmtp_features["size"] == "1000"
        client.sendmail(REP, ["b@them.example"], "Subject: x\n\nhello")
        with pytest.raises(smtplib.SMTPDataError, match="SubmissionQuotaExceeded"):
            client.sendmail(REP, ["b@them.example"], "Subject: x\n\nhello")
        other.ehlo()
        assert other.esmtp_features["size"] == "10485760"


def test_a_scenario_brings_providers_limits_readings_start_and_accounts(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text(SCENARIO)
    with serving("--scenario", path, "--clock", "virtual", listeners=2) as server:
        assert [line["provider"] for line in server.lines] == ["office365", "sparkpost"]
        assert json.loads(server.get("/state"))["clock"]["start"] == "2026-12-01T08:00:00+09:00"
        with server.smtp() as client:
            client.starttls(context=unverified())
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("rep03@us.example", "password")
            client.login("rep02@us.example", "password")
            client.sendmail("rep02@us.example", ["b@them.example"], "Subject: x\n\nhello")
            with pytest.raises(smtplib.SMTPDataError) as refusal:
                client.sendmail("rep02@us.example", ["b@them.example"], "Subject: x\n\nhello")
            assert refusal.value.smtp_code == 550
        with server.smtp(1) as client:
            client.starttls(context=unverified())
            client.login("us.example", "password")
            client.sendmail("anybody@us.example", ["b@them.example"], "Subject: x\n\nhello")


def test_an_accounts_file(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text('[[accounts]]\nuser = "Key"\npassword = "s3cret"\ndomains = ["us.example"]\n')
    with serving("sparkpost", "--accounts", path) as server, server.smtp() as client:
        client.starttls(context=unverified())
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("SMTP_Injection", "password")
        client.login("key", "s3cret")
        client.sendmail("anybody@us.example", ["b@them.example"], "Subject: x\n\nhello")
        with pytest.raises(smtplib.SMTPDataError) as refusal:
            client.sendmail("anybody@other.example", ["b@them.example"], "Subject: x\n\nhello")
        assert refusal.value.args == (550, b"5.7.1 Unconfigured Sending Domain <other.example>")


def test_sparkpost_s_own_user() -> None:
    with serving("sparkpost") as server, server.smtp() as client:
        client.starttls(context=unverified())
        assert client.login("SMTP_Injection", "password") == (235, b"2.0.0 Authed. Go on.")


def test_a_faults_file(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(
        '[[faults]]\nkind = "refuse"\nat = "RCPT"\nreply = "450 4.2.1 Try later"\nrecipient = "b@*"\n'
        '[[faults]]\nkind = "lose_reply"\nprovider = "yahoo-mx"\n'
    )
    with serving("generic-mx", "yahoo-mx", "--faults", path, listeners=2) as server:
        with server.smtp() as client:
            client.sendmail(REP, ["a@them.example"], "Subject: x\n\nhello")
            with pytest.raises(smtplib.SMTPRecipientsRefused) as refusal:
                client.sendmail(REP, ["b@them.example"], "Subject: x\n\nhello")
            assert refusal.value.recipients == {"b@them.example": (450, b"4.2.1 Try later")}
        with pytest.raises(smtplib.SMTPServerDisconnected), server.smtp(1) as client:
            client.sendmail(REP, ["a@them.example"], "Subject: x\n\nhello")
        ledger = [json.loads(line) for line in server.get("/ledger").splitlines()]
        assert [(line["code"], line.get("fault")) for line in ledger] == [
            (250, None),
            (450, "refuse-1"),
            (250, "lose_reply-2"),
        ]


def test_faults_of_a_provider_that_is_not_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "faults.toml"
    path.write_text('[[faults]]\nkind = "lose_reply"\nprovider = "yahoo-mx"\n')
    assert "faults[lose_reply-1].provider: unknown provider 'yahoo-mx'" in refused(
        capsys, "generic-mx", "--faults", path
    )


# Bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "PROVIDER is missing"),
        (["nobody"], "unknown provider 'nobody'"),
        (["office365", "office365"], "PROVIDER given twice: 'office365'"),
        (["gmail-oauth"], "gmail-oauth speaks HTTP, not SMTP"),
        (["office365", "--port", "70000"], "--port: must be a number from 0 to 65535, got '70000'"),
        (["office365", "--host", "192.0.2.1", "--port", "0"], "can't listen on 192.0.2.1"),
        (["office365", "--host", "no.such.invalid", "--port", "0"], "can't listen on no.such.invalid"),
        (["office365", "--dns-port", "x"], "--dns-port: must be a number from 0 to 65535, got 'x'"),
        (["office365", "--faults", "/no/such/file"], "/no/such/file: No such file or directory"),
        (["office365", "--time-scale", "0"], "--time-scale: must be a number above 0, got '0'"),
        (["office365", "--clock", "virtual", "--time-scale", "60"], "a virtual one is moved, got 60"),
        (["office365", "--clock", "sun"], "invalid choice: 'sun'"),
        (["office365", "--start", "noon"], "--start: must be a time like '08:00', got 'noon'"),
        (["office365", "--as-of", "today"], "--as-of: must be a date like 2026-12-01, got 'today'"),
        (["office365", "--reading", "x"], "must look like office365/messages-per-minute=reject, got 'x'"),
        (["office365", "--reading", "gmail/logins=x"], "must be of a provider that is served (office365)"),
        (["office365", "--reading", "office365/messages-per-minute=x"], "no reading 'x' of messages-per-minute"),
        (["office365", "--limit", "x"], "must look like office365/messages-per-minute=100/min, got 'x'"),
        (["office365", "--limit", "gmail/logins=1"], "--limit must be of a provider that is served (office365)"),
        (["office365", "--limit", "office365/logins=1"], "office365 has no limit 'office365/logins'"),
        (["office365", "--limit", "office365/messages-per-minute=5/fortnight"], "got '5/fortnight'"),
        (["office365", "--accounts", "/no/such/file"], "/no/such/file: No such file or directory"),
        (["office365", "--ledger", "/no/such/file"], "/no/such/file: No such file or directory"),
        (["office365", "--ca", "/no/such/file", "--port", "0"], "/no/such/file: No such file or directory"),
        (["--scenario", "/no/such/file"], "/no/such/file: No such file or directory"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    arguments: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "accounts: missing"),
        ("accounts = 3", "accounts: "),
        ("[[accounts]]\npassword = 's3cret'", "accounts[1].user: missing"),
        ("[[accounts]]\nuser = 'a'\npasword = 's3cret'", "accounts[1].pasword: unknown key"),
        ("[[accounts]]\nuser = 'a'\npassword = ['s3cret']", "accounts[1].password: "),
        ("[[accounts]]\nuser = 'a'\n[[accounts]]\nuser = 'A'", "user given twice: 'a'"),
        ("[[accounts]]\npassword = 's3cret", "not valid TOML"),
    ],
)
def test_a_bad_accounts_file_is_refused_without_showing_a_secret(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text(text)
    said = refused(capsys, "office365", "--accounts", path)
    assert words in said
    assert "s3cret" not in said


def test_a_scenario_s_stranger_is_not_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "two.toml"
    path.write_text(SCENARIO)
    assert "no channel goes to 'gmail' (there are: office365, sparkpost)" in refused(
        capsys, "gmail", "--scenario", path
    )


def test_bad_input_ends_the_process_with_2() -> None:
    done = subprocess.run(command("nobody"), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sendlab serve: unknown provider 'nobody' (there are: ")
    assert done.stderr.count("\n") == 1


# What it costs to start


def test_it_loads_nothing_that_only_a_simulation_needs() -> None:
    heavy = ["simpy", "numpy", "pandas", "scipy", "matplotlib", "locust", "trustme", "prometheus_client"]
    code = f"import sys, fake_servers.__main__; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout == "[]\n"
