"""A real Redis that speaks TLS (on a second port), with a certificate made for the occasion."""

from __future__ import annotations

import shutil
from pathlib import Path

import trustme

from tests.support.ports import free_port
from tests.support.valkey import Valkey


class TlsRedis(Valkey):
    """Debian's redis-server behind TLS; the certificate is for localhost, under that name and its address."""

    def __init__(self, folder: Path, *arguments: str, authority: trustme.CA | None = None) -> None:
        authority = authority or trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        self.authority_file = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.authority_file)
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
        self.tls_port = free_port()
        self.program = shutil.which("redis-server") or "redis-server"
        self.identity = (
            *("--tls-auth-clients", "no", "--tls-ca-cert-file", str(self.authority_file)),
            *("--tls-cert-file", str(folder / "certificate.pem"), "--tls-key-file", str(folder / "key.pem")),
        )
        super().__init__(folder, "--tls-port", str(self.tls_port), *self.identity, *arguments, program=self.program)

    def configure(self, *arguments: str) -> None:
        """Add to the command line of the next start."""
        self._command += arguments

    @property
    def trust(self) -> str:
        """Return the option of a URL that makes its certificate believed."""
        return f"ssl_ca_certs={self.authority_file}"

    @property
    def url(self) -> str:
        """Return its address as `engine.url`."""
        return f"rediss://localhost:{self.tls_port}/0?{self.trust}"
