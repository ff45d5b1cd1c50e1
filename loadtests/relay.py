"""``python -m loadtests.relay FILE.json``: a private Postfix between a load test and the providers it sends to.

Everything of it lies in a folder of its own, and it listens on loopback only; of the system's Postfix nothing is used
but the programs. When it takes mail it prints one JSON line: where, its folder, and the waits that its schedule uses.
It ends on SIGTERM and SIGINT, or when its stdin is closed, and leaves three files in OUT:

relay.jsonl
    A line for each recipient of each delivery attempt, written when Postfix logs it: ``time`` (seconds since the relay
    began) and ``unix``, ``channel`` (null: none of ours, such as a report on its way to the inbox), ``provider``,
    ``ip``, ``queue_id``, ``message_id``, ``sender``, ``recipient``, ``relay``, ``session_use`` (1: the session's first
    message), ``delay``, ``delays`` (before the queue manager, in it, connecting with TLS and AUTH, transmitting),
    ``dsn``, ``status`` (sent, deferred, bounced, expired), ``reply``. A destination that fails as a whole is left alone
    for a while, and what comes due meanwhile is deferred with ``relay`` "none" and the same reply. A message that
    expired has a line about that after its last attempt's. A report about a message has ``about``, that message's id.
queue_length.jsonl
    How many messages lay in which of the queues, about once a second.
queue.jsonl
    What was left: the lines of ``postqueue -j`` with ``channel``, ``message_id`` and, for a report,
    ``report.message_id``, the message that it is about.

Which channel a message takes is decided by sender and recipient's domain when it is submitted, and what fits no channel
is refused. A channel with several sending addresses uses them at random. Postfix counts connections by destination and
address, for submission, too: it knows no accounts. With several accounts on a channel it opens a session for each
message. Timeouts are not hurried: a reply that is held for longer than 600 real seconds is given up.
"""

import json
import math
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import combinations
from pathlib import Path
from threading import Thread
from typing import IO, Any, Final

from simlib import argument
from simlib.port import held_port

__all__ = ["Channel", "Log", "Setup", "files", "main"]

DAEMONS: Final = Path("/usr/lib/postfix/sbin")
PACKAGES: Final = "apt-get install postfix libsasl2-modules"
PLUGINS: Final = "usr/lib/*/sasl2/lib{mechanism}.so"
OURS: Final = "@sendlab.example"
STARTS_WITHIN: Final = 30.0  # seconds
ENDS_WITHIN: Final = 5.0  # seconds that deliveries in progress have when the relay ends; `postfix stop` gives them none
SAMPLED_EVERY: Final = 1.0  # seconds

SECONDS: Final = {
    "minimal_backoff_time": 300,
    "maximal_backoff_time": 4000,
    "queue_run_delay": 300,
    "transport_retry_time": 60,
    "maximal_queue_lifetime": 5 * 86400,
    "bounce_queue_lifetime": 5 * 86400,
}
"""What a time scale hurries, as Postfix has it by default (postconf(5))."""

MAIN: Final = {
    "compatibility_level": "3.6",
    "daemon_directory": str(DAEMONS),
    "command_directory": "/usr/sbin",
    "shlib_directory": "/usr/lib/postfix",
    "meta_directory": "/etc/postfix",
    "maillog_file": "/dev/stdout",
    "myhostname": "relay.example",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "mynetworks": "127.0.0.0/8",
    "mydestination": "",
    "alias_maps": "",
    "local_recipient_maps": "",
    "local_transport": "error:no local delivery",
    "smtpd_peername_lookup": "no",
    "smtpd_relay_restrictions": "permit_mynetworks, reject",
    "smtp_dns_support_level": "disabled",
    "smtp_host_lookup": "native",
    "smtp_tls_security_level": "may",  # each channel has its own, but tlsproxy 3.7 crashes if this one is empty
    "smtp_sasl_security_options": "noanonymous",
    "smtp_sasl_mechanism_filter": "plain, login",
    "enable_long_queue_ids": "yes",  # a short one may be used again
    "in_flow_delay": "0",  # else it brakes those who submit, and the load's own pace is lost
}
"""What it takes to relay here, without DNS and syslog; everything else is as Postfix has it."""

