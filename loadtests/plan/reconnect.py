"""How long clients need to come back after a zone was lost: a tick by tick account, without chance."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf
from typing import Final

TICK: Final = 0.25  # seconds
HORIZON: Final = 2 * 3600.0  # seconds after which nobody waits any more
REFUSAL: Final = 0.0002  # seconds of a core: a 503, decided from the request head alone
LEAST, MOST = 0.5, 20.0  # seconds of the backoff of an SDK
STEPS: Final = ceil(MOST / LEAST).bit_length() + 1  # after so many attempts the backoff grows no more
SPARE: Final = 0.9  # share of a core that a survivor works at most: what clients that stayed get is not to stop
BACK: Final = 0.99  # share of the lost that must be back for the storm to be over


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """Who comes back to whom. Rates are of one node, a second."""

    lost: float  # connections
    nodes: float  # that survived
    cpu: float  # their share of a core without the storm
    accept: float  # seconds of a core: a connection with a token that this node has not seen
    admitted: float  # `client.connection_rate_limit`; 0: no limit
    redis: float  # entries into presence and reads that the servers can take beside the rest, as accepts of all nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One tick of the course; rates are of all nodes, a second."""

    at: float
    back: float  # share of the lost
    tried: float
    let_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What happens: seconds until so many are back (inf: never), refusals, and the accepts of all nodes a second."""

    half: float
    most: float  # 90 %
    all: float  # 99 %
    refused: float
    accepts: float
    bound: str  # what holds them up: cpu, admission, redis or backoff
    moments: list[Moment]


class _Waiting:
    """Clients that wait for their next attempt, by how many they have made, spread evenly over their backoff."""

    def __init__(self) -> None:
        ticks = 2 * ceil(MOST / TICK) + 4
        self._now = [0.0] * STEPS
        self._changes = [[0.0] * STEPS for _ in range(ticks)]
        self._at = 0

    def put(self, step: int, clients: float) -> None:
        """Let them wait for LEAST and a random time that doubles with each step, MOST in all at most."""
        step = min(step, STEPS - 1)
        first = self._at + ceil(LEAST / TICK)
        last = self._at + ceil(min(MOST, LEAST + LEAST * 2**step) / TICK)
        each = clients / (last - first)
        self._changes[first % len(self._changes)][step] += each
        self._changes[last % len(self._changes)][step] -= each

    def due(self) -> list[float]:
        """Return those whose time has come, and go on to the next tick."""
        changes = self._changes[self._at % len(self._changes)]
        self._now = [max(0.0, it + change) for it, change in zip(self._now, changes, strict=True)]
        changes[:] = [0.0] * STEPS
        self._at += 1
        return self._now


def play(storm: Storm) -> Course:
    """Return the course. All notice at once, as when a load balancer resets their links: the worst herd there is.

    A survivor takes attempts in the order in which they come: it lets in as long as its bucket and its core last.
    """
    spare = max(0.0, SPARE - storm.cpu) / storm.accept * storm.nodes
    bucket = storm.admitted * storm.nodes if storm.admitted else inf
    accepts = min(spare, bucket, storm.redis)
    bound = {spare: "cpu", bucket: "admission", storm.redis: "redis"}[accepts]
    waiting = _Waiting()
    waiting.put(0, storm.lost)
    moments: list[Moment] = []
    back = refused = at = 0.0
    tokens = bucket  # full: a burst of one second
    while back < BACK * storm.lost and at < HORIZON and (accepts > 0 or not storm.lost):
        due = waiting.due()
        tried = sum(due)
        let_in = min(tried, tokens, min(spare, storm.redis) * TICK)
        tokens = min(bucket, tokens - let_in + bucket * TICK)
        for step, clients in enumerate(due):
            if tried:
                waiting.put(step + 1, clients * (1 - let_in / tried))
        back += let_in
        refused += tried - let_in
        at += TICK
        moments.append(Moment(at=at, back=back / storm.lost, tried=tried / TICK, let_in=let_in / TICK))
    return Course(
        half=_when(moments, 0.5, storm.lost),
        most=_when(moments, 0.9, storm.lost),
        all=_when(moments, BACK, storm.lost),
        refused=refused,
        accepts=accepts,
        bound=bound if storm.lost > accepts else "backoff",
        moments=moments,
    )


def _when(moments: list[Moment], share: float, lost: float) -> float:
    return next((it.at for it in moments if it.back >= share), inf if lost else 0.0)
