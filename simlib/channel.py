"""A channel: whose mail it carries, where to, over which IPs and connections, and what queues that makes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from simlib.facts import Frozen, Seconds, duration
from simlib.provider import Provider
from simlib.reaction import Reaction
from simlib.receiver import UNLISTED
from simlib.sender import Pace, Retry
from simlib.warmup import Allotment, Warmup
from simlib.workload import Messages

__all__ = ["Channel", "Incident", "Lane", "Route", "Service", "allotments", "routes"]

Floats = np.typing.NDArray[np.float64]
Ints = np.typing.NDArray[np.int64]


class Service(Frozen):
    """How long one transaction holds its connection.

    Parameters
    ----------
    kind : str
        ``constant``, ``exponential`` or ``lognormal``.
    mean : float
        In seconds.
    scv : float
        Squared coefficient of variation (lognormal only).
    """

    kind: Literal["constant", "exponential", "lognormal"] = "constant"
    mean: Seconds = Field(ge=0)
    scv: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _is_consistent(self) -> "Service":
        if self.kind != "lognormal" and "scv" in self.model_fields_set:
            raise ValueError(f"scv belongs to lognormal service times, got {self.scv:g} for {self.kind} ones")
        if self.kind != "constant" and self.mean <= 0:
            raise ValueError(f"mean must be longer than 0 for {self.kind} service times, got {self.mean:g} s")
        return self

    def draw(self, rng: np.random.Generator, size: int) -> Floats:
        """Draw service times, in seconds; shape ``(size,)``.

        Parameters
        ----------
        rng : Generator
            Where they are drawn from.
        size : int
            How many.

        Returns
        -------
        ndarray of float
            In seconds.
        """
        if self.kind == "exponential":
            return rng.exponential(self.mean, size)
        if self.kind == "lognormal":
            variance = math.log1p(self.scv)
            return rng.lognormal(math.log(self.mean) - variance / 2, math.sqrt(variance), size)
        return np.full(size, self.mean)


def _service(value: object) -> object:
    if isinstance(value, str):
        duration(value)
        return {"mean": value}
    return value


def _destinations(value: object) -> object:
    return {value: 1.0} if isinstance(value, str) else value


class Channel(Frozen):
    """Our side: whose mail it carries, where to, over which IPs and connections, how paced and how retried.

    The keys are those of a channel in the scenario file; `tool`, `retry` and what is left out are resolved
    by the scenario.

    Parameters
    ----------
    name : str
        What tables and plots call it.
    tenants : tuple of str
        Whose mail it carries.
    to : dict of str to float
        The providers, and the share of the mail that goes to each; a name alone gets all of it.
    ips : int, optional
        IPs that it sends from.
    connections : int, optional
        Connections open at once, of each account or IP, as the provider's credential is; `Shaping` has the default.
    messages_per_session : int, optional
        Messages after which a session ends.
    pace : Pace, optional
        Of each sender: a batch in messages, then a wait in seconds.
    service : Service, optional
        How long a transaction holds its connection, in seconds.
    session_setup : float, optional
        Seconds from connecting to the first MAIL.
    retry : str or tuple of float, optional
        A published schedule by name, or the seconds between attempts; ``"none"``: not again.
    reaction : str, optional
        What it does with an IP that is throttled: ``none``, ``kumomta``, ``google`` or ``postfix``.
    queue_lifetime : float, optional
        Seconds after which a message is given up; the schedule's own by default.
    timeout : float, optional
        Seconds that it waits for the reply after DATA.
    heed_quota : bool, optional
        Whether a refusal by a limit that is marked `temporary` is tried again as a 4yz is, though it is a 5yz.
    aligned : bool, optional
        Whether the senders' own domains vouch for its mail (SPF or DKIM).
    warmup : str, optional
        The published schedule by which its IPs grow.
    warmup_day : int, optional
        The day of it at second 0, counted from 1.
    overflow : str, optional
        The channel that takes what is over the warm-up; by default it waits.
    auth : str, optional
        ``password`` or ``oauth``.
    tool : str, optional
        The application that sends: its pace, connections and retries are taken where none are given.
    assumed : tuple of str, optional
        Which of these keys are its own assumptions.
    """

    name: str
    tenants: tuple[str, ...] = Field(min_length=1)
    to: Annotated[dict[str, Annotated[float, Field(gt=0)]], BeforeValidator(_destinations)]
    ips: int = Field(default=1, ge=1, le=254)
    connections: int | None = Field(default=None, ge=1, le=10_000)
    messages_per_session: int | None = Field(default=None, ge=1)
    pace: Annotated[Pace | None, BeforeValidator(lambda value: None if value is None else Pace.parse(value))] = None
    service: Annotated[Service, BeforeValidator(_service)] = Service(mean="0s")  # type: ignore[arg-type]
    session_setup: Seconds = 0.0
    retry: str | tuple[Seconds, ...] | None = None
    reaction: str = "none"
    queue_lifetime: Seconds | None = None
    timeout: Seconds = Field(default=600.0, gt=0)
    heed_quota: bool = False
    aligned: bool = True
    warmup: str | None = None
    warmup_day: int = Field(default=1, ge=1)
    overflow: str | None = None
    auth: Literal["password", "oauth"] | None = None
    tool: str | None = None
    assumed: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _shares_add_up(self) -> "Channel":
        if not self.to:
            raise ValueError("to must name a provider")
        if not math.isclose(sum(self.to.values()), 1.0, abs_tol=1e-9):
            raise ValueError(f"the shares in `to` must add up to 1, got {sum(self.to.values()):g}")
        unknown = [name for name in self.assumed if name not in type(self).model_fields]
        if unknown:
            raise ValueError(f"assumed names no key of a channel: {unknown[0]!r}")
        for key in ("warmup_day", "overflow"):
            if self.warmup is None and key in self.model_fields_set:
                raise ValueError(f"{key} belongs to a channel with a `warmup`, got {getattr(self, key)!r}")
        return self

    def addresses(self, number: int) -> list[str]:
        """Return its sending addresses, as the channel of that number (from 1) in its alternative.

        The address says whether the senders' own domains vouch for it, as in SPF: so a fake server knows it, too.

        Parameters
        ----------
        number : int
            Which of the alternative's channels it is, from 1.

        Returns
        -------
        list of str
            Addresses that nobody can own.

        Examples
        --------
        >>> Channel(name="pool", tenants=("us",), to="google-mx", aligned=False, ips=2).addresses(1)
        ['127.1.1.1', '127.1.1.2']
        """
        network = "127.0." if self.aligned else UNLISTED
        return [f"{network}{number}.{host}" for host in range(1, self.ips + 1)]


@dataclass(frozen=True, slots=True)
class Lane:
    """A channel on its way to one provider, with everything that the file left open decided.

    Parameters
    ----------
    channel : Channel
        As written.
    provider : Provider
        As it is on the scenario's date, under its readings and amounts.
    connections, messages_per_session : int, int or None
        Per account (submission) or per IP (delivery).
    pace : Pace or None
        Per sender.
    retry : Retry
        The schedule.
    oauth : bool
        Whether it logs in with a token.
    warmup : Warmup, optional
        The schedule by which its IPs grow.
    since_midnight : float
        How long before second 0 the day began, in seconds.
    reaction : Reaction, optional
        What happens to an IP that the provider throttles.
    """

    channel: Channel
    provider: Provider
    connections: int
    messages_per_session: int | None
    pace: Pace | None
    retry: Retry
    oauth: bool
    warmup: Warmup | None = None
    since_midnight: float = 0.0
    reaction: Reaction | None = None

    @property
    def by_account(self) -> bool:
        """Whether accounts queue apart; else all messages to the provider share one queue."""
        return self.provider.role == "submission" and self.provider.credential in ("account", "domain")

    @property
    def heeds(self) -> frozenset[str]:
        """The ids of the limits whose 5yz the channel knows to go away."""
        if not self.channel.heed_quota:
            return frozenset()
        return frozenset(f"{self.provider.name}/{limit.id}" for limit in self.provider.limits if limit.temporary)

    @property
    def throttles(self) -> frozenset[str]:
        """The ids of the limits on what an IP sends in some time: a reaction answers to their 4yz."""
        return frozenset(
            f"{self.provider.name}/{limit.id}"
            for limit in self.provider.limits
            if limit.per == "ip" and limit.limit is not None and limit.limit.period is not None
        )


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happens to credentials or IPs at a known moment, and when it is over.

    Parameters
    ----------
    at : float
        When, in seconds.
    kind : str
        ``password_change``, ``token_revoked``, ``auth_disabled``, ``blocklisted`` or ``delisted``.
    targets : tuple of str
        The accounts, or the IP addresses.
    repaired_at : float
        When it is over; inf if never.
    """

    at: float
    kind: str
    targets: tuple[str, ...]
    repaired_at: float = math.inf


