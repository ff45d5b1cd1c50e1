"""How much is needed, how much fits, how sure that is: against exhaustive search and arithmetic; the words for it."""

import dataclasses
import datetime as dt
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from simlib.advice import LEAST_RUNS, Advice, advise, clock
from simlib.cli import main
from simlib.estimate import wilson
from simlib.facts import Rate
from simlib.option import Option, options
from simlib.pacing import fastest
from simlib.prices import Prices
from simlib.provider import Limit, Provider
from simlib.question import TRANSACTION, Candidate, from_scenario, from_team
from simlib.scenario import Scenario
from simlib.sender import Pace
from simlib.sentences import Sentences
from simlib.sizing import ERROR, MOST_OFFERED, capacity, decide, smallest, zone
from simlib.words import Words, languages

AS_OF = dt.date(2026, 11, 24)
AT_ONCE = {"service": "0s", "session_setup": "0s"}


def one(name: str, senders: int = 1, per_sender: int = 1, **asked: Any) -> Candidate:
    return from_team(senders, per_sender, have={name: None}, **asked)[0]


def team(**changes: Any) -> dict[str, Any]:
    """Return a scenario of one sender's 80 messages at nine, by one channel at its own pace."""
    return {
        "name": "80 at nine",
        "start": "09:00",
        "duration": "2h",
        "deadline": "10:00",
        "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": 80}}],
        "alternatives": {"Office 365": {"channels": [{"name": "o", "tenants": ["us"], "to": "office365"}]}},
        **changes,
    }


# Deciding


def wrong_calls(probability: float, confidence: float, experiments: int) -> int:
    """Count the calls that put a probability on the wrong side of the confidence."""
    rng = np.random.default_rng(4)
    reached = [decide(lambda run: bool(rng.random() < probability), confidence).reached for _ in range(experiments)]
    return sum(one is not (probability > confidence) for one in reached)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
def test_the_ends_of_the_zone_are_called_wrongly_as_seldom_as_promised(confidence: float) -> None:
    experiments = 500
    allowed = binom.ppf(0.999, experiments, ERROR)
    for probability in zone(confidence):
        assert wrong_calls(probability, confidence, experiments) <= allowed


def test_where_nothing_is_random_one_run_is_enough() -> None:
    trials = decide(lambda run: run == 0, 0.95, random=False)
    assert (trials.reached, trials.runs, trials.interval) == (True, 1, (1.0, 1.0))


def test_a_decision_may_take_more_runs_for_the_sake_of_its_interval() -> None:
    trials = decide(lambda run: False, 0.95, least=10)
    assert (trials.reached, trials.runs) == (False, 10)
    assert 0.27 < trials.interval[1] < 0.28  # Wilson's for none of ten


def test_undecided_runs_end_and_the_share_decides() -> None:
    rng = np.random.default_rng(1)
    trials = decide(lambda run: bool(rng.random() < 0.5), 0.5)
    assert trials.reached is (trials.done >= 0.5 * trials.runs)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, 2.0])
def test_a_confidence_that_nothing_reaches_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence must be more than 0 and less than 1"):
        decide(lambda run: True, confidence)
    with pytest.raises(ValueError, match="confidence must be more than 0 and less than 1"):
        advise(from_team(1, 1, have={"office365": None}), confidence)


# Searching


def at_least(needed: Callable[[int], float]) -> Callable[[int, int], bool]:
    """Return a channel that is done in a run by so many units, or more."""
    return lambda units, run: bool(units >= needed(run))


@pytest.mark.parametrize("random", [True, False])
def test_the_smallest_number_is_that_of_exhaustive_search(random: bool) -> None:
    for needed in range(1, 70):
        found = smallest(at_least(lambda run, needed=needed: needed), 0.95, random, most=64)  # type: ignore[misc]
        assert found == (needed if needed <= 64 else None)


