"""Discovery documents: whose they are, and where they may lead."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import OperatorError
from gateway.tokens.discovery import Discovery, document_url, jwks_address
from tests.support.clock import ManualClock

ISSUER = "https://id.example/realms/shop"


def document(**members: object) -> bytes:
    """Write a document; members replace ours, None takes them out."""
    whole = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/certs", "token_endpoint": f"{ISSUER}/token", **members}
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        ("https://id.example", "https://id.example/.well-known/openid-configuration"),
        ("https://id.example/", "https://id.example/.well-known/openid-configuration"),
        (ISSUER, f"{ISSUER}/.well-known/openid-configuration"),
    ],
)
def test_the_document_stands_below_the_issuer(issuer: str, expected: str) -> None:
    """The path is appended, with one slash."""
    assert expected == document_url(issuer)


def test_a_document_leads_to_keys() -> None:
    """The keys may stand on another host, as with some issuers they do."""
    assert f"{ISSUER}/certs" == jwks_address(document(), ISSUER)
    assert "https://cdn.example/k" == jwks_address(document(jwks_uri="https://cdn.example/k"), ISSUER)


def test_without_tls_leads_on_without() -> None:
    """Only an issuer that is asked without TLS, as in a demo, may publish his keys so."""
    plain = "http://127.0.0.1:9000"
    assert f"{plain}/k" == jwks_address(document(issuer=plain, jwks_uri=f"{plain}/k"), plain)
    assert "https://id.example/k" == jwks_address(document(issuer=plain, jwks_uri="https://id.example/k"), plain)


@pytest.mark.parametrize(
    "body",
    [
        document(issuer="https://evil.example"),
        document(issuer=f"{ISSUER}/"),
        document(issuer=ISSUER.upper()),
        document(issuer=None),
        document(issuer=7),
        document(jwks_uri=None),
        document(jwks_uri=["https://id.example/k"]),
        document(jwks_uri="http://id.example/k"),
        document(jwks_uri="file:///etc/passwd"),
        document(jwks_uri="//id.example/k"),
        document(jwks_uri="https://"),
        document(jwks_uri="https://user:password@id.example/k"),
        document(jwks_uri="https://[broken/k"),
        b"<html>sign in</html>",
        b"[]",
        b"\xff",
        b"[" * 5000,
    ],
)
def test_what_is_no_document_of_the_issuer_leads_nowhere(body: bytes) -> None:
    """Another issuer, an address without TLS or of no host, and whatever is not JSON at all."""
    with pytest.raises(ValueError, match=r".+"):
        jwks_address(body, ISSUER)


@given(st.binary(max_size=200))
def test_no_answer_breaks_it(body: bytes) -> None:
    """Whatever stands there is an address or a ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        jwks_address(body, ISSUER)


@pytest.mark.parametrize("url", ["id.example", "ftp://id.example", "https://", "https://[broken"])
def test_what_is_no_issuer_is_refused_at_the_start(url: str) -> None:
    """An issuer that cannot be asked is named at the start."""
    with pytest.raises(OperatorError, match="OIDC issuer is not an http"):
        Discovery(url, clock=ManualClock())
