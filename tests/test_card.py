"""The card: one page that loads nothing, says what the terminal says, answers other numbers, and can be read by all."""

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simlib import card
from simlib.advice import Advice, advise, clock
from simlib.card import _in_script, grid, page
from simlib.question import Candidate, from_team
from simlib.sentences import Sentences
from simlib.words import Words, languages

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VOID = {"meta", "link", "input", "br"}


def asked(**changes: Any) -> Advice:
    question = {
        "senders": 4,
        "per_sender": 20,
        "group_email": 100,
        "start": "09:00",
        "deadline": "17:30",
        "have": {"office365": 4, "gmail-oauth": None, "sparkpost": None},
        "tool": "sales-connect",
        **changes,
    }
    return advise(from_team(**question), question=question)


@pytest.fixture(scope="module")
def advice() -> Advice:
    return asked()


@pytest.fixture(scope="module")
def cards(advice: Advice) -> dict[str, str]:
    return {language: page(advice, language) for language in languages()}


class Outline(HTMLParser):
    """What a reader who doesn't see meets: the headings, what images are called, and whether tags are closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def data_of(card: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', card, re.DOTALL)
    assert found is not None
    loaded: dict[str, Any] = json.loads(found[1])
    return loaded


@pytest.mark.parametrize("language", languages())
def test_every_tag_is_closed_and_headings_go_down_by_one(cards: dict[str, str], language: str) -> None:
    outline = Outline(cards[language])
    assert outline.open == []
    assert outline.headings.count("h1") == 1
    assert outline.headings[0] == "h1"
    steps = [int(two[1]) - int(one[1]) for one, two in zip(outline.headings, outline.headings[1:], strict=False)]
    assert max(steps) == 1
    assert outline.all("html")[0]["lang"] == language


@pytest.mark.parametrize("language", languages())
def test_pictures_are_described_and_tables_have_heads(cards: dict[str, str], language: str) -> None:
    outline = Outline(cards[language])
    named = [svg for svg in outline.all("svg") if svg.get("role") == "img"]
    ids = {attributes.get("id") for _, attributes in outline.tags}
    assert len(named) == 2
    for svg in outline.all("svg"):
        assert svg.get("aria-hidden") == "true" or set(str(svg["aria-labelledby"]).split()) <= ids
    heads = outline.all("th")
    assert heads
    assert all(head.get("scope") in ("row", "col") for head in heads)
    assert all(field.get("name") for field in outline.all("input"))


def test_the_picture_says_in_words_what_it_shows(cards: dict[str, str]) -> None:
    assert "SparkPost: 180 accepted by 17:30" in unescape(cards["en"])


@pytest.mark.parametrize("language", languages())
def test_nothing_is_loaded(cards: dict[str, str], language: str) -> None:
    outline = Outline(cards[language])
    for tag, attributes in outline.tags:
        assert "src" not in attributes
        address = attributes.get("href")
        assert tag == "a" or address in (None, "data:,")
    assert not re.search(r"@import|url\((?!#)", cards[language])


def test_colors_can_be_told_from_what_is_behind_them(cards: dict[str, str]) -> None:
    """WCAG 2.1 §1.4.3: at least 4.5 to 1 for text."""
    colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", cards["en"]))

    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    def contrast(one: str, two: str) -> float:
        light, dark = sorted((luminance(one), luminance(two)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for text in ("ink", "soft", "blue", "good", "bad"):
        for behind in ("#ffffff", colors["tint"], colors["sky"]):
            assert contrast(colors[text], behind) >= 4.5, (text, behind)


@pytest.mark.parametrize("language", languages())
def test_the_card_says_what_the_terminal_says(advice: Advice, cards: dict[str, str], language: str) -> None:
    said = Sentences(advice, Words(language))
    card = unescape(cards[language])
    for sentence in [said.question(), *said.answer(), *said.notes(), said.assumptions()]:
        assert sentence in card
    for answer, row in zip(advice.answers, said.table(), strict=True):
        assert said.title(answer) in card
        assert f"<td>{row[Words(language).say('all_accepted')]}</td>" in card
    assert "$" not in re.sub(r"<script.*?</script>", "", card, flags=re.DOTALL)


def test_the_page_for_it_is_filled_in_from_the_facts(cards: dict[str, str]) -> None:
    sheet = unescape(cards["en"]).partition('id="it"')[2].partition("<script")[0]
    for known in (
        "smtp.office365.com",
        "587, STARTTLS",
        "LOGIN, XOAUTH2",
        "messages-per-minute: 30/min (A, 2025-06-21)",
        "recipients-per-day: 10,000/d (",
        "message-size: 157,286,400 bytes (",
    ):
        assert known in sheet
    assert sheet.count('class="blank"') > 4  # the rest is theirs to fill in


def test_what_people_write_can_not_become_markup() -> None:
    from simlib.question import from_scenario
    from simlib.scenario import Scenario

    name = "</script><script>alert(1)</script><b>"
    channel = {"name": "o", "tenants": ["us"], "to": "office365"}
    scenario = Scenario.build(
        {
            "name": name,
            "start": "09:00",
            "duration": "1h",
            "deadline": "10:00",
            "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": 3}}],
            "alternatives": {name: {"channels": [channel]}},
        }
    )
    card = page(advise(from_scenario(scenario), question={"scenario": name}), "en")
    assert "alert(1)" in card
    assert "<script>alert" not in card
    assert "<b>" not in card
    assert 'id="try"' not in card  # no grid without a team's numbers
    assert "<" not in _in_script({"title": name})


def test_the_grid_is_what_a_simulation_of_each_place_gives(advice: Advice) -> None:
    found = grid(advice, Sentences(advice, Words("en")))
    assert (found["senders"], found["volumes"]) == ([1, 2, 4, 8, 16], [5, 10, 20, 40, 80])
    office = found["channels"][0]["grid"]
    assert office[2][2] == (round(advice.answers[0].last, 1), 0)  # what was asked: the slowest of its days
    more = asked(senders=8, per_sender=80, have={"office365": 8})
    ends = [day.finished_at for day in more.answers[0].days]
    mean, spread = sum(ends) / len(ends), max(ends) - min(ends)
    assert abs(office[3][4][0] - mean) <= spread
    assert office[3][4][1] == 0
    sparkpost = found["channels"][2]["grid"]
    assert [place[1] for place in sparkpost[4]] == [0, 0, 0, 0, 16 * 80 + 100 - 1000]


def test_a_day_with_much_mail_has_also_what_happens_to_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no message takes longer than another, each place is exactly what a simulation of it gives."""

    def even(candidate: Candidate) -> Candidate:
        return candidate.change({"service": "0.83s"})

    question: dict[str, Any] = {
        **{"senders": 4, "per_sender": 20, "group_email": 30, "start": "09:00", "deadline": "17:30"},
        **{"have": {"office365": 3, "gmail-oauth": None, "sparkpost": None, "own-postfix": None}},
        **{"tool": "sales-connect"},
    }
    found = advise([even(one) for one in from_team(**question)], question=question)
    like = card._like
    monkeypatch.setattr(card, "_like", lambda *asked: even(like(*asked)))
    simulated = grid(found, Sentences(found, Words("en")))
    for answer, channel in zip(found.answers, simulated["channels"], strict=True):
        for people, row in zip(simulated["senders"], channel["grid"], strict=True):
            for volume, place in zip(simulated["volumes"], row, strict=True):
                if (people, volume) in {(1, 5), (2, 10), (8, 80), (16, 40), (16, 80)}:
                    day = card._like(answer, found, people, volume).day(1, 0, found.as_of)
                    last = round(day.finished_at, 1) if day.finished_at < math.inf else None
                    assert place == (last, day.lost), (answer.name, people, volume)


