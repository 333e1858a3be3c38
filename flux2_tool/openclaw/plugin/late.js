// Pictures that were not finished when their call's wait ended: they come into their conversation by themselves.
//
// The plugin goes on waiting, and wakes the conversation's own session when the picture is ready; the agent then fetches
// it and shows it, as it would have done in the call. Only conversations of a channel or of WebChat are woken, each by
// its own route. What is waited for is in a file, because a gateway may be restarted meanwhile.

import { join } from "node:path";

import { WEBCHAT } from "./delivery.js";
import { pause } from "./deadlines.js";
import { LateSets } from "./late_set.js";
import { isOver, isReady, textOf } from "./late_text.js";
import { readPictures, writePictures } from "./picture_list.js";
import { isProcessing, refsOf, tasksOf } from "./picture_set.js";
import { conversationOf } from "./shared.js";

/** @import { LatePicture, PluginApi, Success, ToolContext, ToolResult } from "./types.d.ts" */

const WAIT_S = 600; // the longest wait of get_image_task
const AGAIN_MS = 1_000;
const RETRY_MS = 60_000;
const LONGEST_RETRY_MS = 10 * RETRY_MS; // what is wrong may stay so for the whole day
const LIFE_MS = 24 * 3600 * 1000;
const QUIET_MS = 5_000; // a turn that is under way may fetch the picture itself
const MAX_TOLD = 2; // a second time only when the gateway was restarted before anybody fetched it
const MAX_ENTRIES = 500;

/** @typedef {(picture: LatePicture, wait_s: number, signal: AbortSignal) => Promise<ToolResult>} Watch */

export class LatePictures {
  /** @type {Map<string, LatePicture>} */
  #pictures = new Map();
  /** @type {Map<string, number>} The calls in flight, by session. */
  #calls = new Map();
  #sets = new LateSets(() => this.#pictures.values());
  #stop = new AbortController();
  #isStarted = false;
  #api;
  #file;
  #watch;

  /**
   * @param {PluginApi} api
   * @param {Watch} watch Waits for a picture and shows it to nobody.
   */
  constructor(api, watch) {
    this.#api = api;
    this.#file = join(api.runtime.state.resolveStateDir(), "flux2-tool", "late.json");
    this.#watch = watch;
  }

  /** Goes on waiting for what was waited for when the gateway ended. */
  start() {
    this.#isStarted = true;
    for (const picture of this.#read()) {
      if (picture.told >= MAX_TOLD) continue;
      this.#pictures.set(keyOf(picture, picture.ref), picture);
      this.#begin(picture);
    }
  }

  /** Ends the waits; the file keeps what was waited for. */
  stop() {
    this.#stop.abort();
  }

