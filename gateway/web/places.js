/** places.js: where the nodes and the auth service are, as this node says in demo.json. */

const LOOPBACK = ["127.0.0.1", "localhost"];

/** Resolve to { nodes: [{ name, url }], auth, room }. */
export async function loadConfig() {
  const config = await (await fetch("demo.json")).json();
  return { ...config, auth: ofThisSite(config.auth) };
}

/** The node of an origin, also when the page was opened as localhost. */
export function nodeOf({ nodes }, origin) {
  const { port } = new URL(origin);
  return nodes.find(({ url }) => url === origin) ?? nodes.find(({ url }) => new URL(url).port === port);
}

/** 127.0.0.1 and localhost are two sites to a browser, with cookies of their own: two users in one browser. */
function ofThisSite(address) {
  if (!address) return "";
  const url = new URL(address);
  if (LOOPBACK.includes(url.hostname) && LOOPBACK.includes(location.hostname)) url.hostname = location.hostname;
  return url.origin;
}
