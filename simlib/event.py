"""What breaks credentials and lists IPs: as the file has it, and drawn for one run."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from simlib.channel import Incident, Lane
from simlib.facts import Frozen, Rate, Seconds
from simlib.workload import Day, RateOf, Tenant

__all__ = ["Event", "incidents"]


class Event(Frozen):
    """Something that breaks a credential or lists an IP: at a moment, or at random moments.

    Parameters
    ----------
    kind : str
        ``password_change``, ``token_revoked``, ``auth_disabled`` (these take a tenant); ``blocklisted``, ``delisted``
        (these take a channel and an IP).
    at : float, optional
        When, in seconds since second 0.
    rate : Rate, optional
        How often, at random moments, for each sender or for the IP; instead of `at`.
    tenant : str, optional
        Whose credentials.
    senders : int, optional
        The tenant's first so many; by default all.
    channel : str, optional
        Whose IP.
    ip : int, optional
        Which of them, counted from 1.
    repaired_after : float, optional
        Seconds until all is as before; by default it stays, but an entry in a block list expires where reputation is
        on.
    """

    kind: Literal["password_change", "token_revoked", "auth_disabled", "blocklisted", "delisted"]
    at: Seconds | None = None
    rate: RateOf | None = None
    tenant: str = ""
    senders: int | None = Field(default=None, ge=1)
    channel: str = ""
    ip: int | None = Field(default=None, ge=1)
    repaired_after: Seconds | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> "Event":
        if (self.at is None) == (self.rate is None):
            raise ValueError("an event has either `at` or `rate`")
        needed, other = ("channel", "tenant") if self.kind in ("blocklisted", "delisted") else ("tenant", "channel")
        if not getattr(self, needed) or getattr(self, other):
            raise ValueError(f"{self.kind} takes `{needed}`, not `{other}`")
        if needed == "channel" and self.ip is None:
            raise ValueError(f"{self.kind} takes `ip`, a number from 1")
        unread = "senders" if needed == "channel" else "ip"
        if getattr(self, unread) is not None:
            raise ValueError(f"{self.kind} doesn't take `{unread}`, got {getattr(self, unread)}")
        if self.kind == "delisted" and self.repaired_after is not None:
            raise ValueError(f"delisted is itself the repair: no `repaired_after`, got {self.repaired_after:g} s")
        return self


def incidents(
    events: Sequence[Event],
    lanes: Sequence[Lane],
    tenants: Sequence[Tenant],
    day: Day,
    listed: float,
    rng: Callable[..., np.random.Generator],
) -> list[tuple[Incident, tuple[str, ...]]]:
    """Draw what happens to credentials and IPs in one run of an alternative, and at which providers.

    Parameters
    ----------
    events : sequence of Event
        What may happen.
    lanes : sequence of Lane
        The channels of the alternative.
    tenants : sequence of Tenant
        Those whom events name.
    day : Day
        When the run begins, and how long it lasts.
    listed : float
        Seconds after which an entry in a block list expires by itself; inf if it doesn't.
    rng : callable
        Gives the random stream of a name.

    Returns
    -------
    list of (Incident, tuple of str)
        Times in seconds.
    """
    found: list[tuple[Incident, tuple[str, ...]]] = []
    for number, event in enumerate(events):
        providers, targets = _targets(event, lanes, tenants, day)
        if not targets:
            continue
        if event.rate is None:
            assert event.at is not None
            struck = [(event.at, targets)]
        else:
            # each sender (or IP) has its own stream of moments
            struck = [
                (at, (target,))
                for target in targets
                for at in _moments(rng("event", str(number), target), event.rate, day.duration)
            ]
        for at, those in struck:
            if at < day.duration:
                lasts = listed if event.kind == "blocklisted" else math.inf
                over = at + (lasts if event.repaired_after is None else event.repaired_after)
                found.append((Incident(at, event.kind, those, over), providers))
    return _apart(sorted(found, key=lambda pair: pair[0].at))


def _targets(
    event: Event, lanes: Sequence[Lane], tenants: Sequence[Tenant], day: Day
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the providers an event concerns, and the accounts or IPs it strikes there."""
    if event.channel:
        channels = list({lane.channel.name: lane.channel for lane in lanes}.values())
        number = next((n for n, one in enumerate(channels, 1) if one.name == event.channel), 0)
        if not number:
            return (), ()
        providers = tuple(lane.provider.name for lane in lanes if lane.channel.name == event.channel)
        assert event.ip is not None
        return providers, tuple(channels[number - 1].addresses(number)[event.ip - 1 : event.ip])
    tenant = next(tenant for tenant in tenants if tenant.name == event.tenant)
    struck = [lane for lane in lanes if tenant.name in lane.channel.tenants and _breaks(event.kind, lane)]
    addresses = tuple(address.lower() for address in tenant.addresses(day)[: event.senders])
    targets: dict[str, None] = {}
    for lane in struck:
        targets |= dict.fromkeys(addresses if lane.provider.credential == "account" else (tenant.domain.lower(),))
    return tuple(lane.provider.name for lane in struck), tuple(targets)


def _breaks(kind: str, lane: Lane) -> bool:
    """Whether an event concerns the way a lane logs in."""
    if lane.provider.role != "submission" or not lane.provider.auth:
        return False
    return kind == "auth_disabled" or (kind == "token_revoked") == lane.oauth


def _apart(found: Iterable[tuple[Incident, tuple[str, ...]]]) -> list[tuple[Incident, tuple[str, ...]]]:
    """Join what strikes the same account or IP again before it is over: the later repair ends both."""
    spans: dict[tuple[tuple[str, ...], str, str], list[list[float]]] = {}
    for incident, providers in found:
        for target in incident.targets:
            before = spans.setdefault((providers, incident.kind, target), [])
            if incident.kind == "delisted":
                for listed in spans.get((providers, "blocklisted", target), [])[-1:]:
                    listed[1] = min(listed[1], incident.at)
            elif before and incident.at < before[-1][1] < math.inf:
                before[-1][1] = max(before[-1][1], incident.repaired_at)
                continue
            before.append([incident.at, incident.repaired_at])
    together: dict[tuple[float, float, str, tuple[str, ...]], list[str]] = {}
    for (providers, kind, target), times in spans.items():
        for at, over in times:
            together.setdefault((at, over, kind, providers), []).append(target)
    joined = [
        (Incident(at, kind, tuple(targets), over), providers)
        for (at, over, kind, providers), targets in together.items()
    ]
    return sorted(joined, key=lambda pair: pair[0].at)


def _moments(rng: np.random.Generator, rate: Rate, duration: float) -> list[float]:
    return sorted(rng.uniform(0, duration, rng.poisson(rate.per_second * duration)).tolist())
