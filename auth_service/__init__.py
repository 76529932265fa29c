"""The auth service: users, sessions and the tokens that the gateway checks. Knows nothing of the gateway."""
