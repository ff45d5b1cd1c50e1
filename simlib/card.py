"""The card: an advice as one HTML page that needs no network, with a computed grid that answers other numbers, too."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from simlib.advice import Advice, Answer
from simlib.provider import Limit, Provider
from simlib.question import Candidate, from_team
from simlib.sentences import Sentences
from simlib.sizing import apart
from simlib.words import Words

__all__ = ["grid", "page"]

SENDERS = (0.2, 0.4, 1, 2, 4)
VOLUMES = (0.25, 0.5, 1, 2, 4)
"""How the people and the messages each in the grid stand to those asked for."""
MOST_MESSAGES = 20_000
"""Messages a day beyond which a place of the grid stays empty."""
SPOKEN = (
    *("never", "next_day", "later_day", "refused_some"),
    *("try_yes", "try_no", "try_bad_time", "try_bad_number", "try_over"),
)
"""The words that the page itself speaks."""
WIDE, BAR, ROW = 480.0, 16.0, 46.0
"""Units of a plot: how wide it is, how high a bar and a row are."""
LONGEST = 28
"""Letters of a name in a plot."""
GOOD, LATE, LOST = "#0072B2", "#E69F00", "#1d2433"
Progress = Callable[[int, int], None]
Floats = np.typing.NDArray[np.float64]
Bools = np.typing.NDArray[np.bool_]


def page(advice: Advice, language: str, progress: Progress | None = None) -> str:
    """Return the card of an advice.

    Parameters
    ----------
    advice : Advice
        What was found.
    language : str
        ``en`` or ``ja``.
    progress : callable, optional
        Told how many places of the grid are computed, of how many.

    Returns
    -------
    str
        An HTML document that loads nothing.
    """
    words = Words(language)
    said = Sentences(advice, words)
    verdict, *rest = said.answer()
    best = advice.recommended
    if best is not None and best.setting is not None:
        rest = [one for one in rest if one not in said.setting(best)]
    found = grid(advice, said, progress) if "senders" in advice.question else None
    spoken = {key: words.table[key] for key in SPOKEN}
    plain = {key: escape(text) for key, text in words.table.items() if "{" not in text}
    template = Template((files("simlib") / "card.html").read_text(encoding="utf-8"))
    return template.substitute(
        {
            **plain,
            "lang": language,
            "title": plain["card_title"],
            "question": escape(said.question()),
            "verdict": escape(verdict),
            "verdict_class": "no" if best is None else "yes",
            "answer": "\n".join(f"<p>{escape(one)}</p>" for one in rest),
            "setting": _setting(best, said),
            "try": "" if found is None else _try(advice, said, found),
            "table": _table(advice, said),
            "plots": _when(advice, said) + _what(advice, said),
            "details": "".join(_details(answer, said) for answer in advice.answers),
            "notes": "".join(f"<li>{escape(one)}</li>" for one in said.notes()),
            "sources": _sources(advice, words),
            "it": _it(advice, said),
            "assumptions": escape(said.assumptions()),
            "made_by": escape(words.say("made_by", seed=advice.seed)),
            "data": _in_script({**(found or {}), "words": spoken}),
        }
    )


def grid(advice: Advice, said: Sentences, progress: Progress | None = None) -> dict[str, Any]:
    """Simulate a day for other numbers of people and messages, on each channel with the setting typed in.

    Parameters
    ----------
    advice : Advice
        What was found for the numbers that were asked.
    said : Sentences
        Its words: what the channels are called.
    progress : callable, optional
        Told how many places are computed, of how many.

    Returns
    -------
    dict
        ``senders`` and ``volumes``, ascending; for each of ``channels`` its ``rank``, 0 for the least trouble, and
        ``grid[sender][volume]``: when all is accepted (seconds since the start, None if it never is) and how many
        messages are lost, or None where it isn't simulated.
    """
    asked = advice.question
    senders = _around(asked["senders"], SENDERS)
    volumes = _around(asked["per_sender"], VOLUMES)
    places = [(people, volume) for people in senders for volume in volumes]
    found = {}
    for number, answer in enumerate(advice.answers, 1):
        found[answer.name] = _places(advice, answer, places)
        if progress is not None:
            progress(number * len(places), len(advice.answers) * len(places))
    start = advice.answers[0].candidate.scenario.day.start
    return {
        "senders": senders,
        "volumes": volumes,
        "start": start,
        "start_clock": said.start,
        "channels": [
            {
                "title": said.title(answer),
                "rank": advice.ranked.index(answer),
                "grid": [[found[answer.name][s, v] for v in volumes] for s in senders],
            }
            for answer in advice.answers
        ],
    }


def _around(asked: int, factors: Sequence[float]) -> list[int]:
    return sorted({max(1, round(asked * factor)) for factor in factors})


@dataclass(frozen=True)
class _Taken:
    """What a channel did with mail that was all offered at the start: by account, in the order of the queue."""

    accepted_at: list[Floats]
    lost: list[Bools]

    def first(self, counts: Sequence[int]) -> tuple[float | None, int] | None:
        """Return when the first so many messages of each account were accepted, and how many were lost."""
        if len(counts) > len(self.lost) or any(n > len(one) for n, one in zip(counts, self.lost, strict=False)):
            return None
        ends = [float(times[:n].max()) for n, times in zip(counts, self.accepted_at, strict=False)]
        lost = sum(int(one[:n].sum()) for n, one in zip(counts, self.lost, strict=False))
        return (round(max(ends), 1) if math.isfinite(max(ends)) else None, lost)


def _places(advice: Advice, answer: Answer, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Any]:
    """Fill the grid of one channel, with as many mailboxes as people if that is so now.

    Where what is offered first is taken first and nothing comes back, those at the end of a queue change nothing for
    those before them: a day with much mail has also what happens to less of it.
    """
    asked = advice.question
    found: dict[tuple[int, int], Any] = {}
    days: list[_Taken] = []
    for place in sorted(places, key=lambda one: one[0] * one[1], reverse=True):
        people, volume = place
        if place == (asked["senders"], asked["per_sender"]):
            last = round(answer.last, 1) if math.isfinite(answer.last) else None
            found[place] = (last, round(answer.lost))
            continue
        if people * volume + asked["group_email"] > MOST_MESSAGES:
            found[place] = None
            continue
        counts = _counts(advice, answer, people, volume)
        known = [one for one in (day.first(counts) for day in days) if one is not None]
        if not known:
            candidate = _like(answer, advice, people, volume)
            fates = candidate.fates(advice.seed, 0, advice.as_of)
            sender = fates.attempts.messages.sender
            account = sender if candidate.unit == "mailbox" else np.zeros_like(sender)
            rows = [np.flatnonzero(fates.mine & (account == one)) for one in range(len(counts))]
            day = _Taken([fates.accepted_at[one] for one in rows], [fates.lost[one] for one in rows])
            known = [one for one in [day.first(counts)] if one is not None]
            came_back = bool((fates.attempts["retry"] > 0).any())
            alone = len(candidate.lanes(advice.as_of)) == 1 and bool(fates.mine.all()) and not came_back
            if alone and (candidate.unit != "mailbox" or apart(candidate, advice.as_of)):
                days.append(day)
        found[place] = known[0]
    return found


def _counts(advice: Advice, answer: Answer, people: int, volume: int) -> list[int]:
    """Return how many messages each mailbox has, or the one queue."""
    group, units = advice.question["group_email"], answer.candidate.units
    if answer.candidate.unit != "mailbox":
        return [people * volume + group]
    if _mailboxes(advice, answer) is None:
        return [volume + group] + [volume] * (people - 1)
    dealt, rest = divmod(people * volume + group, units)
    return [dealt + (number < rest) for number in range(min(units, people * volume + group))]


def _mailboxes(advice: Advice, answer: Answer) -> int | None:
    """Return how many mailboxes or IPs the team has; None if it has one for each person."""
    asked = advice.question
    count: int | None = (asked["have"] or {}).get(answer.name)
    # as many mailboxes as people stays so; another number of them, or of IPs, is what the team has
    return None if answer.candidate.unit == "mailbox" and count == asked["senders"] else count


def _like(answer: Answer, advice: Advice, people: int, volume: int) -> Candidate:
    have = {answer.name: _mailboxes(advice, answer)}
    (candidate,) = from_team(
        **{**advice.question, "senders": people, "per_sender": volume, "have": have},
        readings=answer.candidate.scenario.readings,
    )
    if answer.setting is None:
        return candidate
    return candidate.change({"pace": {"batch": answer.setting.batch, "wait": f"{answer.setting.wait:g}s"}})


def _in_script(data: dict[str, Any]) -> str:
    """Write JSON that no tag within can end."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