def test_where_runs_differ_the_smallest_number_lies_in_the_zone() -> None:
    """Common random numbers: a run needs so many, whatever is tried. The truth is known from the distribution."""
    low, high = zone(0.9)
    searches, wrong = 150, 0
    for seed in range(searches):
        needs = np.random.default_rng(seed).normal(30, 3, 1000)
        found = smallest(at_least(lambda run, needs=needs: float(needs[run])), 0.9)  # type: ignore[misc]
        assert found is not None
        enough, one_less = float((needs <= found).mean()), float((needs <= found - 1).mean())
        wrong += enough < low or one_less > high
    assert wrong <= binom.ppf(0.999, searches, 2 * ERROR)  # two calls decide: that one and the one below


def test_a_search_that_begins_in_the_wrong_place_finds_back() -> None:
    """Run 0 alone says 3 or 60; the others say 25."""
    for misled in (3, 60):
        assert smallest(at_least(lambda run, misled=misled: 25 if run else misled), 0.9) == 25  # type: ignore[misc]


def test_mailboxes_are_counted_as_exhaustive_search_counts_them() -> None:
    asked = one("office365", 4, 200, start="09:00", deadline="09:10").change(AT_ONCE)
    candidate = asked.change({"pace": {"batch": 5, "wait": "12s"}})
    exhaustive = [units for units in range(1, 9) if candidate.over(units).day(1, 0, AS_OF).done]
    found = smallest(lambda units, run: candidate.over(units).day(1, run, AS_OF).done, 0.95, random=False)
    assert exhaustive == [4, 5, 6, 7, 8]  # 51 batches of 5 each in ten minutes: 255; 800 take four
    assert found == 4


def test_ips_are_counted_as_exhaustive_search_counts_them() -> None:
    asked = one("dedicated", 4, 400, start="09:00", deadline="09:01")
    exhaustive = [ips for ips in range(1, 6) if asked.over(ips).day(1, 0, AS_OF).done]
    found = smallest(lambda units, run: asked.over(units).day(1, 0, AS_OF).done, 0.95, random=False)
    assert found == min(exhaustive)
    assert 1 not in exhaustive  # ten connections in a minute, 0.83 s each


# Capacity


def test_the_capacity_is_exact_where_nothing_is_random() -> None:
    paced = {**AT_ONCE, "pace": {"batch": 5, "wait": "12s"}}
    candidate = one("office365", 3, 1, start="09:00", deadline="09:10").change(paced)
    assert capacity(candidate, 0.95, 1, AS_OF).messages == 3 * 255
    day_long = one("office365", 25, 1).change(paced)
    assert capacity(day_long, 0.95, 1, AS_OF).messages == 250_000  # 10,000 recipients a day each
    assert capacity(one("sparkpost", 25, 1), 0.95, 1, AS_OF).messages == 1_000


def test_a_capacity_beyond_what_is_searched_says_so() -> None:
    found = capacity(one("own-postfix"), 0.95, 1, AS_OF)
    assert (found.messages, found.or_more) == (MOST_OFFERED, True)


def test_the_capacity_is_done_with_the_confidence_asked_for() -> None:
    """20 connections, exponential transactions, five minutes: the volume found is done in nearly all other runs."""
    candidate = one("own-postfix", 1, 1, start="09:00", deadline="09:05").change({"connections": 2})
    found = capacity(candidate, 0.9, 1, AS_OF)
    send = one("own-postfix", 1, found.messages, start="09:00", deadline="09:05").change({"connections": 2})
    done = sum(send.day(2, run, AS_OF).done for run in range(100))
    assert done >= binom.ppf(0.001, 100, 0.9)
    assert found.messages < 2 * 300 / 0.83  # what two connections carry on average


def test_without_room_the_capacity_is_nothing() -> None:
    refused = one("office365", 2, 1, start="2027-01-15T09:00")
    assert capacity(refused, 0.95, 1, dt.date(2027, 1, 15)).messages == 0


# The pace to type


def windows(pace: Pace, spread: float, period: float) -> int:
    """Return how many messages at most some stretch of one period holds: the first batch late, all others in time."""
    starts = np.arange(int(period / pace.wait) + 3) * pace.wait
    times = np.sort(np.repeat(np.append(starts[1:], spread), pace.batch))
    return int((np.searchsorted(times, times + period, "left") - np.arange(len(times))).max())


