"""sendlab: what a sending channel does to a team's mail, simulated and measured under the limits its providers publish.

In a notebook::

    import simlib

    scenario = simlib.Scenario.load("scenarios/team_day.toml")
    result = simlib.compare(scenario, replications=200, seed=1)
    result.table()

The words, as they are used everywhere here:

provider
    The party at the other end of our connection, whose limits bind. Its role is *submission* (port 587, AUTH: Office
    365, Gmail, SparkPost, the company's own server) or *delivery* (port 25, by IP: a mailbox provider's MX).
channel
    Our side: tenants, IPs, connections, pacing, retry schedule. Never the provider.
tool
    The application that sends; its pacing, parallelism and retries are facts, too.
tenant
    A customer whose mail uses the channel; it has a domain and senders. Several tenants on one channel: a shared pool.
    One: a dedicated channel.
attempt, transaction, session
    A message offered once; MAIL to the reply after DATA; connect to QUIT (RFC 5321).
accepted, delivered
    2yz from the first party that the message is handed to; 2yz from a mailbox provider's MX. The one is never set
    against the other.
deferred, rejected
    4yz and 5yz in session. A bounce is a report sent later (RFC 3464), and never meant here.
expired, waiting
    Given up after the last retry; not finished when the run ended. Both are always counted.
held
    The reply comes late, by the time until there is room.
throttled
    A limit made the message late or lost.
warm-up, transient
    The gradual growth of a new IP; the initial cut of a simulation.
goodput, throughput
    Accepted messages per hour; attempts.

Base units everywhere: seconds, messages, recipients, bytes. Other units stand only in files and on the screen.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Provider": "provider",
    "Receiver": "receiver",
    "Account": "receiver",
    "Scenario": "scenario",
    "Tool": "tool",
    "compare": "experiment",
    "run": "experiment",
    "frame": "record",
    "ledger": "record",
    "Result": "experiment",
    "advise": "advice",
    "from_scenario": "question",
    "from_team": "question",
    "largest_send": "sizing",
    "facts": "facts",
    "pacing": "pacing",
    "plot": "plot",
    "theory": "theory",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - the names above, looked up when first used


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562), so that the light modules stay light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'simlib' has no attribute {name!r}")
    module = import_module(f"simlib.{_HOMES[name]}")
    return module if name == _HOMES[name] else getattr(module, name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
