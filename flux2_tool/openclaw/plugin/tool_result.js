// A call's result for OpenClaw: text for the model, pictures to attach, and progress for the channel.

import { explain } from "./failure.js";
import { shared } from "./shared.js";

/** @import { AgentToolResult, Failure, OnProgress, OnUpdate, Success, ToolContext } from "./types.d.ts" */

const MAX_REMEMBERED = 20_000;
const PROGRESS_EVERY_MS = 2_000;

const NOT_ATTACHED = "The call was stopped, so the picture was not attached; get_image_task attaches it.";
const ATTACHED_NOW = "The picture is attached to this conversation; do not post it or its link again.";
const ATTACHED_BEFORE =
  "The picture is already attached to this conversation; do not post it or its link again. " +
  "Only if the user does not see it, call get_image_task once more: that attaches it again.";

/**
 * @param {Failure} result
 * @returns {AgentToolResult}
 */
export function failedCall(result) {
  return { content: [{ type: "text", text: explain(result) }], details: { status: "error", result } };
}

/**
 * @param {Success} result
 * @param {string} tool
 * @param {ToolContext} ctx
 * @param {AbortSignal | undefined} signal
 * @returns {AgentToolResult}
 */
export function finishedCall(result, tool, ctx, signal) {
  const { task, images, cost, warnings, next } = result;
  const isCompleted = task.state === "completed";
  const isStopped = signal?.aborted === true;
  const mediaUrls = isCompleted && !isStopped ? urlsToAttach(result, tool, ctx) : [];
  const price = cost.usd === null ? "cost unknown" : `${cost.usd} USD (${cost.basis})`;
  const lines = [
    next,
    [task.ref, `state: ${task.state}`, modelText(task.model), isCompleted && price].filter(Boolean).join(", "),
    ...images.map(({ url }) => url),
    ...warnings.map((warning) => `Note: ${warning}`),
    isCompleted && images.length > 0 && attachmentNote(isStopped, mediaUrls),
  ];
  const media = mediaUrls.length ? { media: { mediaUrls } } : {};
  return { content: [{ type: "text", text: lines.filter(Boolean).join("\n") }], details: { ...media, result } };
}

/**
 * Returns the model's name for the text; the service may have named it, so that any other text is quoted.
 *
 * @param {string | null} model
 */
function modelText(model) {
  if (model === null || /^[a-z0-9][a-z0-9._-]{0,79}$/.test(model)) return model;
  return JSON.stringify(model.slice(0, 80)).replace(/[^ -~]/g, "");
}

/**
 * @param {boolean} isStopped
 * @param {string[]} mediaUrls
 */
function attachmentNote(isStopped, mediaUrls) {
  if (isStopped) return NOT_ATTACHED;
  return mediaUrls.length ? ATTACHED_NOW : ATTACHED_BEFORE;
}

/**
 * @param {Success} result
 * @param {string} tool
 * @param {ToolContext} ctx
 */
function urlsToAttach({ task, images }, tool, { agentId, sessionKey, sessionId }) {
  const isFetched = tool === "get_image_task";
  const due = images.filter(({ url }, index) => {
    return takeAttachment([agentId, sessionKey, sessionId, task.id ?? url, index], isFetched);
  });
  return due.map(({ url }) => url);
}

/**
 * Returns whether an image is to be attached now, and remembers it: the first time in its session, and again when it is
 * fetched twice after that. OpenClaw does not report whether an attachment was delivered, and a turn may end before
 * it is.
 *
 * @param {unknown[]} image Its identity, with its session.
 * @param {boolean} isFetched
 */
function takeAttachment(image, isFetched) {
  const key = JSON.stringify(image);
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

/**
 * Returns a function that passes the worker's progress on: each new state at once, the rest every two seconds.
 *
 * @param {OnUpdate} onUpdate
 * @param {string} id The tool call's, so that the host replaces the previous line.
 * @returns {OnProgress}
 */
export function progressReporter(onUpdate, id) {
  let lastState = "";
  let lastMs = 0;
  return (progress) => {
    if (progress.state === lastState && Date.now() - lastMs < PROGRESS_EVERY_MS) return;
    lastState = progress.state;
    lastMs = Date.now();
    const text = progress.message || `${progress.state}, ${Math.round(progress.elapsed_s ?? 0)} s`;
    onUpdate({
      content: [{ type: "text", text }],
      details: {},
      progress: { id, text, visibility: "channel", privacy: "public" },
    });
  };
}
