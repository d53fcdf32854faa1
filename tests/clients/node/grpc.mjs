// Chat and WatchEvents with @grpc/grpc-js: node grpc.mjs HOST:PORT PROTOS PROTOS...
// Prints one JSON object with what it saw.
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [address, ...includeDirs] = process.argv.slice(2);
const files = ["session", "turn", "event"].map((name) => `turnwire/v1/${name}_service.proto`);
const definition = await loader.load(files, { includeDirs, longs: String, enums: String, oneofs: true, arrays: true });
const { v1 } = grpc.loadPackageDefinition(definition).turnwire;
const insecure = grpc.credentials.createInsecure();
const [sessions, turns, events] = [v1.SessionService, v1.TurnService, v1.EventService].map(
  (Service) => new Service(address, insecure),
);

const unary = (client, method, request) =>
  new Promise((resolve, reject) => {
    client[method](request, (error, answer) => (error ? reject(error) : resolve(answer)));
  });

const session = await unary(sessions, "CreateSession", { session: { displayName: "node" } });

const watched = [];
const watch = events.WatchEvents({ parent: session.name });
const watching = new Promise((resolve, reject) => {
  watch.on("data", (frame) => {
    watched.push(...frame.events.map((event) => event.kind));
    if (watched.includes("turnEnded")) {
      watch.cancel();
      resolve();
    }
  });
  watch.on("error", (error) => (error.code === grpc.status.CANCELLED ? resolve() : reject(error)));
});

const deltas = [];
let state = "";
for await (const frame of turns.Chat({
  parent: session.name,
  message: { parts: [{ text: { text: "/say Hel|lo" } }] },
})) {
  for (const event of frame.events) {
    if (event.kind === "textDelta") deltas.push(event.textDelta.text);
    if (event.kind === "turnEnded") state = event.turnEnded.turn.state;
  }
}
await watching;

const refused = await unary(sessions, "GetSession", { name: "sessions/none" }).catch((error) => ({
  code: grpc.status[error.code],
  details: error.details,
  rich: error.metadata.get("grpc-status-details-bin").length,
}));

console.log(JSON.stringify({ title: session.displayName, deltas, state, watched, refused }));
for (const client of [sessions, turns, events]) client.close();
