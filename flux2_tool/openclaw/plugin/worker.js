// The Python worker as a child process: its start and end, whether it fits this plugin, and the calls to it.
//
// A tool's failure is a result with `error`. Here a worker that cannot be started, does not fit this plugin or
// ends during a call becomes such a result too, with the command that fixes it.

import { failure } from "./failure.js";
import { JsonRpcConnection } from "./json_rpc.js";
import { eachLine, processEnd, startProcess } from "./process.js";

/** @import { AccountParams, Bundle, CallParams, Failure, InitializeParams, Launch } from "./types.d.ts" */
/** @import { Logger, OnProgress, Response, ToolResult, WebhookParams } from "./types.d.ts" */

const START_MS = 30_000;
const GRACE_MS = 5_000;
const MAX_LOG_LINE_BYTES = 1 << 20;

const RETRY_HINT = "If the task is known, call get_image_task with it, else make the same call again, once.";

export class Worker {
  /** Whether it takes no more calls: its process has ended, or was asked to. */
  isClosed = false;
  #active = 0;
  #isRetired = false;
  #lastLogLine = "";
  /** @type {JsonRpcConnection} */
  #connection;

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
    this.#connection = new JsonRpcConnection(this.child, logger);
    this.exited = processEnd(this.child).then((ended) => {
      this.isClosed = true;
      this.#connection.end(ended);
    });
    this.#passLogOn();
    this.ready = this.#initialize(launch, initializeParams, bundle);
  }

  /** Returns null when it runs and fits this plugin, else the failure with the command that fixes it. */
  async check() {
    this.#countCalls(+1);
    const problem = await this.ready;
    this.#countCalls(-1);
    return problem;
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
      const { id, response } = this.#connection.request("call", params, onProgress);
      // A healthy worker answers a cancel at once, with the task; one that hangs must not hold up the session.
      const cancelTimeout = aborted.then(() => this.#cancel(id));
      const outcome = await Promise.race([response, cancelTimeout]);
      if (outcome) return resultOf(outcome);
      this.#connection.forget(id);
      const message = "The call was stopped; the image worker does not answer.";
      return failure("cancelled", message, RETRY_HINT, "unknown");
    } finally {
      release();
      this.#countCalls(-1);
    }
  }

  /**
   * Returns whether RunAPI has sent this webhook; null when the worker gives no verdict.
   *
   * @param {WebhookParams} params
   */
  async webhook(params) {
    this.#countCalls(+1);
    try {
      if (await this.ready) return null;
      const { result } = await this.#connection.request("webhook", params).response;
      return result ? result.accepted : null;
    } finally {
      this.#countCalls(-1);
    }
  }

  /** Lets the calls in flight finish, then ends the worker. Resolves when it has ended, or after the grace time. */
  retire() {
    this.#isRetired = true;
    this.#countCalls(0);
    return Promise.race([this.exited, graceTime()]);
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
    if (!this.#isRetired || this.#active || this.isClosed) return;
    this.isClosed = true;
    this.#connection.request("shutdown", {});
    setTimeout(() => this.child.kill("SIGKILL"), GRACE_MS).unref();
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
      isLate = this.child.kill("SIGKILL");
    }, START_MS);
    const { result, error, ended } = await this.#connection.request("initialize", initializeParams).response;
    clearTimeout(timer);
    if (result?.version === bundle.version && result.manifest_sha256 === bundle.manifest_sha256) return null;
    this.#isRetired = true;
    const [program] = launch.program;
    const isOlder = result !== undefined && isLowerVersion(result.version, bundle.version);
    const isMissing = /No module named '?flux2_tool/.test(this.#lastLogLine);
    const reinstall = result && !isOlder ? "flux2-tool openclaw install" : launch.fix;
    const fix = isOlder || isMissing ? installAgain(launch, bundle) : `run: ${reinstall}`;
    const cause = isLate ? `it did not start within ${START_MS / 1000} s` : (ended ?? error?.message);
    const problem = result
      ? `has flux2-tool ${result.version} or another manifest, the plugin is version ${bundle.version}`
      : `does not start the worker: ${[cause, this.#lastLogLine].filter(Boolean).join("; ")}`;
    return failure("configuration_error", `${program} ${problem}`, `Nothing was sent. To fix it, ${fix}`);
  }

  /**
   * Asks the worker to stop a call; resolves after the time it has to respond.
   *
   * @param {number} id
   * @returns {Promise<undefined>}
   */
  async #cancel(id) {
    this.#connection.notify("cancel", { id });
    await graceTime();
    return undefined;
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
 * @returns {ToolResult}
 */
function resultOf({ result, error }) {
  if (result) return result;
  if (error) return failure("internal_error", `The worker refused the call: ${error.message}`, "", "unknown");
  return failure("worker_stopped", "The image worker stopped during this call.", RETRY_HINT, "unknown", true);
}

/**
 * @param {Launch} launch
 * @param {Bundle} bundle
 */
function installAgain({ program: [python, ...options] }, { install_again }) {
  return install_again.replace("{pip}", () => (options.length ? `${python} -m pip` : "pip"));
}

/**
 * @param {string} version
 * @param {string} other
 */
function isLowerVersion(version, other) {
  return version.localeCompare(other, "en", { numeric: true }) < 0;
}

/**
 * Returns a promise of a signal's abort, and a function that removes its listener.
 *
 * @param {AbortSignal | undefined} signal
 */
function abortOf(signal) {
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
 * @returns {Promise<void>}
 */
function graceTime() {
  return new Promise((resolve) => {
    setTimeout(resolve, GRACE_MS).unref();
  });
}
