/** sessions.js: the dialog of the account: where its user is signed in, and the password. */

const $ = (id) => document.getElementById(id);
const AGO = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const UNITS = [["day", 86_400], ["hour", 3600], ["minute", 60]];
const BROWSERS = { Edg: "Edge", OPR: "Opera", Firefox: "Firefox", Chrome: "Chrome", Safari: "Safari" };
const SYSTEMS = [["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"], ["Windows", "Windows"], ["Mac OS", "macOS"], ["Linux", "Linux"]];

/** Wire the dialog; whoever signs out in it is told by the account's `out`. */
export function wireSessions(account) {
  const dialog = $("account");

  /** Do something about the account, and show in the dialog what came of it. */
  async function attempt(button, act, done = "") {
    say("");
    button.disabled = true;
    try {
      await act();
      if (account.name) say(done);
    } catch (error) {
      if (account.name) say(error.message, true);
    } finally {
      button.disabled = false;
    }
  }

  async function show() {
    const sessions = await account.sessions();
    $("sessions").replaceChildren(...sessions.map((it) => row(it, (button) => end(it, button))));
    const others = sessions.filter(({ current }) => !current).length;
    $("sessions-count").textContent = others ? "" : "Nowhere but here.";
  }

  function end({ id, current }, button) {
    return attempt(button, async () => {
      if (current) return account.logout();
      await account.endSession(id);
      await show();
      $("account-title").focus(); // the button that had the focus is gone
    }, current ? "" : "Signed out there.");
  }

  $("account-open").addEventListener("click", (event) => {
    say("");
    $("account-name").textContent = $("account-user").value = account.name;
    $("change-password").reset();
    $("sessions").replaceChildren();
    dialog.showModal();
    return attempt(event.currentTarget, show);
  });
  $("everywhere").addEventListener("click", (event) => attempt(event.currentTarget, () => account.logout({ all: true })));
  $("change-password").addEventListener("submit", (event) => {
    event.preventDefault();
    return attempt($("change"), async () => {
      await account.changePassword($("old-password").value, $("new-password").value);
      event.target.reset();
      await show();
    }, "The password was changed, and every other session signed out.");
  });
  $("account-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close()); // beside it
  account.on("out", () => dialog.close()).on("in", () => dialog.close());
}

function say(text, wrong = false) {
  for (const [id, shown] of [["account-wrong", wrong], ["account-done", !wrong]]) {
    $(id).textContent = shown ? text : "";
    $(id).hidden = !shown || !text;
  }
}

function row({ agent, address, created_at, used_at, current }, onEnd) {
  const what = document.createElement("p");
  const name = document.createElement("strong");
  name.textContent = inShort(agent);
  name.title = agent;
  what.append(name, current ? " ·\u00a0here" : "");
  const where = document.createElement("p");
  where.className = "hint";
  const active = used_at - created_at > 60 ? `active ${ago(used_at)}` : "";
  where.textContent = [`Signed in ${ago(created_at)}`, active, address].filter(Boolean).join(" · ");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Sign out";
  button.setAttribute("aria-label", current ? "Sign out here" : `Sign out ${name.textContent}, active ${ago(used_at)}`);
  button.addEventListener("click", () => onEnd(button));
  const item = document.createElement("li");
  const about = document.createElement("div");
  about.append(what, where);
  item.append(about, button);
  return item;
}

/** `Firefox on Linux`; what is no browser is shown as it calls itself. */
function inShort(agent) {
  const browser = Object.keys(BROWSERS).find((it) => agent.includes(`${it}/`));
  const system = SYSTEMS.find(([mark]) => agent.includes(mark));
  if (!browser) return agent || "A program without a name";
  return system ? `${BROWSERS[browser]} on ${system[1]}` : BROWSERS[browser];
}

function ago(timestamp) {
  const seconds = Math.max(0, Date.now() / 1000 - timestamp);
  const [unit, size] = UNITS.find(([, length]) => seconds >= length) ?? [];
  return unit ? AGO.format(-Math.floor(seconds / size), unit) : "just now";
}
