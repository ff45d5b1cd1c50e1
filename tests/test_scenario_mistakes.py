"""A scenario file or a trace with a mistake: one line that names the place, the rule and the value."""

from pathlib import Path

import pytest
from scenarios import FULL, TRACE, small

from simlib.cli import main
from simlib.scenario import Scenario


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the scenario of everything, `full.toml`, and its trace."""
    (tmp_path / "full.toml").write_text(FULL, encoding="utf-8")
    (tmp_path / "day.csv").write_text(TRACE, encoding="utf-8")
    return tmp_path


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
