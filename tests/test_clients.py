"""Programs that others wrote deliver to the fakes, check their certificate, and read a refusal where it is said.

What a client sent and was told is taken from the client's own report, and compared with the server's ledger.
"""

import asyncio
import json
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import aiosmtplib
import pytest
import trustme
from test_serve import Server, serving

PROVIDERS = ("office365", "gmail", "sparkpost", "own-postfix", "generic-mx")
CHANNELS = "\n".join(
    f'[alternatives."{name}"]\nchannels = [{{ name = "one", tenants = ["us"], to = "{name}" }}]' for name in PROVIDERS
)
SCENARIO = f"""
name = "a message, and one too many"
duration = "1h"
start = "2026-11-24T08:00+00:00"
[[tenants]]
name = "us"
senders = 1
arrivals = {{ kind = "batches", size = 1 }}
{CHANNELS}
[limits]
"gmail/messages-per-day" = "1/d"
"generic-mx/quota" = "1/min"
"generic-mx/connections" = 1
"""
ACCOUNTS = """
[[accounts]]
user = "rep01@us.example"
domains = ["us.example"]
[[accounts]]
user = "us.example"
domains = ["us.example"]
"""
REP = "rep01@us.example"
TO = "to@them.example"
TOKEN = 2_500  # characters, as Microsoft's are
TEXT = b"\r\n".join(
    (
        b"Date: Tue, 24 Nov 2026 08:00:00 +0000",
        b"To: " + TO.encode(),
        b"Message-ID: <us-7@sendlab.example>",
        b"Subject: dots",
        b"",
        b".",
        b"..and more",
        b"x" * 900,
        b"",
    )
)


class Job(NamedTuple):
    """A message to send: where, how to log in (no mechanism: not at all), and as whom."""

    server: Server
    folder: Path
    provider: str
    mechanism: str
    user: str
    secret: str
    mail_from: str
    tls_at_once: bool = False

    @property
    def port(self) -> int:
        wanted = self.provider, self.tls_at_once
        port: int = next(line["port"] for line in self.server.lines if (line["provider"], line["tls"]) == wanted)
        return port

    @property
    def ca(self) -> str:
        return str(self.folder / "ca")

    @property
    def by_token(self) -> bool:
        return self.mechanism in ("XOAUTH2", "OAUTHBEARER")

    @property
    def message(self) -> bytes:
        return b"From: " + self.mail_from.encode() + b"\r\n" + TEXT

    def file(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)


class Said(NamedTuple):
    """The reply that decided a message, as the client tells it: after what it was said, and its lines."""

    after: tuple[str, ...]
    lines: list[str]


# Reports

SENT = re.compile(r"(?:smtp-source: | *[-~]*> )(EHLO|HELO|STARTTLS|AUTH|MAIL|RCPT|DATA|RSET|QUIT)(?: .*)?")
READ = re.compile(r"(?:smtp-source: )?<\S* +(\d{3}(?:[ -].*)?)")
MORE = {"334": "AUTH", "354": "EOD"}  # replies that ask for something


def dialogue(report: str) -> Iterator[Said]:
    """Yield every reply in a report; commands may have been sent ahead."""
    asked, lines = deque(["CONNECT"]), []
    for line in report.splitlines():
        if sent := SENT.fullmatch(line.rstrip()):
            asked.append(sent[1])
        elif read := READ.fullmatch(line.rstrip()):
            lines.append(read[1])
            if read[1][3:4] != "-":
                yield Said((asked.popleft(),), lines)
                if read[1][:3] in MORE:
                    asked.appendleft(MORE[read[1][:3]])
                lines = []


def decided(process: "subprocess.CompletedProcess[str]") -> Said:
    """Return what decided the message: its exit status says whether the program took it for a refusal."""
    replies = [said for said in dialogue(process.stdout + process.stderr) if said.after != ("QUIT",)]
    assert replies, process.stderr
    refused = [said for said in replies if said.lines[0] >= "4"]
    return refused[0] if process.returncode and refused else replies[-1]


def run(*command: object, text: str | None = None) -> Said:
    every = [*map(str, command)]
    return decided(subprocess.run(every, input=text, capture_output=True, text=True, timeout=60, check=False))


# Clients


def curl(job: Job, *more: str) -> Said:
    options = [*more, "--silent", "--show-error", "--verbose", "--upload-file", job.file("message", job.message)]
    options += ["--mail-from", job.mail_from, "--mail-rcpt", TO, "--ssl-reqd", "--cacert", job.ca]
    if job.by_token:
        options += ["--user", job.user, "--oauth2-bearer", job.secret]
    elif job.mechanism:
        options += ["--user", f"{job.user}:{job.secret}"]
    if job.mechanism:
        options += ["--login-options", f"AUTH={job.mechanism}"]
    scheme = "smtps" if job.tls_at_once else "smtp"
    return run("curl", *options, f"{scheme}://127.0.0.1:{job.port}/client.example")