@given(
    amount=st.integers(2, 60),
    period=st.sampled_from([1, 60, 600]),
    transaction=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
)
def test_no_stretch_of_time_holds_more_than_the_limit_at_the_pace_to_type(
    amount: int, period: int, transaction: float
) -> None:
    limit = Provider.load("office365").limit("messages-per-minute")
    pace = fastest([limit.model_copy(update={"limit": Rate(amount, float(period))})], transaction)
    if pace is not None:
        assert windows(pace, pace.batch * transaction, period) <= amount


@given(service=st.floats(0, 1, allow_nan=False), reading=st.sampled_from(["", "reject", "accept-late", "clock"]))
def test_the_pace_to_type_meets_no_limit_whatever_a_transaction_takes(service: float, reading: str) -> None:
    candidate = one("office365", 1, 150)
    setting = candidate.setting(AS_OF)
    assert setting is not None
    keys = {"service": f"{service:.3f}s", "session_setup": "0s"}
    typed = candidate.change({**keys, "pace": {"batch": setting.batch, "wait": f"{setting.wait:g}s"}})
    other = typed.read_as("office365/messages-per-minute", reading) if reading else typed
    assert other.day(1, 0, AS_OF).throttled == {}


def test_the_tools_example_meets_the_limit() -> None:
    day = one("office365", 1, 150).day(1, 0, AS_OF)
    assert day.throttled["office365/messages-per-minute"] > 0


def test_the_pace_keeps_every_published_reading() -> None:
    """Gmail's API takes 150 a minute, from newer projects 60."""
    minute = Provider.load("gmail-oauth").limit("messages-per-minute")
    newer = minute.read_as("new-project")
    assert one("gmail-oauth").setting(AS_OF) == fastest([minute, newer], TRANSACTION) != fastest([minute], TRANSACTION)


def test_what_is_shared_is_divided_over_the_senders() -> None:
    """Mailgun's 100 an hour are the domain's."""
    alone, five = one("mailgun").setting(AS_OF), one("mailgun", 5).setting(AS_OF)
    assert alone is not None
    assert five is not None
    assert 5 * five.batch / five.wait <= 100 / 3600
    assert alone.batch / alone.wait <= 100 / 3600


# The question


def test_a_team_offers_exactly_what_was_asked() -> None:
    messages = one("office365", 25, 40, group_email=1000).messages(1, 0)
    counts = Counter(messages.sender.tolist())
    assert len(messages) == 25 * 40 + 1000
    assert (counts[0], set(counts.values()) - {counts[0]}) == (1040, {40})
    assert messages.created_at.max() == 0


def test_another_number_of_mailboxes_gets_the_same_mail_in_equal_parts() -> None:
    candidate = from_team(25, 40, 1000, have={"office365": 10})[0]
    messages = candidate.messages(1, 0)
    counts = Counter(messages.sender.tolist())
    assert (candidate.units, set(counts.values()), len(counts)) == (10, {200}, 10)
    assert all(address.endswith("@team.example") for address in messages.addresses)


@pytest.mark.parametrize("first", [True, False])
def test_dealing_leaves_neighbours_as_they_are(first: bool) -> None:
    strangers = {"name": "them", "neighbour": True, "senders": 3, "arrivals": {"kind": "batches", "size": 9}}
    channel = {"name": "o", "tenants": ["us", "them"], "to": "office365"}
    us = {"name": "us", "senders": 2, "arrivals": {"kind": "batches", "size": 8}}
    tenants = [strangers, us] if first else [us, strangers]
    asked = Scenario.build(team(tenants=tenants, alternatives={"o": {"channels": [channel]}}))
    theirs, ours = (0, 1) if first else (1, 0)
    before = from_scenario(asked)[0].messages(1, 0)
    after = from_scenario(asked)[0].over(4).messages(1, 0)
    assert Counter(after.addresses[sender] for sender in after.sender[after.tenant == theirs]) == Counter(
        before.addresses[sender] for sender in before.sender[before.tenant == theirs]
    )
    dealt = Counter(after.addresses[sender] for sender in after.sender[after.tenant == ours])
    assert dealt == {f"rep0{number}@us.example": 2 for number in range(1, 5)}


