"""A Postfix of one's own: its smtpd on loopback, everything else in a temporary directory, gone afterwards.

It needs root (Postfix drops its privileges itself) and Debian's `postfix`; nothing of the system's own Postfix is read
but its programs. Mail is taken and lies in a queue that nobody runs, until the directory goes.
"""

import base64
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Final

import trustme

__all__ = ["HOST", "missing", "postfix"]

HOST: Final = "mail.example"
DAEMONS: Final = Path("/usr/lib/postfix/sbin")
STARTS_WITHIN: Final = 30.0  # seconds

MAIN: Final = {
    "compatibility_level": "3.6",
    "daemon_directory": str(DAEMONS),
    "command_directory": "/usr/sbin",
    "shlib_directory": "/usr/lib/postfix",
    "meta_directory": "/etc/postfix",
    "maillog_file": "$data_directory/mail.log",
    "maillog_file_prefixes": "$data_directory",
    "myhostname": HOST,
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "mydestination": "",
    "mynetworks": "",
    "alias_maps": "",
    "alias_database": "",
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
"""What a Postfix needs in order to run here; everything else is as Postfix has it."""

MASTER: Final = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
rewrite unix - - n - - trivial-rewrite
tlsmgr unix - - n 1000? 1 tlsmgr
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


def missing() -> str:
    """Why there can be no Postfix here; empty if there can."""
    if not (DAEMONS / "master").exists():
        return "Postfix is not installed (apt-get install postfix)"
    return "" if os.geteuid() == 0 else "Postfix starts as root only"


@contextmanager
def postfix(settings: Mapping[str, str], passwords: Mapping[str, str]) -> Iterator[int]:
    """Run Postfix, and yield the port on which it listens.

    Parameters
    ----------
    settings : mapping of str to str
        Further lines of main.cf.
    passwords : mapping of str to str
        Who may log in, by user name.
    """
    home = Path(tempfile.mkdtemp(prefix="postfix-"))
    master: subprocess.Popen[bytes] | None = None
    try:
        home.chmod(0o755)
        for name in ("etc", "spool", "data"):
            (home / name).mkdir()
        shutil.chown(home / "data", "postfix")
        port = free_port()
        main = {**MAIN, "queue_directory": f"{home}/spool", "data_directory": f"{home}/data", **settings}
        (home / "etc/main.cf").write_text("".join(f"{name} = {value}\n" for name, value in main.items()))
        (home / "etc/master.cf").write_text(MASTER.format(port=port))
        certificate = trustme.CA().issue_cert(HOST).private_key_and_cert_chain_pem
        certificate.write_to_path(str(home / "etc/certificate.pem"))
        environment = {**os.environ, "MAIL_CONFIG": f"{home}/etc"}
        with authority(home / "spool/auth", passwords):
            command = ["/usr/sbin/postfix", "-c", f"{home}/etc", "check"]
            subprocess.run(command, check=True, env=environment, capture_output=True, timeout=STARTS_WITHIN)
            master = subprocess.Popen(
                [DAEMONS / "master", "-c", f"{home}/etc", "-s"], env=environment, start_new_session=True
            )
            wait_until_listening(port, master, home / "data/mail.log")
            yield port
    finally:
        if master is not None:
            with suppress(ProcessLookupError):
                os.killpg(master.pid, signal.SIGKILL)
            master.wait()
        shutil.rmtree(home, ignore_errors=True)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_until_listening(port: int, master: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait for the banner."""
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and master.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=STARTS_WITHIN) as one:
            if one.recv(4) == b"220 ":
                return
    raise RuntimeError(f"Postfix did not start: {log.read_text() if log.exists() else 'it said nothing'}")


@contextmanager
def authority(path: Path, passwords: Mapping[str, str]) -> Iterator[None]:
    """Answer on a socket as Dovecot's auth process would: PLAIN and LOGIN, no reasons given."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(
                b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n"
            )
            said: dict[str, tuple[str, list[str]]] = {}
            for line in self.rfile:
                command, number, *rest = line.decode().rstrip("\n").split("\t")
                if command == "AUTH":
                    said[number] = rest[0], [part[5:] for part in rest if part.startswith("resp=")]
                elif command == "CONT":
                    said[number][1].append(rest[0] if rest else "")
                else:
                    continue
                self.wfile.write(answer(number, *said[number]).encode())

        timeout = None

    def answer(number: str, mechanism: str, responses: list[str]) -> str:
        if len(responses) < len(CHALLENGES[mechanism]):
            challenge = base64.b64encode(CHALLENGES[mechanism][len(responses)]).decode()
            return f"CONT\t{number}\t{challenge}\n"
        user, password = CREDENTIALS[mechanism]([base64.b64decode(text).decode() for text in responses])
        if user and passwords.get(user) == password:
            return f"OK\t{number}\tuser={user}\n"
        return f"FAIL\t{number}\tuser={user}\n"

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        server.daemon_threads = True
        path.chmod(0o666)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()


CHALLENGES: Final[dict[str, list[bytes]]] = {"PLAIN": [b""], "LOGIN": [b"Username:", b"Password:"]}
CREDENTIALS: Final[dict[str, Callable[[list[str]], list[str]]]] = {
    "PLAIN": lambda responses: responses[0].split("\0")[1:],
    "LOGIN": list,
}
