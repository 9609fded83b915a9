"""shm: processes of one machine that write into each other's memory, and gloo between machines where there are several.

memory      segments without a name, and the heap of a worker
peers       what a worker shows to the others, and what it sees of them
rounds      one round, compiled: put, wait, take
wire        the messages of a channel
hosts       who is on which machine, and a wire that splits its messages
transport   the transport
"""

from dist_hdnn.transport.shm.transport import ShmTransport, join

__all__ = ["ShmTransport", "join"]
