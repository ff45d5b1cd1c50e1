"""A load generator without Locust, as a process of its own, since gevent patches what it touches.

``python tests/generate.py DIR [STALL UNTIL]``: sends the plan in a folder and prints what was noted. When the text of
message STALL is to be written, nothing else happens in the process until second UNTIL. SIGTERM ends the run.
"""

import json
import signal
import sys
import time
from pathlib import Path


def main(folder: Path, stall: str, until: float) -> None:
    from gevent import monkey

    monkey.patch_all()  # here, since pytest imports every file of this folder

    import gevent

    from loadtests.generator import Generator, Note, plain_text
    from loadtests.plan import Entry, Plan

    notes: list[Note] = []
    generator = Generator(Plan.load(folder), notes.append)

    def write(entry: Entry) -> bytes:
        while entry.message_id == stall and generator.now() < until:
            pass
        return plain_text(entry)

    gevent.signal_handler(signal.SIGTERM, generator.over.set)
    generator.begin(folder / "client.jsonl", time.time(), 0, 1)
    users = [gevent.spawn(connection.serve, write) for connection in generator.waiting]
    generator.over.wait()
    gevent.killall(users)
    generator.close()
    print(json.dumps([[note.stage, note.bytes, note.refusal] for note in notes]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "".join(sys.argv[2:3]), float("".join(sys.argv[3:4]) or 0))
