"""A load generator against a server that says what it is told to: when it sends what over which connection.

Each run is a process of its own, without Locust. Nothing is said about how long anything took: that a message went when
it was allowed to is read from the ledger, by asking the sender's queue again at the very moments that stand there.
"""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from loads import lines, reconciled
from scripted import CLOSE, GREETING, PIPELINING, Conversation, Scripted, answering, scripted

from loadtests.plan import Plan
from simlib import plan
from simlib.load import read
from simlib.port import held_port
from simlib.scenario import Scenario
from simlib.sender import Due, Ips, Queue

GENERATE = Path(__file__).with_name("generate.py")
SOON = 60.0  # seconds after which a run would be cut off; none takes that long
DEFERRED = b"451 4.7.1 Later\r\n"
QUOTA = b"550 5.7.1 Enough for today\r\n"


class Run(NamedTuple):
    """What came of a run: the ledger, in the order in which attempts began, and what was noted of each stage."""

    rows: list[dict[str, Any]]
    notes: list[list[Any]]

    def of(self, name: str) -> list[dict[str, Any]]:
        """The attempts of a queue."""
        return [row for row in self.rows if row["message_id"].startswith(f"{name}-")]


def queue(port: int, dues: Sequence[float], **lane: Any) -> dict[str, Any]:
    """A channel with one queue: when its messages are due, and what differs from the simplest there is."""
    connections = lane.pop("open", 1)
    whole = {
        **{"channel": "c", "provider": "scripted", "host": "localhost", "address": "127.0.0.1", "port": port},
        **{"tls": False, "auth": "", "ips": [], "connections": connections, "by_account": False},
        **{"messages_per_session": None, "pace": None, "retry": {"delays": [], "lifetime": None}, "timeout": 600.0},
        **{"sentences": [], "heeds": [], **lane},
    }
    return {"lane": whole, "connections": connections, "dues": dues}


def sent(
    folder: Path, queues: dict[str, dict[str, Any]], duration: float = SOON, control: str = "", time_scale: float = 1.0
) -> Run:
    """Run a generator."""
    write_plan(folder, queues, duration, control, time_scale)
    return generated(folder)


def write_plan(
    folder: Path, queues: dict[str, dict[str, Any]], duration: float = SOON, control: str = "", time_scale: float = 1.0
) -> None:
    """Write a plan; the messages of a queue have its name and a number."""
    run = {
        **{"duration": duration, "time_scale": time_scale, "control": control, "ca": "", "incidents": []},
        "lanes": [one["lane"] for one in queues.values()],
        "routes": [
            {"lane": number, "account": "rep01@us.example", "connections": one["connections"]}
            for number, one in enumerate(queues.values())
        ],
    }
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    entries = [
        {
            **{"due": due, "message_id": f"{name}-{number}", "route": route, "mail_from": "rep01@us.example"},
            **{"bytes": 500, "rcpt_to": ["to0@d01.scripted.test"], "tenant": "us", "label": ""},
        }
        for route, (name, one) in enumerate(queues.items())
        for number, due in enumerate(one["dues"])
    ]
    (folder / "plan.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")


