"""A foreign OIDC issuer in a process of its own; `oidc/provider.mjs` is the other end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

PROGRAM = Path(__file__).parent / "oidc" / "provider.mjs"
SECONDS = 600  # life of a token
PATIENCE = 20.0
SECRET = "secret-of-a-program"


class Provider:
    """One issuer. Its clients are users, too: they get tokens in their own name."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.url = ""
        self.keys: list[str] = []

    async def told(self) -> None:
        """Read what it says."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while not (line := await self._process.stdout.readline()).startswith(b"{"):
                assert line, "the issuer ended"  # other lines are the library's own
        said = json.loads(line)
        self.url, self.keys = said["url"], said["keys"]

    async def rotate(self) -> None:
        """Let it sign with new keys from now on; the old ones stay published."""
        await self._do("rotate")

    async def drop(self) -> None:
        """Let it publish the old keys no more."""
        await self._do("drop")

    async def _do(self, verb: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{verb}\n".encode())
        await self.told()

    async def token(self, client: str, algorithm: str = "RS256", *, audience: str = "gateway") -> str:
        """Get an access token by the grant `client_credentials`, for a resource (RFC 8707)."""
        form = {"grant_type": "client_credentials", "resource": f"https://{audience}.example/{algorithm}"}
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            answer = await http.post(f"{self.url}/token", data=form, auth=(client, SECRET))
        assert 200 == answer.status_code, answer.text
        return str(answer.json()["access_token"])


@asynccontextmanager
async def provider(clients: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[Provider]:
    """Run an issuer with clients, by id, and what its tokens are to say of each."""
    options = {
        "seconds": SECONDS,
        "clients": {name: {"secret": SECRET, "claims": claims} for name, claims in clients.items()},
    }
    environment = {"PATH": os.environ["PATH"], "NODE_ENV": "test"}
    command = [str(shutil.which("node")), str(PROGRAM), json.dumps(options)]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment)
    it = Provider(process)
    try:
        await it.told()
        yield it
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
