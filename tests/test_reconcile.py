"""The books: each message's verdict, which verdict comes first, and that nothing can be taken out unnoticed."""

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.reconcile import Attempt, Outcome, Queued, Verdict, main, reconcile

REP = "rep01@us.example"


def sent(
    code: int,
    *,
    retry: int = 0,
    stage: str = "EOD",
    final: bool = True,
    cut: bool = False,
    recipients: int = 1,
    text: str = "",
    message_id: str = "m",
) -> Attempt:
    at = 60.0 * retry
    return Attempt(message_id, recipients, retry, at, None if cut else at + 1, stage, code, text, final)


def never(message_id: str = "m", recipients: int = 1) -> Attempt:
    return Attempt(message_id, recipients, 0, None, None, "", 0, "", False)


def took(recipients: int = 1, message_id: str = "m", code: int = 250, session: int = 1) -> Outcome:
    return Outcome(0.5, "office365", session, REP, recipients, message_id, code, "")


def reported(*failed: str, about: str = "m", code: int = 250) -> Outcome:
    return Outcome(9.0, "generic-mx", 2, "", 1, "<dsn@relay.example>", code, "", about, failed)


def queued(recipients: int = 1, message_id: str = "m", about: str = "") -> Queued:
    return Queued("3F2A1", "MAILER-DAEMON" if about else REP, recipients, message_id, about)


LATER: dict[str, Any] = {"final": False}
A, B = "to0@d01.google-mx.test", "to1@d02.google-mx.test"
BOUNCED = Queued("4B", "MAILER-DAEMON", 1, "<dsn@relay.example>")

