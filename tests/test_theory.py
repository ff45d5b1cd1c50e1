"""The closed forms: reference values, limiting cases, and direct simulations of the same laws.

A simulation here replays a rule message by message and shares nothing with the formulas. It is repeated, each time from
an empty system whose transient is cut, and the formula has to lie in the 99.9 % interval of the mean.
"""

import heapq
import math
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from statistics import fmean, stdev

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import gammaincc, lambertw, stdtrit

from simlib import theory

REPLICATIONS = 150

Numbers = NDArray[np.float64]
Law = Callable[[np.random.Generator, int], Numbers]
Rule = Callable[[list[float]], Iterable[float | None]]


def exponential(rng: np.random.Generator, count: int) -> Numbers:
    return rng.exponential(size=count)


def constant(rng: np.random.Generator, count: int) -> Numbers:
    return np.ones(count)


def lognormal(rng: np.random.Generator, count: int) -> Numbers:
    """Mean 1, squared coefficient of variation 2."""
    variance = math.log(3)
    return rng.lognormal(-variance / 2, math.sqrt(variance), count)


def queue(times: list[float], service: Numbers, connections: int, capacity: float = math.inf) -> Iterable[float | None]:
    """Each message's wait in a queue served in order of arrival, None if it is refused."""
    free = [0.0] * connections
    departures: list[float] = []
    for now, needs in zip(times, service.tolist(), strict=True):
        while departures and departures[0] <= now:
            heapq.heappop(departures)
        if len(departures) >= capacity:
            yield None
            continue
        begin = max(now, heapq.heappop(free))
        heapq.heappush(free, begin + needs)
        heapq.heappush(departures, begin + needs)
        yield begin - now


def token_bucket(times: list[float], bucket: int) -> Iterable[bool]:
    """Whether each message is refused by a bucket into which one token flows per unit of time."""
    tokens, last = float(bucket), 0.0
    for now in times:
        tokens, last = min(bucket, tokens + now - last), now
        refused = tokens < 1
        tokens -= not refused
        yield refused


def shaper(times: list[float], bucket: int) -> Iterable[float]:
    """Each message's delay in a bucket that delays what it cannot pass, one token per unit of time."""
    tokens, last = float(bucket), 0.0
    for now in times:
        ready = max(now, last)
        tokens = min(bucket, tokens + ready - last)
        last = ready + max(0.0, 1 - tokens)
        tokens = max(1.0, tokens) - 1
        yield last - now


def fixed_window(times: list[float], limit: int) -> Iterable[bool]:
    """Whether each message is refused; windows of length 1 begin at 0, 1, 2, ..."""
    window = used = 0
    for now in times:
        if int(now) > window:
            window, used = int(now), 0
        refused = used >= limit
        used += not refused
        yield refused


def sliding_window(times: list[float], limit: int, *, attempts: bool) -> Iterable[bool]:
    """Whether each message is refused; the window of length 1 ends at the message."""
    counted: deque[float] = deque()
    for now in times:
        while counted and counted[0] <= now - 1:
            counted.popleft()
        refused = len(counted) >= limit
        if attempts or not refused:
            counted.append(now)
        yield refused


def refused(wait: float | None) -> float:
    return wait is None


def waited(wait: float | None) -> float:
    return wait or 0


def simulate(
    rate: float, rule: Rule, *measures: Callable[[float | None], float], seed: int, horizon: int = 1200
) -> list[list[float]]:
    """Each measure's mean over the messages after the transient, a list of replications for each.

    The sums are divided by the expected number of messages, not by the number that came: that would be biased.
    """
    transient = horizon // 6
    results = []
    for stream in np.random.SeedSequence(seed).spawn(REPLICATIONS):
        rng = np.random.default_rng(stream)
        times = np.sort(rng.uniform(0, horizon, rng.poisson(rate * horizon))).tolist()
        answers = [answer for now, answer in zip(times, rule(times), strict=True) if now >= transient]
        results.append([sum(map(measure, answers)) / (rate * (horizon - transient)) for measure in measures])
    return [list(samples) for samples in zip(*results, strict=True)]


