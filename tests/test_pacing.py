"""What pace a limit allows: no more than that, and no less."""

from typing import Any

import pytest
from channels import SOURCE
from hypothesis import given
from hypothesis import strategies as st

from simlib import pacing
from simlib.provider import Limit, Provider, parse
from simlib.receiver import Receiver
from simlib.sender import Pace


def limit_of(**fields: Any) -> Limit:
    base = {"id": "quota", "count": "messages", "per": "ip", "on_excess": "reject", "at": "EOD", **SOURCE}
    return Limit.model_validate({**base, **fields})


def exceeds(limit: Limit, moments: list[float]) -> bool:
    """Whether a provider with that limit refuses any of the messages sent at these moments."""
    facts = {"name": "test", "title": "T", "role": "delivery", "credential": "ip", "auth": []}
    data = {**facts, "limits": [limit.model_dump(by_alias=True, exclude_unset=True)]}
    receiver = Receiver(parse(data, "test"), {})
    session, _ = receiver.connect("127.0.0.1", moments[0])
    receiver.ehlo(session, moments[0])
    for now in moments:
        receiver.offer(session, "a@us.example", 1, now)
        if receiver.end_of_data(session, 1, now).code >= 400:
            return True
    return False


def batches(size: int, wait: float, phase: float, count: int) -> list[float]:
    return [phase + number * wait for number in range(count) for _ in range(size)]


def phases(limit: Limit, wait: float) -> list[float]:
    """Where in a window of the clock the first batch may fall: the edges between one number of batches and another."""
    period = limit.limit.period if limit.limit and limit.limit.period else 0.0
    return [0.0] if limit.anchor != "clock" else sorted({0.0, period % wait, wait / 2, wait - 1})


def enough(limit: Limit, size: int, wait: float) -> int:
    """After how many batches a pace that exceeds a limit must have shown it."""
    assert limit.limit is not None
    assert limit.limit.period is not None
    spare = size - wait * limit.limit.per_second
    drained = (limit.burst or 0) / spare if spare > 0 else 0
    return int(2 * limit.limit.period / wait + drained) + 3


LIMITS: list[dict[str, Any]] = [
    *({"limit": rate, "window": "sliding"} for rate in ("30/min", "7/min", "3/10s", "100/h", "1000/d", "2/7s")),
    *({"limit": rate, "window": "fixed", "anchor": "clock"} for rate in ("30/min", "7/min", "100/h")),
    *({"limit": rate, "window": "fixed", "anchor": "first_event"} for rate in ("30/min", "7/min", "100/h")),
    *({"limit": "30/min", "window": "token_bucket", "burst": burst} for burst in (1, 10, 30, 60)),
    {"limit": "7/min", "window": "token_bucket", "burst": 20},
    {"limit": "14/s", "window": "token_bucket", "burst": 14},
]


@pytest.mark.parametrize("fields", LIMITS, ids=lambda fields: " ".join(map(str, fields.values())))
def test_every_safe_pace_never_exceeds_the_limit_and_one_more_does(fields: dict[str, Any]) -> None:
    limit = limit_of(**fields)
    listed = pacing.safe(limit)
    assert listed
    for pace in listed:
        count = enough(limit, pace.batch + 1, pace.wait)
        tried = phases(limit, pace.wait)
        assert not any(exceeds(limit, batches(pace.batch, pace.wait, phase, count)) for phase in tried), pace
        assert any(exceeds(limit, batches(pace.batch + 1, pace.wait, phase, count)) for phase in tried), pace


@pytest.mark.parametrize("fields", LIMITS, ids=lambda fields: " ".join(map(str, fields.values())))
def test_for_every_wait_the_largest_batch_is_the_largest(fields: dict[str, Any]) -> None:
    limit = limit_of(**fields)
    for wait in pacing.WAITS:
        size = pacing.most(limit, wait)
        count = min(enough(limit, size + 1, wait), 2000)
        tried = phases(limit, wait)
        assert not size or not any(exceeds(limit, batches(size, wait, phase, count)) for phase in tried), wait
        assert any(exceeds(limit, batches(size + 1, wait, phase, count)) for phase in tried), wait


def test_safe_lists_the_shortest_wait_for_each_batch() -> None:
    for fields in LIMITS:
        listed = pacing.safe(limit_of(**fields))
        assert listed == sorted(listed, key=lambda pace: pace.wait)
        assert [pace.batch for pace in listed] == sorted({pace.batch for pace in listed})
        for wait in pacing.WAITS:
            within = [pace.batch for pace in listed if pace.wait <= wait]
            assert max(within, default=0) == pacing.most(limit_of(**fields), wait)


def test_the_paces_for_office365() -> None:
    minute = Provider.load("office365").limit("messages-per-minute")
    assert {Pace(30, 60), Pace(15, 30), Pace(10, 20)} <= set(pacing.safe(minute))
    assert pacing.most(minute, 45) == 15


@given(
    fields=st.sampled_from(LIMITS),
    wait=st.sampled_from([wait for wait in pacing.WAITS if wait > 1]),
    spread=st.floats(0, 1),
    data=st.data(),
)
def test_a_batch_that_takes_time_never_exceeds_the_limit(
    fields: dict[str, Any], wait: float, spread: float, data: st.DataObject
) -> None:
    limit = limit_of(**fields)
    spread *= wait * 0.99
    size = pacing.most(limit, wait, spread)
    if not size:
        return
    phase = data.draw(st.sampled_from(phases(limit, wait)))
    # the worst: one batch comes at its end, the next ones at their beginning
    late = data.draw(st.integers(0, 3))
    moments = [
        phase + number * wait + (spread if number == late and place else 0.0)
        for number in range(min(enough(limit, size, wait), 300))
        for place in range(size)
    ]
    assert not exceeds(limit, sorted(moments))


@pytest.mark.parametrize(
    ("fields", "wait", "spread", "message"),
    [
        ({"limit": "off"}, 60, 0, "limit must have a period, got quota = off"),
        ({"limit": 3, "count": "transactions"}, 60, 0, "limit must have a period, got quota = 3"),
        ({"limit": "30/min", "window": "sliding"}, 0, 0, "wait must be longer than 0"),
        (
            {"limit": "30/min", "window": "sliding"},
            10,
            10,
            "than the spread of 10 s, got 10",
        ),
    ],
)
def test_what_has_no_safe_pace_is_refused(fields: dict[str, Any], wait: float, spread: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pacing.most(limit_of(**fields), wait, spread)
