"""The acknowledgement ledger: what a producer knows of its own sends, in a durable file outside Kafka. The audit reads it.

One file per incarnation, `<state_dir>/ledger/<namespace or ->/<producer_id>/<epoch>.ledger`, one line per fact:

    H <json>                                        who writes: producer_id, epoch, started_ms
    R <topic> <seq>                                 no seq from here on has been attempted yet
    A <topic> <partition> <offset> <seq> <hash>     the broker acknowledged it; written only after that
    F <topic> <seq> <reason>                        given up and reported to the caller
    C <topic> <seq>                                 closed in order: all below were attempted, and nothing above

A line is appended by one write(2), so a killed process leaves whole lines, and at most one torn at the end. What was
attempted (below the last R) but is neither A nor F after a kill is a send of unknown outcome.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from infra.base.settings import settings

RESERVE = 1_000
"""Sequence numbers announced ahead by one R line; bounds what a kill leaves unknown."""


def folder() -> Path:
    """Where the ledgers of this namespace lie."""
    return settings().state_dir / "ledger" / (settings().namespace or "-")


class Ledger:
    """The writing side. Not thread-safe: its Emitter calls it under a lock."""

    def __init__(self, producer_id: str, started_ms: int, root: Path | None = None) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", producer_id):
            raise ValueError(f"producer id {producer_id!r}: use letters, digits, dot, dash and underscore, 100 at most")
        home = (root or folder()) / producer_id
        home.mkdir(parents=True, exist_ok=True)
        epochs = [int(p.stem) for p in home.glob("*.ledger") if p.stem.isdigit()]
        self.epoch = max(epochs, default=0) + 1
        while True:  # two incarnations that start at once must not share an epoch
            self.path = home / f"{self.epoch}.ledger"
            try:
                self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
                break
            except FileExistsError:
                self.epoch += 1
        self._reserved: dict[str, int] = {}
        self._lines: list[str] = []
        self._write([f"H {json.dumps({'producer_id': producer_id, 'epoch': self.epoch, 'started_ms': started_ms})}"])

    def reserve(self, topic: str, seq: int) -> None:
        """Call before sending `seq`: announces a block ahead when the last one is used up."""
        if seq >= self._reserved.get(topic, 0):
            self._reserved[topic] = seq + RESERVE
            self._write([f"R {topic} {seq + RESERVE}"])

    def acknowledged(self, topic: str, partition: int, offset: int, seq: int, digest: str) -> None:
        """Note an acknowledgement; durable after the next `flush`."""
        self._lines.append(f"A {topic} {partition} {offset} {seq} {digest}")

    def note(self, lines: Sequence[str]) -> None:
        """Note lines that are made already; durable after the next `flush`."""
        self._lines += lines

    def failed(self, topic: str, seq: int, reason: str) -> None:
        """Note a send that was given up; durable after the next `flush`."""
        self._lines.append(f"F {topic} {seq} {reason.replace(chr(10), ' ')}")

    def flush(self) -> None:
        """Hand noted lines to the operating system."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._write(lines)

    def close(self, next_seqs: Iterable[tuple[str, int]]) -> None:
        """Close in order, with the next seq of each topic."""
        self.flush()
        self._write([f"C {topic} {seq}" for topic, seq in next_seqs])
        os.fsync(self._fd)
        os.close(self._fd)

    def _write(self, lines: list[str]) -> None:
        data = ("\n".join(lines) + "\n").encode() if lines else b""
        while data:
            data = data[os.write(self._fd, data) :]
