"""A throttled IP slows down, and everybody on it: what the reactions say, message by message."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simlib.experiment import run
from simlib.facts import check
from simlib.reaction import Brake, Reaction, Window, named, reactions
from simlib.record import frame
from simlib.replay import exact
from simlib.scenario import Scenario
from simlib.sender import Ips
from simlib.summary import summarize

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
SOURCE = {"source": "made up for this test", "as_of": "2026-01-01"}
QUOTA = {"id": "quota", "count": "messages", "per": "ip", "on_excess": "defer", "at": "EOD", **SOURCE}
FIXED = {"window": "fixed", "anchor": "clock"}
THROTTLED = (421, "MAIL", True)
ACCEPTED = (250, "EOD", False)


def scenario(
    limit: str | dict[str, Any],
    *,
    size: int = 300,
    duration: str = "3h",
    extra: dict[str, Any] | None = None,
    **more: Any,
) -> Scenario:
    """A batch at second 0 over one IP to a mailbox provider that takes so many messages of an IP in some time."""
    limits = [{**QUOTA, **FIXED, "limit": limit} if isinstance(limit, str) else {**QUOTA, **limit}]
    channel = {"name": "c", "tenants": ["us"], "to": "mx", "connections": 5, "retry": ["20min"], **more}
    return Scenario.build(
        {
            **{"name": "throttled", "start": "2026-06-01T00:00", "duration": duration},
            "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": size}}],
            "alternatives": {"it": {"channels": [channel]}},
            "providers": {
                "mx": {"title": "MX", "role": "delivery", "credential": "ip", "auth": [], "limits": limits},
            },
            **(extra or {}),
        }
    )


def record(asked: Scenario, alternative: str = "it") -> pd.DataFrame:
    """The attempts of a run, in the order in which they began."""
    found = frame(run(asked, alternative), asked.zero)
    return found[found["started_at_s"].notna()].sort_values("started_at_s", kind="stable")


def most_at_once(found: pd.DataFrame) -> int:
    """How many attempts were under way at the same time."""
    moments = [(at, 1) for at in found["started_at_s"]] + [(at, -1) for at in found["ended_at_s"]]
    return int(np.cumsum([step for _, step in sorted(moments)]).max())


# KumoMTA's


@pytest.mark.parametrize("service", ["0s", "7s"])
def test_kumomta_sends_one_message_a_minute_for_90_minutes_and_then_resumes(service: str) -> None:
    found = record(scenario("20/min", reaction="kumomta", service=service))
    refused = np.flatnonzero(found["code"] == 451)
    begins = found["ended_at_s"].iloc[refused[0]]
    early = [place for place in refused if found["started_at_s"].iloc[place] < begins + 2 * MINUTE]
    last = found["ended_at_s"].iloc[early[-1]]
    later = found.iloc[refused[0] + 1 :]
    slowed = later[later["started_at_s"].between(begins, last + 90 * MINUTE, inclusive="left")]
    starts = slowed["started_at_s"].tolist()
    assert starts == [begins + MINUTE * number for number in range(math.ceil((last + 90 * MINUTE - begins) / MINUTE))]
    assert most_at_once(slowed) <= 1
    assert most_at_once(found[found["started_at_s"] >= last + 90 * MINUTE]) == (0 if service == "0s" else 5)
    assert (found["started_at_s"] == last + 90 * MINUTE).sum() > 1


def test_each_match_begins_the_90_minutes_anew() -> None:
    found = record(scenario("20/10min", reaction="kumomta"))
    refused = found.loc[found["code"] == 451, "started_at_s"]
    first = refused[refused < 90 * MINUTE]
    # 20 pass; the 21st is refused, and so is one a minute until the window opens
    assert first.tolist() == [0.0, *(MINUTE * number for number in range(10))]
    over = 9 * MINUTE + 90 * MINUTE
    starts = found.loc[found["started_at_s"].between(10 * MINUTE, over, inclusive="left"), "started_at_s"]
    assert starts.tolist() == [MINUTE * number for number in range(10, 99)]
    assert (found["started_at_s"] == over).sum() > 1


# Google's


def test_googles_ladder_is_silence_one_connection_and_one_more_at_a_time() -> None:
    found = record(scenario("25/h", reaction="google", service="2s", size=90, duration="2h"))
    times = [(at, code) for at, code in zip(found["started_at_s"], found["code"], strict=True)]
    # five at once each 2 s; the next five are refused at second 12
    assert times[:30] == [(2.0 * (number // 5), 250 if number < 25 else 451) for number in range(30)]
    # then one after each ten minutes of silence, until the window opens
    tries = [12 + 600 + 602 * number for number in range(6)]
    assert times[30:36] == [(at, 451 if at < HOUR else 250) for at in tries]
    # and then one connection more at a time: 1 message, 2, 3, 4, 5, 5, 5
    ladder = Counter(at for at, _ in times[35 : 35 + 25])
    assert ladder == {tries[5] + 2 * step: min(step + 1, 5) for step in range(7)}


def test_who_began_before_the_silence_brings_no_connection() -> None:
    ip = Brake(named("google"), connections=5)
    for at in (0.0, 1.0):
        ip.begin(at)
    ip.end(0.0, 10.0, *THROTTLED)
    ip.end(1.0, 700.0, *ACCEPTED)
    assert (ip.opens_at(), ip.allowed) == (700.0, 1)


def test_a_failure_on_the_ladder_is_ten_minutes_more() -> None:
    ip = Brake(named("google"), connections=5)
    ip.begin(0.0)
    ip.end(0.0, 1.0, *THROTTLED)
    for at in (601.0, 602.0):
        ip.begin(at)
        ip.end(at, at + 1, *ACCEPTED)
    assert ip.allowed == 3
    ip.begin(603.0)
    ip.end(603.0, 604.0, *THROTTLED)
    assert (ip.opens_at(), ip.allowed) == (1204.0, 1)


def test_a_reply_that_is_no_throttle_changes_nothing() -> None:
    ip = Brake(named("google"), connections=2)
    for code, stage in ((250, "EOD"), (550, "RCPT"), (451, "MAIL"), (421, "CONNECT"), (0, "EOD")):
        ip.begin(5.0)
        ip.end(5.0, 6.0, code, stage, throttled=False)
    assert ip.slowed_until == -math.inf


# Postfix's


def test_postfix_answers_to_refused_connections_only() -> None:
    found = record(scenario("20/h", reaction="postfix", service="2s"))
    assert record(scenario("20/h", service="2s")).equals(found)


def test_postfix_learns_how_many_connections_are_free() -> None:
    """A limit on connections is not one on what an IP sends in some time: only this reaction answers to it."""
    few = {"count": "connections", "limit": 3, "window": None, "on_excess": "close", "at": "CONNECT"}
    limit = {key: value for key, value in {**QUOTA, **few}.items() if value is not None}
    shares = {}
    for reaction in ("none", "kumomta", "postfix"):
        asked = scenario(limit, reaction=reaction, service="2s", connections=20, size=2_000, retry=["12h"])
        found = record(asked)
        shares[reaction] = float((found["code"] == 421).mean())
    assert shares["none"] == shares["kumomta"]
    assert shares["postfix"] < shares["none"] / 2


def test_a_place_opens_when_the_ladder_ends() -> None:
    """It is asked for how long a message could have gone: not since before the reaction."""
    ip = Brake(named("google"), connections=2)
    ip.begin(0.0)
    ip.end(0.0, 1.0, *THROTTLED)
    ip.begin(601.0)
    ip.end(601.0, 603.0, *ACCEPTED)
    assert ip.opens_at() == 603.0


def test_a_dead_destination_is_left_alone_for_five_minutes() -> None:
    """The window falls from 5 to 3 and 2, so the third failure fills a cohort: 1/5 + 1/3 + 1/2."""
    ip = Window(named("postfix"), connections=20)
    for at in range(5):
        ip.begin(float(at))
    for at in range(5):
        ip.end(float(at), 10.0 + at, 421, "CONNECT", throttled=False)
    assert (ip.destination.dead, ip.opens_at()) == (True, 312.0)
    ip.begin(312.0)
    assert (ip.destination.dead, ip.opens_at()) == (False, 312.0)


# On whom


TWO = [
    {"name": "us", "senders": 1, "arrivals": {"kind": "batches", "first": "10s", "size": 10}},
    {"name": "they", "neighbour": True, "senders": 1, "arrivals": {"kind": "batches", "size": 60}},
]


def beside(ours: str, reaction: str) -> dict[str, float]:
    """What becomes of ten messages beside a neighbour that is throttled, on the same IP or on another."""
    one = {"to": "mx", "connections": 5, "retry": ["20min"], "reaction": reaction}
    together = [{"name": "pool", "tenants": ["us", "they"], **one}]
    apart = [{"name": "own", "tenants": ["us"], **one}, {"name": "pool", "tenants": ["they"], **one}]
    alternatives = {"it": {"channels": together if ours == "same" else apart}}
    asked = scenario("50/min", extra={"tenants": TWO, "alternatives": alternatives})
    return summarize(run(asked, "it"), asked, asked.lanes("it"))["us"].numbers


@pytest.mark.parametrize(("reaction", "last"), [("kumomta", 18), ("google", 10)])
def test_a_neighbours_throttling_slows_us_on_its_ip_and_not_on_another(reaction: str, last: int) -> None:
    """The provider would take our mail after a minute; it is the pool's own reaction that we wait for."""
    assert beside("same", reaction)["finished_at"] >= last * MINUTE
    assert beside("same", "none")["finished_at"] < last * MINUTE + 20 * MINUTE
    assert beside("another", reaction)["finished_at"] == beside("another", "none")["finished_at"] == 10