MASTER: Final = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n {run} 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
tlsproxy unix - - n - 0 tlsproxy
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
"""

QUEUES: Final = ("active", "deferred", "incoming", "hold")
FOLDERS: Final = (*QUEUES, "bounce", "corrupt", "defer", "flush", "maildrop", "private", "public", "saved", "trace")

GUARD: Final = """\
if read -r _; then
    setsid "$@" &
    exec >/dev/null 2>&1
    read -r _
    kill -KILL -$! $!
    wait
fi
rm -rf "$0"
"""
"""Starts Postfix when told to; when its input ends, since we closed it or are gone, Postfix goes, and the folder."""


# What to relay


@dataclass(frozen=True, slots=True)
class Channel:
    """A way out: who takes it, and where it goes.

    Parameters
    ----------
    name, provider : str
        For the reader of the results.
    host, port : str, int
        Where the provider listens, an IPv4 address or a name.
    connections : int
        How many sessions there are at most at a time, for each of `ips`.
    messages_per_session : int or None
        After how many messages a session ends; None: when Postfix thinks fit.
    ips : tuple of str
        The addresses that sessions go out from.
    tls : str
        ``none``; ``optional``: if it is offered, whatever the certificate; ``required``.
    auth : bool
        Whether to log in.
    senders : mapping of str to str
        The user to log in as, by sender's address; empty: any sender may use the channel.
    domains : tuple of str
        The recipients' domains that it is for, subdomains included; empty: any.

    Raises
    ------
    ValueError
        If a part is out of range.
    """

    name: str
    provider: str
    host: str
    port: int
    connections: int
    messages_per_session: int | None
    ips: tuple[str, ...]
    tls: str
    auth: bool
    senders: Mapping[str, str]
    domains: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, least in (("port", 1), ("connections", 1), ("messages_per_session", 1)):
            value = getattr(self, name)
            if value is not None and not (type(value) is int and value >= least):
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if self.tls not in ("none", "optional", "required"):
            raise ValueError(f"tls must be none, optional or required, got {self.tls!r}")
        if not self.ips:
            raise ValueError("ips must name an address to send from, got none")
        if self.auth and not self.senders:
            raise ValueError("auth needs senders, each with the user to log in as")
        for text in (self.host, *self.ips, *self.senders, *self.users, *self.domains):
            if not re.fullmatch(r"[^\s{}:]+", text):  # Postfix's tables and lists would read it as two, or as a user
                raise ValueError(
                    f"addresses, users and domains must be free of spaces, braces and colons, got {text!r}"
                )

    @property
    def destination(self) -> str:
        """The next hop, as Postfix writes it.

        Examples
        --------
        >>> channel("office365", host="127.0.0.1", port=2525).destination
        '[127.0.0.1]:2525'
        """
        return f"[{self.host}]:{self.port}"

    @property
    def users(self) -> frozenset[str]:
        """Who logs in."""
        return frozenset(self.senders.values()) if self.auth else frozenset()

    def takes(self, sender: str, recipient: str) -> bool:
        """Whether mail of a sender to a recipient goes this way.

        Examples
        --------
        >>> one = channel("pool", senders={"a@us.example": ""}, domains=["google-mx.test"])
        >>> one.takes("A@us.example", "to0@d07.google-mx.test"), one.takes("b@us.example", "to0@google-mx.test")
        (True, False)
        """
        host = recipient.rpartition("@")[2].lower()
        mine = not self.senders or sender.lower() in {one.lower() for one in self.senders}
        return mine and (not self.domains or any(f".{host}".endswith(f".{one.lower()}") for one in self.domains))


def channel(name: str, **parts: Any) -> Channel:
    """Make a channel; what isn't said is as little as possible."""
    every: dict[str, Any] = {"provider": name, "host": "127.0.0.1", "port": 25, "connections": 1, "ips": ["127.0.0.1"]}
    every |= {"messages_per_session": None, "tls": "none", "auth": False, "senders": {}, "domains": []}
    parts.pop("role", None)  # it makes no difference here
    if unknown := set(parts) - set(every):
        raise ValueError(f"a channel has no {min(unknown)!r} (it has: {', '.join(every)})")
    every |= parts
    return Channel(name, **every | {"ips": tuple(every["ips"]), "domains": tuple(every["domains"])})


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything that the relay has to know.

    Parameters
    ----------
    channels : tuple of Channel
        The ways out.
    ca : str
        The file with the certificates to trust where TLS is required; empty: the system's.
    time_scale : float
        By how much Postfix's schedule is hurried; its waits are whole seconds, of at least one.
    inbox : (str, int) or None
        Where reports to the senders go; None: they are thrown away.
    out : Path
        The folder for results.

    Raises
    ------
    ValueError
        If a message could take two channels.
    """

    channels: tuple[Channel, ...]
    ca: str
    time_scale: float
    inbox: tuple[str, int] | None
    out: Path

    def __post_init__(self) -> None:
        if not 0 < self.time_scale < math.inf:
            raise ValueError(f"time_scale must be a number above 0, got {self.time_scale!r}")
        if not self.channels:
            raise ValueError("channels must name at least one, got none")
        for one, other in combinations(self.channels, 2):
            senders = {*map(str.lower, one.senders)} & {*map(str.lower, other.senders)}
            either = bool(one.senders and other.senders)
            apart = one.domains and other.domains and not _overlap(one.domains, other.domains)
            if (senders or not either) and not apart:
                who = f"mail of {min(senders)}" if senders else "mail"
                raise ValueError(f"{who} could take {one.name!r} and {other.name!r}: give both their own domains")

    @classmethod
    def load(cls, path: Path) -> "Setup":
        """Read a file.

        Raises
        ------
        ValueError
            One line that says what is wrong with it.
        OSError
            If it can't be read.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            inbox = (data["inbox"]["host"], data["inbox"]["port"]) if data.get("inbox") else None
            channels = tuple(channel(one.pop("name"), **one) for one in data["channels"])
            return cls(channels, data.get("ca") or "", data.get("time_scale", 1), inbox, Path(data["out"]))
        except KeyError as error:
            raise ValueError(f"{path}: {error.args[0]} is missing") from None
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None

    @property
    def seconds(self) -> dict[str, int]:
        """Postfix's waits: its defaults, hurried."""
        return {name: max(1, round(seconds / self.time_scale)) for name, seconds in SECONDS.items()}

    def channel_of(self, sender: str, recipient: str) -> Channel | None:
        """Return which way mail goes, None if no channel takes it."""
        return next((one for one in self.channels if one.takes(sender, recipient)), None)


