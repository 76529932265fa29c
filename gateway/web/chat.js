/**
 * chat.js: a bare WebSocket client for the gateway's `chat` protocol. No SDK, no dependency, no DOM.
 * Copy this one file, or read it to write your own in another language.
 *
 *   import { Chat } from "./chat.js";
 *
 *   const chat = new Chat({
 *     url: "ws://127.0.0.1:8000",             // any node: they are all the same
 *     room: "lobby",
 *     token: async (stale) => "<jwt>",        // not `stale`, if given: it was refused or is about to end
 *   });
 *   chat.on("message", (m) => console.log(m.sender, m.content));
 *   chat.open();
 *   chat.say("hello everybody");
 *   chat.whisper("bob", "hello you");
 *   chat.close();
 *
 * Events, each with one object:
 *   state      { state, attempt, delay, code, reason }   connecting | open | waiting (delay in ms) | stopped
 *   welcome    { user, room, client, node, resumed }     signed in and in the room
 *   message    { id, sender, content | data, timestamp, live, key, took }   once per id, in order
 *   private    { sender, target, content, timestamp }
 *   sent       { key, target, delivered, took }          our private message was taken
 *   unsent     { key, why }                              ours was refused, or the link broke before its echo
 *   history    { count, recovered }                      that many `message` events from the room's history follow
 *   system     { event, user, content, timestamp }       somebody joined or left
 *   users      { users }                                 who is in the room, on all nodes
 *   left       { room }                                  the server took us out of the room
 *   gap        {}                                        messages were lost that the server no longer keeps
 *   refreshed  { expires_in }                            the link lives on with a newer token
 *   error      { code, message, request }
 *
 * `key` is what say() and whisper() returned; `took` is the time from there to the answer in ms.
 */
const SECOND = 1000;
const SILENCE = 25 * SECOND; // then we ask: a browser does not show us the server's WebSocket pings
const ANSWER_WITHIN = 8 * SECOND; // to that, and to a new connection
const SETTLED = 30 * SECOND; // a link that lived this long makes the next back-off start anew
const RENEW_AGAIN = 3 * SECOND; // a token, when there was none to be had
const REMEMBERED = 1000; // ids
/** Full jitter: anything from 0 to the ceiling, so that the clients of a lost node do not come back as one wave. */
export function backoff(attempt, random = Math.random) {
  return random() * Math.min(30 * SECOND, 0.5 * SECOND * 2 ** attempt);
}

/** The two ranges of close codes after which coming back by itself would be wrong. */
export function isFinal(code) {
  return (code >= 3500 && code <= 3999) || (code >= 4500 && code <= 4999);
}

/** Throw this from `token` when there is no way to get one without the user. */
export class SignedOut extends Error {}

export class Chat {
  user = "";
  state = "stopped";
  #options;
  #listeners = new Map();
  #socket = null;
  #generation = 0; // of the link; what an older one still has to say is not heard
  #attempt = 0;
  #openedAt = 0; #heardAt = 0; #askedAt = 0;
  #retry = 0; #pulse = 0; #renewal = 0; // timers
  #token = ""; // the link's
  #stale = ""; // refused by the node
  #refusals = 0;
  #lastId = "";
  #seen = new Set();
  #keys = 0;
  #unconfirmed = [];

  constructor({ url, room, token }) {
    this.#options = { url, room, token };
  }