  /**
   * Notes that a call of a session runs, and returns what ends that.
   *
   * @param {ToolContext} ctx
   */
  enter(ctx) {
    const session = conversationOf(ctx);
    this.#calls.set(session, (this.#calls.get(session) ?? 0) + 1);
    return () => {
      const left = (this.#calls.get(session) ?? 1) - 1;
      if (left > 0) this.#calls.set(session, left);
      else this.#calls.delete(session);
    };
  }

  /**
   * Waits for a call's unfinished pictures; returns whether its conversation will be told of all of them.
   *
   * @param {ToolContext} ctx
   * @param {Success} result
   */
  add(ctx, result) {
    const refs = refsOf(result, isProcessing);
    const isNamed = refs.length === tasksOf(result).filter(({ state }) => isProcessing(state)).length;
    const set = refs.length > 1 ? (refs[0] ?? null) : null;
    const isAdded = refs.map((ref) => this.#addOne(ctx, { ref, set, title: result.task.title }));
    return isNamed && isAdded.length > 0 && isAdded.every(Boolean);
  }

  /**
   * @param {ToolContext} ctx
   * @param {Pick<LatePicture, "ref" | "set" | "title">} picture
   */
  #addOne({ agentId, sessionKey, deliveryContext, messageChannel }, { ref, set, title }) {
    const channel = messageChannel ?? deliveryContext?.channel;
    if (!sessionKey || !deliveryContext || !channel || isNobodys(sessionKey)) return false;
    // The setting may have been off when the gateway began; what is in the file is waited for, too, and not overwritten.
    if (!this.#isStarted) this.start();
    const key = keyOf({ agentId, sessionKey }, ref);
    if (this.#pictures.has(key)) return true;
    if (this.#pictures.size >= MAX_ENTRIES) return false;
    const { to, accountId, threadId } = deliveryContext;
    const route = { channel, to, accountId, threadId };
    /** @type {LatePicture} */
    const picture = { agentId, sessionKey, ref, set, title: title ?? null, route, since_ms: Date.now(), told: 0 };
    this.#pictures.set(key, picture);
    this.#write();
    this.#begin(picture);
    return true;
  }

  /**
   * Returns the picture that a session is waiting for, or was told of.
   *
   * @param {ToolContext} ctx
   * @param {string | null} ref
   */
  find({ agentId, sessionKey }, ref) {
    return ref && sessionKey ? this.#pictures.get(keyOf({ agentId, sessionKey }, ref)) : undefined;
  }

  /**
   * Forgets a picture: its conversation has it, or knows that there is none.
   *
   * @param {ToolContext} ctx
   * @param {string | null} ref
   */
  settle(ctx, ref) {
    const picture = this.find(ctx, ref);
    if (picture) this.#forget(picture);
  }

  /** @param {LatePicture} picture */
  #begin(picture) {
    this.#follow(picture).catch((error) => this.#api.logger.error(`flux2: ${picture.ref}: ${error?.stack ?? error}`));
  }

  /** @param {LatePicture} picture */
  async #follow(picture) {
    const { signal } = this.#stop;
    let lastCode = "";
    let retryMs = RETRY_MS;
    while (this.#isWanted(picture)) {
      const isLastLook = Date.now() - picture.since_ms > LIFE_MS;
      const result = await this.#watch(picture, isLastLook ? 0 : WAIT_S, signal);
      // Its conversation was promised to hear of it.
      if (isLastLook || isOver(result)) return this.#tell(picture, result);
      const { code = "", retryable = true, message = "", hint = "" } = result.error ?? {};
      if (!retryable && code !== lastCode && this.#isWanted(picture)) {
        this.#api.logger.warn(`flux2: ${picture.ref} is late, and is waited for on: ${message} ${hint}`);
      }
      lastCode = code;
      await pause(result.error ? retryMs : AGAIN_MS);
      retryMs = result.error ? Math.min(2 * retryMs, LONGEST_RETRY_MS) : RETRY_MS;
    }
    return undefined;
  }

  /**
   * Wakes the conversation, unless it gets the picture by itself, once for all pictures of a call.
   *
   * @param {LatePicture} picture
   * @param {ToolResult} result
   */
  async #tell(picture, result) {
    await this.#sets.together(picture, result);
    do await pause(QUIET_MS);
    while (this.#isWanted(picture) && this.#calls.has(conversationOf(picture)));
    if (!this.#isWanted(picture)) return this.#sets.drop(picture);
    const ended = this.#sets.take(picture);
    if (!ended.length) return undefined;
    const { agentId, sessionKey, route, ref } = picture;
    for (const [one, end] of ended) {
      one.told += 1;
      if (!isReady(end)) this.#pictures.delete(keyOf(one, one.ref));
    }
    this.#write();
    const text = textOf(ended);
    const { system } = this.#api.runtime;
    const contextKey = `task:flux2:${ref}`;
    system.enqueueSystemEvent(text, { sessionKey, agentId, contextKey, deliveryContext: route, replace: true });
    // Without a target of its own the answer would go to the operator's direct messages.
    const { channel, to, accountId } = route;
    const heartbeat = channel === WEBCHAT || !to ? { target: "none" } : { target: channel, to, accountId };
    const wake = /** @type {const} */ ({ source: "background-task", intent: "immediate", reason: "background-task" });
    system.requestHeartbeat({ ...wake, sessionKey, agentId, heartbeat, coalesceMs: 0 });
    return undefined;
  }

  /** @param {LatePicture} picture */
  #isWanted(picture) {
    return !this.#stop.signal.aborted && this.#pictures.get(keyOf(picture, picture.ref)) === picture;
  }

  /** @param {LatePicture} picture */
  #forget(picture) {
    this.#sets.drop(picture);
    this.#pictures.delete(keyOf(picture, picture.ref));
    this.#write();
  }

  /** @returns {LatePicture[]} */
  #read() {
    return readPictures(this.#file, isPicture, this.#api.logger);
  }

  #write() {
    writePictures(this.#file, [...this.#pictures.values()], this.#api.logger);
  }
}

/**
 * @param {{ agentId?: string, sessionKey?: string }} owner
 * @param {string} ref
 */
function keyOf(owner, ref) {
  return JSON.stringify([conversationOf(owner), ref]);
}

/**
 * Returns whether nobody reads a session: a subagent's or a scheduled run's ends with its answer.
 *
 * @param {string} sessionKey
 */
function isNobodys(sessionKey) {
  return /:(subagent|cron|hook|acp)(:|$)/.test(sessionKey);
}

/** @param {unknown} value */
function isPicture(value) {
  const { ref, sessionKey, route, since_ms, told } = /** @type {Record<string, unknown>} */ (Object(value));
  const isNamed = typeof ref === "string" && typeof sessionKey === "string";
  return isNamed && typeof since_ms === "number" && typeof told === "number" && typeof Object(route).channel === "string";
}
