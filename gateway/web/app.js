/** app.js: the demo page. Joins the account (auth.js), the connection (chat.js) and the document (view.js, sessions.js). */

import { Account } from "./auth.js";
import { Chat, SignedOut } from "./chat.js";
import { inWords } from "./codes.js";
import { loadConfig, nodeOf } from "./places.js";
import { wireSessions } from "./sessions.js";
import * as view from "./view.js";

const FROM_NODE = "From the clock of the publishing node to the clock here";
const $ = (id) => document.getElementById(id);

const config = await loadConfig().catch((error) => {
  view.showBanner("This node did not say where the auth service is (demo.json). Reload the page to try again.");
  throw error;
});
const account = new Account(config.auth);
const wanted = new URLSearchParams(location.search);
const place = {
  node: config.nodes.find(({ name }) => name === wanted.get("node")) ?? nodeOf(config, location.origin) ?? config.nodes[0],
  room: wanted.get("room") || config.room,
};
let chat = null;
let link = {}; // what the connection said last
let users = new Set();
let sending = new Map(); // key -> { text, target, line }
let timings = []; // of our own messages, ms
let [countdown, recount] = [0, 0]; // timers

// --- signing in and out

async function signIn(event) {
  event.preventDefault();
  view.showWrong("");
  const [name, password] = [$("name").value.trim(), $("password").value];
  const buttons = event.target.querySelectorAll("button");
  buttons.forEach((button) => (button.disabled = true));
  try {
    if (event.submitter?.value === "register") await account.register(name, password);
    else await account.login(name, password);
  } catch (error) {
    view.showWrong(error.message);
  } finally {
    buttons.forEach((button) => (button.disabled = false));
  }
}

/** The cookie is not ours to drop: while the auth service is away, its user stays signed in and must know it. */
async function signOut() {
  await account.logout().catch(({ message }) => view.addNote(`You are still signed in. ${message}`, null, "problem"));
}

function onOut({ notice }) {
  leave();
  view.showState("stopped", "Not connected");
  view.showDoor(notice);
}

/** Sign in by what the browser has kept from the last time. */
async function comeBack() {
  try {
    if (!(await account.restore())) view.showDoor();
    view.showBanner();
  } catch (error) {
    if (error instanceof SignedOut) return; // onOut has shown the door
    view.showBanner(`${error.message} We are trying again.`);
    setTimeout(comeBack, 1000 + 2000 * Math.random());
  }
}

// --- being in a room

function enter() {
  leave();
  users = new Set();
  view.clearLog();
  view.showRoom(account.name);
  showPlace();
  chat = new Chat({ url: place.node.url, room: place.room, token: (stale) => account.token(stale) });
  chat
    .on("state", onState)
    .on("welcome", onWelcome)
    .on("message", onMessage)
    .on("history", onHistory)
    .on("private", onPrivate)
    .on("sent", onSent)
    .on("unsent", onUnsent)
    .on("system", onSystem)
    .on("users", onUsers)
    .on("left", () => view.addNote("The node has taken you out of this room.", null, "problem"))
    .on("gap", () => view.addNote("Messages are missing here: the room no longer keeps them.", null, "gap"))
    .on("error", ({ message }) => view.addNote(`The node answered: ${message}`, null, "problem"));
  chat.open();
}

function leave() {
  chat?.close();
  chat = null;
  link = {};
  showBanner();
  sending = new Map();
  clearInterval(countdown);
  clearTimeout(recount);
}

function showPlace() {
  view.showPlaces(config.nodes, place.node, place.room);
  history.replaceState(null, "", `?${new URLSearchParams({ node: place.node.name, room: place.room })}`);
  pick("");
}

function onWelcome({ resumed }) {
  view.addNote(resumed ? `Connected again, to ${place.node.name}.` : `Connected to ${place.node.name}.`);
}

function onMessage({ sender, content, data, timestamp, live, key, took }) {
  forget(key);
  const mine = sender === chat.user;
  view.addMessage({
    sender,
    from: named(sender),
    text: content ?? JSON.stringify(data),
    timestamp,
    status: took !== undefined ? timed(took) : live ? since(timestamp) : "",
    title: took !== undefined ? "From sending it to receiving it" : FROM_NODE,
    kinds: [mine ? "mine" : "theirs", content === undefined ? "data" : "words"],
  });
}

function named(sender) {
  if (sender === null) return "server";
  return sender === chat.user ? `${sender} (you)` : sender || "anonymous";
}

function onHistory({ count, recovered }) {
  const messages = count === 1 ? "1 message" : `${count} messages`;
  if (recovered) view.addNote(count ? `${messages} came while we were away.` : "Nothing was missed.");
  else if (count) view.addNote(`${messages} from before.`);
}

function onPrivate({ sender, content, data, timestamp }) {
  const text = content ?? JSON.stringify(data);
  view.addMessage({
    sender,
    from: named(sender),
    text,
    timestamp,
    label: "private to you",
    status: since(timestamp),
    title: FROM_NODE,
    kinds: ["private", "theirs"],
  });
}

