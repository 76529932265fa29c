"""Tests: auth_service/commands."""