  on(event, listener) {
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener]);
    return this;
  }

  /** Stay connected until close() or a final close code. With another node's `url`, move there and catch up. */
  open(url = this.#options.url) {
    this.#options.url = url;
    this.#attempt = 0;
    this.#refusals = 0;
    this.#connect();
  }

  /** Leave for good. */
  close() {
    this.#abandon(1000);
    this.#setState("stopped", { code: 1000 });
  }

  /** Do not wait for the back-off: the network is back, or the user asked. */
  hurry() {
    if (this.state === "waiting") this.#connect();
  }

  /** Publish to the room. Returns a key, or null when there is no link: nothing is queued behind your back. */
  say(text) {
    return this.#post({ type: "chat", message: text }, { text });
  }

  /** Send to every connection of one user, on every node. */
  whisper(user, text) {
    return this.#post({ type: "private_chat", target_user: user, message: text }, { target: user });
  }

  askUsers() {
    this.#send({ type: "users" });
  }

  // --- the link

  async #connect() {
    this.#abandon();
    const generation = this.#generation;
    this.#setState("connecting", { attempt: this.#attempt });
    try {
      const token = await this.#options.token(this.#stale);
      if (generation === this.#generation) this.#dial(token);
    } catch (error) {
      if (generation !== this.#generation) return;
      if (error instanceof SignedOut) this.#stop(3500, error.message);
      else this.#wait(0, error.message);
    }
  }

  #dial(token) {
    this.#token = token;
    const target = new URL(`/ws/${this.#options.room}`, this.#options.url.replace(/^http/, "ws"));
    if (this.#lastId) target.searchParams.set("since", this.#lastId); // the server sends exactly what we missed
    const socket = new WebSocket(target, ["chat"]);
    // A browser cannot set headers on a WebSocket. The first message is the place that no log of any proxy keeps.
    socket.onopen = () => socket.send(JSON.stringify({ type: "auth", token }));
    socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    socket.onclose = (event) => this.#lost(event.code, event.reason);
    this.#socket = socket;
    this.#askedAt = performance.now();
    this.#pulse = setInterval(() => this.#checkPulse(), SECOND);
  }

  /** Let go of the link. We do not wait for the closing handshake: a dead network would hold it for minutes. */
  #abandon(code) {
    this.#generation += 1;
    clearTimeout(this.#retry);
    clearTimeout(this.#renewal);
    clearInterval(this.#pulse);
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close(code);
    this.#socket = null;
  }

  #lost(code, reason) {
    this.#abandon();
    if (this.state === "open" && performance.now() - this.#openedAt >= SETTLED) this.#attempt = 0;
    this.#stale = code === 3500 ? this.#token : "";
    if (isFinal(code) && (code !== 3500 || this.#refusals++ > 0)) this.#stop(code, reason); // 3500: once more, newly signed
    else this.#wait(code, reason);
  }

  #wait(code, reason) {
    const delay = backoff(this.#attempt);
    this.#attempt += 1;
    this.#setState("waiting", { attempt: this.#attempt, delay, code, reason });
    this.#retry = setTimeout(() => this.#connect(), delay);
  }

  #stop(code, reason) {
    this.#abandon();
    this.#setState("stopped", { code, reason });
    this.#giveUp(() => true, "link lost");
  }

  #checkPulse() {
    const now = performance.now();
    if (this.#askedAt > this.#heardAt) {
      if (now - this.#askedAt > ANSWER_WITHIN) this.#lost(0, "No answer from the node");
    } else if (now - this.#heardAt > SILENCE) {
      this.#askedAt = now;
      this.#send({ type: "ping" });
    }
  }

  // --- what we send

  #send(message) {
    if (this.state === "open") this.#socket.send(JSON.stringify(message));
  }

  #post(message, about) {
    if (this.state !== "open") return null;
    const key = ++this.#keys;
    this.#unconfirmed.push({ key, at: performance.now(), generation: this.#generation, ...about });
    this.#send(message);
    return key;
  }

  #confirm(matches) {
    const index = this.#unconfirmed.findIndex(matches);
    if (index < 0) return {};
    const [{ key, at }] = this.#unconfirmed.splice(index, 1);
    return { key, took: performance.now() - at };
  }

  #giveUp(matches, why) {
    const lost = this.#unconfirmed.filter(matches);
    this.#unconfirmed = this.#unconfirmed.filter((it) => !lost.includes(it));
    for (const { key } of lost) this.#emit("unsent", { key, why });
  }

  // --- what we hear

  #receive(message) {
    this.#heardAt = performance.now();
    switch (message.type) {
      case "welcome": return this.#welcome(message);
      case "chat_message": return this.#isNew(message.id) && this.#show(message, true);
      case "history": return this.#history(message);
      case "private_chat_message": return this.#emit("private", message);
      case "private_chat_sent": return this.#emit("sent", { ...message, ...this.#confirm((it) => it.target === message.target) });
      case "users": return this.#users(message);
      case "expiring": return this.#renewSoon(message.in);
      case "error": return this.#refused(message);
      default: return this.#emit(message.type, message); // system, gap, and whatever a newer server may say
    }
  }

  #welcome(message) {
    this.#openedAt = performance.now();
    this.#refusals = 0;
    this.#stale = "";
    this.user = message.user;
    this.#setState("open");
    this.#emit("welcome", { ...message, resumed: this.#lastId !== "" });
    this.askUsers();
  }

  #history({ messages, recovered = false }) {
    const fresh = messages.filter(({ id }) => this.#isNew(id));
    this.#emit("history", { count: fresh.length, recovered });
    for (const message of fresh) this.#show(message, false);
  }

  /** After a reconnect or a question the same message may come by history and live. */
  #isNew(id) {
    if (!id) return true; // the room keeps no history: nothing comes twice, nothing can be recovered
    if (this.#seen.has(id)) return false;
    this.#seen.add(id);
    if (this.#seen.size > REMEMBERED) this.#seen.delete(this.#seen.values().next().value);
    if (isLater(id, this.#lastId)) this.#lastId = id;
    return true;
  }

  #show(message, live) {
    const mine = message.sender === this.user;
    const about = mine ? this.#confirm((it) => it.text === message.content) : {};
    this.#emit("message", { ...message, live, ...about });
  }

  /** The answer to our question comes after all that was missed: what has not shown up by now was not published. */
  #users({ users }) {
    this.#giveUp((it) => it.generation !== this.#generation, "link lost");
    this.#emit("users", { users });
  }

  /** Not at once: tokens of the same second would all be renewed in the same second, and there is some time left. */
  #renewSoon(seconds) {
    clearTimeout(this.#renewal);
    this.#renewal = setTimeout(() => this.#renew(), seconds * SECOND * (0.1 + 0.2 * Math.random()));
  }

  /** Put a newer token in place without reconnecting. */
  async #renew() {
    const generation = this.#generation;
    try {
      const token = await this.#options.token(this.#token);
      if (generation !== this.#generation) return;
      this.#token = token;
      this.#send({ type: "auth", token });
    } catch (error) {
      if (generation !== this.#generation || error instanceof SignedOut) return; // the server ends the link, and says why
      this.#renewal = setTimeout(() => this.#renew(), RENEW_AGAIN * (0.5 + Math.random()));
    }
  }

  #refused(error) {
    const ours = { chat: (it) => it.text !== undefined, private_chat: (it) => it.target !== undefined }[error.request];
    // What is refused at the door is refused at once: it was the newest. 100 comes from behind, in order.
    const one = ours && (error.code === 100 ? this.#unconfirmed.find(ours) : this.#unconfirmed.findLast(ours));
    if (one) this.#giveUp((it) => it === one, error.message);
    this.#emit("error", error);
  }

  #setState(state, detail = {}) {
    this.state = state;
    this.#emit("state", { state, ...detail });
  }

  #emit(event, detail) {
    for (const listener of this.#listeners.get(event) ?? []) listener(detail);
  }
}

/** An id is `<offset>@<epoch>`; offsets compare within one epoch, another epoch is a new stream. */
function isLater(id, than) {
  const [offset, epoch] = id.split("@");
  const [before, era] = than.split("@");
  return epoch !== era || Number(offset) > Number(before);
}