def test_places_that_would_take_long_stay_empty(advice: Advice) -> None:
    question = {**advice.question, "senders": 100, "per_sender": 100}
    small = dataclasses.replace(advice, answers=advice.answers[2:3], question={**question, "have": {"sparkpost": None}})
    found = grid(small, Sentences(small, Words("en")))["channels"][0]["grid"]
    assert [[place is None for place in row] for row in found][4] == [False, True, True, True, True]
    assert found[2][2] is not None


# In a browser


@dataclasses.dataclass
class Opened:
    page: "Page"
    requests: list[str]
    complaints: list[str]


@pytest.fixture(params=languages())
def opened(
    request: pytest.FixtureRequest, chromium: "Browser", cards: dict[str, str], tmp_path: Path
) -> Iterator[Opened]:
    path = tmp_path / "card.html"
    path.write_text(cards[request.param], encoding="utf-8")
    tab = chromium.new_page(viewport={"width": 1200, "height": 900})
    found = Opened(tab, [], [])
    tab.on("request", lambda one: found.requests.append(one.url))
    tab.on("console", lambda message: found.complaints.append(message.text))
    tab.on("pageerror", lambda error: found.complaints.append(str(error)))
    tab.goto(path.as_uri())
    yield found
    assert found.complaints == []
    assert {url.partition(":")[0] for url in found.requests} <= {"file", "data"}
    tab.close()


