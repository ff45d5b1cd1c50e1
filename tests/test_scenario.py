"""The scenario file: what each key means, what is checked, and how a mistake is answered (DESIGN §6)."""

import copy
import datetime as dt
import itertools
import math
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simlib.channel import Service
from simlib.cli import main
from simlib.experiment import run
from simlib.provider import Provider, names
from simlib.scenario import Scenario
from simlib.sender import NO_RETRY, Pace, Retry
from simlib.tool import Tool, tools
from simlib.workload import stream

# Everything at once: each key of DESIGN §6, in a day that is small enough to run.
FULL = """\
name = "25 reps and a morning campaign"
duration = "10h"
transient = "0s"
start = "2026-12-01T08:00+09:00"
deadline = "17:30"
time_scale = 60

[[tenants]]
name = "us"
domain = "us.example"
senders = 3
arrivals = [
  { kind = "business_day", per_sender = 40, label = "ordinary" },
  { kind = "batches", first = "09:00", per_sender = 40, label = "campaign" },
  { kind = "batches", first = "10:00", size = 100, senders = 1, label = "group e-mail" },
  { kind = "poisson", rate = "0.01/s", label = "poisson" },
  { kind = "batches", first = "30min", size = 2, every = "1h", label = "digest" },
  { kind = "batches", size = 2, rate = "0.5/h", label = "now and then" },
]
spread = "even"
recipients = 2
bytes = 30000
complaint_rate = 0.0005

[[tenants]]
name = "neighbours"
neighbour = true
senders = 4
arrivals = { kind = "poisson", rate = "20/h", label = "strangers" }

[[tenants]]
name = "traced"
arrivals = { kind = "trace", file = "day.csv", resample = "none", label = "trace" }

[[alternatives."shared pool".channels]]
name = "pool"
tenants = ["us", "neighbours", "traced"]
to = { google-mx = 0.5, microsoft-mx = 0.5 }
ips = 4
connections = 5
retry = "postfix"

[alternatives."Office 365"]
channels = [{ name = "o365", tenants = ["us", "traced"], to = "office365", tool = "sales-connect", connections = 1 }]

[[alternatives."everything said".channels]]
name = "relay"
tenants = ["us"]
to = "my-relay"
ips = 2
connections = 3
pace = { batch = 25, wait = "45s" }
service = { kind = "lognormal", mean = "1s", scv = 4 }
session_setup = "0.5s"
messages_per_session = 10
retry = ["60s", "5min"]
queue_lifetime = "1h"
timeout = "300s"
heed_quota = true
auth = "password"
assumed = ["connections"]

[[alternatives."everything said".channels]]
name = "rest"
tenants = ["traced"]
to = "gmail-oauth"
auth = "oauth"
pace = "30/min"
service = "0.2s"
tool = "hubspot"

[[events]]
at = "2h"
kind = "password_change"
tenant = "us"
senders = 2
repaired_after = "2h"

[[events]]
rate = "1/2h"
kind = "blocklisted"
channel = "pool"
ip = 3
repaired_after = "1h"

[readings]
"office365/messages-per-minute" = "reject"

[limits]
"google-mx/quota" = "500/h"
"sparkpost/messages-per-day" = "50000/d"

[providers.my-relay]
title = "Our relay"
role = "submission"
credential = "account"
auth = ["LOGIN"]

[[providers.my-relay.limits]]
id = "messages-per-day"
count = "messages"
per = "account"
limit = "200/d"
window = "sliding"
on_excess = "defer"
at = "EOD"
source = "our own configuration"
as_of = 2026-11-01
grade = "A"
"""

TRACE = """\
seconds,sender,recipients,bytes
-5,Ann,1,
60,bob,1,1000
60.5,Ann,3,2000
3600,ann,2,
40000,bob,1,
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the scenario of everything, `full.toml`, and its trace."""
    (tmp_path / "full.toml").write_text(FULL, encoding="utf-8")
    (tmp_path / "day.csv").write_text(TRACE, encoding="utf-8")
    return tmp_path


@pytest.fixture
def full(folder: Path) -> Scenario:
    return Scenario.load(folder / "full.toml")


