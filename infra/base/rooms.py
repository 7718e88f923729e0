"""Where files of a room lie: in this installation, and in the checkouts of teams that settings name."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from infra.base.settings import settings


def of_teams(name: str) -> list[Path]:
    """The folder `name` of each team's checkout that has one."""
    return [folder for checkout in settings().contracts if (folder := checkout / name).is_dir()]


def everywhere(name: str) -> list[Traversable | Path]:
    """The folder `name` of this installation, then those of teams."""
    return [files(name), *of_teams(name)]