CASES: dict[str, tuple[Verdict, list[Attempt], list[Outcome], list[Queued]]] = {
    "accepted": ("delivered", [sent(250)], [took()], []),
    "deferred, then accepted": ("delivered", [sent(451, **LATER), sent(250, retry=1)], [took(code=451), took()], []),
    "no reply to MAIL, then accepted": (
        "delivered",
        [sent(0, stage="MAIL", **LATER), sent(250, retry=1)],
        [took()],
        [],
    ),
    "no reply to the dot of what wasn't taken, then accepted": (
        "delivered",
        [sent(0, **LATER), sent(250, retry=1)],
        [took()],
        [],
    ),
    "a relay splits it": ("delivered", [sent(250, recipients=3)], [took(2), took(1)], []),
    "refused": ("refused", [sent(550)], [took(code=550)], []),
    "refused before the server could know which it is": ("refused", [sent(550, stage="MAIL")], [], []),
    "given up after a 4yz": ("refused", [sent(451, **LATER), sent(451, retry=1)], [], []),
    "given up without a connection": ("refused", [sent(0, stage="CONNECT")], [], []),
    "given up; an earlier reply was lost, and no server has it": (
        "refused",
        [sent(0, **LATER), sent(451, retry=1)],
        [],
        [],
    ),
    "a report came": ("refused_and_reported", [sent(250)], [reported(A)], []),
    "the relay was refused, and a report came": (
        "refused_and_reported",
        [sent(250)],
        [took(code=550), reported(A)],
        [],
    ),
    "the same report came twice": ("refused_and_reported", [sent(250)], [reported(A), reported(A)], []),
    "two reports, one for each": ("refused_and_reported", [sent(250, recipients=2)], [reported(A), reported(B)], []),
    "delivered to one, reported for the other": (
        "refused_and_reported",
        [sent(250, recipients=2)],
        [took(1), reported(B)],
        [],
    ),
    "a server has it, and a report says no": ("refused_and_reported", [sent(250)], [took(), reported(A)], []),
    "never offered": ("waiting", [never()], [], []),
    "on the schedule": ("waiting", [sent(451, **LATER)], [took(code=451)], []),
    "on the schedule, no connection": ("waiting", [sent(0, stage="CONNECT", **LATER)], [], []),
    "cut off before the dot": ("waiting", [sent(0, stage="MAIL", cut=True, **LATER)], [], []),
    "a temporary 5yz, heeded": ("waiting", [sent(550, **LATER)], [], []),
    "in the queue": ("waiting", [sent(250)], [], [queued()]),
    "in the queue by its queue's name": (
        "waiting",
        [sent(250, text="Ok: queued as 3F2A1")],
        [],
        [queued(message_id="")],
    ),
    "in the queue for one of two": ("waiting", [sent(250, recipients=2)], [took(1)], [queued(1)]),
    "in the queue, though a server has it": ("waiting", [sent(250)], [took()], [queued()]),
    "in the queue for one, reported for the other": (
        "waiting",
        [sent(250, recipients=2)],
        [reported(A)],
        [queued(1)],
    ),
    "its report is in the queue": ("waiting", [sent(250)], [took(code=550)], [queued(message_id="", about="m")]),
    "nobody has it": ("lost", [sent(250)], [], []),
    "one of two recipients is missing": ("lost", [sent(250, recipients=2)], [took(1)], []),
    "one is missing, the other in the queue": ("lost", [sent(250, recipients=2)], [], [queued(1)]),
    "one is missing, the other reported": ("lost", [sent(250, recipients=2)], [reported(A)], []),
    "the relay was refused, and no report came": ("lost", [sent(250)], [took(code=550)], []),
    "a report without failures is none": ("lost", [sent(250)], [reported()], []),
    "a report that was refused didn't come": ("lost", [sent(250)], [reported(A, code=550)], []),
    "some report is in the queue, nobody knows about what": ("lost", [sent(250)], [], [BOUNCED]),
    "taken twice, nobody has it": ("lost", [sent(250), sent(250, retry=1)], [], []),
    "accepted twice": ("duplicate", [sent(250)], [took(), took()], []),
    "the reply was lost, accepted again": ("duplicate", [sent(0, **LATER), sent(250, retry=1)], [took(), took()], []),
    "the server dropped it, taken at the second try": (
        "delivered",
        [sent(0, **LATER), sent(250, retry=1)],
        [took(code=0), took()],
        [],
    ),
    "the server dropped it": ("ambiguous", [sent(0)], [took(code=0)], []),
    "the reply was lost twice": ("duplicate", [sent(0, **LATER), sent(0, retry=1)], [took(), took()], []),
    "accepted twice, refused the third time": (
        "duplicate",
        [sent(0, **LATER), sent(0, retry=1, **LATER), sent(550, retry=2)],
        [took(), took()],
        [],
    ),
    "a relay delivers a part twice": ("duplicate", [sent(250, recipients=2)], [took(2), took(1)], []),
    "clients have two 250s, servers one": ("duplicate", [sent(250), sent(250, retry=1)], [took()], []),
    "accepted twice, and in the queue": ("duplicate", [sent(250)], [took(), took()], [queued()]),
    "no client": ("phantom", [], [took()], []),
    "no client, twice": ("phantom", [], [took(), took()], []),
    "no client, refused": ("phantom", [], [took(code=550)], []),
    "no client, in the queue": ("phantom", [], [], [queued()]),
    "no client, reported": ("phantom", [], [reported(A)], []),
    "never offered, yet a server has it": ("phantom", [never()], [took()], []),
    "deferred, yet a server has it": ("phantom", [sent(451, **LATER)], [took()], []),
    "refused, yet a server has it": ("phantom", [sent(550)], [took()], []),
    "refused, yet it is in the queue": ("phantom", [sent(550)], [], [queued()]),
    "no reply to MAIL, yet a server has it": ("phantom", [sent(0, stage="MAIL")], [took()], []),
    "the reply was lost, a server has it": ("ambiguous", [sent(0)], [took()], []),
    "the reply was lost, no server has it": ("ambiguous", [sent(0)], [], []),
    "the reply was lost, on the schedule": ("ambiguous", [sent(0, **LATER)], [took()], []),
    "the reply was lost, in the relay's queue": ("ambiguous", [sent(0)], [], [queued()]),
    "cut off after the dot": ("ambiguous", [sent(0, cut=True, **LATER)], [], []),
    "cut off, nobody knows where, a server has it": (
        "ambiguous",
        [sent(0, stage="CONNECT", cut=True, **LATER)],
        [took()],
        [],
    ),
    "the reply was lost, a server has it, then deferred": (
        "ambiguous",
        [sent(0, **LATER), sent(451, retry=1, **LATER)],
        [took()],
        [],
    ),
    "the reply was lost, a server has it, then refused": (
        "ambiguous",
        [sent(0, **LATER), sent(550, retry=1)],
        [took(), took(code=550)],
        [],
    ),
    "deferred, then the reply was lost": ("ambiguous", [sent(451, **LATER), sent(0, retry=1)], [], []),
}


