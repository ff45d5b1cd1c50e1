"""The app without a browser: what it says, that the last question is answered, and that bad input gets a sentence."""

import asyncio
import base64
import re
from html import unescape
from typing import Any

import pytest

from simlib.app import App, asked_language
from simlib.look import Asked, Look, Taken
from simlib.processes import Pool
from simlib.words import Words, languages

SMALL = Asked(senders=3, per_sender=20, group_email=90)
HAVE = {"office365": None, "own-postfix": None}

each_language = pytest.mark.parametrize("language", languages())


def settled(language: str = "en", **options: Any) -> App:
    app = App(language, **{"replications": 3, "have": HAVE, "asked": SMALL, "jobs": 1, **options})
    return asyncio.run(app.settled())


@each_language
def test_every_channel_is_answered_with_its_interval(language: str) -> None:
    app = settled(language)
    assert [(look.name, len(look.days)) for look in app.looks.values()] == [("office365", 3), ("own-postfix", 3)]
    low = app.words.percent(app.looks["office365"].interval[0])
    assert "150" in app.answer.value
    assert low in app.answer.value
    assert len(re.findall("<tr[ >]", app.table.value)) == 3
    assert app.progress.value == ""


def test_the_answer_names_the_other_channels_that_are_in_time() -> None:
    app = settled(have={**HAVE, "sparkpost": None}, asked=Asked(senders=3, per_sender=20, group_email=950))
    (late,) = re.findall(r"[0-9:]+", app._clock(app.looks["own-postfix"], app.looks["own-postfix"].last))
    assert f"Also in time: Own server (Postfix) ({late})." in app.answer.value
    app.controls["channel"].value = "sparkpost"
    asyncio.run(app.settled())
    assert app.answer.value.count("Own server (Postfix)") == 1
    assert "In time: Office 365 (" in app.answer.value


@each_language
def test_the_picture_says_in_words_what_it_shows(language: str) -> None:
    app = settled(language)
    (alt,) = re.findall(r'alt="([^"]*)"', app.picture.value)
    assert app.sentence(app.looks["office365"]) in alt
    assert base64.b64decode(app.picture.value.split("base64,")[1].split('"')[0]).startswith(b"\x89PNG")


def test_the_channel_that_is_looked_at_is_simulated_first(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[str]] = []
    monkeypatch.setattr(App, "_show", lambda app, chosen: shown.append(list(app.looks)))
    app = settled()
    app.controls["channel"].value = "own-postfix"
    shown.clear()
    asyncio.run(app.settled())
    assert shown == [["own-postfix"], ["office365", "own-postfix"]]


def test_the_first_answer_has_the_processors_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []

    def shared(kind: type, jobs: int | None) -> Pool:
        done.append(jobs)
        return Pool(1, kind)

    monkeypatch.setattr(Pool, "shared", shared)
    monkeypatch.setattr(App, "_show", lambda app, chosen: done.append("shown"))
    settled(jobs=3)
    assert done == ["shown", 3, "shown", 3]


def test_while_a_slider_moves_each_place_gets_a_picture_and_the_last_one_an_answer() -> None:
    async def slide() -> list[str]:
        app = App("en", 5, have=HAVE, asked=SMALL, jobs=1)
        pictures: list[str] = []
        app.picture.observe(lambda change: pictures.append(change.new), "value")
        for place in (4, 5, 6):
            before = len(pictures)
            app.controls["senders"].value = place
            while len(pictures) == before:
                await asyncio.sleep(0)
        await app.settled()
        assert app.looks["office365"].offered == 6 * 20 + 90
        assert {len(look.days) for look in app.looks.values()} == {5}
        return pictures

    assert len(set(asyncio.run(slide()))) >= 4


def test_a_question_that_is_overtaken_gets_a_picture_of_the_days_so_far_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[tuple[int, list[int]]] = []
    show = App._show

    def noted(app: App, chosen: str) -> None:
        shown.append((app.looks[chosen].offered, [len(look.days) for look in app.looks.values()]))
        show(app, chosen)

    def day(look: Look, replication: int) -> Taken:
        if replication == 1:
            app.controls["senders"].value = 4  # moved during the second day
        return simulated(look, replication)

    simulated = Look.day
    monkeypatch.setattr(App, "_show", noted)
    monkeypatch.setattr(Look, "day", day)
    app = App("en", 5, have=HAVE, asked=SMALL, jobs=1)
    asyncio.run(app.settled())
    assert shown == [(150, [2]), (170, [5]), (170, [5, 5])]


