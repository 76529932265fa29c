"""Settings: from variables `AUTH_<NAME>`, with defaults that run on one machine."""

from __future__ import annotations

import json
import os
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from auth_service import variables
from auth_service.errors import OperatorError

# A list as JSON or separated by commas. Host and port are flags only: Kubernetes injects AUTH_PORT and
# AUTH_SERVICE_HOST for a Service named `auth`.
Names = Annotated[tuple[str, ...], NoDecode]


class AuthSettings(BaseSettings):
    """All that can be set; frozen."""

    model_config = SettingsConfigDict(env_prefix=variables.PREFIX, frozen=True)

    database_url: str = Field(
        default="sqlite+aiosqlite:///auth.db", description="SQLAlchemy URL of the database: SQLite or PostgreSQL"
    )
    database_url_file: Path | None = Field(default=None, description="the same in a file, read at the start")
    migrate: bool = Field(default=True, description="whether a start brings the tables to the form of its release")
    key_dir: Path = Field(default=Path("auth_keys"), description="folder of the signing keys; made at the first start")
    jwks_max_age_seconds: int = Field(default=300, ge=5, le=3600, description="how long others may keep the JWKS")
    key_publish_ahead_seconds: int = Field(
        default=600,
        le=86400,
        validate_default=True,
        description="how long a key is published before it signs; at least twice the JWKS' max-age",
    )
    key_rotation_seconds: int = Field(
        default=30 * 86400,
        validate_default=True,
        description="how long a key signs until the next takes over; 0: until `keys rotate`",
    )
    key_leeway_seconds: int = Field(
        default=60, ge=1, description="how long a key is published beyond its last token; clocks differ by less"
    )
    issuer: str = Field(default="auth-service", min_length=1, description="claim `iss`")
    audience: str = Field(default="gateway", min_length=1, description="claim `aud`")
    access_token_seconds: int = Field(default=600, ge=5, le=3600, description="life of an access token")
    subscription_token_seconds: int = Field(default=600, ge=5, le=3600, description="life of a subscription token")
    ticket_seconds: int = Field(default=30, ge=5, le=60, description="life of a ticket; the gateway takes up to 60")
    refresh_idle_seconds: int = Field(default=7 * 86400, ge=60, description="how long a refresh token may lie unused")
    refresh_grace_seconds: int = Field(
        default=10,
        ge=0,
        le=60,
        description="how long a used refresh token gives its successor again, if that is unused",
    )
    session_seconds: int = Field(default=30 * 86400, ge=60, description="life of a session, however often refreshed")
    registration: bool = Field(default=True, description="whether strangers may register")
    cors_origins: Names = Field(default=(), description="origins of pages that may call us from a browser")
    trusted_proxies: Names = Field(
        default=(), description="networks of proxies whose X-Forwarded-For and X-Forwarded-Proto count, as 10.0.0.0/8"
    )
    subscription_channels: Names = Field(
        default=("chat:*", "$chat:*"), description="channels a user gets tokens for; `*` at the end, `{user}` anywhere"
    )
    subscription_policy: str = Field(
        default="", description="function that decides it instead, as `package.module:function`; see topics/accounts.md"
    )
    hash_workers: int = Field(default=2, ge=1, le=16, description="passwords hashed at once; 19 MiB each")
    hash_queue: int = Field(default=50, ge=1, description="passwords waiting or being hashed; more are answered 503")
    hash_memory_kib: int = Field(
        default=19_456, ge=19_456, le=1_048_576, description="Argon2id's memory for one password, in KiB"
    )
    hash_passes: int = Field(
        default=2, ge=2, le=16, description="Argon2id's passes; weaker hashes are made anew at the next log-in"
    )
    pepper_file: Path | None = Field(
        default=None, description="secrets beside the database, one a line: the first for new hashes, all for old ones"
    )
    attempts_per_account: int = Field(
        default=5, ge=1, le=100, description="passwords tried on one account before there are waits, 1 s and doubling"
    )
    attempts_per_address: int = Field(
        default=20,
        ge=1,
        description="passwords that one address tries in a minute, but for those that were right; also registrations",
    )
    gateway_urls: Names = Field(
        default=(), description="where the gateway's server API answers, told who is barred; empty: nobody is told"
    )
    gateway_api_key: SecretStr | None = Field(default=None, description="the gateway's `http_api.key`")
    gateway_api_key_file: Path | None = Field(default=None, description="the same in a file, read for each call")
    audit_file: Path | None = Field(default=None, description="JSON lines of the audit log, beside those in the log")

    @field_validator("key_publish_ahead_seconds")
    @classmethod
    def _ahead(cls, value: int, info: ValidationInfo) -> int:
        """Whoever fetched the JWKS just before a key was added has had the time to fetch it twice again."""
        least = 2 * info.data.get("jwks_max_age_seconds", 0)
        if value < least:
            raise ValueError(f"must be twice AUTH_JWKS_MAX_AGE_SECONDS or more, that is {least}")
        return value

    @field_validator("key_rotation_seconds")
    @classmethod
    def _rotation(cls, value: int, info: ValidationInfo) -> int:
        """Let at most one key wait for its time."""
        least = 2 * info.data.get("key_publish_ahead_seconds", 0)
        if value and value < least:
            raise ValueError(f"must be 0, or twice AUTH_KEY_PUBLISH_AHEAD_SECONDS or more, that is {least}")
        return value

    @field_validator("cors_origins", "subscription_channels", "gateway_urls", "trusted_proxies", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [item.strip() for item in value.split(",") if item.strip()]

    @field_validator("gateway_urls")
    @classmethod
    def _callable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or parts.query:
                raise ValueError("each is http:// or https:// and a host, without a password")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse patterns: a page of a listed origin may use the cookies of our users."""
        for origin in value:
            parts = urlsplit(origin)
            if parts.scheme not in {"http", "https"} or origin != f"{parts.scheme}://{parts.netloc}" or "*" in origin:
                raise ValueError(f"{origin!r} is not an origin such as https://chat.example.org")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(f"{error}; name networks such as 10.0.0.0/8") from None
        return value


def load(**flags: Any) -> AuthSettings:
    """Read the settings; flags that are not None win over files, and these over variables.

    Raises OperatorError, also for misspelt variables.
    """
    faults = list(variables.faults(os.environ, AuthSettings.model_fields))
    try:
        settings = AuthSettings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise OperatorError("; ".join([*faults, *map(_named, error.errors())])) from None
    if faults:
        raise OperatorError("; ".join(faults))
    if settings.database_url_file is None or flags.get("database_url") is not None:
        return settings
    return settings.model_copy(update={"database_url": _line_of(settings.database_url_file)})


def _line_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no text"
        raise OperatorError(f"AUTH_DATABASE_URL_FILE: {path}: {why}") from None


def _named(fault: ErrorDetails) -> str:
    name = variables.PREFIX + ".".join(map(str, fault["loc"])).upper()
    return f"{name}: {fault['msg'].removeprefix('Value error, ')}"