@dataclass(frozen=True, slots=True)
class Route:
    """One queue of an alternative: what is in it, and over what it leaves. Simulation and load test have the same.

    Parameters
    ----------
    lane : Lane
        The channel on its way to one provider.
    account : str
        Whose queue; empty where all messages to the provider share one.
    messages : ndarray of int
        The numbers of its messages, in the order of creation.
    ips : range
        Positions, in the list of sending addresses, of those that its sessions go to in turn.
    connections : int
        How many it has at most.
    due_at : ndarray of float, optional
        When each of its messages joins, in seconds; at its creation by default.
    """

    lane: Lane
    account: str
    messages: Ints
    ips: range
    connections: int
    due_at: Floats | None = None


def allotments(lanes: Sequence[Lane]) -> dict[str, Allotment]:
    """Return the schedules that an alternative's channels keep to, at their beginning.

    Parameters
    ----------
    lanes : sequence of Lane
        The alternative's channels, on their way to each provider.

    Returns
    -------
    dict of str to Allotment
        By channel; those that are warmed up only.
    """
    return {
        lane.channel.name: Allotment(
            lane.warmup, lane.channel.ips, lane.since_midnight, lane.channel.warmup_day, lane.channel.overflow is None
        )
        for lane in lanes
        if lane.warmup is not None
    }