def small(**changes: Any) -> dict[str, Any]:
    """Return the least that a scenario has to say, and the changes."""
    return {
        "name": "small",
        "duration": "1h",
        "tenants": [{"name": "us", "senders": 2, "arrivals": {"kind": "batches", "size": 4}}],
        "alternatives": {"A": {"channels": [{"name": "c", "tenants": ["us"], "to": "office365"}]}},
    } | changes


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was said on stderr, which has to be one line, with nothing on stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def refused(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the line with which `sendlab compare` refuses a file."""
    assert main(["compare", str(path), "--replications", "1", "--json"]) == 2
    said = one_line(capsys)
    assert said.startswith("sendlab: ")
    assert str(path) in said
    return said


# Bad input: (what a stranger writes instead, what the line has to name)

Broken = tuple[str, str, str, tuple[str, ...]]

CAMPAIGN = '{ kind = "batches", first = "09:00", per_sender = 40, label = "campaign" }'
TO_OFFICE = 'to = "office365"'
RELAY = "[providers.my-relay]"

BROKEN: list[Broken] = [
    # unknown keys, at each level
    ("key", 'duration = "10h"', 'duration = "10h"\nlenght = 3', ("lenght", "unknown key", "3")),
    ("tenant key", "recipients = 2", "recipient = 2", ("tenants[us].recipient", "unknown key", "2")),
    ("arrival key", 'rate = "20/h"', 'rate = "20/h", sender = 3', ("tenants[neighbours].arrivals", "sender", "3")),
    ("channel key", "ips = 4", "ip = 4", ("alternatives.shared pool.channels[pool].ip", "unknown key", "4")),
    ("no such warm-up", "ips = 4", 'ips = 4\nwarmup = "30d"', ("channels[pool]", "warmup", "unknown schedule", "30d")),
    ("alternative key", '[alternatives."Office 365"]', '[alternatives."Office 365"]\nchanels = 1', ("chanels", "1")),
    ("event key", "senders = 2\nrepaired", "users = 2\nrepaired", ("events", "users", "2")),
    ("service key", "scv = 4", "cv = 4", ("service.cv", "unknown key", "4")),
    ("pace key", 'wait = "45s"', 'pause = "45s"', ("pace", "wait", "45s")),
    ("provider key", 'title = "Our relay"', 'title = "Our relay"\nport = 25', ("providers.my-relay", "port", "25")),
    ("limit key", 'limit = "200/d"', 'limit = "200/d"\nwindw = 1', ("limits[messages-per-day].windw", "1")),
    ("table", RELAY, "[tenant]\nx = 1\n" + RELAY, ("tenant", "unknown key")),
    # names that aren't there
    ("provider", TO_OFFICE, 'to = "offce365"', ("channels[o365]", "unknown provider", "offce365", "office365")),
    ("provider share", "google-mx = 0.5", "google = 0.5", ("channels[pool]", "unknown provider", "'google'")),
    ("empty provider", TO_OFFICE, 'to = ""', ("channels[o365]", "provider", "''")),
    ("tool", '"sales-connect"', '"salesconnect"', ("channels[o365]", "unknown tool", "salesconnect", "outreach")),
    ("retry", 'retry = "postfix"', 'retry = "sendmale"', ("channels[pool]", "retry", "sendmale", "postfix")),
    ("tenant", '["us", "traced"], to = "office365"', '["uss", "traced"], to = "office365"', ("o365", "tenants", "uss")),
    ("kind of arrival", 'kind = "poisson", rate = "20/h"', 'kind = "poison", rate = "20/h"', ("arrivals", "poison")),
    ("no kind", '{ kind = "poisson", rate = "20/h"', '{ rate = "20/h"', ("tenants[neighbours].arrivals", "kind")),
    ("kind of event", '"password_change"', '"password-change"', ("events", "kind", "password-change")),
    ("kind of service", '"lognormal"', '"normal"', ("service.kind", "normal")),
    (
        "resample",
        '"none", label = "trace"',
        '"rows", label = "trace"',
        ("tenants[traced].arrivals", "resample", "rows"),
    ),
    ("spread", '"even"', '"uneven"', ("tenants[us].spread", "uneven")),
    ("auth", 'auth = "password"', 'auth = "passwort"', ("channels[relay].auth", "passwort")),
    ("assumed", 'assumed = ["connections"]', 'assumed = ["conections"]', ("channels[relay]", "assumed", "conections")),
    ("event tenant", 'tenant = "us"', 'tenant = "them"', ("events", "tenant", "them")),
    ("event channel", 'channel = "pool"', 'channel = "pol"', ("events", "channel", "pol")),
    ("limit's provider", '"google-mx/quota"', '"google/quota"', ("limits", "google")),
    ("limit", '"google-mx/quota"', '"google-mx/qota"', ("limits", "google-mx", "qota")),
    ("limit without provider", '"google-mx/quota"', '"quota"', ("limits", "quota", "office365/messages-per-minute")),
    ("reading", '= "reject"', '= "rejct"', ("readings", "office365/messages-per-minute", "rejct", "reject")),
    ("reading's limit", '"office365/messages-per-minute"', '"office365/per-minute"', ("readings", "per-minute")),
    # what is carried where
    ("nobody carries", '["us", "traced"], to = "office365"', '["us"], to = "office365"', ("Office 365", "'traced'")),
    ("on two channels", 'tenants = ["traced"]', 'tenants = ["traced", "us"]', ("everything said", "'us'")),
    ("no tenants", '["us", "traced"], to = "office365"', '[], to = "office365"', ("channels[o365].tenants", "1")),
    ("no channels", RELAY, "[alternatives.none]\nchannels = []\n" + RELAY, ("alternatives.none.channels", "1")),
    ("two channels of a name", 'name = "rest"', 'name = "relay"', ("everything said", "channels", "'relay'")),
    ("two tenants of a name", 'name = "neighbours"', 'name = "us"', ("tenants", "name", "'us'")),
    (
        "two of a domain",
        'name = "neighbours"',
        'name = "n"\ndomain = "US.example"',
        ("tenants", "domain", "us.example"),
    ),
    ("a real domain", '"us.example"', '"us.com"', ("tenants[us].domain", "reserved", "us.com")),
    ("looks reserved", '"us.example"', '"notexample.com"', ("tenants[us].domain", "reserved", "notexample.com")),
    ("not a domain", '"us.example"', '"u s.example"', ("tenants[us].domain", "u s.example")),
    ("an address as domain", '"us.example"', '"ann@us.example"', ("tenants[us].domain", "ann@us.example")),
    ("no name", 'name = "us"', 'name = ""', ("tenants", "name", "''")),
    # shares
    ("shares over 1", "google-mx = 0.5", "google-mx = 0.6", ("channels[pool]", "add up to 1", "1.1")),
    ("shares under 1", "google-mx = 0.5", "google-mx = 0.4", ("channels[pool]", "add up to 1", "0.9")),
    ("share of 0", "google-mx = 0.5", "google-mx = 0", ("channels[pool].to.google-mx", "0")),
    ("share of nan", "google-mx = 0.5", "google-mx = nan", ("channels[pool].to.google-mx", "nan")),
    ("share as text", "google-mx = 0.5", 'google-mx = "0.5"', ("channels[pool].to.google-mx", "'0.5'")),
    ("share of true", "google-mx = 0.5", "google-mx = true", ("channels[pool].to.google-mx", "True")),
    ("to nobody", TO_OFFICE, "to = {}", ("channels[o365]", "to")),
    ("to a list", TO_OFFICE, 'to = ["office365"]', ("channels[o365].to",)),
    # units
    ("fortnight", 'rate = "20/h"', 'rate = "300/fortnight"', ("tenants[neighbours].arrivals", "rate", "300/fortnight")),
    ("limit a fortnight", '"500/h"', '"300/fortnight"', ("limits", "google-mx/quota", "300/fortnight")),
    ("pace", 'pace = "30/min"', 'pace = "25/45s"', ("channels[rest].pace", "ambiguous", "25/45s")),
    ("pace in words", 'pace = "30/min"', 'pace = "slow"', ("channels[rest].pace", "slow")),
    ("pace a number", 'pace = "30/min"', "pace = 30", ("channels[rest].pace", "30")),
    ("pace of 0", 'pace = "30/min"', 'pace = "0/min"', ("channels[rest].pace", "0/min")),
    ("batch of 0", "batch = 25", "batch = 0", ("channels[relay].pace", "batch", "0")),
    ("batch of true", "batch = 25", "batch = true", ("channels[relay].pace", "batch", "True")),
    ("half a batch", "batch = 25", "batch = 2.5", ("channels[relay].pace", "batch", "2.5")),
    ("wait of 0", 'wait = "45s"', 'wait = "0s"', ("channels[relay].pace", "wait", "0")),
    ("wait a number", 'wait = "45s"', "wait = 45", ("channels[relay].pace", "45")),
    ("duration a number", 'duration = "10h"', "duration = 10", ("duration", "10")),
    ("duration in weeks", 'duration = "10h"', 'duration = "2w"', ("duration", "2w")),
    ("a negative duration", 'duration = "10h"', 'duration = "-10h"', ("duration", "-10h")),
    ("duration of 0", 'duration = "10h"', 'duration = "0s"', ("duration", "greater than 0")),
    ("duration of nan", 'duration = "10h"', "duration = nan", ("duration", "nan")),
    ("too long", 'duration = "10h"', f'duration = "{"9" * 20}d"', ("duration", "9" * 20)),
    ("longer than numbers", 'duration = "10h"', f'duration = "{"9" * 400}d"', ("duration", "9999")),
    ("queue_lifetime", 'queue_lifetime = "1h"', 'queue_lifetime = "1 h"', ("channels[relay].queue_lifetime", "1 h")),
    ("timeout of 0", 'timeout = "300s"', 'timeout = "0s"', ("channels[relay].timeout", "greater than 0")),
    ("a delay", '["60s", "5min"]', '["60s", "5m"]', ("channels[relay].retry", "5m")),
    ("a delay of 0", '["60s", "5min"]', '["60s", "0s"]', ("channels[relay]", "retry", "0")),
    ("delays as numbers", '["60s", "5min"]', "[60, 300]", ("channels[relay].retry", "60")),
    ("service", 'service = "0.2s"', 'service = "fast"', ("channels[rest].service", "fast")),
    ("service a number", 'service = "0.2s"', "service = 0.2", ("channels[rest].service", "0.2")),
    ("service of nothing", 'mean = "1s"', 'mean = "0s"', ("channels[relay].service", "mean", "0")),
    ("service without mean", 'mean = "1s", ', "", ("channels[relay].service.mean", "missing")),
    ("scv that nobody reads", '"lognormal", mean', '"exponential", mean', ("channels[relay].service", "scv", "4")),
    # counts
    ("no senders", "senders = 3", "senders = 0", ("tenants[us].senders", "greater than or equal to 1", "0")),
    ("negative senders", "senders = 3", "senders = -3", ("tenants[us].senders", "-3")),
    ("half a sender", "senders = 3", "senders = 2.5", ("tenants[us].senders", "2.5")),
    ("senders as text", "senders = 3", 'senders = "3"', ("tenants[us].senders", "'3'")),
    ("senders true", "senders = 3", "senders = true", ("tenants[us].senders", "True")),
    ("senders a list", "senders = 3", 'senders = ["ann"]', ("tenants[us].senders",)),
    ("senders nan", "senders = 3", "senders = nan", ("tenants[us].senders", "nan")),
    ("senders missing", "senders = 4\n", "", ("tenants[neighbours]", "senders", "missing")),
    ("too many senders", "senders = 3", f"senders = {10**12}", ("tenants[us].senders", str(10**12))),
    ("more than there are", "senders = 1", "senders = 4", ("arrivals[group e-mail].senders", "3", "4")),
    ("event for more", "senders = 2\nrepaired", "senders = 4\nrepaired", ("events", "senders", "3", "4")),
    ("negative batch", "size = 100", "size = -100", ("arrivals[group e-mail].size", "-100")),
    ("empty batch", "size = 100", "size = 0", ("arrivals[group e-mail].size", "0")),
    ("a batch beyond memory", "size = 100", f"size = {10**15}", ("arrivals[group e-mail]", f"{10**15:,}")),
    ("a batch beyond int64", "size = 100", f"size = {10**30}", ("arrivals[group e-mail]",)),
    ("both sizes", "size = 100", "size = 100, per_sender = 1", ("arrivals[group e-mail]", "size", "per_sender")),
    ("neither size", "size = 100, ", "", ("arrivals[group e-mail]", "size", "per_sender")),
    ("every and rate", 'every = "1h"', 'every = "1h", rate = "1/h"', ("arrivals[digest]", "every", "rate")),
    ("every 0", 'every = "1h"', 'every = "0s"', ("arrivals[digest].every", "0")),
    ("every microsecond", 'every = "1h"', 'every = "0.000001s"', ("arrivals[digest]", "messages")),
    (
        "no mail",
        'per_sender = 40, label = "ordinary"',
        'per_sender = 0, label = "ordinary"',
        ("arrivals[ordinary].per_sender", "0"),
    ),
    (
        "negative mail",
        'per_sender = 40, label = "ordinary"',
        'per_sender = -40, label = "ordinary"',
        ("arrivals[ordinary].per_sender", "-40"),
    ),
    (
        "mail as text",
        'per_sender = 40, label = "ordinary"',
        'per_sender = "40", label = "ordinary"',
        ("arrivals[ordinary].per_sender", "'40'"),
    ),
    (
        "mail without end",
        'per_sender = 40, label = "ordinary"',
        'per_sender = inf, label = "ordinary"',
        ("arrivals[ordinary].per_sender", "inf"),
    ),
    ("rate of 0", 'rate = "20/h"', 'rate = "0/h"', ("tenants[neighbours].arrivals", "rate", "0/h")),
    ("negative rate", 'rate = "20/h"', 'rate = "-20/h"', ("tenants[neighbours].arrivals", "rate", "-20/h")),
    ("rate without period", 'rate = "20/h"', "rate = 20", ("tenants[neighbours].arrivals", "rate", "20")),
    ("rate beyond memory", 'rate = "20/h"', f'rate = "{10**15}/s"', ("tenants[neighbours].arrivals", "messages")),
    (
        "rate beyond numbers",
        'rate = "20/h"',
        f'rate = "{"9" * 400}/s"',
        ("tenants[neighbours].arrivals", "rate", "9999"),
    ),
    ("no recipients", "recipients = 2", "recipients = 0", ("tenants[us].recipients", "0")),
    ("many recipients", "recipients = 2", f"recipients = {10**12}", ("tenants[us].recipients", str(10**12))),
    ("no bytes", "bytes = 30000", "bytes = 0", ("tenants[us].bytes", "0")),
    ("bytes beyond int64", "bytes = 30000", f"bytes = {10**30}", ("tenants[us].bytes", str(10**30))),
    ("complaints over 1", "complaint_rate = 0.0005", "complaint_rate = 1.5", ("tenants[us].complaint_rate", "1.5")),
    ("complaints nan", "complaint_rate = 0.0005", "complaint_rate = nan", ("tenants[us].complaint_rate", "nan")),
    ("neighbour in words", "neighbour = true", 'neighbour = "yes"', ("tenants[neighbours].neighbour", "yes")),
    ("neighbour 1", "neighbour = true", "neighbour = 1", ("tenants[neighbours].neighbour", "1")),
    ("no ips", "ips = 4", "ips = 0", ("channels[pool].ips", "0")),
    ("many ips", "ips = 4", "ips = 1000", ("channels[pool].ips", "254", "1000")),
    ("no connections", "connections = 5", "connections = 0", ("channels[pool].connections", "0")),
    ("many connections", "connections = 5", f"connections = {10**9}", ("channels[pool].connections", str(10**9))),
    ("connections as text", "connections = 5", 'connections = "5"', ("channels[pool].connections", "'5'")),
    ("empty sessions", "messages_per_session = 10", "messages_per_session = 0", ("messages_per_session", "0")),
    ("heed in words", "heed_quota = true", 'heed_quota = "yes"', ("channels[relay].heed_quota", "yes")),
    ("scv of 0", "scv = 4", "scv = 0", ("channels[relay].service.scv", "0")),
    ("scv inf", "scv = 4", "scv = inf", ("channels[relay].service.scv", "inf")),
    ("time_scale of 0", "time_scale = 60", "time_scale = 0", ("time_scale", "0")),
    ("time_scale inf", "time_scale = 60", "time_scale = inf", ("time_scale", "inf")),
    ("time_scale true", "time_scale = 60", "time_scale = true", ("time_scale", "True")),
    ("amount of what isn't used", '"50000/d"', '"many"', ("limits", "sparkpost/messages-per-day", "many")),
    ("amount of 0", '"500/h"', "0", ("limits", "google-mx/quota", "0")),
    ("amount nan", '"500/h"', "nan", ("limits", "google-mx/quota", "nan")),
    ("amount true", '"500/h"', "true", ("limits", "google-mx/quota", "True")),
    ("amount a list", '"500/h"', "[1]", ("limits", "google-mx/quota", "[1]")),
    ("no period", '"50000/d"', "50000", ("limits", "sparkpost/messages-per-day", "50000", "/d")),
    # of the wrong type
    ("a tenant for tenants", '[[tenants]]\nname = "us"', '[tenants]\nname = "us"', ("not valid TOML",)),
    (
        "a table for a name",
        '[alternatives."Office 365"]\nchannels = [',
        '[alternatives."Office 365"]\nchannels = 5\nx = [',
        ("alternatives.Office 365.x", "unknown key"),
    ),
    ("name a number", 'name = "us"', "name = 5", ("tenants", "name", "5")),
    ("a name for tenants", '["us", "neighbours", "traced"]', '"us"', ("channels[pool].tenants", "us")),
    (
        "arrivals a word",
        '{ kind = "poisson", rate = "20/h", label = "strangers" }',
        '"poisson"',
        ("tenants[neighbours].arrivals", "poisson"),
    ),
    (
        "no arrivals",
        '{ kind = "poisson", rate = "20/h", label = "strangers" }',
        "[]",
        ("tenants[neighbours].arrivals", "1"),
    ),
    ("file a number", '"day.csv"', "5", ("tenants[traced].arrivals", "file", "5")),
    ("a reading a number", '= "reject"', "= 5", ("readings", "office365/messages-per-minute", "5")),
    # times
    ("start in words", '"2026-12-01T08:00+09:00"', '"tomorrow"', ("start", "tomorrow")),
    ("start a number", '"2026-12-01T08:00+09:00"', "8", ("start", "8")),
    ("start at 25", '"2026-12-01T08:00+09:00"', '"25:00"', ("start", "25:00")),
    ("start on no day", '"2026-12-01T08:00+09:00"', '"2026-02-30T08:00"', ("start", "2026-02-30")),
    ("start long ago", '"2026-12-01T08:00+09:00"', '"0001-01-01T00:00+09:00"', ("start", "0001-01-01")),
    ("start far ahead", '"2026-12-01T08:00+09:00"', '"9999-12-31T23:00-09:00"', ("start", "9999-12-31")),
    ("a zone without a date", '"2026-12-01T08:00+09:00"', '"08:00+09:00"', ("start", "08:00+09:00")),
    ("deadline before", 'deadline = "17:30"', 'deadline = "07:30"', ("deadline", "08:00", "07:30")),
    ("deadline at the start", 'deadline = "17:30"', 'deadline = "08:00"', ("deadline", "08:00")),
    ("deadline in words", 'deadline = "17:30"', 'deadline = "five"', ("deadline", "five")),
    ("deadline with a zone", 'deadline = "17:30"', 'deadline = "17:30+09:00"', ("deadline", "17:30+09:00")),
    ("deadline a date", 'deadline = "17:30"', "deadline = 2026-12-01T17:30:00", ("deadline", "2026-12-01")),
    ("transient", 'transient = "0s"', 'transient = "10h"', ("transient", "36000", "36000")),
    ("longer transient", 'transient = "0s"', 'transient = "1d"', ("transient", "36000", "86400")),
    ("batch before", CAMPAIGN, CAMPAIGN.replace("09:00", "07:00"), ("arrivals[campaign].first", "hours", "07:00")),
    ("batch after", CAMPAIGN, CAMPAIGN.replace("09:00", "18:00"), ("arrivals[campaign].first", "hours", "18:00")),
    ("batch at the end", CAMPAIGN, CAMPAIGN.replace("09:00", "10h"), ("arrivals[campaign].first", "hours", "36000s")),
    ("batch at noon", CAMPAIGN, CAMPAIGN.replace("09:00", "noon"), ("arrivals[campaign].first", "noon")),
    ("batch at 9", CAMPAIGN, CAMPAIGN.replace('"09:00"', "9"), ("arrivals[campaign].first", "9")),
    (
        "batch in a zone",
        CAMPAIGN,
        CAMPAIGN.replace("09:00", "09:00+09:00"),
        ("arrivals[campaign].first", "09:00+09:00"),
    ),
    ("repeats after", 'first = "30min", size = 2', 'first = "11h", size = 2', ("arrivals[digest].first", "39600s")),
    (
        "random after",
        '{ kind = "batches", size = 2, rate',
        '{ kind = "batches", size = 2, first = "11h", rate',
        ("arrivals[now and then].first", "39600s"),
    ),
    # events
    ("event whenever", 'at = "2h"\n', "", ("events", "at", "rate")),
    ("event at and rate", 'at = "2h"\n', 'at = "2h"\nrate = "1/h"\n', ("events", "at", "rate")),
    ("event after", 'at = "2h"\n', 'at = "10h"\n', ("events", "at", "36000")),
    ("event a fortnight", '"1/2h"', '"1/fortnight"', ("events", "rate", "1/fortnight")),
    ("event without tenant", 'tenant = "us"\n', "", ("events", "password_change", "tenant")),
    ("event with channel", 'tenant = "us"\n', 'channel = "pool"\n', ("events", "password_change", "tenant")),
    ("event without channel", 'channel = "pool"\n', "", ("events", "blocklisted", "channel")),
    ("event without ip", "ip = 3\n", "", ("events", "blocklisted", "ip")),
    ("event ip 5 of 4", "ip = 3\n", "ip = 5\n", ("events", "ip", "4", "5")),
    ("event ip 0", "ip = 3\n", "ip = 0\n", ("events", "ip", "0")),
    ("event ip as address", "ip = 3\n", 'ip = "10.0.0.3"\n', ("events", "ip", "10.0.0.3")),
    ("an ip that nobody reads", "senders = 2\nrepaired", "ip = 2\nrepaired", ("events", "password_change", "ip")),
    ("senders that nobody reads", "ip = 3\n", "ip = 3\nsenders = 2\n", ("events", "blocklisted", "senders")),
    ("a repair to be repaired", '"blocklisted"', '"delisted"', ("events", "delisted", "repaired_after", "3600")),
    ("event without end", "1/2h", "1/0.000001s", ("events", "rate", "1/0.000001s")),
    # inline providers
    ("no source", 'source = "our own configuration"', "", ("providers.my-relay", "messages-per-day", "source")),
    ("no date", "as_of = 2026-11-01", "", ("providers.my-relay", "messages-per-day", "as_of")),
    ("wrong unit", '"200/d"', '"200/week"', ("providers.my-relay", "limits[messages-per-day].limit", "200/week")),
    ("no window", 'window = "sliding"', "", ("providers.my-relay", "window", "messages-per-day")),
    ("wrong stage", 'at = "EOD"', 'at = "DOT"', ("providers.my-relay", "limits[messages-per-day].at", "DOT")),
    ("wrong role", 'role = "submission"', 'role = "relay"', ("providers.my-relay", "role", "relay")),
    ("no role", 'role = "submission"\n', "", ("providers.my-relay", "role", "missing")),
    ("another name", 'title = "Our relay"', 'title = "x"\nname = "other"', ("providers.my-relay", "name", "other")),
    ("a provider's number", RELAY, "[providers]\nother = 5\n" + RELAY, ("providers.other", "5")),
    (
        "auth it lacks",
        'to = "gmail-oauth"\nauth = "oauth"',
        'to = "gmail-oauth"\nauth = "password"',
        ("channels[rest]", "auth", "password"),
    ),
    ("oauth it lacks", 'auth = "password"', 'auth = "oauth"', ("channels[relay]", "auth", "oauth", "LOGIN")),
    # traces
    ("no trace", '"day.csv"', '"night.csv"', ("night.csv", "No such file")),
    ("trace a folder", '"day.csv"', '"."', ("Is a directory",)),
    (
        "trace beyond",
        'file = "day.csv"',
        'file = "day.csv", senders = 3',
        ("tenants[traced].arrivals[trace].senders", "2", "3"),
    ),
    ("names beyond", 'name = "traced"', 'name = "traced"\nsenders = 3', ("tenants[traced]", "senders", "2", "3")),
]


@pytest.mark.parametrize(("old", "new", "named"), [pytest.param(*b[1:], id=b[0]) for b in BROKEN])
def test_a_mistake_is_answered_by_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, named: tuple[str, ...]
) -> None:
    assert old in FULL
    path = folder / "full.toml"
    path.write_text(FULL.replace(old, new, 1), encoding="utf-8")
    said = refused(path, capsys)
    assert [word for word in named if word not in said] == []


@pytest.mark.parametrize(
    ("content", "named"),
    [
        pytest.param(None, "No such file or directory", id="missing"),
        pytest.param("folder", "Is a directory", id="a folder"),
        pytest.param(b"", "name: missing", id="empty"),
        pytest.param(b"name = \n", "line 1", id="broken"),
        pytest.param(b'name = "a"\nname = "b"\n', "line 2", id="a key twice"),
        pytest.param('name = "Zürich"'.encode("latin-1"), "utf-8", id="not UTF-8"),
        pytest.param(b"\x00\x01\x02", "line 1", id="binary"),
        pytest.param(b"a = " + b"[" * 5000, "not valid TOML", id="deep"),
        pytest.param(b"a = " + b"9" * 5000, "not valid TOML", id="5000 digits"),
    ],
)
def test_a_file_that_is_no_scenario_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | str | None, named: str
) -> None:
    path = tmp_path / "scenario.toml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
    assert named in refused(path, capsys)


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        pytest.param(b"", ("'time'", "none"), id="empty"),
        pytest.param(b"seconds,sender,recipients\n", ("no rows",), id="no rows"),
        pytest.param(b"seconds,sender\n1,ann\n", ("'recipients'", "seconds, sender"), id="no column"),
        pytest.param(b"second,sender,recipients\n1,ann,1\n", ("'time'", "second,"), id="no time"),
        pytest.param(b"seconds;sender;recipients\n1;ann;1\n", ("seconds;sender;recipients",), id="semicolons"),
        pytest.param(b"seconds,sender,recipients\n2,ann,1\n1,ann,1\n", ("line 3", "seconds", "'1'"), id="unsorted"),
        pytest.param(b"time,sender,recipients\n09:30,ann,1\n09:29,ann,1\n", ("line 3", "time", "09:29"), id="back"),
        pytest.param(b"seconds,sender,recipients\nsoon,ann,1\n", ("line 2", "seconds", "soon"), id="in words"),
        pytest.param(b"seconds,sender,recipients\nnan,ann,1\n", ("line 2", "seconds", "nan"), id="nan"),
        pytest.param(b"seconds,sender,recipients\n1,ann,1\nnan,ann,1\n", ("line 3", "nan"), id="nan later"),
        pytest.param(b"seconds,sender,recipients\ninf,ann,1\n", ("line 2", "seconds", "inf"), id="inf"),
        pytest.param(b"seconds,sender,recipients\n,ann,1\n", ("line 2", "seconds", "''"), id="no seconds"),
        pytest.param(b"time,sender,recipients\n9h30,ann,1\n", ("line 2", "time", "9h30"), id="no clock"),
        pytest.param(b"time,sender,recipients\n09:30+09:00,ann,1\n", ("line 2", "time", "+09:00"), id="a zone"),
        pytest.param(b"seconds,sender,recipients\n1,ann\n", ("line 2", "recipients", "None"), id="short row"),
        pytest.param(b"seconds,sender,recipients\n1,ann,many\n", ("line 2", "recipients", "many"), id="many"),
        pytest.param(b"seconds,sender,recipients\n1,ann,0\n", ("line 2", "recipients", "'0'"), id="to nobody"),
        pytest.param(b"seconds,sender,recipients\n1,ann,1.5\n", ("line 2", "recipients", "1.5"), id="half"),
        pytest.param(b"seconds,sender,recipients\n1,ann,-1\n", ("line 2", "recipients", "-1"), id="negative"),
        pytest.param(b"seconds,sender,recipients\n1,ann,1e30\n", ("line 2", "recipients", "1e+30"), id="huge"),
        pytest.param(b"seconds,sender,recipients,bytes\n1,ann,1,-5\n", ("line 2", "bytes", "-5"), id="minus bytes"),
        pytest.param(b"seconds,sender,recipients,bytes\n1,ann,1,1e40\n", ("line 2", "bytes", "1e+40"), id="huge bytes"),
        pytest.param(b"seconds,sender,recipients,bytes\n1,ann,1,big\n", ("line 2", "bytes", "big"), id="big"),
        pytest.param(b"seconds,sender,recipients\n1,,1\n", ("line 2", "sender"), id="nobody"),
        pytest.param(b"seconds,sender,recipients\n1,a@b.com,1\n", ("line 2", "sender", "a@b.com"), id="an address"),
        pytest.param(b"seconds,sender,recipients\n-9,ann,1\n36000,ann,1\n", ("hours", "day.csv"), id="other hours"),
        pytest.param("seconds,sender,recipients\n1,Jürg,1\n".encode("latin-1"), ("day.csv", "UTF-8"), id="latin-1"),
        pytest.param(
            b"seconds,sender,recipients\n1," + b"a" * 200_000 + b",1\n", ("day.csv", "field"), id="a long name"
        ),
    ],
)
def test_a_trace_that_is_none_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], rows: bytes, named: tuple[str, ...]
) -> None:
    (folder / "day.csv").write_bytes(rows)
    said = refused(folder / "full.toml", capsys)
    assert [word for word in ("tenants[traced]", "day.csv", *named) if word not in said] == []


def test_a_trace_whose_kept_senders_are_silent_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Never a silently empty result: the busiest sender's mail lies outside the scenario's hours."""
    rows = "seconds,sender,recipients\n-3,ann,1\n-2,ann,1\n5,bob,1\n"
    (folder / "day.csv").write_text(rows, encoding="utf-8")
    path = folder / "full.toml"
    Scenario.load(path)
    path.write_text(FULL.replace('name = "traced"', 'name = "traced"\nsenders = 1'), encoding="utf-8")
    assert "no row lies within the scenario's hours" in refused(path, capsys)


def test_an_alternative_without_anybody_of_ours_is_refused() -> None:
    neighbours = {"name": "us", "senders": 1, "neighbour": True, "arrivals": {"kind": "batches", "size": 1}}
    with pytest.raises(ValueError, match=r"^scenario: tenants: at least one must not be a neighbour, got us$"):
        Scenario.build(small(tenants=[neighbours]))


@pytest.mark.parametrize("key", ["name", "duration", "tenants", "alternatives"])
def test_what_has_no_default_has_to_be_said(key: str) -> None:
    data = small()
    del data[key]
    with pytest.raises(ValueError, match=f"^scenario: {key}: missing$"):
        Scenario.build(data)


# What the keys mean


def test_every_key_is_read(full: Scenario) -> None:
    zone = dt.timezone(dt.timedelta(hours=9))
    us, neighbours, traced = full.tenants
    assert (full.name, full.duration, full.transient, full.time_scale) == (
        "25 reps and a morning campaign",
        36000,
        0,
        60,
    )
    assert (full.start, full.zero) == (dt.datetime(2026, 12, 1, 8, tzinfo=zone),) * 2
    assert (full.deadline, full.deadline_at) == (dt.time(17, 30), 9.5 * 3600)
    assert (full.day.start, full.day.duration) == (8 * 3600, 36000)
    assert (us.domain, us.senders, us.spread, us.recipients, us.bytes) == ("us.example", 3, "even", 2, 30000)
    assert (us.complaint_rate, us.neighbour, neighbours.neighbour) == (0.0005, False, True)
    labels = [arrival.label for arrival in us.arrivals]
    assert labels == ["ordinary", "campaign", "group e-mail", "poisson", "digest", "now and then"]
    assert [arrival.kind for arrival in neighbours.arrivals] == ["poisson"]  # one table is a list of one
    assert traced.names(full.day) == ("ann", "bob")
    assert list(full.alternatives) == ["shared pool", "Office 365", "everything said"]
    assert [event.kind for event in full.events] == ["password_change", "blocklisted"]


def test_what_is_left_out_has_its_default() -> None:
    scenario = Scenario.build(small())
    us = scenario.tenants[0]
    assert (scenario.transient, scenario.start, scenario.time_scale) == (0, dt.time(), 1)
    assert (scenario.deadline, scenario.deadline_at, scenario.events) == (None, None, ())
    assert (scenario.readings, scenario.limits, scenario.providers) == ({}, {}, {})
    assert (us.domain, us.recipients, us.bytes, us.complaint_rate, us.neighbour) == ("us.example", 1, 20000, 0, False)
    assert us.addresses(scenario.day) == ("rep01@us.example", "rep02@us.example")
    channel = scenario.alternatives["A"].channels[0]
    assert (channel.to, channel.ips, channel.service, channel.session_setup) == (
        {"office365": 1},
        1,
        Service.model_validate({"mean": "0s"}),
        0,
    )
    assert (channel.timeout, channel.heed_quota, channel.assumed) == (600, False, ())
    assert scenario.messages(1, 0).created_at.tolist() == [0, 0, 0, 0]  # first = "0s"


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("us", "us.example"),
        ("Our Team", "our-team.example"),
        ("eu_core", "eu_core.example"),
        ("営業", "xn--j2rs27b.example"),
    ],
)
def test_a_tenant_s_domain_is_its_name(name: str, domain: str) -> None:
    tenant = {"name": name, "senders": 1, "arrivals": {"kind": "batches", "size": 1}}
    data = small(
        tenants=[tenant], alternatives={"A": {"channels": [{"name": "c", "tenants": [name], "to": "office365"}]}}
    )
    assert Scenario.build(data).tenants[0].domain == domain