def test_what_is_offered_after_the_deadline_does_not_count() -> None:
    later = {"kind": "batches", "size": 500, "first": "10:30"}
    arrivals = [{"kind": "batches", "size": 80}, later]
    asked = Scenario.build(team(tenants=[{"name": "us", "senders": 1, "arrivals": arrivals}]))
    day = from_scenario(asked)[0].day(1, 0, AS_OF)
    assert (day.done, day.offered, day.on_time, day.finished_at) == (True, 80, 80, 120)


def test_one_message_late_is_not_done() -> None:
    """80 at once leave at 0, 60 and 120 seconds."""
    asked = Scenario.build(team())
    in_time = from_scenario(asked, "09:02")[0].day(1, 0, AS_OF)
    assert (in_time.done, in_time.finished_at) == (True, 120)
    late = from_scenario(Scenario.build(team(deadline="09:01")))[0].day(1, 0, AS_OF)
    assert (late.done, late.offered, late.on_time, late.lost) == (False, 80, 60, 0)


def test_a_scenario_without_a_deadline_needs_one() -> None:
    data = {key: value for key, value in team().items() if key != "deadline"}
    with pytest.raises(ValueError, match="80 at nine: has no deadline"):
        from_scenario(Scenario.build(data))


def test_an_event_for_more_mailboxes_than_there_are_is_for_all_of_them() -> None:
    event = {"at": "1min", "kind": "password_change", "tenant": "us", "senders": 3}
    tenant = {"name": "us", "senders": 3, "arrivals": {"kind": "batches", "size": 90}}
    asked = from_scenario(Scenario.build(team(tenants=[tenant], events=[event])))[0]
    assert asked.over(2).scenario.events[0].senders == 2


def test_only_mailboxes_and_ips_can_be_counted() -> None:
    with pytest.raises(ValueError, match="sparkpost has neither mailboxes nor IPs to count, got 2"):
        one("sparkpost").over(2)


# The advice


@pytest.fixture(scope="module")
def typical() -> Advice:
    have = {"office365": 5, "sparkpost": None, "own-postfix": None, "dedicated": 1}
    asked: dict[str, Any] = {"senders": 5, "per_sender": 40, "group_email": 1000, "have": have}
    question = {**asked, "start": "09:00", "deadline": "17:30", "tool": "sales-connect"}
    return advise(from_team(**asked), question=question, as_of=dt.date(2026, 10, 1))


def test_a_typical_answer(typical: Advice) -> None:
    office, sparkpost, own, dedicated = typical.answers
    assert (office.trials.reached, office.lost, str(office.setting)) == (True, 0, "5 every 12 s")
    assert clock(office.candidate, office.finished.high) == "09:42"  # 1040 at 25 a minute
    assert (office.need.unit, office.need.count, office.largest.messages) == ("mailbox", 1, 50_000)
    assert (office.cap, office.shareable, office.failed_into) == (10_000, False, "Failed Delivery")
    assert (sparkpost.trials.reached, sparkpost.lost, sparkpost.setting) == (False, 200, None)
    assert (sparkpost.need.unit, sparkpost.need.count) == ("sparkpost/messages-per-day", 1_200)
    assert (sparkpost.binds[0], sparkpost.shareable) == ("sparkpost/messages-per-day", True)
    assert (own.trials.reached, [days for title, days in own.warmups()][:2]) == (True, [4, 5])
    assert (dedicated.need.unit, dedicated.trials.reached) == ("ip", True)


def test_what_ends_at_mailbox_providers_is_not_preferred_to_a_door(typical: Advice) -> None:
    assert typical.recommended is typical.answers[0]  # the own server needs an IP to be looked after
    only_dedicated = dataclasses.replace(typical, answers=typical.answers[3:])
    assert only_dedicated.recommended is typical.answers[3]
    none_at_the_door = dataclasses.replace(typical, answers=typical.answers[1::2])
    assert none_at_the_door.recommended is None


def test_typing_the_setting_makes_the_answer_independent_of_the_dispute(typical: Advice) -> None:
    office = typical.answers[0]
    rejected = next(reading for reading in office.readings if reading.name == "reject")
    assert (office.flips, rejected.reached, rejected.lost) == (False, True, 0)
    assert rejected.lost_as_is is not None
    assert rejected.lost_as_is > 100
    assert office.as_is is not None
    assert office.as_is.held > 1000


