"""Files for the cluster: jars and zips that go with a job."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path


def pack(files: Iterable[Path], below: Path, place: Path) -> Path:
    """An archive of `files` by their path below a folder, at `place` as a whole or not at all. The same files make the same bytes."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(f".{os.getpid()}")
    with zipfile.ZipFile(partial, "w") as archive:
        for file in sorted(files):
            archive.writestr(zipfile.ZipInfo(file.relative_to(below).as_posix()), file.read_bytes())
    return partial.replace(place)
