"""From a scenario to a plan: what the load generators send, when, from where, and how they log in.

The generators (`loadtests`) know nothing of scenarios; this folder of two files is all they read. It holds no password
and no token.
"""

import datetime as dt
import json
import math
import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any, Final

import numpy as np

from simlib.channel import Incident, Lane, Route, routes
from simlib.provider import Provider
from simlib.scenario import Scenario
from simlib.target import Offer
from simlib.workload import Messages, recipients, stream

__all__ = ["protected", "sees_ips", "sentences", "write"]

LOOPBACK: Final = IPv4Network("127.0.0.0/8")
HOLE: Final = re.compile(r"\{\w+(?::[^}]*)?\}")

Where = Mapping[str, tuple[str, str, int]]


def write(
    folder: Path,
    scenario: Scenario,
    alternative: str,
    messages: Messages,
    where: Where,
    *,
    seed: int = 1,
    as_of: dt.date | None = None,
    time_scale: float = 1.0,
    control: str = "",
    ca: str = "",
    through: bool = False,
    offer: Offer | None = None,
) -> list[Route]:
    """Write ``plan.jsonl`` and ``run.json``, and return the queues.

    Parameters
    ----------
    folder : Path
        Where to.
    scenario, alternative : Scenario, str
        What is sent how.
    messages : Messages
        What is offered.
    where : mapping of str to (name, address, port)
        Where each provider listens.
    seed : int
        Of the moments of incidents.
    as_of : date, optional
        The date whose facts apply; the scenario's by default.
    time_scale : float
        Scenario seconds in a real one.
    control : str
        ``HOST:PORT`` of the fakes' control port; empty: there is none.
    ca : str
        The file with the certificates to trust.
    through : bool
        Whether a relay takes the mail, which asks for neither TLS nor AUTH.
    offer : Offer, optional
        What a target offers, where it was asked; by default TLS and AUTH are as the provider wants them.

    Returns
    -------
    list of Route
        In the order of the plan.

    Raises
    ------
    ValueError
        If a relay in between would have to do what only we can.
    """
    lanes = scenario.lanes(alternative, as_of)
    ips, found = routes(lanes, messages)
    waits = next((route.lane.channel.name for route in found if route.due_at is not None), None)
    if waits is not None:
        raise ValueError(
            f"channels[{waits}].warmup: mail that waits for another day is only simulated: give the channel an overflow"
        )
    if through and any(lane.warmup for lane in lanes):
        raise ValueError("warmup: a relay knows no overflow: leave --through out")
    if through and any(lane.reaction and lane.reaction.answers_to == "throttling" for lane in lanes):
        raise ValueError("reaction: a relay reacts in its own way: leave --through out")
    numbers = {id(lane): number for number, lane in enumerate(lanes)}
    run: dict[str, Any] = {
        "scenario": scenario.name,
        "alternative": alternative,
        "duration": scenario.duration,
        "time_scale": time_scale,
        "control": control,
        "ca": ca,
        "lanes": [_lane(lane, where[lane.provider.name], _ips(found, lane, ips), through, offer) for lane in lanes],
        "routes": [
            {"lane": numbers[id(route.lane)], "account": route.account, "connections": route.connections}
            for route in found
        ],
        "incidents": [
            _incident(one)
            for one, _ in scenario.incidents(lanes, lambda *name: stream(seed, 0, *name))
            if control  # nobody can make them happen elsewhere
        ],
    }
    (folder / "run.json").write_text(json.dumps(run, indent=1), encoding="utf-8")
    ids = messages.ids()
    lines: list[tuple[int, str]] = []
    for number, route in enumerate(found):
        for message in route.messages.tolist():
            line = {
                "due": float(messages.created_at[message]),
                "message_id": ids[message],
                "provider": route.lane.provider.name,
                "ip": ips[route.ips[0]] if run["lanes"][numbers[id(route.lane)]]["ips"] else "",
                "account": route.account,
                "mail_from": messages.addresses[messages.sender[message]],
                "rcpt_to": recipients(route.lane.provider.name, message, int(messages.recipients[message])),
                "bytes": int(messages.bytes[message]),
                "route": number,
                "tenant": messages.tenants[messages.tenant[message]],
                "label": messages.labels[messages.label[message]] if messages.labels else "",
            }
            lines.append((message, json.dumps(line)))
    lines.sort()
    (folder / "plan.jsonl").write_text("".join(f"{line}\n" for _, line in lines), encoding="utf-8")
    return found


