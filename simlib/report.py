"""Results as people read them: tables in the terminal, files in a folder."""

import json
import math
import re
import textwrap
from collections.abc import Collection, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simlib import record
from simlib.estimate import Estimate
from simlib.experiment import Result
from simlib.receiver import is_scaled
from simlib.reputation import left_out
from simlib.sizing import MOST, largest_send
from simlib.summary import in_time

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

__all__ = ["comparison", "conclusion", "document", "figures", "one_off", "rests_on", "styled", "write"]

ONE_OFF_WITHIN = 900.0
"""Seconds in which a one-off send has to be done to be called one."""
WIDTH = 118
"""Characters in a line of text."""
AS_IT_STANDS = "as in the scenario"
"""The key of a one-off send under the scenario's own readings."""
WORTH_A_ROW = 0.01
"""Share of the offered messages from which on another reading of a limit gets its own row."""


def comparison(result: Result, tenant: str | None = None) -> "pd.DataFrame":
    """Return one row per alternative, as text: what became of the mail, what bound it, what it rests on.

    Parameters
    ----------
    result : Result
        What `compare` found.
    tenant : str, optional
        Whose mail; by default the first tenant's that isn't a neighbour.

    Returns
    -------
    DataFrame
        Counts are messages, with half the width of their 95 % interval where they are random.
    """
    import pandas as pd

    tenant = tenant or own_tenants(result)[0]
    rows = [_row(result, alternative, tenant) for alternative in result.runs]
    for under in result.under:
        rows += [_row(result, alternative, tenant, under) for alternative in _changed(result, under, by=WORTH_A_ROW)]
    table = pd.DataFrame(rows)
    return table.drop(columns=[name for name in SHOWN_IF_ANY if (table[name] == "0").all()])


COLUMNS = {"accepted": "accepted", "refused": "rejected", "expired": "expired", "waiting": "waiting"}
COLUMNS |= {"accepted twice": "duplicates", "ambiguous": "ambiguous", "held": "held"}
"""Headings of the counts, and the metrics they show."""
SHOWN_IF_ANY = ("expired", "waiting", "accepted twice", "ambiguous")
"""Columns that are left out where they have nothing but noughts."""


PARTS = {"at_once": "accepted, not throttled", "held": "accepted after throttling", "refused": "refused"}
"""What the parts of a bar are called."""


def own_tenants(result: Result) -> list[str]:
    """Return the tenants that are not neighbours."""
    return [tenant.name for tenant in result.scenario.tenants if not tenant.neighbour]


def _row(result: Result, alternative: str, tenant: str, under: tuple[str, str] | None = None) -> dict[str, str]:
    def count(metric: str) -> str:
        return with_interval(result.estimate(alternative, tenant, metric, under))

    scenario = result.scenario
    held = result.estimate(alternative, tenant, "held", under).mean or 0.0
    held_for = result.estimate(alternative, tenant, "held_mean", under)
    longest = result.estimate(alternative, tenant, "held_max", under)
    row = {"channel": alternative if under is None else f"{alternative}, if read as {under[1]!r}"}
    row |= {name: count(metric) for name, metric in COLUMNS.items()}
    row["held for (mean, longest)"] = f"{span(held_for.mean)}, {span(longest.mean)}" if held else "–"
    metric, words = in_time(scenario)
    row[words] = count(metric)
    row["95 % within"] = span(result.estimate(alternative, tenant, "delay_p95", under).mean)
    row["bound by"] = "" if under else _bound_by(result, alternative, tenant)
    row["shareable"] = "" if under else shareable(result, alternative)
    row["assumptions"] = "" if under else str(len(scenario.rests_on([alternative], result.as_of)))
    return row


def with_interval(estimate: Estimate) -> str:
    """Write a count with half the width of its interval: ``1,000 ± 5``.

    Examples
    --------
    >>> with_interval(Estimate(1000.0, 995.9, 1004.1)), with_interval(Estimate(30.0, 30.0, 30.0, random=False))
    ('1,000 ± 5', '30')
    """
    if estimate.mean is None:
        return "–"
    if estimate.low is None or estimate.high is None or estimate.high - estimate.low < 1e-9:
        return f"{estimate.mean:,.0f}"
    return f"{estimate.mean:,.0f} ± {math.ceil((estimate.high - estimate.low) / 2):,}"


def span(seconds: float | None) -> str:
    """Write a time span as people say it.

    Examples
    --------
    >>> [span(seconds) for seconds in (0.0, 4.2, 90, 1980, 40000, None)]
    ['at once', '4.2 s', '90 s', '33 min', '11.1 h', 'never']
    """
    if seconds is None:
        return "never"
    if seconds < 0.05:
        return "at once"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} d"