# The parts of the first page


def _setting(best: Answer | None, said: Sentences) -> str:
    if best is None or best.setting is None:
        return ""
    words = said.words
    wait = words.say("seconds", value=f"{best.setting.wait:g}")
    keys = (
        f"<div><dt>{escape(words.say('batch_label'))}</dt><dd>{best.setting.batch}</dd></div>"
        f"<div><dt>{escape(words.say('wait_label'))}</dt><dd>{escape(wait)}</dd></div>"
    )
    sentences = "".join(f"<p>{escape(one)}</p>" for one in said.setting(best))
    others = "".join(
        f"<li><span>{escape(said.title(answer))}</span><span>{escape(said.pace(answer.setting))}</span></li>"
        for answer in said.advice.answers
        if answer is not best and answer.setting is not None
    )
    if others:
        sentences += f'<p class="note">{escape(words.say("setting_others"))}</p><ul class="pairs">{others}</ul>'
    head = escape(words.say("setting_head"))
    return f'<section class="box setting"><h2>{head}</h2><dl class="keys">{keys}</dl>{sentences}</section>'


def _try(advice: Advice, said: Sentences, found: dict[str, Any]) -> str:
    words, asked = said.words, advice.question

    def number(name: str, key: str, value: int, most: int) -> str:
        field = f'<input name="{name}" type="number" inputmode="numeric" min="1" max="{most}" step="1" value="{value}">'
        return f"<label>{escape(words.say(key))}{field}</label>"

    fields = (
        number("senders", "try_senders", asked["senders"], found["senders"][-1])
        + number("volume", "try_volume", asked["per_sender"], found["volumes"][-1])
        + f"<label>{escape(words.say('try_deadline'))}"
        f'<input name="deadline" inputmode="numeric" pattern="[0-9]{{1,2}}:[0-9]{{2}}" value="{said.deadline}"></label>'
    )
    notes = [words.say("try_note")]
    if asked["group_email"]:
        notes.insert(0, words.say("try_group", group=asked["group_email"]))
    return (
        f'<section class="box screen"><h2>{escape(words.say("try_head"))}</h2><form id="try" autocomplete="off">'
        f'<div class="inputs">{fields}</div><output id="found" aria-live="polite"></output></form>'
        + "".join(f'<p class="note">{escape(one)}</p>' for one in notes)
        + "</section>"
    )


