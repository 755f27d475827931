"""A Ray cluster of several nodes on this machine."""

from __future__ import annotations

import os
import random
from typing import Any

from ray.cluster_utils import Cluster

from calm.serving import deployment


class Nodes:
    """A head without replicas, and nodes with room for one replica each."""

    def __init__(self, count: int):
        for variable, value in deployment.LOCAL_CLUSTER.items():
            os.environ.setdefault(variable, value)
        head = {"num_cpus": 0, "include_dashboard": False}
        # Without a hook for the end of this process, any thread may add nodes.
        self.cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
        self.nodes = [self._add() for _ in range(count)]
        deployment.connect(self.cluster.address)

    def _add(self) -> Any:
        return self.cluster.add_node(num_cpus=1, object_store_memory=80_000_000)

    def replace_one(self) -> None:
        """Ends a random node without notice, as a power failure would, and adds another one."""
        lost = self.nodes.pop(random.randrange(len(self.nodes)))
        self.cluster.remove_node(lost, allow_graceful=False)
        self.nodes.append(self._add())

    def stop(self) -> None:
        self.cluster.shutdown()
