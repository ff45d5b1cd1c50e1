"""The recipes for a relay of one's own, as they stand, with nothing changed but folders and ports.

Exim runs without being installed, since Debian lets it take Postfix's place: `.ci/run` unpacks it into .exim, and the
user that it wants, its folders and its nameserver are seen by its own processes only.
"""

import json
import os
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from postfix import NAMESERVER, PASSING_ON, missing, postfix
from test_serve import Server, serving

from simlib.port import held_port

ROOT: Final = Path(__file__).parents[1]
RECIPES: Final = ROOT / "loadtests" / "recipes"
WITHIN: Final = 60.0  # seconds
REPS: Final = ("rep01@us.example", "rep02@us.example")


def namespace() -> str:
    """Say why a process can't have files of its own in place of the system's here; empty if it can."""
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "a process can't have its own /etc/resolv.conf here (unshare --mount)"


def no_exim() -> str:
    if exim() is None:
        return "Exim is not there (.ci/run unpacks it into .exim)"
    return "" if os.geteuid() == 0 else "Exim starts as root only"


def exim() -> str | None:
    unpacked = ROOT / ".exim/usr/sbin/exim4"
    return str(unpacked) if unpacked.exists() else shutil.which("exim4", path="/usr/sbin")


needs_postfix = pytest.mark.skipif(bool(missing()), reason=missing())
needs_namespace = pytest.mark.skipif(bool(namespace()), reason=namespace())
needs_exim = pytest.mark.skipif(bool(no_exim() or namespace()), reason=no_exim() or namespace())


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that any user may enter."""
    with tempfile.TemporaryDirectory(prefix="recipe-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def recipe(name: str, folder: str, home: Path, *ports: int) -> str:
    """Return a recipe's text, with a folder of ours, and our ports in place of 2525 and the next ones."""
    text = (RECIPES / name).read_text(encoding="utf-8")
    for number, port in enumerate(ports):
        text = text.replace(str(2525 + number), str(port))
    return text.replace(folder, f"{home}/")


def send(port: int, mail_from: str, rcpt_to: str, *message_ids: str) -> None:
    with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=20) as client:
        for message_id in message_ids:
            text = f"From: <{mail_from}>\r\nMessage-ID: <{message_id}@sendlab.example>\r\n\r\nhello\r\n"
            client.sendmail(mail_from, rcpt_to, text)