def routes(
    lanes: Sequence[Lane], messages: Messages, warming: Mapping[str, Allotment] | None = None
) -> tuple[list[str], list[Route]]:
    """Return the sending addresses of an alternative, and its queues.

    Parameters
    ----------
    lanes : sequence of Lane
        The alternative's channels, on their way to each provider.
    messages : Messages
        What is offered.
    warming : mapping of str to Allotment, optional
        How far `allotments` are, which go on from here; at their beginning by default.

    Returns
    -------
    tuple of (list of str, list of Route)
        The addresses by their positions, and a route for each queue.
    """
    addresses: list[str] = []
    first: dict[str, int] = {}
    found: list[Route] = []
    warming = allotments(lanes) if warming is None else warming
    carried = _carried(lanes, messages, warming) if warming else {}
    for lane in lanes:
        channel = lane.channel
        if channel.name not in first:
            first[channel.name] = len(addresses)
            addresses += channel.addresses(len(first))
        ips = range(first[channel.name], first[channel.name] + channel.ips)
        mine = np.flatnonzero(messages.goes_to(channel.tenants, channel.to, lane.provider.name))
        connections = lane.connections if lane.by_account else lane.connections * channel.ips
        if channel.name in carried:
            chosen, due_at = carried[channel.name]
            here = messages.goes_to(messages.tenants, channel.to, lane.provider.name)[chosen]
            waits = channel.name in warming and channel.overflow is None
            found.append(Route(lane, "", chosen[here], ips, connections, due_at[here] if waits else None))
            continue
        found += [
            Route(lane, account, chosen, ips, connections) for account, chosen in _by_account(lane, messages, mine)
        ]
    return addresses, found


def _carried(
    lanes: Sequence[Lane], messages: Messages, warming: Mapping[str, Allotment]
) -> dict[str, tuple[Ints, Floats]]:
    """Return what each channel to mailbox providers carries, and when it may go: what a warm-up leaves over included.

    Decided beforehand, in the order of creation: whoever sends by a schedule counts what is there, not how it fares.
    """
    own: dict[str, tuple[Ints, Floats]] = {}
    over: dict[str, list[Ints]] = {}
    for lane in lanes:
        channel = lane.channel
        if lane.provider.role != "delivery" or channel.name in own:
            continue
        mine = np.flatnonzero(np.isin(messages.tenant, [messages.tenants.index(name) for name in channel.tenants]))
        due_at = messages.created_at[mine]
        if channel.name in warming:
            due_at = np.array(warming[channel.name].more(due_at.tolist()))
            here = np.isfinite(due_at)
            if channel.overflow is not None:
                over.setdefault(channel.overflow, []).append(mine[~here])
            mine, due_at = mine[here], due_at[here]
        own[channel.name] = mine, due_at
    for name, more in over.items():
        together = np.sort(np.concatenate([own[name][0], *more]))
        own[name] = together, messages.created_at[together]
    return own


def _by_account(lane: Lane, messages: Messages, mine: Ints) -> Iterable[tuple[str, Ints]]:
    """Split a lane's messages into its queues: an account each, or one for all."""
    if not lane.by_account:
        return [("", mine)]
    owners = messages.sender if lane.provider.credential == "account" else messages.tenant
    names = messages.addresses if lane.provider.credential == "account" else messages.domains
    return [(names[owner].lower(), mine[owners[mine] == owner]) for owner in np.unique(owners[mine])]
