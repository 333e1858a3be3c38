// Pictures whose turn ended before they were shown: it was stopped, or the gateway was killed, after the tool's result.
//
// OpenClaw attaches a picture with the answer of its run. Its events say how each run ended; a run whose begin was seen,
// and that ended otherwise, or not at all before the gateway did, has shown nothing; one that failed may have. The
// conversation's next result says so, once; for a subagent's run it is the conversation that the subagent works for, which
// never heard of the picture. What is not shown yet is in a file, because a gateway that is killed has no time to write.

import { randomUUID } from "node:crypto";
import { join } from "node:path";

import { readPictures, writePictures } from "./picture_list.js";
import { isCompleted, refsOf, tasksOf } from "./picture_set.js";
import { callKeyOf, conversationOf, remember, shared } from "./shared.js";

/** @import { AgentEvent, PluginApi, Success, ToolContext, ToolResult, UnshownPicture } from "./types.d.ts" */

const MAX_RUNS = 2_000;
const MAX_PICTURES = 500;
const MAX_TOLD = 3;
const LIFE_MS = 7 * 24 * 3600 * 1000; // as long as RunAPI keeps the picture

export class UnshownPictures {
  /** @type {Map<string, UnshownPicture>} By conversation and task. */
  #pictures = new Map();
  #api;
  #file;
  #unsubscribe = () => {};

  /** @param {PluginApi} api */
  constructor(api) {
    this.#api = api;
    this.#file = join(api.runtime.state.resolveStateDir(), "flux2-tool", "unshown.json");
  }

  /** Goes on from what was not shown when the gateway ended; a reload of the plugin ends no run. */
  start() {
    shared.boot ??= randomUUID();
    for (const picture of this.#read()) {
      const isOld = Date.now() - picture.since_ms > LIFE_MS;
      if (!isOld) this.#pictures.set(keyOf(picture.session, picture.ref), picture);
    }
    const stop = this.#api.runtime.events?.onAgentEvent((event) => this.#onEvent(event));
    this.#unsubscribe = typeof stop === "function" ? stop : () => {};
  }

  stop() {
    this.#unsubscribe();
  }

  /**
   * Notes that a call's pictures are shown once its run ends.
   *
   * @param {ToolContext} ctx
   * @param {string} callId
   * @param {Success} result
   * @param {ToolContext} home The conversation that shows it.
   */
  add(ctx, callId, result, home) {
    const session = conversationOf(home);
    const run = shared.callRuns.get(callKeyOf(ctx, callId));
    const refs = refsOf(result, isCompleted);
    const wasNoted = refs.map((ref) => this.#pictures.delete(keyOf(session, ref))).some(Boolean);
    const isOpen = run && shared.openRuns.has(run);
    for (const ref of isOpen ? refs : []) {
      const known = { session, ref, title: result.task.title ?? null, call: callId, run: String(run), boot: shared.boot };
      remember(this.#pictures, keyOf(session, ref), { ...known, since_ms: Date.now(), isStopped: false }, MAX_PICTURES);
    }
    if (wasNoted || (isOpen && refs.length)) this.#write();
  }

  /**
   * Adds to a result what its conversation was not shown, other than the result's own picture; each is told once.
   *
   * @template {ToolResult} Result
   * @param {ToolContext} ctx
   * @param {Result} result
   * @returns {Result}
   */
  told(ctx, result) {
    const own = result.error ? [result.error.task_ref] : tasksOf(result).map(({ ref }) => ref);
    const session = conversationOf(ctx);
    const left = [...this.#pictures.values()].filter((one) => {
      return one.session === session && !own.includes(one.ref) && (one.isStopped || one.boot !== shared.boot);
    });
    const now = byCall(left).slice(0, MAX_TOLD);
    if (!now.length) return result;
    for (const { ref } of now.flat()) this.#pictures.delete(keyOf(session, ref));
    this.#write();
    const texts = now.map(textOf);
    if (!result.error) return { ...result, warnings: [...result.warnings, ...texts] };
    return { ...result, error: { ...result.error, warnings: [...(result.error.warnings ?? []), ...texts] } };
  }

  /** @param {AgentEvent} event */
  #onEvent({ stream, runId, data }) {
    if (stream !== "lifecycle" || !runId) return;
    const { phase, aborted, stopReason, timeoutPhase } = Object(data);
    if (phase === "start") remember(shared.openRuns, runId, true, MAX_RUNS);
    if (phase !== "end" && phase !== "error") return;
    shared.openRuns.delete(runId);
    // A run may "end" by its timeout without being aborted; after the turn, its answer is there.
    const isTimedOut = timeoutPhase ? timeoutPhase !== "post_turn" : stopReason === "timeout";
    const isShown = phase === "end" && aborted !== true && !isTimedOut;
    const ofRun = [...this.#pictures.values()].filter(({ run }) => run === runId);
    for (const picture of ofRun) {
      if (isShown) this.#pictures.delete(keyOf(picture.session, picture.ref));
      else Object.assign(picture, { isStopped: true, isFailed: phase === "error" && aborted !== true });
    }
    if (ofRun.length) this.#write();
  }

  /** @returns {UnshownPicture[]} */
  #read() {
    return readPictures(this.#file, isPicture, this.#api.logger);
  }

  #write() {
    writePictures(this.#file, [...this.#pictures.values()], this.#api.logger);
  }
}

/**
 * @param {string} session
 * @param {string} ref
 */
function keyOf(session, ref) {
  return JSON.stringify([session, ref]);
}

/**
 * Returns the pictures of each call.
 *
 * @param {UnshownPicture[]} pictures
 */
function byCall(pictures) {
  /** @type {Map<string, UnshownPicture[]>} */
  const found = new Map();
  for (const picture of pictures) {
    const key = JSON.stringify([picture.run, picture.call ?? picture.ref]);
    found.set(key, [...(found.get(key) ?? []), picture]);
  }
  return [...found.values()];
}

/** @param {UnshownPicture[]} pictures Of one call. */
function textOf(pictures) {
  const refs = pictures.map(({ ref }) => ref).join(", ");
  const { title, isFailed } = pictures[0] ?? {};
  const named = title ? `${refs} (${JSON.stringify(title)})` : refs;
  const isOne = pictures.length === 1;
  const count = isOne ? "an image" : `${pictures.length} images`;
  const [whose, they, each, it] = isOne ? ["its", "it was", "it", "it"] : ["their", "they were", "each", "them"];
  const how = isFailed ? `failed, perhaps before ${they} shown` : `ended before ${they} shown`;
  const next = isFailed ? `If the user does not see ${it}, show ${it}` : "Tell the user";
  return (
    `earlier_image: ${named}, ${count} asked for earlier in this conversation, ${isOne ? "is" : "are"} finished and charged, ` +
    `and ${whose} turn ${how}; ` +
    `get_image_task fetches ${each}, which is free. ${next}; do not request ${it} again`
  );
}

/** @param {unknown} value */
function isPicture(value) {
  const { session, ref, run, since_ms } = /** @type {Record<string, unknown>} */ (Object(value));
  return typeof session === "string" && typeof ref === "string" && typeof run === "string" && typeof since_ms === "number";
}
