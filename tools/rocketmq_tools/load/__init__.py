"""Load from `rocketmq_client`: what to do (plans), latency histograms, and running plans in processes."""
