"""`sendlab load` from end to end: what it writes, that its counts are the simulation's, and whom it can't deceive.

Runs are short, at many times the speed or against a server that is started here; nothing is said about how long
anything took.
"""

import json
import math
from base64 import b64encode
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from loads import MIXED, Server, lines, mixed, reconciled, serving, swallowing, undisturbed
from scripted import PIPELINING, answering, scripted

from loadtests import relay
from simlib import experiment
from simlib import load as load_module
from simlib.load import Load, load
from simlib.measured import load_lines, rate
from simlib.port import held_port
from simlib.record import frame
from simlib.report import document
from simlib.safety import Target
from simlib.scenario import Scenario
from simlib.summary import METRICS, summarize

COLUMNS = (
    *("message_id", "label", "tenant", "sender", "recipients", "bytes", "ip", "provider", "retry", "created_at"),
    *("started_at", "ended_at", "held", "stage", "code", "enhanced", "text", "limit", "final"),
)
COUNTS = (
    *("offered", "accepted", "rejected", "expired", "waiting", "on_time", "throttled", "held", "attempts"),
    *("deferred_attempts", "rejected_attempts"),
)

needs_postfix = pytest.mark.skipif(bool(relay.missing()), reason=relay.missing())


def at_once(*channels: dict[str, Any], **more: Any) -> Scenario:
    """Messages that are all due at second 0, one tenant a channel."""
    tenants = [
        {"name": one["name"], "senders": 1, "bytes": 1_000, "arrivals": {"kind": "batches", "size": one.pop("size")}}
        for one in channels
    ]
    every = [{"tenants": [one["name"]], "connections": 2, "messages_per_session": 100, **one} for one in channels]
    data = {"name": "at once", "duration": "1h", "start": "2026-12-01T09:00", "tenants": tenants}
    return Scenario.build({**data, "alternatives": {"all": {"channels": every}}, **more})


def at(server: Server) -> Target:
    return Target("localhost", "127.0.0.1", server.port)


# What depends on no clock is as simulated


def test_every_count_is_the_simulation_s(measured: Load) -> None:
    """Holds, refusals, retries, a changed password and a revoked token: each at its moment, so each exactly."""
    question = mixed()
    lanes = question.lanes("all")
    simulated = summarize(experiment.run(question, "all", seed=1), question, lanes)
    assert set(simulated) == set(measured.summaries)
    for tenant, summary in simulated.items():
        found = measured.summaries[tenant]
        assert {name: summary.numbers[name] for name in COUNTS} == {name: found.numbers[name] for name in COUNTS}
        assert summary.refusals == found.refusals
        assert summary.other_refusals == found.other_refusals
    held = simulated["held"].numbers
    assert (held["held"], simulated["refused"].numbers["rejected"]) == (3, 9)  # it isn't all nothing


def test_the_record_has_the_columns_of_the_contract(measured: Load) -> None:
    frame = measured.frame()
    assert set(COLUMNS) <= {name.removesuffix("_s") for name in frame.columns}
    assert set(COLUMNS) <= set(measured.rows[0])
    assert len(frame) == len(measured.rows) == 33 + 29 + 34 + 3 + 9
    by_limit = Counter(frame["limit"][frame["held"] > 0])
    assert by_limit == {"office365/messages-per-minute": 3}
    assert frame["label"][frame["tenant"] == "held"].unique() == ["burst"]
    assert frame["recipients"][frame["tenant"] == "deferred"].unique() == [2]
    assert isinstance(frame["started_at"].iloc[0], pd.Timestamp)


def test_arrivals_are_split_over_generators_not_multiplied(measured: Load) -> None:
    ledgers = sorted(measured.folder.glob("client*.jsonl"))
    assert [path.name for path in ledgers] == ["client-1.jsonl", "client-2.jsonl"]
    seen = [{line["message_id"] for line in lines(path)} for path in ledgers]
    assert seen[0] & seen[1] == set()
    assert seen[0] | seen[1] == set(measured.attempts.messages.ids())
    assert all(seen)
    attempts = Counter((row["message_id"], row["retry"]) for row in measured.rows)
    assert set(attempts.values()) == {1}


