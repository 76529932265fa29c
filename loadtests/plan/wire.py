"""Bytes on the wire: what JSON, WebSocket, TLS, TCP and RESP put around a publication."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from loadtests.plan.workload import Workload

NAME: Final = 20  # of a channel
PUSH: Final = len('{"push":{"channel":"","pub":{"data":}}}') + NAME
AUTHOR: Final = len(',"info":{"user":"","client":""}') + 12 + 36  # of a publication that a client sent
OFFSET: Final = len(',"offset":1000000')
COMMAND: Final = len('{"id":1000,"publish":{"channel":"","data":}}') + NAME
REPLY: Final = len('{"id":1000,"publish":{}}')
PACKET: Final = 52  # IPv4 and TCP with timestamps
SEGMENT: Final = 1448  # bytes of a stream in a packet
TLS: Final = 22  # around a record of TLS 1.3
RECORD: Final = 16384  # bytes in it at most
MASK: Final = 4  # of what clients send
HELLO: Final = (1500, 2900)  # TLS handshake, in and out
UPGRADE: Final = (1400, 500)  # HTTP head with connect, subscribe and a token; the answers
PING: Final = 25.0  # seconds between two
ENVELOPE: Final = 90  # around data in Redis: who, when, its head
PUBLISH: Final = 90 + NAME  # RESP of a plain PUBLISH around it
SCRIPT: Final = 420 + 4 * NAME  # of the script with its keys
PUSHED: Final = 60 + NAME  # of what a receiver is sent
PRESENCE: Final = 600  # of a presence script, with its answer
KEPT_UP: Final = 400  # of a probe or a renewal, with its answer
REQUEST: Final = 700  # of a call of the server API, over a connection that is kept, and its answer


@dataclass(frozen=True, slots=True)
class Both:
    """Bits a second, in and out."""

    into: float = 0.0
    out: float = 0.0

    def __add__(self, other: Both) -> Both:
        """Return the sum."""
        return Both(self.into + other.into, self.out + other.out)

    def times(self, factor: float) -> Both:
        """Return a multiple."""
        return Both(self.into * factor, self.out * factor)

    @property
    def wider(self) -> float:
        """The direction with more."""
        return max(self.into, self.out)


def header(payload: float) -> int:
    """Return the bytes in front of a WebSocket frame from the server."""
    return 2 if payload < 126 else 4 if payload < 65536 else 10


def frame(workload: Workload) -> float:
    """Return the bytes of one publication as its subscribers get it, the WebSocket header included."""
    payload = workload.size + PUSH + AUTHOR * (1 - workload.api) + OFFSET * workload.history
    return payload + header(payload)


def packets(size: float, *, tls: bool) -> float:
    """Return the bytes that one write of this size is on the wire; in the mean, so parts of packets count as such."""
    whole = size + (TLS * max(1.0, size / RECORD) if tls else 0)
    return whole + PACKET * max(1.0, whole / SEGMENT)


def acks(size: float) -> float:
    """Return the bytes that come back for one write: every other packet is acknowledged, a single one too."""
    return PACKET * max(1.0, size / SEGMENT / 2)


def clients(workload: Workload, together: float, *, tls: bool) -> Both:
    """Return what passes between the nodes and all clients, with so many frames in a write."""
    writes = workload.deliveries / together
    each = frame(workload) * together
    command = COMMAND + workload.size
    sent = workload.rate * (1 - workload.api)
    ping = workload.connections / PING
    hello = HELLO if tls else (0, 0)
    into = (
        writes * acks(each)
        + sent * (packets(command + header(command) + MASK, tls=tls) + PACKET)
        + ping * (packets(2 + 2 + MASK, tls=tls) + PACKET)
        + workload.churn * (hello[0] + UPGRADE[0] + 6 * PACKET)
    )
    out = (
        writes * packets(each, tls=tls)
        + sent * packets(REPLY + 2, tls=tls)
        + ping * (packets(2 + 2, tls=tls) + PACKET)
        + workload.churn * (hello[1] + UPGRADE[1] + 6 * PACKET)
    )
    return Both(8 * into, 8 * out)


def calls(workload: Workload) -> Both:
    """Return what backends send to all nodes, and get back."""
    each = workload.rate * workload.api
    return Both(8 * each * (REQUEST + workload.size), 8 * each * REQUEST / 2)


def redis(workload: Workload, nodes: float, here: float, renewals: float) -> Both:
    """Return what all nodes send to all servers (`into` these) and get; `here`: the share of nodes that hear each."""
    stored = ENVELOPE + workload.size
    command = PUBLISH * (1 - workload.history) + SCRIPT * workload.history
    presence = 2 * workload.churn * (1 + workload.each * workload.presence) * PRESENCE
    keeping = (renewals + nodes) * KEPT_UP
    into = workload.rate * (stored + command) + presence / 2 + keeping / 2
    heard = (workload.rate + workload.events) * nodes * here
    out = heard * (stored + PUSHED) + workload.rate * 60 + presence / 2 + keeping / 2
    framing = 1 + PACKET / SEGMENT  # pipelined: packets are full
    return Both(8 * into * framing, 8 * out * framing)
