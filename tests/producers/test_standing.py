"""Reading a topic to its end where there is no broker."""

from __future__ import annotations

import socket

import pytest

from infra.base.settings import environment
from producers import standing
from schemas.catalogue import catalogue


def test_who_reads_from_no_broker_is_told_so_at_once_and_in_words(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(standing, "ANSWERS_S", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with environment({"HEADRACE_KAFKA__BOOTSTRAP": address}), pytest.raises(TimeoutError, match=f"no broker answers at {address}"):
            next(standing.everything(catalogue().topic("experiments.change"), lambda _: {}))
    assert capfd.readouterr().err == ""
