"""Single figures: a quiet server's latency, replays, pages, the cost of a past, the gateway, many followers."""

import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Final

from bench import inside
from bench.figures import Figures
from bench.load import GrpcClient, Said, Script, SseClient, chat_request, new_session, percentile
from bench.machine import cpu_seconds
from bench.serving import Server, turnwire
from bench.wire import Grpc, Http
from turnwire.v1.event_pb2 import WatchResponse
from turnwire.v1.message_service_pb2 import ListMessagesRequest, ListMessagesResponse
from turnwire.v1.session_service_pb2 import GetSessionRequest
from turnwire.v1.turn_pb2 import Turn
from turnwire.v1.turn_service_pb2 import ChatRequest, CreateTurnRequest, WatchTurnRequest

CREATE_TURN: Final = "/turnwire.v1.TurnService/CreateTurn"
WATCH_TURN: Final = "/turnwire.v1.TurnService/WatchTurn"
GET_SESSION: Final = "/turnwire.v1.SessionService/GetSession"
LIST_MESSAGES: Final = "/turnwire.v1.MessageService/ListMessages"

REPLAYED: Final = 10_000
FOLLOWERS: Final = 200
FOLLOWED: Final = 1_000
SHORT_PAST, LONG_PAST = 10, 5_000
_ROUNDS: Final = 5


async def idle(figures: Figures, server: Server) -> None:
    """The first delta of a turn that is alone on the server."""
    for name, kind in (("gRPC", GrpcClient), ("AI SDK", SseClient)):
        client = await kind.open(server)
        firsts: list[float] = []
        for number in range(120):
            said: Said = await client.turn(Script(0, 5))
            if number >= 20:
                firsts.append(said.first)
            # Until what the turn left behind is done.
            await asyncio.sleep(0.02)
        client.close()
        figures.raw[f"idle first delta, {name}"] = firsts
        figures.most(f"first delta on an idle server, {name}, median", median(firsts) * 1_000, 3, " ms")


async def replay(figures: Figures, server: Server) -> None:
    """Attaching to a long turn that is over, and reading all of it."""
    connection = await Grpc.open(server.grpc)
    print(f"  writing {REPLAYED} deltas 1 ms apart ...", flush=True)
    turn = await _created(connection, await new_session(connection), f"/pace 1\n/repeat {REPLAYED} word")
    await _watched(connection, turn)
    taken: list[float] = []
    frames = 0
    for _ in range(_ROUNDS):
        begun, before = time.perf_counter(), connection.messages
        events, _ = await _watched(connection, turn)
        taken.append(time.perf_counter() - begun)
        frames = connection.messages - before
        if events < REPLAYED:
            raise RuntimeError(f"{events} events of {REPLAYED}")
    connection.close()
    figures.most(f"attach and replay of {REPLAYED:,} events, {frames} frames", median(taken) * 1_000, 1_000, " ms")


async def followers(figures: Figures, server: Server) -> None:
    """Many watchers of one turn."""
    maker = await Grpc.open(server.grpc)
    connections = [await Grpc.open(server.grpc) for _ in range(FOLLOWERS)]
    # Silent at first, so that all of them are there when it begins to speak.
    script = f"/sleep 2000\n/pace 2\n/repeat {FOLLOWED} word"
    turn = await _created(maker, await new_session(maker), script)
    cpu, begun = cpu_seconds(server.pid), time.perf_counter()
    ends: list[float] = []

    async def follow(connection: Grpc) -> tuple[int, str]:
        seen = await _watched(connection, turn)
        ends.append(time.perf_counter() - begun)
        return seen

    seen = await asyncio.gather(*(follow(connection) for connection in connections))
    cpu = cpu_seconds(server.pid) - cpu
    for connection in (maker, *connections):
        connection.close()
    same = len(set(seen)) == 1 and seen[0][0] >= FOLLOWED
    figures.add(
        f"{FOLLOWERS} followers of {FOLLOWED:,} deltas: same events, same order",
        "yes" if same else "no",
        wanted="yes",
        met=same,
    )
    figures.add("  server CPU", f"{cpu:.2f} s")
    figures.add("  the last follower behind the first", f"{(max(ends) - min(ends)) * 1_000:.0f} ms")


async def gateway(figures: Figures, server: Server) -> None:
    """What a unary call costs by HTTP and JSON beside the same by gRPC, on one server, one call after another."""
    grpc, http = await Grpc.open(server.grpc), await Http.open(server.http)
    session = await new_session(grpc)
    request = GetSessionRequest(name=session).SerializeToString()

    async def plain() -> None:
        await grpc.unary(GET_SESSION, request)

    async def json_() -> None:
        await http.call("GET", f"/v1/{session}", b"", bytearray().extend)

    taken: dict[str, list[tuple[float, float]]] = {"grpc": [], "json": []}
    for _ in range(_ROUNDS):
        for name, call in (("grpc", plain), ("json", json_)):
            taken[name].append(await _costs(server, call, 400))
    grpc.close()
    http.close()
    (took, cpu), (json_took, json_cpu) = (
        (median(one[0] for one in runs), median(one[1] for one in runs)) for runs in taken.values()
    )
    figures.add("gateway: a unary call, median", f"{json_took:.2f} ms", bare="")
    figures.add("  over the plain gRPC call", f"{json_took / took:.2f} x, {json_took - took:+.2f} ms")
    figures.add("  in server CPU", f"{json_cpu / cpu:.2f} x, {json_cpu - cpu:+.2f} ms")
    await inside.gateway(figures)


