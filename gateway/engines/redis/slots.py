"""Who serves which slot of a Redis Cluster, from what several of its nodes say. Pure."""

from __future__ import annotations

from binascii import crc_hqx
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

SLOTS: Final = 16384
_FLAGS: Final = 2  # its place in a row of CLUSTER NODES
_EPOCH: Final = 6


class Node(NamedTuple):
    """A node as others are to reach it."""

    identity: bytes
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class View:
    """What one node believes: who serves each slot that was asked for, all nodes, their epochs, who are primaries."""

    primaries: Mapping[int, Node]
    nodes: Sequence[Node]
    epochs: Mapping[bytes, int]
    leading: Collection[bytes] = ()


def slot(tag: str) -> int:
    """Return the slot of all names with this hash tag."""
    return crc_hqx(tag.encode(), 0) % SLOTS


def read(slots: Sequence[Any], nodes: bytes, source: str, wanted: Collection[int]) -> View:
    """Read the replies to CLUSTER SLOTS and CLUSTER NODES; `source` is the host that the node answered under."""
    primaries: dict[int, Node] = {}
    known: list[Node] = []
    for first, last, *shard in slots:
        members = [_node(entry, source) for entry in shard]
        known += [node for node in members if node is not None]
        if members and (primary := members[0]) is not None:
            primaries.update({number: primary for number in wanted if first <= number <= last})
    rows = [line.split() for line in nodes.splitlines()]
    leading = {row[0] for row in rows if {b"master", b"fail"} & set(row[_FLAGS].split(b",")) == {b"master"}}
    return View(primaries, known, {row[0]: int(row[_EPOCH]) for row in rows}, leading)


def settle(views: Iterable[View]) -> Mapping[int, Node]:
    """Return the primary of each slot: where views differ the cluster's own rule holds, the highest epoch wins.

    A node that was cut off still believes what it last knew, of itself too.
    """
    claims: dict[int, Counter[Node]] = {}
    epochs: dict[bytes, int] = {}
    for view in views:
        for number, node in view.primaries.items():
            claims.setdefault(number, Counter())[node] += 1
        for identity, epoch in view.epochs.items():
            epochs[identity] = max(epoch, epochs.get(identity, 0))

    def winner(votes: Counter[Node]) -> Node:
        return max(votes, key=lambda node: (epochs.get(node.identity, 0), votes[node]))

    return {number: winner(votes) for number, votes in claims.items()}


def _node(entry: Sequence[Any], source: str) -> Node | None:
    """Return a node under the name that it announces; None if it announces one that it does not have.

    A node that does not know its own address stands for the one that was asked.
    """
    endpoint, port, identity = entry[:3]
    host = endpoint.decode() if endpoint else source
    return None if host == "?" else Node(identity, host, port)
