"""The record of a simulation: what stands in it about each attempt."""

import numpy as np
import pandas as pd
import pytest
from channels import QUOTA, batch, record, rows, scenario

from simlib.attempts import COLUMNS, Attempts
from simlib.experiment import run
from simlib.provider import names

COLUMNS_OF_THE_RECORD = [
    *("message_id", "label", "tenant", "sender", "recipients", "bytes", "ip", "provider", "retry"),
    *("created_at", "started_at", "ended_at", "held", "stage", "code", "enhanced", "text", "limit", "final"),
]


def test_the_record_has_the_columns_of_the_contract() -> None:
    limit = {**QUOTA, "limit": "1/min", "on_excess": "hold_reply"}
    asked = scenario(batch(3, "5s", label="hello"), limits=(limit,), tenant={"bytes": 700}, duration="66s")
    found = record(asked)
    assert [name for name in found.columns if name in COLUMNS_OF_THE_RECORD] == COLUMNS_OF_THE_RECORD
    second = found.iloc[1][COLUMNS_OF_THE_RECORD].to_dict()
    assert second == {
        "message_id": "us-1",
        "label": "hello",
        "tenant": "us",
        "sender": "rep01@us.example",
        "recipients": 1,
        "bytes": 700,
        "ip": "127.0.1.1",
        "provider": "plain",
        "retry": 0,
        "created_at": pd.Timestamp("2026-06-01T00:00:05Z"),
        "started_at": pd.Timestamp("2026-06-01T00:00:05Z"),
        "ended_at": pd.Timestamp("2026-06-01T00:01:05Z"),
        "held": 60.0,
        "stage": "EOD",
        "code": 250,
        "enhanced": "2.0.0",
        "text": "Ok",
        "limit": "plain/quota",
        "final": True,
    }
    assert found["created_at_s"].tolist() == [5.0, 5.0, 5.0]


def test_times_carry_the_scenarios_zone() -> None:
    asked = scenario(batch(1, "09:00"), extra={"start": "2026-12-01T08:00+09:00"}, duration="2h")
    assert record(asked)["started_at"][0].isoformat() == "2026-12-01T09:00:00+09:00"


def test_a_message_never_offered_has_no_times_no_ip_and_no_stage() -> None:
    never = record(scenario(batch(2), duration="5s", service="10s")).iloc[1]
    assert (never["stage"], never["ip"], never["code"], never["final"]) == ("", "", 0, False)
    assert never[["started_at", "ended_at"]].isna().all()


def test_placeholders_are_filled_in_as_of_when_the_reply_leaves() -> None:
    text = "450 4.7.1 {sender} ({account}, {domain}) over {limit} from {ip} at {time:%H:%M:%S}"
    limit = {**QUOTA, "limit": "1/min", "on_excess": "defer", "reply": text}
    asked = scenario(batch(2, "30s"), limits=(limit,), service="5s")
    assert record(asked)["text"][1] == (
        "rep01@us.example (rep01@us.example, us.example) over 1/min from 127.0.1.1 at 00:00:40"
    )


def test_session_and_transaction_identify_the_text() -> None:
    """What the record says is what a receiver that hears the same commands says."""
    limit = {**QUOTA, "limit": "2/min", "on_excess": "defer", "reply": "450 4.7.1 {id} {host} {time:unix}"}
    asked = scenario(batch(5), limits=(limit,), service="7s", messages_per_session=2)
    lanes = asked.lanes("it")
    receiver = asked.receivers(lanes)["plain"]
    said, session = [], None
    for row in record(asked).itertuples():
        if session is None or session.number != row.session:
            session, _ = receiver.connect(row.ip, row.started_at_s)
            receiver.log_in(session, row.sender, "password", row.started_at_s)
        receiver.offer(session, row.sender, row.recipients, row.started_at_s)
        reply = receiver.end_of_data(session, row.bytes, row.ended_at_s)
        said.append((reply.code, receiver.render(reply, session, row.ended_at_s)))
    assert said == rows(asked, "code", "text")


@pytest.mark.parametrize("name", names())
def test_every_provider_takes_a_message_from_everyone(name: str) -> None:
    asked = scenario(batch(3), to=name, senders=3, connections=1, service="2s")
    assert len(set(record(asked)["sender"])) == 3
    assert set(rows(asked, "code", "stage", "final")) == {(250, "EOD", True)}


def test_the_rows_are_all_numbers() -> None:
    attempts = run(scenario(batch(3), service="1s"), "it")
    assert isinstance(attempts, Attempts)
    assert attempts.rows.shape == (3, len(COLUMNS))
    assert attempts.rows.dtype == np.float64
