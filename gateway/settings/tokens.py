"""Settings of tokens: who may issue them, and how they are checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from gateway.settings.durations import Seconds
from gateway.settings.section import Section

Algorithm = Literal["EdDSA", "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "HS256", "HS384", "HS512"]
_CLAIM: Final = r"^[^\s]{0,128}$"
_LOOPBACK: Final = re.compile(r"localhost|127\.[0-9.]+|::1")


class IssuerSettings(Section):
    """One issuer: his keys, and what his tokens say."""

    issuer: str = Field(default="", description="Required `iss`; empty: that of `oidc_issuer`, or not checked.")
    oidc_issuer: str = Field(
        default="",
        description="URL of an OIDC issuer: its discovery document tells its JWKS, and it must be the `iss`.",
    )
    jwks_public_endpoint: str = Field(default="", description="URL of the auth service's JWKS.")
    algorithms: tuple[Algorithm, ...] = Field(
        default=(), description="Accepted `alg`; empty: all that the issuer's keys are for."
    )
    audience: str = Field(default="gateway", description="Required `aud`; empty: not checked.")
    leeway: Seconds = Field(default=30.0, le=60, description="Clock difference tolerated in `exp`, `nbf` and `iat`.")
    max_age: Seconds = Field(default=0.0, le=2_592_000, description="Age of a token by its `iat`, then 109; 0: any.")
    user_id_claim: str = Field(
        default="", pattern=_CLAIM, description="Claim with the user id, then required; empty: `sub`."
    )
    user_id_prefix: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_.:|@-]{0,64}$",
        description="Goes in front of every user id, so that users of several issuers stay apart.",
    )
    info_claims: tuple[str, ...] = Field(
        default=(), description="Claims that others see of a user, as members of his `info`, if there is no such claim."
    )
    channels_claim: str = Field(default="", pattern=_CLAIM, description="Claim with the channels; empty: `channels`.")

    @field_validator("jwks_public_endpoint", "oidc_issuer")
    @classmethod
    def _http(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("should be an http:// or https:// URL")
        return value

    @field_validator("oidc_issuer")
    @classmethod
    def _plain(cls, value: str) -> str:
        if "?" in value or "#" in value or value.endswith("/.well-known/openid-configuration"):
            raise ValueError("should be the issuer as it stands in `iss`, not the address of its discovery document")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.oidc_issuer and self.jwks_public_endpoint:
            raise ValueError("set oidc_issuer or jwks_public_endpoint, or put one of them into client.token.issuers")
        if self.oidc_issuer and self.issuer not in ("", self.oidc_issuer):
            raise ValueError("issuer should be empty or equal to oidc_issuer")
        if self.oidc_issuer and not self.audience:
            raise ValueError("audience should be set: an OIDC issuer signs tokens for others, too")
        return self

    @property
    def name(self) -> str:
        """The `iss` of his tokens; empty: any that no other issuer has."""
        return self.issuer or self.oidc_issuer

    @property
    def unguarded(self) -> bool:
        """Whether a foreign issuer's keys come over a network without TLS."""
        parts = urlsplit(self.oidc_issuer)
        return parts.scheme == "http" and not _LOOPBACK.fullmatch(parts.hostname or "")


class OtherIssuerSettings(IssuerSettings):
    """An entry of `client.token.issuers`."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.name:
            raise ValueError("issuer or oidc_issuer should be set: the `iss` tells whose keys a token is checked with")
        if not self.oidc_issuer and not self.jwks_public_endpoint:
            raise ValueError("oidc_issuer or jwks_public_endpoint should be set")
        if not self.audience:
            raise ValueError("audience should be set: the issuer may sign tokens for others, too")
        return self


class TokenSettings(IssuerSettings):
    """How tokens are checked."""

    hmac_secret_key: SecretStr = Field(
        default=SecretStr(""), description="Shared secret for HS256, HS384 and HS512 tokens."
    )
    hmac_previous_secret_key: SecretStr = Field(
        default=SecretStr(""), description="The shared secret before, while tokens signed with it are about."
    )
    hmac_previous_secret_key_valid_until: int = Field(
        default=0, ge=0, description="Unix second from which on the secret before is not taken; 0: for ever."
    )
    rsa_public_key: str = Field(default="", description="RSA public key in PEM form.")
    ecdsa_public_key: str = Field(default="", description="Public key of an elliptic curve in PEM form, EdDSA too.")
    issuers: tuple[OtherIssuerSettings, ...] = Field(
        default=(), description="Other issuers, each with any of the keys from `issuer` to `channels_claim`."
    )

    @field_validator("rsa_public_key", "ecdsa_public_key")
    @classmethod
    def _pem(cls, value: str, info: ValidationInfo) -> str:
        kinds = (RSAPublicKey,) if info.field_name == "rsa_public_key" else (EllipticCurvePublicKey, Ed25519PublicKey)
        try:
            right = not value or isinstance(load_pem_public_key(value.encode()), kinds)
        except (ValueError, UnsupportedAlgorithm):
            right = False
        if not right:
            raise ValueError("should be a public key of this kind in PEM form")
        return value

    @model_validator(mode="after")
    def _apart(self) -> Self:
        names = [it.name for it in self.issuers] + [self.name] * self.has_own_key
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"several issuers have the same name: {', '.join(twice)}")
        return self

    @property
    def public_keys(self) -> Sequence[str]:
        """The public keys that stand in the settings."""
        return tuple(filter(None, (self.rsa_public_key, self.ecdsa_public_key)))

    @property
    def secrets(self) -> Sequence[str]:
        """The shared secret and the one before it."""
        return self.hmac_secret_key.get_secret_value(), self.hmac_previous_secret_key.get_secret_value()

    @property
    def has_own_key(self) -> bool:
        """Whether there is anything to verify a token of the first issuer with."""
        return bool(self.jwks_public_endpoint or self.oidc_issuer or self.public_keys or any(self.secrets))

    @property
    def has_key(self) -> bool:
        """Whether there is anything to verify a token with."""
        return self.has_own_key or bool(self.issuers)

    @property
    def trusted(self) -> Sequence[IssuerSettings]:
        """All issuers that have keys."""
        return (*([self] if self.has_own_key else []), *self.issuers)