def in_queue(law: Law, connections: int, seed: int, capacity: float = math.inf) -> Rule:
    """The rule of a queue whose service times have the mean 1."""
    rng = np.random.default_rng(seed)
    return lambda times: queue(times, law(rng, len(times)), connections, capacity)


def check(expected: float, samples: list[float]) -> None:
    """The value lies in the 99.9 % interval of the mean of independent replications."""
    half_width = stdtrit(len(samples) - 1, 0.9995) * stdev(samples) / math.sqrt(len(samples))
    assert abs(fmean(samples) - expected) <= half_width


# Reference values


def test_reference_values() -> None:
    assert f"{theory.mmc_mean_wait(arrival_rate=9, service_rate=1, connections=10):.8g}" == "0.66873152"
    assert f"{theory.md1_mean_wait(arrival_rate=0.8, service_rate=1):.8g}" == "2"
    assert f"{theory.token_bucket_loss(offered=0.8, bucket=5):.8g}" == "0.035290396"
    assert f"{theory.fixed_window_loss(limit=60, offered=60):.8g}" == "0.051431745"
    assert f"{theory.sliding_accepted_loss(limit=20, offered=18):.8g}" == "0.10921285"


def test_limiters_of_one_size_refuse_very_different_shares() -> None:
    losses = [
        theory.token_bucket_loss(offered=0.8, bucket=10),
        theory.fixed_window_loss(limit=10, offered=8),
        theory.sliding_accepted_loss(limit=10, offered=8),
        theory.sliding_attempts_loss(limit=10, offered=8),
    ]
    assert [f"{loss:.1%}" for loss in losses] == ["0.4%", "5.3%", "12.2%", "28.3%"]


# Limiting cases


@pytest.mark.parametrize("load", [0.1, 0.5, 0.9, 0.99])
def test_mm1_in_all_its_forms(load: float) -> None:
    wait = pytest.approx(load / (1 - load) / 5)
    assert theory.mg1_mean_wait(load * 5, service_mean=1 / 5, service_scv=1) == wait
    assert theory.mmc_mean_wait(load * 5, service_rate=5, connections=1) == wait
    assert theory.mmck_mean_wait(load * 5, service_rate=5, connections=1, capacity=10_000) == wait
    assert theory.erlang_c(servers=1, offered_load=load) == pytest.approx(load)
    assert theory.erlang_b(servers=1, offered_load=load) == pytest.approx(load / (1 + load))


@pytest.mark.parametrize("load", [0.1, 0.5, 0.9, 0.97])
def test_md1_in_all_its_forms(load: float) -> None:
    wait = pytest.approx(load / (1 - load) / 10)
    assert theory.md1_mean_wait(load * 5, service_rate=5) == wait
    assert theory.mg1_mean_wait(load * 5, service_mean=1 / 5, service_scv=0) == wait
    assert theory.mdc_mean_wait(load * 5, service_rate=5, connections=1) == wait
    assert theory.shaper_mean_delay(load * 5, token_rate=5, bucket=1) == wait


def test_wait_exceeds_is_erlang_c_at_first_and_its_integral_is_the_mean() -> None:
    rates = {"arrival_rate": 8, "service_rate": 5, "connections": 2}
    assert theory.mmc_wait_exceeds(0, **rates) == theory.erlang_c(servers=2, offered_load=1.6)
    assert theory.mmc_wait_exceeds(math.inf, **rates) == 0
    t = np.linspace(0, 30, 100_001)
    area = np.trapezoid([theory.mmc_wait_exceeds(float(x), **rates) for x in t], t)
    assert area == pytest.approx(theory.mmc_mean_wait(**rates))


def test_mmck_without_a_queue_is_erlang_b() -> None:
    assert theory.mmck_blocked(12, 2, connections=5, capacity=5) == theory.erlang_b(servers=5, offered_load=6)
    assert theory.mmck_mean_wait(12, 2, connections=5, capacity=5) == 0


