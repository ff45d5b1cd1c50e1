"""From a log to a trace and replies: as Postfix and Exim write it here, and as others document it."""

import csv
import datetime as dt
import gzip
import json
import os
import smtplib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from postfix import NAMESERVER, PASSING_ON, postfix
from test_recipes import (
    REPS,
    TAKING,
    accepted,
    by_mx,
    exim_with,
    home,
    needs_exim,
    needs_namespace,
    needs_postfix,
    recipe,
    reported,
    send,
    settings,
    until,
)
from test_serve import serving

from simlib.importing import FORMATS, Pseudonyms, import_log
from simlib.log_postfix import Postfix
from simlib.logs import Clock
from simlib.replies import read
from simlib.scenario import Scenario
from simlib.workload import Day, Trace

__all__ = ["home"]

JST = dt.timezone(dt.timedelta(hours=9))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def imported(
    folder: Path, format_: str, text: str, **options: Any
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Import a text, addresses kept, and return trace and replies."""
    (folder / "log").write_text(text)
    import_log([folder / "log"], format_, folder, **{"keep_addresses": True, "year": 2026, **options})
    return table(folder / "trace.csv"), table(folder / "replies.csv")


def outcomes(entries: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    return Counter((one["mail_from"], int(one["recipients"]), int(one["code"]), one["stage"]) for one in entries)


# Logs that the real programs write


@needs_postfix
def test_what_postfix_logs_is_what_the_server_saw(home: Path) -> None:
    log = home / "mail.log"
    options = "--ca", home / "ca.pem", "--reading", "office365/messages-per-minute=reject"
    with serving("office365", "generic-mx", *options, listeners=2) as server:
        ports = [line["port"] for line in server.lines]
        for name in ("sendlab_passwords", "sendlab_inbox"):
            (home / name).write_text(recipe(f"postfix/{name}", "/etc/postfix/", home, *ports))
        applied = settings(recipe("postfix/submission.cf", "/etc/postfix/", home, *ports))
        logged = {"maillog_file": str(log), "maillog_file_prefixes": str(home)}
        with postfix(applied | TAKING | logged, {}, PASSING_ON) as port:
            send(port, REPS[0], "to@d01.office365.test", *(f"a-{number}" for number in range(32)))
            with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=20) as client:
                client.sendmail(
                    REPS[1], [f"to{n}@d02.office365.test" for n in range(3)], "Subject: to three\r\n\r\nhi\r\n"
                )
            entries = until(server, lambda entries: len(reported(entries)) == 2 and len(accepted(entries)) == 33)
            until_logged(log, "status=", 37)
    found = import_log([log], "postfix", home / "out", keep_addresses=True)
    assert (found.unreadable, found.messages, found.senders, found.reports) == (0, 33, 2, 2)
    assert outcomes(table(home / "out/replies.csv")) == outcomes(entries)
    (many,) = (row for row in table(home / "out/trace.csv") if row["recipients"] != "1")
    assert (many["sender"], many["recipients"]) == ("rep02", "3")
    assert all(outcome.setup is not None and outcome.session for outcome in read(home / "out/replies.csv")[0])


def until_logged(path: Path, word: str, times: int) -> None:
    """Wait until Postfix has logged that much: a delivery is logged after its reply."""
    import time

    deadline = time.monotonic() + 20
    while path.read_text().count(word) < times:
        assert time.monotonic() < deadline, path.read_text()
        time.sleep(0.02)


@needs_exim
@needs_namespace
def test_what_exim_logs_is_what_the_server_saw(home: Path) -> None:
    with by_mx() as server:
        configuration = recipe("exim/mx.conf", "/etc/exim4/", home, server.lines[3]["port"])
        with exim_with(configuration, home) as one:
            server.post("/blocked", ip="127.0.0.1", blocked=1, provider="microsoft-mx")
            send(one.port, REPS[0], "to@d07.google-mx.test", "us-0", "us-1")
            send(one.port, REPS[1], "to@d01.microsoft-mx.test", "us-2")
            until(server, lambda entries: len(accepted(entries)) == 3)
            until_logged(home / "log/exim4/mainlog", "Completed", 4)
    found = import_log([home / "log/exim4/mainlog"], "exim", home / "out", keep_addresses=True)
    assert (found.unreadable, found.messages, found.reports) == (0, 3, 1)
    said = [(row["provider"], row["mail_from"], row["stage"], row["code"]) for row in table(home / "out/replies.csv")]
    assert sorted(said) == [
        ("google-mx", REPS[0], "EOD", "250"),
        ("google-mx", REPS[0], "EOD", "250"),
        ("microsoft-mx", REPS[1], "MAIL", "550"),
        ("mx.generic-mx.test", "", "EOD", "250"),
    ]
    assert NAMESERVER not in (home / "out/replies.csv").read_text()


# Postfix


QUEUED = "Dec 31 23:59:50 mail postfix/qmgr[7]: {id}: from=<{who}>, size=1291, nrcpt={n} (queue active)\n"
TRIED = (
    "{time} mail postfix/smtp[{pid}]: {id}: to=<{to}>, relay=smtp.office365.com[192.0.2.1]:587, {use}delay=9, "
    "delays=1/2/{c}/{d}, dsn=2.0.0, status={status} ({said})\n"
)


def tried(id_: str, status: str = "sent", said: str = "250 2.0.0 OK", **more: object) -> str:
    defaults = {"time": "Dec 31 23:59:59", "pid": 8, "to": "a@b.example", "use": "", "c": 0.5, "d": 0.25}
    return TRIED.format(**{**defaults, **more, "id": id_, "status": status, "said": said})


def test_postfix_goes_into_the_next_year_and_keeps_to_its_zone(tmp_path: Path) -> None:
    log = QUEUED.format(id="A1", who="Rep01@us.example", n=1) + tried("A1", time="Jan  1 00:00:01")
    trace, replies = imported(tmp_path, "postfix", log, zone=JST)
    assert trace == [{"seconds": "86390", "sender": "rep01", "recipients": "1", "bytes": "1291"}]
    assert [(row["time"], row["took"], row["setup"]) for row in replies] == [("2026-12-31T15:00:01Z", "0.75", "0.5")]
    assert replies[0]["provider"] == "office365"


def test_postfix_says_at_which_command_it_was_refused(tmp_path: Path) -> None:
    host = "host smtp.office365.com[192.0.2.1]"
    log = QUEUED.format(id="A1", who="rep01@us.example", n=9)
    for number, words in enumerate(
        (
            f"{host} said: 450 4.7.1 too much (in reply to MAIL FROM command)",
            f"{host} said: 550-5.7.26 Not you. 550 5.7.26 See (our) page. (in reply to end of DATA command)",
            f"{host} refused to talk to me: 421 4.7.0 later",
            "SASL authentication failed; server x[192.0.2.1] said: 535 5.7.3 Authentication unsuccessful",
            "lost connection with x[192.0.2.1] while sending end of data -- message may be sent more than once",
        )
    ):
        log += tried("A1", "deferred", words, pid=number)
    _, replies = imported(tmp_path, "postfix", log)
    assert [(row["stage"], row["code"], row["enhanced"], row["text"]) for row in replies[:4]] == [
        ("MAIL", "450", "4.7.1", "too much"),
        ("EOD", "550", "5.7.26", "Not you.\nSee (our) page."),
        ("CONNECT", "421", "4.7.0", "later"),
        ("AUTH", "535", "5.7.3", "Authentication unsuccessful"),
    ]
    assert (replies[4]["stage"], replies[4]["code"]) == ("EOD", "0")


def test_recipients_of_one_transaction_are_one_attempt(tmp_path: Path) -> None:
    """Two are taken, and the third is one too many: it was the third of three."""
    log = QUEUED.format(id="A1", who="rep01@us.example", n=3)
    refused = "host x[192.0.2.1] said: 452 4.5.3 too many (in reply to RCPT TO command)"
    log += tried("A1", "deferred", refused, to="c@b.example") + tried("A1") + tried("A1", to="d@b.example")
    _, replies = imported(tmp_path, "postfix", log)
    assert [(row["stage"], row["code"], row["recipients"]) for row in replies] == [
        ("RCPT", "452", "3"),
        ("EOD", "250", "2"),
    ]


def test_a_connection_that_is_used_again_is_the_same_session(tmp_path: Path) -> None:
    log = "".join(QUEUED.format(id=f"A{n}", who="rep01@us.example", n=1) for n in range(4))
    log += tried("A0") + tried("A1", use="conn_use=2, ") + tried("A2", pid=9) + tried("A3", pid=8, use="conn_use=2, ")
    _, replies = imported(tmp_path, "postfix", log)
    assert sorted(row["session"] for row in replies) == ["1", "1", "2", "2"]


def test_of_a_long_log_only_what_is_in_the_queue_is_kept() -> None:
    reader = Postfix(Clock(dt.UTC, 2026))
    for number in range(1000):
        for line in (QUEUED.format(id=f"A{number}", who="a@b.example", n=1), tried(f"A{number}")):
            reader.read(line.rstrip("\n"))
        reader.read(f"Dec 31 23:59:59 mail postfix/qmgr[7]: A{number}: removed")
    assert (len(reader._queue), len(reader._open), list(reader.finish())) == (0, 0, [])


def test_a_queue_id_that_is_used_again_is_another_message(tmp_path: Path) -> None:
    once = (
        QUEUED.format(id="A1", who="a@us.example", n=1)
        + tried("A1")
        + "Dec 31 23:59:59 mail postfix/qmgr[7]: A1: removed\n"
    )
    again = once.replace("23:59:5", "23:59:4").replace("a@us", "b@us")
    trace, _ = imported(tmp_path, "postfix", again + once)
    assert [row["sender"] for row in trace] == ["b", "a"]


# Others, as documented


KUMOMTA = {
    "type": "TransientFailure",
    "id": "1d98076abbbc11ed940250ebf67f93bd",
    "sender": "rep01@us.example",
    "recipient": "a@b.example",
    "queue": "b.example",
    "site": "source2->mx.b.example.",
    "size": 1047,
    "response": {
        "code": 421,
        "enhanced_code": {"class": 4, "subject": 7, "detail": 28},
        "content": "slow down",
        "command": "MAIL FROM:<rep01@us.example>",
    },
    "peer_address": {"name": "alt1.gmail-smtp-in.l.google.com.", "addr": "192.0.2.1"},
    "timestamp": 1796083200,
    "created": 1796083100,
    "egress_source": "source2",
    "source_address": {"address": "10.0.0.1:53210"},
    "session_id": "9bcd689e",
}


def test_kumomta_as_documented(tmp_path: Path) -> None:
    """https://docs.kumomta.com/reference/log_record/."""
    reception = {**KUMOMTA, "type": "Reception", "response": {"code": 250, "content": ""}, "timestamp": 1796083100}
    other = {"type": "Feedback", "feedback_report": {}}
    log = "".join(json.dumps(one) + "\n" for one in (reception, KUMOMTA, other))
    trace, (reply,) = imported(tmp_path, "kumomta", log)
    assert trace == [{"seconds": "86300", "sender": "rep01", "recipients": "1", "bytes": "1047"}]
    assert reply == {
        **{"time": "2026-12-01T00:00:00Z", "took": "", "setup": "", "provider": "google-mx", "session": "9bcd689e"},
        **{"ip": "10.0.0.1", "account": "", "mail_from": "rep01@us.example", "recipients": "1", "bytes": "1047"},
        **{"stage": "MAIL", "code": "421", "enhanced": "4.7.28", "text": "slow down"},
    }


def test_ses_as_documented(tmp_path: Path) -> None:
    """https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html."""
    mail = {
        "timestamp": "2026-12-01T09:00:00.000Z",
        "source": "Rep One <rep01@us.example>",
        "messageId": "id-1",
        "destination": ["a@b.example", "c@d.example"],
    }
    delivery = {
        "eventType": "Delivery",
        "mail": mail,
        "delivery": {
            "timestamp": "2026-12-01T09:00:01.500Z",
            "recipients": ["a@b.example"],
            "smtpResponse": "250 2.6.0 Message received",
        },
    }
    bounce = {
        "notificationType": "Bounce",
        "mail": mail,
        "bounce": {
            "bounceType": "Permanent",
            "timestamp": "2026-12-01T09:00:02.000Z",
            "bouncedRecipients": [
                {"emailAddress": "c@d.example", "action": "failed", "diagnosticCode": "smtp; 550 5.1.1 user unknown"}
            ],
        },
    }
    delay = {
        "eventType": "DeliveryDelay",
        "mail": {**mail, "messageId": "id-2"},
        "deliveryDelay": {
            "timestamp": "2026-12-01T09:05:00.000Z",
            "delayedRecipients": [
                {"emailAddress": "a@b.example", "status": "4.4.1", "diagnosticCode": "smtp; 421 4.4.1 later"}
            ],
        },
    }
    wrapped = {"Type": "Notification", "Message": json.dumps(delay)}
    log = "".join(json.dumps(one) + "\n" for one in (delivery, bounce, wrapped, {"eventType": "Open", "mail": mail}))
    trace, replies = imported(tmp_path, "ses", log)
    assert [(row["seconds"], row["sender"], row["recipients"]) for row in trace] == [("32400", "rep01", "2")] * 2
    assert [(row["provider"], row["code"], row["enhanced"], row["text"]) for row in replies] == [
        ("b.example", "250", "2.6.0", "Message received"),
        ("d.example", "550", "5.1.1", "user unknown"),
        ("b.example", "421", "4.4.1", "later"),
    ]


def test_sparkpost_as_documented(tmp_path: Path) -> None:
    """https://developers.sparkpost.com/api/events/: of the API, and of a webhook's batch."""
    event = {
        "type": "bounce",
        "message_id": "000443ee14578172be22",
        "friendly_from": "rep01@us.example",
        "msg_from": "msprvs1=17=bounces-1@bounces.example",
        "msg_size": "1337",
        "rcpt_to": "a@b.example",
        "raw_reason": "550 5.2.1 The email account is disabled",
        "error_code": "550",
        "sending_ip": "192.0.2.7",
        "injection_time": "2026-12-01T09:00:00.000Z",
        "timestamp": "2026-12-01T09:00:03.000Z",
    }
    delivered = {**event, "type": "delivery", "message_id": "2", "mailbox_provider": "Gmail", "timestamp": "1796115605"}
    log = json.dumps({"results": [event]}) + "\n" + json.dumps([{"msys": {"message_event": delivered}}]) + "\n"
    trace, replies = imported(tmp_path, "sparkpost", log + json.dumps({**event, "type": "open"}) + "\n")
    assert [(row["seconds"], row["sender"], row["bytes"]) for row in trace] == [("32400", "rep01", "1337")] * 2
    assert [(row["provider"], row["ip"], row["code"], row["text"]) for row in replies] == [
        ("b.example", "192.0.2.7", "550", "The email account is disabled"),
        ("Gmail", "192.0.2.7", "250", ""),
    ]


def test_a_table_of_ones_own_is_a_log_too(tmp_path: Path) -> None:
    log = (
        "time,message_id,sender,recipients,code,enhanced,text\n"
        '2026-12-01T09:00:00+09:00,1,rep01@us.example,2,450,4.7.1,"too much,\nlater"\n'
        "2026-12-01T09:10:00+09:00,1,rep01@us.example,2,250,2.0.0,Ok\n"
        "2026-12-01T09:20:00+09:00,2,rep02@us.example,1,,,\n"
    )
    trace, replies = imported(tmp_path, "csv", log, zone=JST)
    assert [(row["seconds"], row["sender"]) for row in trace] == [("32400", "rep01"), ("33600", "rep02")]
    assert [(row["code"], row["text"]) for row in replies] == [("450", "too much,\nlater"), ("250", "Ok")]


def test_a_reply_table_can_be_imported_again(tmp_path: Path) -> None:
    """To hide its addresses, for example."""
    _, replies = imported(tmp_path, "postfix", QUEUED.format(id="A1", who="rep01@us.example", n=1) + tried("A1"))
    again = tmp_path / "again"
    import_log([tmp_path / "replies.csv"], "csv", again, keep_addresses=True)
    assert table(again / "replies.csv") == replies


# What all have in common


def test_no_address_is_left(tmp_path: Path) -> None:
    text = (
        "host x[192.0.2.1] said: 550 5.1.1 <bob@customer.example>: no rep01@us.example at 198.51.100.7 or "
        "2001:db8:0:0::7 (in reply to RCPT TO command)"
    )
    log = QUEUED.format(id="A1", who="rep01@us.example", n=1) + tried("A1", "bounced", text, to="bob@customer.example")
    imported(tmp_path, "postfix", log, keep_addresses=False)
    written = "".join(path.read_text() for path in (tmp_path / "trace.csv", tmp_path / "replies.csv"))
    for word in ("rep01", "us.example", "bob", "customer", "198.51.100.7", "2001:db8"):
        assert word not in written, word
    (sent,), (reply,) = table(tmp_path / "trace.csv"), table(tmp_path / "replies.csv")
    assert reply["mail_from"].split("@")[0] == sent["sender"]


def test_names_are_the_same_within_an_import_and_others_in_the_next(tmp_path: Path) -> None:
    log = "".join(QUEUED.format(id=f"A{n}", who="rep01@us.example", n=1) + tried(f"A{n}") for n in range(2))
    names = []
    for _ in range(2):
        trace, _ = imported(tmp_path, "postfix", log, keep_addresses=False)
        assert trace[0]["sender"] == trace[1]["sender"]
        names.append(trace[0]["sender"])
    assert names[0] != names[1]
    assert Pseudonyms(b"a").address("rep01@us.example") != Pseudonyms(b"b").address("rep01@us.example")
    one, other = (Pseudonyms(b"a").address(f"rep0{n}@us.example") for n in (1, 2))
    assert one.split("@")[1] == other.split("@")[1]
    assert one != other


def test_what_cannot_be_read_is_told_with_its_line(tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    log = QUEUED.format(id="A1", who="rep01@us.example", n=1) + "garbage\n" + tried("A1")
    log += tried("A1").replace("delays=", "delais=") + "Dec 31 23:59:59 mail sshd[1]: hello\n"
    (tmp_path / "mail.log").write_text(log)
    code, out, err = say("import", tmp_path / "mail.log", "--format", "postfix", "--out", tmp_path / "out", "--json")
    assert code == 1
    assert err.splitlines()[0] == (
        "mail.log: line 2: does not begin as a line of syslog does, with a time, a host and a program"
    )
    assert err.splitlines()[1].startswith("mail.log: line 4: must say relay, delays, dsn and status, got 'A1: to=<")
    found = json.loads(out)
    assert (found["lines"], found["messages"], found["replies"], found["others"], found["unreadable"]) == (
        5,
        1,
        1,
        1,
        2,
    )
    assert [row["line"] for row in table(tmp_path / "out/unreadable.csv")] == ["2", "4"]


def test_a_log_of_another_format_is_refused(tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    (tmp_path / "mail.log").write_text(QUEUED.format(id="A1", who="a@b.example", n=1))
    for format_ in FORMATS:
        code, _, err = say("import", tmp_path / "mail.log", "--format", format_, "--out", tmp_path / "out")
        assert code == 2, format_
        assert err.splitlines()[-1].startswith(f"sendlab: {tmp_path}/mail.log: has no message that {format_} sent on")
    assert list((tmp_path / "out").iterdir()) == []
    assert say("import", tmp_path / "none.log", "--format", "csv", "--out", tmp_path / "other")[::2] == (
        2,
        f"sendlab: {tmp_path}/none.log: No such file or directory\n",
    )
    assert not (tmp_path / "other").exists()
    code, _, err = say("import", tmp_path / "mail.log", "--format", "exim", "--zone", "Mars/Phobos")
    assert (code, "must be a zone like Asia/Tokyo or +09:00, got 'Mars/Phobos'" in err) == (2, True)


def test_the_year_of_a_log_is_that_of_its_last_change(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(QUEUED.format(id="A1", who="a@b.example", n=1) + tried("A1", time="Jan  1 00:00:01"))
    changed = dt.datetime(2031, 1, 1, 0, 5, tzinfo=dt.UTC).timestamp()
    os.utime(log, (changed, changed))
    found = import_log([log], "postfix", tmp_path)
    assert found.start == dt.datetime(2030, 12, 31, tzinfo=dt.UTC)


def test_rotated_and_packed_logs_are_one(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "mail.log.1.gz", "wt") as file:
        file.write(QUEUED.format(id="A1", who="a@us.example", n=1) + tried("A1"))
    (tmp_path / "mail.log").write_text(QUEUED.format(id="A2", who="b@us.example", n=1) + tried("A2"))
    found = import_log([tmp_path / "mail.log.1.gz", tmp_path / "mail.log"], "postfix", tmp_path, year=2026)
    assert (found.messages, found.senders) == (2, 2)


def test_the_trace_is_what_a_scenario_replays(tmp_path: Path) -> None:
    """Out of order, as events are that a service delivers, and of two domains."""
    rows = [
        "2026-12-02T08:00:00Z,b@us.example,1",
        "2026-12-01T08:00:00Z,a@us.example,3",
        "2026-12-01T09:00:00Z,a@eu.example,1",
    ]
    imported(tmp_path, "csv", "\n".join(["time,sender,recipients", *rows, ""]))
    at, senders, recipients, _ = Trace(kind="trace", file=tmp_path / "trace.csv").rows(Day(0, 2 * 86400))
    assert at.tolist() == [28800, 32400, 115200]
    assert senders == ["a", "a=eu.example", "b"]
    assert recipients.tolist() == [3, 1, 1]
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    scenario = Scenario.load(tmp_path / "scenario.toml")
    assert len(scenario.messages(1, 0)) == 3


SCENARIO = """
name = "again"
start = "2026-12-01T00:00+00:00"
duration = "2d"
tenants = [{ name = "us", arrivals = { kind = "trace", file = "trace.csv", resample = "none" } }]
[alternatives.o365]
channels = [{ name = "o365", tenants = ["us"], to = "office365" }]
"""


@pytest.mark.parametrize("format_", ["kumomta", "ses", "sparkpost"])
def test_whatever_json_a_line_is_the_next_one_is_read(format_: str, tmp_path: Path) -> None:
    mail = {"timestamp": "2026-12-01T09:00:00Z", "source": "a@b.example", "messageId": "1"}
    event = {"type": "injection", "message_id": "1", "timestamp": "1796115605", "friendly_from": "a@b.example"}
    documents: dict[str, dict[str, Any]] = {
        "kumomta": KUMOMTA,
        "ses": {"eventType": "Send", "mail": mail},
        "sparkpost": event,
    }
    values: tuple[Any, ...] = ([], {"code": "x"}, 1e300, None, "soon")
    good = documents[format_]
    odd = ["[", "[" * 100_000, "7", '"x"', "[[]]", "{}", '{"type": []}', '{"eventType": {}}', '{"msys": {"a": 1}}']
    odd += [json.dumps({**good, name: value}) for name in good for value in values]
    log = "\n".join([*odd, json.dumps(good), ""])
    (tmp_path / "log").write_text(log)
    found = import_log([tmp_path / "log"], format_, tmp_path)
    assert found.unreadable >= 9
    assert found.messages >= 1


@pytest.mark.parametrize("format_", sorted(FORMATS))
def test_an_empty_line_is_nothing(format_: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n\n")
    with pytest.raises(ValueError, match="has no message"):
        import_log([tmp_path / "log"], format_, tmp_path)