def _overlap(some: Sequence[str], others: Sequence[str]) -> bool:
    return any(f".{one}".endswith(f".{other}") or f".{other}".endswith(f".{one}") for one in some for other in others)


# Postfix's files


def services(setup: Setup) -> dict[str, tuple[Channel, str]]:
    """Return the delivery services, each a channel from one of its addresses.

    Their names are ours, since a channel's may have any characters.
    """
    return {
        f"channel{number}ip{place}": (one, ip)
        for number, one in enumerate(setup.channels, 1)
        for place, ip in enumerate(one.ips, 1)
    }


def files(setup: Setup, home: Path, port: int, password: str) -> dict[str, str]:
    """Return Postfix's configuration: the files of its folder `home`/etc and what is in them.

    Parameters
    ----------
    setup : Setup
        What to relay.
    home : Path
        Where it lives.
    port : int
        Where it takes mail.
    password : str
        Every user's; it stands in the files ``sasl1`` and so on only.

    Returns
    -------
    dict of str to str
        By path within that folder.
    """
    found: dict[str, str] = {}
    main = MAIN | {
        "queue_directory": f"{home}/spool",
        "data_directory": f"{home}/data",
        "default_transport": "discard:nobody reads reports",
    }
    if setup.ca:
        main["smtp_tls_CAfile"] = setup.ca
    else:
        main["smtp_tls_CApath"] = ssl.get_default_verify_paths().capath
    if setup.inbox:
        host, inbox_port = setup.inbox
        main["default_transport"] = f"smtp:[{host}]:{inbox_port}"
    main |= {name: f"{seconds}s" for name, seconds in setup.seconds.items()}
    master = [MASTER.format(port=port, run=setup.seconds["queue_run_delay"])]
    steps: dict[str, str] = {}  # classes of restrictions: Postfix has no table by sender and recipient
    ways: dict[str, list[str]] = {}  # by sender, "" for any: the channels to try
    for number, one in enumerate(setup.channels, 1):
        name = f"channel{number}"
        options = [*_tls_options(one), *_session_options(one)]
        if one.auth:
            options += ["smtp_sasl_auth_enable=yes", f"smtp_sasl_password_maps=texthash:{home}/etc/sasl{number}"]
            by_sender = {sender: f"{user}:{password}" for sender, user in one.senders.items()}
            by_host = {one.destination: f"{min(one.users)}:{password}"}
            found[f"sasl{number}"] = _table(by_sender if len(one.users) > 1 else by_host)
        for service, (of, ip) in services(setup).items():
            if of is one:
                main[f"{service}_destination_concurrency_limit"] = str(one.connections)
                master.append(f"{service} unix - - n - {one.connections} smtp\n")
                said = ("syslog_name=postfix/$service_name", f"smtp_bind_address={ip}", *options)
                master += [f"  -o {option}\n" for option in said]
                steps[service] = f"check_sender_access static:{{FILTER {service}:{one.destination}}}, permit"
        taken = f"randmap:{{{', '.join(service for service, (of, _) in services(setup).items() if of is one)}}}"
        if one.domains:
            found[f"domains{number}"] = _table(dict.fromkeys(one.domains, f"{name}_any"))
            steps[f"{name}_any"] = f"check_sender_access {taken}"
            steps[name] = f"check_recipient_access texthash:{home}/etc/domains{number}"
        else:
            steps[name] = f"check_sender_access {taken}"
        for sender in one.senders or [""]:
            ways.setdefault(sender.lower(), []).append(name)
    main |= {"smtpd_restriction_classes": ", ".join(steps), **steps}
    for_any = ways.pop("", [])
    found["senders"] = _table({sender: ", ".join(names) for sender, names in ways.items()})
    refusal = "check_recipient_access static:{REJECT no channel takes mail of this sender to this recipient}"
    main["smtpd_recipient_restrictions"] = ", ".join(
        [f"check_sender_access texthash:{home}/etc/senders", *for_any, refusal]
    )
    found["main.cf"] = "".join(f"{name} = {value}\n" for name, value in main.items())
    found["master.cf"] = "".join(master)
    return found