@pytest.mark.parametrize(
    ("start", "second", "date"),
    [
        ('"2026-12-01T08:00+09:00"', 8 * 3600, "2026-12-01"),
        ('"2026-12-01T08:00"', 8 * 3600, "2026-12-01"),
        ("2026-12-01T08:00:30+09:00", 8 * 3600 + 30, "2026-12-01"),
        ("2026-12-01T08:00:00", 8 * 3600, "2026-12-01"),
        ("2026-12-01T08:00:00.5", 8 * 3600 + 0.5, "2026-12-01"),
        ('"08:00"', 8 * 3600, None),
        ("08:00:00", 8 * 3600, None),
    ],
)
def test_a_start_is_a_moment_or_a_time_of_day(folder: Path, start: str, second: float, date: str | None) -> None:
    path = folder / "full.toml"
    path.write_text(FULL.replace('"2026-12-01T08:00+09:00"', start), encoding="utf-8")
    scenario = Scenario.load(path)
    assert scenario.day.start == second
    assert scenario.zero.tzinfo is not None
    if date is not None:
        assert scenario.date == dt.date.fromisoformat(date)


def test_the_facts_are_as_of_the_start_or_of_the_newest_in_use_never_today() -> None:
    assert Scenario.build(small(start="2026-12-01T08:00")).date == dt.date(2026, 12, 1)
    assert Scenario.build(small(start="08:00")).date == Provider.load("office365").newest
    relay = {"title": "r", "role": "submission", "credential": "none", "auth": []}
    channels = [{"name": "c", "tenants": ["us"], "to": "relay"}]
    unknown = Scenario.build(small(providers={"relay": relay}, alternatives={"A": {"channels": channels}}))
    assert unknown.date == max(Provider.load(name).newest for name in names())  # it has no facts of its own


