"""Warm-up schedules: the first day that carries a volume, what goes elsewhere until then, and who keeps one."""

import math
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simlib import plan
from simlib.attempts import Attempts
from simlib.channel import Route, routes
from simlib.experiment import run
from simlib.facts import check
from simlib.scenario import Scenario
from simlib.summary import summarize
from simlib.warmup import Allotment, Warmup, named, warmups
from simlib.workload import Messages

DAY = 86400.0

# Worked out by hand from the published tables: the day, and how many percent of those days' mail go elsewhere.
BY_HAND = {
    "sparkpost": {500: (2, 30.00), 1_000: (3, 43.33), 5_000: (5, 65.20), 10_000: (6, 68.83), 50_000: (9, 71.40)},
    "sendgrid-manual": {500: (3, 56.67), 1_000: (4, 58.75), 5_000: (5, 73.40), 10_000: (6, 72.25), 50_000: (9, 71.86)},
    "sendgrid": {500: (2, 2.00), 1_000: (4, 22.80), 5_000: (8, 58.82), 10_000: (11, 60.43), 50_000: (15, 76.14)},
    "mailtrap": {500: (3, 20.67), 1_000: (6, 38.00), 5_000: (12, 63.63), 10_000: (15, 67.79), 50_000: (21, 77.23)},
    "braze-moderate": {500: (3, 56.67), 1_000: (4, 58.75), 5_000: (7, 63.86), 10_000: (8, 67.94), 50_000: (11, 74.25)},
    "braze-conservative": {500: (7, 72.86), 1_000: (10, 70.50), 5_000: (19, 70.58)},
}


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


# Which message goes when


def by_day(at: list[float], days: int, begin: float = 0.0) -> list[int]:
    """Count what goes out on each day."""
    return [sum(begin + DAY * day <= one < begin + DAY * (day + 1) for one in at) for day in range(days)]


@pytest.mark.parametrize("name", [name for name in BY_HAND if name != "sendgrid"])
def test_each_day_takes_the_table_s_number_and_the_rest_goes_elsewhere(name: str) -> None:
    schedule, volume = named(name), 5_000
    day, percent = BY_HAND[name][volume]
    created_at = [DAY * (number + place / volume) for number in range(day + 2) for place in range(volume)]
    at = schedule.allot(created_at, ips=1)
    expected = [min(schedule.amounts[number], volume) for number in range(day)] + [volume] * 2
    assert by_day(at, day + 2) == expected
    assert [created for created, one in zip(created_at, at, strict=True) if one < math.inf] == [
        one for one in at if one < math.inf
    ]
    assert round(100 * sum(one == math.inf for one in at) / (volume * day), 2) == percent


@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.0, 1800.0, 3600.0, 40_000.0, 86_399.0])), max_size=40),
    st.sampled_from(["d", "h"]),
    st.sampled_from([None, 0.35]),
    st.sampled_from([None, 1]),
    st.sampled_from([0.0, 64_800.0]),
    st.booleans(),
)
def test_a_schedule_goes_on_wherever_it_was_left(
    created: list[tuple[int, float]],
    per: str,
    share: float | None,
    again: int | None,
    since_midnight: float,
    waits: bool,
) -> None:
    fields = {"amounts": (3, 5, 8), "per": per, "share_an_hour": share, "again_after": again}
    schedule = named("mailtrap").model_copy(update=fields)
    created_at = sorted(DAY * day + second for day, second in created)
    whole = schedule.allot(created_at, 1, since_midnight, 1, waits)
    left = Allotment(schedule, 1, since_midnight, 1, waits)
    assert [at for one in created_at for at in left.more([one])] == whole
    if waits:
        assert whole == sorted(whole)


