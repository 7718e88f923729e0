"""Lineage: which job, table and panel uses which field of which topic, read from the files themselves, so it cannot be out of date.

Callers pass the files in as assets; `read` loads a folder of them, `installed` all there are. A file uses a topic when topics.yaml
says so or its text names the topic or its landing table; it uses a field when its code, comments left out, contains that name. That
errs on the side of naming too many users, never too few.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from importlib.resources.abc import Traversable
from pathlib import Path

from infra.base import rooms
from infra.base.settings import settings
from schemas.catalogue import Topic, catalogue

WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SQL_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
CREATED = re.compile(
    r"\bCREATE\s+(?:OR\s+REPLACE\s+)?(?:MATERIALIZED\s+)?(?:TABLE|VIEW)\s+(?:IF\s+NOT\s+EXISTS\s+)?([`\"\w{}.$]+)", re.IGNORECASE
)
WRITTEN = re.compile(r"\bINSERT\s+INTO\s+`?([\w.]+)`?", re.IGNORECASE)
MODULE = re.compile(r"\bstreams(?:\.\w+)+")
DOTTED = re.compile(r"(?<![\w.])\w+(?:\.\w+)+(?![\w.])")
READ = re.compile(r"\b(?:FROM|(?<!ARRAY )JOIN)\s+`?([A-Za-z_][\w.]*)(?![\w.]|`?\s*\()", re.IGNORECASE)
COMMON = re.compile(r"(?:\bWITH|,)\s+(\w+)\s+AS\s*\(", re.IGNORECASE)
STRING = re.compile(r"'(?:[^'\\]|\\.|'')*'")
ALL = re.compile(r"\bSELECT\s+\*[^;]*?\bFROM\s+`?([\w.]+)", re.IGNORECASE)
"""`SELECT *`, and what it is selected from."""


LOADER = "sinks.loader"
"""Who reads every topic that has a landing table."""


class Kind(StrEnum):
    """What an asset is."""

    JOB = "job"
    TABLE = "table"
    PANEL = "panel"


@dataclass(frozen=True)
class Asset:
    """One file that uses topics. `name`: dotted module for a job, table name for a table, `board/name` for a panel.

    `team`: whose checkout it lies in; empty for what lies here.
    """

    kind: Kind
    name: str
    path: str
    text: str = field(repr=False)
    team: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.called}"

    @property
    def called(self) -> str:
        """The name, and the team behind it."""
        return f"{self.name} (team {self.team})" if self.team else self.name

    @cached_property
    def code(self) -> str:
        """The text without comments and docstrings."""
        return _python_code(self.text) if self.path.endswith(".py") else SQL_COMMENT.sub(" ", self.text)

    @cached_property
    def words(self) -> frozenset[str]:
        """Every identifier in the code."""
        return frozenset(WORD.findall(self.code))


def read(kind: Kind, root: Traversable | Path, package: str, skip: Sequence[str] = (), team: str = "") -> list[Asset]:
    """The assets of a folder and those below it: `.sql` and, for jobs, `.py` files. `package`: its name, for paths and job names.

    `skip` names folders that are left out, `team` whose they are.
    """
    suffixes = (".sql", ".py") if kind is Kind.JOB else (".sql",)
    return [_asset(kind, path, text, team) for path, text in _files(root, package, suffixes, skip)]


def _files(folder: Traversable | Path, path: str, suffixes: tuple[str, ...], skip: Sequence[str]) -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        where = f"{path}/{entry.name}"
        if entry.is_dir():
            if entry.name not in skip and not entry.name.startswith(("_", ".")):
                yield from _files(entry, where, suffixes, skip)
        elif entry.name.endswith(suffixes) and entry.name != "__init__.py":
            yield where, entry.read_text(encoding="utf-8")


def _asset(kind: Kind, path: str, text: str, team: str) -> Asset:
    stem = path.rsplit(".", 1)[0]
    if kind is Kind.JOB:
        return Asset(kind, stem.replace("/", "."), path, text, team)
    if kind is Kind.PANEL:
        return Asset(kind, re.sub(r"/\d\d_", "/", stem.split("/dashboards/")[-1]), path, text, team)
    created = CREATED.search(SQL_COMMENT.sub(" ", text))
    return Asset(kind, _bare(created.group(1)) if created else stem.rsplit("/", 1)[-1], path, text, team)


def _bare(name: str) -> str:
    return re.sub(r"[`\"]", "", name).rpartition(".")[2]


def _python_code(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                node.body[0] = ast.Pass()
    return ast.unparse(tree)


@dataclass(frozen=True)
class Use:
    """An asset that uses a field itself, and every asset that reads, near or far, what it writes."""

    asset: Asset
    behind: tuple[Asset, ...]

    def __str__(self) -> str:
        if not self.behind:
            return str(self.asset)
        by_kind = {kind: [a.called for a in self.behind if a.kind is kind] for kind in Kind}
        return f"{self.asset}, and with it " + "; ".join(
            f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names)}" for kind, names in by_kind.items() if names
        )


class Lineage:
    """The graph of topics and assets. `teams`: domain → team, for domains that lie in a team's checkout."""

    def __init__(self, topics: Iterable[Topic], assets: Iterable[Asset], teams: Mapping[str, str] | None = None) -> None:
        self.topics = {t.name: t for t in topics}
        self.teams = teams or {}
        assets = list(assets)
        self._modules = {a.name: a for a in assets if a.kind is Kind.JOB}
        named = {name for t in self.topics.values() for name in (*t.producers, *t.consumers)}
        self.jobs = [a for a in self._modules.values() if a.path.endswith(".sql") or a.name in named]
        self.tables = [a for a in assets if a.kind is Kind.TABLE]
        self.panels = [a for a in assets if a.kind is Kind.PANEL]
        landed = (t for t in self.topics.values() if t.landing)
        self._landing = {
            t.table: Asset(Kind.TABLE, t.table, f"schemas/{t.domain}/topics.yaml", "", self.teams.get(t.domain, "")) for t in landed
        }
        self._read: dict[str, frozenset[str]] = {}

    def reads(self, job: Asset) -> frozenset[str]:
        """Topics that a job reads."""
        if job.name not in self._read:
            declared = {t.name for t in self.topics.values() if job.name in t.consumers}
            mentioned = {name for name in DOTTED.findall(job.code) if name in self.topics}
            self._read[job.name] = frozenset(declared | (mentioned - self.writes(job)))
        return self._read[job.name]

    def writes(self, job: Asset) -> set[str]:
        """Topics that a job writes: declared ones, and whatever it inserts into, declared or not."""
        inserted = {name for name in WRITTEN.findall(job.code) if "." in name} if job.path.endswith(".sql") else set()
        return {t.name for t in self.topics.values() if job.name in t.producers} | inserted

    def readers_of_table(self, name: str) -> list[Asset]:
        """Tables and panels that read a table."""
        return [a for a in (*self.tables, *self.panels) if name in a.words and name != a.name]

    def users(self, topic: str, field: str = "") -> list[Use]:
        """Who uses a field of `topic`, or, without a field, the topic as such. A field that is no longer declared may be asked for."""
        declared = self.topics[topic]
        return [
            Use(asset, tuple(self._behind(asset)))
            for asset in self._direct(declared)
            if not field or asset.name == declared.table or field in self._words(asset) or self._takes_all(asset, declared)
        ]

    def words(self, topic: str, field: str = "") -> list[str]:
        """`users` in words, for evolve.explain_break."""
        return [str(use) for use in self.users(topic, field)]

    def orphans(self, exists: Callable[[str], bool]) -> list[str]:
        """What hangs loose, in words: empty where every topic, job, table and panel belongs to the flow.

        `exists` tells whether there is a module, package or SQL file of that dotted name.
        """
        return [*self._orphan_topics(exists), *self._orphan_jobs(), *self._orphan_queries(), *self._private_reads()]

    def _orphan_topics(self, exists: Callable[[str], bool]) -> Iterator[str]:
        for topic in self.topics.values():
            where = f"{topic.domain}/topics.yaml: {topic.short_name}"
            for role, names in (("producer", topic.producers), ("consumer", topic.consumers)):
                if not names:
                    yield f"{where}: has no {role}"
                yield from (f"{where}: {role} {name} does not exist" for name in names if not exists(name))
            if topic.landing != (LOADER in topic.consumers):
                yield f"{where}: `landing` and the consumer {LOADER} go together"

    def _orphan_jobs(self) -> Iterator[str]:
        for job in self.jobs:
            written, read = self.writes(job), self.reads(job)
            yield from (f"{job.path}: writes {name}, which no topics.yaml declares" for name in sorted(written - self.topics.keys()))
            for role, names in (("producer", written), ("consumer", read)):
                for name in sorted(names & self.topics.keys()):
                    elsewhere = role == "consumer" and job.team and job.team != self.teams.get(self.topics[name].domain, "")
                    if job.name not in getattr(self.topics[name], f"{role}s") and not elsewhere:
                        yield f"{job.path}: is a {role} of {name}, and topics.yaml does not say so"
            if not written and not read:
                yield f"{job.path}: neither reads nor writes a declared topic"

    def _orphan_queries(self) -> Iterator[str]:
        known = {*self._landing, *(t.name for t in self.tables)}
        for asset in (*self.tables, *self.panels):
            code = STRING.sub("''", asset.code)
            for name in dict.fromkeys(READ.findall(code)):
                if name not in known and name not in COMMON.findall(code) and not name.startswith("system."):
                    yield f"{asset.path}: reads {name}, which is neither a landing table nor declared below sinks/"

    def _private_reads(self) -> Iterator[str]:
        """A team's objects and panels on tables that their owners keep to themselves."""
        private = {t.table: t for t in self.topics.values() if t.landing and not t.public}
        for asset in (*self.tables, *self.panels):
            for topic in (private[name] for name in sorted(asset.words & private.keys()) if asset.team):
                if topic.owner not in asset.team.split(", "):
                    words = f"{asset.path}: reads {topic.table}, which {topic.owner} has not made public"
                    yield f"{words}: ask for `public: true` in {topic.domain}/topics.yaml"

    def _direct(self, topic: Topic) -> list[Asset]:
        jobs = [job for job in self.jobs if topic.name in self.reads(job) | self.writes(job)]
        if not topic.landing:
            return jobs
        return [*jobs, self._landing[topic.table], *self.readers_of_table(topic.table)]

    def _behind(self, asset: Asset) -> list[Asset]:
        found: dict[str, Asset] = {}
        todo = [asset]
        while todo:
            for reader in self._readers(todo.pop()):
                if str(reader) not in found and reader != asset:
                    found[str(reader)] = reader
                    todo.append(reader)
        return sorted(found.values(), key=lambda a: (list(Kind).index(a.kind), a.name))

    def _readers(self, asset: Asset) -> Iterator[Asset]:
        if asset.kind is Kind.JOB:
            for name in self.writes(asset) & self.topics.keys():
                yield from (job for job in self.jobs if name in self.reads(job))
                if self.topics[name].landing:
                    yield self._landing[self.topics[name].table]
        elif asset.kind is Kind.TABLE:
            yield from self.readers_of_table(asset.name)

    def _words(self, asset: Asset) -> frozenset[str]:
        """Identifiers of an asset and, for a job, of the modules of this room that it uses."""
        words: set[str] = set()
        todo, seen = [asset], {asset.name}
        while todo:
            current = todo.pop()
            words |= current.words
            for name in self._imports(current) - seen:
                seen.add(name)
                todo.append(self._modules[name])
        return frozenset(words)

    def _imports(self, asset: Asset) -> set[str]:
        dotted = set(MODULE.findall(asset.code))
        for package, names in re.findall(r"^from (streams[\w.]*) import ([\w, ]+)", asset.code, re.MULTILINE):
            dotted |= {package, *(f"{package}.{name.strip().split(' ')[0]}" for name in names.split(","))}
        parts = {".".join(name.split(".")[:n]) for name in dotted for n in range(2, name.count(".") + 2)}
        return {name for name in parts if name in self._modules}

    @staticmethod
    def _takes_all(asset: Asset, topic: Topic) -> bool:
        return not {topic.name, topic.table}.isdisjoint(ALL.findall(asset.code))


