"""The plots: what is drawn is what the tables say, nothing is hidden, and the same figure is the same file."""

import datetime as dt
import io
import itertools
import math
import subprocess
import sys
from collections.abc import Callable

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.container import BarContainer
from matplotlib.dates import date2num, num2date
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D

from simlib import plot, plot_style, plot_timeline

MINUTE = 1 / 1440  # in days, as matplotlib counts
LIMIT = "office365/messages-per-minute"


def day(rows: dict[str, tuple[float, float, float, float]]) -> pd.DataFrame:
    """A day of minutes in Tokyo, all empty but those given."""
    index = pd.date_range("2026-12-01T00:00", periods=1440, freq="min", tz="Asia/Tokyo")
    table = pd.DataFrame(0.0, index=index, columns=["accepted", "held", "refused", "deferred", "holding"])
    for clock, values in rows.items():
        moment = pd.Timestamp(f"2026-12-01 {clock}", tz="Asia/Tokyo")
        table.loc[moment, ["accepted", "held", "refused", "holding"]] = values
    return table


def group_email() -> pd.DataFrame:
    """1,000 at once through one mailbox that takes 30 a minute and holds the rest."""
    held = {f"10:{minute:02}": (0.0, 30.0, 0.0, 1.0) for minute in range(1, 33)}
    return day({"10:00": (30, 0, 0, 1), **held, "10:33": (0, 10, 0, 0)})


def refusals() -> pd.DataFrame:
    """5,937 refused in a minute, on a day of two messages every quarter of an hour, refused from then on."""
    accepted = {f"{hour:02}:{quarter}": (2.0, 0.0, 0.0, 0.0) for hour in (8, 9) for quarter in ("00", "15", "30", "45")}
    refused = {f"{hour}:{quarter}": (0.0, 0.0, 2.0, 0.0) for hour in range(10, 18) for quarter in ("15", "30", "45")}
    return day({**accepted, "10:00": (802, 0, 5937, 0), **refused})


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def lines(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.lines if not str(line.get_label()).startswith("_")}


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def data(line: Line2D) -> list[tuple[float, float]]:
    x, y = (np.asarray(values, dtype=float).tolist() for values in line.get_data())
    return list(zip(x, y, strict=True))


def clock(days: float) -> pd.Timestamp:
    """A position on the time axis as local time, to the second."""
    return pd.Timestamp(num2date(days)).tz_convert("Asia/Tokyo").round("s")  # type: ignore[no-untyped-call]


def minutes(line: Line2D) -> dict[str, float]:
    """What a series of a timeline shows, by the minute's beginning."""
    return {f"{clock(x - MINUTE / 2):%H:%M}": y for x, y in data(line)}


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    plot.save(figure, buffer)
    return buffer.getvalue()


# A timeline


def test_a_timeline_shows_every_minute_that_has_any() -> None:
    table = group_email()
    shown = lines(axes_of(plot.timeline(table, "held")))
    assert minutes(shown["accepted"]) == {"10:00": 30}
    assert minutes(shown["accepted after a hold"]) == {
        f"{at:%H:%M}": count for at, count in table["held"].items() if count > 0
    }
    assert "refused" not in shown


def test_the_time_in_which_a_limit_holds_is_shaded_and_the_limit_named() -> None:
    table = day({"10:00": (1, 0, 0, 0.25), "10:01": (0, 5, 0, 1.0), "10:03": (0, 1, 0, 0.5)})
    axes = axes_of(plot.timeline(table, "held", LIMIT))
    (mesh,) = (artist for artist in axes.collections if isinstance(artist, QuadMesh))
    shade: np.typing.NDArray[np.float64] = np.ma.filled(np.ma.asarray(mesh.get_array()), 0.0).ravel()
    begins = np.asarray(mesh.get_coordinates())[0, :-1, 0]
    shaded = {f"{clock(begin):%H:%M}": share for begin, share in zip(begins, shade, strict=True) if share > 0}
    assert shaded == {"10:00": 0.25, "10:01": 1.0, "10:03": 0.5}
    assert f"shaded: {LIMIT} holds replies" in texts(axes)


