"""The HTTP side: routes, bodies, cookies, and what every request passes."""
