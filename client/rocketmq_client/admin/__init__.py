"""Administration: topics, groups, brokers and messages, with typed results."""
