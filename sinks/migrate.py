"""Bring a warehouse to what is declared: `python -m sinks.migrate`, idempotent.

    landing tables    one for each landed topic, derived from its contract; a new optional field becomes a column
    objects           sinks/<domain>/<name>.sql, one a file: CREATE TABLE IF NOT EXISTS, CREATE OR REPLACE VIEW,
                      CREATE MATERIALIZED VIEW IF NOT EXISTS ... TO ...; the header comment says what question it answers

Columns are only ever added. A column whose type differs from the contract is refused in words: the contract's level should have
refused it before. A materialized view feeds a table that keeps `topic_partition` and `topic_offset`, or the loader could not tell
after a crash which rows have reached it. Expiry comes from the settings; a namespace of replayed time never expires.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from math import ceil
from pathlib import Path

from clickhouse_connect.driver.client import Client

from infra.base import log, rooms, warehouse
from infra.base.settings import settings
from schemas import project
from schemas.catalogue import Topic, catalogue

DECLARATION = re.compile(
    r"^CREATE (?:OR REPLACE )?(?P<kind>TABLE|VIEW|MATERIALIZED VIEW)(?: IF NOT EXISTS)? (?P<name>[a-z][a-z0-9_]*)\b", re.MULTILINE
)
HEADER = ("question", "reads", "key", "time")
POSITION = ("topic_partition", "topic_offset")
MERGED_PARTS = 10
"""Parts that one merge takes at least. With ClickHouse's own choice, merging took a third of a core at 20,000 rows a second."""


class MigrationError(Exception):
    """The warehouse cannot become what is declared; the message names the object and the way out."""


@dataclass(frozen=True)
class Declared:
    """One object: a file's SQL. `public`: whether readers of other teams may read it, by a line `-- public: yes` in its header."""

    name: str
    kind: str
    sql: str
    domain: str = ""
    public: bool = False

    def uses(self, other: str) -> bool:
        """Whether the object's SQL names `other`."""
        return other != self.name and re.search(rf"\b{other}\b", self.sql) is not None


def objects(root: Traversable | Path | None = None) -> list[Declared]:
    """The declared objects of this installation and of teams, each after those it reads. Raises MigrationError."""
    found: dict[str, Declared] = {}
    for folder in (f for place in ([root] if root else rooms.everywhere("sinks")) for f in sorted(place.iterdir(), key=lambda f: f.name)):
        if not folder.is_dir() or folder.name == "dashboards":  # its .sql files are questions, not objects
            continue
        for file in sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name):
            declared = parse(f"{folder.name}/{file.name}", file.read_text(encoding="utf-8"))
            if declared.name in found:
                raise MigrationError(f"sinks/{folder.name}/{file.name}: there is another {declared.name}: rename one")
            found[declared.name] = declared
    return list(_in_order(found))


def parse(where: str, text: str) -> Declared:
    """One file: its header, then one CREATE. Raises MigrationError."""
    for word in HEADER:
        if f"-- {word}: " not in text:
            raise MigrationError(f"sinks/{where}: the header comment lacks `-- {word}: `")
    matches = list(DECLARATION.finditer(text))
    if len(matches) != 1:
        raise MigrationError(f"sinks/{where}: {len(matches)} declarations; one object a file, beginning with CREATE")
    name = matches[0]["name"]
    if not where.endswith(f"/{name}.sql"):
        raise MigrationError(f"sinks/{where} declares {name}: name the file after it")
    return Declared(name, matches[0]["kind"], text, where.partition("/")[0], "-- public: yes\n" in text)


def _in_order(found: Mapping[str, Declared]) -> Iterator[Declared]:
    done: set[str] = set()

    def visit(declared: Declared, path: tuple[str, ...]) -> Iterator[Declared]:
        if declared.name in path:
            raise MigrationError(f"objects read each other in a circle: {' -> '.join((*path, declared.name))}")
        if declared.name not in done:
            for other in found.values():
                if declared.uses(other.name):
                    yield from visit(other, (*path, declared.name))
            done.add(declared.name)
            yield declared

    for declared in found.values():
        yield from visit(declared, ())


def ttl_days(topic: Topic) -> int:
    """How long a landing table keeps rows: facts (written by jobs) longer than raw events; replayed worlds for ever. What its topic keeps
    longer than facts, such as a trail of changes, the table does, too; what its contract says is not needed so long goes sooner.
    """
    if settings().namespace:
        return 0
    fact = all(p.startswith("streams.") for p in topic.producers)
    days = settings().warehouse.fact_ttl_days if fact else settings().warehouse.raw_ttl_days
    trail = topic.retention_days > settings().warehouse.fact_ttl_days
    if days and topic.table_days:
        return min(days, topic.table_days)
    return max(days, ceil(topic.retention_days)) if days and trail else days


def migrate(client: Client, topics: Iterable[Topic], declared: Iterable[Declared]) -> list[str]:
    """Create and extend; returns what changed, in words. Raises MigrationError, or clickhouse_connect's errors."""
    database = settings().database
    client.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    client.database = database
    changes: list[str] = []
    for topic in topics:
        changes += land(client, topic)
    for item in declared:
        before = _definition(client, item.name)
        if item.kind == "MATERIALIZED VIEW":
            _renew_materialized_view(client, item, before)
        else:
            client.command(item.sql)
        if _definition(client, item.name) != before:
            changes.append(f"{item.name}: {'created' if not before else 'changed'}")
    _check_view_targets(client)
    return changes


