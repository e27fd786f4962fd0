// Runs a query and prints its progress, against `stepwire-server serve` on localhost:50051.

import { Client } from "@stepwire/client";

await using client = new Client(process.argv[2] ?? "localhost:50051");
const run = await client.execute({ query: "Bauantrag für Einfamilienhaus in Stuttgart" });
for await (const { progress, message } of run) {
  console.log(`${progress?.percentage.toFixed(0).padStart(3)} %  ${message}`);
}
