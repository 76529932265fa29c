"""Tests: auth_service/api."""