def until(server: Server, holds: Callable[[Sequence[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """Wait until something holds for the ledger, and return it."""
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        entries = [json.loads(line) for line in server.get("/ledger").splitlines()]
        if holds(entries):
            return entries
        time.sleep(0.05)
    raise TimeoutError(f"after {WITHIN:g} s the ledger has {entries}")


def accepted(entries: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(one["provider"], one["account"], one["message_id"]) for one in entries if one["code"] == 250]


def reported(entries: Sequence[dict[str, Any]]) -> list[str]:
    return [one["report"]["message_id"] for one in entries if "report" in one]


# Postfix


def settings(text: str) -> dict[str, str]:
    """Read lines of main.cf."""
    lines = (line.partition("=") for line in text.splitlines() if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in lines}


TAKING: Final = {"mynetworks": "127.0.0.0/8", "smtpd_relay_restrictions": "permit_mynetworks, reject"}


@needs_postfix
def test_postfix_logs_in_as_each_sender_and_reports_what_is_refused(home: Path) -> None:
    options = "--ca", home / "ca.pem", "--reading", "office365/messages-per-minute=reject"
    with serving("office365", "generic-mx", *options, listeners=2) as server:
        ports = [line["port"] for line in server.lines]
        for name in ("sendlab_passwords", "sendlab_inbox"):
            (home / name).write_text(recipe(f"postfix/{name}", "/etc/postfix/", home, *ports))
        applied = settings(recipe("postfix/submission.cf", "/etc/postfix/", home, *ports))
        with postfix(applied | TAKING, {}, PASSING_ON) as port:
            send(port, REPS[0], "to@d01.office365.test", *(f"a-{number}" for number in range(31)))
            send(port, REPS[1], "to@d02.office365.test", "b-0")
            entries = until(server, lambda entries: len(reported(entries)) == 1 and len(accepted(entries)) == 32)
    at_office = Counter(account for provider, account, _ in accepted(entries) if provider == "office365")
    assert at_office == {REPS[0]: 30, REPS[1]: 1}
    assert reported(entries)[0].startswith("a-")
    assert {one["provider"] for one in entries if "report" in one} == {"generic-mx"}


@needs_postfix
@needs_namespace
def test_postfix_finds_the_fakes_by_mx_records(home: Path) -> None:
    with by_mx() as server:
        applied = settings(recipe("postfix/mx.cf", "/etc/postfix/", home, server.lines[3]["port"]))
        with postfix(applied | TAKING, {}, PASSING_ON, NAMESERVER) as port:
            assert_mail_finds_its_way(server, port)


@needs_postfix
@needs_namespace
def test_the_books_of_a_load_through_postfix_balance(home: Path) -> None:
    """As README has it, with a shorter scenario."""
    scenario, out, ledger = home / "scenario.toml", home / "out", home / "served.jsonl"
    scenario.write_text(SCENARIO)
    with by_mx("--ledger", ledger) as server:
        applied = settings(recipe("postfix/mx.cf", "/etc/postfix/", home, server.lines[3]["port"]))
        with postfix(applied | TAKING, {}, PASSING_ON, NAMESERVER) as port:
            loading = "load", scenario, "--alternative", "pool", "--target", f"127.0.0.1:{port}", "--out", out
            sendlab(*loading, verdicts=(0, 1))  # whether it kept up is this machine's matter
            until(server, lambda entries: len(accepted(entries)) == 40)
    books = json.loads(sendlab("reconcile", out / "client.jsonl", "--server", ledger, "--json"))
    assert (books["balances"], books["messages"]["delivered"]) == (True, 40)


SCENARIO: Final = """
name = "at once"
duration = "1h"
[[tenants]]
name = "us"
senders = 2
arrivals = { kind = "batches", size = 40 }
[alternatives.pool]
channels = [{ name = "pool", tenants = ["us"], to = { google-mx = 0.5, microsoft-mx = 0.5 }, connections = 2 }]
"""


def sendlab(*arguments: object, verdicts: Sequence[int] = (0,)) -> str:
    command = [sys.executable, "-m", "simlib", *map(str, arguments)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=WITHIN)
    assert ran.returncode in verdicts, ran.stderr
    return ran.stdout


@contextmanager
def by_mx(*options: object) -> Iterator[Server]:
    served = "google-mx", "microsoft-mx", "generic-mx"
    with serving(*served, "--host", NAMESERVER, "--dns-port", 53, *options, listeners=3 + 6) as server:
        yield server


def assert_mail_finds_its_way(server: Server, port: int) -> None:
    """Mail gets to its provider over TLS; what one refuses, and what goes nowhere, is reported to the inbox."""
    server.post("/blocked", ip="127.0.0.1", blocked=1, provider="microsoft-mx")
    for number, domain in enumerate(("d07.google-mx.test", "d50.google-mx.test", "d01.microsoft-mx.test")):
        send(port, REPS[0], f"to@{domain}", f"us-{number}")
    entries = until(server, lambda entries: len(accepted(entries)) == 3)
    took = sorted((provider, message_id) for provider, _, message_id in accepted(entries) if provider == "google-mx")
    assert took == [("google-mx", "us-0"), ("google-mx", "us-1")]
    assert reported(entries) == ["us-2"]
    assert {one["provider"] for one in entries if "report" in one} == {"generic-mx"}
    assert {one["ip"] for one in entries} == {"127.0.0.1"}


# Exim

ELSEWHERE: Final = """\
set -e
cd "$0"
mount --bind passwd /etc/passwd
mount --bind group /etc/group
mount --bind resolv.conf /etc/resolv.conf
mount --bind spool /var/spool
mount --bind log /var/log
cd /
exec "$@"
"""


class Exim(NamedTuple):
    """Exim, with its configuration."""

    home: Path
    port: int

    def command(self, *arguments: object) -> list[str]:
        every = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            ELSEWHERE,
            self.home,
            self.home / "exim4",
            "-C",
            self.home / "exim.conf",
        ]
        return [*map(str, every), *map(str, arguments)]

    def run(self, *arguments: object) -> str:
        return subprocess.run(
            self.command(*arguments), check=True, capture_output=True, text=True, timeout=WITHIN
        ).stdout

    @property
    def log(self) -> str:
        return (self.home / "log/exim4/mainlog").read_text()


@contextmanager
def exim_with(configuration: str, home: Path, runs: str = "-q10m") -> Iterator[Exim]:
    """Run Exim's daemon with a configuration."""
    program = exim()
    assert program is not None
    shutil.copy(program, home / "exim4")  # to where the user that it becomes may call it
    (home / "exim.conf").write_text(f"exim_path = {home}/exim4\n{configuration}")
    (home / "resolv.conf").write_text(f"nameserver {NAMESERVER}\n")
    for name, line in (
        ("passwd", "Debian-exim:x:61999:61999::/var/spool/exim4:/bin/false"),
        ("group", "Debian-exim:x:61999:"),
    ):
        (home / name).write_text(Path(f"/etc/{name}").read_text() + f"{line}\n")
    for name in ("spool/exim4", "log/exim4"):
        (home / name).mkdir(parents=True)
        os.chown(home / name, 61999, 61999)
    with held_port() as port:
        one = Exim(home, port)
        daemon = one.command("-bdf", runs, "-oX", f"127.0.0.1.{port}")
        with subprocess.Popen(
            daemon, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            try:
                wait_for_banner(one, process)
                yield one
            finally:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for_banner(one: Exim, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), smtplib.SMTP("127.0.0.1", one.port, timeout=20):
            return
        time.sleep(0.02)
    assert process.stderr is not None
    os.killpg(process.pid, signal.SIGKILL)
    raise RuntimeError(f"Exim did not start: {process.stderr.read() or 'it said nothing'}")


def token(server: Server, user: str) -> str:
    """What an engineer asks for with curl."""
    answer = server.post("/token", grant_type="refresh_token", refresh_token=user, provider="gmail")
    return str(answer["access_token"])


@needs_exim
def test_exim_logs_in_by_token_and_reads_it_again_each_time(home: Path) -> None:
    with serving("gmail", "generic-mx", "--ca", home / "ca.pem", listeners=2) as server:
        tokens = home / "sendlab_tokens"
        tokens.write_text(f"{REPS[0]}: {token(server, REPS[0])}\n")
        os.chown(tokens, 61999, 61999)
        tokens.chmod(0o600)
        ports = [line["port"] for line in server.lines]
        with exim_with(recipe("exim/submission.conf", "/etc/exim4/", home, *ports), home) as one:
            send(one.port, REPS[0], "to@d01.gmail.test", "by-token")
            send(one.port, REPS[1], "to@d02.gmail.test", "by-password")
            until(server, lambda entries: len(accepted(entries)) == 2)
            server.post(f"/accounts/{REPS[0]}/revoke")
            send(one.port, REPS[0], "to@d01.gmail.test", "revoked")
            until(server, lambda entries: any(entry["code"] == 535 for entry in entries))
            server.post(f"/accounts/{REPS[0]}/restore")
            tokens.write_text(f"{REPS[0]}: {token(server, REPS[0])}\n")
            one.run("-qff")
            entries = until(server, lambda entries: len(accepted(entries)) == 3)
    assert sorted(accepted(entries)) == [
        ("gmail", REPS[0], "by-token"),
        ("gmail", REPS[0], "revoked"),
        ("gmail", REPS[1], "by-password"),
    ]
    logged_in = [word for line in one.log.splitlines() if " => " in line for word in line.split() if word[:2] == "A="]
    assert Counter(logged_in) == {"A=token": 2, "A=password": 1}
    assert one.log.count("CV=yes") == 3


@needs_exim
def test_exim_finds_the_fakes_by_mx_records(home: Path) -> None:
    with by_mx() as server:
        configuration = recipe("exim/mx.conf", "/etc/exim4/", home, server.lines[3]["port"])
        with exim_with(configuration, home) as one:
            assert_mail_finds_its_way(server, one.port)