def curl_with_initial_response(job: Job) -> Said:
    return curl(job, "--sasl-ir")


def swaks(job: Job) -> Said:
    options = ["--server", "127.0.0.1", "--port", job.port, "--ehlo", "client.example", "--from", job.mail_from]
    text = job.message.removesuffix(b"\r\n")  # it ends the last line itself
    options += ["--to", TO, "--data", "@" + job.file("message", text), "--suppress-data"]
    options += ["--tls-on-connect" if job.tls_at_once else "--tls", "--tls-verify", "--tls-ca-path", job.ca]
    if job.mechanism:
        options += ["--auth", job.mechanism, "--auth-user", job.user, "--auth-password", job.secret]
    return run("swaks", *options)


def msmtp(job: Job) -> Said:
    options = ["--file=/dev/null", "--debug", "--host=127.0.0.1", f"--port={job.port}", "--domain=client.example"]
    options += [f"--from={job.mail_from}", "--tls=on", f"--tls-trust-file={job.ca}"]
    options += ["--tls-starttls=" + ("off" if job.tls_at_once else "on")]
    if job.mechanism:
        options += [f"--auth={job.mechanism.lower()}", f"--user={job.user}"]
        options += [f"--passwordeval=cat {job.file('secret', job.secret.encode())}"]
    return run("msmtp", *options, TO, text=job.message.decode())


def smtp_source(job: Job) -> Said:
    options = ["-v", "-M", "client.example", "-f", job.mail_from, "-t", TO, "-m", "1", "-l", "2000"]
    return run("smtp-source", *options, f"127.0.0.1:{job.port}")


def nodemailer(job: Job) -> Said:
    login: dict[str, str] | None = {"user": job.user, "pass": job.secret}
    if job.by_token:
        login = {"type": "OAuth2", "user": job.user, "accessToken": job.secret}
    return node(job, login if job.mechanism else None)


def node(job: Job, login: dict[str, str] | None) -> Said:
    transport: dict[str, Any] = {"host": "127.0.0.1", "port": job.port, "name": "client.example", "requireTLS": True}
    transport |= {"tls": {"ca": Path(job.ca).read_text()}, "secure": job.tls_at_once}
    if login:
        transport |= {"auth": login}
    if job.mechanism and not job.by_token:
        transport |= {"authMethod": job.mechanism}
    mail = {"envelope": {"from": job.mail_from, "to": [TO]}, "raw": job.message.decode()}
    return run(
        "node", Path(__file__).with_name("nodemailer.mjs"), text=json.dumps({"transport": transport, "mail": mail})
    )


class Recorder(smtplib.SMTP):
    """Remembers the last reply."""

    last: tuple[int, bytes]

    def getreply(self) -> tuple[int, bytes]:
        self.last = super().getreply()
        return self.last


def of_smtplib(job: Job) -> Said:
    try:
        with Recorder("127.0.0.1", job.port, "client.example", timeout=20) as client:
            client.starttls(context=ssl.create_default_context(cafile=job.ca))
            if job.by_token:
                client.ehlo()
                client.auth("XOAUTH2", lambda challenge=None: "" if challenge else bearer(job))
            elif job.mechanism:
                client.login(job.user, job.secret)
            client.sendmail(job.mail_from, [TO], job.message)
            return told(("EOD",), *client.last)
    except smtplib.SMTPRecipientsRefused as refusal:
        return told(("RCPT",), *refusal.recipients[TO])
    except smtplib.SMTPResponseException as refusal:
        return told(AFTER[type(refusal).__name__], refusal.smtp_code, refusal.smtp_error)


def of_aiosmtplib(job: Job) -> Said:
    client = aiosmtplib.SMTP(
        hostname="127.0.0.1",
        port=job.port,
        local_hostname="client.example",
        start_tls=True,
        tls_context=ssl.create_default_context(cafile=job.ca),
    )

    async def send() -> str:
        opened = None
        try:
            async with client:
                opened = client.get_transport_info("socket")
                await client.ehlo()
                if job.by_token:
                    await client.auth_xoauth2(job.user, job.secret)
                elif job.mechanism == "PLAIN":
                    await client.auth_plain(job.user, job.secret)
                elif job.mechanism:
                    await client.auth_login(job.user, job.secret)
                return (await client.sendmail(job.mail_from, [TO], job.message))[1]
        finally:
            while opened and opened.fileno() >= 0:  # it leaves before that is closed
                await asyncio.sleep(0)

    try:
        return told(("EOD",), 250, asyncio.run(send()))
    except aiosmtplib.SMTPRecipientsRefused as refusals:
        return told(("RCPT",), refusals.recipients[0].code, refusals.recipients[0].message)
    except aiosmtplib.SMTPResponseException as refusal:
        return told(AFTER[type(refusal).__name__], refusal.code, refusal.message)


