// Why a worker does not fit this plugin or does not start, and the command that fixes it.

import { failure } from "./failure.js";
import { isFile } from "./files.js";

/** @import { Bundle, Launch, Methods } from "./types.d.ts" */

const KILLED = /^it ended with SIG(KILL|TERM)$/;
const INSTALL = "flux2-tool openclaw install";

/**
 * @param {Launch} launch
 * @param {Bundle} bundle
 * @param {Methods["initialize"]["result"] | undefined} result What it said of itself, if it did.
 * @param {string | undefined} cause Why it said nothing.
 * @param {string} lastLogLine
 */
export function misfit(launch, bundle, result, cause, lastLogLine) {
  const [program = "", ...options] = launch.program;
  // Whoever killed it, such as a system without memory, says nothing against the installation.
  if (cause && KILLED.test(cause)) {
    const again = "Nothing was sent. Make the same call again, once; if this comes again, on the gateway's machine run: flux2-tool doctor";
    return failure("worker_stopped", `The image worker was killed while it started: ${cause}.`, again, "no", true);
  }
  const isOlder = result !== undefined && isLowerVersion(result.version, bundle.version);
  const isMissing = /No module named '?flux2_tool/.test(lastLogLine);
  // The command flux2-tool went with the interpreter that the plugin was installed by.
  const isGone = options.length > 0 && launch.fix === INSTALL && !isFile(program);
  const reinstall = result && !isOlder ? INSTALL : launch.fix;
  let fix = `run: ${reinstall}`;
  if (isOlder || isMissing) fix = installAgain(launch, bundle);
  else if (isGone) fix = `${bundle.install_again.replace("{pip}", "pip")}; then run: ${INSTALL}`;
  const problem = result
    ? `has flux2-tool ${result.version} or another manifest, the plugin is version ${bundle.version}`
    : `does not start the worker: ${[cause, lastLogLine].filter(Boolean).join("; ")}`;
  return failure("configuration_error", `${program} ${problem}`, `Nothing was sent. To fix it, ${fix}`);
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
