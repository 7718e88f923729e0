"""Beam's server class: what is not the known one is refused. That the changed one works is shown with the stack."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from infra.stack import beam

pyflink = pytest.importorskip("pyflink", reason="PyFlink is not installed")


@pytest.fixture
def shipped() -> bytes:
    """The class as Flink ships it."""
    (archive,) = (Path(pyflink.__file__).parent / "opt").glob("flink-python-*.jar")
    with zipfile.ZipFile(archive) as opened:
        return opened.read(beam.CLASS)


@pytest.mark.parametrize("other", [b"", b"PK\x03\x04 no class"])
def test_what_is_no_class_is_refused(other: bytes) -> None:
    with pytest.raises(beam.UnknownClass, match="no class file"):
        beam.held_to_address(other)


def test_a_class_that_does_otherwise_is_refused(shipped: bytes) -> None:
    with pytest.raises(beam.UnknownClass, match="forPort"):
        beam.held_to_address(beam.held_to_address(shipped))
    with pytest.raises(beam.UnknownClass, match="otherwise than once"):
        beam.held_to_address(shipped.replace(b"\xb6\x00\x18\xb8\x00\x19", b"\xb6\x00\x18\xb6\x00\x19"))
