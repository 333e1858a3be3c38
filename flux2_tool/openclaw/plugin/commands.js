// Short-lived commands: their output and how they ended, in an environment without the gateway's secrets.

import { execFile } from "node:child_process";

import { cleanEnvironment } from "./process.js";

/** @import { Bundle, CommandEnd } from "./types.d.ts" */

const START_MS = 30_000;
const MAX_OUTPUT_BYTES = 4 << 20;
// What an installer of Python packages reads: addresses, certificates, caches. Where it installs to is not for them to say.
const OF_INSTALLERS = /^(PIP_\w+|UV_\w+|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE)$/;
const OF_TARGETS = /^(PIP_(TARGET|PREFIX|ROOT|USER|PYTHON|REQUIRE_VIRTUALENV)|UV_(PYTHON|PROJECT_ENVIRONMENT|SYSTEM_PYTHON|TARGET|PREFIX))$/;

/**
 * Runs a command to its end; never throws.
 *
 * @param {string[]} command
 * @param {{ cwd: string, timeoutMs: number, env?: NodeJS.ProcessEnv, signal?: AbortSignal, input?: string }} options
 * @returns {Promise<CommandEnd>}
 */
export function commandEnd([program = "", ...options], { cwd, timeoutMs, env = cleanEnvironment(), signal, input }) {
  /** @type {import("node:child_process").ExecFileOptionsWithStringEncoding} */
  const given = { cwd, env, signal, encoding: "utf8", timeout: timeoutMs, killSignal: "SIGKILL", maxBuffer: MAX_OUTPUT_BYTES };
  return new Promise((resolve) => {
    const child = execFile(program, options, given, (error, stdout, stderr) => {
      resolve({ isDone: error === null, isLate: error?.killed === true, stdout, stderr, cause: causeOf(error) });
    });
    child.stdin?.on("error", () => {}); // the callback reports the end
    child.stdin?.end(input);
  });
}

/**
 * Returns whether a command starts a worker of just this plugin's version and manifest.
 *
 * @param {string[]} program
 * @param {Bundle} bundle
 * @param {string} cwd
 */
export async function startsWorker(program, { version, manifest_sha256 }, cwd) {
  const params = { plugin_version: version, host: "native", config: {} };
  const input = `${JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize", params })}\n`;
  const { stdout } = await commandEnd([...program, "worker"], { cwd, timeoutMs: START_MS, input });
  try {
    const { result } = JSON.parse(stdout.split("\n")[0] ?? "");
    return result.version === version && result.manifest_sha256 === manifest_sha256;
  } catch {
    return false;
  }
}

/** Returns the environment of an installer: the worker's, and what configures pip or uv. */
export function installerEnvironment() {
  const own = Object.entries(process.env).filter(([name]) => OF_INSTALLERS.test(name) && !OF_TARGETS.test(name));
  // A machine without a network is to be told so soon; who has set it wants it longer.
  return { PIP_RETRIES: "2", ...cleanEnvironment(), ...Object.fromEntries(own) };
}

/** @param {import("node:child_process").ExecFileException | null} error */
function causeOf(error) {
  if (error === null) return "";
  if (typeof error.code === "string") return error.code;
  return error.signal ? `it ended with ${error.signal}` : `it ended with code ${error.code}`;
}