def test_the_shade_is_to_be_seen() -> None:
    figure = plot.timeline(day({"10:00": (0, 9, 0, 1.0), "10:09": (0, 9, 0, 0.0)}), "held")
    axes = axes_of(figure)
    image = imread(io.BytesIO(png(figure)))
    greys = []
    for minute in ("10:00", "10:09"):
        moment = pd.Timestamp(f"2026-12-01 {minute}:10", tz="Asia/Tokyo")  # beside the stem
        x, y = axes.transData.transform((date2num(moment), 5.3))  # type: ignore[no-untyped-call]
        greys.append(float(image[image.shape[0] - round(y), round(x), :3].mean()))
    assert greys[0] < 0.9
    assert greys[1] == 1.0


def test_more_of_the_minute_is_a_darker_shade() -> None:
    greys = [to_rgb(plot_timeline.SHADES(share))[0] for share in (0.0, 0.25, 0.5, 1.0)]
    assert greys == sorted(greys, reverse=True)
    assert greys[0] > greys[-1]


def test_a_limit_that_refuses_is_named_where_it_refuses() -> None:
    axes = axes_of(plot.timeline(refusals(), "refused", "sparkpost/messages-per-day"))
    assert "refused: at most 5,937 a minute\nby sparkpost/messages-per-day" in texts(axes)
    assert not [artist for artist in axes.collections if isinstance(artist, QuadMesh)]


def test_deferrals_are_apart_from_refusals() -> None:
    table = day({"10:00": (5, 0, 2, 0)})
    table.loc[pd.Timestamp("2026-12-01 10:01+09:00"), "deferred"] = 9
    figure = plot.timeline(table, "deferred", "google-mx/quota")
    assert minutes(lines(axes_of(figure))["deferred"]) == {"10:01": 9}
    assert minutes(lines(axes_of(figure))["refused"]) == {"10:00": 2}
    assert "deferred: at most 9 a minute\nby google-mx/quota" in texts(axes_of(figure))
    several = plot.timelines({"A": table}, "deferred", {"A": "google-mx/quota"})
    assert axes_of(several).get_title("right") == "9 deferred, 2 refused by google-mx/quota"


def test_the_scale_is_logarithmic_only_if_a_burst_dwarfs_the_rest() -> None:
    even, burst = axes_of(plot.timeline(group_email(), "even")), axes_of(plot.timeline(refusals(), "burst"))
    assert (even.get_yscale(), even.get_ylabel()) == ("linear", "attempts per minute")
    assert (burst.get_yscale(), burst.get_ylabel()) == ("symlog", "attempts per minute, log scale")
    assert even.get_ylim()[1] > 30
    assert burst.get_ylim()[1] > 5937
    assert even.get_ylim()[0] == burst.get_ylim()[0] == 0


def test_every_series_has_its_own_marker_and_its_own_grey() -> None:
    table = day({"10:00": (1, 2, 3, 0)}).assign(deferred=4.0)
    shown = lines(axes_of(plot.timeline(table, "all"))).values()
    greys = sorted(float(np.dot(to_rgb(str(line.get_color())), (0.299, 0.587, 0.114))) for line in shown)
    assert len({line.get_marker() for line in shown}) == 4
    assert min(np.diff(greys)) > 0.03


def test_a_timeline_shows_the_time_in_which_something_is_held_or_refused_and_says_what_lies_outside() -> None:
    table = group_email()
    table.loc[pd.Timestamp("2026-12-01 18:00", tz="Asia/Tokyo"), "accepted"] = 7
    axes = axes_of(plot.timeline(table, "zoomed"))
    begin, end = (clock(x) for x in axes.get_xlim())
    assert pd.Timestamp("2026-12-01 09:55+09:00") < begin < pd.Timestamp("2026-12-01 10:00+09:00")
    assert pd.Timestamp("2026-12-01 10:34+09:00") < end < pd.Timestamp("2026-12-01 10:40+09:00")
    assert axes.get_xlabel() == "local time (UTC+09:00), 2026-12-01 (7 of 1,007 attempts lie outside)"


def test_without_a_limit_at_work_the_quiet_nights_are_cut() -> None:
    busy = {f"{hour:02}:30": (100.0, 0.0, 0.0, 0.0) for hour in range(9, 17)}
    axes = axes_of(plot.timeline(day({"01:00": (1, 0, 0, 0), **busy, "23:00": (1, 0, 0, 0)}), "free"))
    shown = minutes(lines(axes)["accepted"])
    assert list(shown) == list(busy)
    assert axes.get_xlabel().endswith("(2 of 802 attempts lie outside)")


