"""Where a request comes from, as far as accounts care."""

from __future__ import annotations

from dataclasses import dataclass, field

AGENT_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Origin:
    """The client's address, what it calls itself, and the device token it brought."""

    address: str = ""
    agent: str = ""
    device: str | None = field(default=None, repr=False)


def origin(address: str, agent: str, device: str | None = None) -> Origin:
    """Return an origin without what would break a line of a list, and cut to what is stored."""
    return Origin(address[:64], "".join(filter(str.isprintable, agent))[:AGENT_CHARACTERS], device)
