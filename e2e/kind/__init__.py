"""The operator and its images on a real cluster of several nodes: kind in Docker, or any cluster that a kubeconfig names."""
