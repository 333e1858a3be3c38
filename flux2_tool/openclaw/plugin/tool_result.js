// A call's result for OpenClaw: text for the model, pictures to attach, and progress for the channel.

import { explain } from "./failure.js";
import { isCompleted, isProcessing, readyImages, refsOf, tasksOf } from "./picture_set.js";

/** @import { AgentToolResult, Delivery, Failure, OnProgress, OnUpdate, Settings, Success } from "./types.d.ts" */

const PROGRESS_EVERY_MS = 2_000;

const NOT_ATTACHED = "The call was stopped, so the picture was not attached; get_image_task attaches it.";
const ATTACHED_NOW = "The picture is already attached to this conversation: write a caption, no link.";
const ALL_ATTACHED_NOW =
  "The pictures are already attached to this conversation, in this order: write one caption, no links.";
const ATTACHED_BEFORE =
  "The picture is already attached to this conversation: post neither it nor a link. If the user says in a later message " +
  "that they do not see it, call get_image_task: that attaches it again.";
const HANDED_OVER =
  "You are a subagent, and nobody sees what is attached here. Name REF in your answer, exactly so: the " +
  "conversation that started you shows the picture with get_image_task, which is free, and may edit it.";
const HANDED_OVER_LATER =
  "Or end now with REF in your answer: the conversation that started you can wait for the picture, and shows it.";
const LATER =
  "Or end your turn now with a word to the user: when it is ready, this conversation is told by itself, and you show it then.";

/**
 * @param {Failure} result
 * @returns {AgentToolResult}
 */
export function failedCall(result) {
  return { content: [{ type: "text", text: explain(result) }], details: { status: "error", result } };
}

/**
 * @param {Success} result
 * @param {Delivery | null} delivery None for a result without a picture to show.
 * @param {{ isStopped: boolean, isFollowed: boolean, isHandedOver: boolean }} call Whether its turn was stopped,
 *   whether its conversation will be told when the picture is ready, and whether that is another one.
 * @returns {AgentToolResult}
 */
export function finishedCall(result, delivery, { isStopped, isFollowed, isHandedOver }) {
  const { task, images, cost, warnings, next } = result;
  const isDone = task.state === "completed";
  const ready = readyImages(result);
  const sum = cost.usd === null ? "cost unknown" : `${cost.usd} USD (${cost.basis})`;
  const price = task.joined ? `${sum}, paid once for all equal calls` : sum;
  const isPriced = isDone && !next.includes(price);
  const isShown = delivery !== null && !isStopped;
  const lines = [
    next,
    !isDone && laterText(refsOf(result, isProcessing), isFollowed, isHandedOver),
    [...refTexts(result), `state: ${task.state}`, modelText(task.model), isPriced && price].filter(Boolean).join(", "),
    // A link that stands beside an attached picture is posted by some models.
    ...images.filter((image) => isStopped || !ready.includes(image)).map(({ url }) => url),
    ...warnings.map((warning) => `Note: ${warning}`),
    ready.length > 0 &&
      (isHandedOver ? handedOver(HANDED_OVER, refsOf(result, isCompleted)) : deliveryText(isStopped, delivery)),
  ];
  const mediaUrls = isShown ? delivery.mediaUrls : [];
  const media = mediaUrls.length ? { media: { mediaUrls } } : {};
  return { content: [{ type: "text", text: lines.filter(Boolean).join("\n") }], details: { ...media, result } };
}

/**
 * Returns the references of a result's tasks, in order; one of several that is not completed with its state.
 *
 * @param {Success} result
 */
function refTexts(result) {
  const tasks = tasksOf(result);
  if (tasks.length === 1) return [result.task.ref];
  return tasks.map(({ ref, state }) => (isCompleted(state) ? ref : `${ref ?? "one without an id yet"} (${state})`));
}

/**
 * Says what becomes of unfinished pictures without a further call.
 *
 * @param {string[]} refs
 * @param {boolean} isFollowed
 * @param {boolean} isHandedOver
 */
function laterText(refs, isFollowed, isHandedOver) {
  if (isHandedOver) return handedOver(HANDED_OVER_LATER, refs);
  return isFollowed && LATER;
}

/**
 * @param {string} text
 * @param {string[]} refs
 */
function handedOver(text, refs) {
  return text.replace("REF", () => refs.join(", ") || "the link");
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
 * Says who delivers the picture.
 *
 * @param {boolean} isStopped
 * @param {Delivery | null} delivery
 */
function deliveryText(isStopped, delivery) {
  if (isStopped) return NOT_ATTACHED;
  if (!delivery) return ATTACHED_BEFORE;
  const { mediaUrls, lines, unattached } = delivery;
  /** @type {string[]} */
  const texts = [];
  if (lines.length) {
    const [it, line] = lines.length > 1 ? ["the pictures", "these lines"] : ["the picture", "this line"];
    texts.push(`You attach ${it}: write a caption without a link, and under it ${line}, exactly so:`, ...lines);
  } else if (mediaUrls.length) texts.push(mediaUrls.length > 1 ? ALL_ATTACHED_NOW : ATTACHED_NOW);
  for (const { url, path } of unattached) {
    texts.push(`Not attached, because this chat cannot fetch it: send the user this link: ${url}`);
    if (path) texts.push(`It is saved on this machine as ${path}`);
  }
  return texts.join("\n");
}

/**
 * Returns the warnings that are told. A copy that only we asked for is nothing that a person misses.
 *
 * @param {Success} result
 * @param {Pick<Settings, "save_dir">} settings
 */
export function toldWarnings({ warnings }, { save_dir }) {
  return save_dir ? warnings : warnings.filter((text) => !text.startsWith("not_saved: "));
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
