"""Tests: auth_service/store."""
