"""Tokens: issuers whom we believe, their keys, what tokens say, and a cache of what was found good."""

from gateway.tokens.claims import Rules
from gateway.tokens.issuers import Trust
from gateway.tokens.verifier import TokenVerifier

__all__ = ["Rules", "TokenVerifier", "Trust"]
