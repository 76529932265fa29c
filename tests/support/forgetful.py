"""A gateway that is broken on purpose: it does not tell of every third join. Whoever audits presence must find it out.

A program: `python -P forgetful.py serve ...`, with the commands of the gateway.
"""

from __future__ import annotations

from itertools import count

from gateway import cli
from gateway.codecs import centrifuge_json
from gateway.protocol.messages import JoinPush, Push

EVERY = 3


def main() -> None:
    """Run the gateway with a codec that loses joins."""
    codec = centrifuge_json.codec
    encode, joins = codec.push, count(1)

    def push(what: Push) -> bytes | None:
        lost = isinstance(what, JoinPush) and next(joins) % EVERY == 0
        return None if lost else encode(what)

    codec.push = push  # type: ignore[method-assign, assignment] # being broken is what it is for
    cli.main()


if __name__ == "__main__":
    main()
