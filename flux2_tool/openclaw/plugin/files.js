// Questions about files that never throw.

import { readdirSync, statSync } from "node:fs";

/** @param {string} path */
export function isFile(path) {
  return found(path)?.isFile() === true;
}

/** @param {string} path */
export function isFolder(path) {
  return found(path)?.isDirectory() === true;
}

/**
 * Returns the names in a folder, sorted; none where it cannot be read.
 *
 * @param {string} folder
 */
export function namesIn(folder) {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

/** @param {string} path */
function found(path) {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined; // behind a folder that is not ours to read
  }
}