def test_mmck_becomes_mmc_as_the_capacity_grows() -> None:
    waits = [theory.mmck_mean_wait(8, 5, connections=2, capacity=capacity) for capacity in range(2, 300)]
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(theory.mmc_mean_wait(8, 5, connections=2))
    assert theory.mmck_blocked(8, 5, connections=2, capacity=300) == pytest.approx(0)


def test_mmck_is_its_birth_and_death_chain() -> None:
    arrival_rate, service_rate, connections, capacity = 7, 2, 3, 9
    states = np.arange(capacity + 1)
    rates = np.diag([arrival_rate] * capacity, 1) + np.diag(service_rate * np.minimum(states, connections)[1:], -1)
    balance = np.vstack([(rates - np.diag(rates.sum(axis=1))).T, np.ones(capacity + 1)])
    probability = np.linalg.lstsq(balance, np.append(np.zeros(capacity + 1), 1))[0]
    waiting = probability @ np.maximum(states - connections, 0)
    wait = waiting / (arrival_rate * (1 - probability[-1]))
    assert theory.mmck_blocked(arrival_rate, service_rate, connections, capacity) == pytest.approx(probability[-1])
    assert theory.mmck_mean_wait(arrival_rate, service_rate, connections, capacity) == pytest.approx(wait)


def test_mdc_is_its_embedded_chain() -> None:
    # Looked at once in every service time; 150 in the system never occur at this load.
    load, connections, states = 2.4, 3, 150
    arrivals = np.exp([k * math.log(load) - load - math.lgamma(k + 1) for k in range(states)])
    step = np.zeros((states, states))
    for n in range(states):
        waiting = max(n - connections, 0)
        step[n, waiting:] = arrivals[: states - waiting]
    balance = np.vstack([step.T - np.eye(states), np.ones(states)])
    probability = np.linalg.lstsq(balance, np.append(np.zeros(states), 1))[0]
    queue_length = probability @ np.maximum(np.arange(states) - connections, 0)
    assert theory.mdc_mean_wait(load, 1, connections) == pytest.approx(queue_length / load)


def test_a_bucket_of_one_token_is_a_loss_system_with_one_place() -> None:
    assert theory.token_bucket_loss(offered=0.8, bucket=1) == pytest.approx(theory.erlang_b(1, 0.8))


@pytest.mark.parametrize("offered", [0.3, 0.8, 0.95])
def test_small_losses_and_delays_fall_geometrically_as_the_bucket_grows(offered: float) -> None:
    # The decay of the M/D/1 queue: the other root of exp(offered (z - 1)) = z.
    decay = -lambertw(-offered * math.exp(-offered), -1).real / offered
    losses = [theory.token_bucket_loss(offered, bucket) for bucket in (200, 201)]
    delays = [theory.shaper_mean_delay(offered, 1, bucket) for bucket in (200, 201)]
    assert losses[0] / losses[1] == pytest.approx(decay)
    assert delays[0] / delays[1] == pytest.approx(decay)


@pytest.mark.parametrize("offered", [2, 50, 1000])
def test_far_above_the_limit_all_but_the_limit_is_lost(offered: float) -> None:
    lost = pytest.approx(1 - 1 / offered)
    assert theory.token_bucket_loss(offered, bucket=100) == lost
    assert theory.fixed_window_loss(limit=1000, offered=1000 * offered) == lost
    assert theory.sliding_attempts_loss(limit=1000, offered=1000 * offered) == 1


