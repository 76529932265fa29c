"""The Grafana dashboard, asked panel by panel of a real Prometheus, and drawn from its answers."""
