// A child process without the gateway's secrets, and its output line by line.

import { spawn } from "node:child_process";

/** @import { ChildProcessWithoutNullStreams } from "node:child_process" */
/** @import { Readable } from "node:stream" */

const PASSED_ON = "PATH HOME USER LANG TZ TMPDIR SSL_CERT_FILE SSL_CERT_DIR".split(" ");
const DRAIN_MS = 1_000; // a wrapper's child may keep the pipes open when the process has ended
const ALSO_PASSED_ON = /^(LC_\w+|XDG_\w+|(http|https|all|no)_proxy|(HTTP|HTTPS|ALL|NO)_PROXY)$/;

/** Returns what our processes see of the gateway's environment: no key. */
export function cleanEnvironment() {
  const variables = Object.entries(process.env);
  return Object.fromEntries(variables.filter(([name]) => PASSED_ON.includes(name) || ALSO_PASSED_ON.test(name)));
}

/**
 * Starts a worker with an environment that holds no key.
 *
 * @param {string[]} program
 * @param {string} folder OpenClaw's state folder, where its data is; also its working folder, because a workspace that
 *   the gateway runs in must not supply files to Python.
 */
export function startProcess([command = "", ...options], folder) {
  const env = { ...cleanEnvironment(), OPENCLAW_STATE_DIR: folder };
  const child = spawn(command, [...options, "worker"], { cwd: folder, env, stdio: "pipe" });
  child.stdin.on("error", () => {}); // "close" reports the end
  return child;
}

/**
 * Resolves with how a process ended, or why it could not be started.
 *
 * @param {ChildProcessWithoutNullStreams} child
 * @returns {Promise<string>}
 */
export function processEnd(child) {
  return new Promise((resolve) => {
    const ended = (/** @type {number | null} */ code, /** @type {string | null} */ signal) => {
      resolve(`it ended with ${signal ?? `code ${code}`}`);
    };
    child.once("error", ({ message }) => resolve(message));
    child.once("close", ended);
    child.once("exit", (code, signal) => {
      const timer = setTimeout(ended, DRAIN_MS, code, signal);
      child.once("close", () => clearTimeout(timer));
    });
  });
}

/**
 * Calls `onLine` with each whole line, and `onTooLong` when one does not end in time.
 *
 * @param {Readable} stream
 * @param {{ maxBytes: number, onLine: (line: string) => void, onTooLong?: () => void }} options
 */
export function eachLine(stream, { maxBytes, onLine, onTooLong }) {
  let rest = "";
  stream.on("error", () => {}); // the process's end is reported by itself
  stream.setEncoding("utf8").on("data", (chunk) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
    if (rest.length <= maxBytes) return;
    rest = "";
    onTooLong?.();
  });
}
