"""What a plan is asked for: a workload, the room to be kept, and what a pod may have. Rates are per second."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import Final

MOST: Final = 1e10  # of anything: beyond it a number is a slip of the keyboard
MOST_CPU: Final = 0.75  # beyond it a node joins so many frames that its share says little about its load
LARGEST: Final = 65_000  # bytes of a publication that fit the gateway's limit for a message
GIB: Final = 1 << 30


class PlanError(ValueError):
    """What was asked for cannot be planned; the text says why and what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What all clients together do; shares from 0 to 1, sizes in bytes. Raises PlanError for what cannot be."""

    connections: int
    channels: int
    subscribers: float  # of each channel
    rate: float  # publications in all channels together
    size: int = 100  # of a publication's data
    history: float = 0.0  # share of channels and publications with history and recovery
    kept: int = 100  # publications of a channel that history keeps
    presence: float = 0.0  # share of subscriptions that are in presence
    announced: float = 0.0  # share of subscriptions whose coming and going the channel is told
    api: float = 0.0  # share of publications that come by the server API; clients send the others
    churn: float = 0.0  # connections that come, and as many that go
    token_seconds: float = 600.0  # life of a token

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name, least in (("connections", 1), ("channels", 1), ("subscribers", 0), ("rate", 0), ("kept", 0)):
            _between(name, getattr(self, name), least, MOST)
        _between("churn", self.churn, 0, MOST)
        _between("size", self.size, 1, LARGEST)
        _between("token_seconds", self.token_seconds, 1, MOST)
        for name in ("history", "presence", "announced", "api"):
            _between(name, getattr(self, name), 0, 1)
        if self.subscribers > self.connections:
            raise PlanError(
                f"{self.connections:,} connections are too few for channels of {self.subscribers:,.0f} subscribers: "
                "give fewer channels, or fewer --subscribers"
            )

    @property
    def subscriptions(self) -> float:
        """All of them."""
        return self.channels * self.subscribers

    @property
    def each(self) -> float:
        """Subscriptions of one connection."""
        return self.subscriptions / self.connections

    @property
    def events(self) -> float:
        """Joins and leaves that are told to channels, a second."""
        return 2 * self.churn * self.each * self.announced

    @property
    def deliveries(self) -> float:
        """Frames with publications, joins and leaves to all clients, a second."""
        return (self.rate + self.events) * self.subscribers

    def times(self, factor: float) -> Workload:
        """Return so many of it side by side: more connections and channels that do the same."""
        return replace(
            self,
            connections=round(self.connections * factor),
            channels=max(1, round(self.channels * factor)),
            rate=self.rate * factor,
            churn=self.churn * factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """What must be left when what may be lost is lost. `cpu`: share of a core that nodes and Redis may then use."""

    cpu: float = 0.6
    zones: int = 3
    lost_zones: int = 1
    lost_pods: int = 0
    back: float = 60.0  # seconds after which nearly all are to be back, as far as servers of Redis decide it

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        _between("cpu", self.cpu, 0.05, MOST_CPU)
        _between("zones", self.zones, 1, 100)
        _between("lost_zones", self.lost_zones, 0, 100)
        _between("lost_pods", self.lost_pods, 0, MOST)
        _between("back", self.back, 1, 3600)
        if self.lost_zones >= self.zones:
            raise PlanError(
                f"of {self.zones} zones, {self.lost_zones} lost leave nobody: lose fewer, or have more zones"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What one pod may have. `nodes`: processes, a core each (`gateway serve --workers`); memory in bytes."""

    nodes: int = 1
    memory: float = 2 * GIB
    connections: int = 50_000
    network: float = 1e9  # bits a second that it may send, or receive
    accepts: float = 500.0  # a second of one node: `client.connection_rate_limit`; 0: no limit

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        _between("nodes", self.nodes, 1, 1000)
        _between("memory", self.memory, GIB / 8, 1000 * GIB)
        _between("connections", self.connections, 1, MOST)
        _between("network", self.network, 1e6, 1e13)
        _between("accepts", self.accepts, 0, MOST)


def _between(name: str, value: float, least: float, most: float) -> None:
    if not isfinite(value) or not least <= value <= most:
        raise PlanError(f"{name.replace('_', ' ')} must be from {least:,g} to {most:,g}, not {value:,g}")
