// JSON-RPC 2.0 with the worker: one message a line, both ways, up to 1 MiB each.

import { failure } from "./failure.js";
import { eachLine } from "./process.js";

/** @import { ChildProcessWithoutNullStreams } from "node:child_process" */
/** @import { Logger, Methods, OnProgress, Response } from "./types.d.ts" */

const MAX_MESSAGE_BYTES = 1 << 20;
const TOO_LARGE_HINT = "Save the picture as a file in the workspace and give its path instead of a data: URL.";

/**
 * @typedef {object} Pending A request without a response yet.
 * @property {(response: Response<any>) => void} settle
 * @property {OnProgress | undefined} onProgress
 */

export class JsonRpcConnection {
  #child;
  /** @type {string | null} */
  #ended = null;
  #lastId = 0;
  #logger;
  #onMessage;
  /** @type {Map<number, Pending>} */
  #pending = new Map();

  /**
   * @param {ChildProcessWithoutNullStreams} child
   * @param {Logger} logger
   * @param {() => void} onMessage Called with every message of the protocol.
   */
  constructor(child, logger, onMessage) {
    this.#child = child;
    this.#logger = logger;
    this.#onMessage = onMessage;
    eachLine(child.stdout, {
      maxBytes: MAX_MESSAGE_BYTES,
      onLine: (line) => this.#receive(line),
      onTooLong: () => child.kill("SIGKILL"),
    });
  }

  /**
   * Sends a request; one that is too large for the worker is settled with an error instead, and one to a process that
   * has ended with how it ended.
   *
   * @template {keyof Methods} Method
   * @param {Method} method
   * @param {Methods[Method]["params"]} params
   * @param {OnProgress} [onProgress]
   * @returns {{ id: number, response: Promise<Response<Methods[Method]["result"]>> }}
   */
  request(method, params, onProgress) {
    const id = ++this.#lastId;
    const response = new Promise((resolve) => {
      const settle = (/** @type {Response<any>} */ found) => {
        if (this.#pending.delete(id)) resolve(found);
      };
      this.#pending.set(id, { onProgress, settle });
    });
    if (this.#ended !== null) this.#pending.get(id)?.settle({ ended: this.#ended });
    else if (!this.#send({ id, method, params })) {
      const result = failure("invalid_arguments", "The arguments are larger than 1 MiB.", TOO_LARGE_HINT);
      this.#pending.get(id)?.settle({ result });
    }
    return { id, response };
  }

  /**
   * @param {string} method
   * @param {unknown} params
   */
  notify(method, params) {
    this.#send({ method, params });
  }

  /**
   * Drops a request whose response is no longer needed.
   *
   * @param {number} id
   */
  forget(id) {
    this.#pending.delete(id);
  }

  /**
   * Settles every open request, because the process has ended or is not waited for any longer.
   *
   * @param {string} ended How it ended.
   */
  end(ended) {
    this.#ended ??= ended;
    for (const { settle } of this.#pending.values()) settle({ ended: this.#ended });
  }

  /**
   * Sends a message unless it is too large for the worker; returns whether it was sent.
   *
   * @param {{ method: string, params: unknown, id?: number }} message
   */
  #send(message) {
    const line = `${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`;
    if (Buffer.byteLength(line) > MAX_MESSAGE_BYTES) return false;
    this.#child.stdin.write(line);
    return true;
  }

  /**
   * Takes a response or a progress notification; anything else is a library's stray output.
   *
   * @param {string} line
   */
  #receive(line) {
    try {
      const { id, method, params, ...response } = JSON.parse(line);
      const isResponse = Boolean(response.result || response.error);
      if (method !== "progress" && !isResponse) return;
      this.#onMessage();
      if (method === "progress") this.#pending.get(params.id)?.onProgress?.(params);
      else this.#pending.get(id)?.settle(response);
    } catch (error) {
      const reason = error instanceof Error ? error.message : error;
      this.#logger.debug?.(`flux2 worker: ignored a line of its output: ${reason}`);
    }
  }
}
