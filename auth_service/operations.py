"""What other programs ask: the JWKS, health, metrics."""

from __future__ import annotations

import asyncio

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from auth_service.metrics import CONTENT_TYPE

READY_SECONDS = 1.0

log = structlog.get_logger(__name__)

router = APIRouter(tags=["operations"])


@router.get("/.well-known/jwks.json")
async def jwks(request: Request) -> JSONResponse:
    """The public keys that our tokens are checked with."""
    return JSONResponse({"keys": [request.app.state.key.jwk]}, headers={"Cache-Control": "public, max-age=300"})


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/health/ready")
async def ready(request: Request) -> JSONResponse:
    """The database answers, too; 503 if not within a second."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            await request.app.state.store.ping()
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        log.warning("health.not_ready", error=type(error).__name__)
        return JSONResponse({"status": "unavailable", "faults": ["the database does not answer"]}, 503)
    return JSONResponse({"status": "ok"})


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Prometheus."""
    return Response(request.app.state.metrics.exposition(), media_type=CONTENT_TYPE)
