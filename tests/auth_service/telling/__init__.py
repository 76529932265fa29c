"""Tests: auth_service/telling."""
