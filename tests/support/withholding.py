"""A gateway that is broken on purpose: it does not show everything. Whoever audits it must find that out.

A program: `python -P withholding.py publications serve ...`, or `joins`, with the commands of the gateway.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Final

from gateway import cli
from gateway.codecs import centrifuge_json
from gateway.contracts.codec import Codec, Dialect
from gateway.protocol.messages import JoinPush, PublicationPush, Push
from gateway.protocol.values import Hello

PUBLICATIONS: Final = 10  # every tenth of a channel, by its offset
JOINS: Final = 3  # every third of the node

_joins = count(1)
_WITHHELD: Final[Mapping[str, Callable[[Push], bool]]] = {
    "publications": lambda it: isinstance(it, PublicationPush) and it.publication.offset % PUBLICATIONS == 0,
    "joins": lambda it: isinstance(it, JoinPush) and next(_joins) % JOINS == 0,
}


class Withholding:
    """A codec with a hole. One of its own: compiled code does not see a method that is replaced in another."""

    def __init__(self, whole: Codec, withheld: Callable[[Push], bool]) -> None:
        self.name, self.subprotocols = whole.name, whole.subprotocols
        self.text, self.heartbeat = whole.text, whole.heartbeat
        self._whole, self._withheld = whole, withheld

    def dialect(self, hello: Hello) -> Dialect:
        """Converse as the whole one."""
        return self._whole.dialect(hello)

    def push(self, push: Push) -> bytes | None:
        """Show what is not withheld."""
        return None if self._withheld(push) else self._whole.push(push)


def program(what: str) -> Sequence[str]:
    """Return the command that runs a gateway which withholds `publications` or `joins`; arguments follow."""
    return [sys.executable, "-P", __file__, what]


def main() -> None:
    """Run the gateway with a hole in its codec."""
    centrifuge_json.codec = Withholding(centrifuge_json.codec, _WITHHELD[sys.argv.pop(1)])
    cli.main()


if __name__ == "__main__":
    main()
