"""The facts: how they are written, what is refused, and that nothing else in the code holds any.

Each broken file is one change to a good one, and its error has to name the file, the place and the value.
"""

import ast
import datetime as dt
import math
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simlib.facts import Fact, Rate, check, duration, parse_as, read_toml
from simlib.provider import STAGES, Limit, Provider, names, parse
from simlib.scenario import Scenario
from simlib.tool import Tool, tools

ROOT = Path(__file__).parent.parent
FILES = {
    **{f"providers/{name}": ROOT / "simlib" / "providers" / f"{name}.toml" for name in names()},
    **{f"tools/{name}": ROOT / "simlib" / "tools" / f"{name}.toml" for name in tools()},
}
PROVIDERS = [name for name in FILES if name.startswith("providers/")]
TOOLS = [name for name in FILES if name.startswith("tools/")]
Table = dict[str, Any]


def raw(name: str) -> Table:
    """A file as TOML, read without our own reader."""
    return tomllib.loads(FILES[name].read_text(encoding="utf-8"))


# Durations and rates


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("10min", 600), ("1.5h", 5400), ("5d", 432_000), ("0s", 0), ("0.3s", 0.3), ("007s", 7)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert duration(text) == seconds


NO_DURATIONS: list[object] = [
    *(
        "",
        "s",
        "45",
        "45 s",
        " 45s",
        "45s ",
        "45S",
        "-45s",
        "+45s",
        "1e3s",
        ".5s",
        "5.s",
        "1,5h",
        "45m",
        "1w",
        "1h30min",
    ),
    *("nans", "infs", "45s\n", "9" * 400 + "d"),
    *(45, 45.0, True, None, math.nan, ["45s"], b"45s"),
]


@pytest.mark.parametrize("value", NO_DURATIONS)
def test_what_is_no_duration_is_refused_with_the_value(value: object) -> None:
    with pytest.raises(ValueError, match="must be a duration like '45s', '10min', '8h' or '5d', got ") as caught:
        duration(value)
    assert str(caught.value).endswith(repr(value))


@pytest.mark.parametrize(
    ("text", "amount", "period"),
    [
        *(("30/min", 30, 60), ("319444/10min", 319_444, 600), ("10000/d", 10_000, 86_400), ("0.072/s", 0.072, 1)),
        *(("1/90d", 1, 7_776_000), ("2.5/1.5h", 2.5, 5400), ("10/0.5s", 10, 0.5), (3, 3, None), (2.5, 2.5, None)),
    ],
)
def test_a_rate_is_an_amount_in_a_period_or_a_bare_number(text: object, amount: float, period: float | None) -> None:
    rate = Rate.parse(text)
    assert rate == Rate(amount, period)
    assert Rate.parse(rate) is rate
    if period is None:
        with pytest.raises(ValueError, match="a bare amount has no rate"):
            _ = rate.per_second
    else:
        assert rate.per_second == amount / period


@pytest.mark.parametrize(
    "value",
    [
        *("300/fortnight", "30/", "/min", "30", "30/m", "30 /min", "-30/min", "0/min", "30/0min", "nan/min", "inf/s"),
        *("1e3/min", "30/min/min", "off", "", "30/-1min", "9" * 400 + "/s"),
        *(0, -1, math.nan, math.inf, True, None, [30, 60]),
    ],
)
def test_what_is_no_rate_is_refused_with_the_value(value: object) -> None:
    with pytest.raises(ValueError, match="got ") as caught:
        Rate.parse(value)
    assert str(caught.value).endswith(repr(value))


@given(
    st.one_of(st.integers(1, 10**9), st.floats(1e-6, 1e9)),
    st.one_of(st.none(), st.integers(1, 10**6), st.floats(1e-3, 1e6)),
    st.sampled_from(["s", "min", "h", "d"]),
)
def test_a_rate_reads_back_as_it_was_written(amount: float, count: float | None, unit: str) -> None:
    seconds = {"s": 1, "min": 60, "h": 3600, "d": 86_400}[unit]
    rate = Rate(amount, None if count is None else count * seconds)
    text = str(rate)
    assert "e" not in text
    assert Rate.parse(text if rate.period else float(text)) == pytest.approx(rate)
    if rate.period is None or float(amount).is_integer():
        assert Rate.parse(text if rate.period else float(text)).amount == amount