function onSent({ key, target, delivered, took }) {
  const { text } = forget(key) ?? {};
  if (text === undefined) return;
  view.addMessage({
    sender: chat.user,
    from: named(chat.user),
    text,
    label: `private to ${target}`,
    status: delivered ? `delivered, ${timed(took)}` : `${target} is not connected`,
    title: "From sending it to the node's answer",
    kinds: ["private", "mine", delivered ? "delivered" : "undelivered"],
  });
}

function onSystem({ event, user, content, timestamp }) {
  if (event === "joined") users.add(user);
  else users.delete(user);
  onUsers({ users: [...users] });
  view.addNote(content, timestamp);
  clearTimeout(recount); // answer and events travel different ways: once they are quiet, ask again
  recount = setTimeout(() => chat?.askUsers(), 1000);
}

function onUsers({ users: names }) {
  users = new Set(names);
  view.showUsers([...users].sort(), chat.user, pick);
}

// --- sending

function submit(event) {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || !send(text, $("target").value)) return;
  $("text").value = "";
  view.toEnd();
}

/** Returns false when there is no link: the text then stays where it is. */
function send(text, target) {
  const key = target ? chat?.whisper(target, text) : chat?.say(text);
  if (!key) return false;
  const line = view.addPending(target ? `to ${target}: ${text}` : text);
  sending.set(key, { text, target, line });
  return true;
}

function forget(key) {
  const sent = sending.get(key);
  sent?.line.remove();
  sending.delete(key);
  return sent;
}

function onUnsent({ key, why }) {
  const { text, target, line } = sending.get(key);
  sending.delete(key);
  view.failPending(line, why, () => {
    if (!send(text, target)) $("text").value = text;
  });
}

function pick(user) {
  view.pickTarget(user);
  $("text").focus();
}

/** How long a message of somebody else took; two clocks that disagree tell nothing. */
function since(timestamp) {
  const late = Date.now() - Date.parse(timestamp);
  return late >= 0 ? view.inMilliseconds(late || 0.5) : ""; // a timestamp has whole milliseconds
}

function timed(took) {
  timings = [...timings.slice(-99), took];
  const median = timings.toSorted((a, b) => a - b)[timings.length >> 1];
  view.showTiming(`Delivered in ${view.inMilliseconds(took)}, median ${view.inMilliseconds(median)}`);
  return view.inMilliseconds(took);
}

// --- the state of the link

function onState(news) {
  clearInterval(countdown);
  const { state, code, reason } = news;
  // an operator may have ended the connection, or somebody the session: the auth service knows
  if (state === "stopped" && (code === 3500 || code === 3503)) account.confirm().catch(() => {});
  link = state === "connecting" ? { ...link, state } : news; // while we try again, the banner still says why
  if (state === "waiting") countDown(news.delay);
  else view.showState(state, { open: `Connected to ${place.node.name}`, connecting: "Connecting", stopped: "Not connected" }[state]);
  showBanner();
}

function countDown(delay) {
  const until = performance.now() + delay;
  const show = () => {
    const seconds = Math.ceil((until - performance.now()) / 1000);
    view.showState("waiting", seconds > 0 ? `Reconnecting in ${seconds} s` : "Reconnecting");
  };
  show();
  countdown = setInterval(show, 250);
}

function showBanner() {
  const why = inWords(link.code, link.reason);
  if (!navigator.onLine) view.showBanner("This device is offline. The room keeps what you miss.", chat ? "Try anyway" : "");
  else if (link.state === "open" || link.code === undefined || link.code === 1000) view.showBanner("");
  else if (link.state === "stopped") view.showBanner(`${why}. We do not come back by ourselves.`, "Connect again");
  else view.showBanner(`${why}. We are trying again.`, "Connect now");
}

function hurry() {
  if (chat?.state === "stopped") chat.open();
  else chat?.hurry();
}

// --- wiring

$("sign-in").addEventListener("submit", signIn);
$("sign-out").addEventListener("click", signOut);
wireSessions(account);
account.on("in", enter).on("out", onOut);
$("hurry").addEventListener("click", hurry);
$("newer").addEventListener("click", view.toEnd);
$("composer").addEventListener("submit", submit);
$("target").addEventListener("change", () => view.pickTarget($("target").value)); // the focus stays: arrow keys go on
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Escape") pick("");
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("place").addEventListener("submit", (event) => {
  event.preventDefault();
  place.room = $("room-name").value;
  enter();
});
$("node").addEventListener("change", () => {
  place.node = config.nodes.find(({ url }) => url === $("node").value);
  showPlace();
  chat.open(place.node.url);
});
$("fold").addEventListener("click", () => {
  const open = $("fold").getAttribute("aria-expanded") !== "true";
  $("fold").setAttribute("aria-expanded", String(open));
});
addEventListener("offline", showBanner);
addEventListener("online", () => {
  showBanner();
  chat?.hurry();
});

if (config.auth) comeBack();
else view.showDoor({ title: "Nobody can sign in here", text: "This node was not told where the auth service is." });
