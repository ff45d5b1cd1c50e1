"""The app: which channel, asked with sliders. It simulates while they move, and says how sure each answer is."""

import asyncio
import base64
import contextlib
import datetime as dt
import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import parse_qs

import ipywidgets as widgets
from matplotlib.figure import Figure

from simlib import plot
from simlib.advice import advise, clock
from simlib.card import page
from simlib.look import Asked, Look, looks
from simlib.option import Option, channels, options
from simlib.processes import Pool
from simlib.question import TOOL, from_team
from simlib.tool import Tool, tools
from simlib.words import Words, languages

__all__ = ["App", "asked_language"]

PACES = ("safe", "tool", "none")
RETRIES = ("hand", "again")
CONTROLS = ("senders", "per_sender", "group_email", "start", "deadline", "pace", "retry")
STYLE = """\
<style>
.sendlab { color: #1d2433; line-height: 1.4; }
.sendlab:lang(ja) { word-break: auto-phrase; }
.sendlab a { color: #00598a; text-decoration: underline; }
.sendlab a.save { display: inline-block; background: #00598a; color: #fff; padding: .4em 1em; border-radius: 4px;
  text-decoration: none; }
.sendlab .verdict { display: block; font-size: 1.6em; line-height: 1.25; font-weight: 700; margin: .1em 0 .3em;
  text-wrap: balance; }
.sendlab .verdict::before { display: inline-block; margin-right: .4em; }
.sendlab .yes.verdict::before, .sendlab td.yes::before { content: "\\2713" / ""; }
.sendlab .no.verdict::before, .sendlab td.no::before { content: "\\2715" / ""; }
.sendlab .verdict.yes::before, .sendlab td.yes { color: #0b6b43; }
.sendlab .verdict.no::before, .sendlab td.no { color: #a3261f; }
.sendlab td:is(.yes, .no)::before { display: inline-block; width: 1.2em; }
.sendlab .type { display: block; background: #e5f1f8; padding: .4em .8em; border-radius: 4px; margin: .3em 0;
  font-size: 1.15em; }
.sendlab .said { display: block; margin: .2em 0; }
.sendlab [role=alert] { color: #a3261f; font-size: 1.15em; font-weight: 600; }
.sendlab table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.sendlab :is(th, td) { padding: .25em .6em; text-align: left; line-height: 1.4; border-bottom: 1px solid #d5dae3; }
.sendlab :is(tbody th, td:not(.yes, .no)) { white-space: nowrap; }
.sendlab thead th { color: #566074; vertical-align: bottom; }
.sendlab tr.chosen { background: #e5f1f8; }
</style>"""
"""The colors are those of the card."""
LONG, SHORT = widgets.Layout(width="28em", max_width="98%"), widgets.Layout(width="20em")