def test_both_generators_use_what_was_mended(measured: Load) -> None:
    """A password that is renewed, and a token that is asked for again, in whichever process the account is."""
    stages: dict[str, list[tuple[str, int]]] = {"refused": [], "oauth": []}
    for row in sorted(measured.rows, key=lambda row: row["started_at"]):
        if row["tenant"] in stages:
            stages[row["tenant"]].append((row["sender"], row["code"]))
    codes = [code for _, code in stages["refused"]]
    assert codes[:19] == [250] * 15 + [535] * 4
    assert Counter(codes[19:]) == {250: 5, 550: 5}  # which of the ten is first, is chance
    first = [code for sender, code in stages["oauth"] if sender == "rep01@oauth.example"]
    assert first == [250, 535, 250]


def test_sessions_take_the_channel_s_addresses_in_turn(measured: Load) -> None:
    ips = {row["session"]: row["ip"] for row in measured.rows if row["tenant"] == "deferred"}
    assert Counter(ips.values()).keys() == {"127.0.3.1", "127.0.3.2"}
    assert {row["ip"] for row in measured.rows if row["tenant"] == "waiting"} == {"127.0.4.1"}
    told = {(line["message_id"], line["ip"]) for line in lines(measured.folder / "server.jsonl") if line["code"] == 250}
    assert told == {(row["message_id"], row["ip"]) for row in measured.rows if row["code"] == 250}


def test_the_stages_of_an_attempt_add_up(measured: Load) -> None:
    """From its start to its reply, nothing is left out: what was measured is all there was."""
    for row in measured.rows:
        stages = sum(row[stage] for stage in ("connect", "tls", "auth", "mail", "data"))
        took = (row["ended_at"] - row["started_at"]) / measured.time_scale
        assert stages <= took + 1e-6
    assert {name for name, seconds in measured.stages().items() if seconds > 0} == {
        *("connect", "tls", "auth", "mail", "data")
    }


