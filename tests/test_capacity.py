"""How much a channel takes in the long run, against closed forms. The seeds were written before the first run."""

import json
import math
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from scipy.optimize import brentq
from scipy.special import stdtrit

from simlib import theory
from simlib.capacity import MOST_REFUSED, PRECISION, WATCHED, _last_that, capacity
from simlib.cli import main
from simlib.scenario import Scenario

SOURCE = {"source": "made up for this test", "as_of": "2026-01-01"}
QUOTA = {"id": "quota", "count": "messages", "per": "account", "window": "sliding", "at": "EOD", **SOURCE}


def channel(*limits: dict[str, Any], senders: int = 1, tenants: int = 1, **more: Any) -> Scenario:
    """One channel to a provider that knows accounts, whose tenants happen to send a batch."""
    names = [f"us{number}" for number in range(tenants)]
    return Scenario.build(
        {
            "name": "steady",
            "start": "2026-06-01T00:00",
            "duration": "1h",
            "tenants": [
                {"name": name, "senders": senders, "arrivals": {"kind": "batches", "size": 3}} for name in names
            ],
            "alternatives": {"it": {"channels": [{"name": "channel", "tenants": names, "to": "plain", **more}]}},
            "providers": {
                "plain": {
                    **{"title": "Plain", "role": "submission", "credential": "account", "auth": ["PLAIN"]},
                    "limits": list(limits),
                }
            },
        }
    )


def per_hour(asked: Scenario, seed: int, replications: int = 8) -> list[float]:
    """Each replication's capacity, alone."""
    return [capacity(asked, "it", "channel", 1, seed + number).per_hour.mean or 0.0 for number in range(replications)]


def test_a_limit_that_refuses_is_at_the_closed_forms_loss() -> None:
    """A sliding window that counts accepted messages loses as Erlang says (99.9 % interval, and the search's width)."""
    found = per_hour(channel({**QUOTA, "limit": "20/min", "on_excess": "reject"}), seed=901)
    expected = 60 * brentq(lambda offered: theory.sliding_accepted_loss(20, offered) - MOST_REFUSED, 1, 20)
    half_width = stdtrit(len(found) - 1, 0.9995) * stdev(found) / math.sqrt(len(found))
    assert abs(fmean(found) - expected) <= half_width + PRECISION * expected


@pytest.mark.parametrize(
    ("more", "bound", "seed"),
    [
        ({"service": "6s"}, 600, 911),
        ({"service": {"kind": "exponential", "mean": "12s"}, "connections": 2}, 600, 921),
        ({"pace": "10/min"}, 600, 931),
    ],
)
def test_what_only_makes_mail_wait_is_used_up_but_for_the_runs_own_noise(
    more: dict[str, Any], bound: float, seed: int
) -> None:
    """Below the rate at which the queue grows for ever, by no more than the mean of eight runs' arrivals may be off."""
    noise = stdtrit(7, 0.9995) / math.sqrt(8 * bound / 3600 * WATCHED)
    assert bound * (1 - noise) <= fmean(per_hour(channel(**more), seed)) <= bound


def test_a_limit_that_holds_is_used_up_and_so_much_by_each_account() -> None:
    hold = {**QUOTA, "limit": "10/min", "on_excess": "hold_reply"}
    noise = stdtrit(7, 0.9995) / math.sqrt(8 * WATCHED / 6)
    # five of the twelve are simulated, since they have nothing in common: two runs are ten accounts
    for senders, replications in ((1, 8), (12, 2)):
        found = fmean(per_hour(channel(hold, senders=senders), 941, replications)) / senders
        assert 600 * (1 - noise) <= found <= 600


def test_a_days_quota_is_watched_for_days() -> None:
    """The 480 of a day are 20 an hour, up to what a day's Poisson arrivals vary."""
    found = fmean(per_hour(channel({**QUOTA, "limit": "480/d", "on_excess": "reject"}), 951))
    assert abs(found / 20 - 1) <= MOST_REFUSED + stdtrit(7, 0.9995) / math.sqrt(8 * 480)


def test_more_connections_never_carry_less() -> None:
    law = {"kind": "exponential", "mean": "10s"}
    found = [
        capacity(channel(service=law, connections=n), "it", "channel", 1, 961).per_hour.mean or 0 for n in (1, 2, 3)
    ]
    assert all(before < after for before, after in pairwise(found))