@pytest.mark.parametrize("name", CASES)
def test_the_verdict(name: str) -> None:
    verdict, clients, servers, queue = CASES[name]
    books = reconcile(clients, servers, queue)
    assert {"m": verdict} == books.verdicts
    assert books.balances == (verdict not in ("lost", "duplicate", "phantom"))
    assert reconcile(clients[::-1], servers[::-1], queue[::-1]) == books


def test_every_verdict_has_cases() -> None:
    assert set(get_args(Verdict)) == {case[0] for case in CASES.values()}


def test_all_cases_together_are_the_sum_of_each() -> None:
    queue_ids = {name: f"Q{number}" for number, name in enumerate(CASES)}
    clients = [
        line._replace(message_id=name, text=line.text.replace("3F2A1", queue_ids[name]))
        for name, case in CASES.items()
        for line in case[1]
    ]
    servers = [
        line._replace(about=name) if line.about else line._replace(message_id=name)
        for name, case in CASES.items()
        for line in case[2]
    ]
    queue = [
        line._replace(
            message_id=name if line.message_id and line.sender == REP else "",
            about=line.about and name,
            queue_id=queue_ids[name],
        )
        for name, case in CASES.items()
        for line in case[3]
    ]
    books = reconcile(clients, servers, queue)
    assert {name: case[0] for name, case in CASES.items()} == books.verdicts
    assert Counter(case[0] for case in CASES.values()) == books.messages
    assert books.expired == 3
    assert books.unmatched == 0


def test_what_has_no_name_says_nothing_about_a_message_unless_it_was_taken() -> None:
    refused = took(message_id="", code=550)
    assert reconcile([sent(550)], [refused, reported(about="")]).verdicts == {"m": "refused"}
    books = reconcile([], [took(message_id="", session=7), took(message_id="", session=7)])
    assert 2 == books.messages["phantom"] == len(books.verdicts)
    assert books.examples["phantom"][0].message_id == "(no id: office365, session 7, 0.5 s)"


def test_a_report_is_no_message() -> None:
    assert reconcile([sent(250)], [took(), reported(about="")]).verdicts == {"m": "delivered"}
    assert reconcile([sent(250)], [took(), took()._replace(mail_from="")]).verdicts == {"m": "delivered"}


def test_entries_of_the_queue_that_nobody_sent_are_counted() -> None:
    books = reconcile([sent(250)], [took()], [queued(message_id=""), BOUNCED])
    assert books.balances
    assert books.unmatched == 1


def test_examples_are_the_first_ten_with_what_each_side_says() -> None:
    ids = [f"us-{number}" for number in range(10, 30)]
    random.Random(1).shuffle(ids)
    books = reconcile([sent(250, message_id=one) for one in ids], [took(code=550, message_id="us-10")])
    assert [f"us-{number}" for number in range(10, 20)] == [one.message_id for one in books.examples["lost"]]
    first, second, *_ = books.examples["lost"]
    assert first.why == "a server refused it, and no report came"
    assert first.client == "attempt 1 at 0 s: 250, took it"
    assert first.server == "refused it with 550"
    assert (second.why, second.server) == ("no server has it", "no line")


# Random histories: what really happened, and the ledgers that follow from it


@dataclass
class History:
    """What is known to whoever made it up."""

    truth: dict[str, Verdict] = field(default_factory=dict)
    clients: list[Attempt] = field(default_factory=list)
    servers: list[Outcome] = field(default_factory=list)
    queue: list[Queued] = field(default_factory=list)


