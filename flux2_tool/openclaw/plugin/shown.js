// Which pictures a conversation has been shown, so that none is shown twice unasked.

import { shared } from "./shared.js";

/** @import { Image, Success, ToolContext } from "./types.d.ts" */

const MAX_REMEMBERED = 20_000;

/**
 * Returns the images of a result that are to be shown now, and remembers them: the first time in their session, and
 * again when they are fetched twice after that. OpenClaw does not report whether an attachment was delivered, and a
 * turn may end before it is.
 *
 * @param {Success} result
 * @param {string} tool
 * @param {ToolContext} ctx
 * @returns {Image[]}
 */
export function takeDue({ task, images }, tool, { agentId, sessionKey, sessionId }) {
  const isFetched = tool === "get_image_task";
  return images.filter(({ url }, index) => {
    return take(JSON.stringify([agentId, sessionKey, sessionId, task.id ?? url, index]), isFetched);
  });
}

/**
 * @param {string} key
 * @param {boolean} isFetched
 */
function take(key, isFetched) {
  const before = shared.shown.get(key);
  const isDue = before === undefined || (isFetched && before === "fetched");
  shared.shown.set(key, stateAfter(isDue, isFetched, before));
  if (shared.shown.size > MAX_REMEMBERED) {
    const [oldest] = shared.shown.keys();
    if (oldest !== undefined) shared.shown.delete(oldest);
  }
  return isDue;
}

/**
 * @param {boolean} isDue
 * @param {boolean} isFetched
 * @param {"attached" | "fetched" | undefined} before
 */
function stateAfter(isDue, isFetched, before) {
  if (isDue) return "attached";
  return isFetched ? "fetched" : before;
}
