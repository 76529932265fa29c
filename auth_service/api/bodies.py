"""Request and response bodies, and how they are read: JSON, or a form where OAuth2 has one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auth_service.accounts.names import USER_NAME
from auth_service.errors import Refused, bad_request

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

UserName = Annotated[str, Field(pattern=f"^{USER_NAME}$", examples=["alice"])]
Password = Annotated[str, Field(min_length=8, max_length=1024, examples=["correct horse battery staple"])]

_JWT = "eyJhbGciOiJFZERTQSIsImtpZCI6Ii4uLiIsInR5cCI6ImF0K2p3dCJ9.e30.c2lnbmF0dXJl"
_REFRESH = "rt_mZ2v0l7mJk3cX1Tq4bq0Qk2rJ6yV0m9o8t5uQe3rW1A"
_SESSION = "Yk3tV5m2QhSxJ0aZb7nR4w"

M = TypeVar("M", bound=BaseModel)


_ANYWHERE = (
    Refused(413, "too_large", "a body may have 8192 bytes"),
    Refused(500, "internal_error", "internal server error"),
    Refused(503, "unavailable", "the database does not answer, try again"),
)


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
    password: str = Field(max_length=1024, examples=["correct horse battery staple"])
    device_token: str | None = Field(default=None, max_length=256, description="As an earlier log-in here gave it.")


class Refresh(Body):
    """A refresh token; pages that have it in a cookie send none."""

    refresh_token: str | None = Field(default=None, max_length=256, examples=[_REFRESH])


class Logout(Body):
    """A refresh token, unless there is a bearer or a cookie."""

    refresh_token: str | None = Field(default=None, max_length=256, examples=[_REFRESH])
    all: bool = Field(default=False, description="End every session of the user.")


class PasswordChange(Body):
    """The password that there is, and the one that there shall be."""

    old_password: str = Field(max_length=1024, examples=["correct horse battery staple"])
    new_password: Password


class SubscriptionRequest(Body):
    """A channel, and the connection that the token is to be bound to."""

    channel: str = Field(min_length=1, max_length=255, examples=["$chat:team"])
    client: str | None = Field(
        default=None, min_length=1, max_length=64, examples=["8a5a4d3e-4f0b-4c6e-9d57-2f3f0a1c9b7e"]
    )


class Registered(BaseModel):
    """The new user's id."""

    user: str = Field(examples=["alice"])


class Pair(BaseModel):
    """RFC 6749 section 5.1; pages get a cookie and a CSRF token in the place of refresh and device token."""

    access_token: str = Field(examples=[_JWT])
    refresh_token: str | None = Field(default=None, examples=[_REFRESH])
    csrf_token: str | None = Field(default=None, description="For pages: the header X-CSRF-Token of what they send.")
    user: str | None = Field(default=None, description="For pages: whose cookie it is.", examples=["alice"])
    device_token: str | None = Field(
        default=None, description="From log-ins: to be sent with the next one, so that a guesser cannot lock you out."
    )
    token_type: str = "bearer"  # noqa: S105 - the word of the RFC
    expires_in: int = Field(examples=[600])


class Csrf(BaseModel):
    """What a page that was loaded anew needs to use the cookie that it has from before."""

    csrf_token: str | None = Field(description="None: there is no refresh cookie.")


class SubscriptionToken(BaseModel):
    """A subscription token."""

    token: str = Field(examples=[_JWT])
    expires_in: int = Field(examples=[600])


class Ticket(BaseModel):
    """A one-time ticket."""

    ticket: str = Field(examples=[_JWT])
    expires_in: int = Field(examples=[30])


class Me(BaseModel):
    """Who the bearer is."""

    user: str = Field(examples=["alice"])
    session: str = Field(examples=[_SESSION])
    created_at: float = Field(description="Unix time", examples=[1790000000.0])
    roles: list[str] = Field(examples=[["moderator"]])
    info: Any = Field(default=None, examples=[{"name": "Alice"}])
    channels: list[str] = Field(examples=[["news"]])


class OneSession(BaseModel):
    """A log-in that can still be refreshed; times are Unix seconds."""

    id: str = Field(examples=[_SESSION])
    current: bool = Field(description="whether it is the bearer's own")
    created_at: float = Field(examples=[1790000000.0])
    used_at: float = Field(description="log-in or last refresh", examples=[1790000600.0])
    ends_at: float = Field(examples=[1792592000.0])
    agent: str = Field(description="as the client called itself", examples=["Mozilla/5.0"])
    address: str = Field(examples=["203.0.113.7"])


class Sessions(BaseModel):
    """The user's sessions, the one last used first."""

    sessions: list[OneSession]


class Fault(BaseModel):
    """Why something is refused: a code for programs, a message for people."""

    code: str
    message: str


class Refusal(BaseModel):
    """The form of every answer that is an error."""

    error: Fault


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


def refusals(*every: Refused) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI is to know of a route's errors, beside those that any route may answer."""
    answers: dict[int | str, dict[str, Any]] = {}
    for each in (*every, *_ANYWHERE):
        answer = answers.setdefault(each.status, {"model": Refusal, "content": {JSON: {"examples": {}}}})
        answer["description"] = " or ".join(filter(None, (answer.get("description"), each.code)))
        example = {"value": {"error": {"code": each.code, "message": each.message}}}
        answer["content"][JSON]["examples"][each.code] = example
    return answers


def _faults(error: ValidationError) -> str:
    """Name the members and what is wrong, never what was sent: it may be a password."""
    return "; ".join(
        ": ".join(filter(None, (".".join(map(str, each["loc"])), each["msg"])))
        for each in error.errors(include_input=False, include_url=False, include_context=False)
    )
