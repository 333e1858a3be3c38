// A failed call: the same error object as the worker's, and its text for the model.

/** @import { Charged, Failure } from "./types.d.ts" */

/**
 * Returns an error of the plugin's own in the shape of the worker's.
 *
 * @param {string} code
 * @param {string} message
 * @param {string} hint
 * @param {Charged} [charged]
 * @param {boolean} [retryable]
 * @returns {Failure}
 */
export function failure(code, message, hint, charged = "no", retryable = false) {
  return { error: { code, message, hint, retryable, charged, task_ref: null, request_id: null } };
}

/**
 * Returns a failure as text: what happened, what to do, and the facts.
 *
 * @param {Failure} result
 */
export function explain({ error: { message, hint, code, retryable, charged, task_ref, request_id } }) {
  const facts = [code, `charged: ${charged}`, `retryable: ${retryable ? "yes" : "no"}`];
  if (task_ref) facts.push(task_ref);
  if (request_id) facts.push(`request ${request_id}`);
  return [message, hint && `Hint: ${hint}`, `(${facts.join(", ")})`].filter(Boolean).join("\n");
}
