"""What can be wrong with a run, and how one breach of the promise is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

Ending: TypeAlias = Literal["acknowledged", "refused", "doubtful", "unsent"]  # unsent: due, and nobody was connected
How: TypeAlias = Literal["unrecovered", "unsubscribed", "disconnected"]  # recovered: false, 2500, 3010
Kind: TypeAlias = Literal[
    "silent gap",  # a later publication came, this one never did, and nobody said so
    "silent tail",  # all is quiet, and the client lacks the newest ones without knowing it
    "silent epoch",  # the stream began anew, and the client still follows the old one, or was never told
    "inversion",  # a publication came after a later one
    "two histories",  # one place of the stream held different messages
    "duplicate",  # one message stands at two places of the stream
    "disordered stream",  # a message was acknowledged before another was sent, yet stands behind it
    "vanished",  # acknowledged, in no stream any more, and a listener was not told
    "ghost",  # refused for sure, or never published, yet delivered
]
KINDS: Final[tuple[Kind, ...]] = Kind.__args__  # type: ignore[attr-defined] # a Literal has them
ANY: Final = ""  # in place of an epoch: a number stands once, whatever the epoch
SHOWN: Final = 5  # offences of one kind that a summary names


@dataclass(frozen=True, slots=True)
class Offence:
    """One breach of the promise; `client` empty: the channel itself is to blame. Offsets from `first` to `last`."""

    kind: Kind
    channel: str
    client: str = ""
    epoch: str = ""
    first: int = 0
    last: int = 0
    detail: str = ""

    def __str__(self) -> str:
        """Return one line that says where to look."""
        who = f"{self.client} in {self.channel}" if self.client else self.channel
        offsets = f"{self.first}-{self.last}" if self.last > self.first else str(self.first)
        return f"{self.kind}: {who}, offset {offsets} of epoch {self.epoch!r} {self.detail}".rstrip()


class Hole(NamedTuple):
    """Numbers of one speaker that were passed over, the last one included."""

    first: int
    last: int
