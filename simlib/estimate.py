"""Means and probabilities with their intervals (DESIGN §9)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Estimate", "break_even", "half_width", "paired", "wilson"]

Floats = np.typing.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over replications with its 95 % interval.

    Parameters
    ----------
    mean, low, high : float or None
        The mean and its t interval; None where there is no number. Without replications to judge by, low and high
        are None.
    random : bool
        False if every replication gave the same number: then low = high = mean.

    Examples
    --------
    >>> Estimate.of([10.0, 12.0, 11.0])
    Estimate(mean=11.0, low=8.515..., high=13.484..., random=True)
    """

    mean: float | None
    low: float | None
    high: float | None
    random: bool = True

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Estimate from one number per replication; any that is nan or infinite leaves none.

        Parameters
        ----------
        values : sequence of float
            One a replication, in the metric's unit.

        Returns
        -------
        Estimate
            Their mean, with Student's 95 % interval where there are two or more.
        """
        numbers = np.asarray(values, dtype=float)
        if not len(numbers) or not np.isfinite(numbers).all():
            return cls(None, None, None, random=len(set(map(str, values))) > 1)
        mean = float(numbers.mean())
        if np.ptp(numbers) == 0:
            value = float(numbers[0])
            return cls(value, value, value, random=False) if len(numbers) > 1 else cls(value, None, None)
        half = half_width(numbers)
        return cls(mean, mean - half, mean + half)

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval does; without one, nothing is excluded."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def json(self) -> dict[str, float | bool | None]:
        """Return it as the contract has it.

        Returns
        -------
        dict
            ``mean``, ``low``, ``high``, ``random``; None where there is no number.
        """
        return {"mean": self.mean, "low": self.low, "high": self.high, "random": self.random}


def half_width(numbers: Floats, confidence: float = 0.95) -> float:
    """Half the width of the t interval of a mean (Student 1908; e.g. Law, *Simulation Modeling and Analysis*, §4.5).

    Parameters
    ----------
    numbers : array of float
        One a replication.
    confidence : float, optional
        Of the interval.

    Returns
    -------
    float
        In the unit of the numbers.
    """
    return float(_half_widths(numbers, confidence))


def _half_widths(numbers: Floats, confidence: float = 0.95) -> Floats:
    """Return those of each column's mean."""
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(numbers) - 1, (1 + confidence) / 2))
    return np.asarray(quantile * numbers.std(axis=0, ddof=1) / math.sqrt(len(numbers)))


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a probability (Wilson 1927, *J. Am. Stat. Assoc.* 22, 209–212).

    Parameters
    ----------
    successes, trials : int
        How many, of how many.
    confidence : float, optional
        Of the interval.

    Returns
    -------
    tuple of (float, float)
        Its lower and its upper end, from 0 to 1.

    Examples
    --------
    >>> [round(bound, 3) for bound in wilson(20, 20)]
    [0.839, 1.0]
    """
    from scipy.special import ndtri

    z = float(ndtri((1 + confidence) / 2))
    share, extra = successes / trials, z * z / trials
    middle = (share + extra / 2) / (1 + extra)
    half = z / (1 + extra) * math.sqrt(share * (1 - share) / trials + extra / (4 * trials))
    return max(0.0, middle - half) if successes else 0.0, min(1.0, middle + half) if successes < trials else 1.0


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Estimate a difference over replications that saw the same messages.

    Parameters
    ----------
    ours, theirs : sequence of float
        One a replication, in the same order.

    Returns
    -------
    Estimate
        Of ours less theirs.

    Examples
    --------
    >>> found = paired([3.0, 5.0, 4.0], [1.0, 2.0, 3.0])
    >>> found.mean
    2.0
    """
    with np.errstate(invalid="ignore"):  # never and never differ by no number
        return Estimate.of((np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)).tolist())


STEPS = 2000
"""Steps in which `break_even` looks for the ends of its interval."""


def break_even(x: Sequence[float], differences: Floats) -> Estimate:
    """Estimate where a paired difference changes its sign, with a 95 % interval.

    The interval is of those places at which the difference isn't shown to be other than 0: the t test, inverted
    (Fieller 1954, *J. R. Stat. Soc. B* 16, 175-185). Between the places that were simulated, each replication's
    differences are joined by straight lines.

    Parameters
    ----------
    x : sequence of float
        Where it was simulated, ascending.
    differences : ndarray
        Shape ``(replications, len(x))``; in each replication the same random numbers everywhere.

    Returns
    -------
    Estimate
        Where the mean difference first changes its sign; without a mean if it doesn't. `low` or `high` is None where
        the interval goes on beyond what was simulated.

    Examples
    --------
    >>> found = break_even([0.0, 10.0], np.array([[-4.0, 6.0], [-6.0, 4.0], [-5.0, 5.0]]))
    >>> round(found.mean, 2), round(found.low, 2), round(found.high, 2)
    (5.0, 2.52, 7.49)
    """
    steps = np.linspace(x[0], x[-1], STEPS + 1)
    each = np.array([np.interp(steps, x, row) for row in differences])
    mean = each.mean(axis=0)
    changes = np.flatnonzero(np.sign(mean[1:]) != np.sign(mean[:-1]))
    if not len(changes):
        return Estimate(None, None, None)
    at = int(changes[0])
    gap = mean[at + 1] - mean[at]
    place = float(steps[at] - mean[at] / gap * (steps[at + 1] - steps[at]))
    if len(each) < 2:
        return Estimate(place, None, None)
    decided = np.flatnonzero(np.abs(mean) > _half_widths(each))
    below, above = decided[decided <= at], decided[decided > at]
    low = float(steps[below[-1]]) if len(below) else None
    high = float(steps[above[0]]) if len(above) else None
    return Estimate(place, low, high)