def test_large_limits_are_exact() -> None:
    limit = 10_000
    for offered in (9_000, 10_000, 11_000):
        # Erlang's formula as a ratio, the sum as an incomplete gamma function.
        full = math.exp(limit * math.log(offered) - offered - math.lgamma(limit + 1))
        ratio = pytest.approx(full / gammaincc(limit + 1, offered))
        assert theory.erlang_b(limit, offered) == ratio
        assert theory.sliding_accepted_loss(limit, offered) == ratio
    probability = np.exp([k * math.log(limit) - limit - math.lgamma(k + 1) for k in range(1, 3 * limit)])
    above = probability @ np.maximum(np.arange(1, 3 * limit) - limit, 0)
    assert theory.fixed_window_loss(limit, limit) == pytest.approx(above / limit)
    assert theory.token_bucket_loss(0.8, limit) == 0
    assert theory.shaper_mean_delay(0.8, 1, limit) == 0


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_units_of_time_do_not_matter(scale: float) -> None:
    rates = (4 * scale, 5 * scale)
    waits: list[tuple[Callable[..., float], tuple[int, ...]]] = [
        (theory.mmc_mean_wait, (2,)),
        (theory.mmck_mean_wait, (2, 7)),
        (theory.md1_mean_wait, ()),
        (theory.mdc_mean_wait, (2,)),
        (theory.shaper_mean_delay, (3,)),
    ]
    for mean_wait, sizes in waits:
        assert mean_wait(*rates, *sizes) * scale == pytest.approx(mean_wait(4, 5, *sizes))
    assert theory.mg1_mean_wait(4 * scale, 0.2 / scale, 3) * scale == pytest.approx(theory.mg1_mean_wait(4, 0.2, 3))
    assert theory.mmc_wait_exceeds(2 / scale, *rates, 2) == pytest.approx(theory.mmc_wait_exceeds(2, 4, 5, 2))
    assert theory.mmck_blocked(*rates, 2, 7) == pytest.approx(theory.mmck_blocked(4, 5, 2, 7))


# Simulations of the same laws


def test_mmc_wait() -> None:
    rule = in_queue(exponential, connections=2, seed=11)
    measures = (waited, lambda wait: wait > 0, lambda wait: wait > 1)
    wait, any_wait, long_wait = simulate(1.6, rule, *measures, seed=1)
    check(theory.mmc_mean_wait(1.6, 1, 2), wait)
    check(theory.erlang_c(2, 1.6), any_wait)
    check(theory.mmc_wait_exceeds(1, 1.6, 1, 2), long_wait)


def test_mmck_blocked_and_wait() -> None:
    rule = in_queue(exponential, connections=2, capacity=5, seed=12)
    blocked, wait = simulate(2, rule, refused, waited, seed=2)
    check(theory.mmck_blocked(2, 1, 2, 5), blocked)
    check(theory.mmck_mean_wait(2, 1, 2, 5) * (1 - theory.mmck_blocked(2, 1, 2, 5)), wait)


@pytest.mark.parametrize(("connections", "arrival_rate"), [(1, 0.7), (3, 2.4)])
def test_mdc_wait(connections: int, arrival_rate: float) -> None:
    (wait,) = simulate(arrival_rate, in_queue(constant, connections, seed=13), waited, seed=3)
    check(theory.mdc_mean_wait(arrival_rate, 1, connections), wait)


def test_mg1_wait() -> None:
    (wait,) = simulate(0.6, in_queue(lognormal, connections=1, seed=14), waited, seed=4)
    check(theory.mg1_mean_wait(0.6, service_mean=1, service_scv=2), wait)


@pytest.mark.parametrize("law", [exponential, constant, lognormal])
def test_connection_limit_loss_whatever_the_law(law: Law) -> None:
    (loss,) = simulate(3, in_queue(law, connections=4, capacity=4, seed=15), refused, seed=5)
    check(theory.connection_limit_loss(4, 3), loss)


@pytest.mark.parametrize(("bucket", "offered"), [(1, 0.5), (5, 0.8), (3, 1.5)])
def test_token_bucket_loss(bucket: int, offered: float) -> None:
    (loss,) = simulate(offered, lambda times: token_bucket(times, bucket), waited, seed=6)
    check(theory.token_bucket_loss(offered, bucket), loss)


@pytest.mark.parametrize("bucket", [1, 4])
def test_shaper_delay(bucket: int) -> None:
    (delay,) = simulate(0.8, lambda times: shaper(times, bucket), waited, seed=7)
    check(theory.shaper_mean_delay(0.8, 1, bucket), delay)


