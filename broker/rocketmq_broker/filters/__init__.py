"""What consumers subscribe to, decided on the broker: by tag on the queue entry, by SQL92 on the properties of the record."""
