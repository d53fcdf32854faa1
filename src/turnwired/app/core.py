"""The server behind the channel: store, journal, engine and gRPC, in the order in which they need each other."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from turnwire.v1 import reason_pb2, turn_service_pb2
from turnwire.v1.agent_pb2 import Agent
from turnwired.app import grpcd, storage
from turnwired.app.chores import Chores, Purger
from turnwired.app.drain import Drain
from turnwired.app.errors import StartError
from turnwired.app.kit import Kit
from turnwired.app.leftovers import Leftovers
from turnwired.app.ops import Check
from turnwired.config.settings import Settings
from turnwired.config.values import Address
from turnwired.engine.engine import Engine
from turnwired.engine.roster import Roster
from turnwired.errors import Fault
from turnwired.eventlog.compact import Compactor
from turnwired.eventlog.journal import Journal
from turnwired.nodes.hub import Hub
from turnwired.providers.registry import Registry
from turnwired.services.interceptors.chain import interceptors
from turnwired.store import keys
from turnwired.store.turns import Terms
from turnwired.store.tx import Tx
from turnwired.web.channel import Handlers, InProcessChannel

_STOP_SECONDS: Final = 10.0
"""How long what holds no client may take to stop."""


@dataclass(frozen=True)
class Core:
    """The server's inside, running."""

    journal: Journal
    engine: Engine
    roster: Roster
    namespace: str
    """Of callers without a key."""
    channel: InProcessChannel
    served: grpcd.GrpcServer
    grpc: Address

    @property
    def agents(self) -> list[Agent]:
        """What can answer."""
        return self.roster.agents(self.namespace)

    @property
    def checks(self) -> Mapping[str, Check]:
        """What must hold for calls to be served."""
        return {"store": self._store_answers}

    async def _store_answers(self) -> str:
        # An empty write goes all the way that a turn goes: flusher, writer thread, a transaction.
        try:
            await self.journal.write(_nothing)
        except Fault as fault:
            return fault.text
        return ""


async def started(kit: Kit) -> Core:
    """Start it all. Raises StartError and SettingsError."""
    settings, clock, ids, ladder = kit.settings, kit.clock, kit.ids, kit.ladder
    registry = Registry(settings)
    ladder.push("agents", registry.close, _STOP_SECONDS)
    journal = await storage.journal(settings, ladder, clock=clock, ids=ids, alone=True)
    await _refuse_strangers(settings, journal)
    journal.measure(kit.metrics)
    nodes = Hub(
        journal,
        clock=clock,
        settings=settings.nodes,
        alone=settings.database.parsed.kind != "postgresql",
        embedded=lambda agent_id: registry.get(agent_id) is not None,
    )
    await nodes.start()
    ladder.push("nodes", nodes.close, _STOP_SECONDS)
    kit.metrics.gauge("nodes", "Nodes that are connected to this process.", lambda: len(nodes))
    roster = Roster(registry, nodes)
    engine = Engine(journal, roster, clock=clock, ids=ids, settings=settings, metrics=kit.metrics, traces=kit.traces)
    await engine.start()
    ladder.push("engine", engine.close, _STOP_SECONDS + settings.turns.stop_wait)
    layers = interceptors(journal, settings, metrics=kit.metrics, traces=kit.traces, clock=clock, ids=ids)
    services = grpcd.services(journal, roster, nodes, _terms(settings, roster, engine, kit.drain), settings, clock)
    served = grpcd.GrpcServer(services, layers, settings)
    ladder.push("grpc", partial(served.stop, settings.drain.stop), settings.drain.stop + _STOP_SECONDS)
    port, *_ = await served.start()
    handlers = Handlers()
    grpcd.register(handlers, services)
    channel = InProcessChannel(handlers, layers, clock)
    ladder.push("channel", channel.close, _STOP_SECONDS)
    chores = Chores(clock)
    ladder.push("chores", chores.close, _STOP_SECONDS)
    chores.start("compactor", Compactor(journal, clock, settings.log).run)
    chores.start("purger", Purger(journal, clock, settings.retention).run)
    chores.start("leftovers", Leftovers(journal, clock, settings.retention).run)
    return Core(journal, engine, roster, settings.namespace, channel, served, Address(settings.grpc.address.host, port))


async def _refuse_strangers(settings: Settings, journal: Journal) -> None:
    """Without keys everybody may do everything: beyond this machine only who says so may have that."""
    listens = [settings.grpc.address, *([settings.http.address] if settings.http.enabled else [])]
    beyond = next((address for address in listens if not address.is_loopback), None)
    if beyond is None or settings.open or await journal.read(keys.any_keys):
        return
    raise StartError(
        f"{beyond} can be reached from other machines and there are no keys: make one with `turnwire keys create`, "
        "or say --open to let everybody in"
    )


def _terms(settings: Settings, roster: Roster, engine: Engine, drain: Drain) -> "partial[Terms]":
    turns = settings.turns
    always = Terms(
        busy_policy=turn_service_pb2.BusyPolicy.Value(f"BUSY_POLICY_{turns.busy_policy}"),
        waiting_policy=turn_service_pb2.WaitingPolicy.Value(f"WAITING_POLICY_{turns.waiting_policy}"),
        queued_per_session=turns.queued_per_session,
        per_namespace=turns.per_namespace,
        queue_wait_us=int(turns.queue_wait * 1_000_000),
        default_agent=roster.default,
        known=roster.known,
        online=roster.online,
        embedded=roster.embedded,
    )
    return partial(_terms_now, always, engine, drain)


def _terms_now(always: Terms, engine: Engine, drain: Drain) -> Terms:
    if drain.begun:
        raise Fault(reason_pb2.REASON_DRAINING, "the server is going away", retry_after=1.0)
    return replace(always, claimant=engine.claimant())


def _nothing(_: Tx) -> None:
    return None