def generated(folder: Path, *stall: object) -> Run:
    """Run a generator on the plan in a folder."""
    command = [sys.executable, str(GENERATE), str(folder), *map(str, stall)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert not (folder / "client.underway").exists()
    rows = lines(folder / "client.jsonl")
    return Run(sorted(rows, key=lambda row: (row["started_at"] is None, row["started_at"])), json.loads(ran.stdout))


def ids(server: Scripted) -> list[str]:
    """The messages whose text the server has, connection by connection."""
    texts = [text for one in server.conversations for text in one.texts]
    return [text.partition(b"X-Sendlab-ID: ")[2].partition(b"\r\n")[0].decode() for text in texts]


def asked_again(folder: Path, number: int, rows: Sequence[dict[str, Any]]) -> list[tuple[Due | None, Due]]:
    """Ask a fresh queue at the moments of a ledger; what it gives, beside what the generator took."""
    found = Plan.load(folder)
    entries = [entry for entry in found.entries if entry.route == number]
    lane = found.lanes[number]
    fresh = Queue(
        [entry.due for entry in entries],
        range(len(entries)),
        [entry.mail_from for entry in entries] if lane.pace else None,
        lane.pace,
        lane.retry,
        lane.heeds,
        lane.messages_per_session,
    )
    moments = [(row["started_at"], "starts", row) for row in rows if row["started_at"] is not None]
    moments += [(row["ended_at"], "ends", row) for row in rows if row["ended_at"] is not None]
    pairs: list[tuple[Due | None, Due]] = []
    for moment, what, row in sorted(moments, key=lambda one: one[:2]):
        message = int(row["message_id"].partition("-")[2])
        took = Due(message, row["retry"], row["due_at"], row["released_at"])
        if what == "starts":
            pairs.append((fresh.next(moment), took))
        else:
            final = fresh.settle(took, row["code"], row["limit"], row["created_at"], moment)
            assert final == row["final"]
    return pairs


# When


def test_messages_go_in_the_order_in_which_they_are_due_and_never_before(tmp_path: Path) -> None:
    dues = [0.05, 0.05, 0.12, 0.2, 0.2, 0.21]
    with scripted(answering(EHLO=PIPELINING)) as server:
        run = sent(tmp_path, {"m": queue(server.port, dues)})
        assert ids(server) == [f"m-{number}" for number in range(6)]
    assert [row["message_id"] for row in run.rows] == [f"m-{number}" for number in range(6)]
    assert [row["created_at"] for row in run.rows] == dues
    assert all(row["started_at"] >= row["due_at"] == row["created_at"] for row in run.rows)
    assert all(row["final"] and row["code"] == 250 for row in run.rows)


def test_a_message_goes_when_the_sender_s_queue_lets_it(tmp_path: Path) -> None:
    """The same code as in the simulation decides; asked again, it gives the same message at the same moment."""
    taken = GREETING["EOD"]
    forever = {"delays": [0.1, 0.02], "lifetime": None}
    a_while = {"delays": [0.05], "lifetime": 0.12}
    quota: dict[str, Any] = {
        "heeds": ["scripted/quota"],
        "sentences": [["scripted/quota", "550 5.7.1 Enough for today", "550 5\\.7\\.1 Enough for today"]],
    }
    paced = {"batch": 2, "wait": 0.05}
    then = GREETING["MAIL"]
    cases: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "pace": ({"pace": {"batch": 2, "wait": 0.1}}, {}),
        "retries": ({"retry": forever}, {"EOD": [DEFERRED] * 5 + [taken]}),
        "expires": ({"retry": a_while}, {"EOD": DEFERRED}),
        "heeds": ({"retry": forever, **quota}, {"EOD": [taken, QUOTA, taken]}),
        "both": (
            {"pace": paced, "retry": forever, "open": 3},
            {"MAIL": [then, DEFERRED, then]},
        ),
        "once": ({"open": 3, "messages_per_session": 2}, {"RCPT": [DEFERRED, GREETING["RCPT"]]}),
    }
    dues = [0.0, 0.0, 0.02, 0.02, 0.04, 0.06]
    with ExitStack() as stack:
        servers = {name: stack.enter_context(scripted(answering(**said))) for name, (_, said) in cases.items()}
        queues = {name: queue(servers[name].port, dues, **lane) for name, (lane, _) in cases.items()}
        run = sent(tmp_path, queues)
        heeded = ids(servers["heeds"])
    for number, name in enumerate(cases):
        pairs = asked_again(tmp_path, number, run.of(name))
        assert [given for given, _ in pairs] == [took for _, took in pairs]
        assert sorted(took.message for _, took in pairs if took.retry == 0) == [*range(6)]
    codes = {name: Counter(row["code"] for row in run.of(name) if row["final"]) for name in cases}
    assert codes == {**{name: {250: 6} for name in cases}, "expires": {451: 6}, "once": {451: 1, 250: 5}}
    attempts = {name: len(run.of(name)) for name in ("pace", "retries", "heeds", "both", "once")}
    assert attempts == {"pace": 6, "retries": 11, "heeds": 7, "both": 7, "once": 6}
    assert heeded == [f"heeds-{number}" for number in (0, 1, 1, 2, 3, 4, 5)]  # nobody overtakes it