def test_rates_are_written_in_the_largest_unit_that_is_whole() -> None:
    texts = ["30/min", "319444/10min", "1/90d", "100/2h", "10/0.5s", "4600000/d", "0.072/s", "5/90s"]
    assert [str(Rate.parse(text)) for text in texts] == texts
    assert str(Rate.parse("60/60min")) == "60/h"
    assert [str(Rate(3)), str(Rate(157_286_400)), str(Rate(2.5))] == ["3", "157286400", "2.5"]


# Facts


def test_a_fact_needs_a_source_and_a_date_unless_it_is_assumed() -> None:
    Fact()
    Fact(grade="A", source="https://facts.example", as_of=dt.date(2026, 1, 1))
    source, date = {"source": "https://facts.example"}, {"as_of": dt.date(2026, 1, 1)}
    for missing in (source, date, {**date, "source": " "}):
        with pytest.raises(ValueError, match="a fact of grade B needs `source` and `as_of`"):
            check(Fact, {"grade": "B", **missing}, "facts.toml")


def test_what_a_fact_assumes_is_one_of_its_fields() -> None:
    assert Fact(assumed=("note",)).rests_on_assumption
    assert Fact().rests_on_assumption
    sourced = {"grade": "A", "source": "x", "as_of": dt.date(2026, 1, 1)}
    assert not check(Fact, sourced, "facts.toml").rests_on_assumption
    assert check(Fact, {**sourced, "assumed": ["note"]}, "facts.toml").rests_on_assumption
    with pytest.raises(ValueError, match=r"^facts\.toml: assumed names no field of this fact: 'windows'$"):
        check(Fact, {"assumed": ["windows"]}, "facts.toml")


def test_a_fact_holds_from_its_first_day_until_the_day_it_ends() -> None:
    first, last = dt.date(2026, 3, 1), dt.date(2026, 3, 31)
    fact = check(Fact, {"from": first, "until": last}, "facts.toml")
    days = [first - dt.timedelta(1), first, last - dt.timedelta(1), last]
    assert [fact.holds_on(day) for day in days] == [False, True, True, False]
    assert Fact().holds_on(dt.date.min)


def test_one_value_is_read_with_the_plain_rule_as_the_error() -> None:
    assert parse_as(int, 3) == 3
    with pytest.raises(ValueError, match="valid integer"):
        parse_as(int, "three")


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    broken, latin = tmp_path / "broken.toml", tmp_path / "latin.toml"
    broken.write_text("name = office365\n", encoding="utf-8")
    latin.write_bytes(b'title = "M\xfcll"\n')
    for path, rule in (
        (tmp_path / "none.toml", "No such file"),
        (broken, "not valid TOML: Invalid value (at line 1, column 8)"),
        (latin, "not valid TOML: 'utf-8' codec"),
    ):
        with pytest.raises(ValueError, match="toml") as caught:
            read_toml(path)
        assert str(caught.value).startswith(f"{path}: {rule}")
        assert "\n" not in str(caught.value)


# Broken files

GOOD: Table = {
    "name": "mx",
    "title": "A provider",
    "role": "submission",
    "credential": "account",
    "auth": ["LOGIN"],
    "limits": [
        {
            "id": "messages-per-minute",
            "count": "messages",
            "per": "account",
            "limit": "30/min",
            "window": "sliding",
            "on_excess": "defer",
            "at": "EOD",
            "reply": "451 4.7.1 Slow down, {account}: {limit}",
            "source": "https://facts.example",
            "as_of": dt.date(2026, 1, 1),
            "grade": "A",
        }
    ],
    "replies": [
        {
            "when": "mail",
            "code": 250,
            "enhanced": "2.1.0",
            "text": "Sender {sender} OK",
            "source": "https://facts.example",
            "as_of": dt.date(2026, 1, 1),
            "grade": "B",
        }
    ],
}
GONE = object()
SOURCE = {"source": "https://facts.example", "as_of": dt.date(2026, 1, 1), "grade": "A"}


def changed(table: str, changes: Table) -> Table:
    """The good file with its header, its limit or its sentence changed."""
    data = {**GOOD, "limits": [dict(GOOD["limits"][0])], "replies": [dict(GOOD["replies"][0])]}
    target = data if table == "header" else data[table][0]
    target.update(changes)
    for key in [key for key, value in target.items() if value is GONE]:
        del target[key]
    return data


