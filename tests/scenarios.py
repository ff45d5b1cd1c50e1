"""Scenario files: one that says everything, and the least that one has to say."""

from typing import Any

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


def small(**changes: Any) -> dict[str, Any]:
    """Return the least that a scenario has to say, and the changes."""
    return {
        "name": "small",
        "duration": "1h",
        "tenants": [{"name": "us", "senders": 2, "arrivals": {"kind": "batches", "size": 4}}],
        "alternatives": {"A": {"channels": [{"name": "c", "tenants": ["us"], "to": "office365"}]}},
    } | changes