def _table(advice: Advice, said: Sentences) -> str:
    rows = said.table()
    done = said.words.say("done_by", deadline=said.deadline)
    counts, number = (said.words.say("largest"), said.words.say("failed_head")), ' class="num"'
    head = "".join(f'<th scope="col"{number if name in counts else ""}>{escape(name)}</th>' for name in rows[0])
    body = []
    for answer, row in zip(advice.answers, rows, strict=True):
        _, *others = row.items()
        units = f"<small>{escape(said.units(answer))}</small>" if said.units(answer) else ""
        cells = [f'<th scope="row">{escape(said.title(answer))}{units}</th>']
        for name, text in others:
            if name == done:
                verdict, _, chance = text.partition(said.words.say("comma"))
                kind = "yes" if answer.trials.reached else "no"
                cells.append(f'<td class="{kind}">{escape(verdict)}<small>{escape(chance)}</small></td>')
            else:
                cells.append(f"<td{number if name in counts else ''}>{escape(text)}</td>")
        mark = ' class="best"' if answer is advice.recommended else ""
        body.append(f"<tr{mark}>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _details(answer: Answer, said: Sentences) -> str:
    in_the_table = said.words.say("shared_yes"), said.words.say("shared_no")
    points = "".join(f"<li>{escape(one)}</li>" for one in said.details(answer) if one not in in_the_table)
    return f"<section><h3>{escape(said.title(answer))}</h3><ul>{points}</ul></section>"


# The plots: drawn as text and rectangles, so that letters are letters in every language


def _when(advice: Advice, said: Sentences) -> str:
    """Draw until when each channel is at work, and the deadline."""
    words = said.words
    deadline = advice.answers[0].candidate.deadline
    ends = [answer.last for answer in advice.answers if math.isfinite(answer.last)]
    # a channel that is done within minutes should be seen beside a deadline hours later
    until = max([deadline, *ends]) * 1.02
    height = ROW * len(advice.answers) + 26
    x = deadline / until * WIDE
    bars, texts, results = [], [], []
    for row, answer in enumerate(advice.answers):
        top = row * ROW
        texts.append(_text(0, top + 14, _short(said.title(answer)), "strong"))
        if math.isfinite(answer.last):
            wide = max(2.0, answer.last / until * WIDE)
            bars.append(_bar(0, top + 20, wide, GOOD if answer.trials.reached else "url(#late)"))
            label = said.at(answer, answer.last)
        else:
            wide, lost = 0.0, round(answer.lost)
            label = f"\N{MULTIPLICATION X} {words.say('refused_some', count=lost) if lost else words.say('never')}"
        inside = wide > WIDE * 0.75
        at = wide - 6 if inside else wide + 6 if wide else 0
        texts.append(_text(at, top + 32, label, "strong", "end" if inside else "start"))
        results.append(f"{said.title(answer)}{words.say('colon')}{label}")
    line = (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 18:.0f}" stroke="{LOST}" stroke-width="1.5" '
        'stroke-dasharray="5 3"/>'
    )
    if x > 80:
        texts.append(_text(0, height - 4, said.start, "soft"))
    texts.append(_text(min(x, WIDE), height - 4, said.deadline, "strong", "end" if x > WIDE - 24 else "middle"))
    text = words.say("plot_when_text", start=said.start, deadline=said.deadline) + " " + "; ".join(results)
    marks = [*bars, line, *texts]  # letters stand on the line, and the line on the bars
    return _figure("when", words.say("plot_when"), text, height, marks)