def test_only_the_throttled_ip_of_a_pool_waits() -> None:
    ips = Ips(3, 1, named("google"), frozenset(["mx/quota"]))
    assert [ips.take(0.0) for _ in range(3)] == [0, 1, 2]
    for position in range(3):
        ips.begin(position, 0.0)
        ips.end(position, 0.0, 1.0, 421 if position == 1 else 250, "MAIL", "mx/quota" if position == 1 else "")
        ips.free(position)
    assert [ips.opens_at(position) <= 1.0 for position in range(3)] == [True, False, True]
    assert [ips.take(1.0), ips.take(1.0), ips.opens_at()] == [0, 2, 601.0]


def test_who_waits_for_a_reaction_waits_for_nothing_else() -> None:
    """Of six one is refused; ten come in the silence: five go after it, one is refused, four go after the next."""
    batches = [{"kind": "batches", "first": at, "size": size} for at, size in (("0s", 6), ("100s", 10))]
    tenants = [{"name": "us", "senders": 1, "arrivals": batches}]
    asked = scenario("5/min", reaction="google", retry=["12h"], extra={"tenants": tenants})
    found = summarize(run(asked, "it"), asked, asked.lanes("it"))["us"]
    assert found.numbers["accepted"] == 5 + 5 + 4
    assert found.bound_by["reaction"] == 5 * 500 + 4 * 1100
    assert sum(seconds for name, seconds in found.bound_by.items() if name != "reaction") == 0
    without = asked.replace(alternatives={"it": {"channels": {"c": {"reaction": "none"}}}})
    assert summarize(run(without, "it"), without, without.lanes("it"))["us"].bound_by["reaction"] == 0


