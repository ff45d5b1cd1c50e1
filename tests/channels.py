"""One tenant on one channel, simulated: small scenarios, and what became of each message."""

from typing import Any

import pandas as pd

from simlib.experiment import run
from simlib.record import frame
from simlib.scenario import Scenario
from simlib.summary import summarize

MINUTE = 60.0
SOURCE = {"source": "made up for this test", "as_of": "2026-01-01"}
QUOTA = {"id": "quota", "count": "messages", "per": "account", "window": "sliding", "at": "EOD", **SOURCE}
ONE_RECIPIENT = {"id": "recipients", "count": "recipients", "per": "message", "limit": 1, "at": "RCPT", **SOURCE}


def scenario(
    *arrivals: dict[str, Any],
    to: str | dict[str, float] = "plain",
    senders: int = 1,
    duration: str = "1h",
    provider: dict[str, Any] | None = None,
    limits: tuple[dict[str, Any], ...] = (),
    tenant: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
    **channel: Any,
) -> Scenario:
    """One tenant on one channel, by default to a submission provider without limits."""
    plain = {"title": "Plain", "role": "submission", "credential": "account", "auth": ["PLAIN"], "limits": list(limits)}
    return Scenario.build(
        {
            "name": "test",
            "start": "2026-06-01T00:00",
            "duration": duration,
            "tenants": [{"name": "us", "senders": senders, "arrivals": list(arrivals), **(tenant or {})}],
            "alternatives": {"it": {"channels": [{"name": "channel", "tenants": ["us"], "to": to, **channel}]}},
            "providers": {"plain": {**plain, **(provider or {})}},
            **(extra or {}),
        }
    )


MX = {"role": "delivery", "credential": "ip", "auth": []}


def batch(size: int, first: str = "0s", **more: Any) -> dict[str, Any]:
    return {"kind": "batches", "size": size, "first": first, **more}


def event(kind: str, at: str, **more: Any) -> dict[str, Any]:
    who = {} if "channel" in more else {"tenant": "us"}
    return {"kind": kind, "at": at, **who, **more}


def record(asked: Scenario, **more: Any) -> pd.DataFrame:
    return frame(run(asked, "it", **more), asked.zero)


def numbers(asked: Scenario) -> dict[str, float]:
    return summarize(run(asked, "it"), asked, asked.lanes("it"))["us"].numbers


def rows(asked: Scenario, *columns: str) -> list[tuple[Any, ...]]:
    """The record's columns, a row an attempt; messages by their number alone."""
    found = record(asked)
    found["message"] = found["message_id"].str.removeprefix("us-").astype(int)
    found["started"], found["ended"] = found["started_at_s"], found["ended_at_s"]
    return list(found[list(columns)].itertuples(index=False, name=None))
