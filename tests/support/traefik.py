"""Traefik with the files of `deploy/traefik/`: addresses, ports and folders are a test's, the rest is as it is."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.adapting import DEPLOY, HOST, Place
from tests.support.tools import TOOLS

FOLDER: Final = DEPLOY / "traefik"
SERVER: Final = "          - url: http://127.0.0.1:{}\n"


class Traefik:
    """The one that the tests bring along."""

    def write(self, place: Place) -> None:
        """Write its files."""
        folder = place.folder
        fixed = {
            'address: ":80"': f'address: "{HOST}:{place.plain_port}"',
            'address: ":443"': f'address: "{HOST}:{place.port}"',
            "/etc/traefik": str(folder),
            "/var/log/traefik": str(folder),
        }
        watched = {
            SERVER.format(8002): "",
            SERVER.format(8000): "".join(map(SERVER.format, place.nodes)),
            SERVER.format(8001): SERVER.format(place.auth),
            "/etc/traefik/tls": str(folder),
        }
        place.write({FOLDER / "traefik.yml": fixed, FOLDER / "gateway.yml": watched})

    def command(self, folder: Path) -> Sequence[str]:
        """Return how it is run."""
        return [str(TOOLS / "traefik"), f"--configFile={folder / 'traefik.yml'}"]

    def reload(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        """Do nothing: it watches its file, and says nowhere when it has read it."""
        del folder, process
