// The last pictures of a conversation as text for the model; none of them is attached by it.

import { WEBCHAT } from "./delivery.js";

/** @import { AgentToolResult, Recent, RecentImage, ToolContext, ToolResult } from "./types.d.ts" */

// The sessions of direct messages, and those that the operator's own clients open under names of their own. All
// conversations may share "global", and a name may be bound to a group.
const DIRECT = /^agent:[^:]+:(main|[^:]+:direct:.+)$/;
const OWN = /^agent:[^:]+:(?!(global|unknown)$)((dashboard|explicit):)?[^:]+$/;
const OWN_CHANNELS = [undefined, WEBCHAT];

/**
 * Returns whether a result is that of get_image_task without an id.
 *
 * @param {ToolResult | Recent} result
 * @returns {result is Recent}
 */
export function isRecent(result) {
  return "recent" in result;
}

/**
 * @param {Recent} result
 * @returns {AgentToolResult}
 */
export function recentCall(result) {
  const { next, recent, warnings } = result;
  const lines = [next, ...recent.map(recentText), ...warnings.map((warning) => `Note: ${warning}`)];
  return { content: [{ type: "text", text: lines.join("\n") }], details: { result } };
}

/**
 * Returns whether nobody but the owner reads a conversation, so that the account's balance may be told in it.
 *
 * @param {ToolContext} ctx
 */
export function isPrivate({ sessionKey = "", senderIsOwner, messageChannel }) {
  const isOwn = OWN.test(sessionKey) && OWN_CHANNELS.includes(messageChannel ?? undefined);
  return senderIsOwner === true && (isOwn || DIRECT.test(sessionKey));
}

/**
 * Returns a picture's line. It has no link: a signed one reaches the model cut, and the ref says it all. What neither
 * a link nor a file leads to is marked, and `next` says what to do with such a one.
 *
 * @param {RecentImage} image
 * @param {number} index
 */
function recentText({ ref, title, made_at, usd, model, state, url, path }, index) {
  const cost = usd === null ? "cost unknown" : `${usd} USD`;
  const facts = [ref ?? "no task id", JSON.stringify(title ?? ""), made_at, cost, model, state];
  if (state === "completed" && !url && !path) facts.push("link ended");
  return `${index + 1}. ${facts.join(", ")}`;
}
