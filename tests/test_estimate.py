"""Where a paired difference changes its sign, and how sure that is."""

import numpy as np
import pytest

from simlib.estimate import STEPS, Estimate, break_even

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