def test_a_timeline_can_be_zoomed_by_hand() -> None:
    between = pd.Timestamp("2026-12-01 10:05+09:00"), pd.Timestamp("2026-12-01 10:10+09:00")
    axes = axes_of(plot.timeline(group_email(), "five minutes", between=between))
    assert axes.get_xlim() == tuple(date2num(between))  # type: ignore[no-untyped-call]
    held = minutes(lines(axes)["accepted after a hold"])
    assert list(held) == ["10:05", "10:06", "10:07", "10:08", "10:09"]


def test_the_clock_is_local() -> None:
    figure = plot.timeline(group_email(), "local")
    figure.draw_without_rendering()
    ticks = [tick.get_text() for tick in axes_of(figure).get_xticklabels()]
    assert "10:00" in ticks
    assert "01:00" not in ticks  # the same in UTC


def test_a_run_over_midnight_names_both_days() -> None:
    index = pd.date_range("2026-12-01T23:30", periods=60, freq="min", tz="Asia/Tokyo")
    table = pd.DataFrame({"accepted": 1.0, "held": 0.0, "deferred": 0.0, "refused": 1.0, "holding": 0.0}, index=index)
    assert "2026-12-01 to 2026-12-02" in axes_of(plot.timeline(table, "late")).get_xlabel()


def test_a_day_up_to_midnight_is_one_day() -> None:
    table = day({"00:00": (0, 0, 1, 0), "23:59": (0, 0, 1, 0)})
    assert axes_of(plot.timeline(table, "all day")).get_xlabel() == "local time (UTC+09:00), 2026-12-01"


def test_one_minute() -> None:
    table = refusals().iloc[600:601]
    figure = plot.timeline(table, "one minute")
    shown = lines(axes_of(figure))
    assert {name: minutes(line) for name, line in shown.items()} == {
        "accepted": {"10:00": 802},
        "refused": {"10:00": 5937},
    }
    begin, end = axes_of(figure).get_xlim()
    assert (end - begin) / MINUTE == pytest.approx(5)  # floats: days since 1970
    assert png(figure)


@pytest.mark.parametrize("table", [day({}), day({}).iloc[:0], pd.DataFrame(day({}).iloc[:0].reset_index(drop=True))])
def test_nothing_happened(table: pd.DataFrame) -> None:
    for figure in (plot.timeline(table, "nothing"), plot.timelines({"A": table}, "nothing")):
        assert texts(axes_of(figure)) == ["nothing was sent"]
        assert png(figure)


# Several timelines


def test_timelines_share_their_axes_and_each_says_what_was_held_and_refused() -> None:
    tables = {"Office 365": group_email(), "SparkPost": refusals(), "Own server": day({"10:00": (1000, 0, 0, 0)})}
    figure = plot.timelines(tables, "three", {"Office 365": LIMIT})
    assert [axes.get_title("left") for axes in figure.axes] == list(tables)
    assert [axes.get_title("right") for axes in figure.axes] == [
        f"970 held by {LIMIT}",
        "5,985 refused",
        "nothing throttled",
    ]
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert minutes(lines(figure.axes[1])["refused"])["10:00"] == 5937
    assert minutes(lines(figure.axes[2])["accepted"]) == {"10:00": 1000}
    assert png(figure)


def test_timelines_show_where_nearly_all_of_the_throttling_is_and_say_what_lies_outside() -> None:
    figure = plot.timelines({"Office 365": group_email(), "SparkPost": refusals()}, "two")
    begin, end = (clock(x) for x in figure.axes[0].get_xlim())
    assert pd.Timestamp("2026-12-01 09:55+09:00") < begin < pd.Timestamp("2026-12-01 10:00+09:00")
    assert pd.Timestamp("2026-12-01 10:28+09:00") < end < pd.Timestamp("2026-12-01 10:34+09:00")
    label = figure.axes[-1].get_xlabel()
    assert label == "local time (UTC+09:00), 2026-12-01\n84 of 6,955 attempts held, deferred or refused lie outside"


def test_no_timelines() -> None:
    assert texts(axes_of(plot.timelines({}, "none"))) == ["nothing was sent"]


# Delays


def curve(axes: Axes, name: str) -> list[tuple[float, float]]:
    return data(lines(axes)[name])


def ends(axes: Axes) -> list[tuple[float, float, object]]:
    return [(*data(line)[0], line.get_marker()) for line in axes.lines if line.get_label() == "_end"]


