"""What the doctor refuses, and that it says what to do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from infra.base.ports import free_ports
from infra.base.settings import Settings, settings
from infra.stack import doctor, preflight
from infra.stack.site import PortTaken, choose, holder


@pytest.mark.parametrize(
    ("finding", "says", "mend"),
    [
        (doctor.python((3, 9)), "Python 3.9", "PYTHON=python3.11"),
        (doctor.python((3, 13)), "3.11 or 3.12", "PYTHON=python3.11"),
        (doctor.machine("Linux", "aarch64"), "no wheel for Linux aarch64", "x86_64"),
        (doctor.machine("Darwin", "arm64"), "none for macOS arm64", "x86_64"),
        (doctor.memory(2.0), "2.0 GB available", "headrace down"),
        (doctor.disk("state directory", Path(), 1e9), "GB needed", "HEADRACE_STATE_DIR"),
    ],
)
def test_refusals_say_what_is_wrong_and_what_to_do(finding: doctor.Finding, says: str, mend: str) -> None:
    assert not finding.ok
    assert says in finding.says
    assert mend in finding.mend


def test_a_good_machine_is_not_refused() -> None:
    for finding in (doctor.python((3, 11)), doctor.machine("Linux", "x86_64"), doctor.memory(16.0), doctor.disk("cache", Path(), 0.001)):
        assert finding.ok
        assert not finding.mend


def test_archives_that_are_not_cached_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings(), "cache_dir", tmp_path)
    finding = doctor.archives()
    assert not finding.ok
    assert finding.mend == "headrace setup"


def test_leftovers_of_a_dead_supervisor_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings(), "state_dir", tmp_path)
    left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={**os.environ, "HEADRACE_RUN": "r1"})
    with left:
        (tmp_path / "supervisor.json").write_text(json.dumps({"pid": 1, "run": "r1"}))
        finding = doctor.stack()
        assert not finding.ok
        assert str(left.pid) in finding.says
        left.communicate(b"\n")


def test_the_system_s_python_is_refused_before_anything_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 1))
    assert preflight.main() == 1
    assert "Python 3.8" in capsys.readouterr().err


def test_who_holds_a_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert holder(port).startswith(f"process {os.getpid()} (")
        with pytest.raises(PortTaken, match=f"port {port} for board is in use by process {os.getpid()}"):
            choose(Settings(state_dir=tmp_path), 1, {"board": port})
        assert free_ports(["board"], {"board": port})["board"] != port


def test_a_port_that_somebody_took_since_the_last_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings(), "state_dir", tmp_path)
    assert doctor.ports().says == "free ones are chosen at start"
    site = choose(Settings(state_dir=tmp_path), 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", site.ports["board"]))
        taken.listen()
        assert f"{site.ports['board']} (board) by process {os.getpid()}" in doctor.ports().says


def test_ports_are_kept_between_starts(tmp_path: Path) -> None:
    first = choose(Settings(state_dir=tmp_path), 3)
    again = choose(Settings(state_dir=tmp_path), 3)
    assert again.ports == first.ports
    assert len(set(first.ports.values())) == len(first.ports)
    assert first.env["HEADRACE_EDGE__OCA_URLS"] == json.dumps([f"http://127.0.0.1:{first.ports[f'oca_{n}']}" for n in range(3)])
