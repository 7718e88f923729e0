"""Copies what is on a topic of `lab.thing` to another through Flink, and ends: `python -m tests.schemas.through_flink FOLDER FROM TO`.

A program of its own, because PyFlink leaves a JVM running in whatever process imports it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from schemas.catalogue import load
from streams.environment import Flink, Job, sink, source


def main(folder: str, from_: str, to: str) -> None:
    """FOLDER holds the contract, FROM and TO are short names of topics that exist."""
    thing = load(Path(folder)).topic("lab.thing")
    read, written = replace(thing, short_name=from_), replace(thing, short_name=to)
    names = ", ".join(f"`{f['name']}`" for f in thing.event.fields)
    job = Job("every_type", f"INSERT INTO `{written.name}` SELECT {names} FROM `{read.name}`", __file__)
    bounded = source(read, job).replace("'scan.startup.mode'", "'scan.bounded.mode' = 'latest-offset',\n  'scan.startup.mode'")
    Flink(job).prepare({read.name: bounded, written.name: sink(written, job)}).execute().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
