"""The API server: the seam that decisions are carried out through, its real implementation, watches, leadership, events."""
