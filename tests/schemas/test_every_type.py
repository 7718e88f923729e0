"""Every type of a contract, edges included, comes out of Flink and of ClickHouse as it went in: the table of schemas.project, tried."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from infra.base import kafka
from infra.base.registry import RegistryClient
from infra.base.settings import Settings, settings
from schemas.catalogue import Topic
from schemas.codec import Decoder, Encoder
from schemas.examples import example, from_json
from schemas.project import clickhouse_type
from schemas.publish import publish
from tests.kit import eventually
from tests.schemas.contracts import every_type, topic

ROWS = 500
PROGRAM = "import chdb, sys; print(chdb.query(sys.argv[1], 'JSONEachRow'))"
SETTINGS = (
    "format_avro_schema_registry_url = '{url}', output_format_json_quote_64bit_integers = 0, "
    "output_format_json_quote_decimals = 1, date_time_output_format = 'iso'"
)


@pytest.mark.stack
def test_every_type_comes_out_of_flink_as_it_went_in(stack: Settings, tmp_path: Path) -> None:
    thing = replace(topic(tmp_path, *every_type()), short_name=f"thing_{uuid4().hex[:8]}")
    copy = replace(thing, short_name=f"{thing.short_name}_copy")
    encode = Encoder(thing.event, publish([thing, copy])[thing.name])
    written = {seed: {**example(thing.event, Random(seed)), "seq": seed} for seed in range(ROWS)}
    producer = kafka.producer()
    for record in written.values():
        producer.produce(settings().topic(thing.name), encode(record))
    assert producer.flush(30) == 0

    program = [sys.executable, "-m", "tests.schemas.through_flink", str(tmp_path), thing.short_name, copy.short_name]
    done = subprocess.run(program, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    decode = Decoder(RegistryClient().schema)
    with contextlib.closing(kafka.consumer(f"every-type-{uuid4().hex}")) as consumer:
        consumer.subscribe([settings().topic(copy.name)])
        read: dict[int, Any] = {}

        def all_read() -> bool:
            for message in consumer.consume(ROWS, 1.0):
                record = decode(message.value())
                read[record["seq"]] = record
            return len(read) == ROWS

        eventually(all_read)
    assert read == written


@pytest.mark.stack
def test_every_type_comes_out_of_clickhouse_as_it_went_in(stack: Settings, tmp_path: Path) -> None:
    thing = topic(tmp_path, *every_type())
    encode = Encoder(thing.event, RegistryClient().register(f"lab.{uuid4().hex}-value", thing.event.schema))
    written = [{**example(thing.event, Random(seed)), "seq": seed} for seed in range(ROWS)]
    block = tmp_path / "block.avro"
    block.write_bytes(b"".join(encode(record) for record in written))
    for record, row in zip(written, stored(thing, block, stack.registry.url), strict=True):
        read = from_json(thing.event, row)
        read["a_bytes"] = bytes.fromhex(row["a_bytes"])
        read["a_float"] = struct.unpack("<f", struct.pack("<f", row["a_float"]))[0]
        assert read == record


def stored(thing: Topic, block: Path, registry_url: str) -> list[dict[str, Any]]:
    """The block's rows as ClickHouse reads them, in a process of its own: there is one embedded ClickHouse a process."""
    columns = ", ".join(f"`{f['name']}` {clickhouse_type(f)}" for f in thing.event.fields).replace("'", "\\'")
    names = ", ".join(f"`{f['name']}`" for f in thing.event.fields).replace("`a_bytes`", "hex(a_bytes) AS `a_bytes`")
    query = f"SELECT {names} FROM file('{block}', AvroConfluent, '{columns}') ORDER BY seq SETTINGS {SETTINGS.format(url=registry_url)}"
    done = subprocess.run([sys.executable, "-c", PROGRAM, query], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line]
