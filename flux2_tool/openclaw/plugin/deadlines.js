// How long the plugin waits for its worker: for any sign of life, for a call's answer, and for an answer to an abort.
//
// All of it is counted in turns of timers and not read from a clock: a gateway that was busy or suspended itself finds
// the worker's messages in the pipe before the next turn, and blames nobody.

/** @import { CallParams } from "./types.d.ts" */

export const ABORT_MS = 2_000; // a worker that is well answers an abort at once
const BEAT_MS = 5_000;
const MAX_MISSED_BEATS = 4;
const DEFAULT_WAIT_S = 80; // the worker's own (engine/host_profile.py)
const GRACE_MS = 60_000; // sources are uploaded before a call's wait begins, its pictures are saved after it
const MAX_GRACES = 5;

/** Asks a worker for a sign of life every few seconds while it is watched. */
export class Heartbeat {
  #missed = 0;
  #isAsking = false;
  /** @type {NodeJS.Timeout | undefined} */
  #timer;
  #ask;
  #onStuck;

  /**
   * @param {() => Promise<unknown>} ask Asks the worker; resolves with its answer.
   * @param {(message: string) => void} onStuck Called once the worker has said nothing for too long.
   */
  constructor(ask, onStuck) {
    this.#ask = ask;
    this.#onStuck = onStuck;
  }

  /** Notes a message of the worker's. */
  heard() {
    this.#missed = 0;
  }

  start() {
    if (this.#timer) return;
    this.#missed = 0;
    this.#next();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #next() {
    this.#timer = setTimeout(() => this.#beat(), BEAT_MS);
    this.#timer.unref(); // the worker's own handles keep the process alive while calls are in flight
  }

  #beat() {
    if (this.#isAsking) this.#missed += 1;
    else this.#begin();
    if (this.#missed < MAX_MISSED_BEATS) return this.#next();
    this.#timer = undefined;
    return this.#onStuck(`it said nothing for ${(MAX_MISSED_BEATS * BEAT_MS) / 1000} s`);
  }

  async #begin() {
    this.#isAsking = true;
    await this.#ask();
    this.#isAsking = false;
  }
}

/**
 * Returns a promise that resolves when a call is long overdue, a function that puts that off because the call has made
 * progress, and one that ends it. Progress puts it off for a few minutes at most.
 *
 * @param {CallParams} params
 */
export function overdue({ arguments: args, wait_s }) {
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  let graces = 1;
  let isMoving = false;
  const late = new Promise((resolve) => {
    const onTime = () => {
      if (!isMoving || graces >= MAX_GRACES) return resolve(undefined);
      isMoving = false;
      graces += 1;
      timer = setTimeout(onTime, GRACE_MS).unref();
      return undefined;
    };
    timer = setTimeout(onTime, longestWait(args, wait_s) * 1000 + GRACE_MS).unref();
  });
  const moved = () => {
    isMoving = true;
  };
  return { late, moved, release: () => clearTimeout(timer) };
}

/**
 * Returns how long the worker may wait for a call's picture, in seconds: the longest of what the call and the settings
 * say, because the worker has checked neither yet.
 *
 * @param {unknown} args
 * @param {number | null} wait_s
 */
function longestWait(args, wait_s) {
  const { timeoutSeconds } = /** @type {Record<string, unknown>} */ (Object(args));
  const chosen = Number(timeoutSeconds);
  return Math.max(wait_s ?? DEFAULT_WAIT_S, chosen > 0 ? Math.min(chosen, 86_400) : 0);
}

/**
 * Returns a promise of a signal's abort, and a function that removes its listener.
 *
 * @param {AbortSignal | undefined} signal
 */
export function abortOf(signal) {
  let release = () => {};
  const aborted = new Promise((resolve) => {
    const onAbort = () => resolve(undefined);
    release = () => signal?.removeEventListener("abort", onAbort);
    signal?.addEventListener("abort", onAbort);
    if (signal?.aborted) onAbort();
  });
  return { aborted, release };
}

/**
 * Waits without keeping OpenClaw's process alive by itself.
 *
 * @param {number} ms
 * @returns {Promise<undefined>}
 */
export function pause(ms) {
  return new Promise((resolve) => {
    setTimeout(resolve, ms, undefined).unref();
  });
}
