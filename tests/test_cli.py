"""The commands as people and scripts use them: exit codes, one line of complaint, one document of JSON (DESIGN §7)."""

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from simlib import experiment, plot
from simlib.provider import Provider, names

SENDLAB = str(Path(sys.executable).with_name("sendlab"))

# Two ways to send the same hour: one ends at mailbox providers and has neighbours, the other at Office 365.
HOUR = """\
name = "an hour"
duration = "1h"
start = "2026-12-01T09:00+09:00"
deadline = "09:30"

[[tenants]]
name = "us"
senders = 2
arrivals = [{ kind = "batches", size = 80, senders = 1 }, { kind = "poisson", rate = "20/h" }]

[[tenants]]
name = "strangers"
neighbour = true
senders = 2
arrivals = { kind = "poisson", rate = "10/h" }

[alternatives."shared pool"]
channels = [{ name = "pool", tenants = ["us", "strangers"], to = { google-mx = 0.5, microsoft-mx = 0.5 } }]

[alternatives."Office 365"]
channels = [{ name = "o365", tenants = ["us"], to = "office365", connections = 3 }]
"""
COMPARE = ("--replications", "3", "--jobs", "1")

Say = Callable[..., tuple[int, str, str]]
Compared = tuple[subprocess.CompletedProcess[str], Path]


@pytest.fixture
def hour(tmp_path: Path) -> Path:
    path = tmp_path / "hour.toml"
    path.write_text(HOUR, encoding="utf-8")
    return path


