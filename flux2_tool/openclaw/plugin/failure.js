// A failed call: the same error object as the worker's, and its text for the model.

import { isCompleted, isProcessing, readyImages, refsOf } from "./picture_set.js";

/** @import { Charged, Failure, Success } from "./types.d.ts" */

const RETRY_HINT =
  "If the task is known, call get_image_task with it, else make the same call again, once and unchanged: " +
  "it finds what was already requested.";

/**
 * Returns an error of the plugin's own in the shape of the worker's.
 *
 * @param {string} code
 * @param {string} message
 * @param {string} hint
 * @param {Charged} [charged]
 * @param {boolean} [retryable]
 * @param {string | null} [taskRef]
 * @returns {Failure}
 */
export function failure(code, message, hint, charged = "no", retryable = false, taskRef = null) {
  return { error: { code, message, hint, retryable, charged, task_ref: taskRef, request_id: null } };
}

/**
 * Returns the error of a call that the worker left without an answer.
 *
 * @param {"cancelled" | "worker_stopped"} code
 * @param {string} message What happened.
 * @param {string | null} taskRef The call's task, where its progress has named one.
 */
export function interruptedCall(code, message, taskRef) {
  const known = `${taskRef} goes on at RunAPI and may be charged.`;
  const consequence = taskRef ? known : "Whether an image was requested, and is charged, is not known.";
  const fetch = `Call get_image_task with task_id "${taskRef}" to fetch the image; do not request it again.`;
  const hint = taskRef ? fetch : RETRY_HINT;
  return failure(code, `${message} ${consequence}`, hint, "unknown", code === "worker_stopped", taskRef);
}

/**
 * Returns the error of a call whose pictures were made or are being made, and which failed on the way to the
 * conversation.
 *
 * @param {Success} result
 */
export function unpresented(result) {
  const refs = refsOf(result, (state) => isCompleted(state) || isProcessing(state));
  const named = refs.map((ref) => `"${ref}"`).join(", then ");
  const hint = refs.length ? `Call get_image_task with task_id ${named}, which is free; do not request it again.` : RETRY_HINT;
  const message = "The plugin failed to show what was made; see the gateway's log.";
  return failure("internal_error", message, hint, readyImages(result).length ? "yes" : "unknown", false, refs[0] ?? null);
}

/**
 * Returns a failure as text: what happened, what to do, and the facts.
 *
 * @param {Failure} result
 */
export function explain({ error }) {
  const { message, hint, code, retryable, charged, task_ref, request_id, warnings = [] } = error;
  const facts = [code, `charged: ${charged}`, `retryable: ${retryable ? "yes" : "no"}`];
  if (task_ref) facts.push(task_ref);
  if (request_id) facts.push(`request ${request_id}`);
  const notes = warnings.map((warning) => `Note: ${warning}`);
  return [message, hint && `Hint: ${hint}`, `(${facts.join(", ")})`, ...notes].filter(Boolean).join("\n");
}
