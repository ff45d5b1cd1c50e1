"""What is offered: counts against what is due, streams that stay apart, and the real week it all derives from.

Counts are compared at 99.9 %, by a Poisson interval or a chi-square, with seeds written down before the first run.
"""

import csv
import datetime as dt
import itertools
import math
import os
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simlib.scenario import Scenario
from simlib.workload import (
    Day,
    Messages,
    Tenant,
    hourly_shape,
    observed_spread,
    offered,
    stream,
)

SEED, REPLICATIONS, CONFIDENCE = 20261201, 100, 0.999
HOUR, DAY = 3_600.0, 86_400.0
DATA = Path(__file__).parent.parent / "notebooks" / "data"
BUSY = Day(start=8 * HOUR, duration=10 * HOUR)


def tenant(*arrivals: dict[str, Any], **options: Any) -> Tenant:
    return Tenant.model_validate({"name": "us", "senders": 4, "arrivals": list(arrivals), **options})


def draws(one: Tenant, day: Day, replications: int = REPLICATIONS) -> list[Messages]:
    return [offered([one], day, SEED, replication) for replication in range(replications)]


def assert_counts(counts: Sequence[float] | Mapping[Any, float], due: Sequence[float] | Mapping[Any, float]) -> None:
    """Independent Poisson counts against their means: each small one by itself, the others together."""
    if isinstance(counts, Mapping) and isinstance(due, Mapping):
        assert set(counts) <= set(due)
        counts, due = [counts.get(key, 0) for key in due], list(due.values())
    pairs = list(zip(counts, due, strict=True))
    for count, mean in pairs:
        assert mean > 0 or count == 0
    large = [(count, mean) for count, mean in pairs if mean >= 5]
    for count, mean in pairs:
        if mean < 5:
            alpha = (1 - CONFIDENCE) / len(pairs)
            assert stats.poisson.ppf(alpha / 2, mean) <= count <= stats.poisson.ppf(1 - alpha / 2, mean)
    distance = sum((count - mean) ** 2 / mean for count, mean in large)
    assert distance <= stats.chi2.ppf(CONFIDENCE, len(large))


# Counts against what is due


@pytest.mark.parametrize(("rate", "due"), [("0.072/s", 0.072), ("2000/h", 2000 / 3600), ("90/d", 90 / DAY)])
def test_poisson_arrivals_are_as_many_as_are_due(rate: str, due: float) -> None:
    runs = draws(tenant({"kind": "poisson", "rate": rate}), BUSY)
    low, high = stats.poisson.interval(CONFIDENCE, due * BUSY.duration * REPLICATIONS)
    assert low <= sum(map(len, runs)) <= high
    hours = np.histogram(np.concatenate([run.created_at for run in runs]), bins=10, range=(0, BUSY.duration))[0]
    assert_counts(hours.tolist(), [due * HOUR * REPLICATIONS] * 10)


def test_the_number_of_poisson_arrivals_is_as_spread_out_as_a_poisson_number() -> None:
    counts = [len(run) for run in draws(tenant({"kind": "poisson", "rate": "10/h"}), BUSY, 300)]
    # the index of dispersion of 300 Poisson numbers, and the gaps between arrivals
    dispersion = np.var(counts, ddof=1) / np.mean(counts) * 299
    low, high = stats.chi2.interval(CONFIDENCE, 299)
    assert low <= dispersion <= high


def test_times_between_poisson_arrivals_are_exponential() -> None:
    times = offered([tenant({"kind": "poisson", "rate": "1/s"})], BUSY, SEED, 0).created_at
    assert stats.kstest(np.diff(times), stats.expon.cdf).pvalue > 1 - CONFIDENCE


