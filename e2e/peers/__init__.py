"""Other implementations as peers: Apache's Java clients and broker, mqadmin, the Go client."""