def test_an_hourly_schedule_is_kept_by_the_hour() -> None:
    schedule = named("sendgrid")
    created_at = [3600.0 * hour + second for hour in range(48) for second in range(24)]
    assert by_day(schedule.allot(created_at, ips=1), 2) == [24 * 20, 24 * 24]
    morning = [float(second) for second in range(480)]  # what a day of 24 times 20 would have room for
    assert sum(one < math.inf for one in schedule.allot(morning, ips=1)) == 20
    assert schedule.allot(morning, ips=1, waits=True)[20::20] == [3600.0 * hour for hour in range(1, 24)]


def test_a_share_of_an_hour_is_whole_messages() -> None:
    """A fifth of seven is one: no hour takes more than its share."""
    schedule = named("mailtrap").model_copy(update={"amounts": (7,), "share_an_hour": 0.2})
    assert schedule.allot([0.0] * 5, ips=1, waits=True) == [3600.0 * hour for hour in range(5)]


def test_what_waits_goes_first_the_next_day() -> None:
    schedule = named("sparkpost")
    created_at = [0.0] * 500 + [DAY] * 400 + [2 * DAY] * 100
    at = schedule.allot(created_at, ips=1, waits=True)
    assert at == [0.0] * 200 + [DAY] * 500 + [2 * DAY] * 300
    assert schedule.allot(created_at, ips=2, waits=True) == [0.0] * 400 + [DAY] * 500 + [2 * DAY] * 100


def test_days_are_the_calendar_s() -> None:
    at = named("sparkpost").allot([0.0] * 300 + [4 * 3600.0] * 600, ips=1, since_midnight=20 * 3600.0, waits=False)
    assert [one for one in at if one < math.inf] == [0.0] * 200 + [4 * 3600.0] * 500
    at = named("sparkpost").allot([0.0] * 300, ips=1, since_midnight=20 * 3600.0, waits=True)
    assert at == [0.0] * 200 + [4 * 3600.0] * 100


def test_a_schedule_may_be_under_way_and_ends() -> None:
    schedule = named("mailtrap")
    assert sum(one < math.inf for one in schedule.allot([0.0] * 2_000, ips=1, day=7)) == 1_400 / 5
    created_at = [3600.0 * hour for hour in range(6) for _ in range(10_000)] + [DAY] * 60_000
    assert by_day(schedule.allot(created_at, ips=1, day=21), 2) == [57_000, 60_000]


def test_an_hour_takes_a_share_of_the_day_at_most() -> None:
    """Mailtrap's: 300 and 390 on the first days, 60 and 78 an hour."""
    schedule = named("mailtrap")
    at = schedule.allot([0.0] * 700, ips=1, since_midnight=DAY - 7200, waits=True)
    second = {7200 + 3600.0 * hour: 78 for hour in range(5)}
    assert Counter(at) == {0.0: 60, 3600.0: 60, **second, 7200 + DAY: 102, 10800 + DAY: 88}
    sent = schedule.allot([0.0] * 200 + [3600.0] * 200, ips=2)
    assert Counter(sent) == {0.0: 120, 3600.0: 120, math.inf: 160}


@pytest.mark.parametrize(
    ("name", "idle", "allowed"), [("sendgrid", 29, 1000), ("sendgrid", 30, 20), ("mailtrap", 60, 1000)]
)
def test_an_ip_that_was_idle_begins_again_where_that_is_published(name: str, idle: int, allowed: int) -> None:
    begun = [DAY * day for day in range(5)]
    back = [DAY * (5 + idle)] * 1000
    assert sum(one < math.inf for one in named(name).allot([*begun, *back], ips=1)) == 5 + allowed


@pytest.mark.parametrize(("idle", "allowed"), [(29, 1000), (30, 20)])
def test_an_ip_without_mail_from_the_beginning_was_idle_too(idle: int, allowed: int) -> None:
    at = named("sendgrid").allot([DAY * idle] * 1000, ips=1, day=37)
    assert sum(one < math.inf for one in at) == allowed


SHORT = Warmup(name="x", title="X", per="d", amounts=(2, 3, 7), again_after=3)


