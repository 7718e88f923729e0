"""URLs that only one session may use, for a while: a token in the path says what was allowed and until when, and is signed. Pure.

    http://oca-1/~<token>/bbb/v1/manifest.mpd

It stands before the path, so the addresses in a manifest, which are relative, carry it on, and it is the same at every cache server: a
player that goes to another one changes the host and nothing else. Cache servers ask each other with a token in a header instead: an origin,
which knows of none, takes no notice of it. The token is base64url (RFC 4648) of what is allowed, a dot, and base64url of its HMAC-SHA256
(RFC 2104) under the key that it names. To change keys, put the new one first; take the old one away when what it signed has expired.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from edge.steering.routes import BadRoute, Prefix, address, around, prefix

MARK = "/~"
MAX_TOKEN = 1_024
"""Characters; the path is a stranger's."""
HEADER = "x-headrace-token"
"""Where one cache server has its token when it asks another."""
LENT_S = 300
"""How long such a token may be used: longer than clocks differ, and a request takes to arrive; each request has a new one."""
Lend = Callable[[str], dict[str, str]]
"""The headers with which a cache server asks another for what is below a directory."""


class Denied(Exception):
    """A path that may not be served; the message says why: unsigned, tampered, unknown key, expired, another path, another network."""


@dataclass(frozen=True)
class Grant:
    """What is allowed: every path below `below`, until `expires_s` (unix seconds), to one session, from one network if there is one."""

    below: str
    expires_s: int
    sid: str
    client: Prefix | None = None


@dataclass(frozen=True)
class Keys:
    """Secrets by key id; the first one signs, each of them verifies."""

    secrets: Mapping[str, bytes]

    @classmethod
    def of(cls, secrets: Mapping[str, SecretStr]) -> Keys | None:
        """As the settings have them; None where there are none, and nothing is signed or verified."""
        return cls({key_id: secret.get_secret_value().encode() for key_id, secret in secrets.items()}) if secrets else None

    def sign(self, path: str, grant: Grant) -> str:
        """`path`, which begins with `grant.below`, with its token. Raises ValueError where it does not, or a part holds a line feed."""
        if not _lies_below(path, grant.below):
            raise ValueError(f"{path} is not below {grant.below}")
        return f"{MARK}{self.token(grant)}{path}"

    def token(self, grant: Grant) -> str:
        """What stands for a grant. Raises ValueError where a part holds a line feed."""
        key_id, secret = next(iter(self.secrets.items()))
        parts = (key_id, str(grant.expires_s), grant.below, "" if grant.client is None else str(grant.client), grant.sid)
        if any("\n" in part for part in parts):
            raise ValueError("a line feed cannot be signed: it is what parts the parts")
        said = "\n".join(parts).encode()
        return f"{_text(said)}.{_text(_mac(secret, said))}"

    def verify(self, path: str, client: str, now_s: float) -> tuple[str, Grant]:
        """The path without its token, and what the token allows. `path` is percent-decoded. Raises Denied."""
        if not path.startswith(MARK):
            raise Denied("unsigned: the path has no token")
        token, slash, rest = path[len(MARK) :].partition("/")
        if len(token) > MAX_TOKEN:
            raise Denied("tampered: no token is that long")
        said, mac = (_bytes(part) for part in token.partition(".")[::2])
        key_id, *parts = said.decode("utf-8", "replace").split("\n", 4)
        secret = self.secrets.get(key_id)
        # Of an unknown key the code is computed, too: how long the answer takes tells nothing about which there are.
        right = hmac.compare_digest(mac, _mac(secret or b"", said))
        if secret is None:
            raise Denied(f"unknown key {key_id[:40]!r}")
        if not right:
            raise Denied("tampered: the signature is not that of the token")
        expires_s, below, network, sid = parts
        grant = Grant(below, int(expires_s), sid, prefix(network) if network else None)
        if now_s >= grant.expires_s:
            raise Denied(f"expired {now_s - grant.expires_s:.0f} s ago")
        inner = slash + rest
        if not _lies_below(inner, below):
            raise Denied(f"another path: the token is for what is below {below}")
        if grant.client is not None and not _within(client, grant.client):
            raise Denied(f"another network: the token is for {grant.client}")
        return inner, grant


def lender(keys: Keys | None, now_ms: Callable[[], int]) -> Lend:
    """Headers for requests between cache servers; without keys there are none."""
    if keys is None:
        return lambda below: {}
    return lambda below: {HEADER: keys.token(Grant(below, now_ms() // 1000 + LENT_S, ""))}


def bare(path: str) -> str:
    """A path without its token, whatever that is worth."""
    if not path.startswith(MARK):
        return path
    _, slash, rest = path[len(MARK) :].partition("/")
    return slash + rest


def bare_url(url: str) -> str:
    """A URL without its token: what is kept of it is to open no door."""
    if MARK not in url:
        return url
    scheme, mark, rest = url.partition("://")
    if not mark:
        return bare(url)
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host}{bare(slash + path)}"


def _lies_below(path: str, below: str) -> bool:
    """Whether `path` begins with `below` and stays there: parts that go up, or that some server takes for such, do not."""
    return path.startswith(below) and "\\" not in path and not {".", ".."} & set(path.split("/"))


def _within(client: str, network: Prefix) -> bool:
    try:
        found = address(client)
    except BadRoute:
        return False
    return found.bits == network.bits and around(found, network.length) == network


def _mac(secret: bytes, said: bytes) -> bytes:
    return hmac.digest(secret, said, hashlib.sha256)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """Raises Denied for what `_text` would not have written, so that a token has one spelling only."""
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise Denied("tampered: the token is not base64url") from None
    if _text(raw) != text:
        raise Denied("tampered: the token is not base64url")
    return raw
