"""Who starved whom: what can be worked out by hand, and what must hold in any run."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simlib.experiment import compare, run
from simlib.fairness import Shares, gather, jain, shares
from simlib.scenario import Scenario

SOURCE = {"source": "made up for this test", "as_of": "2026-01-01"}
SHARED = {"title": "One credential for all", "role": "submission", "credential": "domain", "auth": ["PLAIN"]}
QUOTA = {"id": "quota", "count": "messages", "per": "account", "at": "EOD", **SOURCE}
ANNA, BEN = "rep01@us.example", "rep02@us.example"


def team(
    *arrivals: dict[str, Any], neighbours: dict[str, Any] | None = None, limits: Any = (), **extra: Any
) -> Scenario:
    """Two people who share a credential, and a connection that needs a second for each message."""
    tenants: list[dict[str, Any]] = [{"name": "us", "senders": 2, "arrivals": list(arrivals)}]
    if neighbours is not None:
        tenants.append({"name": "them", "neighbour": True, "senders": 1, "arrivals": neighbours})
    carried = [tenant["name"] for tenant in tenants]
    role = {"role": "delivery", "credential": "ip", "auth": []} if neighbours is not None else {}
    return Scenario.build(
        {
            "name": "team",
            "start": "2026-06-01T09:00",
            "duration": "1h",
            "tenants": tenants,
            "alternatives": {"it": {"channels": [{"name": "c", "tenants": carried, "to": "relay", "service": "1s"}]}},
            "providers": {"relay": {**SHARED, **role, "limits": list(limits)}},
            **extra,
        }
    )


def batch(size: int, first: str = "0s", senders: int = 1) -> dict[str, Any]:
    return {"kind": "batches", "size": size, "first": first, "senders": senders}


def test_who_waits_behind_a_batch_waited_for_its_sender() -> None:
    """Anna sends ten at once; Ben's message, and one more of hers, come while the first is under way."""
    asked = team(batch(10), batch(2, "500s", senders=2), batch(2, "0.5s", senders=2))
    found = compare(asked, replications=2, jobs=1).fairness("it", "us")
    assert found.senders["offered"].to_dict() == {ANNA: 12, BEN: 2}
    # 0.5 s: Anna's message is accepted after 11 s, Ben's after 12 s; at 500 s: after 1 s and 2 s
    anna, ben = 55 + 10.5 + 1, 11.5 + 2
    assert found.waited_for.loc[BEN].to_dict() == pytest.approx({ANNA: ben, BEN: 0})
    assert found.waited_for.loc[ANNA].to_dict() == pytest.approx({ANNA: anna, BEN: 0})
    assert found.senders["delay_mean"].to_dict() == pytest.approx({ANNA: anna / 12, BEN: ben / 2})
    assert found.senders["delay_share"].sum() == pytest.approx(1)
    assert found.senders["caused_share"].to_dict() == pytest.approx({ANNA: ben / (anna + ben), BEN: 0})
    assert (found.jain.mean, found.jain.random) == (1, False)


def test_what_was_accepted_before_a_message_came_has_no_part_in_its_wait() -> None:
    found = compare(team(batch(2, senders=2), batch(1, "2.1s")), replications=2, jobs=1).fairness("it", "us")
    assert found.waited_for.loc[ANNA].to_dict() == pytest.approx({ANNA: 2, BEN: 0})
    assert found.waited_for.loc[BEN].to_dict() == pytest.approx({ANNA: 2, BEN: 0})


def test_who_uses_up_the_quota_leaves_the_others_none() -> None:
    quota = {**QUOTA, "limit": "10/d", "window": "sliding", "counts": "accepted", "on_excess": "reject"}
    found = compare(team(batch(10), batch(2, "60s", senders=2), limits=[quota]), 2, jobs=1).fairness("it", "us")
    assert found.senders["accepted"].to_dict() == {ANNA: 10, BEN: 0}
    assert found.jain.mean == pytest.approx(0.5)


def test_neighbours_are_named_apart() -> None:
    found = compare(team(batch(1, "1.5s"), neighbours=batch(5)), 2, jobs=1).fairness("it", "us")
    assert found.waited_for.loc[ANNA].to_dict() == pytest.approx({ANNA: 0, BEN: 0, "them": 4.5})
    assert found.senders["caused_share"].to_dict() == {ANNA: 0, BEN: 0}


def test_late_is_not_accepted_and_what_waits_waits_to_the_end() -> None:
    asked = team(batch(4000), batch(1, "1s"), deadline="09:30")
    found = shares(run(asked, "it"), asked, asked.lanes("it"), "us")
    assert found.accepted.tolist() == [1800, 0]
    assert found.delay[0] == pytest.approx(3600 * 3601 / 2 + 400 * 3600 + 3599, rel=1e-3)


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 30))
def test_all_delay_is_somebodys(size: int, rate: int, later: int) -> None:
    poisson = {"kind": "poisson", "rate": f"{rate}/min"}
    asked = team(batch(size), batch(size, f"{later}s", senders=2), poisson, neighbours=batch(3), duration="90s")
    found = shares(run(asked, "it"), asked, asked.lanes("it"), "us")
    np.testing.assert_allclose(found.waited_for.sum(axis=1), found.delay)
    assert (found.waited_for >= 0).all()


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_jains_index_is_from_a_share_to_one(values: list[float]) -> None:
    index = jain(values)
    if sum(values) > 1e-3:
        assert 1 / len(values) - 1e-9 <= index <= 1 + 1e-9
    assert jain([3.0] * len(values)) == pytest.approx(1)


def test_the_interval_of_an_index_ends_at_1() -> None:
    none = np.zeros((2, 2))
    runs = [Shares(("a", "b"), (), np.ones(2), np.array([1.0, got]), np.zeros(2), none) for got in (1.0, 1.0, 0.5)]
    found = gather(runs).jain
    assert found.high == 1.0
    assert found.low is not None
    assert found.low < 0.9 < (found.mean or 0.0) < 1
