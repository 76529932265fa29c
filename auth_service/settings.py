"""Settings: from variables `AUTH_<NAME>`, with defaults that run on one machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from auth_service.errors import OperatorError

# A list as JSON or separated by commas. Host and port are flags only: Kubernetes injects AUTH_PORT and
# AUTH_SERVICE_HOST for a Service named `auth`.
Names = Annotated[tuple[str, ...], NoDecode]


class AuthSettings(BaseSettings):
    """All that can be set; frozen."""

    model_config = SettingsConfigDict(env_prefix="AUTH_", frozen=True)

    database_url: str = Field(default="sqlite+aiosqlite:///auth.db", description="SQLAlchemy URL of the database")
    key_file: Path = Field(default=Path("auth_key.pem"), description="PKCS8 PEM signing key; made at the first start")
    issuer: str = Field(default="auth-service", min_length=1, description="claim `iss`")
    audience: str = Field(default="gateway", min_length=1, description="claim `aud`")
    access_token_seconds: int = Field(default=600, ge=30, le=3600, description="life of an access token")
    subscription_token_seconds: int = Field(default=600, ge=30, le=3600, description="life of a subscription token")
    ticket_seconds: int = Field(default=30, ge=5, le=60, description="life of a ticket; the gateway takes up to 60")
    refresh_idle_seconds: int = Field(default=7 * 86400, ge=60, description="how long a refresh token may lie unused")
    session_seconds: int = Field(default=30 * 86400, ge=60, description="life of a session, however often refreshed")
    registration: bool = Field(default=True, description="whether strangers may register")
    cors_origins: Names = Field(default=(), description="origins of pages that may call us from a browser")
    subscription_channels: Names = Field(
        default=("chat:*", "$chat:*"), description="channels a user gets tokens for; `*` at the end, `{user}` anywhere"
    )
    hash_workers: int = Field(default=2, ge=1, le=16, description="passwords hashed at once; 19 MiB each")
    hash_queue: int = Field(default=50, ge=1, description="passwords waiting or being hashed; more are answered 503")

    @field_validator("cors_origins", "subscription_channels", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [item.strip() for item in value.split(",") if item.strip()]


def load(**flags: Any) -> AuthSettings:
    """Read the settings; flags that are not None win over variables. Raises OperatorError."""
    try:
        return AuthSettings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        faults = (f"AUTH_{'.'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in error.errors())
        raise OperatorError("; ".join(faults)) from None
