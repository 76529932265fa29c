"""The key file."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from structlog.testing import capture_logs

from auth_service.errors import OperatorError
from auth_service.keys import load_or_make
from gateway.tokens.keys import public_key


def pem(key: object, encryption: KeySerializationEncryption | None = None) -> bytes:
    """Return a private key as PEM."""
    written: bytes = key.private_bytes(  # type: ignore[attr-defined] # any private key has it
        Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()
    )
    return written


def test_a_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    """The first start makes an Ed25519 key nobody else can read; the second finds it; no draft is left over."""
    path = tmp_path / "new" / "key.pem"
    first = load_or_make(path)
    assert 0o600 == path.stat().st_mode & 0o777
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert [path] == list(path.parent.iterdir())
    second = load_or_make(path)
    assert ("EdDSA", first.key_id, first.jwk) == (second.algorithm, second.key_id, second.jwk)


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    """Whoever is first makes the key, all others take it."""
    path = tmp_path / "key.pem"
    ids: list[str] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait(10)
        ids.append(load_or_make(path).key_id)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert 8 == len(ids)
    assert 1 == len(set(ids))
    assert [path] == list(tmp_path.iterdir())


def test_the_id_is_the_thumbprint(tmp_path: Path) -> None:
    """The key id is the one that the gateway computes for the same key on its own (RFC 7638)."""
    for key, algorithm in ((Ed25519PrivateKey.generate(), "EdDSA"), (generate_private_key(SECP256R1()), "ES256")):
        path = tmp_path / algorithm
        path.write_bytes(pem(key))
        path.chmod(0o600)
        loaded = load_or_make(path)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert (algorithm, public_key(public).key_id) == (loaded.algorithm, loaded.key_id)
        assert {"kid": loaded.key_id, "use": "sig", "alg": algorithm}.items() <= loaded.jwk.items()
        assert "d" not in loaded.jwk


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"rubbish",
        pem(generate_private_key(SECP384R1())),
        pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")),
        Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["empty", "rubbish", "another curve", "encrypted", "public"],
)
def test_unusable_key_files(tmp_path: Path, content: bytes) -> None:
    """What cannot sign stops the start with a line that names the file; it is never written over."""
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(OperatorError, match=str(path)):
        load_or_make(path)
    assert content == path.read_bytes()


def test_a_place_that_cannot_hold_a_key(tmp_path: Path) -> None:
    """No folder can be made inside a file."""
    (tmp_path / "file").touch()
    with pytest.raises(OperatorError, match="cannot be read or made"):
        load_or_make(tmp_path / "file" / "key.pem")


def test_others_who_may_read_are_warned_of(tmp_path: Path) -> None:
    """A key that others can read works (secrets are mounted so), but is mentioned."""
    path = tmp_path / "key.pem"
    load_or_make(path)
    path.chmod(0o644)
    with capture_logs() as logs:
        load_or_make(path)
    assert [("key.readable_by_others", "0o644")] == [(line["event"], line["mode"]) for line in logs]
