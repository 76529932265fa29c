"""Which key signs, which are published, which may go, when the next is due: told by names and times of files alone.

Every replica that reads the same directory decides the same. A key is published as long as its file is there and it is
not retired; it signs from its time on, until the next one's time has come.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

FIRST = "first.pem"  # one name for all replicas that start in an empty directory

_TIMED = re.compile(r"([0-9]{1,12})(?:-[A-Za-z0-9_-]{1,64})?\.pem")


@dataclass(frozen=True, slots=True)
class Times:
    """How long each stage of a key's life lasts, in seconds."""

    publish_ahead: float  # it is published, and does not sign yet
    rotation: float  # it signs; 0: until somebody makes the next one
    outlives: float  # it only verifies: no token that it signed lives longer


@dataclass(frozen=True, slots=True, order=True)
class KeyFile:
    """A file of the key directory; those of a directory are ordered by when they sign."""

    since: float  # Unix time from which it signs
    name: str
    there_since: float = field(compare=False)  # Unix time of its last change
    ours: bool = field(compare=False)  # named by us: the next one may be made, and this one removed, without asking


def is_key(name: str) -> bool:
    """Whether a file of this name ought to be a key; drafts, and what Kubernetes puts beside a secret, are not."""
    return name.endswith(".pem") and not name.startswith(".")


def placed(name: str, changed_at: float, times: Times) -> KeyFile:
    """Read what the name of a key's file says.

    `<Unix second>.pem`, with an optional `-<label>`, signs from that second on. The first key signs since it was made.
    A name of any other form is an operator's own: it signs once it has been published for long enough.
    """
    if name == FIRST:
        return KeyFile(changed_at, name, changed_at, ours=True)
    timed = _TIMED.fullmatch(name)
    if timed is not None:
        return KeyFile(float(timed[1]), name, changed_at, ours=True)
    return KeyFile(changed_at + times.publish_ahead, name, changed_at, ours=False)


def signer(files: Sequence[KeyFile], now: float) -> KeyFile:
    """Return the one that signs: the newest whose time has come, or else the one whose time comes first."""
    return max((it for it in files if it.since <= now), default=min(files))


def published(files: Sequence[KeyFile], now: float, times: Times) -> list[KeyFile]:
    """Return all that are in the JWKS, in order: all that sign, will sign, or signed a token that may still live."""
    ordered = sorted(files)
    nexts = [*ordered[1:], None]
    return [it for it, after in zip(ordered, nexts, strict=True) if after is None or now < _retires_at(after, times)]


def removable(files: Sequence[KeyFile], now: float, times: Times) -> list[KeyFile]:
    """Return those of ours that nothing needs any more."""
    kept = published(files, now, times)
    return [it for it in files if it.ours and it not in kept]


def retires_at(file: KeyFile, files: Sequence[KeyFile], times: Times) -> float | None:
    """Return the Unix time at which a key leaves the JWKS; None while nothing follows it."""
    after = min((it for it in files if it > file), default=None)
    return None if after is None else _retires_at(after, times)


def due(files: Sequence[KeyFile], now: float, times: Times) -> int | None:
    """Return the Unix second from which the next key is to sign if it is time to make it, else None.

    An operator's own key is not followed by one of ours until the operator asks for it.
    """
    newest = max(files)
    planned = math.ceil(newest.since + times.rotation)
    if not times.rotation or not newest.ours or now < planned - times.publish_ahead - _margin(times):
        return None
    return planned if planned - times.publish_ahead >= now else soonest(files, now, times)


def soonest(files: Sequence[KeyFile], now: float, times: Times) -> int:
    """Return the first second from which a key that is made now may sign, after all those that are there.

    Rounded up, so that replicas that come upon it at about the same time choose the same name.
    """
    step = max(1, int(_margin(times)))
    rounded = math.ceil((now + times.publish_ahead) / step) * step
    return max(rounded, int(max(files).since) + 1)


def _retires_at(after: KeyFile, times: Times) -> float:
    # one that was put here after its own time can have taken over only then
    return max(after.since, after.there_since) + times.outlives


def _margin(times: Times) -> float:
    return times.publish_ahead / 10
