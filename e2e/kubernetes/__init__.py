"""The operator against a real Kubernetes API: control planes on this machine, and what runs in them."""