BEFORE = st.sampled_from(["deferred at MAIL", "deferred", "no reply, not taken", "no reply, taken", "no connection"])
LAST = st.sampled_from(["taken", "taken", "refused", "given up", "on the schedule", "no reply, not taken"])
LAST |= st.sampled_from(["no reply, taken", "cut off, taken", "cut off before the dot", "never offered"])
FATES = st.sampled_from(["arrives", "arrives", "queued", "bounces", "vanishes"])


def attempts(draw: st.DrawFn, history: History, message: str, recipients: int) -> tuple[bool, int, str]:
    """Offer a message to a server; return whether the client has a 250, how often it was taken, and the last word."""
    said = [*draw(st.lists(BEFORE, max_size=3)), draw(LAST)]
    if said[-1] == "never offered" and len(said) > 1:
        said.pop()
    times = 0
    for retry, what in enumerate(said):
        final = retry == len(said) - 1
        known: dict[str, Any] = {"message_id": message, "recipients": recipients, "retry": retry}
        match what:
            case "deferred at MAIL" | "on the schedule":
                history.clients.append(sent(451, stage="MAIL", final=False, **known))
            case "deferred" | "given up":
                history.clients.append(sent(451, final=what == "given up", **known))
                history.servers.append(took(recipients, message, code=451))
            case "no connection":
                history.clients.append(sent(0, stage="CONNECT", final=False, **known))
            case "no reply, not taken" | "no reply, taken":
                history.clients.append(sent(0, final=final, **known))
            case "cut off, taken" | "cut off before the dot":
                history.clients.append(
                    sent(0, stage="EOD" if "taken" in what else "MAIL", cut=True, **known, final=False)
                )
            case "refused":
                history.clients.append(sent(550, **known))
                history.servers.append(took(recipients, message, code=550))
            case "never offered":
                history.clients.append(never(message, recipients))
            case "taken":
                history.clients.append(sent(250, **known))
        if what.endswith(", taken") or what == "taken":
            history.servers.append(took(recipients, message))
            times += 1
    return said[-1] == "taken", times, said[-1]


def directly(draw: st.DrawFn, history: History, message: str) -> Verdict:
    """Let a message go to the server itself, which takes it whole."""
    known, times, last = attempts(draw, history, message, draw(st.integers(1, 3)))
    if times > 1:
        return "duplicate"
    if known:
        return "delivered"
    if times or "no reply" in last:
        return "ambiguous"
    return "refused" if last in ("refused", "given up") else "waiting"


def through_a_relay(draw: st.DrawFn, history: History, message: str) -> Verdict:
    """Let a relay take a message, and deal with each recipient."""
    fates = draw(st.lists(FATES, min_size=1, max_size=4))
    history.clients.append(sent(250, message_id=message, recipients=len(fates)))
    arrives = fates.count("arrives")
    parts = draw(st.integers(1, arrives)) if arrives else 0
    history.servers += [took(1, message)] * max(0, parts - 1)
    if arrives:
        history.servers.append(took(arrives - max(0, parts - 1), message))
    bounced = [f"to{number}@d01.google-mx.test" for number, fate in enumerate(fates) if fate == "bounces"]
    if bounced:
        history.servers.append(reported(*bounced, about=message))
    if "queued" in fates:
        history.queue.append(queued(fates.count("queued"), message))
    if "vanishes" in fates:
        return "lost"
    if "queued" in fates:
        return "waiting"
    return "refused_and_reported" if bounced else "delivered"


@st.composite
def histories(draw: st.DrawFn) -> History:
    history = History()
    for number in range(draw(st.integers(1, 12))):
        message = f"us-{number}"
        way = draw(st.sampled_from([directly, through_a_relay]))
        history.truth[message] = way(draw, history, message)
    if draw(st.booleans()):
        history.servers.append(took(message_id="us-from-nowhere"))
        history.truth["us-from-nowhere"] = "phantom"
    return history


@given(histories(), st.randoms(use_true_random=False))
def test_the_verdicts_are_the_truth_in_any_order(history: History, rng: random.Random) -> None:
    for lines in (history.clients, history.servers, history.queue):
        rng.shuffle(lines)
    books = reconcile(history.clients, history.servers, history.queue)
    assert history.truth == books.verdicts
    assert len(history.truth) == sum(books.messages.values())
    assert Counter(history.truth.values()) == {name: number for name, number in books.messages.items() if number}
    assert books.balances == (not {"lost", "duplicate", "phantom"} & set(history.truth.values()))