def land(client: Client, topic: Topic) -> list[str]:
    """One landing table: create it, or add the columns it lacks and set its expiry. Returns what changed, in words."""
    database = settings().database
    existing = columns(client, topic.table)
    if not existing:
        client.command(project.landing_table(topic, database, ttl_days(topic)))
        merge_seldom(client, topic.table)
        return [f"{topic.table}: created"]
    changes = add_columns(client, topic.table, existing, project.landing_columns(topic))
    wanted = f"toDateTime(topic_time) + toIntervalDay({ttl_days(topic)})" if ttl_days(topic) else ""
    definition = _definition(client, topic.table)
    if wanted and f"TTL {wanted}" not in definition:
        client.command(f"ALTER TABLE `{database}`.`{topic.table}` MODIFY TTL {wanted}")
        changes.append(f"{topic.table}: kept for {ttl_days(topic)} days")
    elif not wanted and " TTL " in definition:
        client.command(f"ALTER TABLE `{database}`.`{topic.table}` REMOVE TTL")
        changes.append(f"{topic.table}: kept for ever")
    merge_seldom(client, topic.table, definition)
    return changes


def merge_seldom(client: Client, table: str, definition: str = "") -> None:
    """Let a merge take many parts, where the store knows how: rows come in small parts and are rewritten at each level of merging."""
    name = "min_parts_to_merge_at_once"
    if f"{name} = {MERGED_PARTS}" in definition:
        return
    if client.query("SELECT 1 FROM system.merge_tree_settings WHERE name = {name:String}", parameters={"name": name}).result_rows:
        client.command(f"ALTER TABLE `{settings().database}`.`{table}` MODIFY SETTING {name} = {MERGED_PARTS}")


def add_columns(client: Client, table: str, existing: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Add what `wanted` has and `existing` lacks, at the end. Returns what changed, in words. Raises MigrationError on another type."""
    for name, kind in wanted.items():
        if name in existing and existing[name] != kind:
            raise MigrationError(
                f"{table}.{name} is {existing[name]} and the contract says {kind}: types never change; give the field a new name"
            )
    missing = {name: kind for name, kind in wanted.items() if name not in existing}
    if missing:
        additions = ", ".join(f"ADD COLUMN IF NOT EXISTS `{name}` {kind}" for name, kind in missing.items())
        client.command(f"ALTER TABLE `{settings().database}`.`{table}` {additions}")
    return [f"{table}.{name}: added" for name in missing]


def columns(client: Client, table: str) -> dict[str, str]:
    """Column name → type, in order; empty where there is no such table."""
    rows = client.query(
        "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String} ORDER BY position",
        parameters={"database": settings().database, "table": table},
    ).result_rows
    return {str(name): str(kind) for name, kind in rows}


def said_of(client: Client, name: str, column: str) -> str:
    """One column of system.tables about an object of this database; empty where there is none."""
    rows = client.query(
        f"SELECT {column} FROM system.tables WHERE database = {{database:String}} AND name = {{name:String}}",
        parameters={"database": settings().database, "name": name},
    ).result_rows
    return str(rows[0][0]) if rows else ""


def _definition(client: Client, name: str) -> str:
    return said_of(client, name, "create_table_query")


def _renew_materialized_view(client: Client, item: Declared, before: str) -> None:
    """A view's query cannot be replaced in place with its target: drop it when the declaration changed, which loses no stored row."""
    fingerprint = f"declared {hash_of(item.sql)}"
    if before and fingerprint not in before:
        client.command(f"DROP VIEW `{settings().database}`.`{item.name}`")
    client.command(f"{item.sql.rstrip().rstrip(';')}\nCOMMENT '{fingerprint}'")


def hash_of(text: str) -> str:
    """16 hex digits that change with the text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _check_view_targets(client: Client) -> None:
    for view, target in view_targets(client):
        lacking = [name for name in POSITION if name not in columns(client, target)]
        if lacking:
            words = f"{view} feeds {target}, which has no {' and no '.join(lacking)}"
            raise MigrationError(f"{words}: after a crash the loader could not tell which rows have reached it")


def view_targets(client: Client) -> list[tuple[str, str]]:
    """(materialized view, target table) of this database."""
    rows = client.query(
        "SELECT name, extract(create_table_query, ' TO `?[a-z0-9_]+`?\\\\.`?([a-z0-9_]+)`? ') FROM system.tables"
        " WHERE database = {database:String} AND engine = 'MaterializedView'",
        parameters={"database": settings().database},
    ).result_rows
    return [(str(view), str(target)) for view, target in rows]


def main() -> None:
    """Migrate the namespace's database and print what changed."""
    log.configure("migrate")
    client = warehouse.writer("default")
    try:
        changes = migrate(client, catalogue().landed(), objects())
    except MigrationError as error:
        sys.exit(f"migrate: {error}")
    for change in changes or ["nothing to do"]:
        sys.stdout.write(f"{settings().database}: {change}\n")


if __name__ == "__main__":
    main()