def test_the_first_answer_is_that_of_the_table(opened: Opened, advice: Advice) -> None:
    said = Sentences(advice, Words(opened.page.locator("html").get_attribute("lang") or ""))
    best = advice.recommended
    assert best is not None
    times = opened.page.locator("#found li span:last-child").all_inner_texts()
    wanted = [clock(a.candidate, a.last) for a in advice.answers]
    assert len(times) == len(advice.answers)
    assert times[0] == wanted[0]
    assert said.title(best) in opened.page.locator("#found strong").inner_text()
    assert opened.page.locator("#found").get_attribute("class") == "yes"


def test_other_numbers_get_other_answers(opened: Opened) -> None:
    tab, shown = opened.page, opened.page.locator("#found")
    before = shown.inner_text()
    tab.fill("input[name=volume]", "80")
    assert shown.inner_text() != before
    between = shown.inner_text()
    tab.fill("input[name=volume]", "41")  # the next larger number of the grid answers
    assert shown.inner_text() == between
    tab.fill("input[name=volume]", "20")
    assert shown.inner_text() == before
    tab.fill("input[name=senders]", "16")
    tab.fill("input[name=volume]", "80")  # 1,380: too many for SparkPost, minutes' work for the others
    for deadline, found in (("09:01", "no"), ("9:59", "yes"), ("17:30", "yes")):
        tab.fill("input[name=deadline]", deadline)
        assert shown.get_attribute("class") == found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("senders", value) for value in ("0", "1.5", "", "17")),
        *(("volume", value) for value in ("-3", "81")),
        *(("deadline", value) for value in ("", "08:59", "25:00", "later")),
    ],
)
def test_numbers_that_can_not_be_get_a_sentence(opened: Opened, field: str, value: str) -> None:
    opened.page.fill(f"input[name={field}]", value)
    shown = opened.page.locator("#found")
    assert shown.get_attribute("class") == "no"
    assert len(shown.inner_text()) > 10
    assert "{" not in shown.inner_text()
    assert "NaN" not in shown.inner_text()


def test_it_prints_on_two_sheets(opened: Opened) -> None:
    pdf = opened.page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 2


def test_on_a_phone_only_tables_are_wider_than_the_screen(opened: Opened) -> None:
    opened.page.set_viewport_size({"width": 390, "height": 800})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_for_it_can_be_filled_in_on_screen_and_is_printed_so(opened: Opened) -> None:
    words = Words(opened.page.locator("html").get_attribute("lang") or "")
    field = opened.page.get_by_role("textbox", name=f"{words.say('it_contact')} – Office 365")
    field.fill("2026-12-01")
    box = opened.page.get_by_role("checkbox", name=f"{words.say('it_smtp_auth')} – SparkPost: {words.say('it_yes')}")
    box.check()
    assert (field.input_value(), box.is_checked()) == ("2026-12-01", True)
    opened.page.emulate_media(media="print")
    assert field.is_visible()


def test_everything_can_be_reached_by_keyboard(opened: Opened) -> None:
    reached = []
    for _ in range(8):
        opened.page.keyboard.press("Tab")
        reached.append(opened.page.evaluate("document.activeElement.name || document.activeElement.id"))
    assert [name for name in reached if name in ("print", "senders", "volume", "deadline")] == [
        *("print", "senders", "volume", "deadline")
    ]
