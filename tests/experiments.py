"""Channels to inline providers: one of a tenant alone, and one shared with neighbours; what one run says."""

import math
from statistics import fmean, stdev
from typing import Any

from scipy.special import stdtrit

from simlib.experiment import run
from simlib.scenario import Scenario
from simlib.summary import Summary, summarize

SOURCE = {"source": "made up for this test", "as_of": "2026-01-01"}
QUOTA = {"id": "quota", "count": "messages", "per": "account", "window": "sliding", "at": "EOD", **SOURCE}
PLAIN = {"title": "Plain", "role": "submission", "credential": "account", "auth": ["PLAIN"]}
MX = {"title": "MX", "role": "delivery", "credential": "ip", "auth": []}
MINUTE_LIMIT = "office365/messages-per-minute"


def scenario(
    *arrivals: dict[str, Any],
    senders: int = 1,
    duration: str = "1h",
    provider: dict[str, Any] | None = None,
    limits: tuple[dict[str, Any], ...] = (),
    extra: dict[str, Any] | None = None,
    **channel: Any,
) -> Scenario:
    """One tenant on one channel to one provider, by default a submission provider without limits."""
    return Scenario.build(
        {
            "name": "test",
            "start": "2026-06-01T00:00",
            "duration": duration,
            "tenants": [{"name": "us", "senders": senders, "arrivals": list(arrivals)}],
            "alternatives": {"it": {"channels": [{"name": "channel", "tenants": ["us"], "to": "plain", **channel}]}},
            "providers": {"plain": {**PLAIN, "limits": list(limits), **(provider or {})}},
            **(extra or {}),
        }
    )


def batch(size: int, first: str = "0s", **more: Any) -> dict[str, Any]:
    return {"kind": "batches", "size": size, "first": first, **more}


def summary(asked: Scenario, alternative: str = "it", tenant: str = "us", **more: Any) -> Summary:
    return summarize(run(asked, alternative, **more), asked, asked.lanes(alternative))[tenant]


def check(expected: float, samples: list[float]) -> None:
    """The value lies in the 99.9 % interval of the mean of independent replications."""
    half_width = stdtrit(len(samples) - 1, 0.9995) * stdev(samples) / math.sqrt(len(samples))
    assert abs(fmean(samples) - expected) <= half_width


NEIGHBOURS = {"name": "neighbours", "neighbour": True, "senders": 3, "arrivals": {"kind": "poisson", "rate": "30/min"}}
RANDOM = {"kind": "lognormal", "mean": "3s", "scv": 2}
DELIVERY = {
    "to": "mx",
    "connections": 2,
    "service": RANDOM,
    "session_setup": "0.5s",
    "retry": ["40s"],
    "pace": "20/min",
}


def pools() -> Scenario:
    """Our tenant in a pool that only it uses, on its own channel, and in a pool with neighbours."""
    quota = {**QUOTA, "per": "ip", "limit": "20/min", "on_excess": "defer"}
    return Scenario.build(
        {
            "name": "pools",
            "start": "2026-06-01T00:00",
            "duration": "20min",
            "tenants": [
                {"name": "us", "senders": 3, "arrivals": [{"kind": "poisson", "rate": "20/min"}, batch(20, "5min")]},
                NEIGHBOURS,
            ],
            "alternatives": {
                "pool of one": {"channels": [{"name": "pool", "tenants": ["us"], **DELIVERY}]},
                "dedicated": {"channels": [{"name": "dedicated", "tenants": ["us"], **DELIVERY}]},
                "pool": {"channels": [{"name": "pool", "tenants": ["us", "neighbours"], **DELIVERY}]},
                "apart": {
                    "channels": [
                        {"name": "theirs", "tenants": ["neighbours"], **DELIVERY},
                        {"name": "ours", "tenants": ["us"], **DELIVERY, "to": "other-mx"},
                    ]
                },
            },
            "providers": {"mx": {**MX, "limits": [quota]}, "other-mx": {**MX, "limits": [quota]}},
        }
    )
