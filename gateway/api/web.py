"""The demo page: static files, and what the page must know of its surroundings."""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

POLICY: Final = "default-src 'self'; connect-src *; frame-ancestors 'none'; base-uri 'none'"
TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def routes(demo_file: str) -> APIRouter:
    """Return the page at `/`; `demo_file` holds nodes and the auth service's address, empty: this node alone."""
    router = APIRouter(include_in_schema=False)
    folder = Path(str(files("gateway"))) / "web"
    pages = {path.name: path for path in folder.iterdir() if path.suffix in TYPES}

    def page(name: str) -> Response:
        path = pages[name]
        headers = {
            "content-security-policy": POLICY,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-cache",
        }
        return FileResponse(path, headers=headers, media_type=TYPES[path.suffix])

    @router.get("/demo.json")
    async def demo(request: Request) -> Response:
        if demo_file:
            return FileResponse(demo_file, media_type="application/json", headers={"cache-control": "no-cache"})
        base = str(request.base_url).rstrip("/")
        return JSONResponse({"nodes": [{"name": "this node", "url": base}], "auth": "", "room": "lobby"})

    @router.get("/")
    async def index() -> Response:
        return page("index.html")

    for name in pages:  # one route each: a route for any name would answer 405 where there is nothing
        router.add_api_route(f"/{name}", partial(page, name), methods=["GET"], name=name)
    return router