def test_facts_that_change_on_a_date_follow_as_of() -> None:
    dated = {
        "title": "r",
        "role": "submission",
        "credential": "none",
        "auth": [],
        "limits": [limit(id="old", until=dt.date(2027, 1, 1)), limit(id="new", **{"from": dt.date(2027, 1, 1)})],
    }
    channels = [{"name": "c", "tenants": ["us"], "to": "relay"}]
    scenario = Scenario.build(
        small(start="2026-12-31T08:00", providers={"relay": dated}, alternatives={"A": {"channels": channels}})
    )
    assert [found.id for found in scenario.provider("relay").limits] == ["old"]
    assert [found.id for found in scenario.provider("relay", dt.date(2027, 1, 1)).limits] == ["new"]
    assert [found.id for found in scenario.lanes("A")[0].provider.limits] == ["old"]
    assert [found.id for found in scenario.lanes("A", dt.date(2027, 1, 1))[0].provider.limits] == ["new"]


def limit(**changes: Any) -> dict[str, Any]:
    """Return a limit as an inline provider has it, and the changes."""
    return {
        "id": "messages-per-day",
        "count": "messages",
        "per": "account",
        "limit": "200/d",
        "window": "sliding",
        "on_excess": "defer",
        "at": "EOD",
        "source": "our own configuration",
        "as_of": dt.date(2026, 11, 1),
        "grade": "A",
    } | changes


