"""FastAPI routers: WebSocket routes, server API, health, metrics."""
