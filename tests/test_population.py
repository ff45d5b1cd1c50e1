"""Many customers in one table: who they are, how unequal they are, and what is refused."""

from typing import Any

import numpy as np
import pytest

from simlib.experiment import compare
from simlib.scenario import Scenario

COUNT = 40
SEEDS = range(200)
TABLE = {"name": "others", "neighbour": True, "count": COUNT, "senders": 2}
POISSON = {"kind": "poisson", "rate": "5/h"}
UNEQUAL = {"kind": "lognormal", "scv": 2}


def question(arrivals: Any = POISSON, **table: Any) -> Scenario:
    us = {"name": "us", "senders": 1, "arrivals": {"kind": "poisson", "rate": "10/h"}}
    pool = {"name": "pool", "tenants": ["us", "others"], "to": "google-mx"}
    alone = {"name": "alone", "tenants": ["us"], "to": "google-mx"}
    return Scenario.build(
        {
            "name": "many",
            "duration": "1d",
            "tenants": [us, {**TABLE, "arrivals": arrivals, **table}],
            "alternatives": {"pool": {"channels": [pool]}, "alone": {"channels": [alone]}},
        }
    )


def shares(scenario: Scenario, replication: int) -> list[float]:
    return [one.volume(1, replication) for one in scenario.tenants if one.group == "others"]


def rates(scenario: Scenario, replication: int) -> list[float]:
    return [one.complaints(1, replication) for one in scenario.tenants if one.group == "others"]


def test_a_table_with_a_count_stands_for_so_many_tenants() -> None:
    scenario = question()
    assert [one.name for one in scenario.tenants] == ["us", *(f"others-{number:02}" for number in range(1, COUNT + 1))]
    assert len({one.domain for one in scenario.tenants}) == COUNT + 1
    assert scenario.tenants[1].addresses(scenario.day) == ("rep01@others-01.example", "rep02@others-01.example")
    assert scenario.alternatives["pool"].channels[0].tenants == tuple(one.name for one in scenario.tenants)
    assert scenario.alternatives["alone"].channels[0].tenants == ("us",)
    messages = scenario.messages(1, 0)
    counts = np.bincount(messages.tenant)[1:]
    assert len(counts) == COUNT
    assert counts.min() > 120 - 6 * 120**0.5  # alike, and each with its own arrivals
    assert len(set(counts.tolist())) > 1


def test_a_copy_is_changed_by_the_name_of_the_table() -> None:
    changed = question().replace(tenants={"others": {"count": 3, "senders": 1}})
    assert [one.name for one in changed.tenants] == ["us", "others-1", "others-2", "others-3"]
    assert str(changed) == str(Scenario.build(changed.data))
    assert "others (neighbour)  3" in str(changed)
    assert "us, others " in str(changed)


def test_what_they_send_together_is_the_same_and_who_sends_it_isn_t() -> None:
    scenario = question(volumes=UNEQUAL)
    drawn = np.array([shares(scenario, replication) for replication in SEEDS])
    assert drawn.sum(axis=1) == pytest.approx(COUNT)
    assert len(np.unique(drawn)) == drawn.size
    assert shares(scenario, 3) == shares(scenario, 3)
    # each place is like any other: as often as not it is among the bigger half (99.9 % for all 40 of them)
    bigger = (drawn > np.median(drawn, axis=1, keepdims=True)).sum(axis=0)
    assert (np.abs(bigger - len(SEEDS) / 2) < 4.2 * (len(SEEDS) / 4) ** 0.5).all()
    # before the sum is fixed, the logarithm's variance is log(1 + scv)
    logs = np.log(drawn) - np.log(drawn).mean(axis=1, keepdims=True)
    variance = (logs**2).sum() / (len(SEEDS) * (COUNT - 1))
    spread = np.log1p(UNEQUAL["scv"]) * (2 / (len(SEEDS) * (COUNT - 1))) ** 0.5
    assert abs(variance - np.log1p(UNEQUAL["scv"])) < 3.29 * spread


@pytest.mark.parametrize(
    "arrivals",
    [POISSON, {"kind": "business_day", "per_sender": 60}, {"kind": "batches", "rate": "1/h", "size": 5}],
    ids=lambda value: value["kind"],
)
def test_each_sends_in_proportion_to_its_volume(arrivals: Any) -> None:
    scenario = question(arrivals, volumes=UNEQUAL)
    messages = scenario.messages(1, 0)
    counts = np.bincount(messages.tenant, minlength=COUNT + 1)[1:]
    size = arrivals.get("size", 1)
    expected = 120 * np.array(shares(scenario, 0))
    assert (np.abs(counts - expected) < 4.5 * (size * expected) ** 0.5 + size).all()