def error_of(data: Table) -> str:
    with pytest.raises(ValueError, match=r"^mx\.toml: ") as caught:
        parse(data, "mx.toml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


HOLD = {"on_excess": "hold_reply", "reply": GONE}

BROKEN: list[tuple[Table, list[str]]] = [
    ({"window": "rolling"}, [".window", "'sliding', 'fixed' or 'token_bucket'", "'rolling'"]),
    ({"window": GONE}, ["no window", "30/min"]),
    ({"limit": "300/fortnight"}, [".limit", "'300/fortnight'"]),
    ({"limit": -1}, [".limit", "-1"]),
    ({"limit": "0/min"}, [".limit", "'0/min'"]),
    ({"limit": math.nan}, [".limit", "nan"]),
    ({"limit": math.inf}, [".limit", "inf"]),
    ({"limit": True}, [".limit", "True"]),
    ({"limit": GONE}, [".limit", "missing"]),
    ({"limit": 30}, ["must have a period", "30"]),
    ({"limit": 30, "window": GONE}, ["must have a period", "30"]),
    ({"count": "mails"}, [".count", "'messages'", "'mails'"]),
    ({"per": "user"}, [".per", "'account'", "'user'"]),
    ({"at": "DOT"}, [".at", "'EOD'", "'DOT'"]),
    ({"at": "CONNECT"}, ["at must be AUTH or later for a limit per account", "'CONNECT'"]),
    ({"per": "sender", "at": "AUTH"}, ["at must be MAIL or later for a limit per sender", "'AUTH'"]),
    (
        {"per": "recipient_domain", "at": "MAIL"},
        ["at must be RCPT or later for a limit per recipient_domain", "'MAIL'"],
    ),
    (
        {"count": "recipients", "per": "message", "limit": 5, "window": GONE, "at": "MAIL"},
        ["at must be RCPT or later for a limit per message", "'MAIL'"],
    ),
    ({"count": "connections", "per": "domain", "limit": 5, "window": GONE}, ["known at AUTH", "'domain'"]),
    ({"count": "transactions", "per": "message", "limit": 5, "window": GONE}, ["per must not be 'message'"]),
    ({"count": "recipients", "per": "message"}, ["a message has no period", "30/min"]),
    ({"counts": "refused"}, [".counts", "'accepted' or 'attempts'", "'refused'"]),
    ({"on_excess": "bounce"}, [".on_excess", "'bounce'"]),
    ({"on_excess": "reject"}, ["on_excess 'reject' does not agree with reply code 451"]),
    ({"on_excess": "close"}, ["on_excess 'close' does not agree with reply code 451"]),
    ({"reply": "550 5.7.1 No"}, ["on_excess 'defer' does not agree with reply code 550"]),
    ({"reply": "Slow down"}, [".reply", "must be a reply like", "'Slow down'"]),
    ({"reply": 451}, [".reply", "451"]),
    ({"reply": "451 4.7.1 {recipient}"}, ["'recipient'", "'{recipient}'"]),
    ({"reply": "451 4.7.1 {"}, ["{ip} {host}", "'{'"]),
    ({"on_excess": "hold_reply"}, ["a hold answers at EOD and has no refusal", "451"]),
    ({**HOLD, "at": "MAIL"}, ["a hold answers at EOD", "'MAIL'"]),
    ({**HOLD, "count": "transactions", "limit": 3, "window": GONE}, ["a hold needs a period", "3"]),
    ({**HOLD, "penalty": "1h"}, ["penalty belongs to refusals", "'hold_reply'"]),
    ({"penalty": 3600}, [".penalty", "must be a duration", "3600"]),
    ({"anchor": "clock"}, ["anchor belongs to fixed windows", "'sliding'"]),
    ({"window": "fixed"}, ["anchor belongs to fixed windows", "'fixed'"]),
    ({"window": "fixed", "anchor": "noon"}, [".anchor", "'clock', 'utc_day' or 'first_event'", "'noon'"]),
    ({"burst": 3}, ["burst belongs to token buckets", "'sliding'"]),
    ({"window": "token_bucket"}, ["burst belongs to token buckets", "'token_bucket'"]),
    ({"window": "token_bucket", "burst": 0.5}, [".burst", "0.5"]),
    ({"source": GONE}, ["`source` and `as_of`"]),
    ({"source": "  "}, ["`source` and `as_of`"]),
    ({"as_of": GONE}, ["`source` and `as_of`"]),
    ({"source": GONE, "grade": "assumed"}, ["`source` and `as_of`"]),
    ({"as_of": "yesterday"}, [".as_of", "'yesterday'"]),
    ({"grade": "E"}, [".grade", "'observed'", "'E'"]),
    ({"assumed": ["windows"]}, ["assumed names no field", "'windows'"]),
    ({"assumed": "at"}, [".assumed", "'at'"]),
    ({"id": "Messages per minute"}, [".id", "'Messages per minute'"]),
    ({"id": GONE}, [".id", "missing"]),
    ({"maximum": 3}, [".maximum", "unknown key", "3"]),
    ({"temporary": "yes"}, [".temporary", "'yes'"]),
    ({"readings": [{"name": "other", "on_excess": "reject", **SOURCE}]}, ["reading 'other'", "does not agree", "451"]),
    ({"readings": [{"name": "other", "window": "rolling", **SOURCE}]}, ["reading 'other'", "window", "'rolling'"]),
    ({"readings": [{"name": "other", "maximum": 3, **SOURCE}]}, ["reading 'other'", "maximum", "unknown key"]),
    ({"readings": [{"name": "other", "limit": 3}]}, ["a reading of messages-per-minute lacks `source`"]),
    ({"readings": [{"limit": 3, **SOURCE}]}, ["a reading of messages-per-minute lacks `name`"]),
    ({"readings": [{"name": "a", "limit": "3/h", **SOURCE}] * 2}, ["given twice", "'a'"]),
    ({"readings": [{"name": "published", "limit": "3/h", **SOURCE}]}, ["must not be named 'published'"]),
]


@pytest.mark.parametrize(("changes", "named"), BROKEN)
def test_a_broken_limit_is_refused_with_file_id_and_value(changes: Table, named: list[str]) -> None:
    message = error_of(changed("limits", changes))
    limit = "limits" if changes.get("id") in (GONE, "Messages per minute") else "messages-per-minute"
    assert [part for part in (limit, *named) if part not in message] == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"when": "hello"}, ["replies[hello].when", "'banner'", "'hello'"]),
        ({"at": "DOT"}, ["replies[mail].at", "'DOT'"]),
        ({"code": 99}, ["replies[mail].code", "99"]),
        ({"code": 600}, ["replies[mail].code", "600"]),
        ({"code": "250"}, ["replies[mail].code", "'250'"]),
        ({"enhanced": "2.1"}, ["replies[mail].enhanced", "'2.1'"]),
        ({"text": GONE}, ["replies[mail].text", "missing"]),
        ({"text": "for {recipient}"}, ["replies[mail].text", "'for {recipient}'"]),
        ({"source": GONE}, ["replies[mail]", "`source` and `as_of`"]),
        ({"as_of": GONE, "grade": "assumed"}, ["replies[mail]", "`source` and `as_of`"]),
        ({"from": "soon"}, ["replies[mail].from", "'soon'"]),
        ({"limit": 3}, ["replies[mail].limit", "unknown key"]),
    ],
)
def test_a_broken_sentence_is_refused_with_file_occasion_and_value(changes: Table, named: list[str]) -> None:
    message = error_of(changed("replies", changes))
    assert [part for part in named if part not in message] == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"role": "relay"}, ["role", "'submission' or 'delivery'", "'relay'"]),
        ({"role": GONE}, ["role", "missing"]),
        ({"title": GONE}, ["title", "missing"]),
        ({"auth": GONE}, ["auth", "missing"]),
        ({"auth": ["CRAM-MD5"]}, ["auth", "'XOAUTH2'", "'CRAM-MD5'"]),
        ({"auth": []}, ["credential must be account or domain where auth is offered", "'account' with auth none"]),
        ({"credential": "ip"}, ["credential must be account or domain where auth is offered", "'ip' with auth"]),
        ({"auth": "LOGIN"}, ["auth", "'LOGIN'"]),
        ({"credential": "user"}, ["credential", "'account'", "'user'"]),
        ({"tls": "maybe"}, ["tls", "'required'", "'maybe'"]),
        ({"colour": "blue"}, ["colour", "unknown key", "'blue'"]),
        ({"limits": 3}, ["limits", "3"]),
        ({"limits": GOOD["limits"] * 2}, ["limits", "twice", "'messages-per-minute'"]),
        ({"shaping": {"connections": 0}}, ["shaping.connections", "0"]),
        ({"shaping": {"connections": 1.5}}, ["shaping.connections", "1.5"]),
    ],
)
def test_a_broken_header_is_refused_with_file_key_and_value(changes: Table, named: list[str]) -> None:
    message = error_of(changed("header", changes))
    assert [part for part in named if part not in message] == []


