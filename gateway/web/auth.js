/**
 * auth.js: one signed-in user of the auth service. Keeps the tokens and hands out one that is still good.
 *
 *   const account = new Account("http://127.0.0.1:8001");
 *   await account.login("alice", password);
 *   const token = await account.token();
 *
 * The tokens live in sessionStorage: each tab is its own sign-in, a reload keeps it, closing the tab ends it.
 */

import { SignedOut } from "./chat.js";

const SECOND = 1000;
const MARGIN = 30 * SECOND; // a token that ends sooner is not worth connecting with

/** The auth service said no; `message` is fit to show. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Account {
  #url;
  #storage;
  #refreshing = null;

  constructor(url, storage = sessionStorage) {
    this.#url = url;
    this.#storage = storage;
  }

  get name() {
    return this.#read().name ?? "";
  }

  async login(name, password) {
    const answer = await this.#post("/login", { username: name, password });
    this.#write({ name, ...answer });
  }

  async register(name, password) {
    await this.#post("/register", { username: name, password });
    await this.login(name, password);
  }

  /** Forget the tokens here, and have the auth service forget them too. */
  async logout() {
    const { refresh_token } = this.#read();
    this.#storage.removeItem("account");
    if (refresh_token) await this.#post("/logout", { refresh_token });
  }

  /** Resolve to an access token; `fresh`: not the one we have. Throws SignedOut when the user must sign in again. */
  async token(fresh = false) {
    const { access_token, ends_at } = this.#read();
    if (access_token && !fresh && Date.now() + MARGIN < ends_at) return access_token;
    this.#refreshing ??= this.#refresh().finally(() => (this.#refreshing = null)); // a refresh token is good for one use
    return this.#refreshing;
  }

  async #refresh() {
    const { name, refresh_token } = this.#read();
    if (!refresh_token) throw new SignedOut("You are not signed in.");
    try {
      const answer = await this.#post("/refresh", { refresh_token });
      this.#write({ name, refresh_token, ...answer });
      return answer.access_token;
    } catch (error) {
      if (!(error instanceof Refused) || error.status >= 429) throw error; // not now: the caller tries again
      this.#storage.removeItem("account");
      throw new SignedOut("Your sign-in has ended. Please sign in again.");
    }
  }

  async #post(path, body) {
    let response;
    try {
      response = await fetch(this.#url + path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(10 * SECOND),
      });
    } catch {
      throw new Error(`The auth service at ${this.#url} does not answer.`);
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Refused(response.status, inWords(response.status, answer.error?.message));
    return answer;
  }

  #read() {
    return JSON.parse(this.#storage.getItem("account") ?? "{}");
  }

  #write({ name, access_token, refresh_token, expires_in }) {
    const ends_at = Date.now() + expires_in * SECOND;
    this.#storage.setItem("account", JSON.stringify({ name, access_token, refresh_token, ends_at }));
  }
}

function inWords(status, message) {
  if (status === 401) return "Name or password is wrong.";
  if (status === 429 || status === 503) return "The auth service is busy. Please wait a moment.";
  return message ? `${message[0].toUpperCase()}${message.slice(1)}.` : `The auth service answered with ${status}.`;
}
