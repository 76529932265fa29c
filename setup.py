"""Builds the packages; with GATEWAY_COMPILE=1 the hot path of the gateway is compiled, from the same source.

What is compiled is behaviour, and what is made for each message; the rest of the vocabulary (records of msgspec) is C
already, and what runs once an hour need not be.
"""

import os

from setuptools import setup

HOT = (
    "compact hub outbox recipients relay telling repair connection performing accounting waiting metrics timers shell",
    "joining hearing",
    "contracts/broker contracts/codec contracts/recorder contracts/transport",
    "protocol/compact protocol/channels protocol/connecting protocol/expiring protocol/heartbeat protocol/limits",
    "protocol/payloads protocol/policy protocol/publishing protocol/reading protocol/recovery protocol/repair",
    "protocol/session protocol/state protocol/subscribing",
    "transports/events transports/wire transports/frames transports/link transports/unattended",
    "engines/redis/wire engines/redis/packing engines/redis/broker engines/redis/envelope engines/redis/partition",
    "engines/redis/topology engines/redis/entries engines/redis/subscriptions engines/redis/commands",
    "codecs/_json codecs/centrifuge_json/codec codecs/centrifuge_json/decoding codecs/centrifuge_json/dialect",
    "codecs/centrifuge_json/encoding",
)


def extensions() -> list[object]:
    """Return what mypyc makes of the hot path; it needs a C compiler, and takes a minute or two."""
    from mypyc.build import mypycify  # noqa: PLC0415 - who does not compile needs no compiler

    paths = [f"gateway/{name}.py" for line in HOT for name in line.split()]
    return list(mypycify(paths, opt_level="3", debug_level="0"))


setup(ext_modules=extensions() if os.environ.get("GATEWAY_COMPILE") == "1" else [])
