"""Request and response bodies, and how they are read: JSON, or a form where OAuth2 has one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auth_service.errors import Refused, bad_request

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

# what `#user` and `dialog#a,b` can carry: no comma, no `#`, nothing that breaks a line
UserName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", examples=["alice"])]
Password = Annotated[str, Field(min_length=8, max_length=1024, examples=["correct horse battery staple"])]

M = TypeVar("M", bound=BaseModel)


class Body(BaseModel):
    """A body; members that we do not know are ignored, as OAuth2 asks."""

    model_config = ConfigDict(hide_input_in_errors=True)


class Registration(Body):
    """Who wants to be a user."""

    username: UserName
    password: Password


class Credentials(Body):
    """A log-in; what is too long for any user is wrong like any other."""

    username: str = Field(max_length=256, examples=["alice"])
    password: str = Field(max_length=1024)


class Refresh(Body):
    """A refresh token."""

    refresh_token: str = Field(max_length=256)


class Logout(Body):
    """A refresh token, unless there is a bearer."""

    refresh_token: str | None = Field(default=None, max_length=256)


class SubscriptionRequest(Body):
    """A channel, and the connection that the token is to be bound to."""

    channel: str = Field(min_length=1, max_length=255, examples=["$chat:team"])
    client: str | None = Field(default=None, min_length=1, max_length=64)


class Registered(BaseModel):
    """The new user's id."""

    user: str


class Pair(BaseModel):
    """RFC 6749 section 5.1."""

    access_token: str
    refresh_token: str
    token_type: str = "bearer"  # noqa: S105 - the word of the RFC
    expires_in: int


class SubscriptionToken(BaseModel):
    """A subscription token."""

    token: str
    expires_in: int


class Ticket(BaseModel):
    """A one-time ticket."""

    ticket: str
    expires_in: int


def read(model: type[M], *, forms: bool = False) -> Callable[[Request], Awaitable[M]]:
    """Return a dependency that reads the body as `model`. Raises Refused (400, 415)."""

    async def dependency(request: Request) -> M:
        body = await request.body()
        kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        try:
            if kind == JSON:
                return model.model_validate_json(body or b"{}")
            if forms and kind == FORM:
                return model.model_validate(dict(parse_qsl(body.decode("latin-1"), keep_blank_values=True)))
        except ValidationError as error:
            raise bad_request(_faults(error)) from None
        raise Refused(415, "unsupported_media_type", f"send {JSON}{f' or {FORM}' if forms else ''}")

    return dependency


def documented(model: type[BaseModel], *, forms: bool = False) -> dict[str, Any]:
    """Return what OpenAPI is to know of such a body."""
    schema = {"schema": model.model_json_schema()}
    content = {JSON: schema, FORM: schema} if forms else {JSON: schema}
    return {"requestBody": {"required": True, "content": content}}


def _faults(error: ValidationError) -> str:
    """Name the members and what is wrong, never what was sent: it may be a password."""
    return "; ".join(
        ": ".join(filter(None, (".".join(map(str, each["loc"])), each["msg"])))
        for each in error.errors(include_input=False, include_url=False, include_context=False)
    )
