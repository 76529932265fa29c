"""Programs in C: compiled when their source has changed, where there is a compiler."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

FLAGS: Final = ("-O2", "-Wall", "-Wextra")


def compiler() -> str | None:
    """Return the C compiler of this machine."""
    return shutil.which("cc") or shutil.which("gcc")


def compiled(source: Path) -> Path | None:
    """Return the program that this C source is, together with the headers beside it; None without a compiler.

    It is kept in the user's own folder of temporary files, under a name that tells its source. Raises
    CalledProcessError if the source is no C.
    """
    if (cc := compiler()) is None:
        return None
    digest = hashlib.sha256(" ".join((cc, *FLAGS)).encode())
    for part in (source, *sorted(source.parent.glob("*.h"))):
        digest.update(part.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"gateway-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    target = folder / f"{source.stem}-{digest.hexdigest()[:16]}"
    if not target.exists():
        fresh = target.with_name(f"{target.name}.{os.getpid()}")
        subprocess.run([cc, *FLAGS, "-o", str(fresh), str(source)], check=True)
        fresh.rename(target)  # whoever compiles the same at the same time loses nothing
    return target
