"""Bad tokens of every kind, each good but for one fault, for a gateway that believes two issuers."""

from __future__ import annotations

import json
import math
from base64 import standard_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from gateway.tokens import Rules, Trust
from tests.unit.tokens.signing import SECRET, Signer, hs256, join, part, unpart

ISSUER, OTHER_ISSUER = "https://issuer.example", "https://other.example"

ED = Signer.make("EdDSA", "ed")
RSA = Signer.make("RS256", "rsa")
EC = Signer.make("ES256", "ec")
HMAC = Signer("HS256", SECRET, "")
WEAK = Signer("RS256", generate_rsa(65537, 1024), "weak")  # noqa: S505 - that is what is wrong with it
OFF_CURVE = {**EC.jwk(), "kid": "off", "y": EC.jwk()["x"]}
OTHER = Signer.make("EdDSA", "other")  # the key of the other issuer
STRANGER = Signer.make("EdDSA", "stranger")

PUBLISHED = [ED.jwk(), RSA.jwk(), EC.jwk(), WEAK.jwk(), OFF_CURVE]
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def trusted(keys: str, other_keys: str) -> tuple[Trust, Trust]:
    """Return the two issuers, whose keys stand at these URLs; the first has a shared secret and a public key, too."""
    first = Trust(rules=Rules(issuer=ISSUER), jwks_url=keys, hmac_secret=SECRET, public_keys=[RSA.pem()])
    return first, Trust(rules=Rules(issuer=OTHER_ISSUER), jwks_url=other_keys, algorithms=frozenset({"EdDSA"}))


