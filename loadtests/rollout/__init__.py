"""A rolling update rehearsed on one machine: behind a real proxy, under load, step by step as Kubernetes takes them."""