def test_a_pace_of_ones_own_is_kept_and_a_dispute_turns_its_answer() -> None:
    channel = {"name": "o", "tenants": ["us"], "to": "office365", "tool": "sales-connect"}
    own_pace = {**channel, "pace": {"batch": 80, "wait": "45s"}}
    asked = Scenario.build(team(alternatives={"o": {"channels": [own_pace]}}))
    answer = advise(from_scenario(asked)).answers[0]
    assert (answer.setting, answer.as_is, answer.trials.reached, answer.flips) == (None, None, True, True)
    flips = {one["reading"]: one["flips"] for one in advise(from_scenario(asked)).json()["readings"]}
    assert flips == {"reject": True, "accept-late": False, "clock": False}


def test_passwords_that_end_are_said_before_and_refused_after(typical: Advice) -> None:
    (change,) = typical.answers[0].changes
    assert (change.on, change.hits) == (dt.date(2026, 12, 31), True)
    later = advise(from_team(2, 5, have={"office365": None}), as_of=dt.date(2027, 1, 15)).answers[0]
    assert (later.trials.reached, later.changes, later.binds[0]) == (False, (), "550 5.7.30 at AUTH")
    assert (later.need.unit, later.need.count, later.with_oauth) == ("mailbox", None, True)
    assert typical.answers[0].with_oauth is None
    said = Sentences(advise((later.candidate,), as_of=later.as_of), Words("en")).answer()
    assert (
        said[1] == "office365 would, with OAuth in place of passwords, or if an administrator allows passwords again."
    )


def test_same_question_and_seed_same_answer() -> None:
    def found(seed: int) -> dict[str, Any]:
        return advise(from_team(2, 20, have={"office365": None, "own-postfix": None}), seed=seed).json()

    once, again, other = (found(seed) for seed in (1, 1, 2))
    assert once == again
    assert len({one["channels"]["own-postfix"]["finished_at"]["mean"] for one in (once, other)}) == 2


def test_what_it_costs_is_from_the_readers_own_file(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        'currency = "EUR"\ndays_a_month = 20\n[channels.office365]\nper_mailbox = 10\nonce = 5\n'
        "[channels.sparkpost]\nper_month = 20\nper_thousand = 0.5\n"
    )
    have = {"office365": None, "sparkpost": None, "own-postfix": None}
    answers = advise(from_team(3, 100, have=have), prices=Prices.load(path)).answers
    assert [(answer.cost, answer.once) for answer in answers] == [(30.0, 5.0), (23.0, 0.0), (None, None)]
    path.write_text('currency = "EUR"\ndays_a_month = 20\n[channels.office365]\nper_head = 10\n')
    with pytest.raises(ValueError, match=r"prices.toml: channels.office365.per_head: unknown key \(value 10\)"):
        Prices.load(path)


@pytest.mark.parametrize(
    ("seconds", "end", "shown"),
    [(0, True, "09:00"), (1, True, "09:01"), (60, True, "09:01"), (119.9, False, "09:01"), (86_400, True, "09:00+1")],
)
def test_moments_are_written_as_times_of_day(seconds: float, end: bool, shown: str) -> None:
    assert clock(one("office365"), seconds, end) == shown


def test_what_never_happens_has_no_time() -> None:
    assert clock(one("office365"), float("inf")) is None
    assert clock(one("office365"), None) is None


# Words


def test_all_languages_say_the_same_things() -> None:
    def fields(text: str) -> set[str]:
        return {part.partition("}")[0].partition(":")[0] for part in text.split("{")[1:]}

    tables = {language: Words(language).table for language in languages()}
    wanted = {key: fields(text) for key, text in tables["en"].items()}
    for language, table in tables.items():
        assert {key: fields(text) for key, text in table.items()} == wanted, language


def test_every_option_speaks_every_language() -> None:
    for option in options():
        assert set(languages()) <= set(option.title), option.name
        assert set(languages()) <= set(option.dkim), option.name
        assert option.steps, option.name


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_answer_comes_first_in_every_language(typical: Advice, language: str) -> None:
    said = Sentences(typical, Words(language))
    lines = said.lines()
    assert lines[2] == said.answer()[0]
    assert "Office 365" in lines[2]
    assert "09:42" in lines[2]
    assert "5" in said.setting(typical.answers[0])[0]
    assert not any("{" in line or "None" in line for line in lines)
    for row in said.table():
        assert all(row.values())


