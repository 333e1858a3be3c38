// Which pictures a conversation has been shown, so that none is shown twice unasked.

import { refOf } from "./picture_set.js";
import { remember, shared } from "./shared.js";

/** @import { Image, Success, ToolContext } from "./types.d.ts" */

const MAX_REMEMBERED = 20_000;

/** @type {WeakMap<ToolContext, number>} */
const turns = new WeakMap();
let lastTurn = 0;

/**
 * Returns the images of a result that are to be shown now, and remembers them: the first time in their session, and
 * again when they are fetched in a later turn. OpenClaw does not report whether an attachment was delivered, and a turn
 * may end before it is; somebody who asks for a picture again does not see it. They are remembered at once, so that no
 * equal call shows them too; where they could not be shown, `undo` forgets that.
 *
 * @param {Success} result
 * @param {Image[]} images Of the result.
 * @param {string} tool
 * @param {ToolContext} ctx
 * @returns {{ images: Image[], undo: () => void }}
 */
export function takeDue(result, images, tool, ctx) {
  const isFetched = tool === "get_image_task";
  const { agentId, sessionKey, sessionId } = ctx;
  const turn = turnOf(ctx);
  /** @type {Map<string, number>} By task. */
  const counts = new Map();
  /** @type {[string, number | undefined][]} */
  const taken = [];
  const due = images.filter((image) => {
    // The same picture, whether it is one of several here or was fetched alone.
    const task = refOf(image, result) ?? image.url;
    const index = counts.get(task) ?? 0;
    counts.set(task, index + 1);
    const key = JSON.stringify([agentId, sessionKey, sessionId, task, index]);
    const before = shared.shown.get(key);
    const isDue = take(key, turn, isFetched);
    if (isDue) taken.push([key, before]);
    return isDue;
  });
  return { images: due, undo: () => taken.forEach(([key, before]) => restore(key, before, turn)) };
}

/**
 * @param {string} key
 * @param {number} turn
 * @param {boolean} isFetched
 */
function take(key, turn, isFetched) {
  const before = shared.shown.get(key);
  if (before !== undefined && (before === turn || !isFetched)) return false;
  remember(shared.shown, key, turn, MAX_REMEMBERED);
  return true;
}

/**
 * @param {string} key
 * @param {number | undefined} before
 * @param {number} turn
 */
function restore(key, before, turn) {
  if (shared.shown.get(key) !== turn) return;
  if (before === undefined) shared.shown.delete(key);
  else shared.shown.set(key, before);
}

/**
 * Returns the number of a turn: OpenClaw makes the tools anew for each, with a context of its own.
 *
 * @param {ToolContext} ctx
 */
function turnOf(ctx) {
  const known = turns.get(ctx);
  if (known !== undefined) return known;
  // A reload loads this module anew; its numbers must not be those of turns before.
  lastTurn = Math.max(lastTurn + 1, Date.now());
  turns.set(ctx, lastTurn);
  return lastTurn;
}
