"""Simulated queues and limits against closed forms.

Each check asks whether the closed form lies in the 99.9 % interval of the mean over replications, each from an empty
system whose transient is cut. The seeds were written before the first run.
"""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from experiments import QUOTA, SOURCE, batch, check, scenario, summary
from hypothesis import given, settings
from hypothesis import strategies as st

from simlib import theory
from simlib.experiment import compare, run
from simlib.scenario import Scenario

# Queues against theory


def queue(law: dict[str, Any], rate: str, connections: int, duration: str, transient: str) -> Scenario:
    arrivals = {"kind": "poisson", "rate": rate}
    return scenario(arrivals, duration=duration, extra={"transient": transient}, service=law, connections=connections)


@pytest.mark.parametrize(
    ("law", "rate", "connections", "expected", "seed"),
    [
        ({"kind": "exponential", "mean": "1s"}, 1.4, 2, theory.mmc_mean_wait(1.4, 1, 2), 601),
        ({"kind": "exponential", "mean": "2s"}, 2.0, 5, theory.mmc_mean_wait(2.0, 0.5, 5), 602),
        ({"mean": "1s"}, 0.7, 1, theory.md1_mean_wait(0.7, 1), 603),
        ({"mean": "1s"}, 1.6, 2, theory.mdc_mean_wait(1.6, 1, 2), 604),
        ({"kind": "lognormal", "mean": "1s", "scv": 2}, 0.5, 1, theory.mg1_mean_wait(0.5, 1, 2), 605),
    ],
    ids=["M/M/2", "M/M/5", "M/D/1", "M/D/2", "M/G/1"],
)
def test_the_mean_wait_is_the_theorys(
    law: dict[str, Any], rate: float, connections: int, expected: float, seed: int
) -> None:
    asked = queue(law, f"{rate}/s", connections, "2400s", "400s")
    result = compare(asked, replications=25, seed=seed, jobs=1)
    check(expected, result.values("it", "us", "wait_mean"))


def test_messages_in_the_system_are_arrival_rate_times_sojourn() -> None:
    """Little's law at moments that have nothing to do with the messages, in an M/M/2 queue."""
    asked = queue({"kind": "exponential", "mean": "1s"}, "1.4/s", 2, "1200s", "200s")
    moments = np.arange(200, 1200, 5.0)
    in_system = []
    for replication in range(30):
        attempts = run(asked, "it", seed=606, replication=replication)
        left = np.sort(np.where(np.isnan(attempts["ended"]), np.inf, attempts["ended"]))
        came = np.searchsorted(attempts.messages.created_at, moments, side="right")
        in_system.append(float((came - np.searchsorted(left, moments, side="right")).mean()))
    check(1.4 * (theory.mmc_mean_wait(1.4, 1, 2) + 1), in_system)


@given(
    sizes=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4)), min_size=1, max_size=8),
    connections=st.integers(1, 3),
    quarters=st.integers(0, 12),
)
@settings(max_examples=40, deadline=None)
def test_the_area_under_messages_in_the_system_is_their_total_delay(
    sizes: list[tuple[int, int]], connections: int, quarters: int
) -> None:
    """Little's law exactly, when the system ends empty: times are multiples of 1/4 s, so nothing is rounded."""
    arrivals = [batch(size, f"{at}s") for at, size in sizes]
    asked = scenario(*arrivals, connections=connections, service=f"{quarters / 4}s")
    attempts = run(asked, "it")
    steps = Counter(attempts.messages.created_at.tolist())
    steps.subtract(Counter(attempts["ended"].tolist()))
    area = count = 0.0
    for before, now in pairwise(sorted(steps)):
        count += steps[before]
        area += count * (now - before)
    numbers = summary(asked).numbers
    assert numbers["delay_mean"] == area / numbers["accepted"]


# Losses against theory


def losses(asked: Scenario, rate: float, seed: int, metric: str = "rejected", replications: int = 25) -> list[float]:
    """Each replication's share of lost messages; by the expected number offered: a ratio would be biased."""
    result = compare(asked, replications=replications, seed=seed, jobs=1)
    expected = rate * (asked.duration - asked.transient)
    return [lost / expected for lost in result.values("it", "us", metric)]


def limited(rate: float, **limit: Any) -> Scenario:
    arrivals = {"kind": "poisson", "rate": f"{rate}/s"}
    quota = {**QUOTA, "on_excess": "reject", **limit}
    return scenario(arrivals, duration="40min", limits=(quota,), extra={"transient": "10min"})


@pytest.mark.parametrize("burst", [1, 5, 20])
def test_a_token_bucket_loses_what_theory_says(burst: int) -> None:
    asked = limited(1.1, limit="60/min", window="token_bucket", burst=burst)
    check(theory.token_bucket_loss(offered=1.1, bucket=burst), losses(asked, 1.1, seed=611))


def test_a_fixed_window_loses_what_theory_says() -> None:
    asked = limited(0.5, limit="30/min", window="fixed", anchor="clock")
    check(theory.fixed_window_loss(limit=30, offered=30), losses(asked, 0.5, seed=612))


def test_a_sliding_window_of_accepted_messages_loses_what_theory_says() -> None:
    asked = limited(0.5, limit="30/min")
    check(theory.sliding_accepted_loss(limit=30, offered=30), losses(asked, 0.5, seed=613))


def test_a_sliding_window_of_attempts_loses_what_theory_says() -> None:
    asked = limited(0.5, limit="30/min", counts="attempts")
    check(theory.sliding_attempts_loss(limit=30, offered=30), losses(asked, 0.5, seed=614))


@pytest.mark.parametrize(
    "law",
    [{"mean": "2s"}, {"kind": "exponential", "mean": "2s"}, {"kind": "lognormal", "mean": "2s", "scv": 4}],
    ids=["constant", "exponential", "lognormal"],
)
def test_a_connection_limit_loses_what_erlang_says_under_every_law_of_service(law: dict[str, Any]) -> None:
    limit = {"id": "connections", "count": "connections", "per": "ip", "limit": 5, "at": "CONNECT", **SOURCE}
    asked = scenario(
        {"kind": "poisson", "rate": "2/s"},
        duration="20min",
        limits=({**limit, "on_excess": "close"},),
        extra={"transient": "2min"},
        connections=60,  # more than ever wait
        service=law,
    )
    check(theory.erlang_b(servers=5, offered_load=4), losses(asked, 2, seed=615, metric="expired"))


def test_a_held_excess_waits_as_long_as_theory_says() -> None:
    """A token bucket that holds is a shaper, whoever waits for it."""
    quota = {**QUOTA, "limit": "60/min", "window": "token_bucket", "burst": 3, "on_excess": "hold_reply"}
    asked = scenario(
        {"kind": "poisson", "rate": "0.8/s"},
        duration="50min",
        limits=(quota,),
        extra={"transient": "5min"},
        timeout="1h",
    )
    result = compare(asked, replications=25, seed=616, jobs=1)
    check(theory.shaper_mean_delay(arrival_rate=0.8, token_rate=1, bucket=3), result.values("it", "us", "delay_mean"))