def test_the_causes_add_up_to_the_delay() -> None:
    asked = scenario("20/min", reaction="kumomta", service="7s")
    found = summarize(run(asked, "it"), asked, asked.lanes("it"))["us"]
    total = found.numbers["delay_mean"] * found.numbers["accepted"]
    assert sum(found.bound_by.values()) == pytest.approx(total)
    assert 0 < found.bound_by["reaction"] < total
    assert found.bound_by["connections"] > 0  # before it began


@pytest.mark.parametrize("reaction", ["kumomta", "google", "postfix"])
def test_asked_again_each_ip_lets_every_message_go_when_it_went(reaction: str) -> None:
    """The provider refuses by IP, and surplus connections too; each address has a reaction of its own."""
    limits = [{**QUOTA, "limit": "20/h", "window": "sliding"}]
    surplus = {"count": "connections", "limit": 3, "on_excess": "close", "at": "CONNECT"}
    limits.append({**QUOTA, "id": "connections", **surplus})
    mx = {"title": "MX", "role": "delivery", "credential": "ip", "auth": [], "limits": limits}
    service = {"kind": "exponential", "mean": "9s"}
    more = {"reaction": reaction, "service": service, "session_setup": "1s", "ips": 3, "retry": ["7min"]}
    asked = scenario("20/h", extra={"providers": {"mx": mx}}, size=200, **more)
    found = record(asked)
    (lane,) = asked.lanes("it")
    assert lane.reaction is not None
    for _, rows in found.groupby("ip"):
        gate = lane.reaction.gate(lane.connections)
        ended = rows[rows["ended_at_s"].notna()]
        moments = [(row.started_at_s, row.started_at_s == row.ended_at_s, True, row) for row in rows.itertuples()]
        moments += [(row.ended_at_s, row.started_at_s == row.ended_at_s, False, row) for row in ended.itertuples()]
        for at, _, starts, row in sorted(moments, key=lambda one: (one[0], one[1], one[3].Index if one[1] else one[2])):
            if starts:
                assert gate.opens_at() <= at
                gate.begin(at)
            else:
                gate.end(row.started_at_s, at, row.code, row.stage, row.code == 451)
    assert found["ip"].nunique() == 3
    assert (found["code"] == 451).any()
    assert (found["code"] == 421).any()