AFTER = {
    "SMTPConnectError": ("CONNECT",),
    "SMTPConnectResponseError": ("CONNECT",),
    "SMTPAuthenticationError": ("AUTH",),
    "SMTPSenderRefused": ("MAIL",),
    "SMTPDataError": ("DATA", "EOD"),  # Python's clients make no difference
}


def told(after: tuple[str, ...], code: int, text: str | bytes) -> Said:
    text = text if isinstance(text, str) else text.decode()
    return Said(after, [f"{code} {line}" for line in text.split("\n")])


def bearer(job: Job) -> str:
    return f"user={job.user}\1auth=Bearer {job.secret}\1\1"


class Client(NamedTuple):
    """A client, what it needs on this machine, and the ways it is tried."""

    send: Callable[[Job], Said]
    needs: tuple[str, ...]
    ways: tuple[str, ...]


NODEMAILER = str(Path(__file__).parents[1] / "node_modules" / "nodemailer")
CLIENTS = {
    "curl": Client(curl, ("curl",), ("office365 LOGIN", "office365 XOAUTH2", "gmail OAUTHBEARER", "generic-mx")),
    "curl --sasl-ir": Client(
        curl_with_initial_response, ("curl",), ("office365 XOAUTH2", "gmail OAUTHBEARER", "own-postfix PLAIN")
    ),
    "swaks": Client(
        swaks, ("swaks",), ("office365 LOGIN", "sparkpost PLAIN", "own-postfix PLAIN", "gmail LOGIN", "generic-mx")
    ),
    "msmtp": Client(
        msmtp,
        ("msmtp",),
        ("office365 XOAUTH2", "gmail XOAUTH2", "gmail OAUTHBEARER", "own-postfix PLAIN", "generic-mx"),
    ),
    "smtp-source": Client(smtp_source, ("smtp-source",), ("generic-mx",)),
    "nodemailer": Client(
        nodemailer,
        ("node", NODEMAILER),
        ("office365 LOGIN", "office365 XOAUTH2", "gmail XOAUTH2", "sparkpost PLAIN", "own-postfix LOGIN", "generic-mx"),
    ),
    "smtplib": Client(
        of_smtplib,
        (),
        ("office365 LOGIN", "office365 XOAUTH2", "gmail XOAUTH2", "sparkpost PLAIN", "own-postfix PLAIN", "generic-mx"),
    ),
    "aiosmtplib": Client(
        of_aiosmtplib,
        (),
        ("office365 LOGIN", "office365 XOAUTH2", "gmail XOAUTH2", "sparkpost PLAIN", "own-postfix PLAIN", "generic-mx"),
    ),
}


def ways(*words: str) -> list[Any]:
    """Every client with every way it is tried, or those with one of some words."""
    return [
        pytest.param(client, way, id=f"{name}, {way}")
        for name, client in CLIENTS.items()
        for way in client.ways
        if not words or set(words) & set(way.split())
    ]


# Fakes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="module")
def fakes(folder: Path) -> Iterator[Server]:
    (folder / "scenario").write_text(SCENARIO)
    (folder / "accounts").write_text(ACCOUNTS)
    files = [part for name in ("scenario", "accounts", "ca") for part in (f"--{name}", folder / name)]
    with serving(*files, "--tls-port", 0, listeners=2 * len(PROVIDERS)) as server:
        yield server


@pytest.fixture
def server(fakes: Server) -> Server:
    fakes.post("/reset")
    return fakes


def job(server: Server, folder: Path, client: Client, way: str) -> Job:
    """A message that is as it should be; the test is skipped if the client isn't there."""
    missing = [need for need in client.needs if not (shutil.which(need) or Path(need).exists())]
    if missing:
        pytest.skip(f"{', '.join(missing)} isn't here; .ci/run installs it")
    provider, _, mechanism = way.partition(" ")
    user = REP if provider in ("office365", "gmail") else "us.example"
    one = Job(server, folder, provider, mechanism, user, "password", REP)
    return one._replace(secret=token(one)) if one.by_token else one


def token(one: Job) -> str:
    form = {"grant_type": "refresh_token", "refresh_token": one.user, "provider": one.provider, "length": TOKEN}
    found: str = one.server.post("/token", **form)["access_token"]
    assert len(found) == TOKEN
    return found


def entries(server: Server, start: int) -> list[dict[str, Any]]:
    """Return what the ledger has after its first `start` bytes."""
    return [json.loads(line) for line in server.get("/ledger")[start:].splitlines()]


