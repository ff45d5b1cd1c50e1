"""The measured half of the twin run: what is held against what, and how close it has to be."""

import dataclasses
import json
import math
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from loads import MIXED, SCALE

from simlib import validate as validate_module
from simlib.load import Load
from simlib.measured import twin_lines
from simlib.replay import Exact
from simlib.scenario import Scenario
from simlib.validate import COUNTS, Comparison, Validation, measurable, over_smtp, times, twin, validate

TEAM_DAY = Path(__file__).parents[1] / "notebooks" / "scenarios" / "team_day.toml"


@pytest.mark.parametrize(
    ("simulated", "measured", "agrees"),
    [
        *((10.0, 11.0, True), (10.0, 11.1, False), (10.0, 9.0, True), (10.0, 8.9, False)),
        *((math.inf, math.inf, True), (math.inf, 10.0, False), (10.0, math.inf, False)),
        *((math.nan, math.nan, True), (math.nan, 10.0, False)),
    ],
)
def test_two_numbers_agree_within_the_tolerance_and_never_by_having_none(
    simulated: float, measured: float, agrees: bool
) -> None:
    assert Comparison("us", "accepted", simulated, measured, 1.0).agrees is agrees


def test_every_count_of_a_load_is_its_twin_s(measured: Load) -> None:
    found = twin(measured)
    counts = [one for one in found.comparisons if one.metric in COUNTS or one.metric.startswith("refusals: ")]
    assert [(one.tenant, one.metric, one.measured) for one in counts] == [
        (one.tenant, one.metric, one.simulated) for one in counts
    ]
    assert {one.tenant for one in counts} == set(measured.summaries)
    assert set(found.table().columns) == {"tenant", "metric", "simulated", "measured", "tolerance", "agrees"}
    accepted = sum(one.numbers["accepted"] for one in measured.summaries.values())
    assert accepted - 8 <= len(found.residuals()) <= accepted  # which of two that wait for one place is chance


def test_holds_are_no_part_of_a_transaction(measured: Load) -> None:
    setups, transactions = times(measured).setups, times(measured).transactions
    held = max(row["held"] for row in measured.rows)
    assert 0 < transactions["office 365"] < held
    assert all(seconds > 0 for seconds in setups.values())
    rows = [
        {**row, "held": row["held"] + 1.0, "data": row["data"] + 1.0 / measured.time_scale} for row in measured.rows
    ]
    again = times(dataclasses.replace(measured, rows=rows)).transactions
    assert again == pytest.approx(transactions, abs=1e-9)


def test_what_differs_is_named_and_a_late_load_is_no_result(measured: Load) -> None:
    found = twin(measured)
    late = dataclasses.replace(measured, rows=[{**row, "late": 1.0} for row in measured.rows])
    verdict = Validation({"all": Exact(3, ("one",))}, {"all": dataclasses.replace(found, load=late)})
    assert not verdict.agrees
    assert verdict.problems()[0] == "one"
    assert "no result" in verdict.problems()[1]
    document = verdict.json()
    assert document["exact"] == {"replies": 3, "differences": 1}
    assert document["agrees"] is False
    assert set(document["alternatives"]["all"]["held"]["accepted"]) == {"simulated", "measured", "tolerance", "agrees"}


def taking(measured: Load, *seconds: float) -> Load:
    """The load, had each queue's transactions taken so long in real time, in turn, and its sessions none to open."""
    nothing = dict.fromkeys(("connect", "tls", "auth", "late", "after", "mail"), 0.0)
    rows = []
    turns: dict[tuple[int, str], Iterator[float]] = {}
    for row in measured.rows:
        took = next(turns.setdefault((row["route"], row["stage"]), cycle(seconds)))
        rows.append({**row, **nothing, "data": took + row["held"] / measured.time_scale})
    return dataclasses.replace(measured, rows=rows)


def test_a_time_scale_at_which_this_machine_decides_is_too_high_and_one_that_would_do_is_named(
    measured: Load,
) -> None:
    """Ten seconds of the scenario each: that disagrees, and is no scatter; none or twenty decide who is in time."""
    steady, scattered = twin(taking(measured, 0.5)), twin(taking(measured, 0.0, 1.0))
    assert (steady.agrees, steady.hurry) == (False, None)
    hurry = scattered.hurry
    assert hurry is not None
    assert hurry.fast < 10 < hurry.slow
    assert hurry.enough < SCALE
    verdict = Validation({"all": Exact(3, ())}, {"all": scattered})
    said = "\n".join(twin_lines(verdict))
    assert said.startswith("SIMULATION AND REAL SMTP DO NOT AGREE, and need not: the time scale is too high")
    assert (
        "all: the time scale is too high. At 20 times the speed, opening a session and sending a message over" in said
    )
    assert f"which itself says 0 s; and whether it is {hurry.fast:.3g} or {hurry.slow:.3g} s" in said
    would_do = verdict.json()["loads"]["all"]["time_scale_that_would_do"]
    assert f"--time-scale {would_do:g} would do" in said
    assert 0 < would_do <= hurry.enough
    unexplained = Validation({"all": Exact(3, ())}, {"all": steady})
    assert unexplained.json()["loads"]["all"]["time_scale_that_would_do"] is None
    assert "too high" not in "\n".join(twin_lines(unexplained))


