"""Pings and pongs: finding out that nobody is there any more."""

from __future__ import annotations

from math import inf

from gateway.disconnects import BAD_REQUEST
from gateway.protocol.effects import Effect, Heartbeat
from gateway.protocol.state import State


def begin(state: State, now: float) -> None:
    """Plan a first ping somewhere in the second half of the interval: connections must not ping in step."""
    if state.policy.ping_interval > 0:
        state.ping_at = now + state.policy.ping_interval * (0.5 + state.jitter / 2)


def beat(state: State, now: float) -> list[Effect]:
    """Ping, and wait for the pong."""
    interval, timeout = state.policy.ping_interval, state.policy.pong_timeout
    state.ping_at += interval
    if state.ping_at <= now:  # our own loop stood still: no volley afterwards, neither by one nor by all in step
        begin(state, now)
    state.pinged = True
    if timeout > 0 and state.pong_by == inf:
        state.pong_by = now + timeout
    return [Heartbeat()]


def extend(state: State, now: float) -> None:
    """Give the pong its whole time from now, if one is awaited."""
    if state.pong_by < inf:
        state.pong_by = now + state.policy.pong_timeout
        state.reschedule()


def pong(state: State) -> list[Effect]:
    """Take a pong that is a message; one nobody asked for is a fault where clients know of pings."""
    if not state.pinged and state.policy.show_ping:
        return state.end(BAD_REQUEST)
    ponged(state)
    return []


def ponged(state: State) -> None:
    """Take note that somebody is there."""
    state.pinged = False
    state.pong_by = inf
    state.reschedule()
