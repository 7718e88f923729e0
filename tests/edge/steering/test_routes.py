"""Routes: the longest-prefix table against brute force with `ipaddress`, and what is no route."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.steering.routes import BadRoute, Path, PathClass, Prefix, RouteTable, address, around, prefix

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def route(oca_id: str, to: str, path_class: str = "PRIVATE_PEERING", as_path: tuple[int, ...] = (), med: int = 0, **other: Any) -> Any:
    told = {"route": f"{oca_id} {to}", "oca_id": oca_id, "prefix": to, "path_class": path_class, "as_path": list(as_path), "med": med}
    return {**told, "withdrawn": False, **other}


def found(table: RouteTable, text: str) -> list[tuple[int, list[str]]]:
    return [(length, [path.oca_id for path in paths]) for length, paths in table.lookup(address(text))]


# Few bits, so that prefixes lie in each other and addresses in prefixes.
@st.composite
def networks(draw: st.DrawFn) -> Network:
    if draw(st.booleans()):
        length = draw(st.sampled_from([0, 1, 7, 8, 9, 16, 24, 31, 32]))
        number = draw(st.sampled_from([0x0A000000, 0x0A400000, 0x0A0000FF, 0xC0000200, 0]))
        return ipaddress.IPv4Network((number, length), strict=False)
    length = draw(st.sampled_from([0, 8, 32, 47, 48, 64, 127, 128]))
    return ipaddress.IPv6Network((draw(st.sampled_from([0x20010DB8 << 96, 0x20010DB8 << 96 | 1 << 80 | 5, 1])), length), strict=False)


changes = st.lists(
    st.tuples(st.sampled_from(["oca-1", "oca-2", "oca-3"]), networks(), st.sampled_from(PathClass), st.integers(0, 3), st.booleans()),
    max_size=40,
)
clients = st.one_of(
    st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address),
    st.sampled_from([0x0A000001, 0x0A4000FF, 0xC0000203]).map(ipaddress.IPv4Address),
    st.sampled_from([0x20010DB8 << 96 | 7, 0x20010DB8 << 96 | 1 << 80 | 5, 1]).map(ipaddress.IPv6Address),
)


@given(changes, st.lists(clients, min_size=1, max_size=5))
def test_it_finds_what_brute_force_finds(changes: Any, clients: list[Any]) -> None:
    table, plain = RouteTable(), {}
    for oca_id, network, path_class, med, withdrawn in changes:
        told = route(oca_id, str(network), path_class.name, med=med, withdrawn=withdrawn)
        if network.prefixlen == 0 and path_class is PathClass.EMBEDDED and not withdrawn:
            with pytest.raises(BadRoute, match="default"):
                table.fold(told)
            continue
        table.fold(told)
        if withdrawn:
            plain.pop((network, oca_id), None)
        else:
            plain[network, oca_id] = Path(oca_id, path_class, (), med)
    for client in clients:
        covering = {network for network, _ in plain if network.version == client.version and client in network}
        expected = [
            (network.prefixlen, tuple(sorted(path for (of, _), path in plain.items() if of == network)))
            for network in sorted(covering, key=lambda network: -network.prefixlen)
        ]
        matches = table.lookup(address(str(client)))
        assert [(length, paths.paths) for length, paths in matches] == expected
        assert [str(around(address(str(client)), length)) for length, _ in matches] == [
            str(network) for network in sorted(covering, key=lambda network: -network.prefixlen)
        ]
    assert len(table) == len({network for network, _ in plain})
    assert {str(to): paths.paths for to, paths in table.prefixes()} == {
        str(network): tuple(sorted(path for (of, _), path in plain.items() if of == network)) for network, _ in plain
    }
    assert table.path_sets == len({paths.paths for _, paths in table.prefixes()})


@given(networks())
def test_a_prefix_is_read_as_the_library_reads_it(network: Network) -> None:
    assert ipaddress.ip_network(str(prefix(str(network)))) == network


def test_a_withdrawal_falls_back_to_the_shorter_prefix() -> None:
    table = RouteTable()
    for told in (route("in", "198.51.100.0/24", "EMBEDDED"), route("ix", "198.51.0.0/16"), route("ix", "198.51.100.0/24")):
        table.fold(told)
    assert found(table, "198.51.100.7") == [(24, ["in", "ix"]), (16, ["ix"])]
    table.fold(route("in", "198.51.100.0/24", withdrawn=True))
    assert found(table, "198.51.100.7") == [(24, ["ix"]), (16, ["ix"])]
    table.fold(route("ix", "198.51.100.0/24", withdrawn=True))
    assert found(table, "198.51.100.7") == [(16, ["ix"])]
    table.fold(route("ix", "198.51.100.0/24", withdrawn=True))
    assert found(table, "198.52.0.1") == []


def test_an_announcement_takes_the_place_of_the_earlier_one() -> None:
    table = RouteTable()
    table.fold(route("ix", "192.0.2.0/24", med=5))
    table.fold(route("ix", "192.0.2.0/24", "TRANSIT", (64500, 4_200_000_000), 7))
    ((_, paths),) = table.lookup(address("192.0.2.1"))
    assert paths.paths == (Path("ix", PathClass.TRANSIT, (64500, 4_200_000_000), 7),)


def test_servers_of_a_cluster_cost_one_set_of_paths() -> None:
    table = RouteTable()
    for n in range(1_000):
        for oca_id in ("a", "b", "c"):
            table.fold(route(oca_id, f"10.{n // 256}.{n % 256}.0/24"))
    assert (len(table), table.path_sets) == (1_000, 1)


def test_ipv4_in_ipv6s_clothes_is_ipv4() -> None:
    table = RouteTable()
    table.fold(route("ix", "192.0.2.0/24"))
    assert found(table, "::ffff:192.0.2.9") == [(24, ["ix"])]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (route("in", "0.0.0.0/0", "EMBEDDED"), "0.0.0.0/0 from the embedded server in"),
        (route("in", "::/0", "EMBEDDED"), "never the default one"),
        (route("ix", "10.0.0.1/8"), "host bits set: 10.0.0.0/8 is the network"),
        (route("ix", "2001:db8::1/32"), "2001:db8::/32 is the network"),
        (route("ix", "10.0.0.0"), "is no prefix"),
        (route("ix", "10.0.0.0/"), "is no prefix"),
        (route("ix", "10.0.0.0/-1"), "is no prefix"),
        (route("ix", "10.0.0.0/８"), "is no prefix"),
        (route("ix", "10.0.0.0/33"), "32 bits at most"),
        (route("ix", "::/129"), "128 bits at most"),
        (route("ix", "10.0.0/8"), "is no IPv4 or IPv6 address"),
        (route("ix", "010.0.0.0/8"), "is no IPv4 or IPv6 address"),
        (route("ix", "fe80::%eth0/64"), "is no IPv4 or IPv6 address"),
        (route("ix", "::ffff:10.0.0.0/104"), "announce it as IPv4"),
        (route("ix", "10.0.0.0\0/8"), "is no IPv4 or IPv6 address"),
        (route("ix", "10.0.0.0/8", "TUNNEL"), "path_class 'TUNNEL' is none of EMBEDDED"),
        (route("ix", "10.0.0.0/8", as_path=(0,)), "as_path"),
        (route("ix", "10.0.0.0/8", med=-1), "med -1"),
    ],
)
def test_what_is_no_route_is_refused_in_words_and_changes_nothing(told: Any, words: str) -> None:
    table = RouteTable()
    with pytest.raises(BadRoute, match=words):
        table.fold(told)
    assert (len(table), table.path_sets) == (0, 0)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        told = str(Prefix(*address(text)[:1], address(text).bits, address(text).number))
    except BadRoute:
        return
    assert ipaddress.ip_network(told).num_addresses == 1