def _what(advice: Advice, said: Sentences) -> str:
    """Draw what becomes of the messages: on time, later, refused."""
    words = said.words
    height = ROW * len(advice.answers) + 6
    marks, results = [], []
    for row, answer in enumerate(advice.answers):
        top, left = row * ROW, 0.0
        on_time = sum(day.on_time for day in answer.days) / len(answer.days)
        offered = max(1, answer.offered)
        parts = (
            ("legend_on_time", on_time, GOOD),
            ("legend_late", max(0.0, offered - on_time - answer.lost), "url(#late)"),
            ("legend_lost", answer.lost, "url(#lost)"),
        )
        marks.append(_text(0, top + 14, _short(said.title(answer)), "strong"))
        numbers = []
        for key, count, color in parts:
            if count < 0.5:
                continue
            wide = count / offered * WIDE
            marks.append(_bar(left, top + 20, wide, color))
            numbers.append(words.say("counted", count=round(count), what=words.say(key, deadline=said.deadline)))
            left += wide
        marks.append(_text(WIDE, top + 14, words.say("comma").join(numbers), "soft", "end"))
        results.append(f"{said.title(answer)}: {words.say('comma').join(numbers)}")
    key = "".join(
        f'<span><svg viewBox="0 0 14 14" aria-hidden="true">{_bar(0, 1, 12, color, 12)}</svg>'
        f"{escape(words.say(name, deadline=said.deadline))}</span>"
        for name, color in (("legend_on_time", GOOD), ("legend_late", "url(#late)"), ("legend_lost", "url(#lost)"))
    )
    text = f"{words.say('plot_what_text', deadline=said.deadline)} {'; '.join(results)}"
    return _figure("what", words.say("plot_what"), text, height, marks, f'<p class="key">{key}</p>')


def _short(title: str) -> str:
    """Cut a name off that would run into what stands at the right."""
    return title if len(title) <= LONGEST else f"{title[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


PATTERNS = (
    '<defs><pattern id="lost" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    f'<rect width="6" height="6" fill="#fff"/><rect width="2.5" height="6" fill="{LOST}"/></pattern>'
    '<pattern id="late" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">'
    f'<rect width="6" height="6" fill="#fbe8c2"/><rect width="2" height="6" fill="{LATE}"/></pattern></defs>'
)


def _figure(name: str, title: str, text: str, height: float, marks: Sequence[str], below: str = "") -> str:
    patterns = PATTERNS if name == "when" else ""
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDE:.0f} {height:.0f}" role="img" aria-labelledby="{name}-title {name}-text">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-text">{escape(text)}</desc>{patterns}'
        f"{''.join(marks)}</svg>{below}</figure>"
    )