def test_what_speaks_http_is_left_out_by_name_and_refused_if_asked_for() -> None:
    scenario = Scenario.load(TEAM_DAY)
    chosen, left_out = over_smtp(scenario)
    assert left_out == ["Gmail: gmail-oauth speaks HTTP, not SMTP"]
    assert {*chosen, "Gmail"} == set(scenario.alternatives)
    with pytest.raises(ValueError, match="speaks HTTP"):
        over_smtp(scenario, ["Gmail"])
    with pytest.raises(ValueError, match="unknown alternative 'x'"):
        over_smtp(scenario, ["x"])


def test_nobody_waits_a_day_without_asking_for_it(
    tmp_path: Path, say: Any, measured: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = Scenario.load(TEAM_DAY)
    assert not measurable(scenario)
    assert measurable(scenario.replace(time_scale=100))
    assert measurable(scenario.replace(duration="9min", deadline="00:09", tenants=_at_once(scenario)))

    monkeypatch.setattr(validate_module, "load", lambda *_, **__: measured)
    monkeypatch.setattr(validate_module, "exact", lambda *_, **__: Exact(3, ()))
    found = validate(scenario, tmp_path)
    assert (set(found.exact), dict(found.twins)) == (set(scenario.alternatives) - {"Gmail"}, {})
    assert set(validate(scenario, tmp_path, ["SparkPost"], time_scale=720).twins) == {"SparkPost"}
    code, out, _ = say("validate", TEAM_DAY)
    assert code == 0
    assert "Left out: Gmail: gmail-oauth speaks HTTP" in out
    assert "Left out: the measured gate: it takes 24 h an alternative; --time-scale X makes it X times as fast" in out


def _at_once(scenario: Scenario) -> dict[str, Any]:
    return {tenant.name: {"senders": 1, "arrivals": {"kind": "batches", "size": 1}} for tenant in scenario.tenants}


def test_the_command_runs_both_gates(tmp_path: Path, say: Any, measured: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The load is the one that the suite has; whether its delays are close enough, is this machine's matter."""
    monkeypatch.setattr(validate_module, "load", lambda *_, **__: measured)
    scenario = tmp_path / "mixed.json"
    scenario.write_text(json.dumps(MIXED), encoding="utf-8")
    code, out, err = say("validate", scenario, "--json", "--out", tmp_path / "out", "--time-scale", 20)
    found = json.loads(out)
    assert (code, err) == (0 if found["agrees"] else 1, "")
    assert found["exact"]["differences"] == 0
    assert found["exact"]["replies"] > 100
    assert set(found["alternatives"]["all"]) == {"held", "refused", "deferred", "waiting", "oauth"}
    for metrics in found["alternatives"]["all"].values():
        assert {*COUNTS, "goodput_per_hour", "delay_p50", "delay_p95", "delay_p99"} <= set(metrics)
        assert all(set(one) == {"simulated", "measured", "tolerance", "agrees"} for one in metrics.values())
    assert json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8")) == found
    assert {"attempts.parquet", "residuals.png", "exact"} <= {path.name for path in (tmp_path / "out" / "01").iterdir()}


def test_a_letter_that_differs_is_told_and_is_no_agreement(
    tmp_path: Path, say: Any, measured: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validate_module, "load", lambda *_, **__: measured)
    monkeypatch.setattr(validate_module, "exact", lambda *_, **__: Exact(3, ("simulated 250, got 251",)))
    scenario = tmp_path / "mixed.json"
    scenario.write_text(json.dumps(MIXED), encoding="utf-8")
    code, out, _ = say("validate", scenario)
    assert (code, out.startswith("SIMULATION AND REAL SMTP DO NOT AGREE.")) == (1, True)
    assert "1 differ" in out
    assert "simulated 250, got 251" in out


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, 2.0])
def test_a_tolerance_is_a_share(tolerance: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tolerance must be at least 0 and below 1"):
        validate(Scenario.load(TEAM_DAY), tmp_path, tolerance=tolerance)
