"""Programs that others wrote, as commands for `sendlab audit`: each sends six messages, and ends when it has done so.

``python tests/mailers.py`` audits them all and writes AUDIT.md (`make audit`; some minutes, since mail servers wait).
``python tests/mailers.py NAME SCALE {host} {port} {user} {password} {ca} {token} {token_url} {refresh_token}`` is one.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import smtplib
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
MESSAGES: Final = 6
SCALE: Final = 60.0  # by how much the waits of mail servers are shortened
UNHURRIED: Final = (
    20.0  # for those who wait for nothing: their six messages are out in three seconds, on a busy machine
)
TO: Final = "to@them.example"


class Server(NamedTuple):
    """Where to, and how to log in; `scale` is by how much a queue's waits are shortened."""

    scale: float
    host: str
    port: int
    user: str
    password: str
    ca: str
    token: str = ""
    token_url: str = ""
    refresh_token: str = ""

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)


def messages(user: str) -> Iterator[str]:
    for number in range(MESSAGES):
        head = f"From: <{user}>\r\nTo: <{TO}>\r\nSubject: audit\r\nDate: Tue, 24 Nov 2026 08:00:00 +0000\r\n"
        yield f"{head}Message-ID: <us-{number}@sendlab.example>\r\n\r\nhello\r\n"


# Libraries: a loop over the messages; what fails is told, and that is all


def of_smtplib(to: Server) -> None:
    with smtplib.SMTP(to.host, to.port, "client.example") as client:
        client.starttls(context=to.trust)
        client.login(to.user, to.password)
        for text in messages(to.user):
            with told():
                client.sendmail(to.user, [TO], text)


def of_aiosmtplib(to: Server) -> None:
    import aiosmtplib

    async def send(text: str) -> None:
        await aiosmtplib.send(
            text,
            sender=to.user,
            recipients=[TO],
            hostname=to.host,
            port=to.port,
            username=to.user,
            password=to.password,
            start_tls=True,
            tls_context=to.trust,
            local_hostname="client.example",
        )

    for text in messages(to.user):
        with told():
            asyncio.run(send(text))