@pytest.mark.parametrize(
    ("language", "sure", "all_alike"),
    [("en", "20 of 20 days (84–100 %)", "every day"), ("ja", "20 日のうち 20 日（84～100 %）", "毎日")],
)
def test_how_sure_it_is_is_said_in_days(typical: Advice, language: str, sure: str, all_alike: str) -> None:
    words = Words(language)
    first, *_ = Sentences(typical, words).table()
    assert list(first.values())[1] == words.say("done_yes") + words.say("comma") + sure
    alike = advise(from_scenario(Scenario.build(team())), as_of=AS_OF)
    (row,) = Sentences(alike, words).table()
    assert list(row.values())[1] == words.say("done_yes") + words.say("comma") + all_alike


def test_the_interval_that_is_shown_does_not_contradict_the_decision() -> None:
    assert wilson(LEAST_RUNS, LEAST_RUNS)[0] > zone(0.95)[0]


def test_columns_stand_under_each_other_in_wide_letters_too(typical: Advice) -> None:
    from simlib.sentences import _width, aligned

    rows = Sentences(typical, Words("ja")).table()
    lines = aligned(rows)
    second = list(rows[0])[1]
    at = _width(lines[0].partition(second)[0])
    assert all(_width(line.partition(row[second])[0]) == at for line, row in zip(lines[1:], rows, strict=True))


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="lang must be one of en, ja, got 'fr'"):
        Words("fr")


# In a notebook


def test_facts_questions_and_answers_show_themselves_as_tables(typical: Advice) -> None:
    facts = Provider.load("office365")._repr_html_()
    assert "<td>30/min messages per account</td>" in facts
    assert "reject, accept-late, clock" in facts
    assert ">learn.microsoft.com</a>" in facts
    asked = Scenario.build(team(name="<b>80</b>"))._repr_html_()
    assert "&lt;b&gt;80&lt;/b&gt;: 2 h from 09:00, deadline 10:00" in asked
    assert "<td>80</td>" in asked
    answer = typical._repr_html_()
    assert "take office365" in answer
    assert "<td>1 mailbox</td>" in answer
    assert "<td>20 of 20</td>" in answer
    caption, head, *rows = str(typical).splitlines()
    assert (caption, head.split()[0], len(rows)) == ("take office365", "channel", 4)
    assert repr(typical) == "<Advice: take office365; 4 channels, seed 1, facts as of 2026-10-01>"
    assert repr(typical.answers[0]) == "<Answer 'office365': in time on 20 of 20 days, to type 5 every 12 s>"
    for shown in (facts, asked, answer):
        assert shown.count("<td>") == shown.count("</td>")


# The command

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Return a function that runs `sendlab size`: its exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main(["size", *map(str, words)])
        except SystemExit as end:  # argparse ends the process
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


TWO = ("--senders", 2, "--per-sender", 5)


def test_the_command_prints_one_document(say: Say) -> None:
    code, out, err = say(*TWO, "--have", "office365=2,sparkpost", "--json")
    found = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert (found["recommended"], found["senders"], found["deadline"]) == ("sparkpost", 2, "17:30")
    office = found["channels"]["office365"]
    assert (office["done"]["probability"], office["done"]["high"], office["have"]) == (1.0, 1.0, 2)
    assert office["setting"] == {"batch": 5, "wait_s": 12.0, "per_minute": 25.0, "into": "Email Connection Throttling"}


def test_no_channel_in_time_is_exit_1_and_says_what_would_do(say: Say) -> None:
    code, out, err = say("--senders", 1, "--per-sender", 1500, "--have", "sparkpost")
    assert (code, err) == (1, "")
    assert "None of the channels has everything accepted by 17:30 with a confidence of 95 %." in out
    assert "SparkPost would, with a limit sparkpost/messages-per-day of at least 1,500." in out