# How many attempts


EPISODES = {"kumomta": 1 + 24 * 60, "google": 1 + 24 * 6 - 1}
"""A day's quota is used up at once. After the first refusal: one a minute from then on; or one each ten minutes."""


@pytest.mark.parametrize("reaction", EPISODES)
def test_an_episode_takes_as_many_attempts_as_arithmetic_says(reaction: str) -> None:
    found = record(scenario("100/d", reaction=reaction, size=300, duration="24h"))
    assert Counter(found["code"]) == {250: 100, 451: EPISODES[reaction]}


def test_without_a_reaction_all_that_waits_tries_again() -> None:
    found = record(scenario("100/d", size=300, duration="24h"))
    assert Counter(found["code"]) == {250: 100, 451: 200 * 24 * 3}


# Otherwise nothing changes


@pytest.mark.parametrize("reaction", ["none", *(one.name for one in reactions())])
def test_where_nothing_is_throttled_the_record_is_the_same_to_the_bit(reaction: str) -> None:
    more: dict[str, Any] = {"ips": 3, "service": {"kind": "exponential", "mean": "9s"}, "session_setup": "1s"}
    more |= {"messages_per_session": 7, "pace": "30/min"}
    before, now = (run(scenario("1000/h", **more, **key), "it") for key in ({}, {"reaction": reaction}))
    assert before.rows.tobytes() == now.rows.tobytes()
    assert before.kinds == now.kinds


# In any order


class PlainBrake:
    """The same said plainly: everything is found again in the list of what happened."""

    def __init__(self, reaction: Reaction, connections: int) -> None:
        self.reaction, self.connections = reaction, connections
        self.begun: list[float] = []
        self.ended: list[tuple[float, float, int, bool]] = []

    def may_begin(self, now: float) -> bool:
        reaction = self.reaction
        hits = [at for _, at, _, throttled in self.ended if throttled]
        under_way = len(self.begun) - len(self.ended)
        if not hits:
            return under_way < self.connections
        hit, allowed = hits[-1], reaction.connections or self.connections
        since = hit + reaction.silence
        after = self.ended[max(place for place, end in enumerate(self.ended) if end[3]) + 1 :]
        for began, at, code, _ in after:
            if reaction.step and code == 250 and began >= since and allowed < self.connections:
                allowed, since = allowed + reaction.step, at
        if (reaction.lasts is None and allowed >= self.connections) or now >= hit + (reaction.lasts or math.inf):
            return under_way < self.connections
        slow = [at for at in self.begun if any(0 <= at - one < (reaction.lasts or math.inf) for one in hits)]
        paced = reaction.pace is None or all(now - at >= 1 / reaction.pace.per_second for at in slow)
        return under_way < allowed and now >= hit + reaction.silence and paced