def test_the_good_file_is_good() -> None:
    facts = parse(GOOD, "mx.toml")
    limit = facts.limit("mx/messages-per-minute")
    assert limit == facts.limit("messages-per-minute")
    assert facts.newest == dt.date(2026, 1, 1)
    assert (limit.limit, limit.counts, limit.holds, limit.rests_on_assumption) == (
        Rate(30, 60),
        "accepted",
        False,
        False,
    )
    assert facts.refusal(limit)[:5] == (451, "4.7.1", "Slow down, {account}: 30/min", "EOD", "mx/messages-per-minute")


def test_an_inline_provider_may_leave_out_all_but_four_keys() -> None:
    facts = parse({"name": "mx", "title": "mine", "role": "delivery", "credential": "ip", "auth": []}, "mx.toml")
    assert (facts.limits, facts.replies, facts.tls) == ((), (), "optional")
    assert facts.newest <= dt.date(2026, 1, 1)
    assert facts.says("accepted", "EOD").code == 250
    assert facts.says("blocklisted", "MAIL").text == "sendlab: mx/blocklisted, text not published"


@pytest.mark.parametrize("on_excess", ["reject", "defer", "close"])
def test_a_refusal_whose_text_is_not_published_names_itself_as_ours(on_excess: str) -> None:
    facts = parse(changed("limits", {"on_excess": on_excess, "reply": GONE}), "mx.toml")
    refusal = facts.refusal(facts.limits[0])
    assert refusal.text == "sendlab: mx/messages-per-minute, text not published"
    assert refusal.code // 100 == (5 if on_excess == "reject" else 4)
    assert refusal.closes == (on_excess == "close")