@each_language
@pytest.mark.parametrize(
    ("control", "value", "key"),
    [
        ("senders", 0, "app_zero_senders"),
        ("per_sender", 0, "app_zero_messages"),
        ("deadline", "08:00", "app_bad_order"),
        ("deadline", "half past five", "app_bad_time"),
        ("start", "", "app_bad_time"),
    ],
)
def test_bad_input_gets_a_sentence_and_no_answer(language: str, control: str, value: Any, key: str) -> None:
    app = settled(language)
    good = app.controls[control].value
    app.controls[control].value = value
    asyncio.run(app.settled())
    assert Words(language).table[key].partition("{")[0].rstrip("'") in app.problem.value
    assert (app.answer.value, app.picture.value, app.table.value) == ("", "", "")
    app.controls[control].value = good
    asyncio.run(app.settled())
    assert app.problem.value == ""
    assert app.answer.value != ""


@each_language
@pytest.mark.parametrize(
    ("options", "key", "said"),
    [
        ({"have": {"nosuch": None}}, "app_unknown_channel", "nosuch"),
        ({"have": {}}, "app_no_channel", ""),
        ({"tool": "<nosuch>"}, "app_unknown_tool", "&lt;nosuch&gt;"),
    ],
)
def test_a_channel_or_a_tool_that_nobody_has_gets_a_sentence(
    language: str, options: dict[str, Any], key: str, said: str
) -> None:
    app = settled(language, **options)
    assert Words(language).table[key].partition("{")[0].rstrip("'") in unescape(app.problem.value)
    assert said in app.problem.value
    assert app.answer.value == ""
    assert app.controls["senders"] not in app.box.children  # there is nothing to ask about
    app.card.click()
    assert app.saved.value == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"have": {"office365": 0}}, "must be at least 1"),
        ({"have": {"sparkpost": 2}}, "one credential"),
        ({"asked": Asked(senders=0)}, "At least one person"),
        ({"asked": Asked(deadline="08:00")}, "must come after the start"),
    ],
)
def test_what_can_not_be_is_said_when_an_app_is_made_with_it(options: dict[str, Any], said: str) -> None:
    app = settled(**options)
    assert said in app.problem.value
    assert (app.answer.value, app.picture.value, app.progress.value) == ("", "", "")


def test_what_is_typed_in_is_shown_as_text() -> None:
    app = settled()
    app.controls["deadline"].value = "<b>"
    asyncio.run(app.settled())
    assert "&lt;b&gt;" in app.problem.value


@each_language
def test_the_card_can_be_saved(language: str) -> None:
    async def click() -> App:
        asked = Asked(senders=2, per_sender=5, group_email=0)
        app = await App(language, 1, have={"own-postfix": None}, asked=asked, jobs=1).settled()
        app.card.click()
        return await app.settled()

    app = asyncio.run(click())
    assert 'download="card.html"' in app.saved.value
    card = base64.b64decode(app.saved.value.split("base64,")[1].split('"')[0]).decode("utf-8")
    assert f'<html lang="{language}"' in card


def test_the_card_says_how_far_it_is() -> None:
    asked = Asked(senders=1, per_sender=2, group_email=0)
    app = App("en", 1, have={"own-postfix": None, "sparkpost": None}, asked=asked, jobs=1)
    told: list[float] = []
    app.html(asked, told.append)
    assert told[:2] == [0.25, 0.5]
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_an_unknown_language_no_days_and_no_processes_are_refused() -> None:
    with pytest.raises(ValueError, match="lang must be one of en, ja, got 'fr'"):
        App("fr")
    with pytest.raises(ValueError, match="replications must be at least 1, got 0"):
        App(replications=0)
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        App(jobs=0)


def test_the_address_chooses_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    for query, language in (("lang=ja", "ja"), ("lang=fr&lang=ja", "ja"), ("lang=../en", "en"), ("", "en")):
        monkeypatch.setenv("QUERY_STRING", query)
        assert asked_language() == language
