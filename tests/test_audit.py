"""The audit: a correct sender keeps every rule, and each broken one is named by the rule that it breaks."""

import asyncio
import json
import os
import signal
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from senders import BROKEN, GOOD, audited

from simlib.audit import LONG_ENOUGH, RULES, Run, Seen, Verdict, judge, quota_of, safe_setting, trials
from simlib.provider import Provider, names

FIVE = {"messages-per-minute": "5/min"}
MAILER = Path(__file__).with_name("mailer.py")
Say = Callable[..., tuple[int, str, str]]


def office() -> Provider:
    return Provider.load("office365").set(FIVE)


def failed(verdicts: Sequence[Verdict]) -> dict[str, str]:
    return {one.rule: one.says for one in verdicts if one.outcome == "failed"}


# Its power, and its fairness


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_correct_sender_keeps_every_rule(seed: int) -> None:
    verdicts = judge(asyncio.run(audited(office(), GOOD, seed)))
    assert [one.rule for one in verdicts] == list(RULES)
    assert {one.rule: one.says for one in verdicts if one.outcome != "passed"} == {}


@pytest.mark.parametrize("provider", ["generic-mx", "own-postfix", "gmail", "sparkpost", "google-mx"])
def test_a_correct_sender_breaks_no_rule_anywhere(provider: str) -> None:
    assert failed(judge(asyncio.run(audited(Provider.load(provider), GOOD)))) == {}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_sender_is_named_by_its_rule_and_no_other(name: str) -> None:
    manners, rule = BROKEN[name]
    verdicts = judge(asyncio.run(audited(office(), manners)))
    assert failed(verdicts).keys() == {rule}
    assert next(one for one in verdicts if one.outcome == "failed").lines


def test_every_rule_has_broken_senders() -> None:
    assert {rule for _, rule in BROKEN.values()} == set(RULES)
    assert len(BROKEN) >= 20


def test_the_same_run_says_the_same() -> None:
    one, other = (judge(asyncio.run(audited(office(), GOOD, 7, ("backoff",)))) for _ in range(2))
    assert one == other


# Single rules, on ledgers written by hand


def line(time: float, message: str = "us-1", session: int = 1, code: int = 250, **more: Any) -> dict[str, Any]:
    plain = {"time": time, "session": session, "opened": time, "ip": "127.0.0.1", "account": "rep01@us.example"}
    plain |= {"mail_from": "rep01@us.example", "recipients": 1, "bytes": 100, "message_id": message, "stage": "EOD"}
    return {**plain, "code": code, "enhanced": "", "text": "", "limit": "", "held": 0.0, "tls": True, **more}


def run(second: float = 0.0, **ledgers: Sequence[dict[str, Any]]) -> Run:
    return Run(office(), {name: Seen(tuple(lines), len(lines)) for name, lines in ledgers.items()}, second)


def verdict(rule: str, second: float = 0.0, **ledgers: Sequence[dict[str, Any]]) -> Verdict:
    return judge(run(second, **ledgers), [rule])[0]


@pytest.mark.parametrize("rule", RULES)
def test_nothing_seen_is_not_tested(rule: str) -> None:
    assert verdict(rule).outcome == "not tested"


@pytest.mark.parametrize(
    ("wait", "second", "outcome"),
    [(LONG_ENOUGH, 0, "passed"), (LONG_ENOUGH - 1, 0, "failed"), (LONG_ENOUGH - 2, 1, "passed"), (179, 60, "failed")],
)
def test_a_wait_may_be_short_by_two_seconds_of_the_mailers_clock(wait: float, second: float, outcome: str) -> None:
    lines = [line(0, code=451, fault="f"), line(wait)]
    assert verdict("backoff", second, deferred=lines).outcome == outcome
    assert verdict("421", second, closing=[line(0, code=421, fault="f"), line(wait)]).outcome == outcome
    assert verdict("duplicate", second, lost=[line(0, fault="f"), line(wait)]).outcome == outcome


def herd(*, sessions: int = 1, times: Sequence[float] = (0, 400, 800, 1200), apart: float = 0.0) -> Verdict:
    """Four messages that are deferred and return at the same times, or one after the other."""
    lines = [
        line(at + apart * number, f"us-{number}", 4 * turn + number * sessions, 451)
        for turn, at in enumerate(times)
        for number in range(4)
    ]
    return verdict("backoff", deferred=lines)


def test_who_returns_side_by_side_at_a_constant_interval_marches_in_lockstep() -> None:
    assert herd().outcome == "failed"
    assert herd(sessions=0).outcome == "passed"  # all in one session, one after the other
    assert herd(apart=1.0).outcome == "passed"  # each session after the one before
    assert herd(times=(0, 400, 800, 1600)).outcome == "passed"  # less and less often
    assert herd(times=(0, 400, 800)).outcome == "passed"  # too short to tell


