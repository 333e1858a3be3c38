// The Python worker as a child process: its start and end, whether it fits this plugin, and the calls to it.
//
// A tool's failure is a result with `error`. Here a worker that cannot be started, does not fit this plugin, or ends or
// gets stuck during a call becomes such a result too, with what to do about it. A stuck worker is killed, and one that
// leaves a call or an abort unanswered gets no more calls: the next call starts another.

import { ABORT_MS, Heartbeat, abortOf, overdue, pause } from "./deadlines.js";
import { failure, interruptedCall } from "./failure.js";
import { misfit } from "./misfit.js";
import { JsonRpcConnection } from "./json_rpc.js";
import { eachLine, processEnd, startProcess } from "./process.js";

/** @import { AccountParams, Bundle, CallParams, Failure, InitializeParams, Launch } from "./types.d.ts" */
/** @import { Logger, Methods, OnProgress, Progress, Response, ToolResult } from "./types.d.ts" */

const START_MS = 30_000;
const GRACE_MS = 5_000;
const STOP_MS = 4_000; // OpenClaw waits 5 s for the end of a service, and calls a later one failed
const MAX_LOG_LINE_BYTES = 1 << 20;

export class Worker {
  /** Whether it takes no more calls: its process has ended, or was asked to. */
  isClosed = false;
  #active = 0;
  #isRetired = false;
  #lastLogLine = "";
  /** @type {JsonRpcConnection} */
  #connection;
  #heartbeat;
  #isEnded = false;
  #isReady = false;
  #ask;

  /**
   * @param {Launch} launch
   * @param {InitializeParams} initializeParams
   * @param {Bundle} bundle
   * @param {Logger} logger
   */
  constructor(launch, initializeParams, bundle, logger) {
    this.key = launch.key;
    this.home = launch.home;
    this.logger = logger;
    this.child = startProcess(launch.program, launch.home);
    // The first message once more: every version answers it, at any time and without an effect.
    const ask = () => this.#connection.request("initialize", initializeParams).response;
    this.#heartbeat = new Heartbeat(ask, (reason) => this.#end(reason));
    this.#connection = new JsonRpcConnection(this.child, logger, () => this.#heartbeat.heard());
    this.exited = processEnd(this.child).then((ended) => this.#end(ended));
    this.#passLogOn();
    this.ready = this.#initialize(launch, initializeParams, bundle);
    this.#ask = ask;
  }

  /** Whether a call may be given to it. */
  get takesCalls() {
    return !this.isClosed && !this.#isRetired;
  }

  /** Returns null when it answers and fits this plugin, else the failure with what to do about it. */
  async check() {
    this.#countCalls(+1);
    try {
      const problem = await this.ready;
      if (problem) return problem;
      const { ended } = await this.#ask();
      return ended ? failure("worker_stopped", `The image worker has ended: ${ended}.`, "The next call starts it.") : null;
    } finally {
      this.#countCalls(-1);
    }
  }

  /**
   * Returns the tool's result object, also when the worker ends during the call.
   *
   * @param {CallParams & AccountParams} params
   * @param {AbortSignal} [signal]
   * @param {OnProgress} [onProgress]
   * @returns {Promise<ToolResult>}
   */
  async call(params, signal, onProgress) {
    this.#countCalls(+1);
    const { aborted, release } = abortOf(signal);
    const unsent = failure("cancelled", "The call was stopped before anything was sent.", "");
    try {
      const problem = await Promise.race([this.ready, aborted.then(() => unsent)]);
      if (problem || signal?.aborted) return problem ?? unsent;
      return await this.#answerTo(params, aborted, onProgress);
    } finally {
      release();
      this.#countCalls(-1);
    }
  }

  /**
   * Returns a call's result, or an error when the worker does not answer in time or ends before.
   *
   * @param {CallParams & AccountParams} params
   * @param {Promise<unknown>} aborted
   * @param {OnProgress} [onProgress]
   * @returns {Promise<ToolResult>}
   */
  async #answerTo(params, aborted, onProgress) {
    const { late, moved, release } = overdue(params);
    /** @type {string | null} */
    let taskRef = null;
    const observe = (/** @type {Progress} */ progress) => {
      taskRef = progress.task_ref ?? taskRef;
      moved();
      onProgress?.(progress);
    };
    const { id, response } = this.#connection.request("call", params, observe);
    const cancel = () => this.#connection.notify("cancel", { id });
    // A worker that is well answers a cancel at once, with the task; one that hangs must not hold up the session.
    const unheeded = aborted.then(async () => {
      cancel();
      await pause(ABORT_MS);
      return /** @type {const} */ ("cancelled");
    });
    const outcome = await Promise.race([response, unheeded, late.then(() => /** @type {const} */ ("worker_stopped"))]);
    release();
    if (typeof outcome === "object") return resultOf(outcome, taskRef);
    this.#connection.forget(id);
    cancel();
    this.logger.warn(`flux2: the image worker left a call unanswered and is replaced (${outcome})`);
    this.retire();
    const cause = outcome === "cancelled" ? "The call was stopped; the" : "The";
    return interruptedCall(outcome, `${cause} image worker does not answer.`, taskRef);
  }

