"""The server's ledger: one JSON line for every outcome, in the file before its reply leaves."""

import json
import os
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["COLUMNS", "Ledger"]

COLUMNS: Final = ("time", "provider", "session", "ip", "account", "mail_from", "recipients", "bytes", "message_id")
COLUMNS += ("stage", "code", "enhanced", "text", "limit", "held", "opened", "tls")  # type: ignore[assignment, misc]

_encode = json.JSONEncoder(separators=(", ", ": ")).encode


class Ledger:
    """A file that is only appended to, each line in one write, so that a killed process loses none.

    Parameters
    ----------
    path : Path, optional
        Where; a temporary file by default.

    Raises
    ------
    OSError
        If the file can't be opened.
    """

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            with tempfile.TemporaryFile() as file:
                self._file = os.dup(file.fileno())
        else:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, entry: dict[str, object]) -> None:
        """Append one entry, with the keys of `COLUMNS`, and `report` where the message is a report (RFC 3464)."""
        line = f"{_encode(entry)}\n".encode()
        written = os.write(self._file, line)
        while written < len(line):  # a full disk writes a part and fails the next time
            written += os.write(self._file, line[written:])

    def size(self) -> int:
        """Return how long the file is, in bytes."""
        return os.fstat(self._file).st_size

    def read(self, start: int, size: int) -> bytes:
        """Return at most `size` bytes from `start` on."""
        return os.pread(self._file, size, start)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
