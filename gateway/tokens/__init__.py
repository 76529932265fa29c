"""Tokens: signatures against configured keys and an issuer's JWKS, claims, and a cache of what was found good."""

from gateway.tokens.verifier import TokenVerifier

__all__ = ["TokenVerifier"]
