from __future__ import annotations

from dataclasses import replace

import pytest

from loadtests.compare.contestants import OURS, UnknownPeerError, chosen, of_ours, of_peer
from loadtests.identity import Issuer
from loadtests.peers.registry import C_LOOP, PEERS, STOCK

HERE = {it: replace(peer, missing=lambda: "") for it, peer in PEERS.items()}
NO_NODE = {**HERE, "ws": replace(PEERS["ws"], missing=lambda: "no node on PATH")}


def test_all_take_part_unless_some_are_named() -> None:
    """The C loop is with any of them, since ratios are to it."""
    assert (list(HERE.values()), {}) == chosen([], HERE)
    assert [HERE["ws"], HERE["c-loop"]] == chosen(["ws"], HERE)[0]
    assert [HERE["c-loop"]] == chosen(["c-loop"], HERE)[0]


def test_who_cannot_run_is_named_with_the_reason() -> None:
    """Nobody is left out in silence."""
    able, left_out = chosen([], NO_NODE)
    assert NO_NODE["ws"] not in able
    assert {"Node ws": "no node on PATH"} == left_out


@pytest.mark.parametrize(
    ("name", "why"), [("ws", "ws: no node on PATH"), ("sockjs", "no peer 'sockjs': there are stock")]
)
def test_who_was_asked_for_must_be_able_to_run(name: str, why: str) -> None:
    """A peer that was named on the command line is not left out: that is bad input."""
    with pytest.raises(UnknownPeerError, match=why):
        chosen([name], NO_NODE)


def test_peers_have_names_of_their_own() -> None:
    """No peer is called as ours, and the registry knows each by its name."""
    assert OURS not in PEERS
    assert all(name == peer.name for name, peer in PEERS.items())
    assert not C_LOOP.relayed
    assert STOCK.name == of_peer(STOCK).name


def test_each_client_of_ours_has_a_token_of_its_own() -> None:
    """Subscribers and publisher show different tokens; the subscriber asks for the channel that all measure."""
    ours = of_ours(Issuer(), "http://127.0.0.1:1/jwks")
    first, second, publisher = ours.subscriber(1, 1).first, ours.subscriber(1, 2).first, ours.publisher(1).first
    assert 3 == len({first, second, publisher})
    assert '"subscribe":{"channel":"bench:0"}' in first
    assert "subscribe" not in publisher
    assert "bench:@C" in ours.publication