class App:
    """Sliders, and an answer that is simulated while they move.

    Parameters
    ----------
    lang : str, optional
        ``en`` or ``ja``.
    replications : int, optional
        Days to be simulated of each channel.
    seed : int, optional
        Of the random streams.
    have : mapping of str to int or None, optional
        The channels, and how many mailboxes or IPs of each; by default those that most teams could have.
    tool : str, optional
        The application that sends.
    asked : Asked, optional
        Where the sliders stand at first.
    titled : bool, optional
        Whether it stands alone: with a title, and a link to the other language.
    jobs : int, optional
        How many processes simulate; by default as many as there are processors (`simlib.processes.Pool.shared`). The
        answers are the same.

    Notes
    -----
    In a notebook it shows itself, and simulates in steps between which the kernel listens: whatever is asked last is
    answered, and of what was asked before only the first picture is drawn. Elsewhere, `await app.settled()`.
    What can't be asked, a channel that nobody has among it, is answered by a sentence.

    Examples
    --------
    >>> import asyncio
    >>> few = Asked(senders=2, per_sender=10, group_email=0)
    >>> app = App(replications=1, have={"sparkpost": None}, asked=few, jobs=1)
    >>> look = asyncio.run(app.settled()).looks["sparkpost"]
    >>> look.offered, look.done
    (20, 1)
    """

    def __init__(
        self,
        lang: str = "en",
        replications: int = 20,
        seed: int = 1,
        have: Mapping[str, int | None] | None = None,
        tool: str = TOOL,
        asked: Asked | None = None,
        titled: bool = False,
        jobs: int | None = None,
    ) -> None:
        if replications < 1:
            raise ValueError(f"replications must be at least 1, got {replications}")
        if jobs is not None and jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {jobs}")
        self.words = Words(lang)
        self.replications, self.seed, self.have, self.tool = replications, seed, have, tool
        self._pool, self._jobs = Pool(1, Look), jobs
        self.looks: dict[str, Look] = {}
        self._titles: list[str] = []
        self._wanted = False
        self._worker: asyncio.Task[None] | None = None
        self._card_maker: asyncio.Task[None] | None = None
        first = asked or Asked()
        names = [option.name for option in options() if option.default] if have is None else list(have)
        self._refused = self._not_had(names, tool)
        choices = [] if self._refused else [(Option.load(name).title[lang], name) for name in names]
        self.controls = self._controls(first, choices)
        self.problem, self.answer, self.picture, self.table, self.progress, self.saved = (
            widgets.HTML() for _ in range(6)
        )
        self.card = widgets.Button(description=self._say("app_card"), layout=SHORT)
        self.card.on_click(self._make_card)
        for control in self.controls.values():
            control.observe(self._changed, "value")
        asking = widgets.VBox(
            [*self.controls.values(), self.card, self.saved], layout=widgets.Layout(width="29em", max_width="100%")
        )
        said = [widgets.HTML(STYLE), self.problem, self.answer, self.picture, self.table, self.progress]
        shown = widgets.VBox(said, layout=widgets.Layout(flex="1 1 30em", max_width="52em"))
        parts = [shown] if self._refused else [asking, shown]
        body = widgets.HBox(parts, layout=widgets.Layout(flex_flow="row wrap"))
        self.box = widgets.VBox([widgets.HTML(self._head()), body]) if titled else body
        self._changed()

    def _controls(self, first: Asked, choices: list[tuple[str, str]]) -> dict[str, Any]:
        def slider(key: str, value: int, most: int, step: int = 1) -> Any:
            return widgets.IntSlider(
                value, 0, max(most, value), step, description=self._say(key), style={"description_width": "11em"},
                layout=LONG,
            )  # fmt: skip

        def choice(key: str, options: list[tuple[str, str]], value: str | None) -> Any:
            return widgets.Dropdown(
                options=options, value=value, description=self._say(key), style={"description_width": "11em"},
                layout=LONG,
            )  # fmt: skip

        def time(key: str, value: str) -> Any:
            return widgets.Text(
                value, description=self._say(key), style={"description_width": "11em"}, layout=LONG,
                continuous_update=False,
            )  # fmt: skip

        return {
            "channel": choice("app_channel", choices, choices[0][1] if choices else None),
            "senders": slider("app_senders", first.senders, 100),
            "per_sender": slider("app_per_sender", first.per_sender, 200),
            "group_email": slider("app_group", first.group_email, 1000, 50),
            "start": time("app_start", first.start),
            "deadline": time("app_deadline", first.deadline),
            "pace": choice("app_pace", [(self._say(f"app_pace_{one}"), one) for one in PACES], first.pace),
            "retry": choice("app_retry", [(self._say(f"app_retry_{one}"), one) for one in RETRIES], first.retry),
        }

    def _head(self) -> str:
        (other,) = (language for language in languages() if language != self.words.language)
        link = f'<a href="?lang={other}" lang="{other}" hreflang="{other}">{self._say("app_other_language")}</a>'
        title = f'<h1 lang="{self.words.language}" style="margin:0 1em 0 0">{escape(self._say("app_title"))}</h1>'
        return f'<div style="display:flex;flex-wrap:wrap;align-items:baseline">{title}{link}</div>'

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.box._repr_mimebundle_(**options)

    # What is asked

    @property
    def asked(self) -> Asked:
        """Where the sliders stand."""
        return Asked(**{name: self.controls[name].value for name in CONTROLS})

    def _not_had(self, names: Sequence[str], tool: str) -> str:
        """Say in a sentence that there is no such channel, or no such tool; nothing if there is."""
        if not names:
            return self._say("app_no_channel")
        try:
            for name in names:
                Option.load(name)
        except ValueError:
            return self._say("app_unknown_channel", name=name, known=self._say("comma").join(channels()))
        try:
            Tool.load(tool)
        except ValueError:
            return self._say("app_unknown_tool", name=tool, known=self._say("comma").join(tools()))
        return ""

    def _bad(self) -> str:
        """Say in a sentence what can't be in what is asked; nothing if it can."""
        if self._refused:
            return self._refused
        asked = self.asked
        if asked.senders < 1:
            return self._say("app_zero_senders")
        if asked.per_sender < 1:
            return self._say("app_zero_messages")
        for value in (asked.start, asked.deadline):
            if not _is_time(value):
                return self._say("app_bad_time", value=value)
        if asked.deadline <= asked.start:
            return self._say("app_bad_order", start=asked.start, deadline=asked.deadline)
        return ""

    # Working on it

    def _changed(self, _change: object = None) -> None:
        """Take note that something else is asked, and see to it that somebody works on it."""
        self._wanted = True
        if self._worker is None or self._worker.done():
            try:
                self._worker = asyncio.get_running_loop().create_task(self._work())
            except RuntimeError:  # no loop runs: `settled` will do it
                self._worker = None

    async def settled(self) -> "App":
        """Wait until everything that was asked is answered; return the app.

        Returns
        -------
        App
            Itself, with nothing left to simulate.
        """
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())
        while not self._worker.done():
            await self._worker
        if self._card_maker is not None:
            await self._card_maker
        return self

    async def _work(self) -> None:
        while self._wanted:
            self._wanted = False
            bad = self._bad()
            if not bad:
                self.problem.value = ""
                try:
                    await self._simulate()
                except ValueError as error:  # numbers of mailboxes that can't be, and what else only the facts know
                    bad = str(error)
            if bad:
                for part in (self.answer, self.picture, self.table, self.progress):
                    part.value = ""
                self.problem.value = self._shown(f'<p role="alert">{escape(bad)}</p>')

    async def _simulate(self) -> None:
        """Simulate one channel after the other, that which is looked at first; stop if something else is asked."""
        found = {look.name: look for look in looks(self.asked, self.have, self.tool, self.seed)}
        self.looks, self._titles = {}, [self._title(look) for look in found.values()]
        chosen = self.controls["channel"].value
        for name in sorted(found, key=lambda one: one != chosen):
            look = found[name]
            self.progress.value = _status(self._say("app_thinking", channel=self._title(look)))
            replications = range(self.replications if look.random else 1)
            async with contextlib.aclosing(self._pool.map(look.day, replications)) as days:
                async for day in days:  # the kernel listens in between
                    look = look.having(day)
                    if self._wanted:
                        break
            known = {**self.looks, name: look}
            self.looks = {other: known[other] for other in found if other in known}
            self._show(chosen)
            self._pool = Pool.shared(Look, self._jobs)  # not before: the first answer doesn't share the processors
            await asyncio.sleep(0)
            if self._wanted:
                return
        self.progress.value = ""

    # Showing it

    def _show(self, chosen: str) -> None:
        look = self.looks[chosen]
        kind = "yes" if look.done == len(look.days) else "no"
        verdict, *rest = self._sentences(look)
        typed = self._typed(look)
        said = [
            f'<strong class="verdict {kind}">{escape(verdict)}</strong>',
            *([f'<span class="type">{escape(typed)}</span>'] if typed else []),
            *(f'<span class="said">{escape(one)}</span>' for one in rest),
        ]
        self.answer.value = self._shown(f'<p role="status">{"".join(said)}</p>')
        alt = self._say("app_alt", channel=self._title(look), answer=self.sentence(look))
        self.picture.value = plot.img(self.figure(chosen), alt)
        self.table.value = self._table(chosen)

    def _shown(self, html: str) -> str:
        """Return what is said in the app's own look."""
        return f'<div class="sendlab" lang="{self.words.language}">{html}</div>'

    def sentence(self, look: Look) -> str:
        """Return the answer about one channel: how probable it is to be done by the deadline, and what to type in.

        Parameters
        ----------
        look : Look
            The channel, with at least one day simulated.

        Returns
        -------
        str
            In the app's language.
        """
        return self._say("app_join").join(one for one in (*self._sentences(look), self._typed(look)) if one)

    def _sentences(self, look: Look) -> list[str]:
        """Return what happens in one channel, the verdict first; and which others are in time."""
        low, high = (self.words.percent(bound) for bound in look.interval)
        yes = look.done == len(look.days)
        clock = self._clock(look, look.deadline)
        said = [
            self._say("app_yes", channel=self._title(look), offered=look.offered, clock=self._clock(look, look.last))
            if yes
            else self._say("app_no", channel=self._title(look), offered=look.offered, deadline=clock)
        ]
        if look.lost:
            said.append(self._say("app_lost", count=look.lost, offered=look.offered))
        if look.late:
            said.append(self._say("app_late", count=look.late, offered=look.offered))
        if look.random:
            said.append(
                self._say("sure" if yes else "app_sure", done=look.done, runs=len(look.days), low=low, high=high)
            )
        else:
            said.append(self._say("sure_exactly"))
        others = [
            self._say("aside", what=self._title(one), aside=self._clock(one, one.last))
            for one in self.looks.values()
            if one.name != look.name and one.done == len(one.days) and one.candidate.role == look.candidate.role
        ]
        if others:
            said.append(self._say("also" if yes else "app_instead", channels=self._say("comma").join(others)))
        return said

    def _typed(self, look: Look) -> str:
        """Say what to type into the tool; nothing where nothing is to be typed."""
        if look.setting is None:
            return ""
        wait = self._say("seconds", value=f"{look.setting.wait:g}")
        return self._say("app_type", batch=look.setting.batch, wait=wait)

    def figure(self, chosen: str) -> Figure:
        """Return the picture: how the chosen channel takes the mail, and when each one is done.

        Parameters
        ----------
        chosen : str
            The name of a channel that was simulated.

        Returns
        -------
        Figure
            With two Axes.
        """
        look = self.looks[chosen]
        start = dt.datetime.combine(look.as_of, dt.time.fromisoformat(self.asked.start))
        line = self._say("app_deadline_line", clock=self._clock(look, look.deadline))
        finishes: dict[str, list[float]] = {title: [] for title in self._titles}
        notes = dict.fromkeys(self._titles, "\N{HORIZONTAL ELLIPSIS}")
        for one in self.looks.values():
            finishes[self._title(one)] = [day.finished_at for day in one.days]
            notes[self._title(one)] = self._days(one)
        figure = plot.finishing(
            [day.accepted_at for day in look.days],
            finishes,
            self._title(look),
            start,
            look.deadline,
            {"messages": self._say("app_accepted"), "done": self._say("app_dots"), "deadline": line},
            notes,
        )
        return plot.with_japanese(figure)

    def _table(self, chosen: str) -> str:
        first = next(iter(self.looks.values()))
        names = (
            self._say("channel"),
            self._say("done_by", deadline=self._clock(first, first.deadline)),
            self._say("app_slowest"),
            self._say("app_refused"),
            self._say("app_setting"),
        )
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
        rows = "".join(self._row(look, chosen) for look in self.looks.values())
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        return self._shown(f'<div style="overflow-x:auto">{table}</div>')

    def _row(self, look: Look, chosen: str) -> str:
        setting = self._say("not_counted")
        if look.setting is not None:
            wait = self._say("seconds", value=f"{look.setting.wait:g}")
            setting = self._say("app_each", batch=look.setting.batch, wait=wait)
        kind = "yes" if look.done == len(look.days) else "no"
        days = self.words.days(look.done, len(look.days), look.interval if look.random else None)
        cells = (self._clock(look, look.last), f"{look.lost:,}", setting)
        shown = f'<td class="{kind}">{escape(days)}</td>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        mark = ' class="chosen"' if look.name == chosen else ""
        return f'<tr{mark}><th scope="row">{escape(self._title(look))}</th>{shown}</tr>'

    # The card

    def _make_card(self, _button: object) -> None:
        if self._bad() or (self._card_maker is not None and not self._card_maker.done()):
            return
        self._card_maker = asyncio.get_running_loop().create_task(self._card())

    async def _card(self) -> None:
        """Make the card beside the kernel's own work, and offer it to be saved."""
        asked = self.asked
        told = [0.0]
        making = asyncio.ensure_future(asyncio.to_thread(self.html, asked, lambda share: told.__setitem__(0, share)))
        while not making.done():
            self.saved.value = self._shown(escape(self._say("app_card_working", percent=f"{100 * told[0]:.0f}")))
            await asyncio.wait([making], timeout=0.5)
        source = f"data:text/html;base64,{base64.b64encode((await making).encode('utf-8')).decode('ascii')}"
        link = f'<a class="save" download="card.html" href="{source}">{escape(self._say("app_card_ready"))}</a>'
        self.saved.value = self._shown(f'{link}<span class="said">{escape(self._say("app_card_what"))}</span>')

    def html(self, asked: Asked, progress: Callable[[float], None] = lambda share: None) -> str:
        """Return the card for what is asked, with the setting that is always safe (see `simlib.card.page`).

        Parameters
        ----------
        asked : Asked
            The question; pace and retry are left aside.
        progress : callable, optional
            Told now and then what share of the work is done, from 0 to 1.

        Returns
        -------
        str
            An HTML document that loads nothing.
        """
        numbers: dict[str, Any] = {
            "senders": asked.senders,
            "per_sender": asked.per_sender,
            "group_email": asked.group_email,
            "start": asked.start,
            "deadline": asked.deadline,
            "have": None if self.have is None else dict(self.have),
            "tool": self.tool,
        }
        # the answer and the grid of other numbers take about equally long
        advice = advise(
            from_team(**numbers), seed=self.seed, question=numbers, progress=lambda done, of: progress(done / of / 2)
        )
        return page(advice, self.words.language, lambda done, of: progress(0.5 + done / of / 2))

    # Words

    def _say(self, key: str, **values: object) -> str:
        return self.words.say(key, **values)

    def _title(self, look: Look) -> str:
        option = look.candidate.option
        return look.name if option is None else option.title[self.words.language]

    def _days(self, look: Look) -> str:
        days = len(look.days)
        return self._say("days", done=look.done, runs=days) if look.random else self.words.days(look.done, days, None)

    def _clock(self, look: Look, seconds: float) -> str:
        found = clock(look.candidate, seconds)
        if found is None:
            return self._say("never")
        time, _, days = found.partition("+")
        return time if not days else self._say("next_day" if days == "1" else "later_day", clock=time, days=days)


def asked_language(default: str = "en") -> str:
    """Return the language that the address of the app asks for: ``?lang=ja``.

    Parameters
    ----------
    default : str, optional
        What it is if the address asks for none that there are words for.

    Returns
    -------
    str
        One of `simlib.words.languages`.

    Examples
    --------
    >>> asked_language("ja") if "QUERY_STRING" not in os.environ else "ja"
    'ja'
    """
    for language in parse_qs(os.environ.get("QUERY_STRING", "")).get("lang", ()):
        if language in languages():
            return language
    return default


def _status(text: str, style: str = "") -> str:
    """Return a paragraph that is read out when it changes."""
    return f'<p role="status" style="{style}">{escape(text)}</p>'


def _is_time(text: str) -> bool:
    try:
        return len(text) == len("09:00") and bool(dt.time.fromisoformat(text).isoformat())
    except ValueError:
        return False