def sent(client: Client, one: Job) -> dict[str, Any]:
    """Send a message, and return its line in the ledger: the client has to have been told that, at that stage."""
    before = len(one.server.get("/ledger"))
    said = client.send(one)
    lines = entries(one.server, before)
    found = next((line for line in lines if line["code"] >= 400), lines[-1])
    prefix = f"{found['code']} {found['enhanced']} ".replace("  ", " ")
    assert [f"{line[:3]} {line[4:]}" for line in said.lines] == [prefix + line for line in found["text"].split("\n")]
    assert found["stage"] in said.after
    return found


# What they are told


@pytest.mark.parametrize(("client", "way"), ways())
def test_a_message_is_delivered(server: Server, folder: Path, client: Client, way: str) -> None:
    one = job(server, folder, client, way)
    line = sent(client, one)
    assert (line["provider"], line["code"], line["mail_from"], line["recipients"]) == (one.provider, 250, REP, 1)
    assert line["account"] == (one.user if one.mechanism else "127.0.0.1")
    if client.send is not smtp_source:  # it writes its own message
        assert (line["bytes"], line["message_id"]) == (len(one.message), "us-7")


@pytest.mark.parametrize("name", ["curl", "swaks", "msmtp", "nodemailer"])
def test_tls_may_begin_at_once(server: Server, folder: Path, name: str) -> None:
    one = job(server, folder, CLIENTS[name], "own-postfix PLAIN")
    assert sent(CLIENTS[name], one._replace(tls_at_once=True))["code"] == 250


@pytest.mark.parametrize(("client", "way"), ways("LOGIN", "PLAIN", "XOAUTH2", "OAUTHBEARER"))
def test_a_wrong_secret_is_refused_at_auth(server: Server, folder: Path, client: Client, way: str) -> None:
    one = job(server, folder, client, way)
    line = sent(client, one._replace(secret="x" * len(one.secret)))
    assert (line["stage"], line["code"], line["account"]) == ("AUTH", 535, one.user)


@pytest.mark.parametrize(("client", "way"), ways("office365", "sparkpost", "own-postfix"))
def test_a_strange_sender_is_refused_where_the_provider_looks(
    server: Server, folder: Path, client: Client, way: str
) -> None:
    one = job(server, folder, client, way)
    line = sent(client, one._replace(mail_from="boss@them.example"))
    where = {"office365": ("EOD", 554), "sparkpost": ("EOD", 550), "own-postfix": ("RCPT", 553)}
    assert (line["stage"], line["code"]) == where[one.provider]


@pytest.mark.parametrize(("client", "way"), ways("gmail", "generic-mx"))
def test_one_message_too_many_is_refused_where_the_limit_is(
    server: Server, folder: Path, client: Client, way: str
) -> None:
    one = job(server, folder, client, way)
    assert sent(client, one)["code"] == 250
    line = sent(client, one)
    where = {"gmail": ("DATA", 550, "messages-per-day"), "generic-mx": ("MAIL", 450, "quota")}
    assert (line["stage"], line["code"], line["limit"].rpartition("/")[2]) == where[one.provider]


@pytest.mark.parametrize(("client", "way"), ways("generic-mx"))
def test_a_connection_too_many_is_refused_at_connect(server: Server, folder: Path, client: Client, way: str) -> None:
    one = job(server, folder, client, way)
    with socket.create_connection(("127.0.0.1", one.port)) as first:
        assert first.recv(1000).startswith(b"220")
        line = sent(client, one)
    assert (line["stage"], line["code"]) == ("CONNECT", 421)


@pytest.mark.parametrize(
    ("client", "way"), [one for one in ways("generic-mx") if one.values[0].send is not smtp_source]
)
def test_another_authority_s_certificate_is_not_trusted(
    server: Server, tmp_path: Path, client: Client, way: str
) -> None:
    (tmp_path / "ca").write_bytes(trustme.CA().cert_pem.bytes())
    before = server.get("/ledger")
    with suppress(OSError, aiosmtplib.SMTPException):
        client.send(job(server, tmp_path, client, way))
    assert server.get("/ledger") == before


def test_nodemailer_fetches_and_renews_its_token(server: Server, folder: Path) -> None:
    one = job(server, folder, CLIENTS["nodemailer"], "gmail XOAUTH2")
    url = f"http://127.0.0.1:{server.lines[0]['control']}/token?provider=gmail&length={TOKEN}"
    grant = {"clientId": "sendlab", "clientSecret": "none", "refreshToken": REP, "accessUrl": url}
    login = {"type": "OAuth2", "user": REP, "accessToken": "expired", **grant}
    before = len(server.get("/ledger"))
    assert node(one, login).lines[0].startswith("250")
    assert [line["code"] for line in entries(server, before)] == [535, 250]
