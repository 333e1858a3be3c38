// What a conversation is told of a picture that it waits for.

/** @import { Failure, LatePicture, ToolResult } from "./types.d.ts" */

/**
 * @param {LatePicture} picture
 * @param {ToolResult} result
 */
export function textOf({ ref, title }, result) {
  const named = `The picture ${title ? `${ref} (${JSON.stringify(title)})` : ref}, requested in this conversation,`;
  if (!result.error) {
    return (
      `${named} is finished and was not shown yet. Show it to the user now: call get_image_task with task_id ` +
      `"${ref}", which is free, then answer with a caption. Do not request it again.`
    );
  }
  const { message, charged } = result.error;
  const ask = "Tell the user; request another one only if they ask for it.";
  return `${named} could not be made: ${message} (charged: ${charged}) ${ask}`;
}

/**
 * Returns whether a picture will not come: RunAPI or its limits say so, and waiting changes nothing.
 *
 * @param {Failure} failure
 */
export function isFinal({ error: { retryable, code } }) {
  return !retryable && code !== "cancelled" && code !== "worker_stopped";
}