def exists_below(*roots: Path) -> Callable[[str], bool]:
    """Whether a dotted name is a package, a module or a job of one of these trees, for `Lineage.orphans`."""

    def exists(name: str) -> bool:
        paths = [root.joinpath(*name.split(".")) for root in roots]
        return any(path.is_dir() or path.with_suffix(".py").is_file() or path.with_suffix(".sql").is_file() for path in paths)

    return exists


def of(topics: Mapping[str, Topic], streams: Traversable | Path, sinks: Traversable | Path, checkouts: Sequence[Path] = ()) -> Lineage:
    """The lineage of a tree: topics, the folder of jobs, the folder of tables with its `dashboards`; and of checkouts of teams."""
    assets = list(_assets(streams, sinks, ""))
    teams: dict[str, str] = {}
    for checkout in checkouts:
        domains = {t.domain for t in topics.values() if (checkout / "schemas" / t.domain).is_dir()}
        team = team_of(checkout, topics)
        teams |= dict.fromkeys(domains, team)
        assets += _assets(checkout / "streams", checkout / "sinks", team)
    return Lineage(topics.values(), assets, teams)


def team_of(checkout: Path, topics: Mapping[str, Topic]) -> str:
    """Whose checkout it is: the owner of the topics that it declares; where it declares none, its folder's name."""
    owners = {t.owner for t in topics.values() if (checkout / "schemas" / t.domain).is_dir()}
    return ", ".join(sorted(owners)) or checkout.name


def _assets(streams: Traversable | Path, sinks: Traversable | Path, team: str) -> Iterator[Asset]:
    if streams.is_dir():
        yield from read(Kind.JOB, streams, "streams", team=team)
    if sinks.is_dir():
        yield from read(Kind.TABLE, sinks, "sinks", skip=("dashboards",), team=team)
    if (sinks / "dashboards").is_dir():
        yield from read(Kind.PANEL, sinks / "dashboards", "sinks/dashboards", team=team)


@lru_cache(maxsize=1)
def installed() -> Lineage:
    """The lineage of this installation and of the checkouts that settings name."""
    (streams, *_), (sinks, *_) = rooms.everywhere("streams"), rooms.everywhere("sinks")
    return of(catalogue().topics, streams, sinks, settings().contracts)
