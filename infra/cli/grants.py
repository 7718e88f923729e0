"""`headrace grants`."""

from __future__ import annotations


def grants() -> None:
    """Print the SQL that gives each team's readers their tables on a ClickHouse server; the embedded warehouse needs none."""
    from infra.base.settings import settings
    from infra.cli.words import Refusal
    from schemas.catalogue import catalogue
    from sinks import migrate
    from sinks.grants import statements

    chosen = settings().warehouse
    if not chosen.readers:
        words = "HEADRACE_WAREHOUSE__READERS names nobody, so everybody reads everything"
        raise Refusal(f"""{words}: set it to '{{"alice": {{"team": "fraud", "password": "…"}}}}'""")
    for statement in statements(chosen.readers, catalogue().topics.values(), migrate.objects(), settings().database, chosen.loader_user):
        print(f"{statement};")