# Over which connection


def test_a_session_ends_in_time_and_the_next_goes_to_the_next_address(tmp_path: Path) -> None:
    ips = ["127.0.1.1", "127.0.1.2", "127.0.1.3"]
    with scripted(answering()) as full, scripted(answering()) as idle, scripted(answering()) as turns:
        queues = {
            "full": queue(full.port, [0.0] * 7, messages_per_session=3),
            "idle": queue(idle.port, [0.0, 0.5]),
            "turns": queue(turns.port, [0.0] * 7, ips=ips, messages_per_session=1),
        }
        run = sent(tmp_path, queues)
        assert [len(one.texts) for one in full.conversations] == [3, 3, 1]
        assert [len(one.texts) for one in idle.conversations] == [1, 1]  # none is kept open that has nothing to do
        assert [one.ip for one in turns.conversations] == [*ips, *ips, ips[0]]
        assert {one.lines[-1] for server in (full, idle, turns) for one in server.conversations} == {"QUIT"}
    assert [row["transaction"] for row in run.of("full")] == [1, 2, 3, 1, 2, 3, 1]
    assert [row["message_id"] for row in run.of("full") if row["connect"] > 0] == ["full-0", "full-3", "full-6"]
    assert [row["ip"] for row in run.of("turns")] == [*ips, *ips, ips[0]]
    sessions = [{row["session"] for row in run.of(name)} for name in ("full", "idle", "turns")]
    assert [len(numbers) for numbers in sessions] == [3, 2, 7]
    assert len(set.union(*sessions)) == 12  # a number is one session's


def test_connections_are_as_many_as_the_channel_has_and_no_more(tmp_path: Path) -> None:
    """The server answers the dot only when four wait for it: so four were open, two from each address."""
    barrier = threading.Barrier(4)
    lock = threading.Lock()
    there: Counter[str] = Counter()
    most: Counter[str] = Counter()

    def script(one: Conversation) -> None:
        with lock:
            there.update([one.ip, "all"])
            for name in there:
                most[name] = max(most[name], there[name])
        answering()(Slow(one, lambda: barrier.wait(20)))
        with lock:
            there.subtract([one.ip, "all"])

    ips = ["127.0.1.1", "127.0.1.2"]
    with scripted(script) as server:
        run = sent(tmp_path, {"m": queue(server.port, [0.0] * 16, ips=ips, open=4, connections=2)})
    assert most == {"all": 4, "127.0.1.1": 2, "127.0.1.2": 2}
    assert [row["code"] for row in run.rows] == [250] * 16


class Slow(Conversation):
    """A conversation that waits for something before a text is answered."""

    def __init__(self, one: Conversation, wait: Callable[[], object]) -> None:
        self.__dict__ = one.__dict__
        self.wait = wait

    def hear_text(self) -> bytes:
        text = super().hear_text()
        self.wait()
        return text


