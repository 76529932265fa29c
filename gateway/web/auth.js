/**
 * auth.js: the signed-in user of the auth service, the same in all windows of this browser. No DOM.
 *
 *   const account = new Account("http://127.0.0.1:8001");
 *   account.on("in", ({ name }) => enter(name)).on("out", ({ notice }) => showTheForm(notice));
 *   if (!(await account.restore())) showTheForm(); // which calls account.login(name, password)
 *   const token = await account.token();
 *
 * Events, each with one object:
 *   in      { name }     somebody is signed in, here or in another window; or somebody else than before
 *   out     { notice }   nobody is signed in any more: { title, text } if its user should be told why, else null
 *
 * The access token is kept in memory only. The refresh token is in a cookie that no script can read; it is good for one
 * use, so one window at a time uses it, under a lock, and tells the others what it got.
 */

import { SignedOut } from "./chat.js";

const SECOND = 1000;
const MARGIN = 30 * SECOND; // a token that ends sooner is not worth connecting with,
const SHARE = 0.25; // or when this part of its life is left, if that is less

const ELSEWHERE = {
  title: "Signed out elsewhere",
  text: "This session was ended from another device, or the password was changed. Sign in to go on.",
};
const ENDED = { title: "Your sign-in has ended", text: "You were away for long, or signed out elsewhere. Sign in to go on." };
const EVERYWHERE = { title: "Signed out everywhere", text: "All sessions of this account have ended." };
const OTHER_WINDOW = { title: "Signed out", text: "You signed out in another window." };

/** The auth service said no; `message` is fit to show. */
export class Refused extends Error {
  constructor({ status, code, message, wait }) {
    super(inWords(status, code, message, wait));
    this.status = status;
    this.code = code;
  }
}

export class Account {
  name = ""; // empty: nobody is signed in
  #url;
  #listeners = new Map();
  #windows = new BroadcastChannel("account");
  #token = "";
  #lasts = 0; // the token's whole life in ms, and when it ends
  #endsAt = 0;
  #csrf = ""; // shows the auth service that it is us who send the cookie
  #renewing = null;
  #guessing = false; // we are signed out because the cookie was refused: the window that knows why may tell us late

  constructor(url) {
    this.#url = url;
    this.#windows.onmessage = ({ data }) => this.#hear(data);
  }

