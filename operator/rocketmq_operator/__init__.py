"""The operator's pure core: RocketMQCluster documents, their validation, and the manifests rendered from them."""