SLOW = Reaction(name="s", title="s", answers_to="throttling", connections=2, pace="1/3s", lasts="20s")  # type: ignore[arg-type]
LADDER = Reaction(name="l", title="l", answers_to="throttling", connections=1, silence="5s", step=1)  # type: ignore[arg-type]
STEPS = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 5, 9]), st.sampled_from(["", "", "250", "451", "550"]), st.integers(0, 9)),
    max_size=60,
)


@pytest.mark.parametrize("reaction", [SLOW, LADDER], ids=["slow", "ladder"])
@given(steps=STEPS)
def test_a_brake_does_what_a_plain_one_does(reaction: Reaction, steps: list[tuple[int, str, int]]) -> None:
    """Begin or end messages at random; one may begin exactly when the plain one says so."""
    ip, plain = Brake(reaction, connections=3), PlainBrake(reaction, connections=3)
    under_way: list[float] = []
    now = 0.0
    for pause, end, which in steps:
        now += pause
        room = len(under_way) < 3  # `Ips` sees to that
        assert (room and ip.opens_at() <= now) == plain.may_begin(now)
        if end and under_way:
            began = under_way.pop(which % len(under_way))
            ip.end(began, now, int(end), "EOD", throttled=end == "451")
            plain.ended.append((began, now, int(end), end == "451"))
        elif not end and plain.may_begin(now):
            ip.begin(now)
            plain.begun.append(now)
            under_way.append(now)


# The twin


@pytest.mark.parametrize("reaction", ["kumomta", "google", "postfix"])
def test_the_exact_replay_holds(reaction: str, tmp_path: Path) -> None:
    found = exact(tmp_path, scenario("30/h", reaction=reaction, service="2s", ips=2, size=150), "it")
    assert found.differences == ()
    assert found.replies > 300


# What a scenario says


def test_a_reaction_is_a_name() -> None:
    with pytest.raises(ValueError, match=r"channels\[c\]: reaction: unknown reaction 'kumo' \(there are: none, k"):
        scenario("20/h", reaction="kumo")


def test_a_submission_provider_sees_no_ip() -> None:
    with pytest.raises(ValueError, match=r"reaction: is about the IPs that mailbox providers see; office365 takes"):
        scenario("20/h", reaction="kumomta", to="office365")


def test_the_answer_says_that_it_rests_on_it() -> None:
    found = {one["id"] for one in scenario("20/h", reaction="google").rests_on(["it"])}
    assert "reaction/google" in found
    assert not any("reaction" in one["id"] for one in scenario("20/h").rests_on(["it"]))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"connections": 1}, "a reaction ends"),
        ({"lasts": "1h", "pace": 3}, "pace must be per s, min, h or d, got 3"),
        ({"initial": 5, "feedback": "2"}, "feedback must"),
    ],
)
def test_a_reaction_that_cannot_be_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check(Reaction, {"name": "x", "title": "x", "answers_to": "throttling", **wrong}, "reactions.toml")


def test_the_facts_are_the_published_ones() -> None:
    kumomta, google, postfix = reactions()
    assert (str(kumomta.pace), kumomta.connections, kumomta.lasts) == ("1/min", 1, 5400)
    assert (google.silence, google.connections, google.step, google.pace) == (600, 1, 1, None)
    assert (postfix.initial, postfix.feedback, postfix.resumes_after) == (5, "1", 300)
    assert all(one.grade == "A" and one.review_by for one in reactions())
