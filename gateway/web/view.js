/** view.js: everything that touches the document. Text from the network goes in as text, never as markup. */

const $ = (id) => document.getElementById(id);
const KEPT = 500; // lines in the log
let reading = false; // the log is scrolled up: leave it there
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

function element(tag, className, ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}

function clock(timestamp) {
  const date = timestamp ? new Date(timestamp) : new Date();
  const node = element("time", "clock", CLOCK.format(date));
  node.dateTime = date.toISOString();
  return node;
}

export function inMilliseconds(ms) {
  if (ms < 1) return "< 1 ms";
  return ms < 10_000 ? `${Math.round(ms)} ms` : `${Math.round(ms / 1000)} s`;
}

// --- the two faces of the page

/** Show the form; `notice` says why it is shown: { title, text }. */
export function showDoor(notice = null) {
  $("room").hidden = $("me").hidden = true;
  $("door").hidden = false;
  $("notice").hidden = !notice;
  $("notice-title").textContent = notice?.title ?? "";
  $("notice-text").textContent = notice?.text ?? "";
  $("password").value = "";
  showWrong("");
  ($("name").value ? $("password") : $("name")).focus();
}

export function showRoom(user) {
  $("door").hidden = true;
  $("room").hidden = $("me").hidden = false;
  $("me-name").textContent = user;
  $("name").value = $("name").value || user;
  $("password").value = "";
  $("text").focus();
}

export function showWrong(text) {
  $("wrong").textContent = text;
  $("wrong").hidden = !text;
}

export function showPlaces(nodes, here, room) {
  $("node").replaceChildren(...nodes.map(({ name, url }) => new Option(`${name} · ${new URL(url).host}`, url, false, url === here.url)));
  $("room-name").value = room;
  $("title").textContent = `#${room}`;
  document.title = `#${room} · realtime-gateway`;
  $("elsewhere").replaceChildren(
    ...nodes.filter(({ url }) => url !== here.url).map(({ name }) => {
      const link = element("a", "", `Open a window on ${name}`);
      link.href = `?${new URLSearchParams({ node: name, room })}`;
      link.target = "_blank";
      link.rel = "noopener";
      return link;
    }),
  );
}

// --- the state of the link

export function showState(state, text) {
  $("badge").dataset.state = state;
  $("badge-text").textContent = text;
  $("send").setAttribute("aria-disabled", String(state !== "open"));
}

export function showBanner(text = "", button = "") {
  if ($("banner-text").textContent !== text) $("banner-text").textContent = text;
  $("banner").hidden = !text;
  $("hurry").hidden = !button;
  $("hurry").textContent = button;
}

export function showTiming(text) {
  $("timing").textContent = text;
}

// --- who is here

export function showUsers(users, me, onPick) {
  $("here-count").textContent = $("fold-count").textContent = String(users.length);
  showPeople(users, me, onPick);
  const picked = $("target").value;
  const others = users.filter((user) => user !== me);
  if (picked && !others.includes(picked)) others.push(picked); // who just left can still be written to
  $("target").replaceChildren(new Option("Everybody", ""), ...others.map((user) => new Option(`${user} (private)`, user)));
  $("target").value = picked;
}

/** Add who is new and take away who left; who stays is not touched, for somebody may have the focus there. */
function showPeople(users, me, onPick) {
  const key = (user) => JSON.stringify([user, user === me]);
  const wanted = new Set(users.map(key));
  for (const line of [...$("people").children]) if (!wanted.has(line.dataset.key)) line.remove();
  let next = $("people").firstElementChild;
  for (const user of users) {
    if (next?.dataset.key === key(user)) {
      next = next.nextElementSibling;
      continue;
    }
    const line = person(user, user === me, onPick);
    line.dataset.key = key(user);
    $("people").insertBefore(line, next);
  }
}

function person(user, isMe, onPick) {
  if (isMe) return element("li", "person", monogram(user), element("span", "", user), element("span", "you", "you"));
  const button = element("button", "person", monogram(user), element("span", "", user));
  button.type = "button";
  button.title = `Write to ${user} privately`;
  button.addEventListener("click", () => onPick(user));
  return element("li", "", button);
}

function monogram(user) {
  const node = element("span", "monogram", [...(user ?? "·")][0]?.toUpperCase() ?? "?");
  node.ariaHidden = "true";
  return node;
}

export function pickTarget(user) {
  $("target").value = user;
  $("composer").classList.toggle("is-private", user !== "");
  $("text").placeholder = user ? `Private message to ${user}` : `Message to ${$("title").textContent}`;
}

// --- the log

export function clearLog() {
  $("log").replaceChildren();
  $("pending").replaceChildren();
  $("newer").hidden = true;
}

/** Add a line for what happened; `kind` note, gap or problem. */
export function addNote(text, timestamp, kind = "note") {
  append(element("p", `line ${kind}`, clock(timestamp), " ", element("span", "", text)));
}

/** Add a message. `from` is what is shown as its sender, `label` beside it, `status` at the end of the line. */
export function addMessage({ sender, from, text, timestamp, label = "", status = "", title = "", kinds = [] }) {
  const line = element("article", ["line", "message", ...kinds].join(" "));
  const author = [sender, from, label].join("\n");
  if ($("log").lastElementChild?.dataset.author === author) line.classList.add("follows");
  line.dataset.author = author;
  const head = element("p", "head", element("strong", "", from), clock(timestamp));
  if (label) head.append(element("span", "label", label));
  const end = element("p", "status", status);
  end.title = title;
  line.append(monogram(sender), head, element("p", "text", text), end);
  append(line);
}

/** Show what is under way, below the log: it gets its place in the room only when the node has put it there. */
export function addPending(text) {
  const line = element("li", "pending", element("span", "text", text), element("span", "status", "sending"));
  $("pending").append(line);
  return line;
}

/** Say that it did not go through, and offer to try again or to let it be. */
export function failPending(line, why, again) {
  line.classList.add("failed");
  line.querySelector(".status").textContent = `not sent: ${why}`;
  for (const [label, act] of [["Send again", again], ["Discard", () => {}]]) {
    const button = element("button", "quiet", label);
    button.type = "button";
    button.addEventListener("click", () => {
      line.remove();
      act();
      $("text").focus();
    });
    line.append(button);
  }
}

function append(line) {
  const log = $("log");
  log.append(line);
  while (log.childElementCount > KEPT) log.firstElementChild.remove();
  if (!reading) toEnd();
  else $("newer").hidden = false;
}

export function toEnd() {
  $("log").scrollTop = $("log").scrollHeight;
}

$("log").addEventListener("scroll", () => {
  const log = $("log");
  reading = log.scrollHeight - log.scrollTop - log.clientHeight > 80;
  if (!reading) $("newer").hidden = true;
});

// a banner, a keyboard or a longer draft took some of the log's height
new ResizeObserver(() => reading || toEnd()).observe($("log"));
