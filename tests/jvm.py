"""The Java of a domain's jobs, and of its tests, without Flink."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyflink

from infra.base.settings import environment
from streams import java

TESTS = Path(__file__).parent


def command(scratch: Path, domain: str, main: str, heap: str = "300m") -> list[str]:
    """The command that runs a class; compiled into `scratch`."""
    sources = scratch / "sources"
    sources.mkdir()
    for file in (*(java.ROOM / domain).glob("*.java"), *(TESTS / domain).glob("*.java")):
        shutil.copy(file, sources)
    with environment({"HEADRACE_STATE_DIR": str(scratch / "state")}):
        jar = java.functions(sources)
    java.find()
    flink = sorted((Path(pyflink.__file__).parent / "lib").glob("flink-*.jar"))
    return [f"{os.environ['JAVA_HOME']}/bin/java", f"-Xmx{heap}", "-cp", ":".join(map(str, [jar, *flink])), f"headrace.{domain}.{main}"]
