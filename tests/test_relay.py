"""The private Postfix between the load and the fakes: what it takes, tells and leaves behind."""

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from test_serve import Server, serving

from loadtests import relay
from loadtests.relay import Log, Setup, channel, files, main
from simlib.port import held_port

WITHIN = 30.0  # seconds
REPS = [f"rep{number:02}@us.example" for number in (1, 2, 3)]
QUOTA = """
name = "a quota"
duration = "1h"
[[tenants]]
name = "us"
senders = 3
arrivals = { kind = "batches", size = 1 }
[alternatives.one]
channels = [{ name = "o", tenants = ["us"], to = "office365" }]
[alternatives.other]
channels = [{ name = "m", tenants = ["us"], to = "generic-mx" }]
[limits]
"generic-mx/quota" = "2/min"
"""

needs_postfix = pytest.mark.skipif(bool(relay.missing()), reason=relay.missing())


class Relay(NamedTuple):
    """A relay that is ready."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    out: Path

    @property
    def folder(self) -> Path:
        return Path(self.ready["folder"])

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The whole lines of a file so far."""
        *lines, _ = (self.out / name).read_text().split("\n")
        return [json.loads(line) for line in lines]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.lines("relay.jsonl")

    def of(self, message_id: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["message_id"] == message_id]

    def submit(self, mail_from: str, rcpt_to: str, *message_ids: str) -> None:
        with smtplib.SMTP(self.ready["host"], self.ready["port"], "client.example", timeout=WITHIN) as client:
            for message_id in message_ids:
                text = f"From: <{mail_from}>\r\nMessage-ID: <{message_id}@sendlab.example>\r\n\r\nhello\r\n"
                client.sendmail(mail_from, rcpt_to, text)

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        assert self.process.wait(WITHIN) == 0


@contextmanager
def relaying(folder: Path, *channels: dict[str, Any], **more: object) -> Iterator[Relay]:
    path = folder / "relay.json"
    every = {"channels": channels, "ca": str(folder / "ca.pem"), "inbox": None, "out": str(folder / "out"), **more}
    path.write_text(json.dumps(every))
    with started(path) as process:
        assert process.stdout is not None
        yield Relay(process, json.loads(process.stdout.readline()), folder / "out")


@contextmanager
def started(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "loadtests.relay", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def to_office(server: Server, **more: object) -> dict[str, Any]:
    plain = {"name": "o 365", "provider": "office365", "host": "127.0.0.1", "port": port(server, "office365")}
    plain |= {"role": "submission", "connections": 2, "messages_per_session": None, "ips": ["127.0.1.1"]}
    plain |= {"tls": "required", "auth": True, "senders": {rep: rep for rep in REPS}, "domains": []}
    return plain | more


def to_mx(server: Server, **more: object) -> dict[str, Any]:
    plain = {"name": "pool", "provider": "generic-mx", "host": "127.0.0.1", "port": port(server, "generic-mx")}
    plain |= {"role": "delivery", "connections": 2, "messages_per_session": 3, "ips": ["127.0.2.1", "127.0.2.2"]}
    plain |= {"tls": "optional", "auth": False, "senders": {"we@pool.example": ""}, "domains": ["generic-mx.test"]}
    return plain | more


def port(server: Server, provider: str) -> int:
    return next(int(line["port"]) for line in server.lines if line["provider"] == provider)


def ledger(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "server.jsonl").read_text().splitlines()]