@dataclass(frozen=True, slots=True)
class Forger:
    """Makes them for a time, `now`; `url` is a server that no gateway must ask."""

    now: float
    url: str

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a good token; None takes one out."""
        whole = {
            "iss": ISSUER,
            "aud": "gateway",
            "sub": "mallory",
            "jti": "t1",
            "iat": self.now - 1,
            "exp": self.now + 600,
            **changes,
        }
        return {name: value for name, value in whole.items() if value is not None}

    def good(self) -> Iterator[str]:
        """Yield a good token of every key, without which being refused would prove nothing."""
        yield from (it.token(self.claims(), typ="at+jwt") for it in (ED, RSA, EC, HMAC))
        yield OTHER.token(self.claims(iss=OTHER_ISSUER))

    def bad(self) -> Mapping[str, str]:
        """Return all bad tokens by their fault."""
        groups = (
            self._algorithms,
            self._keys,
            self._key_ids,
            self._headers,
            self._types,
            self._signatures,
            self._forms,
            self._audiences,
            self._times,
            self._contents,
        )
        return {name: token for group in groups for name, token in group()}

    def misplaced(self) -> Mapping[str, str]:
        """Return tokens that are good, but for something else than to connect with."""
        return {
            "ticket": ED.token(self.claims(exp=self.now + 20), typ="ticket+jwt"),
            "subscription token": ED.token(self.claims(channel="$secret")),
        }

    def _algorithms(self) -> Iterator[tuple[str, str]]:
        for name in ("none", "None", "NONE", "nOnE", "", " none", "none\u0000"):
            yield f"alg {name!r} with a signature", join({"alg": name}, self.claims(), b"s")
            yield f"alg {name!r} without signature", join({"alg": name}, self.claims(), b"")
        unsigned = join({"alg": "HS256", "kid": "rsa"}, self.claims(), b"").removesuffix(".")
        yield "HS256 with the public key as the secret, PEM", hs256(RSA.pem(), unsigned)
        yield "HS256 with the public key as the secret, PEM stripped", hs256(RSA.pem().strip(), unsigned)
        yield "HS256 with the public key as the secret, JWK", hs256(json.dumps(RSA.jwk()).encode(), unsigned)
        yield "HS256 with an empty secret", hs256(b"", unsigned)
        yield "alg in another case", ED.token(self.claims(), alg="eddsa")
        yield "alg of another key", EC.token(self.claims(), alg="RS256")
        yield "alg that no key is for", RSA.token(self.claims(), alg="PS256")
        yield "alg not allowed for the issuer", EC.token(self.claims(iss=OTHER_ISSUER))

    def _keys(self) -> Iterator[tuple[str, str]]:
        yield "key of nobody", STRANGER.token(self.claims())
        yield "key of nobody under a known id", STRANGER.token(self.claims(), kid="ed")
        yield "key of another issuer", OTHER.token(self.claims())
        yield "key of ours in another issuer's name", ED.token(self.claims(iss=OTHER_ISSUER))
        yield "secret of ours in another issuer's name", HMAC.token(self.claims(iss=OTHER_ISSUER))
        yield "RSA key of 1024 bits", WEAK.token(self.claims())
        yield "EC point off the curve", EC.token(self.claims(), kid="off")
        yield "another secret", Signer("HS256", b"x" * 32, "").token(self.claims())

    def _key_ids(self) -> Iterator[tuple[str, str]]:
        ids = {
            "path": "../../../../dev/null",
            "absolute path": "/proc/self/environ",
            "SQL": "x' UNION SELECT 'secret' --",
            "URL": f"{self.url}/jwks.json",
            "shell": "|id;$(id)`id`",
            "template": "{{7*7}}${jndi:ldap://127.0.0.1/x}",
            "control characters": "ed\r\nX-Key: 1\u0000",
            "long": "k" * 257,
            "very long": "k" * 6000,
            "number": 7,
            "object": {"kid": "ed"},
            "list": ["ed"],
            "bool": True,
        }
        for name, key_id in ids.items():
            yield f"kid: {name}", STRANGER.token(self.claims(), kid=key_id)
        yield "kid missing where there are several keys", ED.token(self.claims(), kid=None)

    def _headers(self) -> Iterator[tuple[str, str]]:
        there = f"{self.url}/jwks.json"
        yield "jku", STRANGER.token(self.claims(), jku=there)
        yield "jku under a known id", STRANGER.token(self.claims(), jku=there, kid="ed")
        yield "x5u", STRANGER.token(self.claims(), x5u=there, kid="ed")
        yield "jwk embedded", STRANGER.token(self.claims(), jwk=STRANGER.jwk())
        yield "jwk embedded under a known id", STRANGER.token(self.claims(), jwk=STRANGER.jwk(), kid="ed")
        yield "x5c embedded", STRANGER.token(self.claims(), x5c=[standard_b64encode(STRANGER.pem()).decode()], kid="ed")
        yield "iss that leads elsewhere", STRANGER.token(self.claims(iss=self.url), jku=there)
        yield "crit", ED.token(self.claims(), crit=["exp"])
        yield "crit empty", ED.token(self.claims(), crit=[])
        yield "payload unencoded (b64)", ED.token(self.claims(), b64=False)
        yield "payload unencoded (b64 and crit)", ED.token(self.claims(), b64=False, crit=["b64"])
        yield "alg twice", self._signed(b'{"alg":"none","alg":"EdDSA","kid":"ed"}', self.claims())
        yield "kid twice", self._signed(b'{"alg":"EdDSA","kid":"x","kid":"ed"}', self.claims())

    def _types(self) -> Iterator[tuple[str, str]]:
        for typ in ("refresh+jwt", "logout+jwt", "device+jwt", "dpop+jwt", "secevent+jwt", "application/at", "at", ""):
            yield f"typ {typ!r}", ED.token(self.claims(), typ=typ)
        yield "typ a number", ED.token(self.claims(), typ=1)
        yield "ticket for too long", ED.token(self.claims(), typ="ticket+jwt")
        yield "ID token, by its claims", RSA.token(self.claims(typ="ID"))
        yield "ID token, by at_hash", RSA.token(self.claims(at_hash="77QmUPtjPfzWtF2AnpK9RQ"))
        yield "refresh token, by its claims", RSA.token(self.claims(typ="Refresh"))
        event = "http://schemas.openid.net/event/backchannel-logout"
        yield "logout token, by its claims", RSA.token(self.claims(events={event: {}}))

    def _signatures(self) -> Iterator[tuple[str, str]]:
        for signer in (ED, EC, RSA):
            unsigned, _, signature = signer.token(self.claims()).rpartition(".")
            raw = unpart(signature)
            flipped = raw[:-1] + bytes([raw[-1] ^ 1])
            kinds = {"cut": raw[:-1], "longer": raw + b"\0", "one bit off": flipped, "zero": bytes(len(raw))}
            for name, wrong in kinds.items():
                yield f"{signer.algorithm} signature {name}", f"{unsigned}.{part(wrong)}"
            claims = part(json.dumps(self.claims(sub="root")).encode())
            yield f"{signer.algorithm} signature of other claims", f"{unsigned.split('.')[0]}.{claims}.{signature}"
        unsigned, _, signature = EC.token(self.claims()).rpartition(".")
        r, s = (int.from_bytes(it) for it in (unpart(signature)[:32], unpart(signature)[32:]))
        der = encode_dss_signature(r, s)
        assert (r, s) == decode_dss_signature(der)
        yield "ES256 signature in DER", f"{unsigned}.{part(der)}"
        yield "ES256 signature of r and s = the order", f"{unsigned}.{part(P256_ORDER.to_bytes(32) * 2)}"
        yield "ES256 signature with r and s swapped", f"{unsigned}.{part(s.to_bytes(32) + r.to_bytes(32))}"

    def _forms(self) -> Iterator[tuple[str, str]]:
        token = ED.token(self.claims())
        header, payload, signature = token.split(".")
        last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(signature[-1]) ^ 1
        other_last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last]
        yield "base64 with bits left over", f"{header}.{payload}.{signature[:-1]}{other_last}"
        yield "base64 padded", f"{token}=="
        yield "base64 of the standard alphabet", token + "+/"
        yield "white space within", f"{header}.{payload}. {signature}"
        yield "white space at the end", f"{token} "
        yield "line break within", f"{header}\n.{payload}.{signature}"
        yield "three dots", f"{token}."
        yield "header empty", f".{payload}.{signature}"
        yield "payload empty", f"{header}..{signature}"
        yield "signature empty", f"{header}.{payload}."
        yield "detached payload", self._signed(b'{"alg":"EdDSA","kid":"ed"}', b"")
        yield "five parts (JWE)", ".".join([part(b'{"alg":"dir","enc":"A256GCM"}'), "", "e30", "e30", "e30"])
        yield "token within a token", ED.token(token.encode(), cty="JWT")
        yield "JSON serialization", json.dumps({"payload": payload, "protected": header, "signature": signature})
        yield "scheme in front", f"Bearer {token}"
        yield "not ASCII", f"{token}\u0430"
        yield "100 KiB", ED.token(self.claims(x="x" * 102_400))
        yield "9 KiB, well signed", ED.token(self.claims(x="x" * 6900))
        yield "deep header", join(b'{"alg":"EdDSA","x":' + b"[" * 4000, {}, b"s")

    def _audiences(self) -> Iterator[tuple[str, str]]:
        yield "iss of nobody", ED.token(self.claims(iss="https://nobody.example"))
        yield "iss missing", ED.token(self.claims(iss=None))
        yield "iss with a slash more", ED.token(self.claims(iss=f"{ISSUER}/"))
        yield "iss in another case", ED.token(self.claims(iss=ISSUER.upper()))
        yield "iss a list", ED.token(self.claims(iss=[ISSUER]))
        yield "aud of another", ED.token(self.claims(aud="billing"))
        yield "aud missing", ED.token(self.claims(aud=None))
        yield "aud that begins like ours", ED.token(self.claims(aud="gateway.evil.example"))
        yield "aud list without us", ED.token(self.claims(aud=["billing", "Gateway"]))
        yield "aud an object", ED.token(self.claims(aud={"gateway": True}))

    def _times(self) -> Iterator[tuple[str, str]]:
        yield "expired", ED.token(self.claims(exp=self.now - 31))
        yield "expired long ago", ED.token(self.claims(exp=0))
        yield "not valid yet", ED.token(self.claims(nbf=self.now + 61))
        yield "issued in the future", ED.token(self.claims(iat=self.now + 61))
        for name, time in {"string": str(self.now + 600), "bool": True, "list": [self.now + 600], "object": {}}.items():
            yield f"exp a {name}", ED.token(self.claims(exp=time))
        yield "exp in milliseconds", ED.token(self.claims(exp=(self.now + 600) * 1000))
        yield "exp beyond all years", ED.token(self.claims(exp=10**30))
        for name, number in {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.items():
            yield f"exp {name}", ED.token(self.claims(exp=number))
        yield "exp beyond numbers", ED.token(b'{"iss":"%s","aud":"gateway","exp":1e999}' % ISSUER.encode())
        yield "nbf a string", ED.token(self.claims(nbf="0"))

    def _contents(self) -> Iterator[tuple[str, str]]:
        text = json.dumps(self.claims()).encode()
        yield "sub twice", ED.token(text[:-1] + b',"sub":"root"}')
        yield "iss twice", ED.token(b'{"iss":"https://nobody.example",' + text[1:])
        yield "exp twice, once by another spelling", ED.token(b'{"\\u0065xp":0,' + text[1:])
        yield "claims an array", ED.token([self.claims()])
        yield "claims null", ED.token(b"null")
        yield "claims not UTF-8", ED.token(text[:-1] + b',"x":"\xff"}')
        yield "claims followed by more", ED.token(text + b"{}")
        yield "claims in UTF-16", ED.token(json.dumps(self.claims()).encode("utf-16"))
        yield "sub a number", ED.token(self.claims(sub=7))
        yield "channels a string", ED.token(self.claims(channels="chat:lobby"))

    @staticmethod
    def _signed(header: bytes, claims: object) -> str:
        """Sign with the first issuer's key under a header of any bytes."""
        unsigned = join(header, claims, b"").removesuffix(".")
        return f"{unsigned}.{part(ED.material.sign(unsigned.encode()))}"
