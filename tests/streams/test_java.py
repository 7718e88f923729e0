"""The room's Java: compiled to the same bytes each time, refused with its place where it does not compile."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.base.settings import environment, settings
from streams import java


def test_the_same_sources_make_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for place in ("here", "there"):
        with environment({"HEADRACE_STATE_DIR": str(tmp_path / place)}):
            made.append(java.functions().read_bytes())
    assert made[0] == made[1]


def test_what_does_not_compile_is_refused_with_its_place(tmp_path: Path) -> None:
    source = tmp_path / "Broken.java"
    source.write_text('package broken;\n\nclass Broken {\n    int half = "a half";\n}\n')
    with environment({"HEADRACE_STATE_DIR": str(tmp_path)}), pytest.raises(java.JavaError, match=r"Broken\.java.*line 4") as refused:
        java.functions(tmp_path)
    assert "cannot convert from String to int" in str(refused.value)
    assert not list(tmp_path.rglob("*.jar"))


def test_without_a_compiler_setup_is_named(tmp_path: Path) -> None:
    away = {"HEADRACE_CACHE_DIR": str(tmp_path), "HEADRACE_STATE_DIR": str(tmp_path)}
    with environment(away), pytest.raises(java.JavaError, match="run `headrace setup`"):
        java.functions()
    assert settings().cache != tmp_path
