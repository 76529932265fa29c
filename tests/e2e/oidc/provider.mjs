// A foreign OIDC issuer: panva's oidc-provider with clients that get JWT access tokens for what they name as resource.
//
// Says {"url": ...} when it listens. Every line it is sent is a verb: "rotate" signs with new keys and publishes the old
// ones beside them, "drop" publishes the old ones no more. It answers each with {"keys": [kid, ...]}.

import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import Provider from "oidc-provider";

const options = JSON.parse(process.argv[2]); // clients: {id: {secret, claims}}, seconds: life of a token

function keys() {
  const made = [
    ["RS256", generateKeyPairSync("rsa", { modulusLength: 2048 })],
    ["ES256", generateKeyPairSync("ec", { namedCurve: "P-256" })],
  ];
  return made.map(([alg, { privateKey }]) => {
    const kid = `${alg}-${Math.random().toString(36).slice(2)}`;
    return { ...privateKey.export({ format: "jwk" }), kid, alg, use: "sig" };
  });
}

// The resource https://<audience>.example/<alg> asks for a token for this audience, signed in this way.
function resourceServer(resource) {
  const { hostname, pathname } = new URL(resource);
  return {
    scope: "",
    audience: hostname.replace(".example", ""),
    accessTokenTTL: options.seconds,
    accessTokenFormat: "jwt",
    jwt: { sign: { alg: pathname.slice(1) } },
  };
}

function provider(issuer, published) {
  return new Provider(issuer, {
    jwks: { keys: published },
    clients: Object.entries(options.clients).map(([id, { secret }]) => ({
      client_id: id,
      client_secret: secret,
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    })),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_context, resource) => resourceServer(resource),
      },
    },
    extraTokenClaims: (_context, token) => options.clients[token.clientId].claims,
  });
}

let current;
let answer;
const server = createServer((request, response) => answer(request, response));
server.listen(0, "127.0.0.1", () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  const publish = (fresh, old) => {
    answer = provider(url, [...fresh, ...old]).callback();
    current = fresh;
    process.stdout.write(JSON.stringify({ url, keys: [...fresh, ...old].map(({ kid }) => kid) }) + "\n");
  };
  publish(keys(), []);
  const verbs = { rotate: () => publish(keys(), current), drop: () => publish(current, []) };
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (verb) => verbs[verb]());
  lines.on("close", () => process.exit());
});
