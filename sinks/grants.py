"""Who may read which table: a team its own, and what others have made public.

A topic's owner owns its landing table; an object in sinks/<domain>/ belongs to the owners of the domain's topics. The embedded
warehouse keeps to `readable` itself; for a ClickHouse server `statements` are the same in its own words. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from infra.base.settings import TeamReader
from schemas.catalogue import Topic
from sinks.migrate import Declared
from sinks.warehouse.sql import identifier, literal


def readable(team: str, topics: Iterable[Topic], objects: Iterable[Declared]) -> frozenset[str]:
    """Names of the tables and views that readers of `team` may read."""
    declared = list(topics)
    landed = {topic.table for topic in declared if topic.landing and (topic.public or topic.owner == team)}
    domains = {topic.domain for topic in declared if topic.owner == team}
    return frozenset(landed | {item.name for item in objects if item.public or item.domain in domains})


def statements(
    readers: Mapping[str, TeamReader], topics: Iterable[Topic], objects: Iterable[Declared], database: str, definer: str
) -> Iterator[str]:
    """SQL for a ClickHouse server: a role a team, a user a reader. Run again it leaves what is declared now and nothing more.

    `definer` is the user whose rights views use, so that who may read a view need not be able to read what it is made from.
    """
    declared, made = list(topics), list(objects)
    allowed = {team: readable(team, declared, made) for team in sorted({reader.team for reader in readers.values()})}
    views = {item.name for item in made if item.kind == "VIEW"}
    for name in sorted(views & frozenset().union(*allowed.values())):
        yield f"ALTER TABLE {identifier(database)}.{identifier(name)} MODIFY SQL SECURITY DEFINER DEFINER = {identifier(definer)}"
    for team, tables in allowed.items():
        role = identifier(f"team_{team}")
        yield f"CREATE ROLE IF NOT EXISTS {role}"
        yield f"REVOKE SELECT ON {identifier(database)}.* FROM {role}"
        yield from (f"GRANT SELECT ON {identifier(database)}.{identifier(name)} TO {role}" for name in sorted(tables))
    for name, reader in readers.items():
        user, digest = identifier(name), hashlib.sha256(reader.password.get_secret_value().encode()).hexdigest()
        yield f"CREATE USER IF NOT EXISTS {user}"
        yield f"ALTER USER {user} IDENTIFIED WITH sha256_hash BY {literal(digest)} SETTINGS readonly = 2"
        yield f"GRANT {identifier(f'team_{reader.team}')} TO {user}"
        yield f"ALTER USER {user} DEFAULT ROLE {identifier(f'team_{reader.team}')}"