def test_a_curve_is_the_share_of_offered_messages_accepted_within() -> None:
    axes = axes_of(plot.delay_ecdf({"A": np.array([60.0, 0.0, 0.3, 120.0, 60.0])}, "one"))
    assert curve(axes, "A") == [(1, 0.4), (60, 0.8), (120, 1.0)]  # up to a second is at once
    assert lines(axes)["A"].get_drawstyle() == "steps-post"
    assert ends(axes) == [(120, 1.0, "o")]
    assert "A" in texts(axes)


def test_a_curve_begins_at_zero_if_nothing_is_accepted_at_once() -> None:
    assert curve(axes_of(plot.delay_ecdf({"A": [2.0, 3.0]}, "late")), "A") == [(1, 0.0), (2, 0.5), (3, 1.0)]


def test_a_curve_ends_where_refusals_begin() -> None:
    delays = {"hold": [0.0] * 30 + [60.0] * 970, "refuse": [0.0] * 30 + [math.inf] * 970, "part": [9.0, 99.0, math.inf]}
    axes = axes_of(plot.delay_ecdf(delays, "three"))
    names = ["hold", "refuse: 97 % never accepted", "part: 33 % never accepted"]
    assert list(lines(axes)) == names
    assert curve(axes, names[1]) == [(1, 0.03)]
    assert curve(axes, names[2]) == [(1, 0.0), (9, 1 / 3), (99, 2 / 3)]
    assert ends(axes) == [(60, 1.0, "o"), (1, 0.03, "X"), (99, 2 / 3, "X")]
    assert set(names) <= set(texts(axes))


def test_nothing_accepted_at_all_is_a_cross_at_zero() -> None:
    axes = axes_of(plot.delay_ecdf({"A": [math.inf] * 3}, "none"))
    assert ends(axes) == [(1, 0.0, "X")]
    assert texts(axes) == ["A: 100 % never accepted"]


def test_everything_accepted_at_once_is_a_dot_at_the_left_edge() -> None:
    assert ends(axes_of(plot.delay_ecdf({"A": [0.0] * 3}, "fast"))) == [(1, 1.0, "o")]


def test_identical_curves_are_drawn_once_under_both_names() -> None:
    axes = axes_of(plot.delay_ecdf({"A": [0.0, 60.0], "B": [5.0, 60.0], "C": [60.0, 0.5]}, "twins"))
    assert list(lines(axes)) == ["A = C", "B"]


def test_curves_that_differ_little_differ_in_color_and_dashes() -> None:
    axes = axes_of(plot.delay_ecdf({f"channel {n}": [0.0, 60.0 + n] for n in range(12)}, "twelve"))
    shown = list(lines(axes).values())
    assert len({(line.get_color(), str(line._unscaled_dash_pattern)) for line in shown}) == 12  # type: ignore[attr-defined]
    for one, other in itertools.pairwise(shown):
        assert one._unscaled_dash_pattern != other._unscaled_dash_pattern  # type: ignore[attr-defined]


def test_names_that_do_not_fit_beside_their_curves_go_into_a_legend() -> None:
    delays = {f"{number:02} a rather long name for an alternative": [number + 2.0, math.inf] for number in range(26)}
    figure = plot.delay_ecdf(delays, "crowded")
    legend = axes_of(figure).get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(lines(axes_of(figure)))
    assert texts(axes_of(figure)) == []
    assert {line.get_label() for line in axes_of(figure).lines} - {"_end"} == set(lines(axes_of(figure)))


@pytest.mark.parametrize("delays", [{}, {"A": []}, {"A": np.array([])}])
def test_nothing_offered(delays: dict[str, list[float]]) -> None:
    figure = plot.delay_ecdf(delays, "nothing")
    assert texts(axes_of(figure)) == ["nothing was offered"]
    assert png(figure)


@pytest.mark.parametrize(("delay", "shown"), [(-1.0, "-1.0"), (math.nan, "nan")])
def test_a_delay_is_at_least_0(delay: float, shown: str) -> None:
    with pytest.raises(ValueError, match=f"delays of 'A' must be at least 0 s, inf for never: got {shown}"):
        plot.delay_ecdf({"A": [1.0, delay]}, "wrong")


# Intervals


