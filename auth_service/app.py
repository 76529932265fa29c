"""`create_app`: the only place where the parts are joined."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from auth_service.accounts.bearers import Bearers
from auth_service.accounts.families import Families
from auth_service.accounts.grants import Grants
from auth_service.accounts.login import Accounts
from auth_service.accounts.policy import SubscriptionPolicy, by_name, by_pattern
from auth_service.api import browser, edge, operations, routes
from auth_service.api.parts import Parts
from auth_service.api.turns import Turns
from auth_service.audit import Audit
from auth_service.keys.ring import Keyring, times_of
from auth_service.metrics import Metrics
from auth_service.passwords import peppers
from auth_service.passwords.devices import Devices
from auth_service.passwords.hashes import Passwords
from auth_service.passwords.throttle import Throttles
from auth_service.settings import AuthSettings, load
from auth_service.store import Sessions, Transactions, Users, open_database
from auth_service.store.purging import purge_for_ever
from auth_service.telling.closures import Closures
from auth_service.telling.gateways import Gateways
from auth_service.tokens import Tokens


def create_app(
    settings: AuthSettings | None = None,
    *,
    policy: SubscriptionPolicy | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """Make an app; without settings they come from the environment. `clock` returns the Unix time.

    Keys, database and files are opened by the lifespan, which raises OperatorError if they cannot be.
    """
    chosen = settings or load()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        metrics = Metrics()
        base = _Base(chosen, metrics, Audit(metrics=metrics, file=chosen.audit_file, clock=clock), clock)
        async with AsyncExitStack() as stack:
            keyring = Keyring(chosen.key_dir, times_of(chosen), clock=clock, audit=base.audit)
            keyring.open()
            transactions = await stack.enter_async_context(open_database(chosen.database_url, migrate=chosen.migrate))
            passwords = stack.enter_context(closing(_passwords(base)))
            closures = _closures(base, transactions)
            opened = _Opened(keyring, transactions, passwords, closures)
            app.state.parts = _parts(base, opened, policy or _policy(chosen))
            app.state.metrics, app.state.keyring, app.state.transactions = metrics, keyring, transactions
            app.state.jwks_max_age = chosen.jwks_max_age_seconds
            _gauges(metrics, opened)
            await stack.enter_async_context(closures.running())
            await stack.enter_async_context(_kept("keyring", keyring.run()))
            await stack.enter_async_context(_kept("purge", purge_for_ever(transactions, clock)))
            yield

    app = FastAPI(title="Auth service", lifespan=lifespan, redoc_url=None)
    app.include_router(routes.router)
    app.include_router(operations.router)
    edge.install(app)
    # the last one added is the outermost
    app.add_middleware(edge.BodyLimit)
    app.add_middleware(edge.RequestLog)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=chosen.cors_origins,
        allow_credentials="*" not in chosen.cors_origins,  # anybody may read, but not with somebody's cookie
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", *browser.HEADERS],
        expose_headers=["Retry-After"],
        max_age=600,
    )
    app.add_middleware(Turns)
    return app


@dataclass(frozen=True, slots=True)
class _Base:
    """What nearly every part needs."""

    settings: AuthSettings
    metrics: Metrics
    audit: Audit
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Opened:
    """What is closed again at the end."""

    keyring: Keyring
    transactions: Transactions
    passwords: Passwords
    closures: Closures


def _passwords(base: _Base) -> Passwords:
    settings = base.settings
    return Passwords(
        workers=settings.hash_workers,
        limit=settings.hash_queue,
        memory_kib=settings.hash_memory_kib,
        passes=settings.hash_passes,
        peppers=peppers.read(settings.pepper_file),
        metrics=base.metrics,
    )


def _throttles(base: _Base, transactions: Transactions) -> Throttles:
    return Throttles(
        transactions,
        metrics=base.metrics,
        clock=base.clock,
        account_limit=base.settings.attempts_per_account,
        address_limit=base.settings.attempts_per_address,
    )


def _closures(base: _Base, transactions: Transactions) -> Closures:
    settings = base.settings
    gateways = Gateways(settings.gateway_urls, settings.gateway_api_key_file or settings.gateway_api_key)
    return Closures(sessions=transactions, gateways=gateways, metrics=base.metrics, audit=base.audit, clock=base.clock)


def _parts(base: _Base, opened: _Opened, policy: SubscriptionPolicy) -> Parts:
    settings, metrics, audit, clock = base.settings, base.metrics, base.audit, base.clock
    keyring, transactions, closures = opened.keyring, opened.transactions, opened.closures
    tokens = Tokens(keyring, settings, clock=clock)
    sessions = Sessions(
        transactions,
        closures,
        idle_seconds=settings.refresh_idle_seconds,
        grace_seconds=settings.refresh_grace_seconds,
    )
    accounts = Accounts(
        users=Users(transactions, closures),
        sessions=sessions,
        passwords=opened.passwords,
        throttles=_throttles(base, transactions),
        devices=Devices(transactions, clock=clock),
        tokens=tokens,
        settings=settings,
        metrics=metrics,
        audit=audit,
        wake=closures.wake,
        clock=clock,
    )
    families = Families(
        sessions=sessions,
        tokens=tokens,
        settings=settings,
        metrics=metrics,
        audit=audit,
        wake=closures.wake,
        clock=clock,
    )
    grants = Grants(tokens=tokens, policy=policy, metrics=metrics, audit=audit)
    bearers = Bearers(tokens=tokens, sessions=sessions, clock=clock)
    return Parts(accounts=accounts, families=families, grants=grants, bearers=bearers, settings=settings)


@asynccontextmanager
async def _kept(name: str, work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def _policy(settings: AuthSettings) -> SubscriptionPolicy:
    if settings.subscription_policy:
        return by_name(settings.subscription_policy)
    return by_pattern(settings.subscription_channels)


def _gauges(metrics: Metrics, opened: _Opened) -> None:
    keyring, passwords, closures = opened.keyring, opened.passwords, opened.closures
    metrics.gauge("auth_password_hash_queue", "Passwords waiting or being hashed.", lambda: passwords.pending)
    metrics.gauge("auth_signing_key_age_seconds", "Time for which the key that signs has done so.", keyring.age)
    metrics.gauge("auth_keys_published", "Keys in the JWKS.", lambda: len(keyring.published()))
    metrics.gauge("auth_key_faults", "What is wrong with the key directory now; see the log.", lambda: keyring.faults)
    metrics.gauge("auth_closures_pending", "Orders that the gateway has not taken yet.", lambda: closures.pending)
