from __future__ import annotations

from typing import Any

from gateway.engines.redis.slots import Node, View, read, settle, slot
from gateway.engines.redis.topology import TAGS

A, B, C = Node(b"a", "10.0.0.1", 7000), Node(b"b", "10.0.0.2", 7000), Node(b"c", "c.example", 7001)
NODES = b"""a 10.0.0.1:7000@17000 myself,master - 0 0 3 connected 0-99 [93->-b]
b 10.0.0.2:7000@17000,b.example master - 0 0 5 connected 100-200
c 10.0.0.3:7001@17001 slave a 0 0 3 connected
"""


def entry(node: Node, **more: str) -> list[Any]:
    """Return a node as CLUSTER SLOTS names it."""
    return [node.host.encode(), node.port, node.identity, [word.encode() for pair in more.items() for word in pair]]


def test_every_tag_has_a_slot_of_its_own() -> None:
    """The slots spread evenly: one in each 256th part."""
    assert list(range(64)) == [slot(tag) // 256 for tag in TAGS]


def test_what_a_node_says_is_read() -> None:
    """The first of a range is its primary; replicas are nodes too; only the slots asked for are kept."""
    slots = [[0, 99, entry(A), entry(C, ip="10.0.0.3")], [100, 200, entry(B)]]
    view = read(slots, NODES, "seed", {50, 99, 100, 300})
    assert {50: A, 99: A, 100: B} == view.primaries
    assert [A, C, B] == view.nodes
    assert {b"a": 3, b"b": 5, b"c": 3} == view.epochs
    assert {b"a", b"b"} == view.leading


def test_who_has_failed_leads_nothing() -> None:
    """What it hands over may lack its last writes."""
    failed = NODES.replace(b" master ", b" master,fail ")
    assert {b"a"} == read([], failed, "seed", ()).leading


def test_a_node_without_a_name_is_the_one_that_was_asked() -> None:
    """An empty host and none at all stand for the host of the seed; a question mark for nobody."""
    slots = [[0, 0, [b"", 1, b"x"]], [1, 1, [None, 2, b"y"]], [2, 2, [b"?", 3, b"z"]], [3, 3]]
    view = read(slots, b"", "seed", range(9))
    assert {0: Node(b"x", "seed", 1), 1: Node(b"y", "seed", 2)} == view.primaries
    assert [Node(b"x", "seed", 1), Node(b"y", "seed", 2)] == view.nodes


def test_the_highest_epoch_wins() -> None:
    """Nodes that were cut off are outvoted by one that knows of a later election, however many they are."""
    stale = View({1: A}, [], {b"a": 3, b"b": 1})
    fresh = View({1: B, 2: A}, [], {b"a": 3, b"b": 4})
    assert {1: B, 2: A} == settle([stale, stale, fresh])
    # An epoch counts however it came to be known.
    assert {1: B} == settle([stale, View({1: B}, [], {}), View({}, [], {b"b": 4})])


def test_with_equal_epochs_most_win() -> None:
    """Epochs may be equal, or unknown, while a cluster is being made."""
    assert {1: B} == settle([View({1: A}, [], {}), View({1: B}, [], {}), View({1: B}, [], {})])
    assert {} == settle([])
