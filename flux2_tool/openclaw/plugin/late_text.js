// What a conversation is told of the pictures that it waits for.

/** @import { Failure, LatePicture, ToolResult } from "./types.d.ts" */

/**
 * @param {[LatePicture, ToolResult][]} ended The pictures of one call, and how each ended.
 */
export function textOf(ended) {
  const ready = ended.flatMap(([picture, { error }]) => (error ? [] : [picture]));
  const failed = ended.flatMap(([picture, { error }]) => (error ? [failureText(picture, error)] : []));
  return [...(ready.length ? [readyText(ready)] : []), ...failed].join("\n");
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
 * @param {Failure["error"]} error
 */
function failureText(picture, { message, charged }) {
  const ask = "Tell the user; request another one only if they ask for it.";
  return `${named([picture])} could not be made: ${message} (charged: ${charged}) ${ask}`;
}

/** @param {LatePicture[]} pictures */
function named(pictures) {
  const refs = pictures.map(({ ref }) => ref).join(", ");
  const title = pictures[0]?.title;
  const what = `The picture${pictures.length === 1 ? "" : "s"}`;
  return `${what} ${title ? `${refs} (${JSON.stringify(title)})` : refs}, requested in this conversation,`;
}

/**
 * Returns whether a picture will not come: RunAPI or its limits say so, and waiting changes nothing.
 *
 * @param {Failure} failure
 */
export function isFinal({ error: { retryable, code } }) {
  return !retryable && code !== "cancelled" && code !== "worker_stopped";
}