@pytest.mark.parametrize(("limit", "offered"), [(1, 0.5), (5, 4), (3, 6)])
def test_fixed_window_loss(limit: int, offered: float) -> None:
    (loss,) = simulate(offered, lambda times: fixed_window(times, limit), waited, seed=8, horizon=300)
    check(theory.fixed_window_loss(limit, offered), loss)


@pytest.mark.parametrize(("limit", "offered"), [(1, 0.5), (5, 4), (3, 6)])
def test_sliding_window_losses(limit: int, offered: float) -> None:
    for theory_loss, attempts in ((theory.sliding_accepted_loss, False), (theory.sliding_attempts_loss, True)):
        rule = partial(sliding_window, limit=limit, attempts=attempts)
        (loss,) = simulate(offered, rule, waited, seed=9, horizon=300)
        check(theory_loss(limit, offered), loss)


# Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.erlang_b(0, 1), "servers must be at least 1, got 0"),
        (lambda: theory.erlang_b(2.5, 1), "servers must be an integer, got 2.5"),  # type: ignore[arg-type]
        (lambda: theory.erlang_b(2, 0), "offered_load must be positive and finite, got 0"),
        (lambda: theory.erlang_c(2, 2.4), "unstable: offered load 2.4 must be below servers=2"),
        (lambda: theory.erlang_c(2, math.nan), "offered_load must be positive and finite, got nan"),
        (lambda: theory.mmc_mean_wait(8, 5, 0), "connections must be at least 1, got 0"),
        (lambda: theory.mmc_mean_wait(12, 5, 2), "unstable: offered load 2.4 must be below connections=2"),
        (lambda: theory.mmc_mean_wait(10, 5, 2), "unstable: offered load 2 must be below connections=2"),
        (lambda: theory.mmc_wait_exceeds(-1, 8, 5, 2), "t must be at least 0, got -1"),
        (lambda: theory.mmc_wait_exceeds(1, -8, 5, 2), "arrival_rate must be positive and finite, got -8"),
        (lambda: theory.mmck_blocked(8, 5, 3, 2), "capacity must be at least connections=3, got 2"),
        (lambda: theory.mmck_mean_wait(8, math.inf, 3, 4), "service_rate must be positive and finite, got inf"),
        (lambda: theory.md1_mean_wait(1, 0), "service_rate must be positive and finite, got 0"),
        (lambda: theory.md1_mean_wait(5, 5), "unstable: offered load 1 must be below 1"),
        (lambda: theory.mdc_mean_wait(12, 5, 2), "unstable: offered load 2.4 must be below connections=2"),
        (lambda: theory.mg1_mean_wait(1, 0, 1), "service_mean must be positive and finite, got 0"),
        (lambda: theory.mg1_mean_wait(1, 0.5, -1), "service_scv must be at least 0 and finite, got -1"),
        (lambda: theory.token_bucket_loss(0, 5), "offered must be positive and finite, got 0"),
        (lambda: theory.token_bucket_loss(0.8, 0), "bucket must be at least 1, got 0"),
        (lambda: theory.fixed_window_loss(0, 1), "limit must be at least 1, got 0"),
        (lambda: theory.fixed_window_loss(60, -1), "offered must be positive and finite, got -1"),
        (lambda: theory.sliding_accepted_loss(0, 1), "limit must be at least 1, got 0"),
        (lambda: theory.sliding_accepted_loss(20, 0), "offered must be positive and finite, got 0"),
        (lambda: theory.sliding_attempts_loss(0, 1), "limit must be at least 1, got 0"),
        (lambda: theory.connection_limit_loss(0, 1), "connections must be at least 1, got 0"),
        (lambda: theory.shaper_mean_delay(5, 5, 1), "unstable: arrival_rate=5 must be below token_rate=5"),
        (lambda: theory.shaper_mean_delay(4, 5, 0), "bucket must be at least 1, got 0"),
    ],
)
def test_errors_name_the_argument_the_rule_and_the_value(call: Callable[[], float], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the whole message is compared)
        call()
    assert str(error.value) == message


def test_import_is_light() -> None:
    code = f"import sys; sys.path[:0] = {sys.path!r}; from simlib import theory; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
