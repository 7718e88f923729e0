"""Signed URLs: what one session may fetch, and every way to want more."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.sign import MARK, Denied, Grant, Keys, bare_url
from edge.steering.routes import prefix

NOW_S = 1_800_000_000
KEYS = Keys({"b": b"new secret", "a": b"old secret"})
GRANT = Grant("/bbb/v1/", NOW_S + 60, "s-1", prefix("198.51.100.0/24"))
SIGNED = KEYS.sign("/bbb/v1/manifest.mpd", GRANT)
TOKEN = SIGNED.split("/")[1]


def denied(path: str, client: str = "198.51.100.7", now_s: float = NOW_S, keys: Keys = KEYS) -> str:
    with pytest.raises(Denied) as refusal:
        keys.verify(path, client, now_s)
    return str(refusal.value)


def test_what_is_signed_may_be_fetched_and_what_its_manifest_points_to() -> None:
    assert KEYS.verify(SIGNED, "198.51.100.7", NOW_S) == ("/bbb/v1/manifest.mpd", GRANT)
    assert KEYS.verify(SIGNED.replace("manifest.mpd", "video/1.m4s"), "::ffff:198.51.100.7", NOW_S + 59)[0] == "/bbb/v1/video/1.m4s"


def test_a_token_is_an_hmac_that_anybody_with_the_key_can_make() -> None:
    said, mac = (urlsafe_b64decode(part + "==") for part in TOKEN[1:].split("."))
    assert said == f"b\n{NOW_S + 60}\n/bbb/v1/\n198.51.100.0/24\ns-1".encode()
    assert mac == hmac.new(b"new secret", said, hashlib.sha256).digest()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/bbb/v1/manifest.mpd", "unsigned"),
        (f"/{TOKEN}/bbb/v2/manifest.mpd", "another path"),
        (f"/{TOKEN}/bbb/v10/manifest.mpd", "another path"),
        (f"/{TOKEN}/bbb/v1/../v2/manifest.mpd", "another path"),
        (f"/{TOKEN}/bbb/v1/..\\v2", "another path"),
        (f"/{TOKEN}", "another path"),
        (f"/{TOKEN[:-1]}/bbb/v1/m", "tampered"),
        (f"/{TOKEN}=/bbb/v1/m", "not base64url"),
        (f"/{TOKEN}é/bbb/v1/m", "not base64url"),
        (f"/{TOKEN.partition('.')[0]}/bbb/v1/m", "tampered"),
        ("/~/bbb/v1/m", "unknown key ''"),
        (f"{MARK}{'a' * 2_000}/bbb/v1/m", "that long"),
    ],
)
def test_what_is_not_allowed_is_denied_in_words(path: str, words: str) -> None:
    assert words in denied(path)


def test_expiry_network_and_key_are_held_to() -> None:
    assert denied(SIGNED, now_s=NOW_S + 60) == "expired 0 s ago"
    assert "for 198.51.100.0/24" in denied(SIGNED, "198.51.101.7")
    assert "another network" in denied(SIGNED, "2001:db8::1")
    assert "another network" in denied(SIGNED, "nobody")
    assert denied(SIGNED, keys=Keys({"a": b"old secret"})) == "unknown key 'b'"
    assert "tampered" in denied(SIGNED, keys=Keys({"b": b"guessed"}))


def test_keys_are_changed_without_a_gap() -> None:
    old, both, new = Keys({"a": b"1"}), Keys({"b": b"2", "a": b"1"}), Keys({"b": b"2"})
    before, after = old.sign("/bbb/v1/m", GRANT), both.sign("/bbb/v1/m", GRANT)
    assert {both.verify(path, "198.51.100.7", NOW_S)[0] for path in (before, after)} == {"/bbb/v1/m"}
    assert new.verify(after, "198.51.100.7", NOW_S)[0] == "/bbb/v1/m"
    assert "unknown key" in denied(before, keys=new)


@given(st.integers(0, len(SIGNED) - 1), st.characters(codec="ascii"))
def test_no_character_of_a_url_can_be_changed_but_of_the_file(at: int, character: str) -> None:
    changed = SIGNED[:at] + character + SIGNED[at + 1 :]
    try:
        inner, grant = KEYS.verify(changed, "198.51.100.7", NOW_S)
    except Denied:
        return
    assert grant == GRANT
    assert inner.startswith("/bbb/v1/")


@given(st.text(), st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])))
def test_any_path_is_served_or_denied_and_any_session_can_be_signed(path: str, sid: str) -> None:
    denied(MARK + path)
    grant = Grant("/bbb/v1/", NOW_S + 1, sid)
    assert KEYS.verify(KEYS.sign("/bbb/v1/m", grant), "", NOW_S)[1] == grant


@pytest.mark.parametrize(("path", "grant"), [("/other/v1/m", GRANT), ("/bbb/v1/m", Grant("/bbb/v1/", 1, "a\nb"))])
def test_what_cannot_be_verified_is_not_signed(path: str, grant: Grant) -> None:
    with pytest.raises(ValueError, match=r"not below|line feed"):
        KEYS.sign(path, grant)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        (f"http://oca-1:80{SIGNED}", "http://oca-1:80/bbb/v1/manifest.mpd"),
        (SIGNED, "/bbb/v1/manifest.mpd"),
        ("http://oca-1/bbb/v1/1.m4s", "http://oca-1/bbb/v1/1.m4s"),
        ("http://oca-1/bbb/~me/1.m4s", "http://oca-1/bbb/~me/1.m4s"),
        ("http://oca-1/~", "http://oca-1"),
        ("", ""),
    ],
)
def test_what_is_kept_of_a_url_opens_no_door(url: str, kept: str) -> None:
    assert bare_url(url) == kept