def test_an_accounts_own_amounts_replace_the_published_ones() -> None:
    facts = parse(GOOD, "mx.toml")
    assert facts.set({"mx/messages-per-minute": "50000/d"}).limits[0].limit == Rate(50_000, 86_400)
    assert facts.set({"messages-per-minute": "off"}).limits[0].limit is None
    assert facts.set({"messages-per-minute": "off"}).set({"messages-per-minute": "3/h"}).limits[0].limit == Rate(
        3, 3600
    )
    assert facts.limits[0].limit == Rate(30, 60)
    for amount in ("300/fortnight", 30, -1, "0/d", True, math.nan):
        with pytest.raises(ValueError, match="mx/messages-per-minute") as caught:
            facts.set({"messages-per-minute": amount})
        assert str(amount) in str(caught.value)
    with pytest.raises(ValueError, match=r"mx has no limit 'quota' \(it has: messages-per-minute\)"):
        facts.set({"quota": "3/d"})


def test_setting_an_amount_changes_nothing_else() -> None:
    for name in names():
        for limit in Provider.load(name).limits:
            again = (
                Provider.load(name).set({limit.id: "off" if limit.limit is None else published(limit)}).limit(limit.id)
            )
            assert again == limit


def published(limit: Limit) -> object:
    """A limit's amount as one writes it."""
    if limit.limit is None:
        return "off"
    return str(limit.limit) if limit.limit.period else limit.limit.amount


def test_a_limit_may_be_dated_too() -> None:
    first = dt.date(2026, 3, 1)
    facts = parse(changed("limits", {"from": first}), "mx.toml")
    days = [first - dt.timedelta(1), first]
    assert [len(facts.on(day).limits) for day in days] == [0, 1]


def test_a_reading_drops_what_belongs_to_the_other_one() -> None:
    """A hold has no refusal, a sliding window no anchor, a fixed one no burst."""
    readings = [
        {"name": "hold", "on_excess": "hold_reply", **SOURCE},
        {"name": "sliding", "window": "sliding", **SOURCE},
        {"name": "bucket", "window": "token_bucket", "burst": 3, **SOURCE},
    ]
    facts = parse(changed("limits", {"window": "fixed", "anchor": "clock", "readings": readings}), "mx.toml")
    limits = [facts.read_as({"messages-per-minute": name}).limits[0] for name in ("hold", "sliding", "bucket")]
    assert [(limit.reply is None, limit.window, limit.anchor, limit.burst) for limit in limits] == [
        (True, "fixed", "clock", None),
        (False, "sliding", None, None),
        (False, "token_bucket", None, 3),
    ]
    assert facts.read_as({"messages-per-minute": "hold"}).read_as({"messages-per-minute": "sliding"}).limits[0].holds


