"""Settings of tokens: issuers, their keys, and what the verifier makes of them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, get_args

import pytest

from gateway.app import create_gateway
from gateway.errors import TokenError
from gateway.settings import Checked, Settings, check
from gateway.settings.tokens import Algorithm
from gateway.tokens.keys import ALGORITHMS
from gateway.types import Identity
from tests.unit.tokens.signing import SECRET, Signer

OIDC = "https://id.example/realms/shop"
JWKS = "https://auth.example/jwks.json"
RSA = Signer.make("RS256")
EC = Signer.make("ES256")
ED = Signer.make("EdDSA")


def checked(tmp_path: Path, **token: Any) -> Checked:
    """Check a file with this section of tokens."""
    path = tmp_path / "gateway.json"
    path.write_text(json.dumps({"client": {"token": token}}), encoding="utf-8")
    return check(config=path, environ={})


def fault(tmp_path: Path, **token: Any) -> str:
    """Return the one fault of this section of tokens."""
    (found,) = checked(tmp_path, **token).faults
    return found


@pytest.mark.parametrize(
    "token",
    [
        {"oidc_issuer": OIDC},
        {"oidc_issuer": f"{OIDC}/", "issuer": f"{OIDC}/"},
        {"oidc_issuer": "http://127.0.0.1:9000"},
        {"rsa_public_key": RSA.pem().decode()},
        {"ecdsa_public_key": EC.pem().decode()},
        {"ecdsa_public_key": ED.pem().decode()},
        {"hmac_previous_secret_key": "k" * 32},
        {"issuers": [{"oidc_issuer": OIDC}]},
        {"jwks_public_endpoint": JWKS, "issuers": [{"oidc_issuer": OIDC, "user_id_prefix": "shop:"}]},
        {"issuers": [{"issuer": "a", "jwks_public_endpoint": JWKS, "algorithms": ["RS256"], "max_age": "1h"}]},
    ],
)
def test_ways_to_check_tokens(tmp_path: Path, token: dict[str, Any]) -> None:
    """Each of these alone is enough to start, without a warning."""
    result = checked(tmp_path, **token)
    assert ([], []) == (list(result.faults), list(result.warnings))


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (
            {"oidc_issuer": "id.example"},
            "client.token.oidc_issuer in gateway.json: should be an http:// or https:// URL",
        ),
        ({"oidc_issuer": "https://"}, "should be an http:// or https:// URL"),
        ({"oidc_issuer": f"{OIDC}/.well-known/openid-configuration"}, "should be the issuer as it stands in `iss`"),
        ({"oidc_issuer": f"{OIDC}?x=1"}, "should be the issuer as it stands in `iss`"),
        ({"oidc_issuer": OIDC, "jwks_public_endpoint": JWKS}, "set oidc_issuer or jwks_public_endpoint"),
        ({"oidc_issuer": OIDC, "issuer": "other"}, "issuer should be empty or equal to oidc_issuer"),
        ({"oidc_issuer": OIDC, "audience": ""}, "audience should be set"),
        (
            {"issuers": [{"jwks_public_endpoint": JWKS}]},
            "client.token.issuers[0] in gateway.json: issuer or oidc_issuer",
        ),
        ({"issuers": [{"issuer": "a"}]}, "oidc_issuer or jwks_public_endpoint should be set"),
        ({"issuers": [{"issuer": "a", "jwks_public_endpoint": JWKS, "audience": ""}]}, "audience should be set"),
        ({"issuers": [{"oidc_issuer": OIDC, "audiance": "x"}]}, "issuers[0].audiance in gateway.json: no such setting"),
        ({"issuers": [{"oidc_issuer": OIDC, "algorithms": ["none"]}]}, "algorithms[0] in gateway.json: should be"),
        ({"issuers": [{"oidc_issuer": OIDC}, {"oidc_issuer": OIDC}]}, f"several issuers have the same name: {OIDC}"),
        ({"oidc_issuer": OIDC, "issuers": [{"oidc_issuer": OIDC}]}, f"several issuers have the same name: {OIDC}"),
        ({"oidc_issuer": OIDC, "leeway": "61s"}, "client.token.leeway"),
        ({"oidc_issuer": OIDC, "user_id_prefix": "a#"}, "client.token.user_id_prefix"),
        ({"oidc_issuer": OIDC, "channels_claim": "a b"}, "client.token.channels_claim"),
        ({"rsa_public_key": "rubbish"}, "client.token.rsa_public_key in gateway.json: should be a public key"),
        ({"rsa_public_key": EC.pem().decode()}, "should be a public key of this kind"),
        ({"ecdsa_public_key": RSA.pem().decode()}, "should be a public key of this kind"),
    ],
)
def test_what_cannot_work_is_named(tmp_path: Path, token: dict[str, Any], expected: str) -> None:
    """A section that would refuse everybody, or let in whom it should not, stops the start and says why."""
    assert expected in fault(tmp_path, **token)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ({"oidc_issuer": "http://id.example"}, "the keys of http://id.example come over http"),
        ({"jwks_public_endpoint": JWKS, "issuers": [{"oidc_issuer": OIDC}]}, "equal user ids of theirs are one user"),
    ],
)
def test_what_is_dangerous_is_warned_of(tmp_path: Path, token: dict[str, Any], expected: str) -> None:
    """Keys of a foreign issuer without TLS, and issuers whose users could be taken for each other."""
    result = checked(tmp_path, **token)
    assert [] == list(result.faults)
    (warning,) = result.warnings
    assert expected in warning


def test_issuers_come_from_a_variable_too() -> None:
    """A list in a variable is one JSON value, and a fault in it is found in its place."""
    name = "GATEWAY_CLIENT__TOKEN__ISSUERS"
    result = check(config=None, environ={name: json.dumps([{"oidc_issuer": OIDC, "audience": "shop"}])})
    assert result.settings is not None
    assert [(OIDC, "shop")] == [(it.name, it.audience) for it in result.settings.client.token.issuers]
    (found,) = check(config=None, environ={name: '[{"oidc_issuer": 7}]'}).faults
    assert f"{name}[0].oidc_issuer: should be a valid string" == found


def test_the_algorithms_are_those_of_the_keys() -> None:
    """What can be set is what there is."""
    assert set(ALGORITHMS) == set(get_args(Algorithm))


def outcome(token: dict[str, Any], presented: str) -> Identity | TokenError | None:
    """Present a token to the verifier of a node with these settings."""
    gateway = create_gateway(Settings.model_validate({"client": {"token": token}}))
    return gateway.node._verifier.known(presented, time.time())


def claims(**more: Any) -> dict[str, Any]:
    """Return the claims of a good token."""
    return {"aud": "gateway", "sub": "alice", "exp": time.time() + 600, **more}


@pytest.mark.parametrize(
    ("token", "signer", "accepted"),
    [
        ({"rsa_public_key": RSA.pem().decode()}, RSA, True),
        ({"ecdsa_public_key": EC.pem().decode()}, EC, True),
        ({"ecdsa_public_key": ED.pem().decode()}, ED, True),
        ({"ecdsa_public_key": EC.pem().decode()}, RSA, False),
        ({"rsa_public_key": RSA.pem().decode(), "algorithms": ["ES256"]}, RSA, False),
        ({"hmac_secret_key": "k" * 32, "hmac_previous_secret_key": SECRET.decode()}, "previous", True),
        ({"hmac_previous_secret_key": SECRET.decode(), "hmac_previous_secret_key_valid_until": 1}, "previous", False),
    ],
)
def test_keys_in_the_settings_check_tokens(token: dict[str, Any], signer: Signer | str, accepted: bool) -> None:
    """Public keys and the secret before the present one are given to the verifier as they are set."""
    made = Signer("HS256", SECRET, "") if isinstance(signer, str) else signer
    assert accepted == isinstance(outcome(token, made.token(claims())), Identity)


def test_rules_in_the_settings_are_the_verifier_s() -> None:
    """Every rule of an issuer that can be set arrives."""
    token = {
        "rsa_public_key": RSA.pem().decode(),
        "issuer": OIDC,
        "audience": "shop",
        "leeway": "0s",
        "max_age": "1m",
        "user_id_claim": "uid",
        "user_id_prefix": "shop:",
        "info_claims": ["name"],
        "channels_claim": "rooms",
    }
    now = time.time()
    good = claims(iss=OIDC, aud="shop", iat=now, uid="7", name="Al", rooms=["a"])
    found = outcome(token, RSA.token(good))
    assert isinstance(found, Identity)
    assert ("shop:7", b'{"name":"Al"}', ["a"]) == (found.user, found.info, list(found.grants))
    for change in ({"iss": "x"}, {"aud": "gateway"}, {"iat": now - 61}, {"exp": now - 1}):
        assert isinstance(outcome(token, RSA.token({**good, **change})), TokenError), change
