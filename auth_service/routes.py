"""What clients call: register, log in, refresh, log out, tokens for the gateway."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request, Response

from auth_service.accounts import Accounts, TokenPair
from auth_service.bodies import (
    Credentials,
    Logout,
    Pair,
    Refresh,
    Registered,
    Registration,
    SubscriptionRequest,
    SubscriptionToken,
    Ticket,
    documented,
    read,
)
from auth_service.errors import invalid_token

router = APIRouter(tags=["accounts"])


def _accounts(request: Request) -> Accounts:
    return cast("Accounts", request.app.state.accounts)


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _needed_bearer(request: Request) -> str:
    token = _bearer(request)
    if token is None:
        raise invalid_token("a bearer token is needed")
    return token


def _unkept(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"  # RFC 6749 section 5.1


Rules = Annotated[Accounts, Depends(_accounts)]
Needed = Annotated[str, Depends(_needed_bearer)]


@router.post("/register", status_code=201, openapi_extra=documented(Registration))
async def register(accounts: Rules, body: Annotated[Registration, Depends(read(Registration))]) -> Registered:
    """Add a user."""
    await accounts.register(body.username, body.password)
    return Registered(user=body.username)


@router.post("/login", openapi_extra=documented(Credentials, forms=True), dependencies=[Depends(_unkept)])
async def login(accounts: Rules, body: Annotated[Credentials, Depends(read(Credentials, forms=True))]) -> Pair:
    """Begin a session; takes JSON or the password form of OAuth2."""
    return _pair(await accounts.log_in(body.username, body.password))


@router.post("/refresh", openapi_extra=documented(Refresh, forms=True), dependencies=[Depends(_unkept)])
async def refresh(accounts: Rules, body: Annotated[Refresh, Depends(read(Refresh, forms=True))]) -> Pair:
    """Exchange a refresh token, once, for new tokens."""
    return _pair(await accounts.refresh(body.refresh_token))


@router.post("/logout", status_code=204, openapi_extra=documented(Logout, forms=True))
async def logout(
    accounts: Rules,
    bearer: Annotated[str | None, Depends(_bearer)],
    body: Annotated[Logout, Depends(read(Logout, forms=True))],
) -> None:
    """End the session of the bearer token, or of the refresh token."""
    await accounts.log_out(bearer=bearer, refresh_token=body.refresh_token)


@router.post("/tokens/subscription", openapi_extra=documented(SubscriptionRequest), dependencies=[Depends(_unkept)])
async def subscription(
    accounts: Rules, bearer: Needed, body: Annotated[SubscriptionRequest, Depends(read(SubscriptionRequest))]
) -> SubscriptionToken:
    """Get a token to subscribe to one channel with."""
    signed = await accounts.subscription(bearer, body.channel, body.client)
    return SubscriptionToken(token=signed.token, expires_in=signed.expires_in)


@router.post("/ticket", dependencies=[Depends(_unkept)])
async def ticket(accounts: Rules, bearer: Needed) -> Ticket:
    """Get a one-time ticket to connect with, for where only a URL can carry it."""
    signed = await accounts.ticket(bearer)
    return Ticket(ticket=signed.token, expires_in=signed.expires_in)


def _pair(pair: TokenPair) -> Pair:
    return Pair(access_token=pair.access.token, refresh_token=pair.refresh_token, expires_in=pair.access.expires_in)
