"""What a provider thinks of an IP: the binomial draw, bands by plain arithmetic, and what the receiver does."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fake_servers.clock import VirtualClock
from fake_servers.ledger import Ledger
from fake_servers.server import Fake, Shared
from simlib.attempts import Attempts
from simlib.experiment import run
from simlib.provider import Provider
from simlib.receiver import Receiver
from simlib.replay import exact, record
from simlib.reputation import Day, Reputation, Rules, Standing, chance, complaints, left_out, mixed, parameters, shrunk
from simlib.scenario import Scenario
from simlib.summary import summarize

RULES = Rules.of({})
RAW = Rules.of({"memory_days": 1, "prior_messages": 0})
SURE = 0.999  # the intervals' probability, as for all checks against theory
DAY = 86400.0
MIDNIGHT = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)


# The numbers


def test_every_number_has_a_source_or_is_called_assumed() -> None:
    assert set(Rules.model_fields) == {one.id for one in parameters()}
    sourced = [one for one in parameters() if one.grade != "assumed"]
    assert [one.id for one in sourced if not one.source or one.as_of is None or one.review_by is None] == []
    assert {one.id for one in parameters() if not one.rests_on_assumption} == {"listed_days"}
    assert [one.id for one in left_out()] == ["domain_reputation"]


@pytest.mark.parametrize(
    ("own", "complaint"),
    [
        ({"lowest": 1}, "reputation: lowest: unknown key (value 1)"),
        ({"low": 0}, "reputation: low: must be greater than 0, got 0"),
        ({"low": 0.6}, "low must be at most medium, which is 0.5, got 0.6"),
        ({"aim": 0.004}, "aim must be at most the ceiling of 0.003, got 0.004"),
        ({"memory_days": 0}, "reputation: memory_days: must be greater than or equal to 1, got 0"),
        ({"recovery_days": "7d"}, "reputation: recovery_days: must be a whole number, got '7d'"),
    ],
)
def test_a_number_that_can_not_be_is_refused(own: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match="reputation") as refused:
        Rules.of(own)
    assert complaint in str(refused.value)


# Complaints


@pytest.mark.parametrize("rate", [1e-5, 0.0005, 0.003, 0.02, 0.5, 0.97])
@pytest.mark.parametrize("messages", [1, 7, 333, 20_000, 500_000])
def test_complaints_are_a_quantile_of_the_binomial_distribution(messages: int, rate: float) -> None:
    lucks = [1e-9, 0.001, 0.123, 0.456, 0.77, 0.999, 0.999999]
    assert [int(stats.binom.ppf(luck, messages, rate)) for luck in lucks] == [
        complaints(messages, rate, luck) for luck in lucks
    ]


def test_luck_at_the_edge_belongs_to_the_larger_number() -> None:
    """Luck is in [0, 1), so nobody complains about a message with an even chance in one of two cases exactly."""
    assert [complaints(1, 0.5, luck) for luck in (0.0, 0.4999999, 0.5)] == [0, 0, 1]


def test_nobody_complains_or_everybody() -> None:
    assert [complaints(9, rate, luck) for rate in (0.0, 1.0) for luck in (0.0, 0.9999)] == [0, 0, 9, 9]
    assert [complaints(0, rate, 0.5) for rate in (0.0, 0.3, 1.0)] == [0, 0, 0]


@given(st.integers(0, 30_000), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1, exclude_max=True))
def test_a_higher_rate_never_brings_fewer_complaints(messages: int, one: float, other: float, luck: float) -> None:
    lower, higher = sorted([one, other])
    assert complaints(messages, lower, luck) <= complaints(messages, higher, luck)


def test_each_ip_provider_and_day_has_its_own_luck() -> None:
    opinion = Reputation(RULES)
    names = [(provider, ip, 0) for provider in ("google-mx", "yahoo-mx") for ip in ("192.0.2.1", "192.0.2.2")]
    found = [opinion.day(*name, 10**6, 10_000.0).complaints for name in (*names, ("google-mx", "192.0.2.1", 1))]
    assert len(set(found)) == len(found)


def test_chance_is_uniform_and_everybody_s_own() -> None:
    drawn = [chance(7, provider, day) for provider in ("google-mx", "microsoft-mx") for day in range(5_000)]
    assert stats.kstest(drawn, "uniform").pvalue > 1 - SURE
    assert len(set(drawn)) == len(drawn)
    assert 0 <= min(drawn) <= max(drawn) < 1


# The chance that a sound sender's daily rate reaches 0.3 % by luck, P(Bin(n, c) / n >= 0.3 %), worked out beforehand.
BY_LUCK = [
    *((100, 0.0005, 0.04878247), (333, 0.0005, 0.15341243), (1_000, 0.0005, 0.014359242)),
    *((100, 0.001, 0.095207853), (333, 0.001, 0.28334922), (1_000, 0.001, 0.080209343), (5_000, 0.001, 0.00022413743)),
]


@pytest.mark.parametrize(("messages", "rate", "probability"), BY_LUCK)
def test_bands_come_as_often_as_the_binomial_distribution_says(messages: int, rate: float, probability: float) -> None:
    times = 20_000
    bands = []
    for seed in range(times):
        opinion = Reputation(RAW, seed=seed)
        day = opinion.day("google-mx", "192.0.2.1", 0, messages, messages * rate)
        bands.append(Standing().after(day, RAW).band)
    low, high = stats.binom.interval(SURE, times, probability)
    assert low <= bands.count("low") <= high
    below_aim = stats.binom.cdf(np.ceil(RAW.aim * messages) - 1, messages, rate)
    low, high = stats.binom.interval(SURE, times, below_aim)
    assert low <= bands.count("high") <= high


# Mixing


@pytest.mark.parametrize(
    ("good", "bad", "line", "percent"),
    [
        *((0.0005, 0.01, 0.001, 5.263158), (0.0005, 0.01, 0.003, 26.315789)),
        *((0.0002, 0.005, 0.001, 16.666667), (0.0002, 0.005, 0.003, 58.333333)),
        *((0.0005, 0.02, 0.001, 2.564103), (0.0005, 0.02, 0.003, 12.820513)),
    ],
)
def test_a_pool_crosses_a_line_at_the_share_of_bad_mail_worked_out_by_hand(
    good: float, bad: float, line: float, percent: float
) -> None:
    below, above = (mixed([(100 - share, good), (share, bad)]) for share in (percent - 1e-5, percent + 1e-5))
    assert below < line < above


def test_one_tenant_alone_has_its_own_rate() -> None:
    assert mixed([(123, 0.0123)]) == pytest.approx(0.0123, rel=np.finfo(float).eps)
    assert mixed([]) == mixed([(0, 0.3)]) == 0


# Bands, day by day


def bands(days: list[Day], rules: Rules) -> list[str]:
    standing = Standing()
    found: list[str] = []
    for day in days:
        standing = standing.after(day, rules)
        found.append(standing.band)
    return found


@pytest.mark.parametrize(
    ("complaints", "band"), [(0, "high"), (9, "high"), (10, "medium"), (29, "medium"), (30, "low"), (10_000, "low")]
)
def test_the_lines_belong_to_the_worse_band(complaints: int, band: str) -> None:
    assert bands([Day(10_000, complaints)], RAW) == [band]


def test_the_low_band_is_left_after_seven_days_in_a_row() -> None:
    bad, good = Day(1000, 5), Day(1000, 0)
    assert bands([bad, *[good] * 8], RAW) == ["low"] * 7 + ["high"] * 2
    assert bands([bad, *[good] * 6, bad, *[good] * 7], RAW) == ["low"] * 14 + ["high"]
    assert bands([bad, *[Day(1000, 2)] * 7], RAW) == ["low"] * 7 + ["medium"]
    assert bands([bad, good], Rules.of({"memory_days": 1, "prior_messages": 0, "recovery_days": 0})) == ["low", "high"]


def test_a_bad_day_is_remembered_for_thirty() -> None:
    # (100 + 0.5) / (1000 + 10,000 d) falls below 0.3 % on day 4, and below 0.1 % on day 10: the seventh in a row
    days = [Day(10_000, 100), *[Day(10_000, 0)] * 40]
    rates = [100.5 / (1000 + 10_000 * day) for day in range(1, 31)]
    first = next(day for day, rate in enumerate(rates, 1) if rate < RULES.ceiling)
    assert (first, next(day for day, rate in enumerate(rates, 1) if rate < RULES.aim)) == (4, 10)
    assert bands(days, RULES) == ["low"] * 9 + ["high"] * 32
    assert shrunk(days[:30], RULES) == rates[-1]
    assert shrunk(days[1:31], RULES) == 0.5 / 301_000


def test_an_idle_ip_is_forgotten() -> None:
    standing = Standing()
    for day in [Day(500, 500), *[Day(0, 0)] * (RULES.memory_days + RULES.recovery_days - 1)]:
        assert standing.band == ("low" if standing.days else "high")
        standing = standing.after(day, RULES)
    assert (standing.band, shrunk(standing.days, RULES)) == ("high", RULES.prior_rate)
    assert shrunk([Day(0, 0)], Rules.of({"prior_messages": 0})) == RULES.prior_rate


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), min_size=1, max_size=40),
    *(st.floats(0, 0.05), st.floats(0, 0.05), st.floats(0, 0.05), st.integers(0, 1000)),
)
def test_raising_a_neighbour_s_complaint_rate_never_helps(
    volumes: list[tuple[int, int]], ours: float, one: float, other: float, seed: int
) -> None:
    better, worse = Standing(), Standing()
    opinion = Reputation(RULES, seed=seed)
    for number, (us, they) in enumerate(volumes):
        lower, higher = (us * ours + they * rate for rate in sorted([one, other]))
        better = better.after(opinion.day("google-mx", "192.0.2.1", number, us + they, lower), RULES)
        worse = worse.after(opinion.day("google-mx", "192.0.2.1", number, us + they, higher), RULES)
        assert RULES.scale(better.band) >= RULES.scale(worse.band)
        assert better.good_days >= worse.good_days


def test_each_band_leaves_its_share() -> None:
    assert [RULES.scale(band) for band in ("high", "medium", "low", "blocked")] == [1, 0.5, 0.1, 0]


# The receiver

QUOTAS: dict[str, dict[str, Any]] = {
    "sliding": {"window": "sliding"},
    "fixed": {"window": "fixed", "anchor": "clock"},
    "token_bucket": {"window": "token_bucket", "burst": 60},
}


def mx(**quota: Any) -> Provider:
    every: dict[str, Any] = {
        "id": "quota",
        "count": "messages",
        "per": "ip",
        "limit": "60/min",
        "on_excess": "defer",
        "at": "EOD",
    }
    limits = [every | QUOTAS["sliding"] | quota]
    return Provider(name="mx", title="MX", role="delivery", credential="ip", auth=[], limits=limits)  # type: ignore[arg-type]


def offered(receiver: Receiver, messages: int, now: float, ip: str = "192.0.2.1", domain: str = "us.example") -> int:
    """Offer so many at one moment; return how many are accepted."""
    session, _ = receiver.connect(ip, now)
    receiver.ehlo(session, now)
    accepted = 0
    for _ in range(messages):
        assert receiver.offer(session, f"rep01@{domain}", 1, now).code == 354
        reply = receiver.end_of_data(session, 1000, now)
        assert reply.accepted or reply[4:5] == ("mx/quota",)
        accepted += reply.accepted
    receiver.disconnect(session, now)
    return accepted


def reputed(provider: Provider, start: dt.datetime = MIDNIGHT, **own: Any) -> Receiver:
    rates = {"bad.example": 0.5, "so-so.example": 0.004}
    return Receiver(provider, start=start, reputation=Reputation(Rules.of(own), rates))


@pytest.mark.parametrize("kind", QUOTAS)
def test_a_bad_day_leaves_a_tenth_of_the_quota_until_the_low_band_is_left(kind: str) -> None:
    receiver = reputed(mx(**QUOTAS[kind]), memory_days=1, prior_messages=0)
    assert offered(receiver, 100, 0, domain="bad.example") == 60
    assert (receiver.band("192.0.2.1", DAY - 90), offered(receiver, 100, DAY - 90)) == ("high", 60)
    taken = [offered(receiver, 100, DAY * day + 600) for day in range(1, 10)]
    assert taken == [6, 6, 6, 6, 6, 6, 6, 60, 60]
    assert receiver.band("192.0.2.1", DAY * 10) == "high"


@pytest.mark.parametrize("kind", QUOTAS)
def test_what_is_left_comes_back_at_its_own_rate(kind: str) -> None:
    receiver = reputed(mx(**QUOTAS[kind]), memory_days=1, prior_messages=0)
    offered(receiver, 60, 0, domain="bad.example")
    assert sum(offered(receiver, 1, DAY + second) for second in range(600)) == 60 + (5 if kind == "token_bucket" else 0)


def test_each_ip_has_its_own_reputation() -> None:
    receiver = reputed(mx(), prior_messages=0)
    assert offered(receiver, 60, 0, domain="bad.example") == 60
    assert offered(receiver, 60, 0, ip="192.0.2.2", domain="us.example") == 60
    assert [receiver.band(ip, DAY) for ip in ("192.0.2.1", "192.0.2.2", "192.0.2.3")] == ["low", "high", "high"]
    assert offered(receiver, 60, DAY, ip="192.0.2.2") == 60


def test_everybody_on_an_ip_shares_its_reputation() -> None:
    receiver = reputed(mx(), prior_messages=0)
    offered(receiver, 30, 0, domain="bad.example")
    offered(receiver, 30, 0, domain="us.example")
    assert offered(receiver, 60, DAY, domain="us.example") == 6


def test_days_are_those_of_the_provider_s_clock() -> None:
    receiver = reputed(mx(), start=MIDNIGHT.replace(hour=18))
    offered(receiver, 60, 0, domain="bad.example")
    assert [receiver.band("192.0.2.1", hours * 3600) for hours in (5.99, 6, 6.01)] == ["high", "low", "low"]


def test_a_session_that_goes_on_past_midnight_meets_the_new_quota() -> None:
    receiver = reputed(mx())
    session, _ = receiver.connect("192.0.2.1", DAY - 30)
    receiver.ehlo(session, DAY - 30)

    def one(now: float) -> int:
        receiver.offer(session, "rep01@bad.example", 1, now)
        return receiver.end_of_data(session, 1000, now).code

    assert [one(DAY - 30) for _ in range(30)] == [250] * 30
    assert [one(DAY) for _ in range(3)] == [451] * 3  # 30 in the last minute, and 6 may be
    assert [one(DAY + 30) for _ in range(7)] == [250] * 6 + [451]


@pytest.mark.parametrize(
    "other",
    [
        {"per": "domain"},
        {"count": "recipients"},
        {"count": "connections", "limit": 60, "window": None, "at": "CONNECT"},
    ],
    ids=["per domain", "recipients", "connections"],
)
def test_other_limits_are_not_scaled(other: dict[str, Any]) -> None:
    receiver = reputed(mx(**other))
    offered(receiver, 60, 0, domain="bad.example")
    offered(receiver, 60, 90, domain="so-so.example")
    assert receiver.band("192.0.2.1", DAY) == "low"
    assert offered(receiver, 60, DAY, domain="bad.example") == 60


def test_a_list_s_entry_is_a_band_of_its_own() -> None:
    receiver = Receiver(mx())
    receiver.blocked.add("192.0.2.1")
    assert [receiver.band(ip, 0) for ip in ("192.0.2.1", "192.0.2.2")] == ["blocked", "high"]


# In a scenario


def pool(rate: float = 0.2, reputation: Any = True, quota: Any = "20/h", **changes: Any) -> Scenario:
    """Us and a neighbour on one IP of a pool; two mailbox providers."""
    carried = {"name": "pool", "tenants": ["us", "they"], "to": {"google-mx": 0.5, "microsoft-mx": 0.5}}
    carried |= {"retry": ["2h"], "queue_lifetime": "2d"}
    return Scenario.build(
        {
            "name": "pool",
            "start": "2026-12-01T00:00",
            "duration": "40h",
            "tenants": [
                {"name": "us", "senders": 2, "arrivals": {"kind": "poisson", "rate": "2/h"}, "complaint_rate": 0.0005},
                {
                    **{"name": "they", "senders": 2, "neighbour": True, "complaint_rate": rate},
                    "arrivals": {"kind": "poisson", "rate": "8/h"},
                },
            ],
            "alternatives": {"pool": {"channels": [carried]}},
            "limits": {"google-mx/quota": quota, "microsoft-mx/quota": quota},
            "reputation": reputation,
        }
        | changes
    )


def refusals(attempts: Attempts) -> int:
    codes = np.array([kind[1] for kind in attempts.kinds])[attempts["kind"].astype(int)]
    return int(((codes >= 400) & (codes < 500)).sum())


def ours(scenario: Scenario, seed: int = 1, replication: int = 0) -> dict[str, float]:
    attempts = run(scenario, "pool", seed, replication)
    return summarize(attempts, scenario, scenario.lanes("pool"))["us"].numbers


def test_a_bad_neighbour_gets_us_deferred_from_the_second_day_on() -> None:
    attempts = run(pool(), "pool")
    codes = np.array([kind[1] for kind in attempts.kinds])[attempts["kind"].astype(int)]
    assert (codes[attempts["ended"] < DAY] == 250).all()
    assert ours(pool())["throttled"] > 0
    assert (ours(pool(rate=0.0005))["throttled"], ours(pool(reputation=False))["throttled"]) == (0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_a_worse_neighbour_never_gets_more_of_our_mail_through(seed: int) -> None:
    accepted = [ours(pool(rate=rate), seed)["accepted"] for rate in (0.0, 0.002, 0.01, 0.05, 0.2, 1.0)]
    assert accepted == sorted(accepted, reverse=True)


@pytest.mark.parametrize("reputation", [True, {"medium": 1, "low": 1}])
def test_without_limits_nothing_is_deferred(reputation: Any) -> None:
    assert refusals(run(pool(rate=1.0, reputation=reputation, quota="off"), "pool")) == 0


def test_with_every_multiplier_1_nothing_changes() -> None:
    whole = {"medium": 1, "low": 1}
    for quota in ("20/h", "6/h"):
        with_, without = (run(pool(reputation=one, quota=quota), "pool") for one in (whole, False))
        assert np.array_equal(with_.rows, without.rows, equal_nan=True)


def test_one_tenant_alone_in_a_pool_equals_dedicated() -> None:
    alone = pool().data
    channels = alone["alternatives"]["pool"]["channels"]
    channels[0]["tenants"] = ["us"]
    alone["tenants"][0]["complaint_rate"] = 0.2
    alone["alternatives"]["dedicated"] = {"channels": [{**channels[0], "name": "dedicated"}]}
    scenario = Scenario.build(alone)
    pooled, dedicated = (run(scenario, name).rows for name in ("pool", "dedicated"))
    assert np.array_equal(pooled, dedicated, equal_nan=True)


def test_complaints_differ_between_replications_and_repeat_with_the_seed() -> None:
    scenario = pool(rate=0.01, reputation={"prior_messages": 0})
    found = [ours(scenario, seed, replication) for seed, replication in ((1, 0), (1, 0), (1, 1), (2, 0))]
    assert found[0] == found[1]
    log = {
        (seed, replication): [
            one.day("google-mx", "127.0.1.1", day, 500, 5.0).complaints
            for one in [scenario.opinion(scenario.provider("google-mx"), seed, replication)]
            if one is not None
            for day in range(10)
        ]
        for seed, replication in ((1, 0), (1, 1), (2, 0))
    }
    assert len({tuple(one) for one in log.values()}) == 3
    assert "reputation: which mail is complained about" in scenario.random_parts()
    assert "reputation: which mail is complained about" not in pool(reputation=False).random_parts()


def test_a_blocklisted_pool_stops_and_recovers_after_three_days() -> None:
    listed = [{"kind": "blocklisted", "at": "6h", "channel": "pool", "ip": 1}]
    scenario = pool(rate=0.0, duration="6d", events=listed)
    attempts = run(scenario, "pool")
    codes = np.array([kind[1] for kind in attempts.kinds])[attempts["kind"].astype(int)]
    at = attempts["started"] / 3600
    stopped = (at >= 6) & (at < 6 + 72)
    assert set(codes[stopped]) == {550}
    assert set(codes[~stopped]) == {250}
    other = pool(rate=0.0, duration="6d", events=[{**listed[0], "repaired_after": "1d"}])
    codes = np.array([kind[1] for kind in run(other, "pool").kinds])[run(other, "pool")["kind"].astype(int)]
    assert set(codes[(at >= 30)]) == {250}


def test_a_listing_is_of_one_ip_of_one_channel() -> None:
    each = {"senders": 1, "arrivals": {"kind": "batches", "size": 1, "every": "1min"}}
    scenario = Scenario.build(
        {
            "name": "two channels",
            "duration": "1h",
            "tenants": [{"name": "us", **each}, {"name": "them", **each}],
            "alternatives": {
                "both": {
                    "channels": [
                        {"name": "ours", "tenants": ["us"], "to": "generic-mx", "ips": 2},
                        {"name": "theirs", "tenants": ["them"], "to": "generic-mx", "ips": 2},
                    ]
                }
            },
            "events": [{"kind": "blocklisted", "at": "30min", "channel": "theirs", "ip": 2}],
        }
    )
    attempts = run(scenario, "both")
    codes = np.array([kind[1] for kind in attempts.kinds])[attempts["kind"].astype(int)]
    ips = np.array(attempts.ips)[attempts["ip"].astype(int)]
    listed = (ips == "127.0.2.2") & (attempts["started"] >= 1800)
    assert set(ips) == {"127.0.1.1", "127.0.1.2", "127.0.2.1", "127.0.2.2"}
    assert (set(codes[listed]), set(codes[~listed])) == ({554}, {250})


def test_without_reputation_an_entry_stays() -> None:
    scenario = pool(
        reputation=False, duration="6d", events=[{"kind": "blocklisted", "at": "6h", "channel": "pool", "ip": 1}]
    )
    attempts = run(scenario, "pool")
    codes = np.array([kind[1] for kind in attempts.kinds])[attempts["kind"].astype(int)]
    assert set(codes[attempts["started"] >= 6 * 3600]) == {550}


def test_the_answer_names_what_it_assumes() -> None:
    def named(scenario: Scenario) -> dict[str, str]:
        found = {one["id"]: one["grade"] for one in scenario.rests_on(["pool"])}
        return {id_: grade for id_, grade in found.items() if id_.startswith("reputation/")}

    assumed = {f"reputation/{one.id}": one.grade for one in parameters() if one.rests_on_assumption}
    assumed |= {f"reputation/{one.id}": one.grade for one in left_out()}
    assert named(pool()) == assumed
    assert named(pool(reputation={"listed_days": 2})) == assumed | {"reputation/listed_days": "assumed"}
    assert named(pool(reputation=False)) == {}


def test_who_takes_mail_by_login_has_no_opinion_of_an_ip() -> None:
    scenario = pool()
    assert scenario.opinion(Provider.load("office365")) is None
    assert pool(reputation=False).opinion(scenario.provider("google-mx")) is None


@pytest.mark.parametrize(
    ("reputation", "complaint"),
    [
        ("yes", "reputation: "),
        ({"medium": 2}, "scenario: reputation: medium: must be less than or equal to 1, got 2"),
        ({"kappa": 1}, "scenario: reputation: kappa: unknown key (value 1)"),
    ],
)
def test_a_scenario_with_another_model_is_refused(reputation: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match="reputation") as refused:
        pool(reputation=reputation)
    assert complaint in str(refused.value)


def test_the_fakes_show_it_to_the_letter(tmp_path: Path) -> None:
    scenario = pool(rate=0.01, reputation={"prior_messages": 0})
    refused = []
    for seed in (1, 2, 3):
        log = record(scenario, "pool", scenario.messages(seed, 0), seed)
        refused.append([one.at for one in log if one.reply is not None and one.reply.limit])
        assert exact(tmp_path, scenario, "pool", seed).differences == ()
    assert sorted(bool(one) for one in refused) == [False, True, True]  # by luck
    assert min(at for one in refused for at in one) > DAY


def test_a_fake_that_is_reset_forgets_what_it_thought_and_keeps_thinking() -> None:
    opinion = Reputation(RULES, {"bad.example": 0.5})
    fake = Fake(mx(), dict, Shared(VirtualClock(), Ledger(None), MIDNIGHT), opinion)
    for _ in range(2):
        assert fake.receiver.band("192.0.2.1", 0) == "high"
        offered(fake.receiver, 60, 0, domain="bad.example")
        assert fake.receiver.band("192.0.2.1", DAY) == "low"
        fake.reset()
