/** codes.js: what a close code means to a person. The numbers are the gateway's one disconnect table. */

const WORDS = {
  1001: "The node is going away",
  1006: "The connection broke",
  1009: "A message was too big",
  1011: "The node had an internal error",
  1012: "The node restarts",
  3001: "The node is shutting down",
  3004: "The node has lost something it depends on",
  3005: "The token has ended",
  3006: "The subscription has ended",
  3008: "This page read too slowly",
  3010: "Messages were lost, starting afresh",
  3011: "The node asked us to come back",
  3012: "This page did not answer the node in time",
  3013: "Too many messages at once",
  3500: "The token was not accepted",
  3501: "The node did not understand this page",
  3502: "No token was given in time",
  3503: "You were disconnected by an operator",
  3504: "This user has too many connections",
  3505: "Too many rooms on one connection",
  3506: "This node does not speak our protocol",
  3507: "You may not do that",
  3508: "The node does not offer that",
  3509: "Too many mistakes in a minute",
};

/** One short sentence without a full stop. A code that is not in the table, or none (0), is told by its reason. */
export function inWords(code, reason) {
  return WORDS[code] ?? (reason || `The connection ended with code ${code}`);
}