def past(figures: Figures, folder: Path, *, many: int) -> None:
    """A page out of very many messages, and a turn's cost behind few and many."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as name:
        place = Path(name)
        print(f"  writing {many:,} messages ...", flush=True)
        counts = [many, *([SHORT_PAST] * 20), *([LONG_PAST] * 4)]
        command = [sys.executable, "-m", "bench.seed", f"sqlite:///{place / 'past.db'}", *map(str, counts)]
        root = Path(__file__).resolve().parent.parent
        made = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=root).stdout
        large, *others = json.loads(made)
        with turnwire(place, "past.db") as server:
            asyncio.run(_pages(figures, server, large, many))
            asyncio.run(_lengths(figures, server, others[:20], others[20:]))


async def _pages(figures: Figures, server: Server, session: str, many: int) -> None:
    connection = await Grpc.open(server.grpc)
    taken: list[float] = []
    first, last, middle = (
        ListMessagesRequest(),
        ListMessagesRequest(descending=True),
        ListMessagesRequest(order=ListMessagesRequest.ORDER_SEQ, after_seq=many // 2),
    )
    for request in (first, last, middle):
        request.parent, request.page_size = session, 50
        token = ""
        for _ in range(40):
            request.page_token = token
            begun = time.perf_counter()
            answer = await connection.unary(LIST_MESSAGES, request.SerializeToString())
            taken.append(time.perf_counter() - begun)
            page = ListMessagesResponse.FromString(answer)
            if len(page.messages) != 50:
                raise RuntimeError(f"{len(page.messages)} messages on a page of 50")
            token = page.next_page_token
    connection.close()
    figures.most(f"page of 50 messages out of {many:,}, p99", percentile(taken, 99) * 1_000, 50, " ms")
    figures.add("  median", f"{median(taken) * 1_000:.2f} ms")


async def _lengths(figures: Figures, server: Server, short: list[str], long: list[str]) -> None:
    clients = {name: [await GrpcClient.open(server, one) for one in each] for name, each in (("s", short), ("l", long))}

    async def turns(name: str, count: int) -> float:
        cpu = cpu_seconds(server.pid)
        for number in range(count):
            await clients[name][number % len(clients[name])].turn(Script(0))
        return (cpu_seconds(server.pid) - cpu) * 1_000 / count

    await turns("s", 20)
    await turns("l", 20)
    # As pairs, for the machine is noisy. The short ones stay short: each session has a few turns only.
    costs = [(await turns("s", 60), await turns("l", 60)) for _ in range(_ROUNDS)]
    for client in (*clients["s"], *clients["l"]):
        client.close()
    few, more = (median(one[n] for one in costs) for n in (0, 1))
    ratio = median(one[1] / one[0] for one in costs)
    figures.raw["cost of a past"] = costs
    figures.add(f"CPU of a turn behind {SHORT_PAST} messages", f"{few:.2f} ms")
    figures.add(f"CPU of a turn behind {LONG_PAST:,} messages", f"{more:.2f} ms")
    figures.most("  ratio", ratio, 1.1, "")


async def _costs(server: Server, call: Callable[[], Awaitable[None]], count: int) -> tuple[float, float]:
    """The median latency and the server's CPU of a call, in ms."""
    cpu = cpu_seconds(server.pid)
    taken: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - begun)
    return median(taken) * 1_000, (cpu_seconds(server.pid) - cpu) * 1_000 / count


async def _created(connection: Grpc, session: str, text: str) -> str:
    chat = ChatRequest.FromString(chat_request(session, text))
    answer = await connection.unary(CREATE_TURN, CreateTurnRequest(chat=chat).SerializeToString())
    return Turn.FromString(answer).name


async def _watched(connection: Grpc, turn: str) -> tuple[int, str]:
    """Follow a turn to its end: how many events came, and a digest of them in their order."""
    events, digest, over = 0, hashlib.sha256(), False

    def read(data: bytes) -> None:
        nonlocal events, over
        for event in WatchResponse.FromString(data).events:
            events += 1
            digest.update(event.SerializeToString(deterministic=True))
            over = over or event.HasField("turn_ended")

    await connection.stream(WATCH_TURN, WatchTurnRequest(name=turn).SerializeToString(), read)
    if not over:
        raise RuntimeError("the turn's end did not come")
    return events, digest.hexdigest()
