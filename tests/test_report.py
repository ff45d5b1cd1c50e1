"""A comparison as people read it: the table, the sentences, and what the plots say beneath."""

from typing import Any

import pytest

from simlib.experiment import Result, compare
from simlib.report import comparison, conclusion, figures, rests_on
from simlib.scenario import Scenario


def beside(*, deadline: str | None = None, limits: dict[str, Any] | None = None) -> Result:
    """Return a team in a pool that nobody vouches for, on an IP of its own, and on a new one that waits."""
    way = {"tenants": ["us"], "to": {"google-mx": 0.5, "generic-mx": 0.5}, "retry": "postfix"}
    data = {
        "name": "beside",
        "start": "2026-12-01T08:00",
        "duration": "60h",
        "tenants": [{"name": "us", "senders": 2, "arrivals": {"kind": "batches", "size": 400}}],
        "alternatives": {
            "own": {"channels": [{"name": "own", **way}]},
            "new": {"channels": [{"name": "new", **way, "warmup": "braze-moderate"}]},
            "default": {
                "channels": [{"name": "default", **way, "aligned": False, "assumed": ["to", "aligned", "retry"]}]
            },
        },
        "limits": {"google-mx/quota": "300/h"} if limits is None else limits,
        **({} if deadline is None else {"deadline": deadline}),
    }
    return compare(Scenario.build(data), replications=2, jobs=1)


@pytest.fixture(scope="module")
def result() -> Result:
    return beside()


def test_without_a_deadline_in_time_is_within_an_hour(result: Result) -> None:
    table = comparison(result).set_index("channel")
    assert table["accepted within an hour"].to_dict() == {
        "own": "400",
        "new": f"{result.estimate('new', 'us', 'within_hour').mean:,.0f}",
        "default": table.loc["default", "accepted"],
    }
    assert "accepted within an hour" not in comparison(beside(deadline="09:30"))
    said = conclusion(result, {})
    assert "Most mail accepted, none of them shown to be worse than another: own; new." in said
    assert "Most mail accepted within an hour: own." in said
    shown = figures(result)
    assert shown["differences"].get_suptitle() == "Messages accepted within an hour, against own"
    assert "within\nan hour" in [text.get_text() for text in shown["comparison"].axes[0].texts]


def test_a_reply_that_refuses_most_is_named_and_no_limit_in_its_place(result: Result) -> None:
    refused = result.estimate("default", "us", "rejected").mean
    ((reply, messages),) = result.other_refusals("default", "us").items()
    assert (messages.mean, reply) == (refused, "550 5.7.26 at EOD")
    assert comparison(result).set_index("channel").loc["default", "bound by"] == f"{reply}: {refused:.0f} refused"
    titles = [axes.get_title(loc="right") for axes in figures(result)["timeline"].axes]
    assert titles[2].endswith(f"refused by {reply}")


def test_every_plot_names_what_it_assumes(result: Result) -> None:
    ids = [one["id"] for one in result.assumptions()]
    assert len(ids) > 3
    note = rests_on(result)
    assert note.startswith("Assumed: google-mx/quota, ")
    assert f" and {len(ids) - 3} more" in note
    for figure in figures(result).values():
        assert " ".join(figure.texts[-1].get_text().split()) == note


def test_where_nothing_is_assumed_no_plot_says_so() -> None:
    data = {
        "name": "plain",
        "duration": "1h",
        "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": 3}}],
        "alternatives": {"it": {"channels": [{"name": "it", "tenants": ["us"], "to": "plain"}]}},
        "providers": {"plain": {"title": "Plain", "role": "submission", "credential": "none", "auth": []}},
    }
    plain = compare(Scenario.build(data), replications=2, jobs=1)
    assert rests_on(plain) == ""
    assert all("Assumed" not in text.get_text() for one in figures(plain).values() for text in one.texts)