def test_readings_and_amounts_change_the_provider_and_nothing_else(full: Scenario) -> None:
    office, google, sparkpost = (full.provider(name) for name in ("office365", "google-mx", "sparkpost"))
    assert office.limit("messages-per-minute").on_excess == "reject"
    assert Provider.load("office365").limit("messages-per-minute").on_excess == "hold_reply"
    assert str(google.limit("quota").limit) == "500/h"
    assert str(sparkpost.limit("messages-per-day").limit) == "50000/d"
    assert [found.id for found in google.limits] == [found.id for found in Provider.load("google-mx").limits]
    assert full.provider("my-relay").limit("messages-per-day").source == "our own configuration"


def test_an_amount_may_be_off() -> None:
    off = Scenario.build(small(limits={"office365/messages-per-minute": "off"}))
    assert off.provider("office365").limit("messages-per-minute").limit is None


# Channels: the channel's own keys win over the tool's, the tool's over the provider's shaping

LANES: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
    ("nothing said", {"to": "office365"}, (1, None, None, NO_RETRY, False)),
    ("shaping", {"to": "google-mx"}, (5, 50, None, NO_RETRY, False)),
    ("over shaping", {"to": "google-mx", "connections": 2, "messages_per_session": 3}, (2, 3, None, NO_RETRY, False)),
    ("tool", {"to": "office365", "tool": "sales-connect"}, (1, None, Pace(25, 45), NO_RETRY, False)),
    (
        "over tool",
        {"to": "office365", "tool": "sales-connect", "connections": 3, "pace": "30/min", "retry": "exim"},
        (3, None, Pace(1, 2), "exim", False),
    ),
    ("tool elsewhere", {"to": "own-postfix", "tool": "sales-connect"}, (1, None, None, NO_RETRY, False)),
    ("tool over shaping", {"to": "google-mx", "tool": "postfix"}, (20, 50, None, "postfix", False)),
    ("no retry over tool", {"to": "google-mx", "tool": "postfix", "retry": "none"}, (20, 50, None, NO_RETRY, False)),
    ("schedule", {"to": "google-mx", "retry": "postfix"}, (5, 50, None, "postfix", False)),
    ("delays", {"to": "google-mx", "retry": ["5min", "1h"]}, (5, 50, None, Retry((300, 3600)), False)),
    (
        "lifetime",
        {"to": "google-mx", "retry": ["5min"], "queue_lifetime": "1d"},
        (5, 50, None, Retry((300,), 86400), False),
    ),
    ("oauth only", {"to": "gmail-oauth"}, (1, None, None, NO_RETRY, True)),
    ("oauth asked for", {"to": "office365", "auth": "oauth"}, (1, None, None, NO_RETRY, True)),
    ("password asked for", {"to": "office365", "auth": "password"}, (1, None, None, NO_RETRY, False)),
]


