// A node of @grpc/grpc-js that does all that node_service.proto asks of one: node agent-node.mjs HOST:PORT PROTOS PROTOS
// It serves the agent "counter": "count N" counts to N, and "go on" never ends. TURNWIRE_KEY is its key, if it has one.
// Prints a JSON object a line of what happens. SIGTERM: it leaves once its turns are over.
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [server, ...includeDirs] = process.argv.slice(2);
const options = { includeDirs, longs: Number, oneofs: true, arrays: true };
const protos = await loader.load("turnwire/v1/node_service.proto", options);
const { NodeService } = grpc.loadPackageDefinition(protos).turnwire.v1;
const client = new NodeService(server, grpc.credentials.createInsecure(), { "grpc.initial_reconnect_backoff_ms": 100 });
const metadata = new grpc.Metadata();
if (process.env.TURNWIRE_KEY) metadata.set("authorization", `Bearer ${process.env.TURNWIRE_KEY}`);

const tell = (what) => console.log(JSON.stringify(what));
const { UNAUTHENTICATED, PERMISSION_DENIED, INVALID_ARGUMENT, ABORTED } = grpc.status;
const final = new Set([UNAUTHENTICATED, PERMISSION_DENIED, INVALID_ARGUMENT, ABORTED]);
const works = new Map();
const instanceId = randomUUID();
let stream = null; // what outputs go over; null until the server has said what it has of them
let leave = () => {}; // end the connection
let leaving = false;
let dismissed = false; // the server knows, and assigns nothing more
let window = 1;

// A turn that is served. It outlives connections: outputs are kept until the server has stored them.
class Work {
  constructor(assign) {
    this.turn = assign.turn.name;
    this.number = 0;
    this.acked = 0;
    this.unacked = [];
    this.stopped = false;
    this.room = () => {};
  }

  async say(kind) {
    while (this.unacked.length >= window) await new Promise((resolve) => (this.room = resolve));
    if (this.stopped) throw new Error("stopped");
    const output = { turn: this.turn, number: ++this.number, ...kind };
    this.unacked.push(output);
    stream?.write({ output });
  }

  ack(number) {
    this.acked = Math.max(this.acked, number);
    while (this.unacked.length && this.unacked[0].number <= number) this.unacked.shift();
    this.room();
    if (this.done === this.acked) this.drop();
  }

  resume(number) {
    this.ack(number);
    for (const output of this.unacked) stream.write({ output });
  }

  drop() {
    this.stopped = true;
    this.unacked = [];
    this.room();
    works.delete(this.turn);
    if (dismissed && !works.size) leave();
  }

  async run(text) {
    const count = Number(/^count (\d+)$/.exec(text)?.[1] ?? Infinity);
    try {
      await this.say({ event: { partOpened: { part: { id: "n", text: {} } } } });
      for (let n = 1; n <= count && !this.stopped; n++) {
        await this.say({ event: { textDelta: { part: "n", text: `${n} ` } } });
        await pause(5);
      }
      await this.say({ event: { partClosed: { part: "n" } } });
      this.done = this.number + 1;
      await this.say({ done: {} });
    } catch (error) {
      if (!this.stopped) throw error;
    }
  }
}

function connect() {
  const call = client.Connect(metadata);
  let beating;
  let silence;
  call.write({
    hello: {
      nodeId: "node-js",
      displayName: "A node in JavaScript",
      agents: [{ agentId: "counter" }],
      capacity: 4,
      instanceId,
      resumes: [...works.values()].map(({ turn, acked }) => ({ turn, number: acked })),
    },
  });
  const begin = ({ heartbeatInterval, maxUnackedOutputs, resumed, node }) => {
    const interval = (heartbeatInterval.seconds ?? 0) * 1000 + (heartbeatInterval.nanos ?? 0) / 1e6;
    window = maxUnackedOutputs;
    stream = call;
    tell({ connected: node.nodeId, resumed: resumed.map(({ number }) => number) });
    const stored = new Map(resumed.map(({ turn, number }) => [turn, number]));
    for (const work of [...works.values()]) stored.has(work.turn) ? work.resume(stored.get(work.turn)) : work.drop();
    const beat = () => call.write({ heartbeat: { stats: { text: JSON.stringify({ turns: works.size }) } } });
    beating = setInterval(beat, interval);
    // Whoever is silent for three heartbeats is away, whatever the connection says.
    silence = setTimeout(() => call.cancel(), interval * 3);
    leave = () => call.end();
    if (leaving) depart();
  };
  call.on("data", (answer) => {
    silence?.refresh();
    if (answer.kind === "welcome") begin(answer.welcome);
    if (answer.kind === "assign") {
      const { assign } = answer;
      works.get(assign.turn.name)?.drop();
      const work = new Work(assign);
      works.set(work.turn, work);
      tell({ assigned: work.turn, history: assign.history.length });
      work.run(assign.inputMessage.parts[0].text.text);
    }
    if (answer.kind === "ack") works.get(answer.ack.turn)?.ack(answer.ack.number);
    if (answer.kind === "alive" && answer.alive.leaving) {
      dismissed = true;
      if (!works.size) leave();
    }
    if (answer.kind === "cancel") {
      works.get(answer.cancel.turn)?.drop();
      tell({ cancelled: answer.cancel.turn });
    }
  });
  call.on("error", () => {}); // its status says more
  call.on("status", ({ code, details }) => {
    clearInterval(beating);
    clearTimeout(silence);
    stream = null;
    if (leaving && !works.size) process.exit(0);
    if (final.has(code)) {
      tell({ refused: grpc.status[code], details });
      process.exit(1);
    }
    tell({ away: grpc.status[code] });
    setTimeout(connect, 100);
  });
}

function depart() {
  leaving = true;
  stream?.write({ leaving: {} });
}

process.on("SIGTERM", depart);
connect();
