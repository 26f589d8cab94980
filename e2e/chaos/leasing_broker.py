"""``python -m e2e.chaos.leasing_broker ARGUMENTS``: a broker whose Leases are at ROCKETMQ_CHAOS_LEASES, without TLS."""

from __future__ import annotations

import os
import sys

from rocketmq_broker import __main__ as broker
from rocketmq_broker.failover import lease_kubernetes

if __name__ == "__main__":
    vars(lease_kubernetes)["in_cluster_url"] = lambda _: os.environ["ROCKETMQ_CHAOS_LEASES"]
    sys.exit(broker.main(sys.argv[1:]))
