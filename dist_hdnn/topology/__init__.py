"""Communication graphs, block patterns, partitions and halos. Pure data."""

from dist_hdnn.topology.attributes import LinkRecord, LinkRecords, link_records
from dist_hdnn.topology.distances import exchange_graph, reach_warnings
from dist_hdnn.topology.families import (
    FAMILIES,
    balanced_tree,
    barabasi_albert,
    complete,
    erdos_renyi,
    exponential_ring,
    grid,
    hypercube,
    path,
    random_regular,
    ring,
    star,
    torus,
    watts_strogatz,
)
from dist_hdnn.topology.graphs import CommunicationGraph
from dist_hdnn.topology.halo import (
    Halo,
    build_halo,
    disagreement,
    message_digests,
    plan_digest,
)
from dist_hdnn.topology.locality import memory_order
from dist_hdnn.topology.numbering import as_graph
from dist_hdnn.topology.partition import Partition, describe_partition, from_mapping, make_partition
from dist_hdnn.topology.partitioners import METHODS
from dist_hdnn.topology.pattern_spec import build_pattern
from dist_hdnn.topology.patterns import (
    BlockPattern,
    block_diagonal,
    dense,
    from_matrix,
    hops,
    is_locally_computable,
    neighbours,
    non_links,
    thinned,
)
from dist_hdnn.topology.readers.files import read_graph

__all__ = [
    "FAMILIES",
    "METHODS",
    "BlockPattern",
    "CommunicationGraph",
    "Halo",
    "LinkRecord",
    "LinkRecords",
    "Partition",
    "as_graph",
    "balanced_tree",
    "barabasi_albert",
    "block_diagonal",
    "build_halo",
    "build_pattern",
    "complete",
    "dense",
    "describe_partition",
    "disagreement",
    "erdos_renyi",
    "exchange_graph",
    "exponential_ring",
    "from_mapping",
    "from_matrix",
    "grid",
    "hops",
    "hypercube",
    "is_locally_computable",
    "link_records",
    "make_partition",
    "memory_order",
    "message_digests",
    "neighbours",
    "non_links",
    "path",
    "plan_digest",
    "random_regular",
    "reach_warnings",
    "read_graph",
    "ring",
    "star",
    "thinned",
    "torus",
    "watts_strogatz",
]