def test_tenants_on_a_channel_share_it() -> None:
    one, two = (capacity(channel(service="10s", tenants=n), "it", "channel", 2, 971).per_hour.mean for n in (1, 2))
    assert one is not None
    assert two is not None
    assert one < two <= 2 * 360  # each account has a connection of its own


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (channel(), "nothing bounds it"),
        (channel({**QUOTA, "limit": "1000000/h", "on_excess": "reject"}), "too many to simulate"),
    ],
)
def test_where_there_is_no_number_it_says_why(asked: Scenario, why: str) -> None:
    found = capacity(asked, "it", "channel")
    assert found.json()["mean"] is None
    assert why in found.why


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"it has no channel 'other' \(it has: channel\)"):
        capacity(channel(), "it", "other")
    with pytest.raises(ValueError, match="replications must be at least 1, got 0"):
        capacity(channel(), "it", "channel", 0)


@pytest.mark.parametrize("threshold", [0.02, 0.3, 0.55, 0.97, 2.0])
@pytest.mark.parametrize(("low", "high"), [(0.5, 1.0), (0.1, 0.11), (0.9, 0.95)])
def test_the_search_finds_the_last_rate_that_passes(threshold: float, low: float, high: float) -> None:
    found = _last_that(lambda rate: rate <= threshold, low, high, highest=1.0)
    assert found == pytest.approx(min(threshold, 1.0), rel=PRECISION)


def test_the_search_ends_where_nothing_passes() -> None:
    assert _last_that(lambda rate: False, 0.5, 1.0, highest=1.0) == 0


def test_compare_says_it_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "steady.json"
    path.write_text(json.dumps(channel({**QUOTA, "limit": "20/min", "on_excess": "reject"}).data))
    assert main(["compare", str(path), "--replications", "2", "--json"]) == 0
    assert "capacity_per_hour" not in json.loads(capsys.readouterr().out)["alternatives"]["it"]
    assert main(["compare", str(path), "--replications", "2", "--json", "--capacity"]) == 0
    found = json.loads(capsys.readouterr().out)["alternatives"]["it"]["capacity_per_hour"]
    assert set(found["channel"]) == {"mean", "low", "high", "random"}
    assert found["channel"]["low"] < found["channel"]["mean"] < 1200
    assert main(["compare", str(path), "--replications", "2", "--capacity"]) == 0
    said = capsys.readouterr().out
    assert f"  it: channel {found['channel']['mean']:,.0f} (" in said


def pool(tenants: list[dict[str, Any]], **more: Any) -> Scenario:
    """Return a pool of these and of us to a mailbox provider that takes 200 messages an hour."""
    us = {"name": "us", "senders": 1, "arrivals": {"kind": "poisson", "rate": "20/h"}}
    names = [one["name"] for one in tenants]
    channels = [{"name": "ours", "tenants": ["us"], "to": "google-mx", "service": "2s", **more}]
    channels += [{"name": "theirs", "tenants": names, "to": "google-mx", "service": "2s"}]
    return Scenario.build(
        {
            "name": "pool",
            "start": "2026-06-01T00:00",
            "duration": "1h",
            "tenants": [us, *tenants],
            "alternatives": {"it": {"channels": channels}},
            "limits": {"google-mx/quota": "200/h"},
            "reputation": {},
        }
    )


def test_many_customers_of_one_table_take_what_as_many_tables_would() -> None:
    sends = {"neighbour": True, "senders": 1, "arrivals": {"kind": "poisson", "rate": "30/h"}, "complaint_rate": 0.002}
    one_table = pool([{"name": "others", "count": 3, **sends}])
    three = pool([{"name": f"others-{number}", "domain": f"others-{number}.example", **sends} for number in (1, 2, 3)])
    found, expected = (capacity(asked, "it", "theirs", 2).per_hour for asked in (one_table, three))
    assert expected.mean
    assert found == expected
    drawn = pool([{"name": "others", "count": 3, **sends, "volumes": {"kind": "lognormal", "scv": 1}}])
    assert capacity(drawn, "it", "theirs", 1).per_hour.mean


def test_what_a_warmup_sends_elsewhere_is_not_the_new_ip_s_capacity() -> None:
    others = [{"name": "others", "senders": 1, "arrivals": {"kind": "poisson", "rate": "30/h"}}]
    overflowing, waiting, known = (
        capacity(pool(others, **more), "it", "ours", 1).per_hour.mean
        for more in ({"warmup": "mailtrap", "overflow": "theirs"}, {"warmup": "mailtrap"}, {})
    )
    assert known is not None
    assert waiting is not None
    assert overflowing == waiting < known
