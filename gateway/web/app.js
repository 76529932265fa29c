/** app.js: the demo page. Joins the account (auth.js), the connection (chat.js) and the document (view.js). */

import { Account } from "./auth.js";
import { Chat } from "./chat.js";
import { inWords } from "./codes.js";
import * as view from "./view.js";

const FROM_NODE = "From the clock of the publishing node to the clock here";
const $ = (id) => document.getElementById(id);

const config = await loadConfig();
const account = new Account(config.auth);
const wanted = new URLSearchParams(location.search);
const place = {
  node: config.nodes.find(({ name }) => name === wanted.get("node")) ?? nodeOf(location.origin) ?? config.nodes[0],
  room: wanted.get("room") || config.room,
};
let chat = null;
let link = {}; // what the connection said last
let users = new Set();
let sending = new Map(); // key -> { text, target, line }
let timings = []; // of our own messages, ms
let [countdown, recount] = [0, 0]; // timers

async function loadConfig() {
  try {
    return await (await fetch("demo.json")).json();
  } catch (error) {
    view.showBanner("This node did not say where the auth service is (demo.json). Reload the page to try again.");
    throw error;
  }
}

/** The node that served this page, also when the page was opened as localhost. */
function nodeOf(origin) {
  const { port } = new URL(origin);
  return config.nodes.find(({ url }) => url === origin) ?? config.nodes.find(({ url }) => new URL(url).port === port);
}

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
    enter();
  } catch (error) {
    view.showWrong(error.message);
  } finally {
    buttons.forEach((button) => (button.disabled = false));
  }
}

function signOut(wrong = "") {
  leave();
  view.showState("stopped", "Not connected");
  view.showDoor(wrong);
  account.logout().catch(() => {}); // the tokens here are gone either way, those there end by themselves
}

// --- being in a room

function enter() {
  leave();
  users = new Set();
  view.clearLog();
  view.showRoom(account.name);
  showPlace();
  chat = new Chat({ url: place.node.url, room: place.room, token: (fresh) => account.token(fresh) });
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
  if (state === "stopped" && code === 3500) return signOut(`${inWords(code, reason)}. Please sign in again.`);
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
$("sign-out").addEventListener("click", () => signOut());
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

if (account.name) enter();
else view.showDoor(config.auth ? "" : "This node was not told where the auth service is: nobody can sign in here.");
