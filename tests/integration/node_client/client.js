// A client from another tool chain, with nothing of ours but the .proto files.
// node client.js PROTO_FOLDER MATCHER COUNTER: prints one line of JSON.
const path = require("path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [root, matcherAddress, counterAddress] = process.argv.slice(2);
const load = (name) => {
  const file = path.join(root, "clipcurate", "v1", name);
  const options = { includeDirs: [root], keepCase: true, longs: Number, defaults: true };
  return grpc.loadPackageDefinition(loader.loadSync(file, options)).clipcurate.v1;
};
const plain = grpc.credentials.createInsecure();
const call = (client, method, request) =>
  new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + 20000);
    client[method](request, { deadline }, (error, reply) => (error ? reject(error) : resolve(reply)));
  });

const stream = (client, batches) =>
  new Promise((resolve, reject) => {
    const replies = [];
    const duplex = client.MatchStream();
    duplex.on("data", (reply) => replies.push(reply));
    duplex.on("error", reject);
    duplex.on("end", () => resolve(replies));
    batches.forEach((texts, id) => duplex.write({ batch_id: id, batch: { texts } }));
    duplex.end();
  });

async function main() {
  const matcher = new (load("matcher.proto").Matcher)(matcherAddress, plain);
  const ledger = new (load("ledger.proto").Ledger)(counterAddress, plain);
  const batch = await call(matcher, "MatchBatch", {
    texts: ["a cat, a dog", "nothing"],
    include_entries: true,
  });
  const streamed = await stream(matcher, [["a cat"], ["a dog", "猫"]]);
  const runs = await call(ledger, "ListRuns", {});
  const missing = await call(ledger, "GetRun", { run_id: "nope" }).catch((error) => error.code);
  console.log(JSON.stringify({ batch, streamed, runs: runs.runs, missing }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
