"""Transports, one file each, and the HTTP and WebSocket protocol classes that uvicorn runs."""