def _table(entries: Mapping[str, str]) -> str:
    return "".join(f"{key.lower()} {value}\n" for key, value in entries.items())


def _tls_options(one: Channel) -> list[str]:
    if one.tls != "required":
        return [f"smtp_tls_security_level={'may' if one.tls == 'optional' else 'none'}"]
    with suppress(ValueError):
        ip_address(one.host)  # certificates are looked at for names: the fakes', on loopback, have this one
        return ["smtp_tls_security_level=secure", "smtp_tls_secure_cert_match=localhost"]
    return ["smtp_tls_security_level=secure", "smtp_tls_secure_cert_match=hostname"]


def _session_options(one: Channel) -> list[str]:
    if len(one.users) > 1:
        return ["smtp_sender_dependent_authentication=yes"]  # Postfix keeps no such session open
    if one.messages_per_session == 1:
        return ["smtp_connection_cache_on_demand=no"]
    reuses = [] if one.messages_per_session is None else [one.messages_per_session - 1]
    return ["smtp_tls_connection_reuse=yes", *(f"smtp_connection_reuse_count_limit={count}" for count in reuses)]


# Postfix's log

_LINE: Final = re.compile(r"\w+ +\d+ [\d:]+ \S+ postfix/(?:(\w+)/)?(\w+)\[\d+\]: (\w+): (.*)")
_DELIVERY: Final = re.compile(
    r"to=<(.*?)>, (?:orig_to=<.*?>, )?relay=(.*?), (?:conn_use=(\d+), )?delay=([\d.]+), delays=([\d./]+), "
    r"dsn=([\d.]+), status=(\w+) \((.*)\)"
)


