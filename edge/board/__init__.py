"""The board: one page that shows what the stream says, its API, and the web player. `python -m edge.board`."""