def test_messages_without_an_id_are_not_judged() -> None:
    assert verdict("backoff", deferred=[line(0, "", code=451), line(1, "", code=451)]).says == (
        "its messages have no Message-ID, so that a retry can't be told from another message"
    )


def test_whoever_never_retries_is_not_blamed_for_how() -> None:
    lines = [line(0, code=451, fault="f")]
    assert verdict("backoff", deferred=lines).outcome == "not tested"
    assert verdict("421", deferred=lines, closing=[line(0, code=421, fault="f")]).outcome == "not tested"
    assert verdict("permanent", rejected=[line(0, code=550, fault="f")]).outcome == "passed"


def test_a_duplicate_is_one_whose_250_had_been_said() -> None:
    assert verdict("duplicate", lost=[line(0, fault="f"), line(600, fault="f"), line(1200)]).outcome == "passed"
    assert verdict("duplicate", lost=[line(0, fault="f"), line(600), line(1200)]).outcome == "failed"
    assert verdict("duplicate", plain=[line(0), line(900)]).outcome == "failed"


@pytest.mark.parametrize(("connects", "outcome"), [(2, "passed"), (3, "failed")])
def test_a_storm_is_more_connects_than_messages(connects: int, outcome: str) -> None:
    dropped = [line(number, "", number, 0, stage="CONNECT") for number in range(connects)]
    assert verdict("storm", plain=[line(0), line(1, "us-2")], dropped=dropped).outcome == outcome


def test_messages_without_an_id_count_as_well() -> None:
    dropped = [line(number, "", number, 0, stage="CONNECT") for number in range(2)]
    assert verdict("storm", plain=[line(0, ""), line(1, "")], dropped=dropped).outcome == "passed"
    assert verdict("storm", plain=[line(0, "")], dropped=dropped).outcome == "failed"


def test_what_was_under_way_when_the_quota_spoke_is_excused() -> None:
    quota = f"office365/{quota_of(office()).id}"  # type: ignore[union-attr]
    first = line(10, "us-1", 1, 552, limit=quota)
    beside = line(11, "us-2", 2, 552, limit=quota, opened=5)
    after = line(12, "us-3", 2, 552, limit=quota, opened=5)
    begun_later = line(12, "us-3", 3, 552, limit=quota, opened=11)
    next_one = line(12, "us-2", 1, 552, limit=quota, opened=5)
    again = line(910, "us-1", 4)
    assert verdict("quota", quota=[first, beside, again]).outcome == "passed"
    assert verdict("quota", quota=[first, next_one, again]).outcome == "failed"
    assert verdict("quota", quota=[first, beside, after, again]).outcome == "failed"
    assert verdict("quota", quota=[first, begun_later, again]).outcome == "failed"


def test_who_met_the_quota_may_not_be_given_up() -> None:
    first = line(10, "us-1", 1, 552, limit=f"office365/{quota_of(office()).id}")  # type: ignore[union-attr]
    assert verdict("quota", quota=[first, line(2000, "us-2", 2)]).outcome == "failed"
    assert verdict("quota", quota=[first, line(1000, "us-2", 2)]).outcome == "passed"
    assert verdict("quota", quota=[first, line(2000, "us-2", 2), line(2001, "us-1", 2)]).outcome == "passed"


def test_421_is_no_no() -> None:
    retried = [line(0, code=451, fault="f"), line(600)]
    closing = [line(0, code=421, fault="f")]
    assert verdict("421", deferred=retried, closing=closing).outcome == "failed"
    assert verdict("421", deferred=retried, closing=[*closing, line(600)]).outcome == "passed"


def test_the_largest_number_in_any_window_is_that_of_a_sliding_one() -> None:
    limit = "office365/messages-per-minute"
    times = (50, 51, 52, 53, 54, 61)
    lines = [line(at, f"us-{at}") for at in times]
    lines[-1] |= {"limit": limit, "held": 49.0}
    found = verdict("limits", plain=lines)
    assert (found.outcome, found.says.partition(":")[0]) == ("failed", "6 messages in any minute, 5 allowed")
    calm = [line(12 * number, f"us-{number}") for number in range(6)]
    assert verdict("limits", plain=calm).says.startswith("5 messages in any minute at most, 5 allowed")
    assert verdict("limits", plain=calm[:5]).outcome == "not tested"


