"""Health: is the process alive, may it get traffic; and the page for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from gateway.node import Node


def routes(node: Node, exposition: Callable[[], tuple[bytes, str]]) -> APIRouter:
    """Return `/health/live`, `/health/ready` and `/metrics`."""
    router = APIRouter(tags=["health"])

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """Answer while the loop turns; says nothing about Redis."""
        return {"status": "ok"}

    @router.get("/health/ready")
    async def ready() -> JSONResponse:
        """Answer 200 when new connections are welcome, else 503; say why not, and what no node can do right now."""
        faults, outages = node.faults(), node.outages()
        body: dict[str, object] = {"status": "not ready", "faults": list(faults)} if faults else {"status": "ok"}
        if outages:
            body["degraded"] = list(outages)
        return JSONResponse(body, status_code=503 if faults else 200)

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Answer in the Prometheus text format."""
        body, content_type = exposition()
        return Response(body, headers={"content-type": content_type})

    return router