def test_a_throttled_address_waits_as_in_the_simulation(tmp_path: Path) -> None:
    """Asked again, the IPs let every message go at the moment at which it went; and who has to wait is not late."""
    limit, sentence = "scripted/quota", "421 4.7.28 too much"
    throttled = {
        **{"throttles": [limit], "sentences": [[limit, sentence, "421 4\\.7\\.28 too much"]], "open": 3},
        "retry": {"delays": [700.0], "lifetime": None},
    }
    scale = 400.0
    with ExitStack() as stack:
        at = {"kumomta": "EOD", "google": "EOD", "postfix": "CONNECT"}
        answers = {name: {stage: [f"{sentence}\r\n".encode(), GREETING[stage]]} for name, stage in at.items()}
        servers = {name: stack.enter_context(scripted(answering(**said))) for name, said in answers.items()}
        # enough of them that some have to wait, however many have gone before the refusal is heard
        due = [0.0] * 14
        queues = {name: queue(server.port, due, reaction=name, **throttled) for name, server in servers.items()}
        run = sent(tmp_path, queues, duration=SOON * scale, time_scale=scale)
    lanes = Plan.load(tmp_path).lanes
    for number, name in enumerate(queues):
        rows = run.of(name)
        assert Counter(row["code"] for row in rows) == {421: 1, 250: len(due)}
        ips = Ips(1, lanes[number].connections, lanes[number].reaction, lanes[number].throttles)
        moments = [(row["started_at"], 1, row) for row in rows] + [(row["ended_at"], 0, row) for row in rows]
        waited = []
        for moment, starts, row in sorted(moments, key=lambda one: one[:2]):
            if starts:
                opened = ips.opens_at(0)
                assert opened <= moment
                assert row["late"] * scale <= moment - max(opened, row["due_at"]) + 1e-6
                waited.append(opened - row["due_at"])
                ips.begin(0, moment)
            else:
                ips.end(0, row["started_at"], moment, row["code"], row["stage"], row["limit"])
        assert max(waited) > {"kumomta": 240, "google": 599, "postfix": 0}[name]
        quiet_until = next(row["ended_at"] for row in rows if row["code"] == 421) + (600 if name == "google" else 0)
        for row in rows:  # nor is anybody once the reaction is over
            if row["started_at"] > quiet_until:
                assert row["late"] * scale <= row["started_at"] - quiet_until


def test_a_load_tells_what_a_reaction_kept_back(tmp_path: Path) -> None:
    """The second of three messages is refused: the third goes at once, it and those after it a minute apart."""
    pool = {
        "name": "c",
        "tenants": ["us"],
        "to": "generic-mx",
        "connections": 1,
        "retry": ["1s"],
        "reaction": "kumomta",
    }
    question = Scenario.build(
        {
            **{"name": "slowed", "duration": "4h", "limits": {"generic-mx/quota": "100/h"}},
            "tenants": [{"name": "us", "senders": 1, "bytes": 500, "arrivals": {"kind": "batches", "size": 3}}],
            "alternatives": {"all": {"channels": [pool]}},
        }
    )
    messages = question.messages(1, 0)
    answers = [GREETING["MAIL"], b"450 4.7.1 Error: too much mail from 127.0.1.1\r\n", GREETING["MAIL"]]
    with scripted(answering(MAIL=answers)) as server:
        where = {"generic-mx": ("127.0.0.1", "127.0.0.1", server.port)}
        plan.write(tmp_path, question, "all", messages, where, time_scale=400)
        rows = generated(tmp_path).rows
    found = read(tmp_path, question, "all", messages, time_scale=400)
    assert [row["code"] for row in rows] == [250, 450, 250, 250]
    refused_at = rows[1]["ended_at"]
    assert found.attempts.slowed == ((0, refused_at, refused_at + 5400),)
    kept = sum(row["started_at"] - max(row["due_at"], refused_at) for row in rows[2:])
    assert found.summaries["us"].bound_by["reaction"] == pytest.approx(kept)
    assert kept > 58


# What may go wrong