@given(histories())
def test_no_line_about_a_message_that_was_taken_goes_missing_or_comes_twice_unnoticed(history: History) -> None:
    """The exception: where a reply was lost, the books can't tell an accepted message from one that wasn't."""
    sure = {line.message_id for line in history.clients if line.code == 250}
    unsure = {line.message_id for line in history.clients if line.code == 0 and line.stage == "EOD"}
    well = {name for name, verdict in history.truth.items() if verdict not in ("lost", "duplicate", "phantom")} & sure
    for place, server in enumerate(history.servers):
        name = server.about or server.message_id
        if name in well and server.code == 250:
            fewer = reconcile(history.clients, history.servers[:place] + history.servers[place + 1 :], history.queue)
            assert fewer.verdicts[name] == "lost"
            more = reconcile(history.clients, [*history.servers, server], history.queue)
            if not server.about and history.truth[name] == "delivered":
                assert more.verdicts[name] == "duplicate"
    for place, client in enumerate(history.clients):
        name = client.message_id
        if name in well and client.code == 250:
            less = reconcile(history.clients[:place] + history.clients[place + 1 :], history.servers, history.queue)
            assert ("ambiguous" if name in unsure else "phantom") == less.verdicts[name]
            twice = reconcile([*history.clients, client], history.servers, history.queue)
            assert twice.verdicts[name] == "duplicate"
    for place, entry in enumerate(history.queue):
        rest = reconcile(history.clients, history.servers, history.queue[:place] + history.queue[place + 1 :])
        assert rest.verdicts[entry.message_id] == "lost"


# Files


def client_line(line: Attempt) -> dict[str, Any]:
    more = {"label": "", "tenant": "us", "sender": REP, "bytes": 2000, "ip": "127.0.1.1", "provider": "office365"}
    return {**line._asdict(), **more, "created_at": 0.0, "held": 0.0, "enhanced": "2.0.0", "limit": "", "session": 1}


def server_line(line: Outcome) -> dict[str, Any]:
    row = {**line._asdict(), "ip": "127.0.1.1", "account": REP, "bytes": 2000, "stage": "EOD", "enhanced": "2.0.0"}
    about, failed = row.pop("about"), row.pop("failed")
    recipients = [{"recipient": one, "action": "failed", "status": "5.1.1"} for one in failed]
    recipients += [{"recipient": "to9@d01.google-mx.test", "action": "delayed", "status": "4.4.1"}]
    return (
        row
        | {"text": "Ok", "held": 0.0}
        | ({"report": {"message_id": about, "recipients": recipients}} if about else {})
    )


def queue_line(line: Queued) -> dict[str, Any]:
    recipients = [{"address": f"to{n}@d01.google-mx.test", "delay_reason": "4.7.1"} for n in range(line.recipients)]
    row: dict[str, Any] = {"queue_name": "deferred", "queue_id": line.queue_id, "arrival_time": 1796083200}
    row |= {"message_size": 2300, "sender": line.sender, "recipients": recipients}
    return row | ({"message_id": line.message_id} if line.message_id else {})


