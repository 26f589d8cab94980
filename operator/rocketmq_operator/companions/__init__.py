"""RocketMQTopic and RocketMQConsumerGroup: kept on every master of their cluster."""
