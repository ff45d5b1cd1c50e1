"""A Postfix of one's own: its smtpd on loopback, everything else in a temporary directory, gone afterwards.

It needs root, since Postfix drops its privileges itself, and Debian's `postfix`; of the system's own Postfix nothing is
read but its programs. Mail is taken and lies in a queue that nobody runs until the directory goes, unless the services
are there that pass it on.
"""

import os
import shutil
import socket
import socketserver
import subprocess
import tempfile
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from threading import Thread
from typing import Final

import trustme

from simlib.port import held_port

HOST: Final = "mail.example"
DAEMONS: Final = Path("/usr/lib/postfix/sbin")
STARTS_WITHIN: Final = 30.0  # seconds
NAMESERVER: Final = str(IPv4Address("127.64.0.0") + os.getpid())
"""Where a test's DNS answers: resolv.conf takes no port, so it is 53, and the address is this process's alone."""

MAIN: Final = {
    "compatibility_level": "3.6",
    "daemon_directory": str(DAEMONS),
    "shlib_directory": "/usr/lib/postfix",
    "meta_directory": "/etc/postfix",
    "maillog_file": "$data_directory/mail.log",
    "maillog_file_prefixes": "$data_directory",
    "myhostname": HOST,
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "mynetworks": "",
    "mydestination": "",
    "alias_maps": "",
    "local_recipient_maps": "",
    "in_flow_delay": "0",
    "max_use": "1000000",
    "smtp_dns_support_level": "disabled",
    "smtpd_peername_lookup": "no",
    "smtpd_relay_restrictions": "permit_sasl_authenticated, reject_unauth_destination",
    "smtpd_sasl_auth_enable": "yes",
    "smtpd_sasl_type": "dovecot",
    "smtpd_sasl_path": "$queue_directory/auth",
    "smtpd_tls_security_level": "may",
    "smtpd_tls_cert_file": "$config_directory/certificate.pem",
    "smtpd_client_event_limit_exceptions": "",
}
"""What it takes to run here, without DNS and syslog; everything else is as Postfix has it."""

MASTER: Final = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
rewrite unix - - n - - trivial-rewrite
tlsmgr unix - - n 1000? 1 tlsmgr
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


PASSING_ON: Final = """\
qmgr unix n - n 300 1 qmgr
smtp unix - - n - - smtp
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
scache unix - - n - 1 scache
"""
"""What it takes to pass mail on, and to report to its sender what could not be."""

OWNED: Final = (
    *("incoming", "active", "deferred", "bounce", "defer", "corrupt", "hold", "flush", "trace", "saved"),
    *("private", "public"),
)
"""What the user postfix has in the queue directory."""


def missing() -> str:
    """Say why there can be no Postfix here; empty if there can."""
    if not (DAEMONS / "master").exists():
        return "Postfix is not installed (apt-get install postfix)"
    return "" if os.geteuid() == 0 else "Postfix starts as root only"


@contextmanager
def postfix(
    settings: Mapping[str, str], passwords: Mapping[str, str], services: str = "", nameserver: str = ""
) -> Iterator[int]:
    """Run Postfix with further lines of main.cf and master.cf and users that may log in, and yield its port.

    With a nameserver it runs where /etc/resolv.conf names that one and no other, which nobody else sees.
    """
    home = Path(tempfile.mkdtemp(prefix="postfix-"))
    try:
        home.chmod(0o755)  # it is the user postfix who enters
        for name in ("etc", "spool", "spool/pid", "data", *(f"spool/{one}" for one in OWNED)):
            (home / name).mkdir()
        for name in ("data", *(f"spool/{one}" for one in OWNED)):
            shutil.chown(home / name, "postfix")
        main = {**MAIN, "queue_directory": f"{home}/spool", "data_directory": f"{home}/data", **settings}
        (home / "etc/main.cf").write_text("".join(f"{name} = {value}\n" for name, value in main.items()))
        os.utime(home / "etc/main.cf", (0, 0))  # each process waits until the file hasn't changed for a second or two
        (home / "etc/resolv.conf").write_text(f"nameserver {nameserver}\n")
        certificate = trustme.CA().issue_cert(HOST).private_key_and_cert_chain_pem
        certificate.write_to_path(str(home / "etc/certificate.pem"))
        with held_port() as port, authority(home / "spool/auth", passwords):
            (home / "etc/master.cf").write_text(MASTER.format(port=port) + services)
            with master(home, ELSEWHERE if nameserver else ()):
                wait_until_listening(port, home)
                yield port
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def master(home: Path, within: Sequence[str] = ()) -> "Iterator[None]":
    """Start Postfix's master, and end it with all that it has started, also if the tests are killed."""
    with (home / "output").open("wb") as output:
        guard = subprocess.Popen(
            ["sh", "-c", GUARD, str(home), *within, str(DAEMONS / "master"), "-c", f"{home}/etc", "-s"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, "MAIL_CONFIG": f"{home}/etc"},
            start_new_session=True,
        )
    with guard:  # closes its input, and waits for it
        yield


GUARD: Final = 'setsid "$@" & read -r _; kill -KILL -$! $!; wait; rm -rf "$0"'
"""Its input ends when we close it or are gone ourselves: then Postfix goes, and the directory after it."""


ELSEWHERE: Final = (
    *("unshare", "--mount", "sh", "-c"),
    'mount --bind "$MAIL_CONFIG/resolv.conf" /etc/resolv.conf && exec "$0" "$@"',
)


def wait_until_listening(port: int, home: Path) -> None:
    """Wait for the banner."""
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=STARTS_WITHIN) as one:
            if one.recv(4) == b"220 ":
                return
        time.sleep(0.02)
    said = "".join(path.read_text() for path in (home / "output", home / "data/mail.log") if path.exists())
    raise RuntimeError(f"Postfix did not start: {said or 'it said nothing'}")


# Who may log in


@contextmanager
def authority(path: Path, passwords: Mapping[str, str]) -> Iterator[None]:
    """Answer on a Unix socket as Dovecot's auth service does: PLAIN and LOGIN, and no reason for a refusal."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(GREETING)
            said: dict[str, tuple[str, list[str]]] = {}  # mechanism and responses, by request
            for line in self.rfile:
                command, number, *rest = line.decode().rstrip("\n").split("\t")
                if command == "AUTH":
                    said[number] = rest[0], [part[5:] for part in rest if part.startswith("resp=")]
                elif command == "CONT":
                    said[number][1].append(rest[0])
                if command in ("AUTH", "CONT"):
                    self.wfile.write(verdict(number, *said[number], passwords).encode())

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        server.daemon_threads = True
        path.chmod(0o666)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


GREETING: Final = b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n"
CHALLENGES: Final = {"PLAIN": [b""], "LOGIN": [b"Username:", b"Password:"]}


def verdict(number: str, mechanism: str, responses: list[str], passwords: Mapping[str, str]) -> str:
    """Ask for what is still to be said, or say whether that will do."""
    challenges = CHALLENGES[mechanism]
    if len(responses) < len(challenges):
        return f"CONT\t{number}\t{b64encode(challenges[len(responses)]).decode()}\n"
    words = "\0".join(b64decode(response).decode() for response in responses).split("\0")
    user, password = words[-2:]
    return f"OK\t{number}\tuser={user}\n" if passwords.get(user) == password else f"FAIL\t{number}\tuser={user}\n"