def _bound_by(result: Result, alternative: str, tenant: str) -> str:
    """Name what held the mail back: the limit or reply that refused most of it, else the biggest share of the delay."""
    lost = sum(result.estimate(alternative, tenant, metric).mean or 0.0 for metric in ("rejected", "expired"))
    shares = result.bound_by(alternative, tenant)
    cause = next(iter(shares), "")
    name, messages = _refused_most(result, alternative, tenant)
    if name and (lost or cause in ("", "retry")):
        return f"{name.partition('/')[2] or name}: {messages:,.0f} {'refused' if lost else 'deferred'}"
    return f"{cause.rpartition('/')[2]}: {shares[cause]:.0%} of delay" if shares else "nothing"


def shareable(result: Result, alternative: str) -> str:
    """Say whether one credential can serve the whole team."""
    lanes = result.scenario.lanes(alternative, result.as_of)
    return "no" if any(lane.provider.credential == "account" for lane in lanes) else "yes"


def one_off(result: Result) -> dict[str, dict[str, int]]:
    """Return the largest send that each alternative's channel takes from one sender without refusal, within 15 minutes.

    Parameters
    ----------
    result : Result
        The comparison.

    Returns
    -------
    dict
        Alternative -> reading (`AS_IT_STANDS` for the scenario's own) -> messages.
    """
    found: dict[str, dict[str, int]] = {}
    for alternative in result.runs:
        size = largest_send(result.scenario, alternative, ONE_OFF_WITHIN, result.as_of)
        found[alternative] = {AS_IT_STANDS: size}
    for key in result.under:
        limit, reading = key
        other = result.scenario.replace(readings={limit: reading})
        for alternative in result.under[key]:
            size = largest_send(other, alternative, ONE_OFF_WITHIN, result.as_of)
            if size != found[alternative][AS_IT_STANDS]:
                found[alternative][f"{limit} = {reading}"] = size
    return found


def _changed(result: Result, under: tuple[str, str], by: float = 0.0) -> list[str]:
    """Return the alternatives in which a reading changes what is accepted, refused or held, by more than a share."""
    found = []
    for alternative in result.under[under]:
        for tenant in own_tenants(result):
            offered = sum(result.values(alternative, tenant, "offered"))
            gaps = (
                abs(
                    sum(result.values(alternative, tenant, metric, under))
                    - sum(result.values(alternative, tenant, metric))
                )
                for metric in ("accepted", "rejected", "expired", "held")
            )
            if max(gaps) > by * offered:
                found.append(alternative)
    return list(dict.fromkeys(found))


