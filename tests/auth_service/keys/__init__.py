"""Tests: auth_service/keys."""