def test_an_unknown_provider_reading_or_tool_is_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"unknown provider 'hotmail' \(there are: .*office365.*\)"):
        Provider.load("hotmail")
    with pytest.raises(ValueError, match=r"unknown tool 'hotmail' \(there are: .*postfix.*\)"):
        Tool.load("hotmail")
    with pytest.raises(ValueError, match=r"no reading 'none' of messages-per-minute \(there are: 'reject', .*\)"):
        Provider.load("office365").read_as({"office365/messages-per-minute": "none"})
    with pytest.raises(ValueError, match=r"unknown provider '\.\./tools/postfix'"):
        Provider.load("../tools/postfix")


# The shipped files


def facts_of(name: str) -> Iterator[tuple[str, Table]]:
    """Every fact in a file, with where it stands; readings too."""
    data = raw(name)
    for table in ("limits", "replies", "habits"):
        for entry in data.get(table, ()):
            where = f"{table}[{entry.get('id') or entry.get('when')}]"
            yield where, entry
            for reading in entry.get("readings", ()):
                yield f"{where}.{reading['name']}", reading
    if "shaping" in data:
        yield "shaping", data["shaping"]


@pytest.mark.parametrize("name", FILES)
def test_every_fact_has_a_source_a_date_and_a_grade(name: str) -> None:
    for where, fact in facts_of(name):
        assert fact["source"].strip(), where
        assert isinstance(fact["as_of"], dt.date), where
        assert fact["grade"] in ("A", "B", "C", "D", "assumed", "observed"), where
        if where.startswith(("limits", "habits")) and "]." not in where:
            assert fact["review_by"] > fact["as_of"], where


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_reply_agrees_with_what_happens_on_excess(name: str) -> None:
    for limit in raw(name)["limits"]:
        for reading in ({}, *limit.get("readings", ())):
            merged = {**limit, **reading}
            if merged["on_excess"] in ("hold_reply", "accept_late"):
                assert "reply" not in reading
                continue
            code, _, rest = merged.get("reply", "").partition(" ")
            if code:
                first = {"reject": "5", "defer": "4", "close": "421"}[merged["on_excess"]]
                assert code.startswith(first), limit["id"]
                enhanced = re.match(r"([245])\.\d+\.\d+ ", rest)
                assert enhanced is None or enhanced[1] == code[0], limit["id"]


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_sentences_enhanced_code_is_of_its_codes_class(name: str) -> None:
    for reply in raw(name).get("replies", ()):
        assert reply.get("enhanced", str(reply["code"]))[0] == str(reply["code"])[0], reply["when"]
        if reply["when"] in ("ehlo", "ehlo_tls", "data"):
            assert "enhanced" not in reply, reply["when"]  # RFC 2034 §4; SparkPost's banner has one all the same


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_amount_that_is_off_says_why(name: str) -> None:
    for limit in raw(name)["limits"]:
        assert limit["limit"] != "off" or limit["note"].strip(), limit["id"]


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_reading_loads_and_differs(name: str) -> None:
    facts = Provider.load(name.partition("/")[2])
    for limit in facts.limits:
        for reading in limit.readings:
            other = facts.read_as({f"{facts.name}/{limit.id}": reading["name"]}).limit(limit.id)
            for key, value in reading.items():
                if key in ("on_excess", "window", "anchor", "at", "counts", "temporary", "source", "grade", "as_of"):
                    assert getattr(other, key) == value
            assert {**other.model_dump(), "source": "", "note": ""} != {**limit.model_dump(), "source": "", "note": ""}


@pytest.mark.parametrize("name", PROVIDERS)
def test_what_ehlo_announces_is_what_the_facts_say(name: str) -> None:
    data = raw(name)
    size = next((limit["limit"] for limit in data["limits"] if limit["id"] == "message-size"), None)
    for reply in data.get("replies", ()):
        if reply["when"] not in ("ehlo", "ehlo_tls"):
            continue
        keywords = [line.split() for line in reply["text"].splitlines()[1:]]
        for first, *rest in keywords:
            assert first not in ("DSN", "CHUNKING", "BINARYMIME", "BDAT")
            if first == "SIZE" and rest and size is not None:
                assert int(rest[0]) == size
            if first == "AUTH":
                assert set(data["auth"]) == set(rest)
            if first == "STARTTLS":
                assert reply["when"] == "ehlo"
                assert data.get("tls", "optional") != "none"


def test_the_providers_and_tools_of_the_contract_are_there() -> None:
    assert set(names()) >= {
        *("office365", "gmail", "gmail-personal", "gmail-relay", "gmail-oauth", "sparkpost", "ses", "sendgrid"),
        *("mailgun", "postmark", "own-postfix", "own-exchange"),
        *("google-mx", "microsoft-mx", "yahoo-mx", "yahoo-jp-mx", "generic-mx"),
        *("apple-mx", "comcast-mx", "gmx-mx", "orange-mx"),
    }
    assert set(tools()) >= {"sales-connect", "outreach", "hubspot", "apollo", "postfix", "exim", "kumomta"}