class Log:
    """What Postfix's log says about each message.

    Parameters
    ----------
    setup : Setup
        The channels.

    Examples
    --------
    >>> log = Log(Setup((channel("pool", domains=["them.test"]),), "", 60, None, Path("out")))
    >>> say = "Nov 24 08:00:01 relay postfix/{}[7]: 4F1Zk: {}".format
    >>> log.read(say("cleanup", "message-id=<us-7@sendlab.example>"))
    []
    >>> log.read(say("qmgr", "from=<rep01@us.example>, size=500, nrcpt=1 (queue active)"))
    []
    >>> to = "to=<to0@them.test>, relay=mx[127.0.0.1]:25, delay=0.4, delays=0/0/0.1/0.3, dsn=2.0.0, status=sent (250)"
    >>> [(row["message_id"], row["channel"], row["status"]) for row in log.read(say("channel1ip1/smtp", to))]
    [('us-7', 'pool', 'sent')]
    """

    def __init__(self, setup: Setup) -> None:
        self.message_ids: dict[str, str] = {}
        """The id of each message in the queue, by queue id."""
        self.about: dict[str, str] = {}
        """The message that a report is about, by the report's queue id."""
        self._setup = setup
        self._services = services(setup)
        self._senders: dict[str, str] = {}
        self._deferred: dict[str, dict[str, dict[str, Any]]] = {}  # last line by queue id and recipient

    def read(self, line: str) -> list[dict[str, Any]]:
        """Take note of a line, and return what it says about deliveries: rows of ``relay.jsonl``, without times."""
        found = _LINE.match(line)
        if found is None:
            return []
        service, program, queue_id, said = found.groups()
        if program == "cleanup":
            if said.startswith("message-id="):
                name = said.removeprefix("message-id=").removeprefix("<").removesuffix(">")
                self.message_ids[queue_id] = name.removesuffix(OURS)
        elif program == "qmgr":
            return self._managed(queue_id, said)
        elif program == "bounce":
            if "non-delivery notification: " in said:
                self.about[said.rpartition(" ")[2]] = self.message_ids.get(queue_id, "")
        elif delivery := _DELIVERY.fullmatch(said):
            return [self._delivery(service, queue_id, *delivery.groups())]
        return []

    def _managed(self, queue_id: str, said: str) -> list[dict[str, Any]]:
        """Take note of what the queue manager says: a message begins, has expired, is gone."""
        if said == "removed":
            for known in (self.message_ids, self.about, self._senders, self._deferred):
                known.pop(queue_id, None)
        elif said.startswith("from=<"):
            sender, _, rest = said.removeprefix("from=<").partition(">")
            self._senders[queue_id] = sender
            if "status=expired" in rest:
                return [row | {"status": "expired"} for row in self._deferred.pop(queue_id, {}).values()]
        return []

    def _delivery(self, service: str | None, queue_id: str, recipient: str, relay: str, *more: str) -> dict[str, Any]:
        use, delay, delays, dsn, status, reply = more
        sender = self._senders.get(queue_id, "")
        one, ip = self._services.get(service or "", (None, ""))
        if one is None and sender:  # put off without an attempt
            one = self._setup.channel_of(sender, recipient)
        row = {
            "channel": one.name if one else None,
            "provider": one.provider if one else None,
            "ip": ip,
            "queue_id": queue_id,
            "message_id": self.message_ids.get(queue_id, ""),
            "sender": sender,
            "recipient": recipient,
            "relay": relay,
            "session_use": int(use or 1),
            "delay": float(delay),
            "delays": [*map(float, delays.split("/"))],
            "dsn": dsn,
            "status": status,
            "reply": reply,
        }
        if queue_id in self.about:
            row["about"] = self.about[queue_id]
        if status == "deferred":
            self._deferred.setdefault(queue_id, {})[recipient] = row
        elif queue_id in self._deferred:
            self._deferred[queue_id].pop(recipient, None)
        return row


# Running it


