// Short-lived commands: their output and how they ended, in an environment without the gateway's secrets.

import { execFile } from "node:child_process";

import { cleanEnvironment } from "./process.js";

/** @import { Bundle, CommandEnd } from "./types.d.ts" */

const START_MS = 30_000;
const MAX_OUTPUT_BYTES = 4 << 20;
// Which of an installer's variables pass. A workspace's .env may set any other, such as PIP_REQUIREMENT, and thereby have
// foreign code installed: OpenClaw 2026.9.6 keeps just these from it.
const OF_INSTALLERS = [
  ...["PIP_CONFIG_FILE", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_PYPI_URL", "PIP_TRUSTED_HOST"],
  ...["UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_INDEX_URL", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"],
];

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

/**
 * Returns the environment of an installer: the worker's, and where pip or uv gets packages from.
 *
 * @param {string} scratch A folder of ours for its temporary files.
 */
export function installerEnvironment(scratch) {
  const own = Object.entries(process.env).filter(([name]) => OF_INSTALLERS.includes(name));
  // Few retries: a machine without a network is to be told so soon.
  return { ...cleanEnvironment(), ...Object.fromEntries(own), PIP_RETRIES: "2", TMPDIR: scratch };
}

/** @param {import("node:child_process").ExecFileException | null} error */
function causeOf(error) {
  if (error === null) return "";
  if (typeof error.code === "string") return error.code;
  return error.signal ? `it ended with ${error.signal}` : `it ended with code ${error.code}`;
}
