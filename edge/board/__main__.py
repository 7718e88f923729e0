"""`python -m edge.board`: serve the board at its address in the settings until told to stop."""

from __future__ import annotations

from edge.board.app import create_app
from edge.serve import serve
from infra.base import log
from infra.base.settings import settings


def main() -> None:
    """Entry point."""
    log.configure("board")
    app = create_app()
    serve(app, settings().edge.board_url, ending=app.state.ending.set)


if __name__ == "__main__":
    main()