def _bar(x: float, y: float, wide: float, fill: str, high: float = BAR) -> str:
    edge = f' stroke="{LOST}" stroke-width="0.8"' if fill.startswith("url") else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.0f}" fill="{fill}"{edge}/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


# What it rests on, and the page for IT


def _sources(advice: Advice, words: Words) -> str:
    """List, for each provider, where its limits are published and as of when."""
    items = []
    for provider in _providers(advice):
        found = dict.fromkeys((limit.source, str(limit.as_of or "")) for limit in provider.limits if limit.limit)
        links = words.say("comma").join(f"{_link(source)} ({date})" for source, date in found)
        items.append(f"<li>{escape(provider.name)}{escape(words.say('colon'))}{links}</li>")
    return f'<ul class="notes">{"".join(items)}</ul>'


def _providers(advice: Advice) -> list[Provider]:
    return list({one.name: one for answer in advice.answers for one in answer.providers}.values())


def _limit(limit: Limit) -> str:
    assert limit.limit is not None
    amount, slash, period = str(limit.limit).partition("/")
    unit = " bytes" if limit.count == "bytes" else ""
    shown = f"{int(amount):,}" if amount.isdecimal() else amount
    return f"{limit.id}: {shown}{unit}{slash}{period} ({limit.grade}, {limit.as_of})"


def _link(source: str) -> str:
    """Show an address as its host, linked; another source as it is."""
    if not source.startswith(("https://", "http://")):
        return escape(source or "–")
    address, _, _ = source.partition(" ")
    return f'<a href="{escape(address)}" rel="noopener">{escape(address.split("/")[2])}</a>'


def _it(advice: Advice, said: Sentences) -> str:
    words = said.words
    answers = list(advice.answers)
    head = "".join(f'<th scope="col">{escape(said.title(answer))}</th>' for answer in answers)
    rows: list[tuple[str, list[str]]] = []

    def add(key: str, of: Callable[[Answer], str]) -> None:
        rows.append((words.say(key), [of(answer) for answer in answers]))

    add("it_host", lambda a: ", ".join(host for one in a.providers for host in one.hosts[:1]))
    add("it_port", lambda a: a.option.port if a.option is not None else "")
    add("it_tls", lambda a: words.say("comma").join(dict.fromkeys(words.say(f"tls_{one.tls}") for one in a.providers)))
    add("it_auth", lambda a: ", ".join(dict.fromkeys(kind for one in a.providers for kind in one.auth)))
    add("it_smtp_auth", lambda a: _box(words, a.candidate.role == "submission" and a.providers[0].transport == "smtp"))
    add("it_password", lambda a: _box(words, {"LOGIN", "PLAIN"} & set(a.providers[0].auth) != set()))
    add("it_limits", lambda a: "\n".join(_limit(x) for p in a.providers for x in p.limits if x.limit))
    add("it_own_limits", lambda a: "")
    add("it_share", lambda a: words.say("shared_yes" if a.shareable else "shared_no"))
    add("it_dkim", lambda a: a.option.dkim.get(words.language, "") if a.option is not None else "")
    add("it_contact", lambda a: "")
    titles = [said.title(answer) for answer in answers]
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(_cell(text, f"{name} – {title}", words) for text, title in zip(texts, titles, strict=True))
        + "</tr>"
        for name, texts in rows
    )
    return f'<table class="it"><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>'


ASKED = "\N{BALLOT BOX}"
"""Stands for a question of yes or no."""


def _box(words: Words, asked: bool) -> str:
    return ASKED if asked else words.say("not_counted")


def _cell(text: str, name: str, words: Words) -> str:
    """Return a cell of the page for IT: what is known, or a field of that name to be filled in."""
    if not text:
        return f'<td class="blank"><textarea rows="1" aria-label="{escape(name)}"></textarea></td>'
    if text == ASKED:
        boxes = "".join(
            f'<label><input type="checkbox" name="{escape(name)}" aria-label="{escape(name)}: {escape(word)}"> '
            f"{escape(word)}</label>"
            for word in (words.say("it_yes"), words.say("it_no"))
        )
        return f"<td>{boxes}</td>"
    return "<td>" + "".join(f"<p>{escape(line)}</p>" for line in text.split("\n")) + "</td>"
