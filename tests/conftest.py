"""The real stack for tests marked `stack`, started once; and the count of outside vectors at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from infra.base.settings import Settings, environment, settings
from infra.stack.local import LocalStack
from tests import kit

# How long an example takes says how busy the machine is, not whether it is right.
hypothesis_settings.register_profile("headrace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("headrace")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The whole local stack on a state directory of its own; returns its settings, and makes `settings()` return them too."""
    local = LocalStack(tmp_path_factory.mktemp("stack"))
    local.start(tied=True)
    try:
        kit.ready_mb.append(local.wait_ready()["rss_mb"])
        with environment({"HEADRACE_STATE_DIR": str(local.state_dir)}):
            yield settings()
    finally:
        local.end_started()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with the stack come last: what fails quickly fails first, and no other test sees the stack's addresses.

    Among them those with a browser are the last: what runs beside them in `tests.whole` has used its own browser by then.
    """

    def place(item: pytest.Item) -> tuple[bool, bool]:
        marks = {mark.name for mark in item.iter_markers()}
        return "stack" in marks, {"stack", "browser"} <= marks

    items.sort(key=place)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests against outside vectors ran, so that a green run without them does not look like one with them."""
    counts = {
        outcome: sum(1 for report in terminalreporter.getreports(outcome) if report.nodeid in kit.vector_tests)
        for outcome in ("passed", "failed", "skipped")
    }
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    terminalreporter.write_line(f"outside vectors: {counts['passed']} passed, {counts['skipped']} skipped{failed}")
