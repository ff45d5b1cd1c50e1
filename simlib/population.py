"""Many customers in one table of a scenario: how their volumes and their complaint rates are drawn.

Nobody publishes who else is in a pool. What is stated here is a distribution, and each replication draws from it anew.
"""

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from simlib.facts import Frozen

__all__ = ["Bad", "ComplaintRates", "LogNormal"]

Floats = np.typing.NDArray[np.float64]


class LogNormal(Frozen):
    """Most are small and a few are big: log-normal about a mean that is stated elsewhere.

    Parameters
    ----------
    scv : float
        Squared coefficient of variation: 0.25 is nearly alike, 4 very unequal.
    """

    kind: Literal["lognormal"]
    scv: float = Field(gt=0, le=100)

    def factors(self, rng: np.random.Generator, count: int) -> Floats:
        """Draw what to multiply the mean by; shape ``(count,)``, 1 on average over the draws.

        Parameters
        ----------
        rng : Generator
            Where they are drawn from.
        count : int
            How many.

        Returns
        -------
        ndarray of float
            What a mean is multiplied by.

        Examples
        --------
        >>> many = LogNormal(kind="lognormal", scv=4).factors(np.random.default_rng(1), 1_000_000)
        >>> round(float(many.mean()), 1), round(float(many.var()))
        (1.0, 4)
        """
        variance = math.log1p(self.scv)
        return rng.lognormal(-variance / 2, math.sqrt(variance), count)

    def shares(self, rng: np.random.Generator, count: int) -> Floats:
        """Draw the same so that it is 1 on average over these `count`: what they send together is not in doubt.

        Parameters
        ----------
        rng : Generator
            Where they are drawn from.
        count : int
            How many tenants.

        Returns
        -------
        ndarray of float
            What a tenant's rate is multiplied by.

        Examples
        --------
        >>> float(LogNormal(kind="lognormal", scv=4).shares(np.random.default_rng(1), 50).sum().round(9))
        50.0
        """
        found = self.factors(rng, count)
        return np.asarray(found * (count / found.sum()))

    def rates(self, rng: np.random.Generator, count: int, mean: float) -> Floats:
        """Draw complaint rates, as shares of 1; shape ``(count,)``.

        Parameters
        ----------
        rng : Generator
            Where they are drawn from.
        count : int
            How many tenants.
        mean : float
            Their mean, a share of 1.

        Returns
        -------
        ndarray of float
            A rate a tenant.
        """
        return np.minimum(1.0, mean * self.factors(rng, count))


class Bad(Frozen):
    """Some are bad, and the others as they should be.

    Parameters
    ----------
    share : float
        The chance that one is bad, whatever it sends.
    rate : float
        The complaint rate of those who are.
    """

    kind: Literal["bad"]
    share: float = Field(ge=0, le=1)
    rate: float = Field(ge=0, le=1)

    def rates(self, rng: np.random.Generator, count: int, mean: float) -> Floats:
        """Draw complaint rates, as shares of 1; `mean` is that of the others. Shape ``(count,)``.

        With the same stream, a larger share makes more of them bad, and the same ones.

        Parameters
        ----------
        rng : Generator
            Where they are drawn from.
        count : int
            How many tenants.
        mean : float
            The mean of their complaint rates, a share of 1.

        Returns
        -------
        ndarray of float
            A rate a tenant.

        Examples
        --------
        >>> few, more = (Bad(kind="bad", share=share, rate=0.01) for share in (0.1, 0.3))
        >>> [int((one.rates(np.random.default_rng(3), 50, 0.0005) > 0.001).sum()) for one in (few, more)]
        [5, 15]
        """
        return np.where(rng.random(count) < self.share, self.rate, mean)


ComplaintRates = Annotated[LogNormal | Bad, Field(discriminator="kind")]
