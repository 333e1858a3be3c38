// What is kept of the Python environments, beside the one that is used: the last two, and the command for people.
//
// Nothing here is needed to run the worker. What fails, such as in a folder of another user or on a full disk, is logged.

import { renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { isFile, isFolder, namesIn } from "./files.js";

/** @import { Logger } from "./types.d.ts" */

const KEPT = 2;

/**
 * Notes that an environment is in use, gives people its command, and removes those of older plugins.
 *
 * @param {string} root The folder of all environments.
 * @param {string} folder The environment's.
 * @param {string[]} program The worker's command in it, without the last argument.
 * @param {Logger} logger
 */
export function keepEnvironment(root, folder, program, logger) {
  /**
   * @param {string} what
   * @param {() => void} step
   */
  const attempt = (what, step) => {
    try {
      step();
    } catch (error) {
      logger.warn(`flux2: ${what}, which the image worker does not need: ${error}`);
    }
  };
  const now = new Date();
  attempt(`${folder} cannot be marked as in use`, () => utimesSync(folder, now, now));
  attempt(`the command ${join(root, "flux2-tool")} cannot be written`, () => writeCommand(root, program));
  for (const path of unusedIn(root, folder)) {
    attempt(`${path} cannot be removed`, () => rmSync(path, { recursive: true, force: true }));
  }
}

/**
 * Removes the environments that a plugin has left in a state folder; returns whether there were any, and none are left.
 *
 * @param {string} stateFolder
 * @param {Logger} logger
 */
export function removeEnvironments(stateFolder, logger) {
  const root = join(stateFolder, "flux2-tool", "python");
  if (!isFolder(root)) return false;
  try {
    rmSync(root, { recursive: true, force: true });
    return true;
  } catch (error) {
    logger.warn(`flux2: ${root} is of no use any more and cannot be removed: ${error}`);
    return false;
  }
}

/**
 * @param {string} root
 * @param {string[]} program
 */
function writeCommand(root, program) {
  const script = join(root, "flux2-tool");
  const part = `${script}.part`;
  writeFileSync(part, `#!/bin/sh\nexec ${program.map(quoted).join(" ")} "$@"\n`, { mode: 0o700 });
  renameSync(part, script);
}

/**
 * Returns the environments that are not kept: all but the newest beside the one in use.
 *
 * @param {string} root
 * @param {string} folder The one in use.
 */
function unusedIn(root, folder) {
  const paths = namesIn(root).map((name) => join(root, name));
  const others = paths.filter((path) => path !== folder && isFile(join(path, "pyvenv.cfg")));
  const byUse = others.map((path) => ({ path, ms: usedAtMs(path) }));
  return byUse.sort((a, b) => b.ms - a.ms).slice(KEPT - 1).map(({ path }) => path);
}

/** @param {string} path */
function usedAtMs(path) {
  try {
    return statSync(path).mtimeMs;
  } catch {
    return 0; // another process removes it at this moment
  }
}

/** @param {string} text */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