class _Stop:
    """Whether the relay is to end: a signal came, or whoever started it has closed its stdin."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._wake())
        self._asked = False

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._write, b".")

    def within(self, seconds: float) -> bool:
        """Wait for it, for so long."""
        until = time.monotonic() + seconds
        while not self._asked and (left := until - time.monotonic()) > 0:
            try:
                ready = select.select([self._read, 0], [], [], left)[0]
                self._asked = self._read in ready or (0 in ready and os.read(0, 4096) == b"")
            except OSError:  # stdin was closed before we came
                self._asked = True
        return self._asked


def missing() -> str:
    """Say why there can be no relay here, and what to do; empty if there can."""
    if not (DAEMONS / "master").exists():
        return f"Postfix is not installed ({PACKAGES})"
    if not all(any(Path("/").glob(PLUGINS.format(mechanism=one))) for one in ("plain", "login")):
        return f"Postfix can't log in: libsasl2-modules is not installed ({PACKAGES})"
    if os.geteuid() != 0:
        return "Postfix is started by root only: run this as root, in a container for example"
    return ""


def run(setup: Setup, password: str, stop: _Stop) -> None:
    """Relay until told to stop.

    Raises
    ------
    RuntimeError
        If Postfix doesn't start; with what it said.
    """
    zero = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="sendlab-relay-"))
    try:
        log, said = Log(setup), deque[str](maxlen=100)
        with held_port() as port, _guard(home) as guard:
            _make(home, files(setup, home, port, password))
            with (
                _log_service(home) as service,
                _lines(setup.out / "relay.jsonl") as rows,
                _reading(service, log, rows, said, zero),
            ):
                output = _start(guard)
                listens = _listens(port, output, said, stop)
                if listens:
                    where = {"host": "127.0.0.1", "port": port, "folder": str(home)}
                    print(json.dumps({**where, **_now(zero), "seconds": setup.seconds}), flush=True)
                    with _lines(setup.out / "queue_length.jsonl") as samples:
                        _watch(home, samples, zero, stop)
                    _end(home, output, said)
            if listens:
                _write_queue(home, setup, log)
            elif not stop.within(0):
                why = [line for line in said if "fatal: " in line] or [*said] or ["it said nothing"]
                raise RuntimeError(f"Postfix did not start: {why[0]}")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _make(home: Path, content: Mapping[str, str]) -> None:
    """Make the folders, and write the configuration."""
    home.chmod(0o755)  # it is the user postfix who enters
    for name in ("etc", "data", "spool", "spool/pid", *(f"spool/{name}" for name in FOLDERS)):
        (home / name).mkdir()
    for name in ("data", *(f"spool/{name}" for name in FOLDERS)):
        shutil.chown(home / name, "postfix")
    for name, text in content.items():
        path = home / "etc" / name
        path.touch(0o600 if name.startswith("sasl") else 0o644)
        path.write_text(text, encoding="utf-8")
        os.utime(path, (0, 0))  # each of Postfix's processes waits until a file hasn't changed for a second or two


@contextmanager
def _guard(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have somebody who ends Postfix, with all that it has started, and removes its folder, also if we are killed."""
    # by these, Postfix's own start script has the master log before it has read its configuration
    log = {"POSTLOG_SERVICE": "public/postlog", "POSTLOG_HOSTNAME": "relay"}
    guard = subprocess.Popen(
        ["sh", "-c", GUARD, str(home), str(DAEMONS / "master"), "-c", f"{home}/etc", "-s"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **log, "MAIL_CONFIG": f"{home}/etc"},
        start_new_session=True,
    )
    with guard:  # closes its input, and waits for it
        yield guard


def _start(guard: subprocess.Popen[bytes]) -> int:
    """Start Postfix, and return the end of a pipe that all its processes hold; on it comes what it can't log."""
    assert guard.stdin is not None
    assert guard.stdout is not None
    guard.stdin.write(b"start\n")
    guard.stdin.flush()
    return guard.stdout.fileno()


def _ended(output: int, said: deque[str], seconds: float) -> bool:
    """Wait for so long until all of Postfix has ended."""
    until = time.monotonic() + seconds
    while select.select([output], [], [], max(0.0, until - time.monotonic()))[0]:
        words = os.read(output, 65536)
        if not words:
            return True
        said.extend(words.decode(errors="replace").splitlines())
    return False


def _lines(path: Path) -> IO[str]:
    """Open a file in which each line is as soon as it is written."""
    return path.open("w", encoding="utf-8", buffering=1)


def _now(zero: float) -> dict[str, float]:
    return {"time": time.monotonic() - zero, "unix": time.time()}