def of_django(to: Server) -> None:
    from django.conf import settings
    from django.core.mail import EmailMessage, get_connection

    settings.configure(EMAIL_USE_TLS=True, USE_TZ=True)
    backend = get_connection(
        "django.core.mail.backends.smtp.EmailBackend",
        host=to.host,
        port=to.port,
        username=to.user,
        password=to.password,
        use_tls=True,
    )
    backend.ssl_context = to.trust
    mails = [
        EmailMessage("audit", "hello", to.user, [TO], headers={"Message-ID": f"<us-{number}@sendlab.example>"})
        for number in range(MESSAGES)
    ]
    for mail in mails:
        with told():
            backend.send_messages([mail])


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Tell what went wrong with a message, and go on with the next."""
    try:
        yield
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)


# Programs


def of_nodemailer(to: Server) -> None:
    login = {"user": to.user, "pass": to.password}
    if to.token:
        grant = {"clientId": "sendlab", "clientSecret": "none", "refreshToken": to.refresh_token}
        login = {"type": "OAuth2", "user": to.user, "accessToken": to.token, "accessUrl": to.token_url, **grant}
    transport = {"host": to.host, "port": to.port, "name": "client.example", "requireTLS": True, "auth": login}
    transport["tls"] = {"ca": Path(to.ca).read_text()}
    mails = [{"envelope": {"from": to.user, "to": [TO]}, "raw": text} for text in messages(to.user)]
    subprocess.run(
        ["node", ROOT / "tests" / "nodemailer.mjs"],
        input=json.dumps({"transport": transport, "mails": mails}),
        text=True,
        stdout=subprocess.DEVNULL,
        check=False,
    )


def of_msmtp(to: Server) -> None:
    options = ["--file=/dev/null", f"--host={to.host}", f"--port={to.port}", "--domain=client.example"]
    options += [f"--from={to.user}", "--tls=on", "--tls-starttls=on", f"--tls-trust-file={to.ca}", "--auth=on"]
    options += [f"--user={to.user}", f"--passwordeval=echo {to.password}"]
    for text in messages(to.user):
        subprocess.run(["msmtp", *options, TO], input=text, text=True, check=False)


# Mail servers: each takes the messages, and we wait until its queue is empty


def of_postfix(to: Server) -> None:
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        way = {"name": "out", "provider": "it", "host": to.host, "port": to.port, "connections": 3, "tls": "required"}
        way |= {"auth": True, "senders": {to.user: to.user}}
        setup = {"channels": [way], "ca": to.ca, "time_scale": to.scale, "inbox": None, "out": name}
        (out / "relay.json").write_text(json.dumps(setup))
        relay = subprocess.Popen(
            [sys.executable, "-m", "loadtests.relay", name + "/relay.json"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "SENDLAB_PASSWORD": to.password},
            cwd=ROOT,
        )
        with relay:
            assert relay.stdout is not None
            submit(json.loads(relay.stdout.readline())["port"], to.user)
            sampled = out / "queue_length.jsonl"

            def waiting() -> bool:
                *_, last = [{"active": 1}, *map(json.loads, sampled.read_text().splitlines()[1:])]
                return any(last.get(one) for one in ("active", "deferred", "incoming"))

            until(lambda: not waiting())


def of_exim(to: Server) -> None:
    from test_recipes import exim_with, recipe

    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)
        shutil.copy(to.ca, home / "ca.pem")
        (home / "sendlab_tokens").touch()
        text = recipe("exim/submission.conf", "/etc/exim4/", home, to.port)
        schedule = "F,2h,15m; G,16h,1h,1.5; F,4d,6h"
        assert schedule in text
        quarter, hour = round(900 / to.scale), round(3600 / to.scale)
        text = text.replace(schedule, f"F,{8 * quarter}s,{quarter}s; G,{16 * hour}s,{hour}s,1.5; F,4d,6h")
        with exim_with(text, home, f"-q{max(1, round(600 / to.scale))}s") as one:
            submit(one.port, to.user)
            until(lambda: f"<{to.user}>" not in one.run("-bp"))  # reports to the sender find nobody


def submit(port: int, user: str) -> None:
    with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=30) as client:
        for text in messages(user):
            client.sendmail(user, [TO], text)


def until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.5)


class Mailer(NamedTuple):
    """A mailer, what it needs here, whether it takes a token, and how fast the provider's clock goes for it."""

    send: Callable[[Server], None]
    needs: tuple[str, ...] = ()
    tokens: bool = False
    scale: float = UNHURRIED


MAILERS: Final = {
    "smtplib": Mailer(of_smtplib),
    "aiosmtplib": Mailer(of_aiosmtplib),
    "Django": Mailer(of_django),
    "nodemailer": Mailer(of_nodemailer, ("node", str(ROOT / "node_modules" / "nodemailer")), tokens=True),
    "msmtp": Mailer(of_msmtp, ("msmtp",)),
    "Postfix": Mailer(of_postfix, ("postfix",), scale=SCALE),
    "Exim": Mailer(of_exim, (str(ROOT / ".exim/usr/sbin/exim4"),), scale=SCALE),
}


def command(name: str, provider: str, *options: str, scale: float) -> list[str]:
    """Return the audit of a mailer, as one would type it."""
    one = MAILERS[name]
    words = ["{host}", "{port}", "{user}", "{password}", "{ca}"]
    words += ["{token}", "{token_url}", "{refresh_token}"] if one.tokens and provider == "office365" else []
    audit = [sys.executable, "-m", "simlib", "audit", provider, "--time-scale", f"{scale:g}", *options, "--json"]
    return [*audit, "--", sys.executable, __file__, name, f"{scale:g}", *words]


def missing(name: str) -> list[str]:
    """Name what a mailer needs and isn't here."""
    return [need for need in MAILERS[name].needs if not (shutil.which(need) or Path(need).exists())]


