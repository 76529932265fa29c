"""What clients call: register, log in, refresh, log out, change the password, end sessions, tokens for the gateway."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from auth_service.accounts.login import TokenPair
from auth_service.api.asking import Address, Bearer, IsLive, ThePage, TheParts, asked_from, unkept
from auth_service.api.bodies import (
    Credentials,
    Csrf,
    Logout,
    Me,
    OneSession,
    Pair,
    PasswordChange,
    Refresh,
    Registered,
    Registration,
    Sessions,
    SubscriptionRequest,
    SubscriptionToken,
    Ticket,
    documented,
    read,
    refusals,
)
from auth_service.api.browser import Page, csrf_token
from auth_service.errors import Refused, bad_request, busy, invalid_credentials, invalid_token, too_many_attempts
from auth_service.passwords.devices import AGAIN_SECONDS

router = APIRouter(tags=["accounts"])

_BAD = (bad_request("username: Field required"), Refused(415, "unsupported_media_type", "send application/json"))
_PAGE = (
    Refused(403, "origin_denied", "pages of this origin may not call us (AUTH_CORS_ORIGINS)"),
    Refused(403, "csrf_failed", "the CSRF token does not belong to the refresh cookie"),
)
_HASHED = (too_many_attempts(8), busy())
_CLOSED = Refused(403, "registration_closed", "registration is closed")
_TAKEN = Refused(409, "username_taken", "this username is taken")
_DENIED = Refused(403, "channel_denied", "you may not subscribe to this channel")
# described by hand: a parameter of the function would have FastAPI promise its own 422, which nothing can cause
_ID = {"parameters": [{"name": "session_id", "in": "path", "required": True, "schema": {"type": "string"}}]}
_NO_SESSION = Refused(404, "not_found", "there is no such session, or it has ended")


@router.post(
    "/register",
    status_code=201,
    openapi_extra=documented(Registration),
    responses=refusals(*_BAD, _CLOSED, _TAKEN, *_HASHED),
)
async def register(
    request: Request, parts: TheParts, body: Annotated[Registration, Depends(read(Registration))]
) -> Registered:
    """Add a user."""
    await parts.accounts.register(body.username, body.password, asked_from(request))
    return Registered(user=body.username)


@router.post(
    "/login",
    openapi_extra=documented(Credentials, forms=True),
    dependencies=[Depends(unkept)],
    response_model_exclude_none=True,
    responses=refusals(*_BAD, invalid_credentials(), _PAGE[0], *_HASHED),
)
async def login(
    request: Request,
    response: Response,
    parts: TheParts,
    page: ThePage,
    body: Annotated[Credentials, Depends(read(Credentials, forms=True))],
) -> Pair:
    """Begin a session; takes JSON or the password form of OAuth2.

    A page of a listed origin that sends `X-Requested-With: browser` gets refresh and device token as HttpOnly cookies.
    """
    origin = asked_from(request, page, body.device_token)
    return _pair(await parts.accounts.log_in(body.username, body.password, origin), page, response, parts)


@router.post(
    "/refresh",
    openapi_extra=documented(Refresh, forms=True),
    dependencies=[Depends(unkept)],
    response_model_exclude_none=True,
    responses=refusals(*_BAD, invalid_token("the refresh token is not valid"), *_PAGE),
)
async def refresh(
    response: Response,
    parts: TheParts,
    page: ThePage,
    address: Address,
    body: Annotated[Refresh, Depends(read(Refresh, forms=True))],
) -> Pair:
    """Exchange a refresh token, once, for new tokens.

    Who lost the answer may ask again within ten seconds and gets the same refresh token. Later uses end the session.
    """
    if page is None:
        if body.refresh_token is None:
            raise bad_request("refresh_token: Field required")
        return _pair(await parts.families.refresh(body.refresh_token, address), None, response, parts)
    with page.forgetting():
        return _pair(await parts.families.refresh(page.refresh_token(), address), page, response, parts)


@router.post("/csrf", dependencies=[Depends(unkept)], responses=refusals(_PAGE[0]))
async def csrf(page: ThePage) -> Csrf:
    """Give a page that was loaded anew the CSRF token of its refresh cookie: only listed origins can read it."""
    return Csrf(csrf_token=csrf_token(page.cookie) if page is not None and page.cookie is not None else None)


@router.post(
    "/logout",
    status_code=204,
    openapi_extra=documented(Logout, forms=True),
    responses=refusals(_BAD[1], invalid_token("a bearer token or a refresh token is needed"), *_PAGE),
)
async def logout(
    *,
    response: Response,
    parts: TheParts,
    page: ThePage,
    address: Address,
    bearer: Bearer,
    body: Annotated[Logout, Depends(read(Logout, forms=True))],
) -> None:
    """End the session of the bearer token, of the refresh token, or of the page's cookie; with `all`, all of the user.

    What they opened at the gateway is closed.
    """
    if bearer is not None:
        live = await parts.bearers.session(bearer.credentials)
    else:
        token = page.refresh_token() if page else body.refresh_token
        if token is None:
            raise invalid_token("a bearer token or a refresh token is needed")
        live = await parts.families.of_refresh_token(token)
    if page is not None:
        page.forget(response)
    if live is not None:
        await parts.families.log_out(live, address, everywhere=body.all)


@router.post(
    "/password",
    status_code=204,
    openapi_extra=documented(PasswordChange),
    responses=refusals(*_BAD, invalid_credentials(), invalid_token(), *_HASHED),
)
async def password(
    request: Request,
    parts: TheParts,
    page: ThePage,
    live: IsLive,
    body: Annotated[PasswordChange, Depends(read(PasswordChange))],
) -> None:
    """Change the password; all other sessions of the user end, and what they opened at the gateway is closed."""
    await parts.accounts.change_password(live, body.old_password, body.new_password, asked_from(request, page))


@router.get("/me", dependencies=[Depends(unkept)], responses=refusals(invalid_token()))
async def me(live: IsLive) -> Me:
    """Say who the bearer is, and what the next tokens will say."""
    claims = live.claims
    return Me(
        user=live.user,
        session=live.session_id,
        created_at=live.created_at,
        roles=list(claims.roles),
        info=claims.info,
        channels=list(claims.channels),
    )


@router.get("/sessions", dependencies=[Depends(unkept)], responses=refusals(invalid_token()))
async def sessions(parts: TheParts, live: IsLive) -> Sessions:
    """List the sessions of the user, the one last used first; at most 100."""
    listed = await parts.families.listed(live)
    return Sessions(
        sessions=[
            OneSession(
                id=each.session_id,
                current=each.session_id == live.session_id,
                created_at=each.created_at,
                used_at=each.used_at,
                ends_at=each.ends_at,
                agent=each.agent,
                address=each.address,
            )
            for each in listed
        ]
    )


@router.delete(
    "/sessions/{session_id}",  # noqa: FAST003 - see _ID
    status_code=204,
    openapi_extra=_ID,
    responses=refusals(invalid_token(), _NO_SESSION),
)
async def end_session(request: Request, parts: TheParts, live: IsLive, address: Address) -> None:
    """End one of the user's sessions; what it opened at the gateway is closed."""
    await parts.families.revoke(live, request.path_params["session_id"], address)