def _log_service(home: Path) -> socket.socket:
    """Be Postfix's log service: its own ends before the deliveries in progress do, and has no fractions of seconds.

    It is a socket to which each of Postfix's processes sends a datagram a line.
    """
    service = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    folder = os.open(home / "spool/public", os.O_PATH)
    service.bind(f"/proc/self/fd/{folder}/postlog")  # a socket's path may have 107 characters only
    os.close(folder)
    (home / "spool/public/postlog").chmod(0o666)
    return service


@contextmanager
def _reading(service: socket.socket, log: Log, rows: IO[str], said: deque[str], zero: float) -> Iterator[None]:
    """Read Postfix's log meanwhile, and in the end what is left of it."""
    reader = Thread(target=_follow, args=(service, log, rows, said, zero), daemon=True)
    reader.start()
    try:
        yield
    finally:
        service.shutdown(socket.SHUT_RD)
        reader.join()


def _follow(service: socket.socket, log: Log, rows: IO[str], said: deque[str], zero: float) -> None:
    """Read Postfix's log, and write down each delivery at once."""
    while words := service.recv(65536):
        now = _now(zero)
        said.append(words.decode(errors="replace").rstrip("\n"))
        for row in log.read(said[-1]):
            rows.write(f"{json.dumps(now | row)}\n")


def _listens(port: int, output: int, said: deque[str], stop: _Stop) -> bool:
    """Wait for the banner; False if it doesn't come, or if told to stop meanwhile."""
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and not _ended(output, said, 0) and not stop.within(0.02):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as one:
            if one.recv(4) == b"220 ":
                return True
    return False


def _watch(home: Path, samples: IO[str], zero: float, stop: _Stop) -> None:
    """Count what is in the queues until told to stop."""
    stopped = False
    while not stopped:
        now = _now(zero)
        counts = Counter(json.loads(line)["queue_name"] for line in _queue(home))
        samples.write(f"{json.dumps(now | {name: counts[name] for name in QUEUES})}\n")
        stopped = stop.within(SAMPLED_EVERY)


def _queue(home: Path) -> list[str]:
    """Return the lines of ``postqueue -j``."""
    asked = ["postqueue", "-c", f"{home}/etc", "-j"]
    return subprocess.run(
        asked, capture_output=True, text=True, check=False, start_new_session=True
    ).stdout.splitlines()


def _end(home: Path, output: int, said: deque[str]) -> None:
    """End Postfix, so that its queue stays as it is.

    Without its master no process takes up further work, and each ends after what it is doing; those that wait for a
    provider are ended after a while.
    """
    master = int((home / "spool/pid/master.pid").read_text())
    os.kill(master, signal.SIGKILL)
    if not _ended(output, said, ENDS_WITHIN):
        os.killpg(master, signal.SIGKILL)  # it is there as long as nobody has waited for the master
        _ended(output, said, ENDS_WITHIN)


def _write_queue(home: Path, setup: Setup, log: Log) -> None:
    """Write down what is left in the queue."""
    with (setup.out / "queue.jsonl").open("w", encoding="utf-8") as left:
        for line in _queue(home):
            row = json.loads(line)
            if not row["recipients"]:  # delivered while Postfix ended, and not removed any more
                continue
            queue_id, sender = row["queue_id"], row["sender"]
            one = setup.channel_of(sender, row["recipients"][0]["address"])
            row |= {"channel": one.name if one else None, "message_id": log.message_ids.get(queue_id, "")}
            if queue_id in log.about:
                row["report"] = {"message_id": log.about[queue_id]}
            left.write(f"{json.dumps(row)}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the relay; 2 if it can't be, with one line on stderr that says why, 1 if Postfix doesn't start.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line's, without the program; by default the process's own.

    Returns
    -------
    int
        The exit code.
    """
    parser = argument.Parser(
        prog="loadtests.relay", description="A private Postfix between a load test and the providers it sends to."
    )
    parser.add_argument("file", type=Path, metavar="FILE.json", help="the channels, the time scale, where results go")
    options = parser.parse_args(arguments)
    try:
        setup = Setup.load(options.file)
        if why := missing():
            raise ValueError(why)
        setup.out.mkdir(parents=True, exist_ok=True)
        run(setup, os.environ.get("SENDLAB_PASSWORD", "password"), _Stop())
    except (ValueError, OSError) as error:
        return argument.bad_input(parser.prog, error)
    except RuntimeError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