def until(holds: Callable[[], bool]) -> None:
    """Wait for something."""
    deadline = time.monotonic() + WITHIN
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def of_group(master: int) -> list[int]:
    """The processes that a Postfix consists of."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(group) == master and state != "Z":
            found.append(int(path.parent.name))
    return found


def master_of(one: Relay) -> int:
    return int((one.folder / "spool/pid/master.pid").read_text())


@contextmanager
def fakes(folder: Path, *more: object) -> Iterator[Server]:
    common = ("--ca", folder / "ca.pem", "--ledger", folder / "server.jsonl")
    with serving("office365", "generic-mx", *common, *more, listeners=2) as server:
        yield server


# Delivering


@needs_postfix
def test_everything_arrives_over_tls_with_each_sender_logged_in(tmp_path: Path) -> None:
    with fakes(tmp_path) as server, relaying(tmp_path, to_office(server), to_mx(server)) as one:
        for rep in REPS:
            one.submit(rep, "to0@d05.office365.test", *(f"{rep[:5]}-{number}" for number in range(4)))
        pooled = [f"pool-{number}" for number in range(20)]
        one.submit("we@pool.example", "to0@d07.generic-mx.test", *pooled)
        until(lambda: len(one.rows) == 32)
        secrets = [path.name for path in (one.folder / "etc").iterdir() if "password\n" in path.read_text()]
        assert secrets == ["sasl1"]
        assert (one.folder / "etc/sasl1").stat().st_mode & 0o777 == 0o600
        until(lambda: len(one.lines("queue_length.jsonl")) > 1 and one.lines("queue_length.jsonl")[-1]["active"] == 0)
        one.end()
    accepted = ledger(tmp_path)
    assert {line["code"] for line in accepted} == {250}
    assert Counter(line["account"] for line in accepted if line["provider"] == "office365") == dict.fromkeys(REPS, 4)
    assert {line["ip"] for line in accepted if line["provider"] == "office365"} == {"127.0.1.1"}
    assert {line["ip"] for line in accepted if line["provider"] == "generic-mx"} == {"127.0.2.1", "127.0.2.2"}
    assert (
        max(Counter((line["ip"], line["session"]) for line in accepted if "pool" in line["message_id"]).values()) <= 3
    )
    assert {line["message_id"] for line in accepted} == {row["message_id"] for row in one.rows}
    assert {(row["channel"], row["provider"], row["status"]) for row in one.rows} == {
        ("o 365", "office365", "sent"),
        ("pool", "generic-mx", "sent"),
    }
    assert {row["ip"] for row in one.rows} == {"127.0.1.1", "127.0.2.1", "127.0.2.2"}
    assert all(row["delay"] <= row["time"] and len(row["delays"]) == 4 for row in one.rows)
    assert one.lines("queue.jsonl") == []


@needs_postfix
def test_what_is_deferred_is_offered_again_on_the_hurried_schedule(tmp_path: Path) -> None:
    (tmp_path / "quota.toml").write_text(QUOTA)
    quota = ("--scenario", tmp_path / "quota.toml", "--clock", "virtual")
    ids = [f"m-{number}" for number in range(4)]
    with fakes(tmp_path, *quota) as server, relaying(tmp_path, to_mx(server, ips=["127.0.2.1"]), time_scale=100) as one:
        assert one.ready["seconds"]["minimal_backoff_time"] == 3
        assert one.ready["seconds"]["maximal_backoff_time"] == 40
        one.submit("we@pool.example", "to0@d07.generic-mx.test", *ids)
        until(lambda: {row["message_id"] for row in one.rows} == set(ids))
        until(lambda: one.lines("queue_length.jsonl")[-1]["deferred"] == 2)
        server.post("/clock", seconds=60)
        until(lambda: len([row for row in one.rows if row["status"] == "sent"]) == 4)
        one.end()
    tries = {message_id: one.of(message_id) for message_id in ids}
    assert {rows[-1]["status"] for rows in tries.values()} == {"sent"}
    again = [rows for rows in tries.values() if len(rows) > 1]
    assert len(again) == 2
    for rows in again:
        for deferred, then in pairwise(rows):
            assert deferred["status"] == "deferred"
            assert deferred["reply"].startswith("host 127.0.0.1[127.0.0.1] said: 450 4.7.1 Error: too much mail")
            # Postfix counts whole seconds, by a clock that may be one behind
            assert then["time"] - deferred["time"] > one.ready["seconds"]["minimal_backoff_time"] - 2
        assert rows[-1]["delays"][0] > sum(rows[-1]["delays"][1:])
    refused = [line["limit"] for line in ledger(tmp_path) if line["limit"]]  # RCPT and DATA, pipelined, were as well
    assert refused == ["generic-mx/quota"] * sum(len(rows) - 1 for rows in again)


@needs_postfix
def test_what_is_refused_is_reported_to_the_inbox(tmp_path: Path) -> None:
    with fakes(tmp_path, "--reading", "office365/messages-per-minute=reject") as server:
        inbox = {"host": "127.0.0.1", "port": port(server, "generic-mx")}
        with relaying(tmp_path, to_office(server), inbox=inbox) as one:
            one.submit(REPS[0], "to0@d05.office365.test", *(f"m-{number}" for number in range(32)))
            until(lambda: len(one.rows) == 34)
            one.end()
    bounced = {row["message_id"]: row for row in one.rows if row["status"] == "bounced"}
    reports = [row for row in one.rows if "about" in row]
    assert len(bounced) == 2
    assert {row["about"] for row in reports} == set(bounced)
    assert {(row["channel"], row["sender"], row["recipient"], row["status"]) for row in reports} == {
        (None, "", REPS[0], "sent")
    }
    at_inbox = [line for line in ledger(tmp_path) if line["provider"] == "generic-mx"]
    assert [(line["mail_from"], line["code"]) for line in at_inbox] == [("", 250)] * 2


@needs_postfix
def test_what_expires_is_said_to_have(tmp_path: Path) -> None:
    with fakes(tmp_path) as server:
        away = to_mx(server, port=1)  # nobody listens there
        inbox = {"host": "127.0.0.1", "port": port(server, "generic-mx")}
        with relaying(tmp_path, away, inbox=inbox, time_scale=432_000) as one:
            assert one.ready["seconds"]["maximal_queue_lifetime"] == 1
            one.submit("we@pool.example", "to0@d07.generic-mx.test", "m-0")
            until(lambda: any("about" in row for row in one.rows))
            one.end()
    *tries, end, report = one.rows
    assert {(row["status"], row["relay"], row["channel"]) for row in tries} == {("deferred", "none", "pool")}
    assert (end["status"], end["message_id"], end["recipient"]) == ("expired", "m-0", "to0@d07.generic-mx.test")
    assert report["about"] == "m-0"
    assert one.lines("queue.jsonl") == []


@needs_postfix
def test_mail_of_a_killed_server_stays_in_the_queue_under_its_name(tmp_path: Path) -> None:
    with (
        held_port() as number,
        serving("office365", "--ca", tmp_path / "ca.pem", port=number) as server,
        relaying(tmp_path, to_office(server)) as one,
    ):
        one.submit(REPS[0], "to0@d05.office365.test", "before")
        until(lambda: len(one.rows) == 1)
        server.stop(signal.SIGKILL)
        one.submit(REPS[1], "to0@d05.office365.test", "after-1", "after-2")
        until(lambda: len(one.of("after-1") + one.of("after-2")) == 2)
        one.end()
    assert [row["status"] for row in one.of("before")] == ["sent"]
    left = {line["message_id"]: line for line in one.lines("queue.jsonl")}
    assert set(left) == {"after-1", "after-2"}
    for line in left.values():
        assert (line["queue_name"], line["sender"], line["channel"]) == ("deferred", REPS[1], "o 365")
        assert "Connection refused" in line["recipients"][0]["delay_reason"]


@needs_postfix
def test_mail_that_fits_no_channel_is_refused_at_once(tmp_path: Path) -> None:
    with fakes(tmp_path) as server, relaying(tmp_path, to_office(server), to_mx(server)) as one:
        for mail_from, rcpt_to in (("x@us.example", "to@d01.office365.test"), ("we@pool.example", "to@d01.else.test")):
            with pytest.raises(smtplib.SMTPRecipientsRefused, match="no channel takes mail of this sender"):
                one.submit(mail_from, rcpt_to, "m-0")


# Ending


@needs_postfix
def test_a_delivery_in_progress_is_waited_for(tmp_path: Path) -> None:
    with fakes(tmp_path, "--clock", "virtual") as server, relaying(tmp_path, to_office(server)) as one:
        one.submit(REPS[0], "to0@d05.office365.test", *(f"m-{number}" for number in range(31)))
        until(lambda: len(one.rows) == 30 and json.loads(server.get("/waiting"))["held"] == 1)
        one.process.send_signal(signal.SIGTERM)
        server.post("/clock", seconds=60)
        assert one.process.wait(WITHIN) == 0
    assert [row["status"] for row in one.rows] == ["sent"] * 31
    assert one.lines("queue.jsonl") == []


@needs_postfix
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "stdin", "SIGKILL"])
def test_nothing_is_left(how: str, tmp_path: Path) -> None:
    with fakes(tmp_path) as server, relaying(tmp_path, to_mx(server)) as one:
        one.submit("we@pool.example", "to0@d07.generic-mx.test", "m-0")
        until(lambda: len(one.rows) == 1)
        master = master_of(one)
        assert len(of_group(master)) > 3
        if how == "stdin":
            assert one.process.stdin is not None
            one.process.stdin.close()
            assert one.process.wait(WITHIN) == 0
        elif how == "SIGKILL":
            one.process.kill()
            until(lambda: not one.folder.exists() and not of_group(master))
        else:
            one.end(signal.Signals[how])
        assert of_group(master) == []
        assert not one.folder.exists()
        assert [row["status"] for row in one.rows] == ["sent"]


@needs_postfix
def test_nothing_is_left_of_a_relay_that_ends_before_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    tmp_path.chmod(0o755)
    path = tmp_path / "relay.json"
    path.write_text(json.dumps({"channels": [{"name": "one"}], "out": str(tmp_path / "out")}))
    with started(path) as process:
        until(lambda: any((tmp_path / "tmp").iterdir()))
        process.terminate()
        assert process.wait(WITHIN) == 0
    assert [*(tmp_path / "tmp").iterdir()] == []


@needs_postfix
def test_why_postfix_does_not_start_is_said(tmp_path: Path) -> None:
    path = tmp_path / "relay.json"
    path.write_text(json.dumps({"channels": [{"name": "one"}], "out": str(tmp_path / "out")}))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        program = (
            "from contextlib import nullcontext\nfrom loadtests import relay\n"
            f"relay.held_port = lambda: nullcontext({number})\nraise SystemExit(relay.main())"
        )
        command = [sys.executable, "-c", program, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            said = process.stderr.read()
            assert process.wait(WITHIN) == 1
    assert said.startswith("loadtests.relay: Postfix did not start: ")
    assert said.endswith(f"fatal: bind 127.0.0.1 port {number}: Address already in use\n")


# Refusing


def refused(capsys: pytest.CaptureFixture[str], folder: Path, **setup: object) -> str:
    path = folder / "relay.json"
    path.write_text(json.dumps({"channels": [{"name": "one"}], "out": str(folder / "out"), **setup}))
    assert main([str(path)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err.rstrip().replace(str(path), "FILE")


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        ({"channels": []}, "channels must name at least one, got none"),
        ({"channels": [{"provider": "x"}]}, "name is missing"),
        ({"channels": [{"name": "a", "tls": "maybe"}]}, "tls must be none, optional or required, got 'maybe'"),
        ({"channels": [{"name": "a", "connections": 0}]}, "connections must be a whole number of at least 1, got 0"),
        ({"channels": [{"name": "a", "ips": []}]}, "ips must name an address to send from, got none"),
        ({"channels": [{"name": "a", "auth": True}]}, "auth needs senders, each with the user to log in as"),
        (
            {"channels": [{"name": "a", "domains": ["a b"]}]},
            "addresses, users and domains must be free of spaces, braces and colons, got 'a b'",
        ),
        (
            {"channels": [{"name": "a", "colour": 1}]},
            "a channel has no 'colour' (it has: provider, host, port, connections, ips, messages_per_session, tls, "
            "auth, senders, domains)",
        ),
        ({"time_scale": 0}, "time_scale must be a number above 0, got 0"),
        (
            {"channels": [{"name": "a", "senders": {"x@us.example": ""}}, {"name": "b", "domains": ["a.test"]}]},
            "mail could take 'a' and 'b': give both their own domains",
        ),
        (
            {"channels": [{"name": name, "senders": {"X@us.example": ""}, "domains": ["a.test"]} for name in "ab"]},
            "mail of x@us.example could take 'a' and 'b': give both their own domains",
        ),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    setup: dict[str, object], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert refused(capsys, tmp_path, **setup) == f"loadtests.relay: FILE: {said}"


def test_where_there_is_no_postfix_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "DAEMONS", tmp_path)
    said = refused(capsys, tmp_path)
    assert said == "loadtests.relay: Postfix is not installed (apt-get install postfix libsasl2-modules)"


@needs_postfix
def test_who_is_not_root_learns_the_way_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert refused(capsys, tmp_path).endswith(
        "Postfix is started by root only: run this as root, in a container for example"
    )


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err == f"loadtests.relay: {tmp_path / 'none.json'}: No such file or directory\n"


# Configuration and log


def test_the_password_stands_in_the_password_table_only() -> None:
    one = channel("a", auth=True, tls="required", senders={"rep01@us.example": "rep01@us.example"})
    made = files(
        Setup((one, channel("b", domains=["b.test"], senders={"x@us.example": ""})), "", 1, None, Path()),
        Path("/h"),
        25,
        "s3cret",
    )
    assert [name for name, text in made.items() if "s3cret" in text] == ["sasl1"]
    assert made["sasl1"] == "[127.0.0.1]:25 rep01@us.example:s3cret\n"


@pytest.mark.parametrize(
    ("parts", "options"),
    [
        ({"messages_per_session": None}, ["smtp_tls_connection_reuse=yes"]),
        ({"messages_per_session": 3}, ["smtp_tls_connection_reuse=yes", "smtp_connection_reuse_count_limit=2"]),
        ({"messages_per_session": 1}, ["smtp_connection_cache_on_demand=no"]),
        (
            {"auth": True, "senders": {"a@us.example": "a", "b@us.example": "b"}},
            ["smtp_sender_dependent_authentication=yes"],
        ),
        ({"tls": "none"}, ["smtp_tls_security_level=none"]),
        ({"tls": "optional"}, ["smtp_tls_security_level=may"]),
        ({"tls": "required"}, ["smtp_tls_security_level=secure", "smtp_tls_secure_cert_match=localhost"]),
        ({"tls": "required", "host": "mx.example"}, ["smtp_tls_secure_cert_match=hostname"]),
        ({"ips": ["127.0.2.1", "127.0.2.2"]}, ["smtp_bind_address=127.0.2.1", "smtp_bind_address=127.0.2.2"]),
    ],
)
def test_a_channel_s_sessions_are_as_it_says(parts: dict[str, Any], options: list[str]) -> None:
    setup = Setup((channel("a", **parts),), "", 1, None, Path())
    master = files(setup, Path("/h"), 25, "s3cret")["master.cf"].split()
    assert [option for option in options if option not in master] == []


def test_channels_with_the_same_sender_are_told_apart_by_domain() -> None:
    some = [channel(name, senders={"x@us.example": ""}, domains=[f"{name}.test"]) for name in ("a", "b")]
    setup = Setup(tuple(some), "", 1, None, Path())
    assert [setup.channel_of("X@us.example", f"to@d01.{name}.test") for name in ("a", "b", "c")] == [*some, None]


def test_the_schedule_is_hurried_to_no_less_than_a_second() -> None:
    assert Setup((channel("a"),), "", 1, None, Path()).seconds == relay.SECONDS
    assert set(Setup((channel("a"),), "", 1e9, None, Path()).seconds.values()) == {1}


def test_the_log_tells_who_when_and_what() -> None:
    log = Log(Setup((channel("pool", domains=["them.test"], ips=["127.0.2.1", "127.0.2.2"]),), "", 1, None, Path()))
    rows = []
    for line in (
        "postfix/cleanup[1]: 4F: message-id=<us-1@sendlab.example>",
        "postfix/qmgr[2]: 4F: from=<rep01@us.example>, size=300, nrcpt=1 (queue active)",
        "postfix/channel1ip2/smtp[3]: 4F: to=<to0@them.test>, orig_to=<x@them.test>, relay=mx[127.0.0.1]:25, "
        "conn_use=3, delay=12, delays=0.01/0/2/10, dsn=4.7.28, status=deferred (host mx[127.0.0.1] said: 450 4.7.28 "
        "no (yet) (in reply to end of DATA command))",
        "postfix/error[3]: 4F: to=<to0@them.test>, relay=none, delay=20, delays=20/0/0/0, dsn=4.4.2, "
        "status=deferred (no)",
        "postfix/qmgr[2]: 4F: from=<rep01@us.example>, status=expired, returned to sender",
        "postfix/cleanup[1]: 5G: message-id=<20261124.5G@relay.example>",
        "postfix/bounce[4]: 4F: sender non-delivery notification: 5G",
        "postfix/qmgr[2]: 4F: removed",
        "postfix/smtp[3]: 5G: to=<rep01@us.example>, relay=mx[127.0.0.1]:26, delay=0, delays=0/0/0/0, dsn=2.0.0, "
        "status=sent (250 2.0.0 Ok)",
        "something else",
    ):
        rows += log.read(f"Nov 24 08:00:00 relay {line}")
    names = ("channel", "ip", "message_id", "session_use", "status", "reply")
    said = "host mx[127.0.0.1] said: 450 4.7.28 no (yet) (in reply to end of DATA command)"
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("pool", "127.0.2.2", "us-1", 3, "deferred", said),
        ("pool", "", "us-1", 1, "deferred", "no"),
        ("pool", "", "us-1", 1, "expired", "no"),
        (None, "", "20261124.5G@relay.example", 1, "sent", "250 2.0.0 Ok"),
    ]
    assert rows[0]["delays"] == [0.01, 0.0, 2.0, 10.0]
    assert rows[3]["about"] == "us-1"
    assert log.message_ids == {"5G": "20261124.5G@relay.example"}
