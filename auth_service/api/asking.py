"""Who asks, from where, and for which part of us: what routes depend on."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from auth_service.accounts.origin import Origin, origin
from auth_service.api.browser import Page, page_of
from auth_service.api.parts import Parts
from auth_service.errors import invalid_token
from auth_service.store import Live

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="An access token, as log-ins and refreshes give")


def _parts(request: Request) -> Parts:
    return cast("Parts", request.app.state.parts)


def unkept(response: Response) -> None:
    """Keep caches from an answer that holds tokens (RFC 6749 section 5.1)."""
    response.headers["Cache-Control"] = "no-store"


def asked_from(request: Request, page: Page | None = None, device: str | None = None) -> Origin:
    """Return where a request comes from; the device token of a page is in its cookie."""
    address = request.client.host if request.client else ""
    return origin(address, request.headers.get("user-agent", ""), page.device if page else device)


TheParts = Annotated[Parts, Depends(_parts)]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def _page(request: Request, parts: TheParts) -> Page | None:
    return page_of(request, parts.settings.cors_origins)


async def _live(parts: TheParts, bearer: Bearer) -> Live:
    if bearer is None:
        raise invalid_token("a bearer token is needed")
    live = await parts.bearers.session(bearer.credentials)
    if live is None:
        raise invalid_token("the session has ended")
    return live


def _address(request: Request) -> str:
    return asked_from(request).address


ThePage = Annotated[Page | None, Depends(_page)]
IsLive = Annotated[Live, Depends(_live)]
Address = Annotated[str, Depends(_address)]
