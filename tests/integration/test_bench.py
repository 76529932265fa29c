"""The bench's own tools, on a small scale: that both generators see what is there."""

from __future__ import annotations

import shutil

import pytest

from loadtests.bench import PUBLISH, STOCK_PUBLISH, our_server, ours, stock_server
from loadtests.identity import Issuer
from loadtests.rig import Client, generator, generator_command, python, valkey

GENERATORS = {"c": generator_command(), "python": python("-m", "loadtests.generator")}


@pytest.mark.parametrize("language", ["c", "python"])
async def test_generators_count_what_both_servers_deliver(language: str) -> None:
    """Each publication that is acknowledged reaches each of ten subscribers, at ours and at the stock server."""
    if language == "c" and shutil.which("cc") is None:
        pytest.skip("no C compiler")
    issuer = Issuer()
    with issuer.serving() as jwks, valkey() as redis, our_server(jwks, redis) as us, stock_server(redis) as them:
        our_plan = [ours(us.port, issuer, it, "bench:0") for it in range(10)]
        our_plan.append(ours(us.port, issuer, 10, None, "P"))
        their_plan = [Client("S", them.port, "/subscribe") for _ in range(10)] + [Client("P", them.port, "/publish")]
        for plan, template in ((our_plan, PUBLISH), (their_plan, STOCK_PUBLISH)):
            async with generator(plan, command=GENERATORS[language]) as load:
                seen = await load.measure(seconds=0.5, window=4, channels=1, template=template)
            assert seen.acks > 50
            assert 0.8 < seen.deliveries / seen.acks / 10 < 1.25
        assert us.resident() > 20 << 20
        assert us.cpu() > 0
