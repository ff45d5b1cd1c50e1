"""What a fake looks like at this moment: for the page, and for Prometheus."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from fake_servers.server import Fake
from simlib.receiver import Rule
from simlib.windows import FixedWindow, TokenBucket, Window

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["Collector", "snapshot", "used"]

SHOWN: Final = 8  # of each limit, the accounts or IPs that are nearest to it


def used(window: Window, now: float) -> tuple[float, float, float]:
    """Return how much of a window is taken, how much it holds, and the seconds until there is room for one more.

    What waits in line has taken its place already, so more may be taken than fits.

    Parameters
    ----------
    window : Window
        A window of any kind.
    now : float
        The time, in seconds since second 0.

    Returns
    -------
    tuple of (float, float, float)
        Taken and held in the unit that the limit counts; the wait in seconds, 0 if there is room.

    Examples
    --------
    >>> from simlib.windows import SlidingWindow
    >>> minute = SlidingWindow(limit=2, period=60)
    >>> minute.take(2, at=0)
    >>> used(minute, now=15)
    (2.0, 2, 45)
    """
    wait = window.wait(1, now)  # brings the window up to date
    if isinstance(window, TokenBucket):
        missing = max(0.0, window.full_at - now) / window.each
        return missing, window.burst, wait
    if isinstance(window, FixedWindow):
        return sum(amount for start, amount in window.windows if start <= now), window.limit, wait
    return window.used, window.limit, wait


def _windows(rule: Rule, now: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for key, window in tuple(rule.windows.items()):
        taken, holds, wait = used(window, now)
        barred = max(0.0, rule.barred.get(key, now) - now)
        if taken > 0 or barred > 0:
            wait = max(barred, 0.0 if wait == float("inf") else wait)
            found.append({"key": str(key), "used": taken, "limit": holds, "wait": wait, "barred": barred > 0})
    found.sort(key=lambda one: (-one["barred"], -one["used"] / one["limit"], one["key"]))
    return found


def _limits(fake: Fake, now: float) -> Iterator[dict[str, Any]]:
    rules = {rule.limit.id: rule for rule in fake.receiver.rules}
    for limit in fake.provider.limits:
        rule = rules.get(limit.id)
        windows = [] if rule is None or limit.per == "message" else _windows(rule, now)
        id_ = f"{fake.provider.name}/{limit.id}"
        yield {
            "id": limit.id,
            "limit": "off" if limit.limit is None else str(limit.limit),
            "count": limit.count,
            "per": limit.per,
            "at": limit.at,
            "on_excess": limit.on_excess,
            "held": fake.held[id_],
            "refused": fake.refused[id_],
            "busy": len(windows),
            "windows": windows[:SHOWN],
        }


def snapshot(fakes: Sequence[Fake]) -> dict[str, Any]:
    """Return what the page shows: the clock, the listeners, how full each limit is, the last refusals.

    Parameters
    ----------
    fakes : sequence of Fake
        Who is shown.

    Returns
    -------
    dict of str to object
        What JSON can hold; times are seconds since second 0.
    """
    clock = fakes[0].clock
    now = clock.now()
    refusals = sorted((entry for fake in fakes for entry in fake.recent), key=lambda entry: entry["time"])
    return {
        "clock": {"kind": clock.kind, "scale": clock.scale, "seconds": now, "start": fakes[0].shared.start.isoformat()},
        "providers": [
            {
                "name": fake.provider.name,
                "title": fake.provider.title,
                "listeners": [{"host": one.host, "port": one.port, "tls": one.tls} for one in fake.listeners],
                "open": len(fake.connections),
                "waiting": fake.waiting,
                "accepted": fake.accepted,
                "held": fake.held.total(),
                "refused": fake.refused.total(),
                "limits": list(_limits(fake, now)),
            }
            for fake in fakes
        ],
        "refusals": refusals[:-31:-1],
    }


class Collector:
    """The numbers as Prometheus reads them; counted by the fakes, put together when asked.

    Parameters
    ----------
    fakes : sequence of Fake
        Whose numbers.
    """

    def __init__(self, fakes: Sequence[Fake]) -> None:
        self.fakes = fakes

    def collect(self) -> "Iterable[Metric]":
        """Return every metric family."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        accepted = CounterMetricFamily("sendlab_accepted", "Messages accepted.", labels=["provider"])
        held = CounterMetricFamily("sendlab_held", "Messages that a limit held.", labels=["provider", "limit"])
        refused = CounterMetricFamily(
            "sendlab_refused", "Refusals, by the limit that spoke (empty: none).", labels=["provider", "limit"]
        )
        sessions = CounterMetricFamily("sendlab_connections", "Connections made.", labels=["provider"])
        failures = CounterMetricFamily("sendlab_auth_failures", "Credentials refused.", labels=["provider"])
        faults = CounterMetricFamily("sendlab_faults", "Commands that a fault struck.", labels=["provider", "fault"])
        now = GaugeMetricFamily("sendlab_open_connections", "Connections open now.", labels=["provider"])
        waiting = GaugeMetricFamily("sendlab_held_replies", "Replies held back now.", labels=["provider"])
        for fake in self.fakes:
            name = fake.provider.name
            accepted.add_metric([name], fake.accepted)
            sessions.add_metric([name], fake.sessions)
            failures.add_metric([name], fake.auth_failures)
            now.add_metric([name], len(fake.connections))
            waiting.add_metric([name], fake.waiting)
            ids = [f"{name}/{limit.id}" for limit in fake.provider.limits]
            for id_ in ids:
                held.add_metric([name, id_], fake.held[id_])
            for id_ in (*ids, ""):
                refused.add_metric([name, id_], fake.refused[id_])
            for fault, _, struck in fake.receiver.schedule.counts():
                faults.add_metric([name, fault], struck)
        return accepted, held, refused, sessions, failures, faults, now, waiting