@pytest.mark.parametrize("start", [0.0, 8 * HOUR, 8 * HOUR + 1234, 23 * HOUR + 1800])
@pytest.mark.parametrize("duration", [1800.0, 10 * HOUR, 24 * HOUR, 60 * HOUR + 700])
def test_a_business_day_has_its_hours(start: float, duration: float) -> None:
    """Counted by the hour of the clock, wherever the scenario begins and however many days it lasts."""
    day = Day(start, duration)
    per_sender, senders, replications = 30.0, 40, 10
    runs = draws(tenant({"kind": "business_day", "per_sender": per_sender}, senders=senders), day, replications)
    with (files("simlib") / "business_day.toml").open("rb") as file:
        week = tomllib.load(file)["hours"]
    edges = [start, *np.arange((start // HOUR + 1) * HOUR, start + duration, HOUR), start + duration]
    due = {
        int(begin // HOUR): per_sender
        * senders
        * replications
        * week[int(begin // HOUR) % 24]
        / sum(week)
        * (end - begin)
        / HOUR
        for begin, end in itertools.pairwise(edges)
        if end > begin
    }
    assert_counts(Counter(int((start + at) // HOUR) for run in runs for at in run.created_at), due)
    assert all(0 <= at < duration for run in runs for at in run.created_at)


def test_a_business_day_lasts_24_hours_of_so_many_messages_a_sender() -> None:
    runs = draws(tenant({"kind": "business_day", "per_sender": 40.0}, senders=25), Day(0, DAY))
    low, high = stats.poisson.interval(CONFIDENCE, 40 * 25 * REPLICATIONS)
    assert low <= sum(map(len, runs)) <= high


@pytest.mark.parametrize(
    ("arrival", "options"),
    [
        ({"kind": "business_day", "per_sender": 40.0}, {}),
        ({"kind": "poisson", "rate": "100/h"}, {"spread": "observed"}),
        ({"kind": "batches", "size": 1000}, {"spread": "observed"}),
    ],
)
def test_an_observed_spread_gives_each_sender_its_share(arrival: dict[str, Any], options: dict[str, Any]) -> None:
    runs = draws(tenant(arrival, senders=10, **options), Day(0, DAY))
    total = sum(map(len, runs))
    senders = Counter(sender for run in runs for sender in run.sender.tolist())
    assert_counts([senders[number] for number in range(10)], [share * total for share in observed_spread(10)])


def test_an_even_business_day_gives_each_sender_as_much() -> None:
    runs = draws(tenant({"kind": "business_day", "per_sender": 40.0}, senders=10, spread="even"), Day(0, DAY))
    total = sum(map(len, runs))
    senders = Counter(sender for run in runs for sender in run.sender.tolist())
    assert_counts([senders[number] for number in range(10)], [total / 10] * 10)


def test_even_arrivals_are_dealt_to_the_senders_in_turn() -> None:
    run = offered([tenant({"kind": "poisson", "rate": "100/h"})], BUSY, SEED, 0)
    assert run.sender.tolist() == [number % 4 for number in range(len(run))]


def test_the_first_so_many_senders_share_what_is_theirs() -> None:
    day = Day(0, DAY)
    for arrival in (
        {"kind": "poisson", "rate": "100/h", "senders": 2},
        {"kind": "batches", "size": 10, "senders": 2},
        {"kind": "business_day", "per_sender": 40, "senders": 2},
    ):
        run = offered([tenant(arrival)], day, SEED, 0)
        assert set(run.sender.tolist()) == {0, 1}
    counts = [len(run) for run in draws(tenant({"kind": "business_day", "per_sender": 40.0, "senders": 2}), day)]
    low, high = stats.poisson.interval(CONFIDENCE, 40 * 2 * REPLICATIONS)
    assert low <= sum(counts) <= high


# Batches


def batch(day: Day = BUSY, **fields: Any) -> list[tuple[float, int]]:
    """When each message is due, and whose it is."""
    run = offered([tenant({"kind": "batches", **fields})], day, SEED, 0)
    return list(zip(run.created_at.tolist(), run.sender.tolist(), strict=True))


def test_a_batch_happens_once_at_a_time_of_day_or_of_the_scenario() -> None:
    assert batch(first="09:00", size=2) == [(HOUR, 0), (HOUR, 1)]
    assert batch(first="30min", size=2) == [(1800, 0), (1800, 1)]
    assert batch(first=dt.time(8, 0, 30), size=1) == [(30, 0)]
    assert batch(size=1) == [(0, 0)]


def test_a_batch_of_so_many_per_sender_gives_each_as_many() -> None:
    assert Counter(batch(first="09:00", per_sender=3)) == dict.fromkeys([(HOUR, k) for k in range(4)], 3)
    assert Counter(batch(first="09:00", per_sender=3, senders=2)) == dict.fromkeys([(HOUR, k) for k in range(2)], 3)


def test_a_batch_goes_round_the_senders_from_one_to_the_next() -> None:
    found = batch(first="9h", every="20min", size=3)
    assert found == [
        (9 * HOUR + moment, (number * 3 + k) % 4) for number, moment in enumerate((0, 1200, 2400)) for k in range(3)
    ]


@pytest.mark.parametrize(
    ("first", "expected"),
    [("0s", [0, 3, 6, 9]), ("30min", [0.5, 3.5, 6.5, 9.5]), ("07:30", [2.5, 5.5, 8.5]), ("02:00", [0, 3, 6, 9])],
)
def test_a_batch_repeats_within_the_scenarios_hours(first: str, expected: list[float]) -> None:
    assert [at / HOUR for at, _ in batch(first=first, every="3h", size=1)] == expected


def test_nothing_is_offered_at_or_after_the_end() -> None:
    assert batch(first="10h", size=1) == []
    assert batch(first="0s", every="5h", size=1) == [(0, 0), (5 * HOUR, 1)]


def test_batches_at_random_moments_are_as_many_as_are_due_after_the_first_may_come() -> None:
    runs = draws(tenant({"kind": "batches", "rate": "2/h", "first": "4h", "size": 5}), BUSY)
    moments = [at for run in runs for at in set(run.created_at.tolist())]
    low, high = stats.poisson.interval(CONFIDENCE, 2 * 6 * REPLICATIONS)
    assert low <= len(moments) <= high
    assert sum(map(len, runs)) == 5 * len(moments)
    hours = Counter(int(at // HOUR) for at in moments)
    assert_counts(hours, dict.fromkeys(range(4, 10), 2 * REPLICATIONS))


def test_messages_carry_the_tenants_recipients_and_bytes_and_the_arrivals_label() -> None:
    arrivals = [
        {"kind": "batches", "size": 2, "first": "1h", "label": "late"},
        {"kind": "batches", "size": 1, "label": "early"},
    ]
    run = offered([tenant(*arrivals, recipients=3, bytes=500)], BUSY, SEED, 0)
    assert [run.labels[label] for label in run.label] == ["early", "late", "late"]
    assert (run.recipients.tolist(), run.bytes.tolist()) == ([3, 3, 3], [500, 500, 500])
    assert run.ids() == ["us-0", "us-1", "us-2"]


def test_ids_tell_tenants_apart_and_fit_into_a_header() -> None:
    names = {"a b": "a.example", "a_b": "b.example", "ü@x": "c.example"}
    tenants = [tenant({"kind": "batches", "size": 2}, name=name, domain=domain) for name, domain in names.items()]
    ids = offered(tenants, BUSY, SEED, 0).ids()
    assert len(set(ids)) == 6
    assert all(id_.isascii() and " " not in id_ and "@" not in id_ for id_ in ids)


# Streams


def columns(messages: Messages, name: str) -> list[tuple[Any, ...]]:
    """Everything that one tenant offers, by name instead of position."""
    mine = messages.tenant == messages.tenants.index(name)
    ids = [id_ for id_, is_mine in zip(messages.ids(), mine, strict=True) if is_mine]
    return list(
        zip(
            ids,
            messages.created_at[mine].tolist(),
            [messages.addresses[sender] for sender in messages.sender[mine]],
            [messages.labels[label] for label in messages.label[mine]],
            messages.recipients[mine].tolist(),
            messages.bytes[mine].tolist(),
            messages.choice[mine].tolist(),
            strict=True,
        )
    )


US = tenant(
    {"kind": "business_day", "per_sender": 20.0, "label": "ordinary"},
    {"kind": "batches", "first": "09:00", "size": 7, "label": "campaign"},
    {"kind": "poisson", "rate": "5/h"},
)
EU = tenant({"kind": "poisson", "rate": "30/h", "label": "campaign"}, name="eu")


def test_another_tenant_changes_nobody_elses_messages() -> None:
    alone = columns(offered([US], BUSY, SEED, 3), "us")
    assert len(alone) > 50
    for tenants in ([US, EU], [EU, US]):
        assert columns(offered(tenants, BUSY, SEED, 3), "us") == alone


def test_another_arrival_changes_nothing_of_those_before_it() -> None:
    before = offered([US], BUSY, SEED, 0)
    more = US.model_copy(update={"arrivals": (*US.arrivals, EU.arrivals[0].model_copy(update={"label": "more"}))})
    after = offered([more], BUSY, SEED, 0)
    kept = after.label != after.labels.index("more")
    assert after.created_at[kept].tolist() == before.created_at.tolist()
    assert after.sender[kept].tolist() == before.sender.tolist()


def test_the_same_run_offers_the_same_and_another_run_something_else() -> None:
    run = columns(offered([US, EU], BUSY, SEED, 0), "us")
    assert columns(offered([US, EU], BUSY, SEED, 0), "us") == run
    assert columns(offered([US, EU], BUSY, SEED, 1), "us") != run
    assert columns(offered([US, EU], BUSY, SEED + 1, 0), "us") != run


def test_tenants_alike_in_all_but_name_offer_different_messages() -> None:
    other = US.model_copy(update={"name": "you"})
    run = offered([US, other], BUSY, SEED, 0)
    assert [row[1] for row in columns(run, "us")] != [row[1] for row in columns(run, "you")]


def test_messages_come_in_the_order_of_their_creation() -> None:
    run = offered([US, EU], BUSY, SEED, 0)
    assert np.all(np.diff(run.created_at) >= 0)
    for name in ("us", "eu"):
        ids = [row[0] for row in columns(run, name)]
        assert ids == [f"{name}-{number}" for number in range(len(ids))]


def test_the_same_messages_arrive_in_every_alternative() -> None:
    channel = {"name": "channel", "tenants": ["us"]}
    scenario = Scenario.build(
        {
            "name": "two ways",
            "duration": "10h",
            "tenants": [{"name": "us", "senders": 4, "arrivals": {"kind": "poisson", "rate": "30/h"}}],
            "alternatives": {
                "one": {"channels": [{**channel, "to": "office365"}]},
                "other": {"channels": [{**channel, "to": {"google-mx": 0.5, "microsoft-mx": 0.5}, "ips": 4}]},
            },
        }
    )
    only = {name: {"channels": [{**channel, "to": "sparkpost"}]} for name in ("third",)}
    fewer = Scenario.build({**scenario._data, "alternatives": only})
    assert columns(scenario.messages(1, 0), "us") == columns(fewer.messages(1, 0), "us")


def test_streams_are_known_by_name() -> None:
    def first(*key: Any) -> float:
        return float(stream(*key).random())

    assert first(1, 0, "us", "times") == first(1, 0, "us", "times")
    others = [
        (2, 0, "us", "times"),
        (1, 1, "us", "times"),
        (1, 0, "eu", "times"),
        (1, 0, "us", "senders"),
        (1, 0, "ustimes"),
    ]
    assert len({first(1, 0, "us", "times"), *(first(*key) for key in others)}) == 6


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_a_message_goes_whole_to_one_provider_by_its_share(weights: list[int]) -> None:
    shares = {f"mx{number}": weight / sum(weights) for number, weight in enumerate(weights)}
    run = offered([US, EU], BUSY, SEED, 0)
    goes = np.array([run.goes_to(["us"], shares, provider) for provider in shares])
    assert (goes.sum(axis=0) == (run.tenant == 0)).all()


def test_shares_are_kept() -> None:
    shares = {"google-mx": 0.5, "microsoft-mx": 0.3, "yahoo-mx": 0.2}
    runs = draws(tenant({"kind": "poisson", "rate": "100/h"}), BUSY)
    total = sum(map(len, runs))
    counts = [sum(int(run.goes_to(["us"], shares, provider).sum()) for run in runs) for provider in shares]
    assert sum(counts) == total
    assert_counts(counts, [share * total for share in shares.values()])


# The real week


def week() -> list[tuple[float, str, int]]:
    with (DATA / "eu_core_week.csv").open(encoding="utf-8", newline="") as file:
        return [(float(row["seconds"]), row["sender"], int(row["recipients"])) for row in csv.DictReader(file)]


def test_business_day_toml_is_what_the_week_says() -> None:
    with (files("simlib") / "business_day.toml").open("rb") as file:
        facts = tomllib.load(file)
    working = [(at, sender) for at, sender, _ in week() if at < 5 * DAY]
    hours = Counter(int(at % DAY // HOUR) for at, _ in working)
    volumes = Counter(Counter(sender for _, sender in working).values())
    assert facts["hours"] == [hours[hour] for hour in range(24)]
    assert facts["senders"] == [[volume, volumes[volume]] for volume in sorted(volumes)]
    assert hourly_shape().tolist() == pytest.approx([hours[hour] / len(working) for hour in range(24)])


def test_the_busiest_day_is_cut_from_the_week() -> None:
    days = Counter(int(at // DAY) for at, _, _ in week())
    busiest, count = days.most_common(1)[0]
    with (DATA / "eu_core_busiest_day.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    cut = [
        {
            "time": f"{dt.timedelta(seconds=at - busiest * DAY)!s:0>8}",
            "sender": sender,
            "recipients": str(recipients),
        }
        for at, sender, recipients in week()
        if at // DAY == busiest
    ]
    assert rows == cut
    assert (busiest, count, len(cut), len({row["sender"] for row in cut})) == (0, 699, 699, 234)


def test_the_whole_week_has_its_figures() -> None:
    rows = week()
    figures = len(rows), len({sender for _, sender, _ in rows}), sum(recipients for *_, recipients in rows)
    assert figures == (3010, 438, 4682)


def test_an_observed_spread_is_the_weeks_whatever_the_number_of_senders() -> None:
    volumes = sorted(Counter(sender for at, sender, _ in week() if at < 5 * DAY).values(), reverse=True)
    assert observed_spread(len(volumes)).tolist() == pytest.approx([volume / sum(volumes) for volume in volumes])
    for senders in (1, 2, 3, 25, 400, 1000):
        shares = observed_spread(senders)
        assert shares.sum() == pytest.approx(1)
        assert (np.diff(shares) <= 1e-12).all()
        assert (shares > 0).all()
        # the busiest tenth of any team sends what the busiest tenth of the week's senders sent
        tenth = np.interp(0.1 * senders, np.arange(senders + 1), np.concatenate([[0], np.cumsum(shares)]))
        of_week = np.interp(0.1 * len(volumes), np.arange(len(volumes) + 1), np.concatenate([[0], np.cumsum(volumes)]))
        if senders % 10 == 0:
            assert tenth == pytest.approx(of_week / sum(volumes))


# Traces


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def traced(path: Path, **options: Any) -> Tenant:
    resample = options.pop("resample", "none")
    return Tenant.model_validate(
        {"name": "us", "arrivals": {"kind": "trace", "file": str(path), "resample": resample}, **options}
    )


def test_a_trace_is_offered_as_it_stands(tmp_path: Path) -> None:
    path = write(tmp_path / "trace.csv", "seconds,sender,recipients,bytes", "0,Ann,1,", "0,bob,2,700", "60.5,ann,3,0")
    run = offered([traced(path, bytes=500)], Day(0, DAY), SEED, 0)
    rows = columns(run, "us")
    assert [row[1:6] for row in rows] == [
        (0, "ann@us.example", "", 1, 500),
        (0, "bob@us.example", "", 2, 700),
        (60.5, "ann@us.example", "", 3, 500),
    ]
    again = columns(offered([traced(path, bytes=500)], Day(0, DAY), SEED + 1, 7), "us")
    assert [row[:6] for row in again] == [row[:6] for row in rows]


def test_a_trace_may_have_times_of_day(tmp_path: Path) -> None:
    lines = ["time,sender,recipients", "07:59:59,ann,1", "08:00,ann,1", "09:30:15.5,ann,1", "18:00,ann,1"]
    path = write(tmp_path / "trace.csv", *lines)
    assert offered([traced(path)], BUSY, SEED, 0).created_at.tolist() == [0, 5415.5]


def test_seconds_count_from_second_0_and_what_lies_outside_is_not_offered(tmp_path: Path) -> None:
    path = write(tmp_path / "trace.csv", "seconds,sender,recipients", "-1,a,1", "0,a,1", "59,a,1", "60,a,1")
    assert offered([traced(path)], Day(8 * HOUR, 60), SEED, 0).created_at.tolist() == [0, 59]


def test_a_traces_names_are_the_senders_by_volume_then_name(tmp_path: Path) -> None:
    names = ["zoe", "bob", "ann", "zoe", "bob", "kim", "ann", "zoe", "eve"]
    path = write(
        tmp_path / "trace.csv", "seconds,sender,recipients", *(f"{k},{name},1" for k, name in enumerate(names))
    )
    day = Day(0, DAY)
    everyone = ("zoe", "ann", "bob", "eve", "kim")
    assert traced(path).names(day) == everyone
    for kept in range(1, 6):
        run = offered([traced(path, senders=kept)], day, SEED, 0)
        assert run.addresses == tuple(f"{name}@us.example" for name in everyone[:kept])
        assert len(run) == sum(name in everyone[:kept] for name in names)
    with pytest.raises(ValueError, match="senders must be at most the 5 names of the trace, got 6"):
        traced(path, senders=6).names(day)


def test_other_arrivals_use_the_traces_senders_in_their_order(tmp_path: Path) -> None:
    path = write(tmp_path / "trace.csv", "seconds,sender,recipients", "0,ann,1", "1,zoe,1", "2,zoe,1")
    both = Tenant.model_validate(
        {
            "name": "us",
            "arrivals": [
                {"kind": "trace", "file": str(path), "resample": "none"},
                {"kind": "batches", "first": "1h", "size": 1, "label": "batch"},
            ],
        }
    )
    assert columns(offered([both], Day(0, DAY), SEED, 0), "us")[-1][2] == "zoe@us.example"


def test_resampling_gives_each_sender_the_rows_of_a_name_drawn_with_replacement(tmp_path: Path) -> None:
    """Each name has its own second and its own number of rows, so that its rows can be told."""
    rows = [(name * 1000 + row, f"s{name}") for name in range(5) for row in range(name + 1)]
    path = write(tmp_path / "trace.csv", "seconds,sender,recipients", *(f"{at},{name},1" for at, name in rows))
    day, drawn = Day(0, DAY), Counter[tuple[str, int]]()
    replications, all_different = 500, 0
    for replication in range(replications):
        run = offered([traced(path, resample="senders")], day, SEED, replication)
        by_sender: dict[str, list[float]] = {}
        for at, sender in zip(run.created_at.tolist(), run.sender.tolist(), strict=True):
            by_sender.setdefault(run.addresses[sender], []).append(at)
        assert len(by_sender) == 5
        all_different += len({times[0] for times in by_sender.values()}) == 5
        for address, times in by_sender.items():
            name = int(times[0] // 1000)
            assert times == [name * 1000 + row for row in range(name + 1)]
            drawn[address, name] += 1
    low, high = stats.binom.interval(CONFIDENCE, replications, math.factorial(5) / 5**5)
    assert low <= all_different <= high
    due = {(f"s{sender}@us.example", name): replications / 5 for sender in range(5) for name in range(5)}
    assert_counts(drawn, due)


def test_a_trace_that_changes_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "trace.csv", "seconds,sender,recipients", "0,ann,1")
    assert len(offered([traced(path)], Day(0, DAY), SEED, 0)) == 1
    write(path, "seconds,sender,recipients", "0,ann,1", "1,ann,1")
    os.utime(path, ns=(1, 1))
    assert len(offered([traced(path)], Day(0, DAY), SEED, 0)) == 2


def test_a_spreadsheets_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xef\xbb\xbfseconds,sender,recipients\r\n0,ann,1\r\n")
    assert len(offered([traced(path)], Day(0, DAY), SEED, 0)) == 1


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (["seconds,sender,recipients", "0,a,1", "9,a,1", "8.5,a,1"], ["line 4", "seconds", "'8.5'"]),
        (["time,sender,recipients", "09:00,a,1", "08:59,a,1"], ["line 3", "time", "'08:59'"]),
        (["seconds,sender,recipients", "soon,a,1"], ["line 2", "seconds", "'soon'"]),
        (["seconds,sender,recipients", "nan,a,1"], ["line 2", "seconds", "'nan'"]),
        (["seconds,sender,recipients", "inf,a,1"], ["line 2", "seconds", "'inf'"]),
        (["seconds,sender,recipients", ",a,1"], ["line 2", "seconds", "''"]),
        (["time,sender,recipients", "9 o'clock,a,1"], ["line 2", "time", '"9 o\'clock"']),
        (["time,sender,recipients", "24:00,a,1"], ["line 2", "time", "'24:00'"]),
        (["seconds,sender,recipients", "0,a,many"], ["line 2", "recipients", "'many'"]),
        (["seconds,sender,recipients", "0,a,nan"], ["line 2", "recipients", "'nan'"]),
        (["seconds,sender,recipients", "0,a,0"], ["line 2", "recipients", "'0'"]),
        (["seconds,sender,recipients", "0,a,-3"], ["line 2", "recipients", "'-3'"]),
        (["seconds,sender,recipients", "0,a,1.5"], ["line 2", "recipients", "'1.5'"]),
        (["seconds,sender,recipients", "0,a,1e30"], ["line 2", "recipients", "1e+30"]),
        (["seconds,sender,recipients", "0,a"], ["line 2", "recipients", "None"]),
        (["seconds,sender,recipients", "0,,1"], ["line 2", "sender", "''"]),
        (["seconds,sender,recipients", "0,Ann Bee,1"], ["line 2", "sender", "'Ann Bee'"]),
        (["seconds,sender,recipients", "0,a@b.example,1"], ["line 2", "sender", "'a@b.example'"]),
        (["seconds,sender,recipients,bytes", "0,a,1,-5"], ["line 2", "bytes", "'-5'"]),
        (["seconds,sender,recipients,bytes", "0,a,1,big"], ["line 2", "bytes", "'big'"]),
        (["sender,recipients", "a,1"], ["'time' is missing", "sender, recipients"]),
        (["seconds,recipients", "0,1"], ["'sender' is missing"]),
        (["seconds,sender", "0,a"], ["'recipients' is missing"]),
        ([], ["missing"]),
        (["seconds,sender,recipients"], ["no rows"]),
    ],
)
def test_a_trace_that_cannot_be_is_refused_with_file_line_and_value(
    tmp_path: Path, lines: list[str], named: list[str]
) -> None:
    path = write(tmp_path / "trace.csv", *lines)
    with pytest.raises(ValueError, match=r"trace\.csv") as caught:
        traced(path).names(Day(0, DAY))
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in [str(path), *named] if part not in message] == []


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"seconds,sender,recipients\n0,J\xfcrgen,1\n", "UTF-8"),
        (b'seconds,sender,recipients\n0,"a\rb",' + b"9" * 200_000, ""),
    ],
)
def test_what_is_no_csv_file_is_refused_by_name(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"trace\.csv") as caught:
        traced(path).names(Day(0, DAY))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_trace_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(ValueError, match=r"No such file|Is a directory") as caught:
            traced(path).names(Day(0, DAY))
        assert str(path) in str(caught.value)


# Tenants


@pytest.mark.parametrize(
    "domain", ["us.example", "us.test", "example.com", "mail.example.org", "us.invalid", "localhost"]
)
def test_a_tenants_domain_is_reserved(domain: str) -> None:
    assert tenant({"kind": "batches", "size": 1}, domain=domain).domain == domain


@pytest.mark.parametrize("domain", ["us.com", "notexample.com", "example.com.evil.org", "", "example.co", "us example"])
def test_a_domain_that_somebody_may_own_is_refused(domain: str) -> None:
    with pytest.raises(ValueError, match="reserved domain") as caught:
        tenant({"kind": "batches", "size": 1}, domain=domain)
    assert repr(domain) in str(caught.value)


@pytest.mark.parametrize(
    "arrival",
    [
        {"kind": "poisson", "rate": "-1/s"},
        {"kind": "poisson", "rate": "300/fortnight"},
        {"kind": "poisson", "rate": 3},
        {"kind": "poisson", "rate": "nan/s"},
        {"kind": "poisson"},
        {"kind": "business_day", "per_sender": -1},
        {"kind": "business_day", "per_sender": float("nan")},
        {"kind": "business_day", "per_sender": float("inf")},
        {"kind": "batches"},
        {"kind": "batches", "size": 1, "per_sender": 1},
        {"kind": "batches", "size": -1},
        {"kind": "batches", "size": 0},
        {"kind": "batches", "size": 1.5},
        {"kind": "batches", "size": 1, "first": "25:00"},
        {"kind": "batches", "size": 1, "first": "soon"},
        {"kind": "batches", "size": 1, "first": 3},
        {"kind": "batches", "size": 1, "every": "0s"},
        {"kind": "batches", "size": 1, "every": "1h", "rate": "1/h"},
        {"kind": "batches", "size": 1, "senders": 0},
        {"kind": "weekly", "size": 1},
        {"kind": "poisson", "rate": "1/s", "jitter": "1s"},
        {"kind": "trace"},
        {"kind": "trace", "file": "x.csv", "resample": "rows"},
    ],
)
def test_an_arrival_that_cannot_be_is_refused(arrival: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        tenant(arrival)


def test_only_a_trace_brings_its_own_senders() -> None:
    with pytest.raises(ValueError, match="senders is missing"):
        Tenant.model_validate({"name": "us", "arrivals": {"kind": "poisson", "rate": "1/s"}})


def test_an_arrival_cannot_have_more_senders_than_its_tenant() -> None:
    with pytest.raises(ValueError, match="senders must be at most the tenant's 4, got 5"):
        offered([tenant({"kind": "batches", "size": 1, "senders": 5})], BUSY, SEED, 0)