@pytest.mark.parametrize(("keys", "expected"), [pytest.param(*lane[1:], id=lane[0]) for lane in LANES])
def test_a_channel_s_keys_its_tool_s_and_the_shaping(keys: dict[str, Any], expected: tuple[Any, ...]) -> None:
    channels = [{"name": "c", "tenants": ["us"]} | keys]
    (lane,) = Scenario.build(small(alternatives={"A": {"channels": channels}})).lanes("A")
    connections, messages_per_session, pace, retry, oauth = expected
    if isinstance(retry, str):  # named after the tool or mail server whose facts have it
        retry = next(habit.schedule for habit in Tool.load(retry).habits if habit.schedule)
    assert lane.connections == connections
    assert lane.messages_per_session == messages_per_session
    assert (lane.pace, lane.retry, lane.oauth) == (pace, retry, oauth)


@pytest.mark.parametrize(
    "name",
    ["none", *(tool for tool in tools() if any(h.schedule and h.schedule.delays for h in Tool.load(tool).habits))],
)
def test_every_schedule_of_the_facts_is_a_name_for_retry(name: str) -> None:
    channels = [{"name": "c", "tenants": ["us"], "to": "generic-mx", "retry": name}]
    (lane,) = Scenario.build(small(alternatives={"A": {"channels": channels}})).lanes("A")
    assert bool(lane.retry.delays) == (name != "none")


def test_a_named_schedule_may_have_another_lifetime() -> None:
    channels = [{"name": "c", "tenants": ["us"], "to": "generic-mx", "retry": "postfix", "queue_lifetime": "1h"}]
    (lane,) = Scenario.build(small(alternatives={"A": {"channels": channels}})).lanes("A")
    own = next(habit.schedule for habit in Tool.load("postfix").habits)
    assert own is not None
    assert lane.retry == Retry(own.delays, 3600)


def test_a_channel_reads_every_key(full: Scenario) -> None:
    relay, rest = full.lanes("everything said")
    assert (relay.channel.ips, relay.connections, relay.messages_per_session) == (2, 3, 10)
    assert (relay.pace, relay.retry, relay.channel.timeout) == (Pace(25, 45), Retry((60, 300), 3600), 300)
    assert relay.channel.service == Service.model_validate({"kind": "lognormal", "mean": "1s", "scv": 4})
    assert (relay.channel.session_setup, relay.channel.heed_quota, relay.oauth) == (0.5, True, False)
    assert (rest.pace, rest.channel.service, rest.oauth) == (Pace(1, 2), Service.model_validate({"mean": "0.2s"}), True)
    assert [lane.provider.name for lane in full.lanes("shared pool")] == ["google-mx", "microsoft-mx"]


def test_heeding_a_quota_is_knowing_its_temporary_limits() -> None:
    relay = {
        "title": "r",
        "role": "submission",
        "credential": "account",
        "auth": ["LOGIN"],
        "limits": [limit(id="goes-away", on_excess="reject", temporary=True), limit(id="stays", on_excess="reject")],
    }

    def heeds(heed_quota: bool) -> frozenset[str]:
        channel = {"name": "c", "tenants": ["us"], "to": "relay", "heed_quota": heed_quota}
        scenario = Scenario.build(small(providers={"relay": relay}, alternatives={"A": {"channels": [channel]}}))
        return scenario.lanes("A")[0].heeds

    assert [sorted(heeds(False)), sorted(heeds(True))] == [[], ["relay/goes-away"]]


# Who logs in where


def test_a_neighbour_may_be_missing_and_nobody_else(full: Scenario) -> None:
    assert [channel.tenants for channel in full.alternatives["Office 365"].channels] == [("us", "traced")]
    with pytest.raises(ValueError, match=r"alternatives\.Office 365: no channel carries tenant 'neighbours'$"):
        full.replace(tenants={"neighbours": {"neighbour": False}})


@pytest.mark.parametrize(
    ("provider", "users"),
    [
        ("office365", {"rep01@us.example", "rep02@us.example"}),
        ("sparkpost", {"us.example"}),
    ],
)
def test_accounts_are_the_senders_or_the_domain(provider: str, users: set[str]) -> None:
    channels = [{"name": "c", "tenants": ["us"], "to": provider}]
    scenario = Scenario.build(small(alternatives={"A": {"channels": channels}}))
    receiver = scenario.receivers(scenario.lanes("A"))[provider]
    accounts = {user: receiver.accounts.get(user) for user in users}
    assert all(account is not None and account.domains == {"us.example"} for account in accounts.values())
    assert set(dict(receiver.accounts)) == users
    assert receiver.start == scenario.zero


def test_all_channels_to_a_provider_meet_one_receiver() -> None:
    tenants = [{"name": name, "senders": 1, "arrivals": {"kind": "batches", "size": 1}} for name in ("a", "b")]
    channels = [{"name": name, "tenants": [name], "to": "office365"} for name in ("a", "b")]
    scenario = Scenario.build(small(tenants=tenants, alternatives={"A": {"channels": channels}}))
    receivers = scenario.receivers(scenario.lanes("A"))
    assert list(receivers) == ["office365"]
    assert set(dict(receivers["office365"].accounts)) == {"rep01@a.example", "rep01@b.example"}


# Events


def rng(*name: str) -> np.random.Generator:
    return stream(1, 0, *name)