def sentences(provider: Provider) -> list[tuple[str, str, str]]:
    """Return every refusal that the facts have: limit id or empty, sentence, and a regular expression for it.

    What a placeholder stands for differs from reply to reply, so the expression takes anything there.

    Parameters
    ----------
    provider : Provider
        The facts, with readings and date already chosen.

    Returns
    -------
    list of tuple of (str, str, str)
        One a sentence.

    Examples
    --------
    >>> found = sentences(Provider.load("office365"))
    >>> [limit for limit, said, _ in found if "5.2.252" in said]
    ['']
    """
    said = [(reply.limit, reply) for reply in map(provider.refusal, provider.limits)]
    said += [("", provider.says(one.when, one.at or "MAIL")) for one in provider.replies if one.code >= 400]
    found = []
    for limit, reply in said:
        sentence = f"{reply.code} {reply.enhanced} {reply.text}"
        pattern = "(?s:.*)".join(map(re.escape, HOLE.split(sentence)))
        found.append((limit, sentence, pattern))
    # limits whose refusal is one sentence: the first speaks for all
    return list({pattern: (limit, sentence, pattern) for limit, sentence, pattern in reversed(found)}.values())[::-1]


def _ips(found: Sequence[Route], lane: Lane, ips: Sequence[str]) -> list[str]:
    mine = next((route.ips for route in found if route.lane is lane), range(0))
    return [ips[position] for position in mine]


def sees_ips(address: str) -> bool:
    """Whether sessions can go there from a channel's addresses, which are 127.x.y.z: else from this machine's own.

    Parameters
    ----------
    address : str
        An IP address.

    Returns
    -------
    bool
        True for loopback.

    Examples
    --------
    >>> sees_ips("127.0.0.1"), sees_ips("192.0.2.1")
    (True, False)
    """
    return ip_address(address) in LOOPBACK


def protected(lane: Lane) -> bool:
    """Whether the provider of a lane wants TLS or a login: a target is then asked what it offers instead.

    Parameters
    ----------
    lane : Lane
        A channel on its way to a provider.

    Returns
    -------
    bool
        False where anybody may hand mail over in the clear.
    """
    return lane.provider.tls == "required" or _logs_in(lane)


def _logs_in(lane: Lane) -> bool:
    return lane.provider.role == "submission" and bool(lane.provider.auth)


def _lane(
    lane: Lane, where: tuple[str, str, int], ips: Sequence[str], through: bool, offer: Offer | None
) -> dict[str, Any]:
    name, address, port = where
    tls, logs_in = lane.provider.tls == "required" and not through, _logs_in(lane) and not through
    if offer is not None and protected(lane):
        tls, logs_in = offer.tls, logs_in and offer.auth
    return {
        "channel": lane.channel.name,
        "provider": lane.provider.name,
        "host": name,
        "address": address,
        "port": port,
        "tls": tls,
        "auth": ("oauth" if lane.oauth else "password") if logs_in else "",
        "ips": list(ips) if sees_ips(address) else [],
        "connections": lane.connections,
        "by_account": lane.by_account,
        "messages_per_session": lane.messages_per_session,
        "pace": {"batch": lane.pace.batch, "wait": lane.pace.wait} if lane.pace else None,
        "reaction": lane.reaction.name if lane.reaction else "",
        "throttles": sorted(lane.throttles),
        "retry": {"delays": list(lane.retry.delays), "lifetime": _finite(lane.retry.lifetime)},
        "timeout": lane.channel.timeout,
        "sentences": sentences(lane.provider),
        "heeds": [] if through else sorted(lane.heeds),
        "allowed": "" if ip_address(address).is_loopback else address,
    }


def _incident(one: Incident) -> dict[str, Any]:
    return {"at": one.at, "kind": one.kind, "targets": list(one.targets), "repaired_at": _finite(one.repaired_at)}


def _finite(value: float) -> float | None:
    return None if np.isinf(value) or math.isnan(value) else value