@pytest.mark.parametrize(
    "limit",
    [
        *("office365/messages-per-minute", "office365/recipients-per-day", "office365/recipients-per-message"),
        *("office365/transactions", "office365/message-size"),
        *("gmail/messages-per-day", "gmail/recipients-per-day", "gmail/recipients-per-message", "gmail/message-size"),
        *("gmail-oauth/messages-per-minute", "gmail-oauth/messages-per-day"),
        *(
            "sparkpost/messages-per-day",
            "sparkpost/message-size",
            "ses/messages-per-session",
            "ses/recipients-per-message",
        ),
        *("sendgrid/messages-per-day", "sendgrid/messages-per-session", "sendgrid/connections"),
        *("own-postfix/connections", "own-postfix/recipients-per-message", "own-exchange/messages-per-minute"),
        *("google-mx/quota", "microsoft-mx/quota", "yahoo-mx/quota", "yahoo-jp-mx/quota", "generic-mx/quota"),
        *("generic-mx/connections", "yahoo-mx/messages-per-session", "microsoft-mx/connections"),
    ],
)
def test_the_ids_that_scripts_use_are_there(limit: str) -> None:
    assert Provider.load(limit.partition("/")[0]).limit(limit).id == limit.partition("/")[2]


def test_the_published_amounts_that_people_know() -> None:
    """A few figures by hand, so that a slip in a file doesn't pass for a fact."""
    known = {
        "office365/messages-per-minute": "30/min",
        "office365/recipients-per-day": "10000/d",
        "office365/transactions": "3",
        "gmail/messages-per-day": "2000/d",
        "gmail/unique-recipients-per-day": "3000/d",
        "gmail-personal/messages-per-day": "500/d",
        "gmail-oauth/messages-per-minute": "150/min",
        "gmail-relay/recipients-per-10-minutes": "319444/10min",
        "sparkpost/messages-per-day": "1000/d",
        "ses/recipients-per-day": "200/d",
        "sendgrid/messages-per-day": "100/d",
        "own-exchange/messages-per-minute": "5/min",
        "own-postfix/connections": "50",
        "generic-mx/connections": "50",
        "microsoft-mx/connections": "500",
        "microsoft-mx/recipients-per-message": "200",
        "yahoo-mx/messages-per-session": "20",
        "comcast-mx/connections": "25",
        "comcast-mx/recipients-per-message": "100",
    }
    assert {id_: str(Provider.load(id_.partition("/")[0]).limit(id_).limit) for id_ in known} == known


def test_connections_and_messages_a_connection_are_what_careful_senders_keep_to() -> None:
    known = {
        **{"google-mx": (5, 50), "microsoft-mx": (5, 50), "yahoo-mx": (10, 20), "yahoo-jp-mx": (2, 20)},
        **{"apple-mx": (10, 5), "comcast-mx": (25, 1000), "gmx-mx": (4, 20), "orange-mx": (2, 100)},
        "generic-mx": (10, 100),
    }
    mailboxes = [facts for facts in map(Provider.load, names()) if facts.role == "delivery"]
    found = {one.name: (one.shaping.connections, one.shaping.messages_per_session) for one in mailboxes}
    assert found == known


def test_mailbox_providers_publish_no_quota() -> None:
    for name in names():
        facts = Provider.load(name)
        if facts.role == "delivery":
            quota = facts.limit("quota")
            assert (quota.limit, bool(quota.note)) == (None, True)
            assert facts.set({"quota": "500/h"}).limit("quota").limit == Rate(500, 3600)


def test_a_published_fact_switches_on_its_date() -> None:
    """Office 365's basic authentication ends with 2026."""
    facts = Provider.load("office365")
    dates = [dt.date(2026, 12, 30), dt.date(2026, 12, 31), dt.date(2027, 6, 1)]
    assert [facts.on(date).speaks_of("password_refused") for date in dates] == [False, True, True]
    day = dt.date(2026, 12, 30)
    assert [limit.id for limit in facts.on(day).limits] == [limit.id for limit in facts.limits]
    assert len(facts.replies) - len(facts.on(day).replies) == 1


