"""A program that sends log-ins all at once, each from an address of its own; needs nothing but Python.

Standard input: `{"port": int, "attempts": [{"from": address, "body": object}, ...]}`; standard output: for each attempt
`["<status> <code of the refusal, else ok>", Retry-After or null, seconds]`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

SECONDS = 60.0


async def _attempt(port: int, attempt: dict[str, Any], start: asyncio.Barrier) -> tuple[str, int | None, float]:
    here = (attempt["from"], 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=here)
    body = json.dumps(attempt["body"]).encode()
    head = f"POST /login HTTP/1.1\r\nHost: auth\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    await start.wait()
    began = time.perf_counter()
    writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
    answer = (await reader.read()).decode()
    took = time.perf_counter() - began
    writer.close()
    head, _, content = answer.partition("\r\n\r\n")
    fields = [field.partition(":") for field in head.split("\r\n")]
    waits = [int(value) for name, _, value in fields if name.lower() == "retry-after"]
    code = f"{head.split()[1]} {json.loads(content).get('error', {}).get('code', 'ok')}"
    return code, waits[0] if waits else None, took


async def _main() -> None:
    told = json.load(sys.stdin)
    start = asyncio.Barrier(len(told["attempts"]))
    async with asyncio.timeout(SECONDS):
        answers = await asyncio.gather(*(_attempt(told["port"], each, start) for each in told["attempts"]))
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    asyncio.run(_main())