def conclusion(result: Result, sends: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Say in sentences what the table shows, and under which other reading it would change.

    Parameters
    ----------
    result : Result
        The comparison.
    sends : mapping of str to mapping of str to int
        The largest single sends (`one_off`).

    Returns
    -------
    list of str
        Lines of at most `WIDTH` characters.
    """
    metric = "on time" if result.scenario.deadline is not None else "accepted"
    standing = result.conclusion()
    said = [f"Most mail {metric}, none of them shown to be worse than another: {_listed(result, standing)}."]
    if len(standing) < len(result.runs):
        said.append(f"Behind: {_listed(result, set(result.runs) - standing)}.")
    by, words = in_time(result.scenario)
    soon = result.conclusion(metric=by)
    if soon != standing:
        said.append(f"Most mail {words}: {_listed(result, soon)}.")
    for flip in result.flips():
        changed = result.conclusion((flip["limit"], flip["reading"]))
        if standing - changed:
            fallen = _listed(result, standing - changed)
            said.append(
                f"Where sources disagree: if {flip['limit']} is read as {flip['reading']!r}, behind too: {fallen}."
            )
        if changed - standing:
            risen = _listed(result, changed - standing)
            said.append(
                f"Where sources disagree: if {flip['limit']} is read as {flip['reading']!r}, no longer behind: {risen}."
            )
    said.append("Largest one-off send by one sender, taken whole within 15 minutes:")
    for alternative, sizes in sends.items():
        shown = [
            f"{size:,}{' or more' if size >= MOST else ''}" + ("" if name == AS_IT_STANDS else f" if {name}")
            for name, size in sizes.items()
        ]
        said.append(f"  {alternative}: {', '.join(shown)}")
    at_the_door = [name for name in result.runs if result.role(name) == "submission"]
    if at_the_door and len(at_the_door) < len(result.runs):
        said.append(
            f"Accepted is not delivered. These end at the provider's door, and what lies behind it is not claimed: "
            f"{_listed(result, at_the_door)}."
        )
    said += _about_delivery(result)
    assumed = result.assumptions()
    said.append(f"Rests on {len(assumed)} assumptions: {', '.join(one['id'] for one in assumed)}.")
    return [line for one in said for line in textwrap.wrap(one, WIDTH, subsequent_indent="  ", break_on_hyphens=False)]


def _about_delivery(result: Result) -> list[str]:
    """Say what is done to unauthenticated mail, and what the model of reputation leaves out, where either matters."""
    to_mx = [
        (name, lane)
        for name in result.runs
        for lane in result.scenario.lanes(name, result.as_of)
        if lane.provider.role == "delivery"
    ]
    said = []
    unaligned = {name for name, lane in to_mx if not lane.channel.aligned}
    if unaligned:
        met = {lane.provider.name: lane.provider for _, lane in to_mx if not lane.channel.aligned}
        asking = [name for name, provider in met.items() if provider.asks_for_authentication]
        others = [name for name, provider in met.items() if not provider.asks_for_authentication]
        said.append(
            f"Neither SPF nor DKIM vouches for the senders' own domains: {_listed(result, unaligned)}. "
            + (f"By their published rules for such mail answer: {', '.join(asking)}. " if asking else "")
            + (f"No rule is known of, and none applied: {', '.join(others)}. " if others else "")
            + "Mail that passes either for another domain, such as the tool's own in the envelope, isn't meant by them."
        )
    reputation = result.scenario.rules is not None
    if to_mx and reputation and not any(is_scaled(limit) for _, lane in to_mx for limit in lane.provider.limits):
        said.append(
            "Reputation is on, but no limit per IP is, so a bad one costs nothing here: set an amount, such as "
            'google-mx/quota = "1000/h" in [limits].'
        )
    if to_mx and (reputation or unaligned):
        said += [f"Left out: {one.meaning}" for one in left_out()]
    return said


def _listed(result: Result, alternatives: Collection[str]) -> str:
    """Name alternatives in the order of the scenario; their names may have commas."""
    return "; ".join(name for name in result.runs if name in alternatives)


def styled(table: "pd.DataFrame") -> "Styler":
    """Return a table as a notebook shows it well: text whole and on the left, addresses as links, no row numbers.

    Parameters
    ----------
    table : DataFrame
        What is to be shown. Numbers stay on the right.

    Returns
    -------
    Styler
        To be shown as it is.

    Examples
    --------
    >>> import pandas as pd
    >>> shown = styled(pd.DataFrame({"accepted": [6704.0], "source": ["https://learn.microsoft.com/a/b"]})).to_html()
    >>> ">6,704</td>" in shown, ">learn.microsoft.com</a>" in shown
    (True, True)
    """
    text = [name for name in table.columns if table[name].dtype.kind not in "iuf"]
    short = [name for name in text if table[name].map(lambda value: len(_linked(value, "{shown}"))).max() <= ONE_LINE]
    shown = (
        table.style.hide(axis="index")
        .set_properties(text, **{"text-align": "left", "white-space": "pre-wrap"})
        .set_properties(short, **{"white-space": "nowrap"})
        .set_table_styles([{"selector": "th", "props": "text-align: left; vertical-align: bottom"}])
        .set_table_styles([{"selector": "td", "props": "vertical-align: top"}], overwrite=False)
    )
    anchor = '<a href="{url}" target="_blank" rel="noopener">{shown}</a>'
    numbers = [name for name in table.columns if name not in text]
    shown = shown.format(lambda value: f"{value:,.{0 if value == round(value) else 1}f}", subset=numbers, na_rep="–")
    return shown.format(lambda value: _linked(escape(str(value)), anchor), subset=text, na_rep="–")


ONE_LINE = 26
"""Characters up to which a column of text isn't broken into lines."""


def _linked(text: str, anchor: str) -> str:
    """Put a link in place of each address; one that the text begins with is shown as its host, others as they are."""
    return re.sub(
        r"https?://([^/\s]+)[^\s;,)]*",
        lambda url: anchor.format(url=url[0], shown=url[0].replace("/", "/<wbr>") if url.start() else url[1]),
        str(text),
    )


def document(result: Result) -> dict[str, Any]:
    """Return what `compare --json` prints and `summary.json` holds.

    Parameters
    ----------
    result : Result
        The comparison.

    Returns
    -------
    dict of str to object
        What JSON can hold.
    """
    return {**result.json(), "one_off": one_off(result)}


def figures(result: Result) -> dict[str, Any]:
    """Draw the plots of a comparison, for the first tenant that isn't a neighbour.

    Parameters
    ----------
    result : Result
        The comparison.

    Returns
    -------
    dict of str to Figure
        By file name: ``comparison`` (what becomes of the messages), ``timeline`` (when; first replication), ``delay``
        (within how long; first replication), ``goodput`` and ``differences`` (with intervals).
    """
    import pandas as pd

    from simlib import plot

    tenant, scenario = own_tenants(result)[0], result.scenario
    deadline = "" if scenario.deadline is None else f"{scenario.deadline:%H:%M}"
    metric, words = in_time(scenario)
    offered = result.estimate(result.baseline, tenant, "offered").mean or 0.0
    goodput = [{"alternative": name} | result.estimate(name, tenant, "goodput_per_hour").json() for name in result.runs]
    fates = [result.fates(tenant)]
    for flip in result.flips():
        if flip["flips"]:
            under = flip["limit"], flip["reading"]
            changed = result.fates(tenant, under)
            changed = changed[changed["alternative"].isin(_changed(result, under, by=WORTH_A_ROW))]
            fates.append(changed.assign(alternative=changed["alternative"] + f",\nif read as {flip['reading']!r}"))
    found = {
        "comparison": plot.comparison(pd.concat(fates), f"{scenario.name}: {offered:,.0f} messages", deadline, PARTS),
        "timeline": plot.timelines(
            {name: result.timeline(name, tenant) for name in result.runs},
            "What each channel answers, minute by minute",
            {name: _refused_most(result, name, tenant)[0] for name in result.runs},
        ),
        "delay": plot.delay_ecdf(
            {name: result.delays(name, tenant) for name in result.runs}, "How soon a message is accepted"
        ),
        "goodput": plot.goodput(pd.DataFrame(goodput), "Goodput"),
    }
    if len(result.runs) > 1:
        changes = [
            {"alternative": name} | result.difference(result.baseline, name)[tenant][metric].json()
            for name in list(result.runs)[1:]
        ]
        what = f"messages {words}"
        found["differences"] = plot.forest(
            pd.DataFrame(changes), f"{what.capitalize()}, against {result.baseline}", f"difference in {what}"
        )
    for figure in found.values():
        plot.note(figure, rests_on(result))
    return found


def rests_on(result: Result) -> str:
    """Say below a plot what its numbers rest on.

    Parameters
    ----------
    result : Result
        The comparison.

    Returns
    -------
    str
        A sentence; empty where nothing is assumed.
    """
    ids = [one["id"] for one in result.assumptions()]
    if not ids:
        return ""
    first = [id_ for id_ in ids if "/" in id_ and not id_.startswith("reputation/")]  # amounts before habits
    more = f" and {len(ids) - NAMED} more (see `rests_on`)" if len(ids) > NAMED else ""
    shown = [*first, *(id_ for id_ in ids if id_ not in first)][:NAMED]
    return f"Assumed: {', '.join(shown)}{more}."


NAMED = 3
"""How many assumptions a plot names."""


def _refused_most(result: Result, alternative: str, tenant: str) -> tuple[str, float]:
    """Return the limit that throttled most of a tenant's messages, or the reply if one refused more; and how many."""
    found = {name: e.mean or 0.0 for name, e in result.refusals(alternative, tenant).items()}
    found |= {reply: e.mean or 0.0 for reply, e in result.other_refusals(alternative, tenant).items()}
    name = max(found, key=lambda name: found[name]) if any(found.values()) else ""
    return name, found.get(name, 0.0)


def write(
    result: Result, folder: Path, document: Mapping[str, Any], more: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write `summary.json`, `attempts.parquet` and the plots, and `more` of them, into a folder; return their paths.

    Everything is written under another name first, so that whoever interrupts it finds the folder as it was.

    Parameters
    ----------
    result : Result
        The comparison.
    folder : Path
        Where to; it is made if it is not there.
    document : mapping of str to object
        What goes into `summary.json`.
    more : mapping of str to object, optional
        Further figures, by file name.

    Returns
    -------
    list of Path
        What was written.
    """
    from simlib import plot

    folder.mkdir(parents=True, exist_ok=True)
    drafts: dict[Path, Path] = {}

    def draft(name: str) -> Path:
        drafts[folder / name] = folder / f".{name}.draft"
        return drafts[folder / name]

    try:
        draft("summary.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        about = {"scenario": result.scenario.name, "seed": str(result.seed)}
        record.write(result.frames(), draft("attempts.parquet"), about)
        for name, figure in {**figures(result), **(more or {})}.items():
            plot.save(figure, draft(f"{name}.png"))
        for path, drafted in drafts.items():
            drafted.replace(path)
    finally:
        for drafted in drafts.values():
            drafted.unlink(missing_ok=True)
    return list(drafts)
