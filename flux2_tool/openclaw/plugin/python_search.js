// The interpreters of this machine: which of them can make an environment for the worker, and how.

import { homedir } from "node:os";
import { delimiter, dirname, isAbsolute, join } from "node:path";

import { commandEnd } from "./commands.js";
import { isFile, namesIn } from "./files.js";

/** @import { FoundPython, PythonSearch } from "./types.d.ts" */

export const LOWEST = /** @type {const} */ ([3, 11]);
const HIGHEST_MINOR = 19;
const PROBE_MS = 10_000;
// Runs in any Python: one that is too old is named, not overlooked.
const PROBE = [
  "import json, sys",
  "try:",
  "    from importlib.util import find_spec",
  "    found = [name for name in ('venv', 'ensurepip', 'pip') if find_spec(name)]",
  "except ImportError:",
  "    found = []",
  "print(json.dumps([list(sys.version_info[:2]), sys.executable, found]))",
].join("\n");
const FRAMEWORKS = "/Library/Frameworks/Python.framework/Versions";
// A gateway that runs as a service has a short PATH.
const OF_MAC_PACKAGES = ["homebrew", "local"].map((name) => join("/opt", name, "bin"));
const USUAL_FOLDERS = ["/usr/local/bin", "/usr/bin", "/bin", ...OF_MAC_PACKAGES];

/**
 * Returns the interpreters and the uv in these folders.
 *
 * @param {string} cwd The folder that they run in.
 * @param {string[]} folders
 * @returns {Promise<PythonSearch>}
 */
export async function findPythons(cwd, folders = searchedFolders()) {
  const versions = Array.from({ length: HIGHEST_MINOR - LOWEST[1] + 1 }, (_, index) => `python3.${HIGHEST_MINOR - index}`);
  const names = [...versions, "python3", "python"];
  const paths = names.flatMap((name) => folders.map((folder) => join(folder, name)).filter(isFile));
  const probed = await Promise.all(paths.map((path) => probe(path, cwd)));
  /** @type {Map<string, FoundPython>} */
  const byPath = new Map();
  for (const python of probed) if (python && !byPath.has(python.path)) byPath.set(python.path, python);
  const all = [...byPath.values()];
  const uv = folders.map((folder) => join(folder, "uv")).find(isFile) ?? null;
  return { fitting: all.filter(isFitting), tooOld: all.filter((python) => !isFitting(python)), uv, folders };
}

/** Returns where interpreters are looked for: in the PATH first, then in the usual places. */
export function searchedFolders() {
  return [...new Set([...pathFolders(), ...USUAL_FOLDERS, ...ownFolders()])];
}

/**
 * Returns a version as people write it.
 *
 * @param {readonly number[]} version
 */
export function versionText(version) {
  return version.join(".");
}

/** @param {FoundPython} python */
function isFitting({ version: [major = 0, minor = 0] }) {
  return major > LOWEST[0] || (major === LOWEST[0] && minor >= LOWEST[1]);
}

/**
 * @param {string} path
 * @param {string} cwd
 * @returns {Promise<FoundPython | null>} null for what is no interpreter.
 */
async function probe(path, cwd) {
  // -I: neither the folder that it runs in nor a user's own packages may take part.
  const done = await commandEnd([path, "-I", "-c", PROBE], { cwd, timeoutMs: PROBE_MS });
  try {
    const [version, executable, modules] = JSON.parse(done.stdout);
    return { path: lastingPath(executable || path, version), version, modules };
  } catch {
    return null;
  }
}

/**
 * Returns the interpreter's path with its version, where it has one: `python3` may be another version some day.
 *
 * @param {string} path
 * @param {number[]} version
 */
function lastingPath(path, version) {
  const versioned = join(dirname(path), `python${versionText(version)}`);
  return isFile(versioned) ? versioned : path;
}

function pathFolders() {
  return (process.env.PATH ?? "").split(delimiter).filter((folder) => isAbsolute(folder));
}

/** Returns the folders of a user's own interpreters: what uv, pyenv and python.org leave, the newest first. */
function ownFolders() {
  const home = homedir();
  const parents = [join(home, ".local", "share", "uv", "python"), join(home, ".pyenv", "versions"), FRAMEWORKS];
  const inside = parents.flatMap((folder) => namesIn(folder).map((name) => join(folder, name, "bin")));
  return [join(home, ".local", "bin"), ...inside.reverse()];
}