def test_complaint_rates_are_drawn_about_their_mean_or_some_are_bad() -> None:
    unequal = question(complaint_rate=0.0005, complaint_rates={"kind": "lognormal", "scv": 1})
    drawn = np.array([rates(unequal, replication) for replication in SEEDS]).ravel()
    assert abs(drawn.mean() - 0.0005) < 3.29 * drawn.std() / len(drawn) ** 0.5
    assert len(np.unique(drawn)) == len(drawn)
    bad = question(complaint_rate=0.0005, complaint_rates={"kind": "bad", "share": 0.2, "rate": 0.01})
    drawn = np.array([rates(bad, replication) for replication in SEEDS])
    assert set(drawn.ravel().tolist()) == {0.0005, 0.01}
    share = (drawn == 0.01).mean()
    assert abs(share - 0.2) < 3.29 * (0.2 * 0.8 / drawn.size) ** 0.5
    more = bad.replace(tenants={"others": {"complaint_rates": {"share": 0.4}}})
    assert all(one >= other for one, other in zip(rates(more, 5), rates(bad, 5), strict=True))


def test_the_answer_says_what_is_drawn() -> None:
    drawn = question(volumes=UNEQUAL, complaint_rates={"kind": "bad", "share": 0.2, "rate": 0.01})
    ids = {"others: volumes", "others: complaint_rates"}
    assert ids <= {one["id"] for one in drawn.rests_on(["pool"])}
    assert not ids & {one["id"] for one in drawn.rests_on(["alone"])}
    assert drawn.random_parts()[:2] == ["others: volumes", "others: complaint_rates"]
    assert drawn.random_parts().count("others: times of arrival") == 0
    assert [part for part in drawn.random_parts() if part.startswith("others: arrivals")] == [
        "others: arrivals 1: times of arrival"
    ]
    assert not ids & {one["id"] for one in question().rests_on(["pool"])}


def test_reputation_is_of_the_complaint_rates_that_were_drawn() -> None:
    scenario = question(complaint_rates={"kind": "bad", "share": 0.5, "rate": 0.01}).replace(reputation=True)
    opinion = scenario.opinion(scenario.provider("google-mx"), 1, 4)
    assert opinion is not None
    assert [opinion.rates[one.domain] for one in scenario.tenants[1:]] == rates(scenario, 4)


def test_a_comparison_counts_each_of_them() -> None:
    result = compare(question().replace(duration="1h"), replications=1)
    assert len(result.tenants("pool")) == COUNT + 1
    assert result.tenants("alone") == ["us"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"count": 1}, r"tenants\[others\]\.count: .*2, got 1"),
        ({"neighbour": False}, r"count is for neighbours: give each tenant of your own a table, got 40"),
        ({"count": None, "volumes": UNEQUAL}, r"volumes belongs to a tenant with a `count`"),
        ({"volumes": {"kind": "zipf", "scv": 1}}, r"volumes\.kind: .*lognormal.*zipf"),
        ({"volumes": {"kind": "lognormal", "scv": 0}}, r"volumes\.scv: .*0"),
        ({"complaint_rates": {"kind": "bad", "share": 1.2, "rate": 0.1}}, r"share: .*1\.2"),
        (
            {"complaint_rates": {"kind": "gamma"}},
            r"complaint_rates: kind must be one of 'lognormal', 'bad', got 'gamma'",
        ),
        (
            {"volumes": UNEQUAL, "arrivals": {"kind": "batches", "size": 5}},
            r"volumes needs arrivals with a rate .*got batches",
        ),
        ({"domain": "others.com"}, "reserved domain"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_can_not_be_is_refused_in_a_line(table: dict[str, Any], said: str) -> None:
    own = {key: value for key, value in {**TABLE, "arrivals": POISSON, **table}.items() if value is not None}
    data = question().data
    with pytest.raises(ValueError, match=said) as refused:
        Scenario.build({**data, "tenants": [data["tenants"][0], own]})
    assert "\n" not in str(refused.value)


def test_a_name_that_is_given_twice_is_refused() -> None:
    data = question().data
    twin = {"name": "others-01", "neighbour": True, "senders": 1, "arrivals": POISSON, "domain": "twin.example"}
    with pytest.raises(ValueError, match="name given twice: 'others-01'"):
        Scenario.build({**data, "tenants": [*data["tenants"], twin]})
