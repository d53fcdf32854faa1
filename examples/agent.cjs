// An agent that dials in: node examples/agent.cjs [HOST:PORT]
const grpc = require("@grpc/grpc-js");
const dirs = { includeDirs: ["proto", "third_party"] };
const protos = require("@grpc/proto-loader").loadSync("turnwire/v1/node_service.proto", dirs);
const { NodeService } = grpc.loadPackageDefinition(protos).turnwire.v1;
const call = new NodeService(process.argv[2] ?? "127.0.0.1:50051", grpc.credentials.createInsecure()).Connect();
call.write({ hello: { nodeId: "laptop", agents: [{ agentId: "whisper" }] } });
setInterval(() => call.write({ heartbeat: {} }), 5000);
call.on("data", ({ welcome, assign }) => {
  if (welcome) console.log(`connected as ${welcome.node.nodeId}`);
  if (!assign) return;
  const text = assign.inputMessage.parts[0].text.text.toLowerCase();
  const events = [{ partOpened: { part: { id: "p", text: {} } } }, { textDelta: { part: "p", text } }];
  const said = [...events.map((event) => ({ event })), { done: {} }];
  said.forEach((kind, n) => call.write({ output: { turn: assign.turn.name, number: n + 1, ...kind } }));
});