def intervals(*rows: tuple[str, float | None, float | None, float | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["alternative", "mean", "low", "high"])


def bars(axes: Axes) -> list[list[list[float]]]:
    (collection,) = (artist for artist in axes.collections if isinstance(artist, LineCollection))
    return [np.asarray(segment).tolist() for segment in collection.get_segments()]


def dots(axes: Axes, color: str) -> list[tuple[float, float]]:
    found = [line for line in axes.lines if line.get_marker() == "o" and line.get_markerfacecolor() == color]
    return [point for line in found for point in data(line)]


def test_goodput_shows_means_and_intervals_in_the_order_given() -> None:
    table = intervals(
        ("B", 279.5, 277.0, 282.0), ("A", 36.0, 35.5, 36.5), ("C", 12.0, None, None), ("D", None, None, None)
    )
    axes = axes_of(plot.goodput(table, "goodput"))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["B", "A", "C", "D"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first on top
    assert dots(axes, plot_style.BLUE) == [(279.5, 0), (36.0, 1), (12.0, 2)]
    assert bars(axes) == [[[277.0, 0], [282.0, 0]], [[35.5, 1], [36.5, 1]], [[12.0, 2], [12.0, 2]]]
    assert texts(axes) == ["280  (277 to 282)", "36  (35.5 to 36.5)", "12", "no number"]
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlabel() == "accepted messages per hour, with 95 % interval"


def test_forest_has_a_line_at_0_and_open_dots_where_it_is_not_excluded() -> None:
    certain = ("less", -40.0, -55.0, -25.0), ("always", 5.0, 5.0, 5.0)
    uncertain = ("unclear", 12.0, -3.0, 27.0), ("same", 0.0, 0.0, 0.0), ("once", 5.0, None, None)
    table = intervals(*certain, *uncertain)
    axes = axes_of(plot.forest(table, "forest"))
    assert dots(axes, plot_style.BLUE) == [(-40.0, 0), (5.0, 1)]
    assert dots(axes, "white") == [(12.0, 2), (0.0, 3), (5.0, 4)]
    assert [0, 0] in [[x for x, _ in data(line)] for line in axes.lines]
    low, high = axes.get_xlim()
    assert low < -55
    assert high > 27
    assert texts(axes) == ["−40  (−55 to −25)", "+5", "+12  (−3 to +27)", "0", "+5"]


@pytest.mark.parametrize("draw", [plot.goodput, plot.forest])
@pytest.mark.parametrize("table", [intervals(), intervals(("A", None, None, None))])
def test_no_numbers(draw: Callable[[pd.DataFrame, str], Figure], table: pd.DataFrame) -> None:
    figure = draw(table, "none")
    assert "no numbers" in texts(axes_of(figure))
    assert png(figure)


# How one number depends on another


def losses(*rows: tuple[str, float, float | None, float | None, float | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["name", "x", "mean", "low", "high"])


def simulated(axes: Axes) -> list[list[tuple[float, float]]]:
    return [data(line) for line in axes.lines if line.get_label() == "_points"]


def test_points_lie_where_they_were_simulated_each_with_its_interval() -> None:
    axes = axes_of(plot.dependence(losses(("A", 1, 0.2, 0.1, 0.3), ("A", 2, 0.4, 0.4, 0.5)), "loss", "offered", "lost"))
    assert simulated(axes) == [[(1, 0.2), (2, 0.4)]]
    assert bars(axes) == [[[1, 0.1], [1, 0.3]], [[2, 0.4], [2, 0.5]]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("offered", "lost")
    assert axes.get_ylim()[0] == 0


def test_a_theory_is_the_curve_and_without_one_the_points_are_joined() -> None:
    points = losses(("A", 1, 0.2, None, None), ("A", 2, 0.4, None, None), ("B", 1, 0.1, None, None))
    axes = axes_of(plot.dependence(points, "loss", "offered", "lost", {"A": ([1, 1.5, 2], [0.2, 0.3, 0.4])}))
    assert {name: data(line) for name, line in lines(axes).items()} == {
        "A": [(1, 0.2), (1.5, 0.3), (2, 0.4)],
        "B": [(1, 0.1)],
    }
    assert texts(axes) == ["A", "B"]


def test_shares_are_percent_and_seconds_are_spans_on_a_logarithmic_axis() -> None:
    points = losses(("A", 500, 0.5, 0.4, 0.6), ("A", 2000, 1.0, 1.0, 1.0))
    shares = axes_of(plot.dependence(points, "shares", "quota", "lost", unit="share"))
    assert "50 %" in {shares.yaxis.get_major_formatter()(tick, 0) for tick in (0.5, 1.0)}
    points[["mean", "low", "high"]] *= 3600
    seconds = axes_of(plot.dependence(points, "delays", "quota", "within", unit="seconds", log=True))
    assert (seconds.get_xscale(), seconds.get_yscale()) == ("log", "log")
    assert [label.get_text() for label in seconds.get_yticklabels()] == ["1 h"]
    assert seconds.get_xticks().tolist() == [500, 2000]
    assert seconds.get_ylabel() == "within, log scale"


def test_where_the_better_changes_is_a_line_with_its_interval_and_what_is_better_on_either_side() -> None:
    points = losses(("A", 0.0, 0.1, 0.0, 0.2), ("A", 0.3, 0.4, 0.4, 0.5))
    divide = plot.Divide(0.1, 0.05, 0.2, "even", "stay", "go")
    axes = axes_of(plot.dependence(points, "loss", "bad", "lost", divide=divide, across_unit="share"))
    (line,) = (line for line in axes.lines if line.get_label() == "_divide")
    (band,) = (patch for patch in axes.patches if patch.get_label() == "_interval")
    assert set(np.asarray(line.get_xdata(), dtype=float)) == {0.1}
    assert band.get_extents().transformed(axes.transData.inverted()).intervalx == pytest.approx((0.05, 0.2))
    left, right, even = (next(t for t in axes.texts if said in t.get_text()) for said in ("stay", "go", "even"))
    middle = axes.transData.transform((0.1, 0))[0]
    assert left.get_window_extent().x1 <= middle <= min(right.get_window_extent().x0, even.get_window_extent().x0)
    assert axes.xaxis.get_major_formatter()(0.05, 0) == "5 %"


@pytest.mark.parametrize("points", [losses(), losses(("A", 1, None, None, None))])
def test_nothing_was_simulated(points: pd.DataFrame) -> None:
    figure = plot.dependence(points, "none", "offered", "lost")
    assert "no numbers" in texts(axes_of(figure))
    assert png(figure)


# The headline

FATES = ["at_once", "held", "refused", "expired", "waiting"]


def channels() -> pd.DataFrame:
    columns = ["alternative", "offered", *FATES, "held_mean", "on_time"]
    rows = [
        ("Office 365", 1000, 30, 970, 0, 0, 0, 1026.0, 1000),
        ("SparkPost", 1000, 100, 0, 900, 0, 0, 0.0, 100),
        ("Dedicated IP", 1000, 200, 500, 0, 125, 175, 7920.0, 450),
        ("Nobody", 0, 0, 0, 0, 0, 0, 0.0, 0),
    ]
    return pd.DataFrame(rows, columns=columns)


def test_comparison_stacks_what_became_of_the_messages() -> None:
    rows = channels()
    axes = axes_of(plot.comparison(rows, "three channels", "17:30"))
    filled = [c for c in axes.containers if isinstance(c, BarContainer) and not str(c.get_label()).startswith("_")]
    widths = np.array([[bar.get_width() for bar in container] for container in filled])
    assert widths.T.tolist() == rows[FATES].to_numpy(dtype=float).tolist()
    starts = np.array([[bar.get_x() for bar in container] for container in filled])
    assert starts.tolist() == (np.cumsum(widths, axis=0) - widths).tolist()
    assert (widths.sum(axis=0) == rows["offered"]).all()
    looks = {(container[0].get_facecolor(), container[0].get_hatch()) for container in filled}
    assert len(looks) == len({hatch for _, hatch in looks if hatch}) + 2 == 5  # the two without hatch: dark and white


def test_comparison_prints_the_counts_and_who_is_on_time() -> None:
    axes = axes_of(plot.comparison(channels(), "three channels", "17:30"))
    assert texts(axes) == [
        "30 accepted at once; 970 later (by 17.1 min on average)",
        "100 accepted at once; 900 refused",
        "200 accepted at once; 500 later (by 2.2 h on average); 125 expired; 175 waiting",
        "nothing offered",
        "on time\nby 17:30",
        "100 %",
        "10 %",
        "45 %",
        "–",
    ]


def test_without_a_deadline_nobody_is_on_time() -> None:
    assert len(texts(axes_of(plot.comparison(channels(), "three channels")))) == 4


def test_without_a_deadline_in_time_is_within_an_hour() -> None:
    axes = axes_of(plot.comparison(channels().assign(within_hour=[500, 100, 250, 0]), "three channels"))
    assert texts(axes)[4:] == ["within\nan hour", "50 %", "10 %", "25 %", "–"]


def test_a_long_line_under_a_bar_stays_in_the_picture() -> None:
    rows = channels().iloc[2:3].assign(alternative="New dedicated IP, waiting for weeks")
    figure = plot.comparison(rows, "one", names={"held": "accepted after throttling by a limit"})
    (line,) = axes_of(figure).texts
    assert line.get_window_extent().x1 <= figure.bbox.x1


def test_a_long_key_ends_before_the_column_at_the_right() -> None:
    rows = channels().assign(alternative=["New dedicated IP, waiting", *"abc"])
    words = {"at_once": "accepted, not throttled", "held": "accepted later"}
    axes = axes_of(plot.comparison(rows, "all there is", "17:30", words))
    key = axes.get_legend()
    assert key is not None
    box = key.get_window_extent()
    assert 0 <= box.x0 < axes.bbox.x0
    assert box.x1 <= axes.bbox.x1 + 1
    assert box.y0 >= axes.bbox.y1


def test_a_note_makes_a_figure_taller_and_moves_nothing() -> None:
    figure, plain = (plot.comparison(channels(), "three channels", "17:30") for _ in range(2))
    plot.note(figure, "Assumed: " + ", ".join(f"microsoft-mx/messages-{number}" for number in range(12)))
    for noted, before in zip(figure.texts, plain.texts, strict=False):
        assert noted.get_window_extent().y1 - figure.bbox.y1 == pytest.approx(
            before.get_window_extent().y1 - plain.bbox.y1, abs=0.5
        )
    figures_axes = [(one.axes[0].get_window_extent(), one.bbox.y1) for one in (figure, plain)]
    (noted_box, top), (box, plain_top) = figures_axes
    assert (noted_box.height, top - noted_box.y1) == pytest.approx((box.height, plain_top - box.y1))
    written = figure.texts[-1].get_window_extent()
    assert 0 <= written.y0 < written.y1 < figure.bbox.y1 - plain.bbox.y1
    assert written.x1 <= figure.bbox.x1


def test_comparison_explains_only_what_occurs_and_takes_other_words() -> None:
    axes = axes_of(plot.comparison(channels().iloc[1:2], "one", names={"at_once": "sofort"}))
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["sofort", "refused"]
    assert texts(axes) == ["100 sofort; 900 refused"]


def test_no_alternatives() -> None:
    figure = plot.comparison(channels().iloc[:0], "none", "17:30")
    assert texts(axes_of(figure)) == ["no alternatives"]
    assert png(figure)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.5, "50 %"),
        (0.97, "97 %"),
        (0.994, "99.4 %"),
        (1e-6, "under 0.1 %"),
        (1 - 1e-6, "over 99.9 %"),
    ],
)
def test_a_percentage_is_0_or_100_only_if_it_is(share: float, text: str) -> None:
    assert plot_style.as_percent(share) == text


# All of them


@pytest.fixture(scope="module")
def everything() -> dict[str, Figure]:
    delays = {"hold": [0.0] * 30 + [60.0 * n for n in range(1, 34)] * 30, "refuse": [0.0] * 30 + [math.inf] * 970}
    table = intervals(("A", 100.0, 90.0, 110.0), ("a channel with a longer name", -20.0, -21.0, -19.0))
    return {
        "timeline": plot.timeline(group_email(), "A title so long that it has to be broken into two lines " * 2, LIMIT),
        "refusals": plot.timeline(refusals(), "refused", LIMIT),
        "timelines": plot.timelines({"A": group_email(), "B": refusals()}, "two"),
        "delay_ecdf": plot.delay_ecdf(delays, "delays"),
        "goodput": plot.goodput(table, "goodput"),
        "forest": plot.forest(table, "forest"),
        "comparison": plot.comparison(channels(), "comparison", "17:30"),
        "dependence": plot.dependence(
            losses(("A", 1, 0.2, 0.1, 0.3), ("A", 2, 0.4, 0.4, 0.5), ("B", 1, 0.1, 0.1, 0.1)), "loss", "offered", "lost"
        ),
    }


def test_the_same_figure_is_the_same_file(everything: dict[str, Figure]) -> None:
    for name, figure in everything.items():
        first = png(figure)
        assert first.startswith(b"\x89PNG"), name
        assert first == png(figure), name
        assert b"Software" not in first, name


def test_the_same_table_is_the_same_file() -> None:
    one, other = (png(plot.timeline(refusals(), "refused", LIMIT)) for _ in range(2))
    assert one == other


def test_no_text_covers_another_or_leaves_the_figure(everything: dict[str, Figure]) -> None:
    for name, figure in everything.items():
        shown = [t for axes in figure.axes for t in axes.texts]
        shown += [t for axes in figure.axes if (legend := axes.get_legend()) for t in legend.get_texts()]
        shown += [t for axes in figure.axes for t in (*axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label)]
        boxes = [(t.get_text(), t.get_window_extent()) for t in (*figure.texts, *shown) if t.get_text()]
        for text, box in boxes:
            assert box.x0 >= -1, f"{name}: {text}"
            assert box.x1 <= figure.bbox.x1 + 1, f"{name}: {text}"
        for (text, box), (other, covered) in itertools.combinations(boxes, 2):
            assert not box.shrunk(0.98, 0.9).overlaps(covered.shrunk(0.98, 0.9)), f"{name}: {text!r} and {other!r}"


def test_a_notebook_shows_a_figure_without_pyplot() -> None:
    figure = plot.goodput(intervals(("A", 1.0, 0.5, 1.5)), "shown")
    assert figure._repr_png_() == png(figure)  # type: ignore[attr-defined]


def test_drawing_leaves_pyplot_and_the_settings_alone() -> None:
    code = """
import sys, matplotlib
before = matplotlib.rcParams.copy()
from simlib import plot
import matplotlib
import numpy as np
plot.delay_ecdf({"A": np.array([0.0, 60.0])}, "one")
assert "matplotlib.pyplot" not in sys.modules
assert matplotlib.rcParams.copy() == before
ours = {name for name in sys.modules if name.startswith("simlib.")}
assert not {name for name in ours if not name.startswith("simlib.plot")} - {"simlib.labels"}, ours
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# A day, while somebody asks


DAY_LABELS = {"messages": "受理された通数", "done": "すべて受理された時刻", "deadline": "締め切り 17:30"}
NINE = dt.datetime(2026, 12, 1, 9)


def day_of(deadline: float, ends: list[float], labels: dict[str, str] | None = None) -> Figure:
    curves = [np.linspace(0, end, 5) if np.isfinite(end) else [0.0, np.inf] for end in ends]
    return plot.finishing(curves, {"Office 365": ends, "自社": [np.inf]}, "A day", NINE, deadline, labels or DAY_LABELS)


def test_a_near_deadline_is_a_line_and_a_far_one_is_named() -> None:
    for deadline, lines in ((90.0, 1), (30_600.0, 0)):
        rows, taken = day_of(deadline, [60.0, 61.0]).axes
        for axes in (rows, taken):
            drawn = [line for line in axes.lines if list(line.get_xdata()) == [deadline, deadline]]
            assert len(drawn) == lines
        assert [text.get_text() for text in taken.texts] == ["締め切り 17:30" + ("" if lines else " →")]


def test_each_simulated_day_is_a_line_and_a_dot_and_a_day_without_end_has_no_dot() -> None:
    rows, taken = day_of(90.0, [60.0, 61.0, np.inf]).axes
    assert len([line for line in taken.lines if line.get_drawstyle() == "steps-post"]) == 3
    assert [list(line.get_xdata()) for line in rows.lines if line.get_marker() == "o"] == [[60.0, 61.0], []]


def test_a_day_reads_as_a_clock() -> None:
    for end, labels in ((50.0, ["09:00:00", "09:00:10"]), (3000.0, ["09:00", "09:10"]), (40_000.0, ["10:00", "12:00"])):
        rows, _ = day_of(end, [end]).axes
        assert [label.get_text() for label in rows.get_xticklabels()][:2] == labels


def test_japanese_has_no_boxes_and_leaves_the_settings_alone() -> None:
    before = dict(matplotlib.rcParams)
    figure = plot.with_japanese(day_of(90.0, [60.0]))
    plot.save(figure, io.BytesIO())  # a missing letter is a warning, and that an error
    assert dict(matplotlib.rcParams) == before
    with pytest.warns(UserWarning, match="missing from font"):
        plot.save(day_of(90.0, [60.0]), io.BytesIO())
