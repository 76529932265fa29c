"""Workloads with a name, of any size: what a plan begins with, and the tables of the documentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from loadtests.plan.workload import Workload

ROOM: Final = 10


def rooms(connections: int) -> Workload:
    """Chat in rooms of ten: everybody speaks once a minute, sees who is there, and stays for ten minutes."""
    members = min(ROOM, connections)
    return Workload(
        connections=connections,
        channels=max(1, connections // members),
        subscribers=members,
        rate=connections / 60,
        history=1,
        presence=1,
        announced=1,
        churn=connections / 600,
    )


def live(connections: int) -> Workload:
    """A live event: one channel to which the backend publishes twice a second; everybody stays for twenty minutes."""
    return Workload(
        connections=connections,
        channels=1,
        subscribers=connections,
        rate=2,
        size=200,
        history=1,
        api=1,
        churn=connections / 1200,
    )


def notifications(connections: int) -> Workload:
    """A channel for each user: the backend tells each of them something every ten minutes; half an hour a visit."""
    return Workload(
        connections=connections,
        channels=connections,
        subscribers=1,
        rate=connections / 600,
        size=200,
        history=1,
        kept=10,
        api=1,
        churn=connections / 1800,
    )


NAMED: Final[Mapping[str, Callable[[int], Workload]]] = {"rooms": rooms, "live": live, "notifications": notifications}