def test_as_of_picks_the_facts_of_a_scenario() -> None:
    scenario = Scenario.build(
        {
            "name": "new year",
            "duration": "1h",
            "start": "2026-12-01T08:00",
            "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": 1}}],
            "alternatives": {"o365": {"channels": [{"name": "o365", "tenants": ["us"], "to": "office365"}]}},
        }
    )
    assert not scenario.provider("office365").speaks_of("password_refused")
    assert scenario.provider("office365", dt.date(2026, 12, 31)).speaks_of("password_refused")


def test_dated_sentences_hold_exactly_between_their_dates() -> None:
    for name in names():
        facts = Provider.load(name)
        for sentence in facts.replies:
            for date in (sentence.since, sentence.until):
                if date is not None:
                    before = sentence in facts.on(date - dt.timedelta(1)).replies
                    assert before != (sentence in facts.on(date).replies)


@pytest.mark.parametrize("name", TOOLS)
def test_every_habit_is_for_providers_that_there_are(name: str) -> None:
    tool = Tool.load(name.partition("/")[2])
    assert tool.title
    for habit in tool.habits:
        assert set(habit.providers) <= set(names())
        assert habit.pace or habit.connections or habit.retry is not None or habit.note, habit.id
    ids = [habit.id for habit in tool.habits]
    assert len(ids) == len(set(ids))
    assert sum(not habit.providers for habit in tool.habits) <= 1


def test_sales_connect_paces_gmail_and_exchange_and_sends_at_once_elsewhere() -> None:
    tool = Tool.load("sales-connect")
    for provider in ("office365", "gmail", "gmail-oauth"):
        habit = tool.habit(provider)
        assert habit is not None
        assert (str(habit.pace), habit.connections) == ("25 every 45 s", 1)
        assert habit.schedule is not None
        assert habit.schedule.delays == ()
    custom = tool.habit("sparkpost")
    assert custom is not None
    assert custom.pace is None


# Nothing else holds a fact


@cache
def code() -> tuple[tuple[str, str], ...]:
    """Every text in the code that isn't a docstring, with its file."""
    found: list[tuple[str, str]] = []
    for package in ("simlib", "fake_servers", "loadtests"):
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            said = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
            found.extend(
                (path.name, node.value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in said
            )
    return tuple(found)


def refusals() -> Iterator[str]:
    """Every sentence of a provider that refuses something, up to its first placeholder."""
    for name in PROVIDERS:
        data = raw(name)
        for limit in data["limits"]:
            for entry in (limit, *limit.get("readings", ())):
                if "reply" in entry:
                    yield re.sub(r"^\d{3} (\d\.\d+\.\d+ )?", "", entry["reply"])
        yield from (reply["text"] for reply in data.get("replies", ()) if reply["code"] >= 400)


def test_no_refusal_of_a_provider_stands_in_the_code() -> None:
    pieces = {piece.strip() for text in refusals() for piece in re.split(r"\{[^}]*\}|\n", text)}
    sentences = {piece for piece in pieces if len(piece) > 11}
    assert len(sentences) > 50
    assert [entry for entry in code() for sentence in sentences if sentence in entry[1]] == []


def test_no_host_of_a_provider_stands_in_the_code() -> None:
    hosts = {host.strip(".") for name in PROVIDERS for host in raw(name)["hosts"]}
    assert {"smtp.office365.com", "smtp.gmail.com"} <= hosts
    assert [entry for entry in code() for host in hosts if host in entry[1]] == []


LOGS = ("postfix", "exim", "kumomta", "ses", "sparkpost")


def test_no_provider_tool_or_rate_is_singled_out_in_the_code() -> None:
    own = {*names(), *tools()}
    found = {entry for entry in code() if entry[1] in own or re.fullmatch(r"\d+/\d*(s|min|h|d)", entry[1])}
    assert found <= {
        ("__main__.py", "sparkpost"),  # `serve` without accounts knows its one user by name (DESIGN §7)
        # a relay's reports go to somebody: to nobody's provider
        *(("zone.py", "generic-mx"), ("load.py", "generic-mx")),
        # the program, not its schedule
        *((file, "postfix") for file in ("cli_load.py", "load.py", "relay.py", "log_postfix.py")),
        # whose throttle setting `size` asks about
        *(("cli_size.py", "sales-connect"), ("question.py", "sales-connect")),
        # whose log `import` reads
        *((file, log) for file in ("cli_logs.py", "importing.py") for log in LOGS),
        ("audit.py", "1/h"),  # a quota that any mailer meets: the trial's own, and nobody's
    }


def test_stages_are_those_of_a_session_in_their_order() -> None:
    assert STAGES == ("CONNECT", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "EOD")
