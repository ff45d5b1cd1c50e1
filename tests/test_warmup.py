"""Warm-up schedules: the first day that carries a volume, and what has to go elsewhere until then."""

import pytest

from simlib.facts import check
from simlib.warmup import Warmup, warmups

# Worked out by hand from the published tables: the day, and how many percent of those days' mail go elsewhere.
BY_HAND = {
    "sparkpost": {500: (2, 30.00), 1_000: (3, 43.33), 5_000: (5, 65.20), 10_000: (6, 68.83), 50_000: (9, 71.40)},
    "sendgrid-manual": {500: (3, 56.67), 1_000: (4, 58.75), 5_000: (5, 73.40), 10_000: (6, 72.25), 50_000: (9, 71.86)},
    "sendgrid": {500: (2, 2.00), 1_000: (4, 22.80), 5_000: (8, 58.82), 10_000: (11, 60.43), 50_000: (15, 76.14)},
    "mailtrap": {500: (3, 20.67), 1_000: (6, 38.00), 5_000: (12, 63.63), 10_000: (15, 67.79), 50_000: (21, 77.23)},
    "braze-moderate": {500: (3, 56.67), 1_000: (4, 58.75), 5_000: (7, 63.86), 10_000: (8, 67.94), 50_000: (11, 74.25)},
    "braze-conservative": {500: (7, 72.86), 1_000: (10, 70.50), 5_000: (19, 70.58)},
}


def named(name: str) -> Warmup:
    return next(one for one in warmups() if one.name == name)


@pytest.mark.parametrize("name", BY_HAND)
def test_days_and_overflow_are_plain_arithmetic_on_the_tables(name: str) -> None:
    found = {volume: (named(name).days(volume), named(name).elsewhere(volume)) for volume in BY_HAND[name]}
    assert {
        volume: (day, round(100 * share, 2) if share is not None else None) for volume, (day, share) in found.items()
    } == BY_HAND[name]


def test_what_no_table_says_is_not_answered() -> None:
    assert named("braze-conservative").days(10_000) is None
    assert named("mailgun").days(1) is None
    assert named("mailgun").elsewhere(1) is None
    assert (named("ses").days(50_000), named("ses").days(50_001), named("ses").elsewhere(50_000)) == (45, None, None)


def test_a_table_that_doubles_goes_on() -> None:
    manual = named("sendgrid-manual")
    assert (manual.cap(17), manual.cap(18), manual.cap(20)) == (4_000_000, 8_000_000, 32_000_000)
    assert manual.days(32_000_001) == 21


def test_hourly_amounts_are_counted_by_the_day() -> None:
    assert (named("sendgrid").cap(1), named("sendgrid").cap(37)) == (480, None)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"amounts": [5, 4]}, "amounts must be at least 1 and never fall, got [5, 4]"),
        ({"amounts": [0, 4]}, "amounts must be at least 1 and never fall, got [0, 4]"),
        ({"full": 5}, "full_after and full belong together, got None and 5"),
    ],
)
def test_a_schedule_that_can_not_be_is_refused(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match="warmup") as refused:
        check(Warmup, {"name": "x", "title": "X", "per": "d", **fields}, "warmup")
    assert complaint in str(refused.value)


def test_days_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="day must be at least 1, got 0"):
        named("sparkpost").cap(0)


def test_every_schedule_has_a_source() -> None:
    assert [one.name for one in warmups() if not one.source or one.as_of is None or one.review_by is None] == []
