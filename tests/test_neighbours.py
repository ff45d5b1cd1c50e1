"""Neighbours on a pool: their blasts against closed forms, and when sharing a faster channel stops being worth it.

The seeds were written before the first run. Checks against theory use 99.9 % intervals.
"""

import math
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from simlib import theory
from simlib.experiment import compare
from simlib.scenario import Scenario

MX = {"title": "MX", "role": "delivery", "credential": "ip", "auth": []}
LOAD = 0.5
"""Of each connection, in erlang."""
POOLED = 3
"""Equal channels, each with its tenant, that are pooled."""
EQUALLY = POOLED + 1
"""The batch at which one connection as fast as all of them is no better than one's own."""


def shared(batch: int, service: object = "1s", **extra: Any) -> Scenario:
    """One tenant whose messages come one by one, on its own channel, and pooled with others who send in batches.

    The pools have the connections of all: as one that is as fast as they together, and as many.
    """
    others = LOAD * (POOLED - 1) / batch
    carried = {"tenants": ["us", "neighbours"], "to": "mx"}
    return Scenario.build(
        {
            "name": "shared",
            "start": "2026-06-01T00:00",
            "duration": "2400s",
            "transient": "400s",
            "tenants": [
                {"name": "us", "senders": 1, "arrivals": {"kind": "poisson", "rate": f"{LOAD}/s"}},
                {
                    "name": "neighbours",
                    "neighbour": True,
                    "senders": 1,
                    "arrivals": {"kind": "batches", "size": batch, "rate": f"{others:.9f}/s"},
                },
            ],
            "alternatives": {
                "own": {"channels": [{"name": "own", "tenants": ["us"], "to": "mx", "service": service}]},
                "one": {"channels": [{"name": "one", **carried, "service": f"{1 / POOLED:.9f}s"}]},
                "many": {"channels": [{"name": "many", **carried, "service": service, "connections": POOLED}]},
            },
            "providers": {"mx": MX},
            **extra,
        }
    )


def interval(samples: list[float]) -> tuple[float, float]:
    """The 99.9 % interval of the mean of independent replications."""
    half_width = stdtrit(len(samples) - 1, 0.9995) * stdev(samples) / math.sqrt(len(samples))
    return fmean(samples) - half_width, fmean(samples) + half_width


@pytest.mark.parametrize(
    ("batch", "service", "scv", "seed"),
    [
        (5, {"mean": "0.2s"}, 0, 801),
        (12, {"mean": "0.2s"}, 0, 802),
        (5, {"kind": "exponential", "mean": "0.2s"}, 1, 803),
    ],
)
def test_the_mean_wait_beside_batches_is_the_theorys(
    batch: int, service: dict[str, str], scv: float, seed: int
) -> None:
    asked = shared(batch).replace(
        alternatives={"one": {"channels": {"one": {"service": service}}}, "own": {"channels": {"own": {"ips": 1}}}}
    )
    result = compare(asked, replications=25, seed=seed, jobs=1)
    others = LOAD * (POOLED - 1) / batch
    expected = theory.mg1_beside_batches(LOAD, others, batch, 0.2, scv)
    low, high = interval(result.values("one", "us", "wait_mean"))
    assert low <= expected <= high
    low, high = interval(result.values("one", "neighbours", "wait_mean"))
    assert low <= expected + (batch - 1) * 0.2 / 2 <= high


@given(st.integers(2, 50), st.floats(0.01, 0.99))
def test_pooling_into_one_fast_connection_wins_below_a_batch_of_one_more_than_what_is_pooled(
    pooled: int, load: float
) -> None:
    """In the closed form: equal at n + 1, whatever the load; better before, worse beyond."""
    own = theory.md1_mean_wait(load, 1)

    def pool(batch: int) -> float:
        return theory.mg1_beside_batches(load, load * (pooled - 1) / batch, batch, 1 / pooled)

    assert pool(pooled) < own < pool(pooled + 2)
    assert math.isclose(pool(pooled + 1), own, rel_tol=1e-9)


@pytest.mark.parametrize(
    ("batch", "one", "many"),
    [
        (EQUALLY - 1, "wins", "wins"),
        (EQUALLY, "draws", "wins"),  # with as many connections as are pooled, it stops a little later
        (EQUALLY + 2, "loses", "loses"),
    ],
)
def test_pooling_stops_winning_at_that_batch(batch: int, one: str, many: str) -> None:
    result = compare(shared(batch), replications=25, seed=811, jobs=1)
    own = result.values("own", "us", "wait_mean")
    for alternative, expected in (("one", one), ("many", many)):
        pool = result.values(alternative, "us", "wait_mean")
        low, high = interval([ours - before for ours, before in zip(pool, own, strict=True)])
        assert ("wins" if high < 0 else "loses" if low > 0 else "draws") == expected


def test_an_amount_that_nobody_publishes_is_called_assumed_whatever_else_a_source_states() -> None:
    """Google states that there is a quota per IP, and no amount; its facts are graded A."""
    scenario = Scenario.load(Path(__file__).parents[1] / "notebooks" / "scenarios" / "neighbours.toml")
    grades = {one["id"]: one["grade"] for one in scenario.rests_on(["Dedicated IP"])}
    assert (grades["google-mx/quota"], grades["microsoft-mx/quota"]) == ("assumed", "assumed")
    assert grades["microsoft-mx/connections"] != "assumed"  # its amount is published
