"""Who starved whom: how a channel's room was shared by a tenant's senders, and by its neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from simlib.attempts import Attempts
from simlib.channel import Lane
from simlib.estimate import Estimate
from simlib.scenario import Scenario
from simlib.summary import outcomes
from simlib.windows import INSTANT

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Fairness", "Shares", "gather", "jain", "shares"]

Floats = np.typing.NDArray[np.float64]


def jain(values: Sequence[float] | Floats) -> float:
    """Return Jain's fairness index: 1 if all have the same, 1/n if one of n has everything.

    Parameters
    ----------
    values : sequence of float
        What each has got, at least 0, whatever the unit.

    Returns
    -------
    float
        ``(sum of x)^2 / (n sum of x^2)``; nan if nobody has got anything.

    References
    ----------
    Jain, Chiu and Hawe, "A quantitative measure of fairness and discrimination for resource allocation in shared
    computer systems", DEC Research Report TR-301 (1984).

    Examples
    --------
    >>> jain([1, 1, 1]), jain([3, 0, 0])
    (1.0, 0.333...)
    """
    x = np.asarray(values, dtype=float)
    square = float((x**2).sum()) * len(x)
    return float(x.sum()) ** 2 / square if square else float("nan")


@dataclass(frozen=True, slots=True)
class Shares:
    """How one run treated each of a tenant's senders.

    Parameters
    ----------
    senders : tuple of str
        Their addresses.
    others : tuple of str
        The other tenants.
    offered, accepted, delay : ndarray of float
        For each sender: messages offered; those accepted, by the deadline if there is one; seconds from creation to
        acceptance or, failing that, to the end of the run, of all that was not refused. Shape ``(senders,)``.
    waited_for : ndarray of float
        Of those seconds, how many each sender waited while mail of each sender, and of each other tenant, was accepted
        from the same queue. Shape ``(senders, senders + others)``.
    """

    senders: tuple[str, ...]
    others: tuple[str, ...]
    offered: Floats
    accepted: Floats
    delay: Floats
    waited_for: Floats

    @property
    def jain(self) -> float:
        """Jain's index of the share of its mail that each sender with any got accepted."""
        some = self.offered > 0
        return jain(self.accepted[some] / self.offered[some])


def shares(attempts: Attempts, scenario: Scenario, lanes: Sequence[Lane], tenant: str) -> Shares:
    """Measure one run.

    A message's delay is divided equally among the messages of its queue that were accepted meanwhile: they had what it
    waited for. Where there was none, it waited for itself.

    Parameters
    ----------
    attempts : Attempts
        The record of the run.
    scenario : Scenario
        For the tenants and the deadline.
    lanes : sequence of Lane
        The alternative's channels, on their way to each provider.
    tenant : str
        Whose senders are measured.

    Returns
    -------
    Shares
        For each sender, what was offered and accepted, the seconds of delay, and for whom it waited.
    """
    messages = attempts.messages
    accepted_at, refused = outcomes(attempts, lanes)
    position = messages.tenants.index(tenant)
    mine = messages.tenant == position
    senders = tuple(name for name in messages.addresses if name in _addresses(scenario, tenant))
    others = tuple(name for name in messages.tenants if name != tenant)
    first = messages.addresses.index(senders[0])
    elsewhere = np.array([others.index(name) if name != tenant else 0 for name in messages.tenants])
    who = np.where(mine, messages.sender - first, len(senders) + elsewhere[messages.tenant])
    queue = np.full(len(messages), -1)
    queue[attempts["message"].astype(int)] = attempts["queue"].astype(int)

    counted = mine & (messages.created_at >= scenario.transient)
    begin, over = messages.created_at, np.minimum(accepted_at, scenario.duration)
    delay = np.where(refused, 0.0, over - begin)
    waited_for = np.zeros((len(senders), len(senders) + len(others)))
    for number in np.unique(queue[counted]):
        here = queue == number
        late = np.flatnonzero(here & counted & (delay > INSTANT))
        passed = np.zeros((len(late), waited_for.shape[1]))
        for other in np.unique(who[here]):
            times = np.sort(accepted_at[here & (who == other)])
            passed[:, other] = times.searchsorted(over[late] - INSTANT) - times.searchsorted(begin[late] + INSTANT)
        alone = passed.sum(axis=1) == 0
        passed[alone, who[late[alone]]] = 1
        np.add.at(waited_for, who[late], passed * (delay[late] / passed.sum(axis=1))[:, None])

    deadline = np.inf if scenario.deadline_at is None else scenario.deadline_at

    def of_each(weights: Floats) -> Floats:
        return np.bincount(who[counted], weights[counted], len(senders)).astype(float)

    in_time = (np.isfinite(accepted_at) & (accepted_at <= deadline)).astype(float)
    return Shares(senders, others, of_each(np.ones(len(who))), of_each(in_time), of_each(delay), waited_for)


def _addresses(scenario: Scenario, tenant: str) -> frozenset[str]:
    return frozenset(next(one for one in scenario.tenants if one.name == tenant).addresses(scenario.day))


@dataclass(frozen=True)
class Fairness:
    """How a tenant's senders fared beside each other, over replications.

    Parameters
    ----------
    senders : DataFrame
        One row a sender. In messages, means over replications: ``offered``, ``accepted`` (by the deadline, if there is
        one). ``delay_mean`` in seconds a message, until acceptance or the end of the run. Shares of the delay of all
        senders: ``delay_share``, which this sender had to bear, and ``caused_share``, during which its mail was
        accepted while others' waited.
    waited_for : DataFrame
        Seconds in a run, on average: row, who waited; column, whose mail was accepted meanwhile. Neighbours come last.
    jain : Estimate
        Jain's index of the share of its mail that each sender got accepted.
    """

    senders: "pd.DataFrame"
    waited_for: "pd.DataFrame" = field(repr=False)
    jain: Estimate

    def _repr_html_(self) -> str:
        return str(self.senders.to_html(float_format="{:,.4g}".format))


def gather(runs: Sequence[Shares]) -> Fairness:
    """Average the runs of one alternative.

    Parameters
    ----------
    runs : sequence of Shares
        One a replication.

    Returns
    -------
    Fairness
        Means with their intervals.
    """
    import pandas as pd

    names = [*runs[0].senders]
    offered, accepted, delay = (
        np.mean([getattr(run, name) for run in runs], axis=0) for name in ("offered", "accepted", "delay")
    )
    waited_for = np.mean([run.waited_for for run in runs], axis=0)
    own = np.diag(waited_for[:, : len(names)])
    caused = waited_for[:, : len(names)].sum(axis=0) - own
    total = max(float(delay.sum()), INSTANT)
    table = pd.DataFrame(
        {
            "offered": offered,
            "accepted": accepted,
            "delay_mean": delay / np.where(offered > 0, offered, np.nan),
            "delay_share": delay / total,
            "caused_share": caused / total,
        },
        index=pd.Index(names, name="sender"),
    )
    matrix = pd.DataFrame(waited_for, index=table.index, columns=[*names, *runs[0].others])
    index = Estimate.of([run.jain for run in runs])
    if index.high is not None:
        index = replace(index, high=min(index.high, 1.0))  # no index is more
    return Fairness(table, matrix, index)
