from __future__ import annotations

from binascii import crc_hqx
from collections import Counter
from dataclasses import astuple, fields

import pytest

from gateway.engines.redis.topology import TAGS, fnv1a, jump, names, placed

SLOTS = 16384


def slot(tag: str) -> int:
    """Return the slot of a hash tag as Redis Cluster computes it (CRC16, XMODEM)."""
    return crc_hqx(tag.encode(), 0) % SLOTS


@pytest.mark.parametrize("servers", [1, 2, 3, 4, 5, 6, 8, 16, 32, 64])
def test_tags_spread_evenly_over_servers(servers: int) -> None:
    """However many servers share the slots, none gets more than one partition above another."""
    shares = Counter(slot(tag) * servers // SLOTS for tag in TAGS)
    assert servers == len(shares)
    assert max(shares.values()) - min(shares.values()) <= 1


def test_tags_never_change() -> None:
    """A tag that moves takes its channels' history with it; these are the recorded ones."""
    assert 64 == len(set(TAGS))
    assert 0xE17651473B9B115D == fnv1a(" ".join(TAGS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0xCBF29CE484222325), ("a", 0xAF63DC4C8601EC8C), ("foobar", 0x85944171F73967E8)],
)
def test_fnv1a(text: str, expected: int) -> None:
    """The hash is 64-bit FNV-1a: the vectors of its authors."""
    assert expected == fnv1a(text)


def test_names_carry_prefix_kind_and_tag() -> None:
    """Every name of a partition lies in the slot of its tag, and no two kinds share a name."""
    starts = astuple(names("gateway", "53t"))
    assert "gateway.client.{53t}." == starts[0]
    assert len(starts) == len(set(starts))
    for start in starts:
        assert start.startswith("gateway.")
        assert "{53t}" in start


def test_the_database_is_in_the_pubsub_names_only() -> None:
    """Keys are kept apart by the database itself; pub/sub channels are not."""
    zero, three = names("gateway", "53t", 0), names("gateway", "53t", 3)
    pairs = zip(fields(zero), astuple(zero), astuple(three), strict=True)
    assert {"client", "probe"} == {field.name for field, here, there in pairs if here != there}


def test_a_new_server_takes_its_share_and_moves_nothing_else() -> None:
    """With one server more, keys stay or go to the new one, and about an nth of them goes."""
    before, after = ([jump(fnv1a(f"k{n}"), servers) for n in range(4000)] for servers in (4, 5))
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert {4} == set(moved)
    assert 600 < len(moved) < 1000
    assert {0, 1, 2, 3} == set(before)


def test_one_partition_takes_every_channel() -> None:
    """Without a cluster all channels lie together."""
    place = placed(["only"])
    assert {"only"} == {place(f"c{n}") for n in range(100)}


def test_channels_spread_over_partitions() -> None:
    """With 64 partitions a channel always has the same one, and none stays empty."""
    place = placed(list(range(64)))
    shares = Counter(place(f"room:{n}") for n in range(6400))
    assert 64 == len(shares)
    assert max(shares.values()) < 2 * 100
    assert place("room:1") == place("room:1") == fnv1a("room:1") % 64