@pytest.fixture
def interruptible() -> Iterator[None]:
    """See to it that SIGINT interrupts, even where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def process(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a process of its own, without a terminal."""
    return subprocess.run(
        [SENDLAB, *map(str, words)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        **options,
    )


def strict(text: str) -> Any:
    """Parse JSON as the standard has it: no NaN, no Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"not JSON: {constant}")

    return json.loads(text, parse_constant=refuse)


def one_line(err: str) -> bool:
    return err.endswith("\n") and err.count("\n") == 1 and "Traceback" not in err


# Help


@pytest.mark.parametrize("command", ["compare", "providers", "load", "validate", "size", "lab", "app"])
def test_every_command_explains_itself(say: Say, command: str) -> None:
    code, out, err = say(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: sendlab {command}")
    assert re.search(rf"^    {command}\b", say("--help")[1], re.MULTILINE)


def test_the_flags_of_the_contract_are_in_the_help(say: Say) -> None:
    _, compare, _ = say("compare", "--help")
    flags = ("SCENARIO", "--replications", "--seed", "--jobs", "--out", "--reading", "--as-of", "--json")
    assert [flag for flag in flags if flag not in compare] == []
    _, load, _ = say("load", "--help")
    flags = (
        "SCENARIO",
        "--alternative",
        "--target",
        "--allow-host",
        "--through",
        "--time-scale",
        "--processes",
        "--seed",
    )
    assert [flag for flag in (*flags, "--out", "--reading", "--as-of", "--json") if flag not in load] == []
    _, validate, _ = say("validate", "--help")
    flags = ("SCENARIO", "--alternative", "--time-scale", "--tolerance", "--reading", "--as-of", "--json")
    assert [flag for flag in flags if flag not in validate] == []
    _, providers, _ = say("providers", "--help")
    assert [flag for flag in ("NAME", "--stale", "--json") if flag not in providers] == []


def test_reconcile_explains_itself_though_it_is_another_process() -> None:
    ran = process("reconcile", "--help")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("usage: sendlab reconcile")
    flags = ("CLIENT", "--server", "--queue", "--explain", "--json")
    assert [flag for flag in flags if flag not in ran.stdout] == []


def test_no_command_is_a_call_for_help(say: Say) -> None:
    code, out, err = say()
    assert (code, err) == (0, "")
    assert out.startswith("usage: sendlab ")


def test_python_m_simlib_is_sendlab(hour: Path) -> None:
    words = ["compare", str(hour), "--replications", "1", "--json"]
    module = subprocess.run(
        [sys.executable, "-m", "simlib", *words], check=False, capture_output=True, encoding="utf-8"
    )
    command = process(*words)
    assert (module.returncode, module.stdout, module.stderr) == (0, command.stdout, command.stderr)
    assert process("compare", "no.toml").returncode == 2


# Bad input


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["compare"], "SCENARIO"),
        (["compares", "{hour}"], "'compares'"),
        (["compare", "{hour}", "another.toml"], "another.toml"),
        (["compare", "{folder}/no.toml"], "no.toml: No such file or directory"),
        (["compare", "{folder}"], "{folder}: Is a directory"),
        (["compare", ""], ".: Is a directory"),
        (["compare", "{hour}", "--replications", "0"], "--replications: must be a whole number of at least 1, got '0'"),
        (
            ["compare", "{hour}", "--replications", "-3"],
            "--replications: must be a whole number of at least 1, got '-3'",
        ),
        (["compare", "{hour}", "--replications", "2.5"], "'2.5'"),
        (["compare", "{hour}", "--replications", "many"], "'many'"),
        (["compare", "{hour}", "--replications", "9" * 5000], "--replications"),
        (["compare", "{hour}", "--replications"], "--replications: expected one argument"),
        (["compare", "{hour}", "--seed", "-1"], "--seed: must be a whole number of at least 0, got '-1'"),
        (["compare", "{hour}", "--seed", "nan"], "--seed: must be a whole number of at least 0, got 'nan'"),
        (["compare", "{hour}", "--jobs", "0"], "--jobs: must be a whole number of at least 1, got '0'"),
        (["compare", "{hour}", "--jobs", ""], "--jobs"),
        (["compare", "{hour}", "--as-of", "tomorrow"], "--as-of: must be a date like 2026-12-01, got 'tomorrow'"),
        (["compare", "{hour}", "--as-of", "2026-02-30"], "--as-of: must be a date like 2026-12-01, got '2026-02-30'"),
        (["compare", "{hour}", "--reading", "reject"], "--reading: must look like"),
        (["compare", "{hour}", "--reading", "office365/messages-per-minute"], "--reading: must look like"),
        (["compare", "{hour}", "--reading", "office365/messages-per-minute="], "--reading: must look like"),
        (["compare", "{hour}", "--reading", "messages-per-minute=reject"], "--reading: must look like"),
        (["compare", "{hour}", "--reading", "office365/messages-per-minute=rejct"], "no reading 'rejct'"),
        (["compare", "{hour}", "--reading", "office365/per-minute=reject"], "no limit 'office365/per-minute'"),
        (["compare", "{hour}", "--reading", "office/messages-per-minute=reject"], "unknown provider 'office'"),
        (["compare", "{hour}", "--reading", "gmail/messages-per-minute=rejct"], "gmail"),  # which nobody uses here
        (["compare", "{hour}", "--out", "{hour}"], "--out: must be a folder, got '{hour}'"),
        (["compare", "{hour}", "--out", "{hour}/below"], "--out: must be a folder, got '{hour}/below'"),
        (["compare", "{hour}", "--out", ""], "--out: must be a folder, got ''"),
        (["providers", "office"], "unknown provider 'office' (there are: "),
        (["providers", "office365", "gmail"], "gmail"),
        (["providers", "../../secret"], "unknown provider '../../secret'"),
        (["providers", "--as-of", "soon"], "--as-of: must be a date like 2026-12-01, got 'soon'"),
        (["lab", "{hour}"], "DIR: must be a folder, got '{hour}'"),
        (["app", "--lang", "fr"], "--lang: invalid choice: 'fr'"),
        (["app", "notebooks"], "notebooks"),
        # flags of other commands, and of none
        (["compare", "{hour}", "--alternative", "Office 365"], "--alternative"),
        (["compare", "{hour}", "--time-scale", "60"], "--time-scale"),
        (["compare", "{hour}", "--confidence", "0.95"], "--confidence"),
        (["compare", "{hour}", "--target", "127.0.0.1:25"], "--target"),
        (["compare", "{hour}", "--jsn"], "--jsn"),
        (["providers", "--seed", "1"], "--seed"),
        (["--json", "compare", "{hour}"], "--json"),
        # commands of the contract, built or not
        *(([command, "--no-such-flag"], command) for command in ("load", "validate")),
        (["audit", "office365", "--no-such-flag"], "--no-such-flag"),
        (["size", "--no-such-flag"], "--no-such-flag"),
        *(([command, "--no-such-flag"], command) for command in ("import", "learn")),
    ],
)
def test_a_slip_of_the_finger_is_answered_by_one_line(say: Say, hour: Path, words: list[str], named: str) -> None:
    code, out, err = say(*(word.format(hour=hour, folder=hour.parent) for word in words))
    assert (code, out) == (2, "")
    assert one_line(err)
    assert err.startswith("sendlab")
    assert named.format(hour=hour, folder=hour.parent) in err


SCENARIOS = Path(__file__).parents[1] / "notebooks" / "scenarios"
TWIN, DAY = SCENARIOS / "twin_hour.toml", SCENARIOS / "team_day.toml"
HERE = ("--target", "127.0.0.1:1")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["load"], "SCENARIO"),
        (["load", TWIN], "--alternative"),
        (["load", "no.toml", "--alternative", "x"], "no.toml: No such file or directory"),
        (["load", TWIN, "--alternative", "Sparkpost"], "unknown alternative 'Sparkpost' (there are: "),
        (["load", DAY, "--alternative", "Gmail"], "gmail-oauth speaks HTTP: no load over SMTP"),
        (
            ["load", TWIN, "--alternative", "SparkPost", *HERE, "--time-scale", "2"],
            "time_scale must be 1 with a target",
        ),
        (["load", TWIN, "--alternative", "Gmail", *HERE], "gmail wants OAuth tokens, and a target has nowhere"),
        (["load", TWIN, "--alternative", "SparkPost", *HERE, "--through", "postfix"], "give no target"),
        (["load", TWIN, "--alternative", "SparkPost", "--allow-host", "relay.example"], "give --target HOST:PORT, too"),
        (
            ["load", TWIN, "--alternative", "SparkPost", "--ca", "ca.pem"],
            "give --target HOST:PORT, too; the fakes",
        ),
        (
            ["load", TWIN, "--alternative", "SparkPost", *HERE, "--ca", "no.pem"],
            "certificates (PEM), got 'no.pem'",
        ),
        (["load", TWIN, "--alternative", "Shared pool", *HERE, "--ca", "no.pem"], "nobody does in 'Shared pool'"),
        (["load", TWIN, "--alternative", "SparkPost", *HERE], "target 127.0.0.1:1 doesn't answer as an SMTP server"),
        (["load", TWIN, "--alternative", "Shared pool", *HERE], "target 127.0.0.1:1 doesn't answer as an SMTP server"),
        (["load", TWIN, "--alternative", "SparkPost", "--target", "[::1]:1"], "target [::1]:1 doesn't answer"),
        (
            ["load", TWIN, "--alternative", "SparkPost", "--target", "2525"],
            "target must look like HOST:PORT, got '2525'",
        ),
        (["load", TWIN, "--alternative", "SparkPost", "--target", "relay.example:25"], "named by --allow-host"),
        (["load", TWIN, "--alternative", "SparkPost", "--through", "sendmail"], "'sendmail'"),
        (["load", TWIN, "--alternative", "SparkPost", "--time-scale", "0"], "--time-scale: must be a number above 0"),
        (["load", TWIN, "--alternative", "SparkPost", "--time-scale", "inf"], "--time-scale: must be a number above 0"),
        (["load", TWIN, "--alternative", "SparkPost", "--processes", "0"], "--processes: must be a whole number"),
        (["load", TWIN, "--alternative", "SparkPost", "--reading", "sparkpost/x=y"], "no limit 'sparkpost/x'"),
        (["load", TWIN, "--alternative", "SparkPost", "--out", TWIN], "--out: must be a folder"),
        (["validate", TWIN, "--alternative", "x"], "unknown alternative 'x'"),
        (["validate", DAY, "--alternative", "Gmail"], "Gmail: gmail-oauth speaks HTTP, not SMTP"),
        (["validate", TWIN, "--tolerance", "1"], "--tolerance: must be at least 0 and below 1"),
        (["validate", TWIN, "--tolerance", "nan"], "--tolerance: must be at least 0 and below 1"),
        (["validate", TWIN, "--target", "127.0.0.1:25"], "--target"),
    ],
    ids=lambda value: " ".join(map(str, value[2:])) if isinstance(value, list) else "",
)
def test_a_load_that_can_not_be_is_refused_before_anything_is_started(
    say: Say, words: list[Any], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess.Popen, "__init__", started)
    code, out, err = say(*words)
    assert (code, out) == (2, "")
    assert one_line(err)
    assert named in err


def test_a_folder_that_may_not_be_written_to_is_refused_at_once(
    say: Say, hour: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    code, out, err = say("compare", hour, "--out", hour.parent / "new" / "folder")
    assert (code, out) == (2, "")
    assert one_line(err)
    assert "--out: must be a folder that may be written to" in err
    assert sorted(hour.parent.iterdir()) == [hour]


def test_bad_input_says_the_same_in_a_process_of_its_own(hour: Path) -> None:
    hour.write_text(HOUR.replace("20/h", "300/fortnight"), encoding="utf-8")
    ran = process("compare", "hour.toml", "--json", cwd=hour.parent)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "sendlab: hour.toml: tenants[us].arrivals[2].rate: "
        "must be a positive number or look like '100/min' (s|min|h|d), got '300/fortnight'\n"
    )


# compare


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """Return what `sendlab compare … --json --out` printed in a process of its own, and the folder it wrote."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "hour.toml").write_text(HOUR, encoding="utf-8")
    return process("compare", folder / "hour.toml", *COMPARE, "--json", "--out", folder / "out" / "hour"), folder


def document(compared: Compared) -> Any:
    return strict(compared[0].stdout)


def test_stdout_is_one_document_and_nothing_else(compared: Compared) -> None:
    ran, _ = compared
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.endswith("}\n")
    assert isinstance(strict(ran.stdout), dict)


ESTIMATES = [
    "offered",
    "accepted",
    "rejected",
    "expired",
    "waiting",
    "throttled",
    "attempts",
    "deferred_attempts",
    "rejected_attempts",
    "goodput_per_hour",
    "delay_mean",
    "delay_p50",
    "delay_p95",
    "delay_p99",
    "wait_mean",
    "finished_at",
]


def is_estimate(found: dict[str, Any]) -> bool:
    """Whether it has mean, low, high and random as the contract has them."""
    mean, low, high, random = (found[key] for key in ("mean", "low", "high", "random"))
    if mean is None:
        return low is None and high is None
    return bool(low <= mean <= high and low < high) if random else bool(low == mean == high)


def test_the_document_has_what_the_contract_says(compared: Compared) -> None:
    found = document(compared)
    assert (found["scenario"], found["as_of"], found["replications"], found["seed"]) == ("an hour", "2026-12-01", 3, 1)
    assert found["baseline"] == "shared pool"
    pool, office = found["alternatives"]["shared pool"], found["alternatives"]["Office 365"]
    assert list(found["alternatives"]) == ["shared pool", "Office 365"]
    assert (pool["ends_at"], office["ends_at"]) == ("google-mx, microsoft-mx", "office365")
    assert (list(pool["tenants"]), list(office["tenants"])) == (["us", "strangers"], ["us"])
    for numbers in (*pool["tenants"].values(), *office["tenants"].values()):
        assert [metric for metric in (*ESTIMATES, "on_time") if not is_estimate(numbers[metric])] == []
        assert set(numbers["finished"]) == {"probability", "low", "high"}
        assert 0 <= numbers["finished"]["low"] <= numbers["finished"]["probability"] <= numbers["finished"]["high"] <= 1
        assert all(map(is_estimate, numbers["refusals"].values()))
        shares = numbers["bound_by"].values()
        assert not shares or math.isclose(sum(shares), 1)
        counts = [numbers[metric]["mean"] for metric in ("accepted", "rejected", "expired", "waiting")]
        assert math.isclose(sum(counts), numbers["offered"]["mean"])
    # what ends at an MX is delivered; what ends at a submission provider's door is not said to be
    assert pool["tenants"]["us"]["delivered"] == pool["tenants"]["us"]["accepted"]
    assert office["tenants"]["us"]["delivered"] is None
    assert found["rests_on"]
    assert {"id": "office365/messages-per-minute", "grade": "A"} in found["rests_on"]
    assert all(set(fact) == {"id", "grade"} for fact in found["rests_on"])


def test_differences_are_paired_against_the_first(compared: Compared) -> None:
    found = document(compared)
    assert list(found["differences"]) == ["Office 365"]
    assert list(found["differences"]["Office 365"]) == ["us"]  # the neighbours are on one side only
    change = found["differences"]["Office 365"]["us"]["on_time"]
    assert set(change) == {"mean", "low", "high"}
    means = [found["alternatives"][name]["tenants"]["us"]["on_time"]["mean"] for name in found["alternatives"]]
    assert math.isclose(change["mean"], means[1] - means[0], abs_tol=1e-9)
    assert change["low"] <= change["mean"] <= change["high"]
    assert found["differences"]["Office 365"]["us"]["offered"] == {"mean": 0, "low": 0, "high": 0}


def test_the_minute_limit_is_named_and_flips(compared: Compared) -> None:
    found = document(compared)
    us = found["alternatives"]["Office 365"]["tenants"]["us"]
    assert us["refusals"]["office365/messages-per-minute"]["mean"] >= 50  # of the 80 at once
    assert max(us["bound_by"], key=us["bound_by"].get) == "office365/messages-per-minute"
    flips = {(one["limit"], one["reading"]): one["flips"] for one in found["readings"]}
    assert flips["office365/messages-per-minute", "reject"] is True
    assert all(set(one) == {"limit", "reading", "flips"} for one in found["readings"])


def test_nothing_is_null_that_has_a_number(say: Say, hour: Path) -> None:
    """Only `delivered`, and `on_time` without a deadline, are null; elsewhere mean, low and high are."""
    hour.write_text(HOUR.replace('deadline = "09:30"\n', ""), encoding="utf-8")
    reading = "office365/messages-per-minute=reject"
    found = strict(say("compare", hour, *COMPARE, "--json", "--reading", reading)[1])
    us = found["alternatives"]["Office 365"]["tenants"]["us"]
    assert {key for key, value in us.items() if value is None} == {"delivered", "on_time"}
    assert us["delay_p95"] == {"mean": None, "low": None, "high": None, "random": False}  # 50 of 100 are refused
    assert us["delay_p50"]["mean"] is not None or us["delay_p99"]["mean"] is None
    assert us["rejected"]["mean"] >= 50


def test_a_single_replication_has_no_interval(say: Say, hour: Path) -> None:
    found = strict(say("compare", hour, "--replications", "1", "--json")[1])
    accepted = found["alternatives"]["Office 365"]["tenants"]["us"]["accepted"]
    assert (accepted["low"], accepted["high"]) == (None, None)
    assert accepted["mean"] == found["alternatives"]["shared pool"]["tenants"]["us"]["offered"]["mean"]


def test_what_is_fixed_has_no_interval_and_says_so(say: Say, hour: Path) -> None:
    hour.write_text(HOUR.replace(', { kind = "poisson", rate = "20/h" }', ""), encoding="utf-8")
    found = strict(say("compare", hour, *COMPARE, "--json")[1])
    offered = found["alternatives"]["Office 365"]["tenants"]["us"]["offered"]
    assert offered == {"mean": 80, "low": 80, "high": 80, "random": False}


def test_the_same_seed_gives_the_same_bytes_whatever_jobs(compared: Compared, say: Say) -> None:
    ran, folder = compared
    path = folder / "hour.toml"
    assert process("compare", path, "--replications", "3", "--jobs", "2", "--json").stdout == ran.stdout
    assert say("compare", path, "--replications", "3", "--json")[1] == ran.stdout
    assert say("compare", path, *COMPARE, "--json", "--seed", "1")[1] == ran.stdout
    assert say("compare", path, *COMPARE, "--json", "--seed", "2")[1] != ran.stdout


def test_a_reading_is_another_answer(say: Say, hour: Path) -> None:
    def us(*words: str) -> tuple[Any, list[str]]:
        found = strict(say("compare", hour, *COMPARE, "--json", *words)[1])
        readings = [one["reading"] for one in found["readings"] if one["limit"] == "office365/messages-per-minute"]
        return found["alternatives"]["Office 365"]["tenants"]["us"], readings

    held, others = us()
    refused, but_reject = us("--reading", "office365/messages-per-minute=reject")
    assert held["rejected"]["mean"] == 0
    assert refused["rejected"]["mean"] >= 50
    assert "reject" in others
    assert "reject" not in but_reject
    both, _ = us(
        "--reading", "office365/messages-per-minute=clock", "--reading", "office365/messages-per-minute=reject"
    )
    assert both == refused  # the last one counts


def test_as_of_chooses_the_facts_of_a_date(say: Say, hour: Path) -> None:
    """Office 365 takes no passwords from the last day of 2026; until then the scenario's own date counts."""
    now = strict(say("compare", hour, *COMPARE, "--json")[1])
    then = strict(say("compare", hour, *COMPARE, "--json", "--as-of", "2027-01-15")[1])
    assert (now["as_of"], then["as_of"]) == ("2026-12-01", "2027-01-15")
    before, after = (one["alternatives"]["Office 365"]["tenants"]["us"] for one in (now, then))
    assert (before["rejected"]["mean"], after["accepted"]["mean"]) == (0, 0)
    assert after["rejected"] == after["offered"]


def test_without_a_date_the_newest_fact_s_counts(say: Say, hour: Path) -> None:
    hour.write_text(HOUR.replace("2026-12-01T09:00+09:00", "09:00"), encoding="utf-8")
    found = strict(say("compare", hour, "--replications", "1", "--json")[1])
    used = ("google-mx", "microsoft-mx", "office365")
    assert found["as_of"] == str(max(Provider.load(name).newest for name in used))


# What people read


def test_the_table_names_each_alternative_and_says_what_it_rests_on(say: Say, hour: Path) -> None:
    code, out, err = say("compare", hour, *COMPARE)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "an hour: 3 replications, seed 1, facts as of 2026-12-01"
    assert [name for name in ("shared pool", "Office 365") if not any(line.startswith(name) for line in lines)] == []
    assert "strangers offers" not in out  # neighbours are nobody's question
    assert "on time by 09:30" in out
    assert re.search(r"^Rests on \d+ assumptions: .*office365/messages-per-minute", out, re.MULTILINE)


def test_a_terminal_without_unicode_is_no_reason_to_fail(hour: Path) -> None:
    ran = process("compare", hour, *COMPARE, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "?" in ran.stdout


# --out

RECORD = [
    "message_id",
    "label",
    "tenant",
    "sender",
    "recipients",
    "bytes",
    "ip",
    "provider",
    "retry",
    "created_at",
    "started_at",
    "ended_at",
    "held",
    "stage",
    "code",
    "enhanced",
    "text",
    "limit",
    "final",
]


def test_out_holds_the_summary_and_every_attempt(compared: Compared) -> None:
    ran, folder = compared
    out = folder / "out" / "hour"
    assert strict((out / "summary.json").read_text(encoding="utf-8")) == strict(ran.stdout)
    attempts = pd.read_parquet(out / "attempts.parquet")
    assert [column for column in ("alternative", "replication", *RECORD) if column not in attempts] == []
    assert set(attempts["alternative"]) == {"shared pool", "Office 365"}
    assert set(attempts["replication"]) == {0, 1, 2}
    assert str(attempts["created_at"].dt.tz) == "UTC+09:00"
    for name, alternative in strict(ran.stdout)["alternatives"].items():
        for tenant, numbers in alternative["tenants"].items():
            mine = attempts[(attempts["alternative"] == name) & (attempts["tenant"] == tenant)]
            accepted = mine["final"] & mine["code"].between(200, 299)
            assert math.isclose(accepted.sum() / 3, numbers["accepted"]["mean"])
            assert math.isclose(mine["started_at"].notna().sum() / 3, numbers["attempts"]["mean"])
            assert math.isclose(
                mine[["replication", "message_id"]].drop_duplicates().shape[0] / 3, numbers["offered"]["mean"]
            )
    plots = sorted(path.name for path in out.glob("*.png"))
    assert len(plots) >= 1
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in plots)
    assert sorted(path.name for path in out.iterdir()) == sorted(["attempts.parquet", "summary.json", *plots])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.usefixtures("interruptible")
def test_what_was_written_is_said_and_an_interrupted_run_leaves_it_alone(
    say: Say, hour: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = hour.parent / "results"
    code, said, err = say("compare", hour, *COMPARE, "--out", out)
    assert (code, err) == (0, "")
    first = contents(out)
    assert set(said.splitlines()[-1].removeprefix("written: ").split(", ")) == {str(out / name) for name in first}

    with monkeypatch.context() as patch:
        patch.setattr(plot, "save", lambda *_: signal.raise_signal(signal.SIGINT))
        code, said, err = say("compare", hour, *COMPARE, "--out", out, "--seed", "2")
    assert (code, said, err) == (130, "", "sendlab: interrupted; nothing was written\n")
    assert contents(out) == first

    assert say("compare", hour, *COMPARE, "--out", out, "--seed", "2")[0] == 0
    assert contents(out)["summary.json"] != first["summary.json"]
    assert set(contents(out)) == set(first)


def test_a_write_that_fails_is_answered_by_one_line_and_leaves_nothing(say: Say, hour: Path) -> None:
    out = hour.parent / "results"
    (out / "summary.json").mkdir(parents=True)
    code, said, err = say("compare", hour, *COMPARE, "--out", out)
    assert (code, said) == (2, "")
    assert one_line(err)
    assert "summary.json" in err
    assert [path.name for path in out.iterdir()] == ["summary.json"]


# Interrupted, and cut off


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_run_says_so_in_one_line(say: Say, hour: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replicate(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(experiment, "_replicate", replicate)
    code, out, err = say("compare", hour, *COMPARE, "--json", "--out", hour.parent / "results")
    assert (code, out, err) == (130, "", "sendlab: interrupted; nothing was written\n")
    assert sorted(hour.parent.iterdir()) == [hour]


@pytest.mark.usefixtures("interruptible")
def test_control_c_ends_all_processes_and_only_one_speaks(hour: Path) -> None:
    """As a terminal does it: SIGINT goes to every process of the group, while several of them simulate."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    hour.write_text(HOUR.replace('rate = "20/h"', 'rate = "4000/h"'), encoding="utf-8")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 100))
    words = [SENDLAB, "compare", str(hour), "--replications", "1000", "--jobs", "2", "--out", str(hour.parent / "out")]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True
    ) as run:
        os.close(theirs)
        said = after = b""
        try:
            while not re.search(rb" ([2-9]|\d\d+)/1000 ", said):  # the progress bar: the second process has begun
                said += os.read(ours, 65536)
            os.killpg(run.pid, signal.SIGINT)
            with contextlib.suppress(OSError):  # the last process that had the terminal open has gone
                while more := os.read(ours, 65536):
                    after += more
            assert run.wait(timeout=30) == 130
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            os.close(ours)
        assert run.stdout is not None
        assert run.stdout.read() == b""
    assert b"Traceback" not in said + after
    assert after.count(b"interrupted") == 1
    assert after.rstrip().endswith(b"sendlab: interrupted; nothing was written")
    assert sorted(hour.parent.iterdir()) == [hour]


@pytest.mark.parametrize("words", [["providers", "office365"], ["providers", "--stale", "--as-of", "2020-01-01"]])
def test_a_reader_that_has_gone_is_no_error(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ran = subprocess.run(
        [SENDLAB, *words], check=False, stdout=write, stderr=subprocess.PIPE, encoding="utf-8", env=buffered
    )
    os.close(write)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_head_gets_its_line() -> None:
    ran = subprocess.run(
        f"{SENDLAB} providers office365 | head -1", shell=True, check=True, capture_output=True, encoding="utf-8"
    )
    assert (ran.stdout, ran.stderr) == (Provider.load("office365").title + "\n", "")


# providers


def test_providers_lists_them_all(say: Say) -> None:
    code, out, err = say("providers")
    assert (code, err) == (0, "")
    assert [name for name in names() if not re.search(rf"^{name} ", out, re.MULTILINE)] == []


@pytest.mark.parametrize("name", names())
def test_each_fact_is_shown_with_source_and_grade(say: Say, name: str) -> None:
    code, out, err = say("providers", name)
    assert (code, err) == (0, "")
    code, text, err = say("providers", name, "--json")
    assert (code, err) == (0, "")
    facts = strict(text)
    assert facts["name"] == name
    for fact in (*facts.get("limits", ()), *facts.get("replies", ())):
        assert [key for key in ("source", "as_of", "grade") if not fact.get(key)] == []
        assert fact["source"] in out
    assert [one["id"] for one in facts.get("limits", ()) if f"{name}/{one['id']}" not in out] == []
    assert strict(say("providers", "--json")[1])[names().index(name)] == facts


def test_providers_as_of_shows_what_holds_then(say: Say) -> None:
    before, after = (
        {one["when"] for one in strict(say("providers", "office365", "--json", "--as-of", date)[1])["replies"]}
        for date in ("2026-12-30", "2026-12-31")
    )
    assert after - before == {"password_refused"}


@pytest.mark.parametrize("words", [[], ["office365"]])
def test_stale_is_a_verdict(say: Say, words: list[str]) -> None:
    code, out, err = say("providers", *words, "--stale", "--as-of", "2100-01-01", "--json")
    assert (code, err) == (1, "")
    found = strict(out)
    assert found
    assert all(one["review_by"] < "2100-01-01" for one in found)
    code, out, err = say("providers", *words, "--stale", "--as-of", "2100-01-01")
    assert (code, err) == (1, "")
    assert len(out.splitlines()) == len(found)
    code, out, err = say("providers", *words, "--stale", "--as-of", "2020-01-01", "--json")
    assert (code, strict(out), err) == (0, [], "")
    code, out, err = say("providers", *words, "--stale", "--as-of", "2020-01-01")
    assert (code, out, err) == (0, "No fact is past its review date on 2020-01-01.\n", "")


def test_a_fact_is_good_on_the_day_of_its_review(say: Say) -> None:
    reviews = sorted({limit.review_by for limit in Provider.load("office365").limits if limit.review_by})
    code, out, _ = say("providers", "office365", "--stale", "--json", "--as-of", str(reviews[0]))
    assert (code, strict(out)) == (0, [])