def test_an_event_strikes_whom_it_names(full: Scenario) -> None:
    office = full.incidents(full.lanes("Office 365"), rng)
    assert [(found.at, found.kind, found.targets, found.repaired_at, providers) for found, providers in office] == [
        (7200, "password_change", ("rep01@us.example", "rep02@us.example"), 14400, ("office365",))
    ]
    pool = full.incidents(full.lanes("shared pool"), rng)  # no passwords there
    assert {found.kind for found, _ in pool} == {"blocklisted"}
    assert {(found.targets, providers) for found, providers in pool} == {
        (("127.0.1.3",), ("google-mx", "microsoft-mx"))
    }
    assert [found.at for found, _ in pool] == sorted(found.at for found, _ in pool)
    lasted = [found.repaired_at - found.at for found, _ in pool]
    assert min(lasted) == pytest.approx(3600)  # longer, where it was listed again before
    assert all(one.repaired_at <= other.at for (one, _), (other, _) in itertools.pairwise(pool))


@pytest.mark.parametrize(
    ("kind", "keys", "struck"),
    [
        ("password_change", {"to": "office365"}, ("rep01@us.example", "rep02@us.example")),
        ("password_change", {"to": "office365", "auth": "oauth"}, None),
        ("password_change", {"to": "sparkpost"}, ("us.example",)),
        ("password_change", {"to": "google-mx"}, None),
        ("token_revoked", {"to": "office365"}, None),
        ("token_revoked", {"to": "office365", "auth": "oauth"}, ("rep01@us.example", "rep02@us.example")),
        ("token_revoked", {"to": "gmail-oauth"}, ("rep01@us.example", "rep02@us.example")),
        ("auth_disabled", {"to": "office365"}, ("rep01@us.example", "rep02@us.example")),
        ("auth_disabled", {"to": "office365", "auth": "oauth"}, ("rep01@us.example", "rep02@us.example")),
    ],
)
def test_an_event_breaks_the_credential_in_use(kind: str, keys: dict[str, Any], struck: tuple[str, ...] | None) -> None:
    channels = [{"name": "c", "tenants": ["us"]} | keys]
    event = {"kind": kind, "at": "1min", "tenant": "us"}
    scenario = Scenario.build(small(events=[event], alternatives={"A": {"channels": channels}}))
    found = scenario.incidents(scenario.lanes("A"), rng)
    assert [(one.targets, one.repaired_at) for one, _ in found] == ([] if struck is None else [(struck, math.inf)])


def test_events_with_a_rate_come_at_it_to_each_sender() -> None:
    tenant = {"name": "us", "senders": 40, "arrivals": {"kind": "batches", "size": 1}}
    event = {"kind": "password_change", "rate": "2/h", "tenant": "us", "senders": 30}
    scenario = Scenario.build(small(tenants=[tenant], events=[event], duration="10h"))
    counts = [
        len(scenario.incidents(scenario.lanes("A"), lambda *name, seed=seed: stream(seed, 0, *name)))
        for seed in range(1, 21)
    ]
    expected = 20 * 30 * 2 * 10
    assert abs(sum(counts) - expected) < 3.29 * math.sqrt(expected)  # Poisson, 99.9 %
    found = scenario.incidents(scenario.lanes("A"), rng)
    assert {one.targets for one, _ in found} == {(f"rep{number:02}@us.example",) for number in range(1, 31)}
    assert all(0 <= one.at < 36000 for one, _ in found)


def test_another_sender_changes_nobody_s_moments() -> None:
    def moments(senders: int) -> list[float]:
        tenant = {"name": "us", "senders": senders, "arrivals": {"kind": "batches", "size": 1}}
        scenario = Scenario.build(
            small(tenants=[tenant], events=[{"kind": "password_change", "rate": "5/h", "tenant": "us"}])
        )
        found = scenario.incidents(scenario.lanes("A"), rng)
        return [one.at for one, _ in found if one.targets == ("rep01@us.example",)]

    assert moments(1) == moments(2) != []


# What the numbers rest on


def assuming(**keys: Any) -> dict[str, Any]:
    limits = [
        limit(id="stated"),
        limit(id="half-stated", assumed=["window"]),
        limit(id="guessed", grade="assumed"),
        limit(id="guessed-but-off", grade="assumed", limit="off"),
        limit(
            id="disputed",
            readings=[
                {"name": "stricter", "limit": "20/d", "source": "s", "as_of": dt.date(2026, 1, 1), "grade": "B"},
                {"name": "refused", "on_excess": "reject", "source": "s", "as_of": dt.date(2026, 1, 1), "grade": "B"},
                {
                    "name": "worded",
                    "reply": "450 4.7.1 Later",
                    "source": "s",
                    "as_of": dt.date(2026, 1, 1),
                    "grade": "B",
                },
            ],
        ),
    ]
    relay = {"title": "r", "role": "submission", "credential": "account", "auth": ["LOGIN"], "limits": limits}
    channels = [{"name": "c", "tenants": ["us"], "to": "relay", "connections": 2, "assumed": ["connections"]}]
    more = [{"name": "d", "tenants": ["us"], "to": "office365", "tool": "sales-connect"}]
    alternatives = {"A": {"channels": channels}, "B": {"channels": more}}
    return small(providers={"relay": relay}, alternatives=alternatives, **keys)


def test_rests_on_lists_assumed_facts_and_own_figures() -> None:
    scenario = Scenario.build(assuming())
    assert scenario.rests_on(["A"]) == [
        {"id": "relay/half-stated", "grade": "A"},
        {"id": "relay/guessed", "grade": "assumed"},
        {"id": "c: connections", "grade": "assumed"},
    ]
    both = scenario.rests_on(["A", "B"])
    assert [found["id"] for found in both].count("relay/guessed") == 1
    assert {"id": "sales-connect/gmail-and-exchange", "grade": "A"} in both
    assert scenario.rests_on(["A", "A"]) == scenario.rests_on(["A"])


def test_an_amount_set_for_what_was_off_rests_on_it() -> None:
    scenario = Scenario.build(assuming(limits={"relay/guessed-but-off": "5/d", "relay/guessed": "off"}))
    assert [found["id"] for found in scenario.rests_on(["A"])] == [
        "relay/half-stated",
        "relay/guessed-but-off",
        "c: connections",
    ]


def test_readings_of_are_the_others_that_change_a_number() -> None:
    scenario = Scenario.build(assuming())
    assert scenario.readings_of("A") == [("relay/disputed", "stricter"), ("relay/disputed", "refused")]
    chosen = Scenario.build(assuming(readings={"relay/disputed": "stricter"}))
    assert chosen.readings_of("A") == [("relay/disputed", "published"), ("relay/disputed", "refused")]
    back = chosen.replace(readings={"relay/disputed": "published"})
    assert back.provider("relay") == scenario.provider("relay")
    assert Scenario.build(assuming(limits={"relay/disputed": "off"})).readings_of("A") == []
    assert Scenario.build(assuming(limits={"relay/disputed": "7/d"})).readings_of("A") == [
        ("relay/disputed", "refused")
    ]


def test_what_is_random_is_listed(full: Scenario) -> None:
    assert full.random_parts() == [
        "us: ordinary: times of arrival",
        "us: poisson: times of arrival",
        "us: now and then: times of arrival",
        "neighbours: strangers: times of arrival",
        "relay: service times",
        "pool: which provider a message goes to",
        "blocklisted: when",
    ]
    assert Scenario.build(small()).random_parts() == []
    drawn = full.replace(tenants={"us": {"spread": "observed"}}).random_parts()
    assert [part for part in drawn if part.endswith("who sends")] == [
        "us: group e-mail: who sends",
        "us: digest: who sends",
    ]
    traces = {"kind": "trace", "file": "day.csv", "label": "trace"}
    resampled = full.replace(tenants={"traced": {"arrivals": traces}}).random_parts()
    assert "traced: trace: whose rows of the trace each sender sends" in resampled


# Changed copies


def test_replace_changes_a_copy_by_name(full: Scenario) -> None:
    before = copy.deepcopy(full.data)
    more = full.replace(
        tenants={"us": {"senders": 40}},
        duration="12h",
        alternatives={"Office 365": {"channels": {"o365": {"connections": 3}}}},
    )
    assert [tenant.senders for tenant in more.tenants] == [40, 4, None]
    assert more.duration == 12 * 3600
    assert more.alternatives["Office 365"].channels[0].connections == 3
    assert more.alternatives["Office 365"].channels[0].tool == "sales-connect"
    assert full.data == before
    assert (full.tenants[0].senders, full.duration) == (3, 36000)
    assert list(more.alternatives) == list(full.alternatives)
    assert more.lanes("Office 365")[0].connections == 3  # nothing is remembered from the original
    assert full.lanes("Office 365")[0].connections == 1


