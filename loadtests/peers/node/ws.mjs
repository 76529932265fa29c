// Node's `ws` as its README broadcasts, behind node-redis pub/sub.
//
//   node ws.mjs PORT REDIS_URL
//
// Set for speed: no compression, bufferutil installed, and messages stay the Buffers that Redis sent, so that `send`
// has nothing to encode for each client.
import { createServer } from "node:http";
import { createClient } from "redis";
import { WebSocket, WebSocketServer } from "ws";

const CHANNEL = "ws"; // its own: peers share one Redis
const [port, url] = process.argv.slice(2);
const publisher = await createClient({ url }).connect();
const listener = await publisher.duplicate().connect();
const server = createServer((_, response) => response.end());
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
const subscribers = new Set();

sockets.on("connection", (socket, request) => {
  socket.on("error", () => socket.terminate());
  if (request.url === "/subscribe") {
    subscribers.add(socket);
    socket.on("close", () => subscribers.delete(socket));
    return;
  }
  socket.on("message", async (data) => {
    await publisher.publish(CHANNEL, data);
    socket.send('{"id":0}');
  });
});

const buffers = true;
await listener.subscribe(
  CHANNEL,
  (message) => {
    for (const socket of subscribers)
      if (socket.readyState === WebSocket.OPEN) socket.send(message, { binary: false });
  },
  buffers,
);
server.listen(Number(port), "127.0.0.1", 4096);
