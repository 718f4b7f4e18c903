// An OpenID Connect issuer: a command per line of stdin, its answer per line of stdout.
import { createInterface } from "node:readline";
import { OAuth2Server } from "oauth2-mock-server";

const server = new OAuth2Server();
await server.issuer.keys.generate("RS256", { kid: "first" });
await server.start(Number(process.argv[2] ?? 0), "localhost");

function change(target, changes = {}) {
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) delete target[name];
    else target[name] = value;
  }
}

async function answer({ generate, kid, header, claims }) {
  if (generate) return (await server.issuer.keys.generate("RS256", { kid: generate })).kid;
  return server.issuer.buildToken({
    kid,
    scopesOrTransform: (head, payload) => {
      change(head, header);
      change(payload, claims);
    },
  });
}

process.stdout.write(JSON.stringify(server.issuer.url) + "\n");
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await answer(JSON.parse(line))) + "\n");
}
await server.stop();
