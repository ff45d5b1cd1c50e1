"""Means and probabilities with their intervals; where a paired difference changes its sign, and how sure that is."""

import math

import numpy as np
import pytest
from scipy import stats

from simlib.estimate import STEPS, Estimate, break_even, paired, wilson

# Intervals


def test_an_estimate_is_a_t_interval() -> None:
    numbers = [3.0, 5.0, 4.0, 8.0, 1.0]
    low, high = stats.t.interval(0.95, 4, np.mean(numbers), stats.sem(numbers))
    found = Estimate.of(numbers)
    assert (found.mean, found.random) == (4.2, True)
    assert [found.low, found.high] == pytest.approx([low, high])


def test_an_estimate_of_equal_numbers_is_not_random() -> None:
    assert Estimate.of([7.0, 7.0]) == Estimate(7.0, 7.0, 7.0, random=False)
    # a mean of equal numbers that are no binary fractions is that number, not one nearby
    assert Estimate.of([0.1] * 3) == Estimate(0.1, 0.1, 0.1, random=False)


@pytest.mark.parametrize("values", [[], [1.0, math.inf], [math.nan, 2.0]])
def test_without_a_number_there_is_no_estimate(values: list[float]) -> None:
    assert Estimate.of(values).json() | {"random": None} == {"mean": None, "low": None, "high": None, "random": None}


def test_one_replication_gives_no_interval() -> None:
    assert Estimate.of([3.0]).json() | {"random": None} == {"mean": 3.0, "low": None, "high": None, "random": None}


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(631)
    trials = 4000
    found = [Estimate.of(row) for row in rng.normal(5, 2, (trials, 8)).tolist()]
    covered = sum(one.low <= 5 <= one.high for one in found if one.low is not None and one.high is not None)
    low, high = stats.binom.interval(0.999, trials, 0.95)
    assert low <= covered <= high


@pytest.mark.parametrize(("successes", "expected"), [(0, (0.0, 0.161)), (10, (0.299, 0.701)), (20, (0.839, 1.0))])
def test_a_probability_has_a_wilson_interval(successes: int, expected: tuple[float, float]) -> None:
    assert tuple(round(bound, 3) for bound in wilson(successes, 20)) == expected


def test_a_paired_difference_is_of_each_replication() -> None:
    assert paired([1.0, 2.0, 4.0], [0.0, 1.0, 3.0]) == Estimate(1.0, 1.0, 1.0, random=False)
    assert paired([1.0, 2.0, 6.0], [0.0, 0.0, 3.0]) == Estimate.of([1.0, 2.0, 3.0])


# Where the sign changes

X = [0.0, 1.0, 2.0, 4.0]


def lines(crossings: list[float]) -> np.ndarray:
    """Return straight lines of slope 1, each through 0 at its own place."""
    return np.array([[x - crossing for x in X] for crossing in crossings])


def test_of_parallel_lines_it_is_the_mean_of_their_crossings_and_its_t_interval() -> None:
    crossings = [1.1, 1.9, 1.4, 2.0, 1.6]
    found, expected = break_even(X, lines(crossings)), Estimate.of(crossings)
    step = (X[-1] - X[0]) / STEPS
    assert found.mean == pytest.approx(expected.mean)
    assert (found.low, found.high) == (
        pytest.approx(expected.low, abs=step),
        pytest.approx(expected.high, abs=step),
    )


def test_where_the_sign_does_not_change_there_is_none() -> None:
    assert break_even(X, lines([-1.0, -2.0, -3.0])) == Estimate(None, None, None)


def test_an_end_beyond_what_was_simulated_is_not_claimed() -> None:
    found = break_even(X, lines([0.2, 0.9, -0.5]))
    assert found.mean == pytest.approx(0.2)
    assert found.low is None
    assert found.high is not None


def test_one_replication_has_no_interval() -> None:
    assert break_even(X, lines([1.5])) == Estimate(1.5, None, None)


def test_it_holds_the_truth_as_often_as_it_says() -> None:
    """95 % of 400 studies, within the 99.9 % interval of such a count."""
    rng = np.random.default_rng(20261124)
    inside = 0
    for _ in range(400):
        found = break_even(X, lines((2 + rng.normal(0, 0.4, 8)).tolist()))
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 2 <= found.high
    assert abs(inside - 380) < 3.29 * (400 * 0.95 * 0.05) ** 0.5