def test_whatever_the_server_does_each_message_s_fate_is_known(tmp_path: Path) -> None:
    """Refused, or lost: the stage and the reply say it; and a run never waits for what will not come."""
    plain = b"250-x\r\n250 AUTH PLAIN\r\n"
    cases: dict[str, tuple[dict[str, Any], str, str, int]] = {
        "banner": ({"CONNECT": b"554 5.7.1 Go away\r\n"}, "", "CONNECT", 554),
        "toomany": ({"CONNECT": b"421 4.7.0 Too many\r\n"}, "", "CONNECT", 421),
        "silent": ({"CONNECT": CLOSE}, "", "CONNECT", 0),
        "ehlo": ({"EHLO": b"550 5.7.1 Not you\r\n"}, "", "EHLO", 550),
        "password": ({"EHLO": plain, "AUTH": b"535 5.7.8 No\r\n"}, "password", "AUTH", 535),
        "mechanism": ({"EHLO": b"250-x\r\n250 AUTH CRAM-MD5\r\n"}, "password", "AUTH", 0),
        # the token endpoint is gone, as after a crash
        "token": ({"EHLO": b"250-x\r\n250 AUTH XOAUTH2\r\n", "AUTH": b"535 5.7.8 No\r\n"}, "oauth", "AUTH", 535),
        "mail": ({"MAIL": b"550 5.7.1 No\r\n"}, "", "MAIL", 550),
        # the server leaves with its refusal: the next message would be lost on that connection
        "rcpt": ({"RCPT": b"550 5.1.1 Nobody\r\n", "RSET": CLOSE}, "", "RCPT", 550),
        "data": ({"DATA": b"421 4.3.2 Bye\r\n"}, "", "DATA", 421),
        "dot": ({"EOD": CLOSE}, "", "EOD", 0),
        "text": ({"EOD": b"552 5.3.4 Too large\r\n"}, "", "EOD", 552),
    }
    with ExitStack() as stack:
        nobody = stack.enter_context(held_port())
        servers = {name: stack.enter_context(scripted(answering(**said))) for name, (said, *_) in cases.items()}
        queues = {name: queue(servers[name].port, [0.0, 0.0], auth=auth) for name, (_, auth, _, _) in cases.items()}
        run = sent(tmp_path, queues, control=f"127.0.0.1:{nobody}")
        sessions = {name: len(server.conversations) for name, server in servers.items()}
    for name, (_, _, stage, code) in cases.items():
        assert [(row["stage"], row["code"], row["final"]) for row in run.of(name)] == [(stage, code, True)] * 2, name
    assert {name for name, count in sessions.items() if count == 1} == {"mail", "text"}  # the others end the session
    assert run.of("mechanism")[0]["text"] == "the server must offer PLAIN or LOGIN, got CRAM-MD5"


def test_what_is_cut_off_and_what_is_never_offered_is_in_the_ledger(tmp_path: Path) -> None:
    """The run ends while a reply is awaited: nobody knows what becomes of that message, and the others never went."""
    received, over = threading.Event(), threading.Event()

    def script(one: Conversation) -> None:
        def wait() -> None:
            received.set()
            over.wait(60)

        answering()(Slow(one, wait))

    with scripted(script) as server:
        write_plan(tmp_path, {"m": queue(server.port, [0.0, 0.1, 50.0])})
        with subprocess.Popen([sys.executable, str(GENERATE), str(tmp_path)], stdout=subprocess.DEVNULL) as process:
            assert received.wait(60)
            process.terminate()
        over.set()
    assert process.returncode == 0
    cut, *never = lines(tmp_path / "client.jsonl")
    assert (cut["message_id"], cut["stage"], cut["code"]) == ("m-0", "EOD", 0)
    assert (cut["ended_at"], cut["final"]) == (None, False)
    assert cut["started_at"] is not None
    assert [(row["message_id"], row["started_at"], row["ended_at"], row["stage"], row["code"]) for row in never] == [
        ("m-1", None, None, "", 0),
        ("m-2", None, None, "", 0),
    ]


