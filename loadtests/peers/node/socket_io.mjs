// Socket.IO with its Redis adapter.
//
//   node socket_io.mjs PORT REDIS_URL
//
// Set as "Performance tuning" and "Memory usage" of its documentation say: WebSocket only, no compression, bufferutil
// installed, and the request that began a connection let go. A broadcast is encoded and framed once, by the adapter.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const [port, url] = process.argv.slice(2);
const publisher = await createClient({ url }).connect();
const listener = await publisher.duplicate().connect();

// The adapter does not say when Redis has answered, and nothing is acknowledged before that: keep what it was promised.
let answer;
const publish = publisher.publish.bind(publisher);
publisher.publish = (...words) => (answer = publish(...words));

const server = createServer((_, response) => response.end());
const io = new Server(server, {
  adapter: createAdapter(publisher, listener),
  transports: ["websocket"],
  perMessageDeflate: false,
  serveClient: false,
});
io.engine.on("connection", (link) => {
  link.request = null;
});
io.on("connection", (socket) => {
  const { channel } = socket.handshake.auth;
  if (channel) socket.join(channel);
  socket.on("publish", async (publication, acknowledge) => {
    io.to(publication.channel).emit("publication", publication);
    await answer;
    acknowledge();
  });
});
server.listen(Number(port), "127.0.0.1", 4096);
