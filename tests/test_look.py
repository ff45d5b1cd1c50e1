"""A quick look: the same days as `sendlab size` sees, with the pace and the retries that are asked for."""

import dataclasses

import pytest

from simlib.look import Asked, looks
from simlib.sender import Pace

SMALL = Asked(senders=3, per_sender=20, group_email=90)
CHANNELS = {"office365": None, "gmail-oauth": None, "sparkpost": None, "own-postfix": None, "pool": None}


def test_each_default_channel_is_looked_at() -> None:
    assert [look.name for look in looks(SMALL)] == ["office365", "gmail-oauth", "sparkpost", "own-postfix"]


def test_a_day_is_the_one_that_size_simulates() -> None:
    for look in looks(SMALL, CHANNELS):
        seen = look.more().more()
        for replication, taken in enumerate(seen.days):
            day = look.candidate.day(seen.seed, replication, look.as_of)
            assert (len(taken.accepted_at), taken.on_time, taken.lost) == (day.offered, day.on_time, day.lost)
            assert taken.finished_at == day.finished_at
        assert look.days == ()


def test_the_mail_of_strangers_is_not_counted() -> None:
    (pool,) = looks(SMALL, {"pool": None})
    assert pool.more().offered == 3 * 20 + 90


@pytest.mark.parametrize(
    ("pace", "typed"), [("safe", Pace(5, 12.0)), ("tool", Pace(25, 45.0)), ("none", None)], ids=["safe", "tool", "none"]
)
def test_the_pace_that_is_asked_for_is_typed_in(pace: str, typed: Pace | None) -> None:
    asked = dataclasses.replace(SMALL, pace=pace)  # type: ignore[arg-type]
    (look,) = looks(asked, {"office365": None})
    (lane,) = look.candidate.lanes(look.as_of)
    assert (look.setting, lane.pace, lane.connections) == (typed, typed, 1)


def test_a_channel_without_a_setting_has_none_typed_in() -> None:
    for pace in ("safe", "tool", "none"):
        (look,) = looks(dataclasses.replace(SMALL, pace=pace), {"sparkpost": None})
        assert look.setting is None


def test_what_is_tried_again_is_not_lost() -> None:
    more = Asked(senders=25, per_sender=44, group_email=0)
    by_hand, again = (
        looks(dataclasses.replace(more, retry=retry), {"sparkpost": None})[0].more() for retry in ("hand", "again")
    )
    assert (by_hand.lost, by_hand.late) == (100, 0)
    assert (again.lost, again.late) == (0, 100)


def test_the_interval_is_wilsons_over_the_days_so_far() -> None:
    (look,) = looks(SMALL, {"own-postfix": None})
    widths = []
    for _ in range(3):
        look = look.more()
        low, high = look.interval
        widths.append(high - low)
    assert (look.done, high) == (3, 1.0)
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deadline": "08:00"}, "deadline must come after the start at 09:00, got 08:00"),
        ({"deadline": "09:00"}, "deadline must come after the start at 09:00, got 09:00"),
        ({"senders": 0}, "senders must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_asked_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        looks(dataclasses.replace(SMALL, **changes))  # type: ignore[arg-type]
