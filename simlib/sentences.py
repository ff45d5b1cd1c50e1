"""An advice in words, in any of the languages: the sentences and the table that terminal and card share."""

import textwrap
import unicodedata
from collections.abc import Sequence

from simlib.advice import LEAST_RUNS, Advice, Answer, Change, clock
from simlib.sender import Pace
from simlib.sizing import ERROR, zone
from simlib.words import Words

__all__ = ["Sentences"]

WIDTH = 118
"""Columns of a terminal."""


class Sentences:
    """What an advice says.

    Parameters
    ----------
    advice : Advice
        What was found.
    words : Words
        The language.

    Examples
    --------
    >>> from simlib.advice import advise
    >>> from simlib.question import from_team
    >>> found = advise(from_team(2, 10, have={"office365": None}), question={"senders": 2})
    >>> said = Sentences(found, Words("en"))
    >>> said.answer()[0]
    'Take Office 365: all 20 messages are accepted by 09:01.'
    """

    def __init__(self, advice: Advice, words: Words) -> None:
        self.advice = advice
        self.words = words
        scenario = advice.answers[0].candidate.scenario
        assert scenario.deadline is not None
        self.deadline = f"{scenario.deadline:%H:%M}"
        self.start = clock(advice.answers[0].candidate, 0.0, end=False) or ""

    # The pieces

    def title(self, answer: Answer) -> str:
        """Return what people call the channel; a scenario has names of its own."""
        if answer.option is None or "senders" not in self.advice.question:
            return answer.name
        return answer.option.title[self.words.language]

    def units(self, answer: Answer) -> str:
        """Return how many mailboxes or IPs there are; empty where there is nothing to count."""
        unit = answer.candidate.unit
        return self.words.count(unit, answer.candidate.units) if unit else ""

    def at(self, answer: Answer, seconds: float | None) -> str:
        """Return a time of day: that at which something is over."""
        found = clock(answer.candidate, seconds)
        if found is None:
            return self.words.say("never")
        time, _, days = found.partition("+")
        if not days:
            return time
        return (
            self.words.say("next_day", clock=time)
            if days == "1"
            else self.words.say("later_day", clock=time, days=days)
        )

    def pace(self, pace: Pace) -> str:
        """Return a pace as it is typed: the batch, and the wait in seconds."""
        return f"{pace.batch} / {self.words.say('seconds', value=f'{pace.wait:g}')}"

    def cause(self, answer: Answer) -> str:
        """Return what holds the mail back, and since when."""
        name, at, _ = answer.binds
        if not name:
            return self.words.say("nothing")
        shown = self.words.say(name) if name in ("pace", "service", "connections", "retry") else name.rpartition("/")[2]
        since = clock(answer.candidate, at, end=False)
        return shown if since is None else self.words.say("since", cause=shown, clock=since)

    def enough(self, answer: Answer) -> str:
        """Return how much of the channel is enough."""
        need = answer.need
        if need.unit in ("mailbox", "ip"):
            return self.words.say("none_enough") if need.count is None else self.words.count(need.unit, need.count)
        if need.unit and need.count is not None:
            return self.words.say("limit_enough", count=need.count)
        return self.words.say("not_counted")

    def cost(self, answer: Answer) -> str:
        """Return what the channel costs; empty without prices."""
        if not self.advice.currency:
            return ""
        if answer.cost is None:
            return self.words.say("no_price")
        monthly = f"{answer.cost:,.2f} {self.advice.currency}"
        if not answer.once:
            return self.words.say("cost", monthly=monthly)
        return self.words.say("cost_once", monthly=monthly, once=f"{answer.once:,.2f} {self.advice.currency}")

    def people(self, answer: Answer) -> str:
        """Return how many people have to set something up."""
        if answer.option is None:
            return self.words.say("not_counted")
        people = answer.option.people(answer.candidate.units)
        return self.words.count("people", people) if people else self.words.say("people_none")

    # The sentences

    def question(self) -> str:
        """Return what was asked."""
        asked = self.advice.question
        if "senders" not in asked:
            return self.words.say("asked_scenario", name=asked.get("scenario", ""), deadline=self.deadline)
        return self.words.say(
            "asked_team_group" if asked["group_email"] else "asked_team",
            senders=self.words.count("people", asked["senders"]),
            each=self.words.count("message", asked["per_sender"]),
            group=self.words.count("people", asked["group_email"]),
            total=self.words.count("message", asked["senders"] * asked["per_sender"] + asked["group_email"]),
            start=self.start,
            deadline=self.deadline,
        )

    def answer(self) -> list[str]:
        """Return the recommendation, and how sure it is; or that there is none, and what comes closest."""
        best = self.advice.recommended
        if best is None:
            said = [
                self.words.say("none", deadline=self.deadline, confidence=self.words.percent(self.advice.confidence))
            ]
            for other in self.advice.answers:
                if other.with_oauth:
                    said.append(self.words.say("closest_oauth", channel=self.title(other)))
                if other.need.count is None:
                    continue
                if other.need.unit in ("mailbox", "ip"):
                    need = self.words.count(other.need.unit, other.need.count)
                    dealt = other.need.unit == "mailbox" and self.advice.question.get("group_email")
                    key = "closest_dealt" if dealt else "closest_need"
                    said.append(self.words.say(key, channel=self.title(other), need=need))
                else:
                    limit, count = other.need.unit, other.need.count
                    said.append(self.words.say("closest_limit", channel=self.title(other), limit=limit, count=count))
            return said
        key = "take" if best.candidate.role == "submission" else "take_delivery"
        said = [
            self.words.say(key, channel=self.title(best), offered=best.offered, clock=self.at(best, best.last)),
            self.sure(best),
        ]
        others = [
            self.words.say("aside", what=self.title(other), aside=self.at(other, other.last))
            for other in self.advice.answers
            if other.trials.reached and other is not best and other.candidate.role == best.candidate.role
        ]
        if others:
            said.append(self.words.say("also", channels=self.words.say("comma").join(others)))
        said += [self._change(change) for change in best.changes if change.hits]
        return [*said, *self.setting(best)]

    def sure(self, answer: Answer) -> str:
        """Return how sure the answer is."""
        trials = answer.trials
        if not trials.random:
            return self.words.say("sure_exactly")
        low, high = (self.words.percent(bound) for bound in trials.interval)
        return self.words.say("sure", done=trials.done, runs=trials.runs, low=low, high=high)

    def setting(self, answer: Answer) -> list[str]:
        """Return what to type into the tool, and how many a day."""
        said = []
        if answer.setting is not None:
            wait = self.words.say("seconds", value=f"{answer.setting.wait:g}")
            per_minute = f"{answer.setting.batch / answer.setting.wait * 60:.3g}"
            said.append(
                self.words.say(
                    "setting",
                    into=answer.typed_into,
                    batch=self.words.count("message", answer.setting.batch),
                    wait=wait,
                    per_minute=per_minute,
                )
            )
        elif answer.tool:
            said.append(self.words.say("no_setting", tool=answer.tool))
        if answer.cap is not None:
            said.append(self.words.say("cap_team" if answer.shareable else "cap_mailbox", count=answer.cap))
        return said

    def details(self, answer: Answer) -> list[str]:
        """Return what else there is to know about a channel."""
        said = [] if answer is self.advice.recommended else self.setting(answer)
        if answer.as_is is not None and answer.as_is_pace is not None:
            pace = self.pace(answer.as_is_pace)
            if answer.as_is.held:
                said.append(self.words.say("as_is_held", tool=answer.tool, pace=pace, count=answer.as_is.held))
            said += [
                self.words.say(
                    "as_is_lost", limit=reading.limit, reading=reading.name, count=reading.lost_as_is, pace=pace,
                    with_setting=reading.lost,
                )
                for reading in answer.readings
                if reading.lost_as_is is not None and reading.lost_as_is > answer.as_is.lost
            ]  # fmt: skip
        if answer.binds[0].endswith("at AUTH"):
            said.append(self.words.say("login_refused"))
        if answer.lost:
            count = round(answer.lost)
            where = answer.failed_into
            said.append(
                self.words.say("failed", count=count, into=where)
                if where
                else self.words.say("failed_nowhere", count=count)
            )
        said.append(self.words.say("shared_yes" if answer.shareable else "shared_no"))
        if answer.option is not None:
            for step in answer.option.steps:
                said.append(f"{self.words.say(step.who)}{self.words.say('colon')}{getattr(step, self.words.language)}")
        warmups = [(days, title) for title, days in answer.warmups() if days is not None]
        if warmups:
            (first, first_title), (last, last_title) = min(warmups), max(warmups)
            said.append(
                self.words.say(
                    "warmup",
                    volume=answer.offered,
                    first=first,
                    first_title=first_title,
                    last=last,
                    last_title=last_title,
                )
            )
        elif answer.warmups():
            said.append(self.words.say("warmup_unknown", volume=answer.offered))
        best = answer is self.advice.recommended  # what hits it stands in the answer
        said += [self._change(change) for change in answer.changes if not (best and change.hits)]
        return said

    def _change(self, change: Change) -> str:
        key = "change_hits" if change.hits else "change"
        return self.words.say(key, date=change.on.isoformat(), says=change.says)

    def notes(self) -> list[str]:
        """Return what holds for all of it: disagreeing sources, dates, and what `done` means."""
        answers = self.advice.answers
        said = [
            self.words.say(
                "reading_flips", limit=reading.limit, reading=reading.name, channel=self.title(answer),
                answer=self.words.say("done_yes" if reading.reached else "done_no"),
            )
            for answer in answers
            for reading in answer.readings
            if reading.reached != answer.trials.reached
        ]  # fmt: skip
        if not said:
            said.append(self.words.say("readings_none" if any(a.readings for a in answers) else "no_readings"))
        roles = {answer.candidate.role for answer in answers}
        if len(roles) > 1:
            apart = [self.title(answer) for answer in answers if answer.candidate.role == "delivery"]
            said.append(self.words.say("delivery_apart", channel=self.words.say("comma").join(apart)))
        if self.advice.question.get("have") is None and "senders" in self.advice.question:
            said.append(self.words.say("pool_note"))
        review = min((answer.review_by for answer in answers if answer.review_by), default=None)
        if review is None:
            said.append(self.words.say("facts_undated", as_of=self.advice.as_of.isoformat()))
        else:
            said.append(self.words.say("facts", as_of=self.advice.as_of.isoformat(), review_by=review.isoformat()))
        said.append(self.words.say("means", deadline=self.deadline))
        if any(answer.trials.random for answer in answers):
            low, high = (self.words.percent(bound) for bound in zone(self.advice.confidence))
            said.append(self.words.say("test", least=LEAST_RUNS, low=low, high=high, error=self.words.percent(ERROR)))
        return said

    def assumptions(self) -> str:
        """Return which assumed facts and figures all of it rests on."""
        ids = list(dict.fromkeys(id_ for answer in self.advice.answers for id_ in answer.rests_on()))
        return self.words.say("rests_on", count=len(ids), ids=self.words.say("comma").join(ids))

    def table(self) -> list[dict[str, str]]:
        """Return one row a channel, in words."""
        return [self._row(answer) for answer in self.advice.answers]

    def _row(self, answer: Answer) -> dict[str, str]:
        words, trials = self.words, answer.trials
        verdict = words.say("done_yes" if trials.reached else "done_no")
        days = words.days(trials.done, trials.runs, trials.interval if trials.random else None)
        units = words.say("comma") + self.units(answer) if answer.candidate.unit else ""
        largest = answer.largest
        row = {
            words.say("channel"): self.title(answer) + units,
            words.say("done_by", deadline=self.deadline): f"{verdict}{words.say('comma')}{days}",
            words.say("all_accepted"): self.at(answer, answer.last),
            words.say("needed"): self.enough(answer),
            words.say("largest"): words.say("or_more", count=largest.messages)
            if largest.or_more
            else f"{largest.messages:,}",
            words.say("failed_head"): f"{answer.lost:,.0f}",
            words.say("binds"): self.cause(answer),
            words.say("shareable"): words.say("yes" if answer.shareable else "no"),
            words.say("set_up"): self.people(answer),
        }
        if self.advice.currency:
            row[words.say("cost_head")] = self.cost(answer)
        return row

    def lines(self) -> list[str]:
        """Return everything as lines for a terminal: the answer first."""
        apart = {self.words.say("shareable"), self.words.say("set_up")}  # said below, and the lines are long enough
        rows = [{name: text for name, text in row.items() if name not in apart} for row in self.table()]
        said = [*self._wrap([self.question()]), "", *self._wrap(self.answer()), "", *aligned(rows)]
        for answer in self.advice.answers:
            said += ["", self.title(answer), *self._wrap(self.details(answer), "  ")]
        return [*said, "", *self._wrap([*self.notes(), self.assumptions()])]

    def _wrap(self, sentences: Sequence[str], indent: str = "") -> list[str]:
        """Break sentences into lines of a terminal, each beginning its own; only where the language has spaces."""
        if any(unicodedata.east_asian_width(letter) in "WF" for one in sentences for letter in one):
            return [indent + one for one in sentences]
        return [
            line
            for one in sentences
            for line in textwrap.wrap(
                one, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False
            )
        ]


def aligned(rows: Sequence[dict[str, str]]) -> list[str]:
    """Lay rows of text out in columns, wide letters counted twice."""
    columns = [[name, *(row[name] for row in rows)] for name in rows[0]]
    widths = [max(map(_width, column)) for column in columns]
    return [
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in zip(*columns, strict=True)
    ]


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