def audit(name: str, provider: str, *options: str, scale: float = 0.0) -> dict[str, Any]:
    """Audit a mailer, on a clock of its own or as fast as one is told; the document of `audit --json`."""
    limit = ("--limit", LIMITS[provider]) if provider in LIMITS else ()
    words = command(name, provider, *limit, *options, scale=scale or MAILERS[name].scale)
    ran = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    if ran.returncode not in (0, 1):
        raise RuntimeError(f"{name}: {ran.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


LIMITS: Final = {"office365": "office365/messages-per-minute=5/min"}
"""Amounts that six messages can exceed."""


# AUDIT.md

MARKS: Final = {"passed": "yes", "failed": "**no**", "not tested": "–"}
TABLES: Final = {
    "own-postfix": "At a Postfix of one's own, as it ships (`sendlab audit own-postfix`); its quota defers (4yz)",
    "office365": "At Office 365, with 5 messages a minute instead of 30 (`sendlab audit office365 --limit "
    "office365/messages-per-minute=5/min`); its quota rejects (5yz)",
}
HEAD: Final = f"""\
# What mailers do when things go wrong

Six messages each, sent through every trial of `sendlab audit`. `make audit` writes this file again.

*yes*: the rule was kept. **no**: it was broken. –: not tested, which is never a pass: a library that retries nothing
was not seen to retry wrongly. Libraries and msmtp are called in a loop that goes on with the next message after an
error, as a small script would; what that means at a limit or a quota is the loop's doing as much as theirs. Postfix and
Exim are the recipes in `loadtests/recipes`, their waits {SCALE:g} times as short as they come, before fakes {SCALE:g}
times as fast.
"""


def version(name: str) -> str:
    """Return a mailer's version."""
    if name == "smtplib":
        return f"Python {sys.version.split()[0]}"
    if name in ("aiosmtplib", "Django"):
        return metadata.version(name)
    if name == "nodemailer":
        return str(json.loads((ROOT / "node_modules/nodemailer/package.json").read_text())["version"])
    if name == "Exim":  # it says nothing where the user that it wants is missing
        found = re.search(rb"\0(4\.\d+)\0", Path(MAILERS[name].needs[0]).read_bytes())
        return found[1].decode() if found else ""
    asked = {"msmtp": ["msmtp", "--version"], "Postfix": ["postconf", "-dh", "mail_version"]}
    said = subprocess.run(asked[name], capture_output=True, text=True, check=False).stdout
    return next(iter(re.findall(r"\d+(?:\.\d+)+", said)), "")


def document(found: Mapping[tuple[str, str], dict[str, Any]]) -> str:
    """Write the tables."""
    parts = [HEAD]
    for provider, about in TABLES.items():
        mine = {name: one["rules"] for (name, at), one in found.items() if at == provider}
        rules = list(next(iter(mine.values())))
        rows = [["", *(f"`{rule}`" for rule in rules)], ["---"] * (len(rules) + 1)]
        rows += [
            [f"{name} {version(name)}", *(MARKS[verdicts[rule]["verdict"]] for rule in rules)]
            for name, verdicts in mine.items()
        ]
        parts.append(f"## {about}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n")
        said = [
            f"- {name}, `{rule}`: {one['says']}"
            for name, verdicts in mine.items()
            for rule, one in verdicts.items()
            if one["verdict"] == "failed"
        ]
        parts.append("\n".join(said) + "\n" if said else "Nothing failed.\n")
    return "\n".join(parts)


def write() -> None:
    """Audit all mailers, several at a time since they mostly wait, and write AUDIT.md."""
    every = [(name, provider) for provider in TABLES for name in reversed(MAILERS)]  # those that take long, first
    lacking = {need for name in MAILERS for need in missing(name)}
    if lacking:
        raise SystemExit(f"mailers: {', '.join(sorted(lacking))} isn't here; .ci/run installs it")
    with ThreadPoolExecutor(4) as pool:
        done = dict(zip(every, pool.map(lambda one: audit(*one), every), strict=True))
    found = {(name, provider): done[name, provider] for provider in TABLES for name in MAILERS}
    (ROOT / "AUDIT.md").write_text(document(found), encoding="utf-8")


def main(words: Sequence[str]) -> None:
    if not words:
        write()
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that what was started ends as well
    name, scale, host, port, *more = words
    MAILERS[name].send(Server(float(scale), host, int(port), *more))


if __name__ == "__main__":
    main(sys.argv[1:])
