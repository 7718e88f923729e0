"""Ledgers as the audit reads them: every producer's own account of its sends, as arrays.

Files `<root>/<producer_id>/<epoch>.ledger` hold one fact a line; the format is that of `producers.ledger`:

    H <json>    R <topic> <seq>    A <topic> <partition> <offset> <seq> <hash>    F <topic> <seq> <reason>    C <topic> <seq>
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

CHUNK_BYTES = 32 << 20
LINE = re.compile(
    rb"H \{.*\}|R \S+ \d{1,18}|C \S+ \d{1,18}|F \S+ \d{1,18} .*|A \S+ \d{1,9} \d{1,18} \d{1,18} [0-9a-f]{16}",
)

ACK = np.dtype([("seq", "<i8"), ("partition", "<i4"), ("offset", "<i8"), ("digest", "<u8"), ("first_read", "?")])
"""An acknowledgement. `digest` is the fingerprint of the body; `first_read` tells those of the first reading from later ones."""


class Incarnation(NamedTuple):
    """One start of one producer."""

    producer_id: str
    epoch: int

    def __str__(self) -> str:
        return f"producer {self.producer_id}, epoch {self.epoch}"


@dataclass
class Sends:
    """What one incarnation says of one topic. Seqs below `attempted` may have been sent; `closed` once it ended in order."""

    parts: list[NDArray[Any]] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)
    attempted: int = 0
    closed: bool = False

    @property
    def acknowledged(self) -> NDArray[Any]:
        """All acknowledgements (ACK), in the order of the file."""
        return np.concatenate(self.parts) if self.parts else np.empty(0, ACK)

    def within(self, ranges: Mapping[int, tuple[int, int]]) -> Sends:
        """Without the acknowledgements that lie outside the offsets named for their partition."""
        parts = []
        for part in self.parts:
            inside = np.ones(len(part), bool)
            for partition, (low, high) in ranges.items():
                inside &= (part["partition"] != partition) | ((part["offset"] >= low) & (part["offset"] <= high))
            parts.append(part[inside])
        return replace(self, parts=parts)


@dataclass(frozen=True)
class Unreadable:
    """A line that is no fact."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}, cannot be read: {self.text!r}"


class Ledgers:
    """All ledgers below some directories. `read` may be called again: it goes on where it stopped."""

    def __init__(self, roots: list[Path]) -> None:
        self.sends: dict[str, dict[Incarnation, Sends]] = defaultdict(dict)
        self.incarnations: set[Incarnation] = set()
        self.unreadable: list[Unreadable] = []
        self._roots = roots
        self._read_to: dict[Path, tuple[int, int]] = {}  # bytes, lines
        self._first = True

    def read(self) -> None:
        """Read what is new. A torn last line is left for the next time: its writer was killed, or is just writing it."""
        for root in self._roots:
            for path in sorted(root.glob("*/*.ledger")):
                if path.stem.isdigit():
                    incarnation = Incarnation(path.parent.name, int(path.stem))
                    self.incarnations.add(incarnation)
                    self._read_file(path, incarnation)
        self._first = False

    def _read_file(self, path: Path, incarnation: Incarnation) -> None:
        at, lines = self._read_to.get(path, (0, 0))
        with path.open("rb") as file:
            file.seek(at)
            while block := file.read(CHUNK_BYTES):
                end = block.rfind(b"\n") + 1
                if not end:
                    break
                self._take(path, incarnation, block[:end], lines)
                at += end
                lines += block.count(b"\n", 0, end)
                file.seek(at)
        self._read_to[path] = at, lines

    def _take(self, path: Path, incarnation: Incarnation, block: bytes, lines_before: int) -> None:
        lines = block.split(b"\n")[:-1]
        try:
            acknowledged = list(_acknowledged([line for line in lines if line.startswith(b"A ")]))
            others = [line for line in lines if not line.startswith(b"A ")]
            readable = all(map(LINE.fullmatch, others))
        except (pa.ArrowInvalid, ValueError):
            readable = False
        if not readable:
            for number, line in enumerate(lines, lines_before + 1):
                if not LINE.fullmatch(line):
                    self.unreadable.append(Unreadable(path, number, line[:200].decode(errors="replace")))
            lines = [line for line in lines if LINE.fullmatch(line)]
            acknowledged = list(_acknowledged([line for line in lines if line.startswith(b"A ")]))
            others = [line for line in lines if not line.startswith(b"A ")]
        for topic, part in acknowledged:
            part["first_read"] = self._first
            self._of(topic, incarnation).parts.append(part)
        for line in others:
            self._fact(incarnation, line)

    def _fact(self, incarnation: Incarnation, line: bytes) -> None:
        kind, topic, *rest = line.decode().split(" ", 3)
        if kind == "H":
            return
        sends, seq = self._of(topic, incarnation), int(rest[0])
        if kind == "F":
            sends.failed.add(seq)
        elif kind == "R":
            sends.attempted = max(sends.attempted, seq)
        else:
            sends.attempted, sends.closed = seq, True

    def _of(self, topic: str, incarnation: Incarnation) -> Sends:
        return self.sends[topic].setdefault(incarnation, Sends())


def _acknowledged(lines: list[bytes]) -> Iterator[tuple[str, NDArray[Any]]]:
    """(topic, acknowledgements) of A lines. Raises ArrowInvalid or ValueError if any is malformed: finding out which one costs more."""
    if not lines:
        return
    table = pyarrow.csv.read_csv(
        io.BytesIO(b"\n".join(lines)),
        read_options=pyarrow.csv.ReadOptions(column_names=["kind", "topic", "partition", "offset", "seq", "digest"]),
        parse_options=pyarrow.csv.ParseOptions(delimiter=" ", quote_char=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={
                "kind": pa.string(), "topic": pa.string(), "digest": pa.string(),
                "partition": pa.int32(), "offset": pa.int64(), "seq": pa.int64(),
            },
            null_values=[],
        ),
    )  # fmt: skip
    digests = "".join(table["digest"].to_pylist())
    if len(digests) != 16 * len(lines) or table.num_rows != len(lines):
        raise ValueError("a fingerprint has 16 digits")
    part = np.empty(len(lines), ACK)
    for name in ("seq", "partition", "offset"):
        part[name] = table[name].to_numpy()
    part["digest"] = np.frombuffer(bytes.fromhex(digests), ">u8")
    if (part["seq"] < 0).any() or (part["offset"] < 0).any() or (part["partition"] < 0).any():
        raise ValueError("numbers are not negative")
    topics = table["topic"].combine_chunks().dictionary_encode()
    codes = topics.indices.to_numpy()
    for code, topic in enumerate(topics.dictionary.to_pylist()):
        yield topic, part[codes == code]
