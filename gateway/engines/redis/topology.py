"""Where things live in Redis: partitions, and the names of their keys and pub/sub channels. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

# One hash tag per 256 slots of Redis Cluster, each in the middle of its share: so partitions spread evenly over any
# number of servers. Numbered tags would not (32 of them can leave half of 8 servers idle). The order is for ever: a tag
# that moves takes its channels' history and presence with it.
_TAGS: Final = (
    "53t j3j if5 kec 574 74b akm 6bk 96a frw mj8 oin d1i 38o mnx 2nf he6 box 40w c9q hav 7ah "
    "447 67a 1js fcu 85b gqt 1n3 3me e2j gu4 712 52d cmk 4dm 75r h5l 7av ice 3y7 1za 2k6 8ax "
    "wu7 931 2ov 8e8 7d8 5gn 621 41g jc0 qkn 66q i6o 3h5 1kc 2z4 84r 3lu des o94 802"
)
TAGS: Final = tuple(_TAGS.split())

_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
_UINT64: Final = 0xFFFFFFFFFFFFFFFF
_JUMP: Final = 2862933555777941757


def fnv1a(text: str) -> int:
    """Return the 64-bit FNV-1a hash of the text's UTF-8 bytes (RFC 9923)."""
    value = _FNV_OFFSET
    for byte in text.encode():
        value = ((value ^ byte) * _FNV_PRIME) & _UINT64
    return value


def jump(key: int, buckets: int) -> int:
    """Return the bucket of a 64-bit key: one more bucket takes its share from all others and moves nothing else.

    Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm", 2014.
    """
    bucket, following = -1, 0
    while following < buckets:
        bucket = following
        key = (key * _JUMP + 1) & _UINT64
        following = int((bucket + 1) * (1 << 31) / ((key >> 33) + 1))
    return bucket


@dataclass(frozen=True, slots=True)
class Names:
    """The beginnings of all names in one partition; a channel (or what the name is about) is appended."""

    client: str  # pub/sub: publications, joins, leaves
    stream: str
    meta: str
    result: str  # what an idempotency key led to
    claim: str
    presence: str
    users: str
    owned: str
    nodes: str  # complete, one per partition
    revoked: str  # likewise
    salt: str  # likewise: which server wrote here last
    probe: str  # pub/sub: what a node sends to itself


def names(prefix: str, tag: str, db: int = 0) -> Names:
    """Return the names of the partition with this tag.

    A database number keeps keys apart, but pub/sub channels ignore it; so it goes into their names.
    """

    def start(kind: str) -> str:
        return f"{prefix}.{kind}.{{{tag}}}."

    return Names(
        client=start("client" if db == 0 else f"client@{db}"),
        stream=start("stream"),
        meta=start("meta"),
        result=start("result"),
        claim=start("claim"),
        presence=start("presence"),
        users=start("users"),
        owned=start("owned"),
        nodes=start("nodes").removesuffix("."),
        revoked=start("revoked").removesuffix("."),
        salt=start("salt").removesuffix("."),
        probe=start("probe" if db == 0 else f"probe@{db}"),
    )


def tag_of(name: bytes) -> bytes:
    """Return the tag in a name."""
    return name[name.index(b"{") + 1 : name.index(b"}")]


def placed(partitions: list[T]) -> Callable[[str], T]:
    """Return the function from a channel to its partition.

    One partition is the common case and costs no hash.
    """
    if len(partitions) == 1:
        return _Only(partitions[0])
    return _Spread(partitions)


# Plain classes: a generic dataclass with slots, compiled, is refused by the interpreter when its module is loaded.
class _Only(Generic[T]):
    __slots__ = ("_partition",)

    def __init__(self, partition: T) -> None:
        self._partition = partition

    def __call__(self, _channel: str) -> T:
        return self._partition


class _Spread(Generic[T]):
    __slots__ = ("_partitions",)

    def __init__(self, partitions: list[T]) -> None:
        self._partitions = partitions

    def __call__(self, channel: str) -> T:
        return self._partitions[fnv1a(channel) % len(self._partitions)]