@pytest.mark.parametrize("name", [one for one in names() if Provider.load(one).transport == "smtp"])
def test_every_provider_has_its_trials_and_a_setting(name: str) -> None:
    provider = Provider.load(name).on(Provider.load(name).newest)
    found = trials(provider)
    assert [one.name for one in found][:6] == ["plain", "deferred", "rejected", "lost", "slow", "dropped"]
    for one in found:
        provider.set(one.limits)
    assert isinstance(safe_setting(provider, 3).json()["at_most"], dict)


# The command


def words(*more: object, command: Sequence[object] = (), provider: str = "office365") -> list[str]:
    filled = [sys.executable, MAILER, "{host}", "{port}", "{user}", "{password}", "{ca}"]
    return [*map(str, ["audit", provider, "--time-scale", 60, *more, "--", *(command or filled)])]


# an hour, since all of a mailer's messages have to be within it: a minute would be a second here
FEW = ("--limit", "office365/messages-per-minute=5/h", "--reading", "office365/messages-per-minute=reject")


def test_a_mailer_is_run_through_the_trials(say: Say) -> None:
    code, out, _ = say(*words("--rules", "limits,permanent,size,starttls", *FEW, "--json"))
    found = json.loads(out)
    assert (code, found["passed"], found["provider"]) == (1, False, "office365")
    assert {rule: one["verdict"] for rule, one in found["rules"].items()} == {
        "limits": "failed",
        "permanent": "passed",
        "size": "passed",
        "starttls": "passed",
    }
    assert found["limits"]["office365/messages-per-minute"]["most"] == 6
    assert found["rules"]["limits"]["lines"][0]["limit"] == "office365/messages-per-minute"
    assert found["setting"]["per_minute"] == pytest.approx(4 / 60)
    assert list(found["trials"]) == ["plain", "rejected", "oversize"]


def test_text_has_the_failures_first_and_their_ledger_lines(say: Say) -> None:
    code, out, err = say(*words("--rules", "limits,starttls", *FEW))
    lines = out.splitlines()
    assert code == 1
    assert lines[0].endswith("FAILED: limits.")
    assert [line.split()[0] for line in lines if line[:1].isupper()][1:3] == ["FAILED", "PASSED"]
    assert "refused 1" in lines[3]
    assert lines[4].endswith("us-5")
    assert lines[-1].startswith("The setting that would have been safe: 1 message every 900 s")
    assert err.splitlines()[0] == "sendlab: trial 1 of 1, plain: nothing goes wrong"


def test_a_mailer_may_move_the_clock_itself(say: Say) -> None:
    limit = "--limit", "office365/messages-per-minute=5/min"
    filled = [sys.executable, MAILER, "{host}", "{port}", "{user}", "{password}", "{ca}", "{control}"]
    code, out, _ = say("audit", "office365", "--rules", "limits", *limit, "--clock", "virtual", "--json", "--", *filled)
    found = json.loads(out)
    assert (code, found["rules"]["limits"]["verdict"]) == (0, "passed")
    assert [found["limits"]["office365/messages-per-minute"][key] for key in ("most", "offered")] == [5, 6]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nobody"], "unknown provider 'nobody'"),
        (["office365", "--rules", "speed"], "unknown rule 'speed'"),
        (["gmail-oauth", "--", "true"], "speaks HTTP, not SMTP"),
        (
            ["office365", "--limit", "messages=1", "--", "true"],
            "must look like office365/messages-per-minute=100/min",
        ),
        (["office365", "--clock", "virtual", "--", "true"], "--clock virtual needs a COMMAND with {control}"),
        (["office365", "--rules", "limits", "--", "true"], "COMMAND never connected to 127.0.0.1:"),
        (["office365", "--rules", "limits", "--", "no-such-program"], "COMMAND can't be run: no-such-program"),
        (["sparkpost", "--rules", "limits", "--", "echo", "{token}"], "but sparkpost takes no tokens"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(say: Say, given: list[str], said: str) -> None:
    code, out, err = say("audit", *given)
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]


def test_without_a_command_it_waits_for_whoever_connects_until_told_to_stop() -> None:
    command = [sys.executable, "-m", "simlib", "audit", "own-postfix", "--rules", "starttls", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "connect to" not in said:
            said = process.stderr.readline()
        port = int(said.partition("127.0.0.1:")[2].partition(";")[0])
        ca = said.partition("is in ")[2].partition(";")[0]
        with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=20) as client:
            client.starttls(context=ssl.create_default_context(cafile=ca))
            client.login("rep01@us.example", "password")
            client.sendmail("rep01@us.example", ["to@them.example"], "Message-ID: <us-1@sendlab.example>\r\n\r\n")
        os.kill(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    found = json.loads(out)
    assert (process.returncode, found["rules"]["starttls"]["verdict"]) == (0, "passed")