def test_the_books_balance_and_a_line_that_is_taken_out_is_found(
    measured: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clients, server = sorted(measured.folder.glob("client*.jsonl")), measured.folder / "server.jsonl"
    whole = reconciled(capsys, clients, server)
    assert (whole.code, whole.messages) == (0, {"delivered": 67, "refused": 20, "waiting": 1})
    assert measured.books is not None
    assert {verdict: count for verdict, count in measured.books["messages"].items() if count} == whole.messages

    some = next(line for line in lines(server) if line["code"] == 250)["message_id"]
    torn = without(server, some, tmp_path)
    lost = reconciled(capsys, clients, torn)
    assert (lost.code, lost.messages) == (1, {"delivered": 66, "refused": 20, "waiting": 1, "lost": 1})
    assert lost.examples["lost"] == [some]

    of = next(path for path in clients if some in path.read_text(encoding="utf-8"))
    others = [path for path in clients if path != of]
    out_of_nowhere = reconciled(capsys, [*others, without(of, some, tmp_path)], server)
    assert (out_of_nowhere.code, out_of_nowhere.messages["phantom"]) == (1, 1)
    assert out_of_nowhere.examples["phantom"] == [some]


def without(ledger: Path, message_id: str, folder: Path) -> Path:
    """A copy of a ledger from which somebody took the lines about a message."""
    kept = [line for line in lines(ledger) if line["message_id"] != message_id]
    path = folder / ledger.name
    path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    assert len(kept) < len(lines(ledger))
    return path


def test_the_document_has_the_keys_of_compare(measured: Load) -> None:
    compared = document(experiment.compare(mixed(), replications=1, jobs=1))
    found = measured.json()
    assert set(compared) - {"one_off", "best"} <= set(found)
    (ours,) = found["alternatives"].values()
    (theirs,) = compared["alternatives"].values()
    assert set(theirs["tenants"]) == set(ours["tenants"])
    assert ours["ends_at"] == theirs["ends_at"]
    for tenant, numbers in theirs["tenants"].items():
        mine = ours["tenants"][tenant]
        assert set(numbers) == set(mine)
        for metric in METRICS:
            assert (mine[metric] is None) == (numbers[metric] is None)
            if mine[metric] is not None:
                assert (mine[metric]["low"], mine[metric]["high"]) == (None, None)
        for name in COUNTS:
            assert mine[name]["mean"] == numbers[name]["mean"]
        assert set(numbers["refusals"]) == set(mine["refusals"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["result"], found["late"]) == (measured.counts, measured.late)  # a busy machine may make it late
    assert found["books"]["balances"] is True


def test_locust_s_own_tables_are_there(measured: Load) -> None:
    stats = pd.read_csv(measured.folder / "locust_stats.csv")
    requests = {(row.Type, row.Name): row._3 for row in stats.itertuples() if isinstance(row.Type, str)}
    assert requests["office365", "data"] == 33
    assert requests["google-mx", "mail"] == 37
    assert requests["google-mx", "message"] == 16  # those whose fate is known
    failures = pd.read_csv(measured.folder / "locust_failures.csv")
    refused = {(row.Method, row.Name, row.Occurrences) for row in failures.itertuples()}
    assert ("sparkpost", "auth", 4) in refused
    assert ("google-mx", "data", 31) in refused  # one sentence, one line, whatever ids and times stand in it
    assert (measured.folder / "locust.html").stat().st_size > 10_000


def test_it_is_told_in_words(measured: Load) -> None:
    said = "\n".join(load_lines(measured))
    assert "a little of everything: all, 20 times as fast, seed 1" in said
    assert "held: 33 offered, 33 accepted, 0 rejected, 0 expired, 0 waiting, 3 throttled" in said
    assert "throttled by office365/messages-per-minute: 3" in said
    assert "refused with 535 5.7.8 at AUTH: 4" in said
    once = measured.stages()["mail"] + measured.stages()["data"]
    assert f"At 20 times the speed the {once * 1000:.2f} ms of a transaction are {once * 20:.1f} s of the scen" in said
    assert "The books balance: 67 delivered, 20 refused, 1 waiting." in said


@pytest.mark.parametrize(
    ("per_second", "text"),
    [
        (0.5, "0.5/s (30/min)"),
        (1 / 60, "0.0167/s (1/min)"),
        (1.0, "1/s"),
        (0.0, "0/s (0/min)"),
        (math.nan, "all at once"),
    ],
)
def test_slow_rates_are_rates_too(per_second: float, text: str) -> None:
    assert rate(per_second) == text


def test_rates_are_what_was_due_and_what_was_begun(measured: Load) -> None:
    offered, achieved = measured.rates
    assert offered == 87 / 65  # 88 messages from second 5 to 70
    assert 0 < achieved <= offered


# A run that isn't a result


def test_a_late_run_is_no_result(measured: Load, tmp_path: Path, say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 5 % of the attempts began more than 50 ms late (DESIGN §10): it says so, and the exit code is 1."""

    def with_late(share: float) -> Load:
        count = round(share * len(measured.rows))
        rows = [row | {"late": 0.0501 if place < count else 0.0499} for place, row in enumerate(measured.rows)]
        return replace(measured, rows=rows)

    assert with_late(0.04).counts
    assert not with_late(0.06).counts
    scenario = tmp_path / "mixed.json"
    scenario.write_text(json.dumps(MIXED), encoding="utf-8")
    for share, code, verdict in ((0.06, 1, "NO RESULT"), (0.04, 0, "The generator kept up")):
        monkeypatch.setattr(load_module, "load", lambda *_, share=share, **__: with_late(share))
        got, out, _ = say("load", scenario, "--alternative", "all")
        assert (got, verdict in out) == (code, True)
        got, out, _ = say("load", scenario, "--alternative", "all", "--json")
        assert (got, json.loads(out)["result"]) == (code, code == 0)


def test_books_that_do_not_balance_are_no_success(
    measured: Load, tmp_path: Path, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (*measured.folder.glob("client*.jsonl"), measured.folder / "server.jsonl"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    delivered = next(row["message_id"] for row in measured.rows if row["code"] == 250)
    without(measured.folder / "server.jsonl", delivered, tmp_path)
    torn = replace(measured, folder=tmp_path)
    monkeypatch.setattr(load_module, "load", lambda *_, **__: torn)
    scenario = tmp_path / "mixed.json"
    scenario.write_text(json.dumps(MIXED), encoding="utf-8")
    code, out, _ = say("load", scenario, "--alternative", "all")
    assert code == 1
    assert "THE BOOKS DO NOT BALANCE: 66 delivered, 20 refused, 1 waiting, 1 lost." in out


# Whatever happens to the server, every message's fate is named


HOLDER = {
    "holder": {
        **{"title": "Six an hour, the others wait", "role": "delivery", "credential": "ip", "auth": []},
        "limits": [
            {
                **{"id": "messages-per-hour", "count": "messages", "per": "ip", "limit": "6/h", "window": "sliding"},
                **{"counts": "accepted", "on_excess": "hold_reply", "at": "EOD"},
                **{"source": "made up for this test", "as_of": "2026-11-01", "grade": "assumed"},
            }
        ],
    }
}


def test_a_server_is_killed_and_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two replies to the dot are under way on each channel when it dies: the server has them, the client can't know.

    Who tries again sends them twice, and that is found; who doesn't is left with two of which nobody knows, and two
    that were refused since nobody was there.
    """
    once = {"name": "once", "to": "holder", "size": 10}
    again = {"name": "again", "to": "holder", "size": 10, "retry": ["1s"], "queue_lifetime": "1h"}
    question = at_once(once, again, providers=HOLDER)
    scenario, ledger = tmp_path / "scenario.json", tmp_path / "provider.jsonl"
    scenario.write_text(json.dumps(question.data), encoding="utf-8")
    words = ("holder", "--scenario", scenario, "--ledger", ledger)
    with held_port() as port, ExitStack() as later, serving(*words, port=port) as first:
        there = [first]

        def kill(decided: int, of: int) -> None:
            if there == [first] and decided == 12 and first.waiting()["held"] == 4:
                first.process.kill()
                there.clear()
            elif not there and decided == 16:  # who doesn't try again has met nobody
                there.append(later.enter_context(serving(*words, port=port)))

        found = load(question, "all", tmp_path / "out", target=at(first), progress=kill)
    assert found.books is None  # the ledger is the server's, and it is elsewhere
    fates = reconciled(capsys, [tmp_path / "out" / "client.jsonl"], ledger)
    assert fates.messages == {"delivered": 14, "refused": 2, "ambiguous": 2, "duplicate": 2}
    assert fates.code == 1  # two were sent twice, truly
    assert {name.partition("-")[0] for name in fates.examples["ambiguous"]} == {"once"}
    assert {name.partition("-")[0] for name in fates.examples["duplicate"]} == {"again"}
    cut = [row for row in found.rows if row["stage"] == "EOD" and row["code"] == 0]
    assert Counter(row["tenant"] for row in cut) == {"once": 2, "again": 2}
    nobody = [row for row in found.rows if row["stage"] == "CONNECT"]
    assert {row["code"] for row in nobody} == {0}
    assert Counter(row["tenant"] for row in nobody if row["final"]) == {"once": 2}


def test_a_reply_that_never_arrives_leaves_it_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Accepted, and the client can't know: neither delivered nor lost; and if it tries again, there are two."""
    once = {"name": "once", "to": "generic-mx", "size": 7}
    again = {"name": "again", "to": "generic-mx", "size": 7, "retry": ["1s"], "queue_lifetime": "1h"}
    question = at_once(once, again)
    chosen = {"once-1", "once-4", "again-0", "again-6"}
    ledger = tmp_path / "provider.jsonl"
    with serving("generic-mx", "--ledger", ledger) as server, swallowing(server.port, chosen) as port:
        load(question, "all", tmp_path / "out", target=Target("127.0.0.1", "127.0.0.1", port))
    fates = reconciled(capsys, [tmp_path / "out" / "client.jsonl"], ledger)
    assert fates.messages == {"delivered": 10, "ambiguous": 2, "duplicate": 2}
    assert fates.code == 1
    assert sorted(fates.examples["ambiguous"]) == ["once-1", "once-4"]
    assert sorted(fates.examples["duplicate"]) == ["again-0", "again-6"]


# A target of one's own


SECRET = "correct horse battery staple"


def test_a_target_of_one_s_own(tmp_path: Path, say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password comes from the environment, and is in no file afterwards."""
    accounts, scenario, ca = tmp_path / "accounts.toml", tmp_path / "scenario.json", tmp_path / "ca.pem"
    accounts.write_text(f'[[accounts]]\nuser = "us.example"\npassword = "{SECRET}"\ndomains = ["us.example"]\n')
    question = at_once({"name": "us", "to": "sparkpost", "size": 5})
    scenario.write_text(json.dumps(question.data), encoding="utf-8")
    monkeypatch.setenv("SENDLAB_PASSWORD", SECRET)
    out = tmp_path / "out"
    (out / "old").mkdir(parents=True)
    for name in ("client-1.jsonl", "client-2.jsonl", "server.jsonl", "server-inbox.jsonl"):  # of a run before
        (out / name).write_text('{"message_id": "old"}\n')
    with serving("sparkpost", "--accounts", accounts, "--ca", ca, "--ledger", tmp_path / "provider.jsonl") as server:
        words = (
            "load",
            scenario,
            "--alternative",
            "all",
            "--target",
            f"127.0.0.1:{server.port}",
            "--ca",
            ca,
            "--out",
            out,
            "--json",
        )
        code, said, err = say(*words)
    found = json.loads(said)
    assert (code, err) == (0 if found["result"] else 1, "")  # whether it kept up is this machine's matter
    assert found["alternatives"]["all"]["tenants"]["us"]["accepted"]["mean"] == 5
    assert (found["books"], found["time_scale"], found["notes"]) == (None, 1, [])
    assert found["stages"]["tls"] > 0
    assert found["stages"]["auth"] > 0
    assert json.loads((out / "summary.json").read_text(encoding="utf-8")) == found
    assert len(pd.read_parquet(out / "attempts.parquet")) == 5
    assert {path.name for path in out.glob("*.jsonl")} == {"client.jsonl", "plan.jsonl"}
    secrets = (SECRET.encode(), b64encode(SECRET.encode()), b64encode(f"\0us.example\0{SECRET}".encode()))
    for path in (path for path in out.rglob("*") if path.is_file()):
        assert not any(secret in path.read_bytes() for secret in secrets), path
    assert len(lines(tmp_path / "provider.jsonl")) == 5


def test_a_relay_that_asks_for_no_password_gets_the_mail_all_the_same(tmp_path: Path) -> None:
    """One's own Postfix, which trusts this machine: what the provider would want, and what can't happen, is said."""
    question = at_once(
        {"name": "us", "to": "sparkpost", "size": 5},
        events=[{"kind": "password_change", "at": "1min", "tenant": "us", "repaired_after": "1min"}],
    )
    with scripted(answering(EHLO=PIPELINING)) as server:
        found = load(question, "all", tmp_path, target=Target("localhost", "127.0.0.1", server.port))
        assert not any(line.startswith(("AUTH", "STARTTLS")) for one in server.conversations for line in one.lines)
    assert found.summaries["us"].numbers["accepted"] == 5
    notes = [
        f"localhost:{server.port} offers no AUTH by PLAIN or LOGIN: nobody logged in.",
        f"localhost:{server.port} offers no STARTTLS: no TLS.",
        "Left out, since nobody can make them happen at a target: events (1 password_change).",
    ]
    assert found.json()["notes"] == notes
    assert load_lines(found)[3:6] == notes


# It leaves nothing behind


def test_who_interrupts_leaves_no_process(tmp_path: Path) -> None:
    """Fakes, Locust and its workers end with whoever started them, also in the middle of a run."""

    def interrupt(decided: int, of: int) -> None:
        if decided:
            raise KeyboardInterrupt

    channels = [{"name": name, "to": "generic-mx", "size": 4, "retry": ["1h"]} for name in ("us", "we")]
    question = at_once(*channels, limits={"generic-mx/quota": "2/h"})
    with pytest.raises(KeyboardInterrupt):
        load(question, "all", tmp_path, processes=2, progress=interrupt)
    assert mentioning(str(tmp_path)) == []


def test_no_more_generators_than_queues(tmp_path: Path) -> None:
    """The others would have nothing to do, and a million of them would leave nothing of this machine."""
    one = at_once({"name": "us", "to": "generic-mx", "size": 4})
    found = load(one, "all", tmp_path, processes=1_000_000)
    assert found.summaries["us"].numbers["accepted"] == 4
    assert len(list(tmp_path.glob("client*.jsonl"))) == 1


def test_a_generator_that_dies_ends_the_run(tmp_path: Path) -> None:
    """Nobody sends its share any more: that is said, and nobody waits for the end of the day."""
    killed: list[psutil.Process] = []

    def kill(decided: int, of: int) -> None:
        if decided and not killed:
            locust = next(one for one in psutil.Process().children() if "locust" in one.cmdline())
            killed.append(locust.children()[-1])
            killed[0].kill()

    channels = [{"name": name, "to": "generic-mx", "size": 4, "retry": ["1h"]} for name in ("us", "we")]
    question = at_once(*channels, limits={"generic-mx/quota": "2/h"})
    with pytest.raises(ValueError, match=r"1 of 2 generators are gone, the run is over \(see .*locust\.log\)"):
        load(question, "all", tmp_path, processes=2, progress=kill)
    assert mentioning(str(tmp_path)) == []


def mentioning(text: str) -> list[list[str]]:
    """The processes whose command line has a text in it."""
    found = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [words for words in found if any(text in word for word in words)]


# Through a relay


def test_what_a_relay_s_schedule_did_is_told(measured: Load, tmp_path: Path) -> None:
    """By recipient: one is passed on at once, one at the third attempt, one waits; one expires after two."""
    rows = [
        *((0.0, "a", "sent"), (0.0, "b", "deferred"), (0.5, "c", "deferred"), (0.5, "d", "deferred")),
        *((5.0, "b", "deferred"), (5.5, "d", "deferred"), (5.6, "d", "expired"), (15.0, "b", "sent")),
    ]
    more = {"channel": "pool", "message_id": "us-1", "delays": [0.1, 0.0, 0.0, 0.0]}
    relayed = [{"time": time, "recipient": to, "status": status, **more} for time, to, status in rows]
    (tmp_path / "relay.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in relayed), encoding="utf-8")
    for name in ("queue.jsonl", "queue_length.jsonl"):
        (tmp_path / name).touch()
    schedule = {"seconds": {"minimal_backoff_time": 5, "maximal_backoff_time": 67}}
    (tmp_path / "schedule.json").write_text(json.dumps(schedule), encoding="utf-8")
    found = replace(measured, folder=tmp_path, through="postfix", time_scale=60)
    assert found.relay is not None
    assert found.relay["retried"] == {"attempts": 2.0, "passed_on": 1, "after": {"p50": 900.0, "p95": 900.0}}
    said = "\n".join(load_lines(found))
    assert (
        "Its schedule, 300 s to 4,020 s between attempts, tried the deferred ones 2 times each and passed 1 of" in said
    )
    assert "first attempt until then: median 15.0 min, p95 15.0 min, in scenario time." in said


@needs_postfix
def test_through_postfix_everything_is_passed_on_or_reported(tmp_path: Path) -> None:
    question = at_once(
        {"name": "us", "to": "sparkpost", "size": 6},
        {"name": "we", "to": "generic-mx", "size": 6},
        limits={"sparkpost/messages-per-day": "4/d"},
        time_scale=60,
    )
    found = load(question, "all", tmp_path, through="postfix")
    assert [summary.numbers["accepted"] for summary in found.summaries.values()] == [6, 6]
    document = found.json()
    fates = {verdict: count for verdict, count in document["books"]["messages"].items() if count}
    assert (document["books"]["balances"], fates) == (True, {"delivered": 10, "refused_and_reported": 2})
    told = document["relay"]
    assert (told["passed_on"], told["throttled"], told["bounced"], told["in_queue"]) == (10, 0, 2, 0)
    assert set(told["delays"]) == {"before_queue_manager", "in_queue_manager", "connecting", "transmitting"}
    assert "Postfix passed 10 on, deferred 0 for a while, bounced 2; 0 are in its queue" in "\n".join(load_lines(found))
    assert {line["provider"] for line in lines(tmp_path / "server.jsonl")} == {"sparkpost", "generic-mx"}


@needs_postfix
def test_through_postfix_what_a_provider_defers_waits_and_the_books_still_balance(tmp_path: Path) -> None:
    question = at_once(
        {"name": "us", "to": "generic-mx", "size": 8, "connections": 1},
        limits={"generic-mx/quota": "5/h"},
        duration="2min",
        time_scale=60,
    )
    found = load(question, "all", tmp_path, through="postfix")
    while len({row["message_id"] for row in lines(tmp_path / "relay.jsonl")}) < 8:  # some never had their turn
        found = load(question, "all", tmp_path, through="postfix")
    assert found.books is not None
    assert found.books["balances"]
    assert (found.books["messages"]["delivered"], found.books["messages"]["waiting"]) == (5, 3)
    assert found.relay is not None
    assert (found.relay["passed_on"], found.relay["throttled"], found.relay["in_queue"]) == (5, 3, 3)
    assert found.relay["longest_queue"] >= 3


# What goes wrong, goes wrong in a load test as in a simulation


def test_duplicates_and_lost_replies_are_the_simulation_s(tmp_path: Path) -> None:
    """Whom a fault is about doesn't depend on the moment, so the counts have to be the same."""
    channel = {"to": "generic-mx", "size": 20, "connections": 1, "retry": ["20s"], "queue_lifetime": "59s"}
    oauth = {"name": "oauth", "to": "gmail", "size": 3, "connections": 1, "retry": ["20s"]}
    question = at_once({"name": "us", **channel}, oauth).replace(
        faults=[
            {"kind": "lose_reply", "recipient": "*@d0[1-4].*", "until": "10s"},  # accepted again at the second try
            {"kind": "lose_reply", "recipient": "*@d0[5-6].*"},  # accepted three times, and never known
            {"kind": "drop_before", "at": "RCPT", "recipient": "*@d07.*", "until": "10s"},
            {"kind": "drop_after", "at": "RCPT", "recipient": "*@d11.*", "until": "10s"},
            {"kind": "drop_before", "at": "EOD", "recipient": "*@d08.*", "until": "10s"},
            {"kind": "drop_after", "at": "EOD", "recipient": "*@d09.*", "until": "10s"},
            {"kind": "refuse", "at": "EOD", "reply": "554 5.7.1 Not this", "recipient": "*@d10.*"},
            {"kind": "token_outage", "until": "10s"},
        ]
    )
    # until the faults are over, and until a second try is too late for a third
    order = {"us": (10.0, 39.0), "oauth": (10.0,)}
    measured = undisturbed(lambda: load(question, "all", tmp_path, time_scale=20), order)
    simulated_attempts = experiment.run(question, "all")
    simulated = summarize(simulated_attempts, question, question.lanes("all"))
    counts = (*COUNTS, "duplicates", "ambiguous")
    for tenant, expected in (("us", (17, 1, 2, 6, 2, 0)), ("oauth", (3, 0, 0, 0, 0, 0))):
        found = measured.summaries[tenant].numbers
        assert {name: found[name] for name in counts} == {name: simulated[tenant].numbers[name] for name in counts}
        some = ("accepted", "rejected", "expired", "duplicates", "ambiguous", "throttled")
        assert tuple(found[name] for name in some) == expected
    assert measured.summaries["oauth"].numbers["deferred_attempts"] == 3
    assert where_it_was_lost(measured.frame()) == where_it_was_lost(frame(simulated_attempts, question.zero))
    books = measured.books
    assert books is not None
    assert {verdict: count for verdict, count in books["messages"].items() if count} == {
        "delivered": 16,
        "duplicate": 6,
        "refused": 1,
    }


def where_it_was_lost(record: pd.DataFrame) -> dict[tuple[str, int, str], int]:
    """How many attempts were refused or lost at each stage, by code; lost is code 0."""
    return dict(
        Counter(record.loc[record["code"] != 250, ["tenant", "code", "stage"]].itertuples(index=False, name=None))
    )
