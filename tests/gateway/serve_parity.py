"""Serve the parity service behind the gateway: `python -m tests.gateway.serve_parity PORT [--upstream | --in-process]`.

One dispatcher before four gateways, as where the cases were recorded: the request header `X-Parity-Mux` picks the
unescaping mode and is removed. Prints the address once it answers; port 0 takes any. The gateways call the service over
a socket; `--upstream` takes the descriptors from its reflection, as a gateway does that knows no file, and
`--in-process` calls it without a socket, as the product does.
"""

import argparse
import asyncio
import signal
import sys
from contextlib import contextmanager

import uvicorn
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tests.gateway.parity.service import SERVICE, Parity, handlers, reflected
from tests.gateway.protos import Messages, parity
from tests.gateway.stack import channel
from turnwired.gateway import Descriptors, Gateway, Unescape


class Dispatcher:
    """Picks a gateway by X-Parity-Mux."""

    def __init__(self, channel, descriptors):
        self._gateways = {mode.value: Gateway(channel, descriptors, unescape=mode) for mode in Unescape}

    async def __call__(self, scope, receive, send):
        mode = dict(scope["headers"]).get(b"x-parity-mux", b"").decode() or Unescape.LEGACY.value
        kept = [(name, value) for name, value in scope["headers"] if name != b"x-parity-mux"]
        await self._gateways[mode]({**scope, "headers": kept}, receive, send)


class Server(uvicorn.Server):
    """Says where it listens, once it does, and ends by SIGINT or SIGTERM as by itself: uvicorn raises them again."""

    @contextmanager
    def capture_signals(self):
        loop, caught = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
        for number in caught:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)

    async def startup(self, sockets=None):
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()
        sys.stdout.write(f"http://{host}:{port}\n")
        sys.stdout.flush()


async def serve(port, *, upstream, kind):
    messages = Messages(parity())
    served = handlers(messages, SERVICE, Parity(messages)), reflected(messages, [SERVICE], "v1alpha")
    async with channel(*served, kind=kind) as to:
        if upstream:
            descriptors = await Descriptors.from_reflection(to)
        else:
            descriptors = Descriptors(FileDescriptorSet.FromString(parity()).file)
        # Proxy headers are the gateway's own to read, and nothing may stand before it.
        config = uvicorn.Config(
            Dispatcher(to, descriptors),
            host="127.0.0.1",
            port=port,
            log_level="warning",
            lifespan="off",
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        await Server(config).serve()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("port", type=int)
    ways = arguments.add_mutually_exclusive_group()
    ways.add_argument("--upstream", action="store_true")
    ways.add_argument("--in-process", dest="kind", action="store_const", const="in process", default="over a socket")
    options = arguments.parse_args()
    asyncio.run(serve(options.port, upstream=options.upstream, kind=options.kind))
