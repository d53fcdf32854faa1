"""What the book says of a node while its row is behind."""

from turnwire.v1.node_pb2 import Node
from turnwired.clock import SystemClock
from turnwired.config.sections import Nodes
from turnwired.nodes.book import Book
from turnwired.store.nodes import Stored


def test_a_node_that_left_is_offline_also_where_its_row_does_not_say_so_yet():
    clock = SystemClock()
    book = Book("p", clock, Nodes())
    row = Stored("default", Node(name="nodes/n", node_id="n"), "p:1", clock.now_us())
    book.joined(row, [])
    assert book.shown(row).presence == Node.PRESENCE_ONLINE
    book.broke("default", "n", gone=True)
    book.look()
    assert book.shown(row).presence == Node.PRESENCE_OFFLINE
