"""A Valkey with the settings and users that `deploy/` gives it, and the URL of the gateway's own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.support.valkey import Valkey

FOLDER: Final = Path(__file__).parent.parent.parent / "deploy" / "k8s" / "components" / "valkey"
USERS: Final = FOLDER / "users.acl"
PASSWORD: Final = "demo-only"


class Restricted(Valkey):
    """One server process; commands of tests come from the default user, who may do as good as nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "--aclfile", str(USERS))
        self._command.insert(1, str(FOLDER / "valkey.conf"))

    @property
    def url(self) -> str:
        """Return its address as `engine.url`."""
        return f"redis://gateway:{PASSWORD}@127.0.0.1:{self.port}/0"