  /**
   * Returns the result of a request other than a call; null when the worker gives none.
   *
   * @template {"account" | "gallery" | "gallery_picture" | "question" | "overview" | "webhook"} Method
   * @param {Method} method
   * @param {Methods[Method]["params"]} params
   */
  async resultOf(method, params) {
    this.#countCalls(+1);
    try {
      if (await this.ready) return null;
      return (await this.#connection.request(method, params).response).result ?? null;
    } finally {
      this.#countCalls(-1);
    }
  }

  /** Lets the calls in flight finish, then ends the worker. Resolves when it has ended, or when nobody may wait longer. */
  retire() {
    this.#isRetired = true;
    this.#countCalls(0);
    return Promise.race([this.exited, pause(STOP_MS)]);
  }

  /**
   * Counts the calls in flight. An idle worker does not keep OpenClaw's process alive; a retired one ends.
   *
   * @param {number} change
   */
  #countCalls(change) {
    this.#active += change;
    const { stdin, stdout, stderr } = this.child;
    for (const handle of [this.child, stdin, stdout, stderr]) {
      // The pipes are sockets, which have both methods; their types do not say so.
      const socket = /** @type {Partial<import("node:net").Socket> | null} */ (handle);
      if (this.#active) socket?.ref?.();
      else socket?.unref?.();
    }
    if (!this.#active) this.#heartbeat.stop();
    else if (this.#isReady && !this.isClosed) this.#heartbeat.start();
    if (!this.#isRetired || this.#active || this.isClosed) return;
    this.isClosed = true;
    this.#connection.request("shutdown", {});
    setTimeout(() => this.#end("it did not end when asked to"), GRACE_MS).unref();
  }

  /**
   * Kills the process if it still runs, and answers every request that is open, also when it cannot be killed.
   *
   * @param {string} reason
   */
  #end(reason) {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.isClosed = true;
    this.#heartbeat.stop();
    if (this.#active) this.logger.warn(`flux2: the image worker is gone: ${reason}`);
    this.child.kill("SIGKILL");
    this.#connection.end(reason);
    // A wrapper's child may still have the other ends: it sees the end of its input.
    for (const pipe of [this.child.stdin, this.child.stdout, this.child.stderr]) pipe?.destroy();
  }

  /**
   * Returns null when the worker fits this plugin, else the failure with the command that fixes it.
   *
   * @param {Launch} launch
   * @param {InitializeParams} initializeParams
   * @param {Bundle} bundle
   * @returns {Promise<Failure | null>}
   */
  async #initialize(launch, initializeParams, bundle) {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.#end("it was killed");
    }, START_MS);
    const { result, error, ended } = await this.#connection.request("initialize", initializeParams).response;
    clearTimeout(timer);
    this.#isReady = true;
    this.#countCalls(0);
    if (result?.version === bundle.version && result.manifest_sha256 === bundle.manifest_sha256) return null;
    this.#isRetired = true;
    const cause = isLate ? `it did not start within ${START_MS / 1000} s` : (ended ?? error?.message);
    return misfit(launch, bundle, result, cause, this.#lastLogLine);
  }

  /** Passes the log on. A line without a level has that of the line before; the first ones explain a failed start. */
  #passLogOn() {
    /** @type {"warn" | "debug"} */
    let level = "warn";
    const onLine = (/** @type {string} */ line) => {
      this.#lastLogLine = line.slice(0, 300);
      const named = /^(DEBUG|INFO|WARNING|ERROR|CRITICAL) /.exec(line)?.[1];
      if (named) level = named === "DEBUG" || named === "INFO" ? "debug" : "warn";
      this.logger[level]?.(`flux2 worker: ${line.slice(0, 2000)}`);
    };
    eachLine(this.child.stderr, { maxBytes: MAX_LOG_LINE_BYTES, onLine });
  }
}

/**
 * @param {Response<ToolResult>} response
 * @param {string | null} taskRef
 * @returns {ToolResult}
 */
function resultOf({ result, error }, taskRef) {
  if (result) return result;
  if (error) return failure("internal_error", `The worker refused the call: ${error.message}`, "", "unknown");
  return interruptedCall("worker_stopped", "The image worker stopped during this call.", taskRef);
}
