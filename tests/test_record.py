"""The record as a table and as a file."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from simlib.attempts import COLUMNS, Attempts
from simlib.receiver import render
from simlib.record import frame, write
from simlib.workload import Messages

ZERO = dt.datetime(2026, 12, 1, 9, tzinfo=dt.timezone(dt.timedelta(hours=9)))
SENTENCES = (
    *(
        "Ok",
        "Ok: queued as {id}",
        "{id}",
        "OK <{id}@{host}.example> [{host}]",
        "too much from [{ip}]",
        "OK {time:unix} {id}",
    ),
    *("{sender} is not {account} of {domain}", "{{{id}}}", "{{id}}", "at {time:%H:%M:%S} {id}"),
)


def record(texts: tuple[str, ...], count: int, **columns: Any) -> Attempts:
    """Return a record in which each message has one reply, each sentence in turn, in sessions of three."""
    number = np.arange(count)
    messages = Messages(
        *(number / 7, number % 2, number % 3, number % 1, number + 1, number + 100, number // 2, number / (count or 1)),
        *(
            ("us", "Müller & co"),
            ("us.example", "m.example"),
            ("a@us.example", "b@us.example", "c@m.example"),
            ("news",),
        ),
    )
    given = {
        "message": number,
        "queue": number % 2,
        "session": number // 3,
        "transaction": number % 3 + 1,
        "ip": number % 2 - 1,
        "kind": number % len(texts),
        "final": number % 2,
        "started": np.where(number % 5, number / 7, np.nan),
        "ended": number / 3,
        **columns,
    }
    rows = np.array([given.get(name, number * 0.0) for name in COLUMNS], dtype=float).T
    kinds = tuple(("there", 250, "2.0.0", text, "EOD", "") for text in texts)
    return Attempts(messages, rows, kinds, (("one", "there", ""), ("two", "there", "me@us.example")), ("127.0.1.1",))


def test_each_row_says_what_the_reply_said() -> None:
    attempts = record(SENTENCES, 60)
    said = frame(attempts, ZERO)["text"].tolist()
    for row, text in enumerate(said):
        ip = "127.0.1.1" if row % 2 else ""
        assert text == render(
            SENTENCES[row % len(SENTENCES)],
            provider="there",
            clock=ZERO + dt.timedelta(seconds=row / 3),
            session=row // 3,
            transaction=row % 3 + 1,
            ip=ip,
            account="me@us.example" if row % 2 else ip,
            sender=attempts.messages.addresses[row % 3],
        )
    assert len(set(said)) > 30


def test_positions_become_names() -> None:
    attempts = record(SENTENCES, 6)
    table = frame(attempts, ZERO)
    assert table["message_id"].tolist() == attempts.messages.ids()
    assert table["message_id"].tolist()[:3] == ["us-0", "M%C3%BCller%20%26%20co-0", "us-1"]
    assert table["tenant"].tolist()[:2] == ["us", "Müller & co"]
    assert table["ip"].tolist()[:2] == ["", "127.0.1.1"]  # none where it was never offered
    assert table["started_at"].isna().tolist() == [True, False, False, False, False, True]
    assert str(table["ended_at"][3]) == "2026-12-01 09:00:01+09:00"


def test_a_table_without_rows_has_the_same_columns() -> None:
    none, some = (frame(record(SENTENCES, count), ZERO) for count in (0, 3))
    assert len(none) == 0
    pd.testing.assert_series_equal(none.dtypes, some.dtypes)


def test_a_file_holds_the_tables_one_after_the_other(tmp_path: Path) -> None:
    tables = [frame(record(SENTENCES, count), ZERO) for count in (20, 0, 7)]
    write(tables, tmp_path / "attempts.parquet", {"seed": "3"})
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "attempts.parquet"), pd.concat(tables, ignore_index=True))
    with pq.ParquetFile(tmp_path / "attempts.parquet") as file:
        assert [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)] == [20, 0, 7]
        assert file.schema_arrow.metadata[b"seed"] == b"3"


def test_whole_seconds_and_fractions_of_one_fit_into_one_file(tmp_path: Path) -> None:
    """One alternative may answer at once and the next take its time."""
    whole, fractions = (record(SENTENCES, 5, ended=np.arange(5) * step) for step in (1.0, 0.1))
    tables = [frame(one, ZERO) for one in (whole, fractions)]
    write(tables, tmp_path / "attempts.parquet", {})
    found = pd.read_parquet(tmp_path / "attempts.parquet")
    pd.testing.assert_series_equal(found["ended_at"], pd.concat(tables, ignore_index=True)["ended_at"])


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        write([frame(record(SENTENCES, 1), ZERO)], tmp_path / "nowhere" / "attempts.parquet", {})
