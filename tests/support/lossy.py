"""A gateway that is broken on purpose: it never shows every tenth publication. The oracle must find it out.

A program: `python -P lossy.py serve ...`, with the commands of the gateway.
"""

from __future__ import annotations

from gateway import cli
from gateway.codecs import centrifuge_json
from gateway.protocol.messages import PublicationPush, Push

EVERY = 10


def main() -> None:
    """Run the gateway with a codec that loses publications."""
    codec = centrifuge_json.codec
    encode = codec.push

    def push(what: Push) -> bytes | None:
        lost = isinstance(what, PublicationPush) and what.publication.offset % EVERY == 0
        return None if lost else encode(what)

    codec.push = push  # type: ignore[method-assign, assignment] # being broken is what it is for
    cli.main()


if __name__ == "__main__":
    main()
