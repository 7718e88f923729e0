"""Pinned Java archives: nothing that differs from its pin is used, and nothing that is cached is fetched."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pytest

from infra.base.settings import settings
from infra.stack import jars
from infra.stack.jars import Artefact, JarError

CONTENT = b"not really a jar"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory that the settings point to."""
    monkeypatch.setattr(settings(), "cache_dir", tmp_path)
    return tmp_path / "jars"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(artefact: Artefact, *_: object) -> Path:
        raise AssertionError(f"{artefact.coordinate} was asked from the network")

    monkeypatch.setattr(jars, "_fetch", refuse)


def artefact(content: bytes, coordinate: str = "org.example:thing:1.0") -> Artefact:
    return Artefact("part", coordinate, hashlib.sha256(content).hexdigest(), len(content))


def test_every_pin_is_complete() -> None:
    pins = jars.pinned()
    assert {pin.part for pin in pins} == {"kafka", "registry", "flink", "compiler"}
    assert all(len(pin.sha256) == 64 and pin.size > 0 for pin in pins)


@pytest.mark.usefixtures("no_network")
def test_what_is_cached_needs_no_network(cache: Path) -> None:
    (cache / "part").mkdir(parents=True)
    (cache / "part" / "thing-1.0.jar").write_bytes(CONTENT)
    jars.ensure([artefact(CONTENT)])


@pytest.mark.usefixtures("no_network")
def test_a_cached_file_that_differs_is_refused_in_words(cache: Path) -> None:
    (cache / "part").mkdir(parents=True)
    (cache / "part" / "thing-1.0.jar").write_bytes(CONTENT + b"!")
    with pytest.raises(JarError, match=r"thing-1\.0\.jar is not the pinned org\.example:thing:1\.0.*\nDelete the file"):
        jars.ensure([artefact(CONTENT)])


def test_a_download_that_differs_never_reaches_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(artefact: Artefact, repository: Path, _: object) -> Path:
        repository.mkdir(parents=True)
        path = repository / artefact.filename
        path.write_bytes(b"something else")
        return path

    monkeypatch.setattr(jars, "_fetch", other)
    with pytest.raises(JarError, match="its sha256 is"):
        jars.ensure([artefact(CONTENT)])
    assert jars.missing([artefact(CONTENT)])


@pytest.mark.usefixtures("no_network")
def test_an_archive_is_unpacked_once(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "inner.txt").write_text("inside")
    place = cache / "part" / "app-1-all.tar.gz"
    place.parent.mkdir(parents=True)
    with tarfile.open(place, "w:gz") as archive:
        archive.add(tmp_path / "inner.txt", "inner.txt")
    pin = artefact(place.read_bytes(), "org.example:app:1:tar.gz:all")
    jars.ensure([pin])
    jars.ensure([pin])
    assert (cache / "part" / pin.sha256[:16] / "inner.txt").read_text() == "inside"