def test_a_scenario_can_be_asked_about(say: Say, tmp_path: Path) -> None:
    path = tmp_path / "team.json"
    path.write_text(json.dumps(team()), encoding="utf-8")
    code, out, err = say(path, "--deadline", "09:01", "--reading", "office365/messages-per-minute=reject", "--json")
    found = json.loads(out)
    assert (code, err) == (1, "")
    assert found["channels"]["Office 365"]["failed"]["messages"] == 50
    assert found["scenario"] == "80 at nine"


@pytest.mark.parametrize(("language", "where"), [("en", "written"), ("ja", "保存先")])
def test_where_the_card_is_is_said_in_its_language(say: Say, tmp_path: Path, language: str, where: str) -> None:
    card = tmp_path / "card.html"
    code, said, err = say(*TWO, "--have", "sparkpost", "--lang", language, "--card", card)
    assert (code, err, said.splitlines()[-1]) == (0, "", f"{where}: {card}")
    assert f'<html lang="{language}"' in card.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "size: needs --senders and --per-sender, or a scenario file"),
        (("--senders", 3), "size: needs --senders and --per-sender, or a scenario file"),
        (("--senders", 0, "--per-sender", 1), "argument --senders: must be a whole number of at least 1, got '0'"),
        ((*TWO, "--deadline", "08:00"), "deadline must come after the start at 09:00, got 08:00"),
        ((*TWO, "--start", "17:30"), "deadline must come after the start at 17:30, got 17:30"),
        ((*TWO, "--deadline", "25:00"), "argument --deadline: must be a time like '17:30', got '25:00'"),
        ((*TWO, "--confidence", 1), "argument --confidence: must be more than 0 and less than 1, like 0.95, got '1'"),
        ((*TWO, "--confidence", 0), "argument --confidence: must be more than 0 and less than 1, like 0.95, got '0'"),
        ((*TWO, "--confidence", "nan"), "argument --confidence: must be more than 0 and less than 1"),
        ((*TWO, "--have", "fax=3"), "unknown channel 'fax' (there are: office365, gmail-oauth, gmail, sparkpost,"),
        ((*TWO, "--have", "office365=0"), "argument --have: must be a whole number of at least 1, got '0'"),
        ((*TWO, "--have", "office365,office365"), "argument --have: names something twice"),
        ((*TWO, "--have", ""), "argument --have: has an empty entry"),
        ((*TWO, "--have", "sparkpost=3"), "sparkpost serves the whole team with one credential: write sparkpost"),
        ((*TWO, "--tool", "carrier-pigeon"), "unknown tool 'carrier-pigeon' (there are: access-crm,"),
        ((*TWO, "--lang", "fr"), "argument --lang: invalid choice: 'fr' (choose from"),
        ((*TWO, "--prices", "/nowhere.toml"), "/nowhere.toml: No such file or directory"),
        ((*TWO, "--card", "/nowhere/card.html"), "argument --card: must be a file in a folder that exists"),
        ((*TWO, "--reading", "gmail/x=y"), "reading: gmail/x is a limit of none of the channels office365"),
        (("nowhere.toml",), "nowhere.toml: No such file or directory"),
        (("nowhere.toml", "--senders", 3), "size: a scenario says by itself what --senders says"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(say: Say, words: tuple[object, ...], complaint: str) -> None:
    code, out, err = say(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert complaint in err


def test_a_limit_of_a_fact_can_not_be_invented() -> None:
    assert isinstance(Provider.load("sparkpost").limit("messages-per-day"), Limit)
    with pytest.raises(ValueError, match="unknown channel 'google-mx'"):
        Option.load("google-mx")  # a mailbox provider is nobody's channel


def test_a_pool_that_never_takes_it_all_is_asked_for_254_ips_at_most() -> None:
    """Google refuses what nobody vouches for, over however many IPs."""
    pool = {"name": "pool", "tenants": ["us"], "to": "google-mx", "aligned": False}
    asked = Scenario.build(
        {
            "name": "never",
            "duration": "1h",
            "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": 1}}],
            "alternatives": {"pool": {"channels": [pool]}},
        }
    )
    (answer,) = advise(from_scenario(asked, "00:30")).json()["channels"].values()
    assert answer["needed"]["unit"] == "ip"
    assert answer["needed"]["count"] is None
