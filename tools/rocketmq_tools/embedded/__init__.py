"""The embedded runtime: a RocketMQCluster as processes on this machine, without Kubernetes.

`interpret` turns the manifests that the operator renders into a plan (commands, files, environment, ports, probes); `supervisor`
runs a plan; `clusters` is what the commands ``up``, ``down``, ``ps`` and ``logs`` call.
"""
