"""What a load test sends: a plan, made beforehand, of which each generator process takes its share.

A plan is a folder: ``run.json`` says how long, how fast, where to and over which connections; ``plan.jsonl`` has a line
for each message. `sendlab load` writes it from a scenario.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

from simlib.reaction import Reaction, named
from simlib.sender import Pace, Retry

__all__ = ["Entry", "Incident", "Lane", "Plan", "Route", "share"]


class Entry(NamedTuple):
    """A message of the plan.

    Parameters
    ----------
    due : float
        When it is offered first, in scenario seconds.
    message_id : str
        Its id; the Message-ID header is ``<ID@sendlab.example>``.
    route : int
        The number of its queue.
    mail_from : str
        The sender's address.
    rcpt_to : tuple of str
        The recipients' addresses.
    bytes : int
        How big it is, header and all.
    tenant, label : str
        Whose it is, and of which kind; for the ledger.
    """

    due: float
    message_id: str
    route: int
    mail_from: str
    rcpt_to: tuple[str, ...]
    bytes: int
    tenant: str
    label: str


@dataclass(frozen=True, slots=True)
class Lane:
    """A channel on its way to one provider, as far as a client has to know it.

    Parameters
    ----------
    channel, provider : str
        Their names.
    host : str
        The provider's host, as its certificate has it.
    address, port : str, int
        Where it listens.
    tls : bool
        Whether the client insists on STARTTLS.
    auth : str
        ``password``, ``oauth``, or empty: no AUTH.
    ips : tuple of str
        The addresses that its sessions go out from, in turn; empty: whatever the system takes.
    connections : int
        How many may be open from each of them, or if `by_account`, for each account.
    by_account : bool
        Whether accounts queue apart.
    messages_per_session : int or None
        After how many messages a session ends.
    pace : Pace or None
        Each sender's.
    retry : Retry
        What happens after a 4yz.
    timeout : float
        How long the client waits for the reply after DATA, in scenario seconds.
    sentences : tuple of (str, str, str)
        Limit id (or empty), the sentence as the facts have it, and a regular expression that a reply is known by.
    heeds : frozenset of str
        Limits whose 5yz the client knows to go away.
    reaction : Reaction or None
        What happens to an IP that the provider throttles.
    throttles : frozenset of str
        Limits whose 4yz it answers to.
    allowed : str
        The address beyond loopback that was allowed by name; empty: none.
    """

    channel: str
    provider: str
    host: str
    address: str
    port: int
    tls: bool
    auth: str
    ips: tuple[str, ...]
    connections: int
    by_account: bool
    messages_per_session: int | None
    pace: Pace | None
    retry: Retry
    timeout: float
    sentences: tuple[tuple[str, str, str], ...]
    heeds: frozenset[str]
    reaction: Reaction | None = None
    throttles: frozenset[str] = frozenset()
    allowed: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """A queue.

    Parameters
    ----------
    number : int
        Its number in the plan.
    lane : int
        The number of its lane.
    account : str
        Who logs in; empty where there is no AUTH, or where the sender's own address is meant.
    connections : int
        How many it has at most.
    """

    number: int
    lane: int
    account: str
    connections: int


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happens at the provider, and is made to happen over the fakes' control port.

    Parameters
    ----------
    at : float
        When, in scenario seconds.
    kind : str
        ``password_change``, ``token_revoked``, ``auth_disabled``, ``blocklisted`` or ``delisted``.
    targets : tuple of str
        The accounts, or the sending addresses.
    repaired_at : float
        When it is over; inf if never.
    """

    at: float
    kind: str
    targets: tuple[str, ...]
    repaired_at: float = math.inf


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a load test has to know.

    Parameters
    ----------
    duration : float
        When it ends, in scenario seconds.
    time_scale : float
        Scenario seconds in a real one.
    control : str
        ``HOST:PORT`` of the fakes' control port; empty if the target is somebody else's.
    ca : str
        The file with the certificates to trust; empty: the system's.
    lanes, routes, entries, incidents : tuple
        What is sent how, from whom, and what happens meanwhile.

    Raises
    ------
    ValueError
        One line that says what is wrong with the file.
    """

    duration: float
    time_scale: float
    control: str
    ca: str
    lanes: tuple[Lane, ...]
    routes: tuple[Route, ...]
    entries: tuple[Entry, ...]
    incidents: tuple[Incident, ...]

    @classmethod
    def load(cls, folder: Path) -> "Plan":
        """Read ``run.json`` and ``plan.jsonl``."""
        try:
            run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            lanes = tuple(_lane(lane) for lane in run["lanes"])
            routes = tuple(Route(number, **route) for number, route in enumerate(run["routes"]))
            incidents = tuple(_incident(one) for one in run["incidents"])
            with (folder / "plan.jsonl").open("rb") as lines:
                entries = tuple(_entry(from_json(line)) for line in lines)
            return cls(run["duration"], run["time_scale"], run["control"], run["ca"], lanes, routes, entries, incidents)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder}: not a plan that `sendlab load --out` wrote: {error}") from None

    def at(self, targets: Sequence[str], control: str | None = None, ca: str | None = None) -> "Plan":
        """Return the plan with its providers where they listen now.

        Parameters
        ----------
        targets : sequence of str
            ``PROVIDER=HOST:PORT`` each, on loopback.
        control, ca : str, optional
            As the plan has them.

        Raises
        ------
        ValueError
            If a target isn't of that form, isn't a loopback address, or is of a provider that the plan doesn't have.
        """
        where: dict[str, tuple[str, int]] = {}
        for target in targets:
            provider, equals, place = target.partition("=")
            host, colon, port = place.rpartition(":")
            if not (equals and colon and port.isdigit()):
                raise ValueError(f"target must look like PROVIDER=HOST:PORT, got {target!r}")
            if provider not in {lane.provider for lane in self.lanes}:
                raise ValueError(f"target names no provider of the plan, got {provider!r}")
            where[provider] = host.strip("[]"), int(port)
        lanes = tuple(
            replace(lane, address=where[lane.provider][0], port=where[lane.provider][1])
            if lane.provider in where
            else lane
            for lane in self.lanes
        )
        for lane in lanes:
            _refuse_beyond(lane)
        return replace(self, lanes=lanes, control=control or self.control, ca=ca or self.ca)


def _refuse_beyond(lane: Lane) -> None:
    """Let load go to loopback only, or to what `sendlab load --allow-host` named and looked up (DESIGN §11)."""
    try:
        loopback = ip_address(lane.address).is_loopback
    except ValueError:
        raise ValueError(f"target must be an IP address such as 127.0.0.1, got {lane.address!r}") from None
    if not loopback and lane.address != lane.allowed:
        raise ValueError(f"target must be a loopback address, got {lane.address!r}; see `sendlab load --allow-host`")


def _lane(lane: dict[str, Any]) -> Lane:
    lane["pace"] = Pace(**lane["pace"]) if lane["pace"] else None
    lifetime = lane["retry"]["lifetime"]
    lane["retry"] = Retry(tuple(lane["retry"]["delays"]), math.inf if lifetime is None else lifetime)
    lane["ips"] = tuple(lane["ips"])
    lane["sentences"] = tuple((limit, text, pattern) for limit, text, pattern in lane["sentences"])
    lane["heeds"] = frozenset(lane["heeds"])
    lane["reaction"] = named(lane["reaction"]) if lane.get("reaction") else None
    lane["throttles"] = frozenset(lane.get("throttles", ()))
    return Lane(**lane)


def _incident(one: dict[str, Any]) -> Incident:
    repaired_at = math.inf if one["repaired_at"] is None else one["repaired_at"]
    return Incident(one["at"], one["kind"], tuple(one["targets"]), repaired_at)


def _entry(line: dict[str, Any]) -> Entry:
    return Entry(
        line["due"],
        line["message_id"],
        line["route"],
        line["mail_from"],
        tuple(line["rcpt_to"]),
        line["bytes"],
        line["tenant"],
        line["label"],
    )


def share(plan: Plan, part: int, parts: int) -> list[Route]:
    """Return the queues that one of several processes takes; together they take each once.

    A queue is never split, since its order, its pace and its connections are one. The longest go first, each to the
    process that has the fewest messages so far.

    Parameters
    ----------
    plan : Plan
        The whole.
    part, parts : int
        Which process, from 0, of how many.

    Returns
    -------
    list of Route
        Every queue is in exactly one share.

    Raises
    ------
    ValueError
        If there is no such part.
    """
    if not 0 <= part < parts:
        raise ValueError(f"part must be from 0 to {parts - 1}, got {part}")
    messages = count(plan.entries)
    taken: list[list[Route]] = [[] for _ in range(parts)]
    load = [0] * parts
    for route in sorted(plan.routes, key=lambda route: -messages[route.number]):
        least = load.index(min(load))
        load[least] += messages[route.number]
        taken[least].append(route)
    return sorted(taken[part], key=lambda route: route.number)


def count(entries: Iterable[Entry]) -> Mapping[int, int]:
    """Return how many messages each queue has."""
    found: dict[int, int] = defaultdict(int)
    for entry in entries:
        found[entry.route] += 1
    return found
