"""What if an assumption were another: what can be named, what can't, and where conclusions flip."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simlib.cli import main
from simlib.experiment import compare
from simlib.scenario import Scenario
from simlib.sweep import Axis, assume, sweep

POOL = """
name = "pool or own"
start = "2026-12-01T09:00"
duration = "1h"
[[tenants]]
name = "us"
senders = 2
arrivals = [{ kind = "batches", size = 30, label = "campaign" }, { kind = "batches", size = 10, first = "30min" }]
[[tenants]]
name = "strangers"
neighbour = true
senders = 1
arrivals = { kind = "batches", size = 20 }
[alternatives."the pool"]
channels = [{ name = "pool", tenants = ["us", "strangers"], to = "google-mx", ips = 2 }]
[alternatives.own]
channels = [
  { name = "own", tenants = ["us"], to = "google-mx" },
  { name = "theirs", tenants = ["strangers"], to = "generic-mx" },
]
"""


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    path = tmp_path / "pool.toml"
    path.write_text(POOL)
    return path


def swept(pool: Path, *asked: str) -> Any:
    scenario = Scenario.load(pool)
    return sweep(compare(scenario, replications=2, jobs=1), [Axis.parse(text) for text in asked])


@pytest.mark.parametrize(
    ("asked", "path", "values"),
    [
        ("google-mx/quota=500/h,1000/h", ("limits", "google-mx/quota"), ("500/h", "1000/h")),
        ("tenants.us.senders=10,25", ("tenants", "us", "senders"), (10, 25)),
        ("duration=1h", ("duration",), ("1h",)),
        ("deadline=09:30,10:00", ("deadline",), ("09:30", "10:00")),
        ("start=09:30:00", ("start",), ("09:30:00",)),
        ('alternatives."a = b".channels.c.ips=1', ("alternatives", "a = b", "channels", "c", "ips"), (1,)),
        (
            "alternatives.own.channels.own.pace={batch = 2, wait = '1s'},{batch = 3, wait = '1s'}",
            ("alternatives", "own", "channels", "own", "pace"),
            ({"batch": 2, "wait": "1s"}, {"batch": 3, "wait": "1s"}),
        ),
        ('readings."office365/messages-per-minute"=hold', ("readings", "office365/messages-per-minute"), ("hold",)),
        ("google-mx/quota=off,500/h", ("limits", "google-mx/quota"), ("off", "500/h")),
    ],
)
def test_an_assumption_is_named_as_in_the_file(asked: str, path: tuple[str, ...], values: tuple[Any, ...]) -> None:
    axis = Axis.parse(asked)
    assert (axis.path, axis.values) == (path, values)


def test_a_value_is_put_where_it_belongs_and_nowhere_else(pool: Path) -> None:
    scenario = Scenario.load(pool)
    places: list[tuple[str, Callable[[Any], Any]]] = [
        ("google-mx/quota=70/h", lambda s: s.limits),
        ("tenants.us.arrivals.campaign.size=7", lambda s: s.tenants[0].arrivals[0].size),
        ("tenants.us.arrivals.2.size=7", lambda s: s.tenants[0].arrivals[1].size),
        ("tenants.strangers.arrivals.size=7", lambda s: s.tenants[1].arrivals[0].size),
        ('alternatives."the pool".channels.pool.ips=7', lambda s: s.alternatives["the pool"].channels[0].ips),
        ("alternatives.own.channels.theirs.ips=7", lambda s: s.alternatives["own"].channels[1].ips),
    ]
    for asked, at in places:
        axis = Axis.parse(asked)
        changed = axis.set(scenario, axis.values[0])
        assert at(changed) == (7 if "quota" not in asked else {"google-mx/quota": "70/h"})
        assert at(scenario) != at(changed)
        before, after = (set(json.dumps(one.data, indent=0).splitlines()) for one in (scenario, changed))
        assert len(after - before) <= 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["nothing"], "must look like google-mx/quota=500/h,1000/h, got 'nothing'"),
        (["google-mx/quota="], "must look like"),
        (["a b=1"], "must name a limit or a key"),
        (["google-mx/quota=1/h,1/h"], "a value is given twice"),
        (["google-mx/quotas=1/h"], "google-mx has no limit 'google-mx/quotas'"),
        (["google-mx/quota=1/fortnight"], "must be a positive number or look like '100/min'"),
        (["sparkpost/messages-per-day=1/d"], "no alternative sends to 'sparkpost'"),
        (["tenants.them.senders=1"], "there is no 'them' (there are: us, strangers)"),
        (["tenants.us.arrivals.3.size=1"], "there is no '3' (there are: campaign, 2)"),
        (["tenants.us.sender=1"], "tenants[us].sender: unknown key"),
        (["tenants.us.senders=0"], "tenants[us].senders: must be"),
        (["tenants.us.senders.most=1"], "'most' is no key of a table"),
        (["tenants.us=1"], "there is no 'us'"),
        (["a.b=1"], "there is no 'a'"),
        (["duration=1h", "duration=2h"], "the same assumption twice"),
        (["duration=1h", "tenants.us.senders=1", "google-mx/quota=1/h"], "one or two assumptions, got 3"),
    ],
)
def test_what_it_cannot_name_is_answered_by_one_line_before_anything_is_simulated(
    asked: list[str], said: str, pool: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simlib.experiment.by_day", None)
    words = [word for text in asked for word in ("--sweep", text)]
    assert main(["compare", str(pool), *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err


def test_the_flips_are_where_they_can_be_worked_out(pool: Path) -> None:
    """Two IPs take twice the quota, of which ours come first; one message is lost where the first IP is full."""
    found = swept(pool, "google-mx/quota=10/h,40/h,60/h").json()
    assert found["names"] == ["google-mx/quota"]
    accepted = [
        {name: tenants["us"]["accepted"]["mean"] for name, tenants in point["alternatives"].items()}
        for point in found["points"]
    ]
    assert accepted == [{"the pool": 20, "own": 10}, {"the pool": 39, "own": 40}, {"the pool": 40, "own": 40}]
    assert [point["best"] for point in found["points"]] == [["the pool"], ["own"], ["the pool", "own"]]
    assert [point["flips"] for point in found["points"]] == [True, True, False]
    assert (found["metric"], [one.pop("behind").keys() for one in found["flips_between"]]) == (
        "within_hour",
        [{"the pool", "own"}, {"the pool"}],
    )
    assert found["flips_between"] == [
        {
            "name": "google-mx/quota",
            "from": "10/h",
            "to": "40/h",
            "at": {},
            "best_from": ["the pool"],
            "best_to": ["own"],
        },
        {
            "name": "google-mx/quota",
            "from": "40/h",
            "to": "60/h",
            "at": {},
            "best_from": ["own"],
            "best_to": ["the pool", "own"],
        },
    ]


BLAST = """
name = "behind a blast"
duration = "5h"
[[tenants]]
name = "us"
senders = 1
arrivals = { kind = "batches", size = 60, first = "1s" }
[[tenants]]
name = "them"
neighbour = true
senders = 1
arrivals = { kind = "batches", size = 1 }
[alternatives.pool]
channels = [{ name = "pool", tenants = ["us", "them"], to = "generic-mx", connections = 1, service = "30s" }]
[alternatives.own]
channels = [{ name = "own", tenants = ["us"], to = "generic-mx", connections = 1, service = "90s" }]
"""


def test_without_a_deadline_the_conclusion_flips_where_mail_is_late_though_all_of_it_is_accepted(
    pool: Path,
) -> None:
    """In an hour a pool takes 120 messages, a blast before ours; an own channel 40: equal at a blast of 80."""
    pool.write_text(BLAST)
    found = swept(pool, "tenants.them.arrivals.size=79,80,81")
    points = found.json()["points"]
    for number, point in zip((79, 80, 81), points, strict=True):
        numbers = {name: tenants["us"] for name, tenants in point["alternatives"].items()}
        assert {name: one["within_hour"]["mean"] for name, one in numbers.items()} == {"pool": 120 - number, "own": 40}
        assert {one["accepted"]["mean"] for one in numbers.values()} == {60}
    assert [point["best"] for point in points] == [["pool"], ["pool", "own"], ["own"]]
    assert [(one["from"], one["to"]) for one in found.flips()] == [(79, 80), (80, 81)]
    assert [list(one["behind"]) for one in found.flips()] == [["own"], ["pool"]]
    said = found.lines()
    assert "accepted within an hour, as there is no deadline" in said[0]
    assert "  pool against the best: 0, then -1 messages" in said
    (figure,) = found.figures().values()
    assert figure.axes[0].get_ylabel() == "Messages accepted within an hour"


def test_with_a_deadline_the_conclusion_is_by_what_is_on_time(pool: Path) -> None:
    pool.write_text(BLAST.replace('duration = "5h"', 'duration = "5h"\nstart = "08:00"\ndeadline = "09:30"'))
    found = swept(pool, "tenants.them.arrivals.size=120,121,122")  # of 180 places what is left, and 59 places
    assert (found.metric, [found.best(point.result) for point in found.points]) == (
        "on_time",
        [["pool"], ["pool", "own"], ["own"]],
    )
    assert "with most mail on time by 09:30; " in found.lines()[0]


@pytest.mark.parametrize(
    ("then", "flips"),
    [
        ({"pool": [11, 10, 9], "own": [10, 12, 11]}, 0),  # another one has the best mean, but by luck
        ({"pool": [9, 11, 10], "own": [10, 12, 11]}, 1),  # always one less: no doubt
    ],
)
def test_what_luck_may_have_done_is_no_flip(pool: Path, then: dict[str, list[int]], flips: int) -> None:
    pool.write_text(BLAST)
    standing = compare(Scenario.load(pool), replications=3, jobs=1)
    found = sweep(standing, [Axis.parse("tenants.them.arrivals.size=1,2")])
    for point, values in zip(found.points, ({"pool": [10, 12, 11], "own": [11, 10, 9]}, then), strict=True):
        for name, numbers in values.items():
            for summaries, number in zip(point.result.runs[name], numbers, strict=True):
                summaries["us"].numbers["within_hour"] = number
    assert len(found.flips()) == flips


def test_two_assumptions_are_swept_together(pool: Path) -> None:
    found = swept(pool, "google-mx/quota=10/h,60/h", 'alternatives."the pool".channels.pool.ips=1,2')
    assert [point.values for point in found.points] == [("10/h", 1), ("10/h", 2), ("60/h", 1), ("60/h", 2)]
    assert {(one["name"], *one["at"].items()) for one in found.flips()} == {
        ("google-mx/quota", ('alternatives."the pool".channels.pool.ips', 2)),
        ('alternatives."the pool".channels.pool.ips', ("google-mx/quota", "10/h")),
    }
    assert set(found.figures()) == {"sweep-1", "sweep-2"}


def test_a_point_is_what_the_scenario_with_that_value_gives(pool: Path) -> None:
    found = swept(pool, "tenants.us.senders=1,2", "google-mx/quota=20/h")
    scenario = Scenario.load(pool).replace(tenants={"us": {"senders": 1}}, limits={"google-mx/quota": "20/h"})
    assert found.points[0].result.json() == compare(scenario, replications=2, jobs=1).json()
    assert len(assume(Scenario.load(pool), found.axes)) == len(found.points)


def test_the_command_answers_with_a_sweep_and_draws_it(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", str(pool), "--replications", "2", "--jobs", "1", "--sweep", "google-mx/quota=10/h,60/h"]
    out = pool.parent / "out"
    assert main([*words, "--json", "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert json.loads((out / "summary.json").read_text()) == found
    assert [point["values"] for point in found["sweep"]["points"]] == [
        {"google-mx/quota": "10/h"},
        {"google-mx/quota": "60/h"},
    ]
    assert (out / "sweep.png").stat().st_size > 10_000
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "If google-mx/quota = 10/h: the pool  (another conclusion than the scenario's)" in said
    assert "Flips between google-mx/quota = 10/h and 60/h: from the pool to the pool; own." in said


@pytest.mark.parametrize(
    ("asked", "places", "unit"),
    [
        ("tenants.us.senders=1,2", [1, 2], ""),
        ("google-mx/quota=1/min,100/h", [60, 100], ", an hour"),
        ("duration=1min,1h", [60, 3600], ", in seconds"),
        ("google-mx/quota=off,100/h", [1, 2], ": off, 100/h"),
    ],
)
def test_values_stand_on_the_axis_in_one_unit(asked: str, places: list[float], unit: str) -> None:
    assert Axis.parse(asked).places() == (places, unit)
