"""Keystone's router: topics.yaml says where events of a topic go besides, this derives the Flink job that takes them there.

    report:
      routes:
        - to: playback.failure
          where: e = 'e' OR sta = 'f'
          once_by: event_id
          within_h: 1

`where` is a condition in Flink SQL over the source's fields and `arrived_at`, its time in Kafka; without it everything goes. `once_by`
names the field by which a repeated event is known and dropped, if it comes within `within_h` hours of the first by the wall clock;
without it nothing is dropped. Source and destination carry the same event. What passed and what was dropped is counted by minute of
event time in observability.route_count: like a session's row, a minute's row is written again when it grows, and the one with the most
events is the newest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.catalogue import Catalogue, ContractError, Topic

COUNTS = "observability.route_count"


@dataclass(frozen=True)
class Route:
    """One route, checked."""

    source: Topic
    to: str
    where: str = "TRUE"
    once_by: str = ""
    within_h: float = 1.0

    @property
    def view(self) -> str:
        """Name of the view of what passes the filter."""
        return f"{self.source.name}_to_{self.to}".replace(".", "_")


def routes(catalogue: Catalogue) -> list[Route]:
    """Every declared route. Raises ContractError, which names the topic and the mistake."""
    return [_route(catalogue, topic, declared) for topic in catalogue.topics.values() for declared in topic.routes]


def _route(catalogue: Catalogue, source: Topic, declared: Mapping[str, Any]) -> Route:
    where = f"{source.domain}/topics.yaml: {source.short_name}: routes"
    try:
        route = Route(source, **declared)
    except TypeError as error:
        raise ContractError(f"{where}: {error}") from None
    destination = catalogue.topic(route.to)
    if destination.event != source.event:
        raise ContractError(
            f"{where}: {route.to} carries {destination.event.full_name}, {source.name} {source.event.full_name}: a route changes nothing"
        )
    if route.once_by and route.once_by not in {f["name"] for f in source.event.fields}:
        raise ContractError(f"{where}: {source.event.full_name} has no field {route.once_by!r} to tell repeated events by")
    return route


def sql(catalogue: Catalogue) -> str:
    """The job of all routes; empty where none is declared. Its state, ids by which repeats are known, lives for the longest `within_h`."""
    declared = routes(catalogue)
    if not declared:
        return ""
    hours = max(route.within_h for route in declared)
    # Flink 2.3 does not see that first-row de-duplication yields no updates when mini-batches are on.
    options = f"SET 'table.exec.state.ttl' = '{round(hours * 3600)} s';\nSET 'table.exec.mini-batch.enabled' = 'false';\n"
    selected = defaultdict(list)
    for route in declared:
        selected[route.to].append(_passed(route))
        selected[COUNTS].append(_counted(route))
    # One sink a topic: two of a job would share the prefix of their transactions, which Flink refuses.
    inserts = [f"\nINSERT INTO `{topic}`\n" + "\nUNION ALL\n".join(parts) + ";\n" for topic, parts in selected.items()]
    return options + "".join([*map(_views, declared), *inserts])


def _views(route: Route) -> str:
    distinct = f"COUNT(DISTINCT `{route.once_by}`)" if route.once_by else "COUNT(*)"
    return f"""
CREATE TEMPORARY VIEW {route.view} AS
SELECT *, PROCTIME() AS seen_at FROM `{route.source.name}` WHERE NOT marker AND ({route.where});

CREATE TEMPORARY VIEW {route.view}_counts AS
SELECT CAST(FLOOR(event_time TO MINUTE) AS TIMESTAMP(3)) AS counted_minute, COUNT(*) AS events, COUNT(*) - {distinct} AS duplicates
FROM {route.view}
GROUP BY CAST(FLOOR(event_time TO MINUTE) AS TIMESTAMP(3));
"""


def _passed(route: Route) -> str:
    """What goes to the destination."""
    columns = f"${{{route.source.name}}}"
    if not route.once_by:
        return f"SELECT {columns} FROM {route.view}"
    return (
        f"SELECT {columns} FROM (\n"
        f"  SELECT *, ROW_NUMBER() OVER (PARTITION BY `{route.once_by}` ORDER BY seen_at) AS nth\n"
        f"  FROM {route.view}\n"
        ") WHERE nth = 1"
    )


def _counted(route: Route) -> str:
    """What goes to COUNTS."""
    return f"""SELECT
  '{route.view}/' || CAST(counted_minute AS STRING) || '/' || CAST(events AS STRING), counted_minute,
  'route', 0, CAST(-1 AS BIGINT), '', FALSE,
  '{route.source.name}', '{route.to}', counted_minute, events, duplicates
FROM TO_CHANGELOG(input => TABLE {route.view}_counts, uid => '{route.view}') WHERE op IN ('INSERT', 'UPDATE_AFTER')"""