@given(st.lists(st.floats(0, 20), max_size=60), st.integers(1, 3), st.integers(1, 4), st.floats(0, 0.99))
def test_no_day_has_more_than_its_number_and_nobody_overtakes(
    days: list[float], ips: int, day: int, since: float
) -> None:
    created_at = [DAY * one for one in sorted(days)]
    for waits in (False, True):
        at = SHORT.allot(created_at, ips, since * DAY, day, waits)
        gone = [one for one in at if one < math.inf]
        assert gone == sorted(gone)
        assert len(at) == len(created_at)
        assert all(one >= created for one, created in zip(at, created_at, strict=True))
        sent = [int((one + since * DAY) // DAY) for one in gone]
        first = 1 - day
        for today, last in zip(sent, [sent[0] if sent else 0, *sent], strict=False):
            if today - last > 3:
                first = today
            most = SHORT.cap(today - first + 1)
            assert most is None or sent.count(today) <= ips * most
        assert len(gone) == len(at) or not waits


# Channels


def warming(days: int = 4, volume: int = 1_000, **dedicated: Any) -> Scenario:
    """Our mail over a new IP of our own, beside a pool with a neighbour."""
    to = {"google-mx": 0.5, "microsoft-mx": 0.5}
    own = {"name": "dedicated", "tenants": ["us"], "to": to, "warmup": "sparkpost", **dedicated}
    pool = {"name": "pool", "tenants": ["they"], "to": to, "ips": 2}
    return Scenario.build(
        {
            "name": "warming",
            "start": "2026-12-01T00:00",
            "duration": f"{days}d",
            "tenants": [
                {"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": volume, "every": "1d"}},
                {
                    **{"name": "they", "senders": 1, "neighbour": True},
                    "arrivals": {"kind": "batches", "size": 10, "every": "1h"},
                },
            ],
            "alternatives": {"dedicated": {"channels": [own, pool]}},
        }
    )


def sent(attempts: Attempts, channel: str) -> Any:
    """Return the attempts of our messages that went out over a channel."""
    over = [name == channel for name, *_ in attempts.queues]
    mine = attempts.messages.tenant[attempts["message"].astype(int)] == 0
    return attempts.rows[np.array(over)[attempts["queue"].astype(int)] & mine & ~np.isnan(attempts["started"])]


def test_what_a_new_ip_may_not_send_goes_over_the_pool() -> None:
    scenario = warming(overflow="pool")
    attempts = run(scenario, "dedicated")
    started = [attempts["started"][0:0], *[sent(attempts, name)[:, 8] for name in ("dedicated", "pool")]]
    assert by_day(started[1].tolist(), 4) == [200, 500, 1000, 1000]
    assert by_day(started[2].tolist(), 4) == [800, 500, 0, 0]
    ips = {attempts.ips[int(ip)] for ip in sent(attempts, "dedicated")[:, 4]}
    assert ips == {"127.0.1.1"}
    assert {attempts.ips[int(ip)] for ip in sent(attempts, "pool")[:, 4]} == {"127.0.2.1", "127.0.2.2"}
    found = summarize(attempts, scenario, scenario.lanes("dedicated"))["us"]
    assert (found.numbers["accepted"], found.numbers["delay_mean"]) == (4_000, 0)


def test_without_an_overflow_it_waits_and_the_answer_says_what_for() -> None:
    scenario = warming(days=6)
    attempts = run(scenario, "dedicated")
    # 1,000 a day are there, and 200, 500, 1,000, 2,000 and all may go
    assert by_day(sent(attempts, "dedicated")[:, 8].tolist(), 6) == [200, 500, 1000, 2000, 1300, 1000]
    found = summarize(attempts, scenario, scenario.lanes("dedicated"))["us"]
    left = [total - gone for total, gone in zip(range(1_000, 4_000, 1_000), accumulate([200, 500, 1000]), strict=True)]
    waited = DAY * (sum(left) + 300)  # 800, 1,300 and 1,300 wait over the first three nights, 300 over the fourth
    assert found.bound_by["warmup"] == waited
    assert found.numbers["delay_mean"] == waited / 6_000
    assert found.numbers["throttled"] == 0


def test_ips_share_the_mail_and_a_warm_ip_sends_all() -> None:
    assert len(sent(run(warming(days=1, overflow="pool", ips=3), "dedicated"), "dedicated")) == 600
    assert len(sent(run(warming(days=1, overflow="pool", warmup_day=3), "dedicated"), "dedicated")) == 1_000


def test_the_messages_are_the_same_whoever_carries_them() -> None:
    with_, without = warming(overflow="pool"), warming(overflow="pool", warmup_day=29)
    messages = with_.messages(1, 0)
    for scenario in (with_, without):
        _, found = routes(scenario.lanes("dedicated"), messages)
        carried = np.sort(np.concatenate([route.messages for route in found]))
        assert np.array_equal(carried, np.arange(len(messages)))
        assert all((np.diff(messages.created_at[route.messages]) >= 0).all() for route in found)


def test_a_load_takes_the_overflow_too_and_refuses_to_wait(tmp_path: Path) -> None:
    def written(scenario: Scenario, messages: Messages, through: bool = False) -> list[Route]:
        where = dict.fromkeys(("google-mx", "microsoft-mx"), ("127.0.0.1", "127.0.0.1", 2525))
        return plan.write(tmp_path, scenario, "dedicated", messages, where, through=through)

    scenario = warming(days=1, overflow="pool")
    messages = scenario.messages(1, 0)
    ours = [
        sum(int((messages.tenant[one.messages] == 0).sum()) for one in written(scenario, messages)[i : i + 2])
        for i in (0, 2)
    ]
    assert ours == [200, 800]
    with pytest.raises(ValueError, match="a relay knows no overflow"):
        written(scenario, messages, through=True)
    with pytest.raises(
        ValueError, match=r"channels\[dedicated\].warmup: mail that waits for another day is only simulated"
    ):
        written(warming(days=1), messages)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"warmup": "quick"}, "channels[dedicated]: warmup: unknown schedule 'quick' (there are: sparkpost, "),
        ({"warmup": "ses"}, "warmup: what ses allows each day isn't published: take another (there are: sparkpost, "),
        (
            {"overflow": "p"},
            "channels[dedicated].overflow: must be another channel of the alternative, got 'p' (there are: pool)",
        ),
        ({"overflow": "dedicated"}, "overflow: must be another channel of the alternative, got 'dedicated'"),
        ({"to": "office365"}, "warmup: is about the IPs that mailbox providers see; office365 takes mail from whoever"),
        ({"warmup": None, "overflow": "pool"}, "overflow belongs to a channel with a `warmup`, got 'pool'"),
        ({"warmup": None, "warmup_day": 2}, "warmup_day belongs to a channel with a `warmup`, got 2"),
        ({"warmup_day": 0}, "warmup_day: must be greater than or equal to 1, got 0"),
    ],
)
def test_keys_that_can_not_be_are_refused(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match="channels") as refused:
        warming(**keys)
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("pool", "complaint"),
    [
        ({"warmup": "mailtrap"}, "overflow: must be a channel that isn't being warmed up itself, got 'pool'"),
        ({"to": "office365"}, "overflow: must be a channel to mailbox providers, got 'pool', which goes to office365"),
    ],
)
def test_what_takes_the_overflow_has_to_be_able_to(pool: dict[str, Any], complaint: str) -> None:
    data = warming(overflow="pool").data
    data["alternatives"]["dedicated"]["channels"][1].update(pool)
    with pytest.raises(ValueError, match="overflow") as refused:
        Scenario.build(data)
    assert complaint in str(refused.value)


def test_a_schedule_with_an_assumed_field_is_named() -> None:
    rests = [
        one["id"] for name in ("braze-moderate", "sparkpost") for one in warming(warmup=name).rests_on(["dedicated"])
    ]
    assert [id_ for id_ in rests if id_.startswith("warmup/")] == ["warmup/braze-moderate"]
