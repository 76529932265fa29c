"""Who is compared: our node and the peers, in one shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway import __version__
from loadtests.bench.nodes import our_server, ours, publication
from loadtests.bench.rig import Client, Server
from loadtests.identity import Issuer
from loadtests.peers import tools
from loadtests.peers.contract import CHANNEL, Peer
from loadtests.peers.registry import C_LOOP, PEERS, UVICORN

OURS: Final = "gateway"
CEILING: Final = C_LOOP.name
REMARK: Final = "a signed token, rights and metrics for each client, none of which the others have"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A server that takes part."""

    name: str
    title: str
    remark: str
    publication: str  # the generator's template
    versions: Mapping[str, str]
    running: Callable[[str], AbstractContextManager[Server]]  # for Redis's URL; on the server's core
    subscriber: Callable[[int, int], Client]  # for a port and a number
    publisher: Callable[[int], Client]


class UnknownPeerError(ValueError):
    """A peer of that name is not known, or cannot run here."""


def chosen(names: Sequence[str], peers: Mapping[str, Peer] = PEERS) -> tuple[list[Peer], dict[str, str]]:
    """Return the peers to run (all that can, if none is named) and why others are left out, by their titles.

    The ceiling always takes part, where there is a compiler. Raises UnknownPeerError: one that was named cannot run.
    """
    for name in names:
        if name not in peers:
            raise UnknownPeerError(f"no peer {name!r}: there are {', '.join(peers)}")
        if why := peers[name].missing():
            raise UnknownPeerError(f"{name}: {why}")
    asked = [it for it in peers.values() if not names or it.name in (*names, CEILING)]
    left_out = {it.title: why for it in asked if (why := it.missing())}
    return [it for it in asked if it.title not in left_out], left_out


def of_peer(peer: Peer) -> Contestant:
    """Let a peer take part."""
    return Contestant(
        name=peer.name,
        title=peer.title,
        remark=peer.remark,
        publication=peer.dialect.publication,
        versions=peer.versions(),
        running=peer.running,
        subscriber=peer.dialect.subscriber,
        publisher=peer.dialect.publisher,
    )


def of_ours(issuer: Issuer, jwks: str) -> Contestant:
    """Let this gateway take part, with a token of its own for each client."""
    return Contestant(
        name=OURS,
        title="this gateway",
        remark=REMARK,
        publication=publication(),
        versions={"realtime-gateway": __version__, **tools.versions_here(("fastapi", *UVICORN[1:]))},
        running=partial(our_server, jwks),
        subscriber=lambda port, number: ours(port, issuer, number, CHANNEL),
        publisher=lambda port: ours(port, issuer, 0, None, "P"),
    )
