// What a conversation is told of the pictures that it waits for.

/** @import { LatePicture, ToolResult } from "./types.d.ts" */

// The task has ended without a picture. Any other error is one of the way to RunAPI, of the key or of the set-up: the
// picture may be there, paid, once that is fixed.
const ENDS = ["generation_failed", "content_refused"];
const LOST = ["unexpected_answer", "task_not_found"];

/**
 * @param {[LatePicture, ToolResult][]} ended The pictures of one call, and how each ended.
 */
export function textOf(ended) {
  const ready = ended.flatMap(([picture, end]) => (isReady(end) ? [picture] : []));
  const others = ended.flatMap(([picture, end]) => (isReady(end) ? [] : [isOver(end) ? failureText(picture, end) : openText(picture, end)]));
  return [...(ready.length ? [readyText(ready)] : []), ...others].join("\n");
}

/** @param {LatePicture[]} pictures */
function readyText(pictures) {
  const refs = pictures.map(({ ref }) => ref);
  if (refs.length === 1) {
    return (
      `${named(pictures)} is finished and was not shown yet. Show it to the user now: call get_image_task with task_id ` +
      `"${refs[0]}", which is free, then answer with a caption. Do not request it again.`
    );
  }
  return (
    `${named(pictures)} are finished and were not shown yet. Show them to the user now: call get_image_task with task_id ` +
    `${refs.map((ref) => `"${ref}"`).join(", then ")}, which is free, then answer with one caption. Do not request them again.`
  );
}

/**
 * @param {LatePicture} picture
 * @param {ToolResult} end
 */
function failureText(picture, { error }) {
  const ask = "Tell the user; request another one only if they ask for it.";
  const how = error?.charged === "unknown" ? "did not come" : "could not be made";
  return `${named([picture])} ${how}: ${error?.message} (charged: ${error?.charged}) ${ask}`;
}

/**
 * Says that a picture is not waited for any longer, though it may still come.
 *
 * @param {LatePicture} picture
 * @param {ToolResult} end
 */
function openText(picture, { error }) {
  const why = error ? error.message : "RunAPI has not finished it.";
  const look = `It may be charged; get_image_task with task_id "${picture.ref}" looks again, which is free.`;
  return `${named([picture])} did not come within a day: ${why} ${look} Tell the user; request another one only if they ask for it.`;
}

/** @param {LatePicture[]} pictures */
function named(pictures) {
  const refs = pictures.map(({ ref }) => ref).join(", ");
  const title = pictures[0]?.title;
  const what = `The picture${pictures.length === 1 ? "" : "s"}`;
  return `${what} ${title ? `${refs} (${JSON.stringify(title)})` : refs}, requested in this conversation,`;
}

/**
 * Returns whether a picture is there.
 *
 * @param {ToolResult} end
 */
export function isReady(end) {
  return !end.error && end.task.state === "completed";
}

/**
 * Returns whether a picture is there, or will not come.
 *
 * @param {ToolResult} end
 */
export function isOver(end) {
  if (!end.error) return isReady(end);
  const { code, charged, retryable } = end.error;
  // RunAPI has taken the task and does not give its picture; under another account's key it never knew it.
  const isLost = LOST.includes(code) && charged !== "no" && !retryable;
  return ENDS.includes(code) || isLost;
}