@router.post(
    "/tokens/subscription",
    openapi_extra=documented(SubscriptionRequest),
    dependencies=[Depends(unkept)],
    responses=refusals(*_BAD, invalid_token(), _DENIED),
)
async def subscription(
    parts: TheParts,
    live: IsLive,
    address: Address,
    body: Annotated[SubscriptionRequest, Depends(read(SubscriptionRequest))],
) -> SubscriptionToken:
    """Get a token to subscribe to one channel with."""
    signed = await parts.grants.subscription(live, body.channel, body.client, address)
    return SubscriptionToken(token=signed.token, expires_in=signed.expires_in)


@router.post("/ticket", dependencies=[Depends(unkept)], responses=refusals(invalid_token()))
async def ticket(parts: TheParts, live: IsLive, address: Address) -> Ticket:
    """Get a one-time ticket to connect with, for where only a URL can carry it."""
    signed = parts.grants.ticket(live, address)
    return Ticket(ticket=signed.token, expires_in=signed.expires_in)


def _pair(pair: TokenPair, page: Page | None, response: Response, parts: TheParts) -> Pair:
    answer = Pair(access_token=pair.access.token, expires_in=pair.access.expires_in)
    if page is None:
        return answer.model_copy(update={"refresh_token": pair.refresh_token, "device_token": pair.device_token})
    csrf = page.keep(response, pair.refresh_token, parts.settings.refresh_idle_seconds)
    if pair.device_token is not None:
        page.keep_device(response, pair.device_token, int(AGAIN_SECONDS))
    return answer.model_copy(update={"csrf_token": csrf, "user": pair.user})
