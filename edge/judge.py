"""The judge of CMCD: whatever way a report came, one set of rules says whether it is kept, and what of it."""

from __future__ import annotations

from collections.abc import Mapping

from edge.pseudonym import pseudonym
from edge.sign import bare_url
from infra.base.settings import Settings
from schemas import cmcd
from schemas.structured_fields import Member

TOPIC = "playback.report"
DEAD_LETTERS = "observability.dead_letter"
MAX_LINE = 16 << 10
"""Bytes of one report."""


class Rejected(Exception):
    """A report that is not accepted: why, for its sender and for the dead letter."""

    def __init__(self, reason: str, key: str, rule: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.key = key
        self.rule = rule

    def on_line(self, number: int) -> dict[str, str | int]:
        """As the answer has it."""
        return {"line": number, "key": self.key, "rule": self.rule, "message": str(self)}

    @classmethod
    def by(cls, error: cmcd.InvalidCmcd) -> Rejected:
        """For breaking the standard: key and rule are those of the first breach."""
        first = error.violations[0]
        return cls("invalid_cmcd", first.key, first.rule, str(error))


SWITCHED = ("switched_from", "switched_to")
"""Where a player that knows no ids names cache servers by host."""


class Judge:
    """Decides on one report at a time. Pure but for the settings it was made with."""

    def __init__(self, config: Settings) -> None:
        self._max_age_ms = config.guard.max_age_s * 1000
        self._max_ahead_ms = config.guard.max_ahead_s * 1000
        self._oca_by_origin = {cmcd.origin(url): f"oca-{n}" for n, url in enumerate(config.edge.oca_urls, 1)}

    def event(self, raw: bytes, is_json: bool, arrival_ms: int, target: str, beside: Mapping[str, Member]) -> cmcd.Report:
        """The event report in `raw`, with a pseudonym for its member. Raises Rejected."""
        _check_size(len(raw))
        try:
            if is_json:
                report = cmcd.to_report({**beside, **cmcd.parse_json(raw)}, target)
            else:
                report = cmcd.read(raw.decode("latin-1"), target, beside)  # what is not ASCII is refused with the key that it is in
        except cmcd.InvalidCmcd as error:
            raise Rejected.by(error) from None
        ahead_ms = report.event_time_ms - arrival_ms
        if not -self._max_age_ms <= ahead_ms <= self._max_ahead_ms:
            raise Rejected(
                "time_window", "ts", "time_window", f"ts is {abs(ahead_ms)} ms {'ahead' if ahead_ms > 0 else 'old'}: mend the clock"
            )
        fields = report.fields
        if "url" in fields:
            fields["url"] = bare_url(fields["url"])
            oca_id = fields.get("oca_id") or self._oca_by_origin.get(cmcd.origin(fields["url"]))
            if oca_id is not None:
                fields["oca_id"] = oca_id
        for name in SWITCHED:
            if name in fields:
                fields[name] = self._oca_by_origin.get(fields[name], fields[name])
        return _without_member(report)

    def request(self, query: str, headers: Mapping[str, str], arrival_ms: int, oca_id: str, asked: str) -> cmcd.Report | None:
        """The request report in the query, or else in the headers, of a request for `asked` at a cache server; None where there is none.

        Its time is that of the server, whose clock is ours. Raises Rejected.
        """
        _check_size(len(query))
        try:
            members = cmcd.parse_query(query)
            if members is None:
                members = cmcd.parse_headers(headers)
            return None if members is None else _without_member(cmcd.to_request_report(members, oca_id, arrival_ms, asked))
        except cmcd.InvalidCmcd as error:
            raise Rejected.by(error) from None


def _check_size(size: int) -> None:
    if size > MAX_LINE:
        raise Rejected("size", "*", "size", f"{size} bytes; a report has {MAX_LINE} at most")


def _without_member(report: cmcd.Report) -> cmcd.Report:
    """The report with a pseudonym in place of its member's id."""
    if "member_id" in report.fields:
        report.fields["member_id"] = pseudonym(report.fields["member_id"])
    return report
