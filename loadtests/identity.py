"""An issuer for benches: signs EdDSA tokens and shows its key over HTTP, as an auth service would."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

KID = "bench"


class Issuer:
    """A fresh key pair."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        public = json.loads(OKPAlgorithm.to_jwk(self.private.public_key()))
        self._jwks = json.dumps({"keys": [{**public, "kid": KID, "alg": "EdDSA", "use": "sig"}]}).encode()

    def token(self, user: str, number: int = 0) -> str:
        """Return a token of an hour; `number` makes it another one."""
        now = int(time.time())
        claims = {"sub": user, "aud": "gateway", "iat": now, "exp": now + 3600, "jti": f"{user}-{number}"}
        return jwt.encode(claims, self.private, algorithm="EdDSA", headers={"kid": KID})

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve the key on a free port; yields its URL."""
        body = self._jwks

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_address[1]}/jwks.json"
        finally:
            httpd.shutdown()
            httpd.server_close()
