"""A real Redis that speaks TLS (on a second port), with a certificate made for the occasion."""

from __future__ import annotations

import shutil
from pathlib import Path

import trustme

from tests.support.valkey import Valkey, free_port


class TlsRedis(Valkey):
    """Debian's redis-server behind TLS; the certificate is for localhost."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        self.authority_file = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.authority_file)
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
        self.tls_port = free_port()
        super().__init__(
            folder,
            *("--tls-port", str(self.tls_port), "--tls-auth-clients", "no"),
            *("--tls-ca-cert-file", str(self.authority_file)),
            *("--tls-cert-file", str(folder / "certificate.pem"), "--tls-key-file", str(folder / "key.pem")),
            program=shutil.which("redis-server") or "redis-server",
        )

    @property
    def url(self) -> str:
        """Return its address as `engine.url`."""
        return f"rediss://localhost:{self.tls_port}/0?ssl_ca_certs={self.authority_file}"