def test_replace_adds_and_takes_away(full: Scenario) -> None:
    added = full.replace(
        alternatives={"SparkPost": {"channels": [{"name": "s", "tenants": ["us", "traced"], "to": "sparkpost"}]}},
        limits={"office365/messages-per-minute": "10/min"},
        readings={"office365/messages-per-minute": "clock"},
        deadline=None,
        events=[],
    )
    assert list(added.alternatives) == [*full.alternatives, "SparkPost"]
    assert dict(added.limits) == {**full.limits, "office365/messages-per-minute": "10/min"}
    assert (added.deadline_at, added.events, added.readings) == (None, (), {"office365/messages-per-minute": "clock"})


def test_replaced_arrivals_keep_nothing_of_the_old_ones() -> None:
    tenant = {"name": "us", "senders": 2, "arrivals": {"kind": "poisson", "rate": "100/h"}}
    scenario = Scenario.build(small(tenants=[tenant]))
    changed = scenario.replace(tenants={"us": {"arrivals": {"kind": "batches", "size": 8}}})
    assert changed.messages(1, 0).created_at.tolist() == [0] * 8


def test_a_replaced_trace_is_looked_for_beside_the_scenario(full: Scenario, folder: Path) -> None:
    (folder / "night.csv").write_text("seconds,sender,recipients\n7,cleo,1\n", encoding="utf-8")
    trace = {"kind": "trace", "file": "night.csv", "resample": "none"}
    changed = full.replace(tenants={"traced": {"arrivals": trace}})
    assert changed.tenants[2].addresses(changed.day) == ("cleo@traced.example",)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tenants": {"them": {"senders": 1}}}, "replace: unknown name 'them' (there are: us, neighbours, traced)"),
        ({"tenant": {"us": {"senders": 1}}}, "tenant: unknown key"),
        ({"tenants": {"us": {"senders": 0}}}, "tenants[us].senders"),
        ({"tenants": {"us": {"sender": 1}}}, "tenants[us].sender: unknown key"),
        ({"alternatives": {"Office 365": {"channels": {"pool": {"ips": 1}}}}}, "replace: unknown name 'pool'"),
        ({"alternatives": {"Office 365": {"channels": {"o365": {"tenants": {"us": 1}}}}}}, "tenants: must be a list"),
        ({"duration": "1h"}, "first: must lie within the scenario's hours"),
        ({"readings": {"office365/messages-per-minute": "louder"}}, "no reading 'louder'"),
    ],
)
def test_replace_is_checked_like_a_file(full: Scenario, folder: Path, changes: dict[str, Any], named: str) -> None:
    where = "" if named.startswith("replace") else str(folder / "full.toml: ")
    with pytest.raises(ValueError, match=f"^{re.escape(where)}.*{re.escape(named)}"):
        full.replace(**changes)


def test_nobody_can_change_a_scenario_from_outside() -> None:
    data = small()
    scenario = Scenario.build(data)
    data["tenants"][0]["senders"] = scenario.data["tenants"][0]["senders"] = 99
    data["alternatives"]["A"]["channels"][0]["connections"] = 99
    other = scenario.replace(name="other")
    assert other.tenants[0].senders == 2
    assert other.alternatives["A"].channels[0].connections is None
    with pytest.raises(ValueError, match="frozen"):
        scenario.duration = 5.0


def test_a_scenario_travels_to_another_process(full: Scenario) -> None:
    sent = pickle.loads(pickle.dumps(full))
    assert sent.data == full.data
    assert sent.replace(duration="11h").duration == 11 * 3600
    assert [lane.provider.name for lane in sent.lanes("everything said")] == ["my-relay", "gmail-oauth"]


def test_a_changed_trace_is_read_again(full: Scenario, folder: Path) -> None:
    path = folder / "day.csv"
    changed_at = path.stat().st_mtime_ns
    path.write_text("seconds,sender,recipients\n7,cleo,1\n", encoding="utf-8")
    os.utime(path, ns=(changed_at + 10**9,) * 2)
    assert Scenario.load(folder / "full.toml").tenants[2].names(full.day) == ("cleo",)


def test_a_trace_saved_by_excel_is_read(folder: Path) -> None:
    (folder / "day.csv").write_bytes(b"\xef\xbb\xbf" + TRACE.replace("\n", "\r\n").encode())
    full = Scenario.load(folder / "full.toml")
    assert full.tenants[2].names(full.day) == ("ann", "bob")


# Run


def test_batches_that_repeat_may_have_begun_before_the_day() -> None:
    arrivals = {"kind": "batches", "size": 1, "first": "07:30", "every": "1h"}
    scenario = Scenario.build(
        small(start="08:00", duration="2h", tenants=[{"name": "us", "senders": 1, "arrivals": arrivals}])
    )
    assert scenario.messages(1, 0).created_at.tolist() == [1800, 5400]


def test_a_scenario_with_everything_in_it_runs(full: Scenario) -> None:
    messages = full.messages(1, 0)
    assert set(messages.labels) == {
        "ordinary",
        "campaign",
        "group e-mail",
        "poisson",
        "digest",
        "now and then",
        "strangers",
        "trace",
    }
    counts = dict(zip(*np.unique(np.array(messages.labels)[messages.label], return_counts=True), strict=True))
    # three senders have 40 each; half past, hourly, ten times; the rows from second 0 on, before the end
    assert (counts["campaign"], counts["group e-mail"], counts["digest"], counts["trace"]) == (120, 100, 20, 3)
    traced = messages.tenant == 2
    assert messages.created_at[traced].tolist() == [60, 60.5, 3600]
    assert messages.recipients[traced].tolist() == [1, 3, 2]
    assert messages.bytes[traced].tolist() == [1000, 2000, 20000]
    for alternative in full.alternatives:
        attempts = run(full, alternative, messages=messages)
        carried = {name for channel in full.alternatives[alternative].channels for name in channel.tenants}
        mine = np.isin(messages.tenant, [messages.tenants.index(name) for name in carried])
        assert set(attempts["message"].astype(int)) == set(np.flatnonzero(mine))


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "notebooks" / "scenarios").glob("*.toml")), ids=lambda p: p.stem
)
def test_the_shipped_scenarios_are_scenarios(path: Path) -> None:
    scenario = Scenario.load(path)
    assert [alternative for alternative in scenario.alternatives if not scenario.lanes(alternative)] == []


@pytest.mark.parametrize(
    ("events", "spans"),
    [
        ([("0s", "10min"), ("5min", "10min")], [(0, 900)]),
        ([("0s", "10min"), ("5min", "1min")], [(0, 600)]),
        ([("0s", "10min"), ("10min", "10min")], [(0, 600), (600, 1200)]),
        ([("0s", "5min"), ("2min", "5min"), ("6min", "5min")], [(0, 660)]),
    ],
)
def test_what_strikes_again_before_it_is_over_ends_with_the_later_repair(
    events: list[tuple[str, str]], spans: list[tuple[float, float]]
) -> None:
    those = [{"kind": "auth_disabled", "at": at, "repaired_after": after, "tenant": "us"} for at, after in events]
    scenario = Scenario.build(small(events=those))
    found = scenario.incidents(scenario.lanes("A"), rng)
    assert [(one.at, one.repaired_at) for one, _ in found] == spans


def test_a_delisting_ends_a_listing_and_the_next_one_is_its_own() -> None:
    channels = [{"name": "c", "tenants": ["us"], "to": "google-mx"}]
    those = [
        {"kind": "blocklisted", "at": "0s", "repaired_after": "1h", "channel": "c", "ip": 1},
        {"kind": "delisted", "at": "10min", "channel": "c", "ip": 1},
        {"kind": "blocklisted", "at": "20min", "repaired_after": "10min", "channel": "c", "ip": 1},
    ]
    scenario = Scenario.build(small(events=those, alternatives={"A": {"channels": channels}}))
    found = scenario.incidents(scenario.lanes("A"), rng)
    assert [(one.kind, one.at, one.repaired_at) for one, _ in found] == [
        ("blocklisted", 0, 600),
        ("delisted", 600, math.inf),
        ("blocklisted", 1200, 1800),
    ]