  on(event, listener) {
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener]);
    return this;
  }

  /** Sign in by the cookie. Resolves to false if there is none; throws SignedOut, after `out`, if it is not good any more. */
  async restore() {
    return this.#alone(async () => {
      if (this.name) return true; // another window has just told us
      this.#csrf = await this.#askCsrf();
      if (!this.#csrf) return false;
      await this.#renew(ENDED);
      return true;
    });
  }

  async login(username, password) {
    await this.#alone(async () => this.#share(await this.#post("/login", { username, password })));
  }

  async register(username, password) {
    await this.#post("/register", { username, password });
    await this.login(username, password);
  }

  /** End this session, or with `all` every session of this user. Throws, and all stays as it is, if that cannot be done. */
  async logout({ all = false } = {}) {
    await this.#alone(async () => {
      try {
        await this.#byCookie("/logout", { all });
      } catch (error) {
        if (!isOver(error)) throw error;
      }
      this.#leave(all ? EVERYWHERE : null, all ? EVERYWHERE : OTHER_WINDOW);
    });
  }

  /**
   * Resolve to an access token that is not `stale`: one that was refused, or is about to end.
   * Throws SignedOut, after `out`, when the user must sign in again; anything else means: not now.
   */
  async token(stale = "") {
    if (this.#isGood(stale)) return this.#token;
    this.#renewing ??= this.#alone(() => (this.#isGood(stale) ? null : this.#renew(ELSEWHERE))).finally(() => (this.#renewing = null));
    await this.#renewing;
    return this.#token;
  }

  /** Ask the auth service whether we are still signed in: `out` follows if not. */
  async confirm() {
    await this.token(this.#token);
  }

  /** The live sessions of this user, the latest first. */
  async sessions() {
    const { sessions } = await this.#byToken("GET", "/sessions");
    return sessions.toSorted((one, other) => other.used_at - one.used_at);
  }

  async endSession(id) {
    await this.#byToken("DELETE", `/sessions/${encodeURIComponent(id)}`);
  }

  /** Every other session of this user ends. */
  async changePassword(old_password, new_password) {
    await this.#byToken("POST", "/password", { old_password, new_password });
  }

  // --- one account in all windows

  /** Run while no other window does the like. Without a lock to be had the auth service forgives a second use for some seconds. */
  async #alone(act) {
    return navigator.locks ? navigator.locks.request("account", act) : act();
  }

  #isGood(stale) {
    const margin = Math.min(MARGIN, this.#lasts * SHARE);
    return this.#token !== "" && this.#token !== stale && Date.now() + margin < this.#endsAt;
  }

  /** Use the cookie. `notice` is for the case that the session behind it has ended. */
  async #renew(notice) {
    if (!this.name && notice !== ENDED) throw new SignedOut("You are not signed in.");
    try {
      this.#share(await this.#byCookie("/refresh", {}));
    } catch (error) {
      if (!isOver(error)) throw error; // not now: the caller tries again
      this.#leave(notice, notice, true);
      throw new SignedOut(notice.title);
    }
  }

  #share({ user, access_token, csrf_token, expires_in }) {
    const news = { user, access_token, csrf_token, lasts: expires_in * SECOND, endsAt: Date.now() + expires_in * SECOND };
    this.#windows.postMessage(news);
    this.#adopt(news);
  }

  #leave(here, there, guessed = false) {
    this.#windows.postMessage({ user: "", notice: there, guessed });
    this.#forget(here, guessed);
  }

  #hear(news) {
    if (news.user) this.#adopt(news);
    else if (this.name || (this.#guessing && !news.guessed)) this.#forget(news.notice, news.guessed);
  }

  #adopt({ user, access_token, csrf_token, lasts, endsAt }) {
    const before = this.name;
    [this.name, this.#token, this.#csrf, this.#lasts, this.#endsAt] = [user, access_token, csrf_token, lasts, endsAt];
    this.#guessing = false;
    if (before !== user) this.#emit("in", { name: user });
  }

  #forget(notice, guessed) {
    this.name = this.#token = this.#csrf = "";
    this.#guessing = guessed;
    this.#emit("out", { notice });
  }

  #emit(event, detail) {
    for (const listener of this.#listeners.get(event) ?? []) listener(detail);
  }

  // --- the auth service

  async #askCsrf() {
    return (await this.#post("/csrf")).csrf_token ?? "";
  }

  /** Another page may have used the cookie, so that ours has another CSRF token by now: then once more with that one. */
  async #byCookie(path, body) {
    try {
      return await this.#post(path, body, { "X-CSRF-Token": this.#csrf });
    } catch (error) {
      if (error.code !== "csrf_failed") throw error;
      this.#csrf = await this.#askCsrf();
      return this.#post(path, body, { "X-CSRF-Token": this.#csrf });
    }
  }

  async #byToken(method, path, body) {
    const ask = (token) => this.#ask(method, path, body, { Authorization: `Bearer ${token}` });
    const token = await this.token();
    try {
      return await ask(token);
    } catch (error) {
      if (error.code !== "invalid_token") throw error;
      return ask(await this.token(token));
    }
  }

  async #post(path, body = {}, headers = {}) {
    return this.#ask("POST", path, body, headers);
  }

  async #ask(method, path, body, headers) {
    let response;
    try {
      response = await fetch(this.#url + path, {
        method,
        headers: { "Content-Type": "application/json", "X-Requested-With": "browser", ...headers },
        body: body && JSON.stringify(body),
        credentials: "include",
        keepalive: true, // so that a page that is reloaded in this moment still gets its new cookie
        signal: AbortSignal.timeout(10 * SECOND),
      });
    } catch {
      throw new Error(`The auth service at ${this.#url} does not answer.`);
    }
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    throw new Refused({ status: response.status, wait: response.headers.get("Retry-After"), ...answer.error });
  }
}

/** Whether this answer means that there is no session any more. */
function isOver(error) {
  return error instanceof Refused && (error.status === 401 || error.code === "csrf_failed");
}

function inWords(status, code, message, wait) {
  if (code === "invalid_credentials") return "Name or password is wrong.";
  if (status === 429) return `Too many attempts. Please wait ${wait ? inTime(wait) : "a moment"}.`;
  if (status === 503) return "The auth service is busy. Please wait a moment.";
  return message ? `${message[0].toUpperCase()}${message.slice(1)}.` : `The auth service answered with ${status}.`;
}

function inTime(seconds) {
  return seconds < 90 ? `${seconds} s` : `${Math.ceil(seconds / 60)} minutes`;
}
