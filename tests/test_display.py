"""What a notebook and a terminal show, and the calls of DESIGN §7, "In a notebook"."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import simlib
from simlib.estimate import Estimate
from simlib.experiment import Result
from simlib.facts import table_html, table_text
from simlib.provider import names
from simlib.tool import tools

SCENARIO = Path(__file__).parents[1] / "notebooks" / "scenarios" / "twin_hour.toml"


@pytest.fixture(scope="module")
def scenario() -> simlib.Scenario:
    return simlib.Scenario.load(SCENARIO)


@pytest.fixture(scope="module")
def result(scenario: simlib.Scenario) -> Result:
    found: Result = simlib.compare(scenario, replications=3, seed=1, jobs=1)
    return found


# The contract


def test_replace_never_mutates(scenario: simlib.Scenario) -> None:
    before = scenario.data
    changed = scenario.replace(tenants={"team": {"senders": 12}})
    assert [len(one.tenants[0].names(one.day)) for one in (scenario, changed)] == [8, 12]
    assert scenario.data == before


def test_a_table_has_a_row_for_each_number(result: Result) -> None:
    table = result.table()
    assert list(table.columns) == ["alternative", "tenant", "metric", "mean", "low", "high", "random"]
    assert set(table["alternative"]) == set(result.scenario.alternatives)
    row = table.set_index(["alternative", "tenant", "metric"]).loc[("SparkPost", "team", "offered")]
    assert row["mean"] == result.estimate("SparkPost", "team", "offered").mean


def test_a_difference_is_paired_and_signed(result: Result) -> None:
    there = result.difference("Gmail", "SparkPost")["team"]["accepted"]
    back = result.difference("SparkPost", "Gmail")["team"]["accepted"]
    assert isinstance(there, Estimate)
    assert isinstance(back.mean, float)
    assert there.mean == -back.mean
    pairs = zip(*(result.values(name, "team", "accepted") for name in ("SparkPost", "Gmail")), strict=True)
    assert there.mean == sum(ours - theirs for ours, theirs in pairs) / 3


def test_attempts_have_times_with_a_zone_and_seconds_beside_them(result: Result) -> None:
    attempts = result.attempts
    for name in ("created_at", "started_at", "ended_at"):
        assert str(attempts[name].dt.tz) == "UTC+09:00"
        since = (attempts[name] - pd.Timestamp(result.scenario.zero)).dt.total_seconds()
        pd.testing.assert_series_equal(since, attempts[f"{name}_s"], check_names=False, atol=1e-6, rtol=0)
    assert {*attempts["alternative"]} == {*result.scenario.alternatives}
    assert {*attempts["replication"]} == {0, 1, 2}


def test_a_timeline_counts_every_accepted_message(result: Result) -> None:
    table = result.timeline("SparkPost", "team")
    accepted = result.values("SparkPost", "team", "accepted")[0]
    assert (table["accepted"] + table["held"]).sum() == accepted
    assert str(table.index.tz) == "UTC+09:00"


def test_what_it_rests_on_and_what_would_flip_it_are_told(result: Result) -> None:
    assert {tuple(one) for one in result.assumptions()} == {("id", "grade")}
    flips = result.flips()
    assert {tuple(one) for one in flips} == {("limit", "reading", "flips")}
    assert "office365/messages-per-minute" in {one["limit"] for one in flips}


# What is shown


def shown(result: Result, scenario: simlib.Scenario) -> list[Any]:
    return [simlib.Provider.load("office365"), simlib.Tool.load("sales-connect"), scenario, result]


def test_everything_shows_itself_as_a_table_in_a_notebook(result: Result, scenario: simlib.Scenario) -> None:
    for one in shown(result, scenario):
        html = one._repr_html_()
        assert html.count("<table") == html.count("</table>") >= 1
        assert len(re.findall(r"<tr\b", html)) == html.count("</tr>") >= 3


def test_everything_is_a_line_in_a_traceback_and_a_plain_table_when_printed(
    result: Result, scenario: simlib.Scenario
) -> None:
    for one in shown(result, scenario):
        assert "\n" not in repr(one)
        assert len(repr(one)) <= 120
        assert re.match(rf"<{type(one).__name__} ", repr(one))
        assert len(str(one).splitlines()) >= 3
        assert "<" not in str(one)


def test_a_result_shows_a_small_plot_with_its_table(result: Result) -> None:
    (alt,) = re.findall(r'<img alt="([^"]+)"', result._repr_html_())
    assert alt == "What becomes of the messages of team"


def test_a_record_is_a_line(scenario: simlib.Scenario) -> None:
    record = simlib.run(scenario, "SparkPost")
    assert repr(record) == f"<Attempts: {len(record.rows):,} of {len(record.messages):,} messages>"
    assert repr(record.messages) == f"<Messages: {len(record.messages):,} of 2 tenants>"


@pytest.mark.parametrize("name", names())
def test_every_limit_of_every_provider_is_in_its_table(name: str) -> None:
    provider = simlib.Provider.load(name)
    rows = str(provider).splitlines()[2:]
    assert [row.split()[0] for row in rows] == [limit.id for limit in provider.limits]
    assert provider._repr_html_().count("<tr>") == 1 + len(provider.limits)


@pytest.mark.parametrize("name", tools())
def test_every_habit_of_every_tool_is_in_its_table(name: str) -> None:
    tool = simlib.Tool.load(name)
    assert [row.split()[0] for row in str(tool).splitlines()[2:]] == [habit.id for habit in tool.habits]


def test_a_table_of_nothing_is_its_caption() -> None:
    assert table_text([], "nothing") == "nothing"
    assert "nothing" in table_html([], "nothing")


# Ledgers


def test_a_ledger_is_a_table(tmp_path: Path) -> None:
    lines = [{"time": 1.5, "code": 250, "limit": ""}, {"time": 2.0, "code": 432, "limit": "office365/transactions"}]
    path = tmp_path / "server.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert simlib.ledger(path).to_dict("records") == lines
    with path.open("a", encoding="utf-8") as cut_off:
        cut_off.write('{"time": 2.5, "co')
    assert simlib.ledger(path).to_dict("records") == lines
    path.write_text('{"time": 1}\nnonsense\n{"time": 2}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"server\.jsonl: line 2 must be a JSON object, got 'nonsense'"):
        simlib.ledger(path)
