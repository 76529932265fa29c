"""`create_app`: the only place where the parts are joined."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from auth_service import edge, operations, routes
from auth_service.accounts import Accounts
from auth_service.keys import SigningKey, load_or_make
from auth_service.metrics import Metrics
from auth_service.passwords import Passwords
from auth_service.policy import SubscriptionPolicy, by_pattern
from auth_service.settings import AuthSettings, load
from auth_service.store import open_store
from auth_service.tokens import Tokens


def create_app(
    settings: AuthSettings | None = None,
    *,
    policy: SubscriptionPolicy | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """Make an app; without settings they come from the environment. `clock` returns the Unix time.

    Key file and database are opened by the lifespan, which raises OperatorError if they cannot be.
    """
    chosen = settings or load()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        key = load_or_make(chosen.key_file)
        passwords = Passwords(workers=chosen.hash_workers, limit=chosen.hash_queue)
        async with open_store(chosen.database_url, now=clock()) as store:
            with closing(passwords):
                app.state.key, app.state.store = key, store
                app.state.metrics = _metrics(passwords, key, clock)
                app.state.accounts = Accounts(
                    store=store,
                    passwords=passwords,
                    tokens=Tokens(key, chosen, clock=clock),
                    policy=policy or by_pattern(chosen.subscription_channels),
                    settings=chosen,
                    metrics=app.state.metrics,
                    clock=clock,
                )
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
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type"],
        max_age=600,
    )
    return app


def _metrics(passwords: Passwords, key: SigningKey, clock: Callable[[], float]) -> Metrics:
    metrics = Metrics()
    metrics.gauge("auth_password_hash_queue", "Passwords waiting or being hashed.", lambda: passwords.pending)
    metrics.gauge("auth_signing_key_age_seconds", "Age of the signing key.", lambda: clock() - key.made_at)
    return metrics