@pytest.mark.parametrize(("arrived", "fate"), [(True, "ambiguous"), (False, "waiting")])
def test_what_a_killed_generator_was_offering_is_on_record(
    arrived: bool, fate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It can write nothing more: whether the server has the second message, only the server knows.

    The first was refused, which its ledger has, and the third was never offered.
    """
    stay = threading.Event()
    received = threading.Event()

    def script(one: Conversation) -> None:
        def wait() -> None:
            if b"X-Sendlab-ID: m-1\r\n" in one.texts[-1]:
                received.set()
                stay.wait(60)

        answering(EOD=b"550 5.7.1 No\r\n")(Slow(one, wait))

    with scripted(script) as server:
        write_plan(tmp_path, {"m": queue(server.port, [0.0, 0.1, 50.0])})
        with subprocess.Popen([sys.executable, str(GENERATE), str(tmp_path)]) as process:
            assert received.wait(60)
            process.kill()
        stay.set()
        assert ids(server) == ["m-0", "m-1"]
    assert [row["message_id"] for row in lines(tmp_path / "client.jsonl")] == ["m-0"]
    line = {"time": 0.0, "provider": "scripted", "session": 2, "mail_from": "rep01@us.example", "recipients": 1}
    line |= {"message_id": "m-1", "code": 250 if arrived else 450, "limit": ""}
    (tmp_path / "server.jsonl").write_text(f"{json.dumps(line)}\n", encoding="utf-8")
    found = reconciled(capsys, [tmp_path / "client.jsonl"], tmp_path / "server.jsonl")
    assert (found.code, found.messages) == (0, Counter(["refused", "waiting", fate]))


def test_every_stage_is_noted_with_the_sentence_that_refused_it(tmp_path: Path) -> None:
    """Replies that differ in an id or a time only are one line in Locust's table of failures."""
    sentences = [["scripted/rate", "450 4.2.1 {id} too fast", "450\\ 4\\.2\\.1\\ (?s:.*)\\ too\\ fast"]]
    answers = [b"450 4.2.1 abc too fast\r\n", b"450 4.2.1 xyz too fast\r\n", GREETING["MAIL"]]
    with scripted(answering(MAIL=answers)) as server:
        run = sent(tmp_path, {"m": queue(server.port, [0.0] * 3, sentences=sentences)})
    refused = "450 4.2.1 {id} too fast"
    assert run.notes == [
        ["connect", 0, ""],
        *(["mail", 0, refused], ["message", 500, refused]),
        *(["mail", 0, refused], ["message", 500, refused]),
        *(["mail", 0, ""], ["data", 503, ""], ["message", 500, ""]),
    ]
    assert [(row["limit"], row["text"]) for row in run.rows] == [
        ("scripted/rate", "abc too fast"),
        ("scripted/rate", "xyz too fast"),
        ("", "Ok"),
    ]


# Late


def test_a_generator_that_stalls_says_so(tmp_path: Path) -> None:
    """Connections were free and messages due, and nothing happened: the run is no result."""
    due = [{"kind": "batches", "first": f"{at}s", "size": 1} for at in (0.05, 0.9, 0.91, 0.92)]
    question = Scenario.build(
        {
            "name": "stalled",
            "duration": "1min",
            "tenants": [{"name": "us", "senders": 1, "bytes": 500, "arrivals": due}],
            "alternatives": {"all": {"channels": [{"name": "c", "tenants": ["us"], "to": "generic-mx"}]}},
        }
    )
    messages = question.messages(1, 0)
    with scripted(answering()) as server:
        plan.write(tmp_path, question, "all", messages, {"generic-mx": ("127.0.0.1", "127.0.0.1", server.port)})
        run = generated(tmp_path, messages.ids()[0], 1.1)
    found = read(tmp_path, question, "all", messages)
    assert [row["late"] > 0.05 for row in run.rows[1:]] == [True] * 3
    assert found.late >= 3 / 4
    assert not found.counts
    assert found.json()["result"] is False
    assert found.summaries["us"].numbers["accepted"] == 4  # what happened is told all the same


def test_who_waits_for_a_connection_is_not_late(tmp_path: Path) -> None:
    """The channel has one connection, and it is busy for longer than a generator may be late."""
    passed = threading.Event()
    with scripted(lambda one: answering()(Slow(one, lambda: passed.wait(0.2)))) as server:
        run = sent(tmp_path, {"m": queue(server.port, [0.0, 0.01])})
    first, second = run.rows
    assert second["started_at"] - second["due_at"] > 0.1
    assert second["late"] <= second["started_at"] - first["ended_at"]