def written(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two generators' ledgers, two servers' and a queue: one message of each verdict but phantom."""
    lines = [
        sent(250, message_id="us-1"),
        sent(550, message_id="us-2"),
        sent(250, message_id="us-3"),
        sent(250, message_id="us-4"),
        sent(250, message_id="us-5"),
        sent(250, message_id="us-6"),
        sent(0, message_id="us-7"),
        never("us-8"),
        sent(451, message_id="us-9"),
    ]
    written(tmp_path / "client-1.jsonl", [client_line(line) for line in lines[:4]])
    written(tmp_path / "client-2.jsonl", [client_line(line) for line in lines[4:]])
    taken = [took(message_id="us-1"), took(message_id="us-6"), took(message_id="", code=550)]
    written(tmp_path / "server-1.jsonl", [server_line(line) for line in taken])
    taken = [took(message_id="us-6"), reported(A, about="us-3")]
    written(tmp_path / "server-2.jsonl", [server_line(line) for line in taken])
    written(tmp_path / "queue.jsonl", [queue_line(queued(message_id="<us-4@sendlab.example>"))])
    return tmp_path


def given_files(folder: Path) -> list[str]:
    clients = [str(folder / f"client-{number}.jsonl") for number in (1, 2)]
    servers = [str(folder / f"server-{number}.jsonl") for number in (1, 2)]
    return [*clients, "--server", *servers, "--queue", str(folder / "queue.jsonl")]


EXPECTED = {"delivered": 1, "refused": 2, "refused_and_reported": 1, "waiting": 2}
EXPECTED |= {"lost": 1, "duplicate": 1, "phantom": 0, "ambiguous": 1}


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*given_files(folder), "--json"]) == 1
    out, err = capsys.readouterr()
    shown = json.loads(out)
    assert shown["messages"] == EXPECTED
    assert shown["balances"] is False
    assert (shown["expired"], shown["unreadable"], shown["unmatched"]) == (1, 0, 0)
    assert [one["message_id"] for one in shown["examples"]["lost"]] == ["us-5"]
    assert [one["message_id"] for one in shown["examples"]["duplicate"]] == ["us-6"]
    assert [one["message_id"] for one in shown["examples"]["ambiguous"]] == ["us-7"]
    assert err == ""


def test_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given_files(folder)) == 1
    out, err = capsys.readouterr()
    assert "refused and reported  1\n" in out
    assert "refused               2   (given up after a 4yz or without a reply: 1)\n" in out
    assert "messages              9\n" in out
    assert (
        "\nlost, 1:\n  us-5: no server has it\n    client: attempt 1 at 0 s: 250, took it\n    server: no line\n" in out
    )
    assert "    server: accepted it 2 times, for 2 of 1 recipients\n" in out
    assert out.endswith("\nThe books do not balance: 1 lost, 1 duplicate.\n")
    assert err == ""


def test_balanced_books_are_exit_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = written(tmp_path / "client.jsonl", [client_line(sent(250))])
    server = written(tmp_path / "server.jsonl", [server_line(took())])
    (tmp_path / "queue.jsonl").touch()  # an empty queue says that nothing is in it
    assert main([client, "--server", server, "--queue", str(tmp_path / "queue.jsonl")]) == 0
    assert capsys.readouterr().out.endswith("\nThe books balance.\n")


def test_many_files_are_one(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def joined(*names: str) -> str:
        path = tmp_path / f"all-{names[0]}"
        path.write_bytes(b"".join((folder / name).read_bytes() for name in names))
        return str(path)

    client = joined("client-2.jsonl", "client-1.jsonl")
    server = joined("server-2.jsonl", "server-1.jsonl")
    main([*given_files(folder), "--json"])
    many = capsys.readouterr().out
    main([client, "--server", server, "--queue", str(folder / "queue.jsonl"), "--json"])
    assert many == capsys.readouterr().out
    first, second = given_files(folder)[3:5]
    main([client, "--server", first, "--server", second, "--queue", str(folder / "queue.jsonl"), "--json"])
    assert many == capsys.readouterr().out


def test_a_line_that_was_cut_is_named_and_what_follows_it_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = written(tmp_path / "client.jsonl", [client_line(sent(250, message_id=f"us-{n}")) for n in range(3)])
    rows = [json.dumps(server_line(took(message_id=f"us-{n}"))) for n in range(3)]
    server = tmp_path / "server.jsonl"
    # killed within the line of us-0; its follower appended us-1; killed within us-2, at the end of the file
    server.write_text(f"{rows[0][:100]}{rows[1]}\n\n{rows[2][:-1]}")
    assert main([client, "--server", str(server), "--json"]) == 1
    out, err = capsys.readouterr()
    shown = json.loads(out)
    assert shown["unreadable"] == 2
    assert [one["message_id"] for one in shown["examples"]["lost"]] == ["us-0", "us-2"]
    assert f"{server}:1: can't be read: a line that was cut, or none of a ledger\n" in err
    assert f"{server}:3: can't be read" in err


@pytest.mark.parametrize("where", range(0, 380, 7))
def test_a_line_cut_anywhere_is_no_crash(where: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = json.dumps(server_line(reported(A, about="us-1")))
    server = tmp_path / "server.jsonl"
    server.write_bytes(row.encode()[:where] + b"\xff\n" + row.encode() + b"\n")
    client = written(tmp_path / "client.jsonl", [client_line(sent(250, message_id="us-1"))])
    assert main([client, "--server", str(server), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unreadable"] == 1


@pytest.mark.parametrize("key", ["message_id", "code", "final", "started_at", "recipients", "text"])
@pytest.mark.parametrize("value", [{}, "missing"])
def test_a_line_with_a_wrong_column_is_unreadable(
    key: str, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, wrong = client_line(sent(250)), client_line(sent(250, message_id="us-2")) | {key: value}
    if value == "missing":
        del wrong[key]
    client = written(tmp_path / "client.jsonl", [good, wrong])
    server = written(tmp_path / "server.jsonl", [server_line(took())])
    assert main([client, "--server", server, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unreadable"] == 1


def test_many_damaged_lines_are_not_all_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = written(tmp_path / "client.jsonl", [client_line(sent(250))] + [{}] * 100)
    server = written(tmp_path / "server.jsonl", [server_line(took())])
    assert main([client, "--server", server, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["unreadable"] == 100
    assert len(err.splitlines()) == 21
    assert err.endswith("and 80 more such lines\n")


def test_bad_input_is_one_line_and_exit_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client, server = str(folder / "client-1.jsonl"), str(folder / "server-1.jsonl")
    empty, prose = folder / "empty.jsonl", folder / "prose.txt"
    empty.touch()
    prose.write_text("Dear diary,\nnothing was sent today.\n")
    for arguments, complaint in (
        (["nowhere.jsonl", "--server", server], "nowhere.jsonl: No such file or directory"),
        ([client, "--server", str(folder)], f"{folder}: Is a directory"),
        ([str(empty), "--server", server], f"{empty}: there is not a single line in what the clients wrote"),
        ([client, "--server", str(empty)], f"{empty}: there is not a single line in what the servers wrote"),
        ([client, "--server", str(prose)], f"{prose}: not a server's ledger: none of its 2 lines can be read as one"),
        ([server, "--server", client], f"{server}: not a client's ledger: none of its 3 lines can be read as one"),
        (
            [client, client, "--server", server],
            f"{client}: named twice, which would make everything in it happen twice",
        ),
        ([client, "--server", client], f"{client}: named twice, which would make everything in it happen twice"),
        ([client, "--server", server, "--explain", "us-77"], "no line is about a message 'us-77'"),
    ):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert (out, err) == ("", f"sendlab reconcile: {complaint}\n")


def test_one_empty_ledger_among_several_is_a_generator_that_had_nothing_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "client-3.jsonl").touch()
    assert main([str(folder / "client-3.jsonl"), *given_files(folder), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["messages"] == EXPECTED


def test_explain_shows_a_message_in_order_of_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*given_files(folder), "--explain", "us-3"]) == 0
    first, _, second, row = capsys.readouterr().out.splitlines()
    assert first.split() == ["0.000", "s", "client", f"{folder}/client-1.jsonl:3"]
    assert second.split() == ["9.000", "s", "server", f"{folder}/server-2.jsonl:2"]
    assert json.loads(row)["report"]["message_id"] == "us-3"
    assert main([*given_files(folder), "--explain", "us-4", "--json"]) == 0
    assert [one["side"] for one in json.loads(capsys.readouterr().out)] == ["client", "queue"]


def test_sendlab_becomes_this_process(folder: Path) -> None:
    command = [sys.executable, "-m", "simlib", "reconcile", *given_files(folder), "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert json.loads(ran.stdout)["messages"] == EXPECTED


def test_an_unknown_flag_is_one_line(folder: Path) -> None:
    command = [sys.executable, "-m", "simlib", "reconcile", *given_files(folder), "--jsn"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    complaint = "unrecognized arguments: --jsn (see sendlab reconcile --help)"
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", f"sendlab reconcile: {complaint}\n")
