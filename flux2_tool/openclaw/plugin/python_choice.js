// The interpreter of a plugin that names none: `flux2-tool` on the PATH where it fits, else the plugin's own environment,
// which is made once. The call that comes first waits for that, and says so; an aborted call does not end it.

import { startsWorker } from "./commands.js";
import { abortOf, pause } from "./deadlines.js";
import { removeEnvironments } from "./environments.js";
import { failure } from "./failure.js";
import { isFolder } from "./files.js";
import { pluginFolder, stateFolderOf } from "./folders.js";
import { PrivatePython } from "./private_python.js";
import { settingsOf } from "./settings.js";
import { pythonKey, shared } from "./shared.js";

/** @import { Bundle, Failure, OnProgress, PluginApi, PythonChoice } from "./types.d.ts" */

/**
 * @typedef {object} Wait How long somebody waits for the interpreter.
 * @property {AbortSignal} [signal] Ends the wait and nothing else.
 * @property {OnProgress} [onProgress]
 * @property {number} [wait_s] As long as a call waits for its picture, unless given.
 */

const ON_PATH = "flux2-tool";
const REPORT_MS = 2_000;
const WAIT_S = 80; // the worker's own (engine/host_profile.py)
const LOOK_MS = 1_000;
const LOOKS = 120; // an uninstallation waits for the calls in flight before it removes files
const STEPS = {
  waiting: "Another process is installing the image worker",
  making: "Installing the image worker, once; about a minute",
};

/**
 * Resolves with null when there is an interpreter to start the worker with, else with the failure.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 * @param {Wait} wait
 * @returns {Promise<Failure | null>}
 */
export async function preparedPython(api, bundle, { signal, onProgress, wait_s = settingsOf(api).wait_s ?? WAIT_S }) {
  if (!isChosen(api, bundle)) return null;
  const choice = choiceOf(api, bundle);
  choice.running ??= choose(api, bundle, choice);
  const { aborted, release } = abortOf(signal);
  const timer = setInterval(() => report(choice, onProgress), REPORT_MS);
  try {
    const stopped = aborted.then(() => failure("cancelled", "The call was stopped before anything was sent.", ""));
    return await Promise.race([choice.running, stopped, pause(wait_s * 1000).then(() => stillInstalling(wait_s))]);
  } finally {
    clearInterval(timer);
    release();
  }
}

/**
 * Begins with the gateway, so that the first call need not wait.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 */
export async function prepareEarly(api, bundle) {
  shared.serving = { owner: api, key: pythonKey(stateFolderOf(api), bundle) };
  if (!isChosen(api, bundle)) return;
  const choice = choiceOf(api, bundle);
  choice.running ??= choose(api, bundle, choice);
  const problem = await choice.running;
  if (problem) api.logger.warn(`flux2: ${problem.error.message} ${problem.error.hint}`);
}

/**
 * Ends what is being made when the gateway stops or leaves the plugin. When the plugin's folder then vanishes and no
 * other version has begun, it was uninstalled: the environments go too.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 */
export function leavePython(api, bundle) {
  const [folder, stateFolder] = [pluginFolder(api), stateFolderOf(api)];
  const key = pythonKey(stateFolder, bundle);
  if (shared.serving?.owner === api) shared.serving = null;
  if (!bundle.wheel) return;
  if (shared.serving?.key !== key) {
    shared.pythons.get(key)?.stop.abort();
    shared.pythons.delete(key);
  }
  let left = LOOKS;
  const timer = setInterval(() => {
    left -= 1;
    const isGone = !isFolder(folder);
    if (isGone && shared.serving === null && removeEnvironments(stateFolder, api.logger)) {
      api.logger.info("flux2: uninstalled; the image worker's Python environments are removed too");
    }
    if (isGone || !left) clearInterval(timer);
  }, LOOK_MS).unref();
}

/**
 * @param {PluginApi} api
 * @param {Bundle} bundle
 */
function isChosen(api, bundle) {
  return Boolean(bundle.wheel) && !settingsOf(api).python && !bundle.python;
}

/**
 * @param {PluginApi} api
 * @param {Bundle} bundle
 * @param {PythonChoice} choice
 * @returns {Promise<Failure | null>}
 */
async function choose(api, bundle, choice) {
  choice.since_ms = Date.now(); // until it is known anew, the program of before is used
  /** @type {string[] | null} */
  let found = null;
  try {
    if (await startsWorker([ON_PATH], bundle, stateFolderOf(api))) {
      found = [ON_PATH];
      return null;
    }
    const own = new PrivatePython(stateFolderOf(api), bundle, pluginFolder(api), api.logger);
    if (!(await own.isUsable())) {
      api.logger.info(`flux2: installing the image worker, once, in ${own.folder}`);
      const problem = await own.make((step) => (choice.step = step), choice.stop.signal);
      if (problem) return problem;
      api.logger.info(`flux2: the image worker is installed (${elapsedSeconds(choice)} s)`);
    }
    found = own.program;
    own.keep();
    return null;
  } catch (error) {
    api.logger.error(`flux2: the image worker could not be installed: ${error instanceof Error ? error.stack : error}`);
    return failure("internal_error", "The image worker could not be installed.", "Nothing was sent. See the gateway's log.");
  } finally {
    Object.assign(choice, { program: found, step: null, running: null }); // what was found is looked at again before another worker starts
  }
}

/**
 * @param {PluginApi} api
 * @param {Bundle} bundle
 */
function choiceOf(api, bundle) {
  const key = pythonKey(stateFolderOf(api), bundle);
  const known = shared.pythons.get(key);
  if (known) return known;
  /** @type {PythonChoice} */
  const choice = { program: null, running: null, step: null, since_ms: 0, stop: new AbortController() };
  shared.pythons.set(key, choice);
  return choice;
}

/**
 * @param {PythonChoice} choice
 * @param {OnProgress} [onProgress]
 */
function report(choice, onProgress) {
  const { step } = choice;
  if (step === null) return;
  const elapsed_s = elapsedSeconds(choice);
  onProgress?.({ id: 0, state: step, message: `${STEPS[step]} (${elapsed_s} s)`, elapsed_s });
}

/** @param {PythonChoice} choice */
function elapsedSeconds({ since_ms }) {
  return Math.round((Date.now() - since_ms) / 1000);
}

/** @param {number} wait_s */
function stillInstalling(wait_s) {
  const message = `The image worker is still being installed, after ${wait_s} s.`;
  return failure("configuration_error", message, "Nothing was sent. Make the same call again in a minute.", "no", true);
}
