// The official JavaScript SDK at the end of a pipe; `peers.py` holds the other end and says what the lines mean.

import { createInterface } from "node:readline";
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

const options = JSON.parse(process.argv[2]);
const askedFor = new Map(); // tokens

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

function ask(channel) {
  const ask = askedFor.size + 1;
  say({ event: "token_wanted", ask, channel });
  return new Promise((resolve) => askedFor.set(ask, resolve));
}

// Tells which commands leave in one frame.
class ToldWebSocket extends WebSocket {
  send(data, ...rest) {
    const commands = data.split("\n").map((line) => JSON.parse(line));
    const kind = (command) => Object.keys(command).find((key) => key !== "id") ?? "pong";
    say({ event: "frame", commands: commands.map(kind) });
    super.send(data, ...rest);
  }
}

const client = new Centrifuge(options.url, {
  websocket: ToldWebSocket,
  token: options.token,
  getToken: options.asks ? () => ask("") : null,
  minReconnectDelay: 50,
  maxReconnectDelay: 500,
  maxServerPingDelay: options.ping_delay * 1000,
});
client.on("connecting", ({ code, reason }) => say({ event: "connecting", code, reason }));
client.on("connected", (it) => say({ event: "connected", client: it.client }));
client.on("disconnected", ({ code, reason }) => say({ event: "disconnected", code, reason }));
client.on("error", ({ error }) => say({ event: "error", code: error.code, channel: "" }));

function publication({ offset, data, info }) {
  return { offset: offset ?? 0, data, user: info?.user ?? null };
}

function watch(subscription) {
  const { channel } = subscription;
  const tell = (event, more) => say({ event, channel, ...more });
  subscription.on("subscribing", ({ code }) => tell("subscribing", { code }));
  subscription.on("subscribed", (it) =>
    tell("subscribed", { recovered: it.recovered, asked: it.wasRecovering, position: it.streamPosition ?? null }));
  subscription.on("unsubscribed", ({ code }) => tell("unsubscribed", { code }));
  subscription.on("publication", (it) => tell("publication", publication(it)));
  subscription.on("join", ({ info }) => tell("join", { user: info.user, client: info.client }));
  subscription.on("leave", ({ info }) => tell("leave", { user: info.user, client: info.client }));
  subscription.on("error", ({ error }) => tell("error", { code: error.code }));
}

const verbs = {
  connect: () => client.connect(),
  disconnect: () => client.disconnect(),
  subscribe({ channel, token, asks }) {
    const getToken = asks ? () => ask(channel) : null;
    const subscription = client.newSubscription(channel, { token, getToken, minResubscribeDelay: 50 });
    watch(subscription);
    subscription.subscribe();
  },
  unsubscribe({ channel }) {
    const subscription = client.getSubscription(channel);
    subscription.unsubscribe();
    client.removeSubscription(subscription);
  },
  async publish({ channel, data }) {
    await client.publish(channel, data);
  },
  async presence({ channel }) {
    const { clients } = await client.presence(channel);
    return Object.fromEntries(Object.values(clients).map((info) => [info.client, info.user]));
  },
  async presence_stats({ channel }) {
    const { numClients, numUsers } = await client.presenceStats(channel);
    return { num_clients: numClients, num_users: numUsers };
  },
  async history({ channel, ...how }) {
    const { publications, offset, epoch } = await client.history(channel, how);
    return { publications: publications.map(publication), offset, epoch };
  },
  token({ ask, token }) {
    askedFor.get(ask)(token);
  },
};

async function perform({ id, verb, ...how }) {
  try {
    say({ id, result: (await verbs[verb](how)) ?? null });
  } catch (error) {
    say({ id, error: { code: error.code ?? 0, message: String(error.message ?? error) } });
  }
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => perform(JSON.parse(line)));
lines.on("close", () => client.disconnect());
