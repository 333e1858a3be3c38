// The plugin's own Python environment, made once from the wheel that the plugin brings.
//
// It lies in OpenClaw's state folder, `<state>/flux2-tool/python/<version>-<checksum of the wheel>`: one for each plugin
// that ran here, of which the last two are kept, so that a roll-back needs no network. It is made in a folder beside it,
// tried, and renamed: what has the name is whole. Its scripts name the folder that it was made in, so only its
// interpreter is used; `<state>/flux2-tool/python/flux2-tool` is the command for people.

import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

import { commandEnd, installerEnvironment, startsWorker } from "./commands.js";
import { keepEnvironment } from "./environments.js";
import { isFile, namesIn } from "./files.js";
import { installFault, noPython, outputOf } from "./install_faults.js";
import { Lock } from "./lock.js";
import { findPythons } from "./python_search.js";

/** @import { Bundle, Failure, FoundPython, InstallStep, Logger, PythonSearch } from "./types.d.ts" */

const LONGEST_MS = { make: 120_000, install: 900_000 };
const MAX_LOG_CHARS = 4_000;
const PART = ".part-";

export class PrivatePython {
  #bundle;
  #root;
  #state;
  #wheel;
  #folders;
  #logger;

  /**
   * @param {string} stateFolder OpenClaw's.
   * @param {Bundle} bundle
   * @param {string} pluginRoot The plugin's folder.
   * @param {Logger} logger
   * @param {string[]} [folders] Where interpreters are looked for.
   */
  constructor(stateFolder, bundle, pluginRoot, logger, folders) {
    this.#bundle = bundle;
    this.#state = join(stateFolder, "flux2-tool");
    this.#root = join(this.#state, "python");
    this.#wheel = { path: join(pluginRoot, bundle.wheel?.path ?? ""), sha256: bundle.wheel?.sha256 ?? "" };
    this.#folders = folders;
    this.#logger = logger;
  }

  /** The environment's folder. */
  get folder() {
    return join(this.#root, `${this.#bundle.version}-${this.#wheel.sha256.slice(0, 12)}`);
  }

  /** The command of the worker in this environment, without its last argument. */
  get program() {
    return programIn(this.folder);
  }

  /** Returns whether the environment is there and runs this version; one that does not is of no use. */
  async isUsable() {
    const [python = ""] = this.program;
    return isFile(python) && startsWorker(this.program, this.#bundle, this.#root);
  }

  /**
   * Makes the environment, or waits for the process that is making it. Returns null when it is there.
   *
   * @param {(step: InstallStep) => void} onStep
   * @param {AbortSignal} signal
   * @returns {Promise<Failure | null>}
   */
  async make(onStep, signal) {
    try {
      mkdirSync(this.#root, { recursive: true, mode: 0o700 });
      chmodSync(this.#state, 0o700); // whatever the umask is: nobody else may change what we run
      chmodSync(this.#root, 0o700);
    } catch (error) {
      return installFault({ kind: "folder", cause: String(error), folder: this.#root });
    }
    const lock = new Lock(join(this.#root, "lock"));
    const isOurs = await lock.acquire(async () => (await this.isUsable()) || signal.aborted, () => onStep("waiting"));
    if (!isOurs) return signal.aborted ? installFault({ kind: "stopped" }) : null;
    try {
      return (await this.isUsable()) ? null : await this.#makeLocked(onStep, signal);
    } catch (error) {
      return installFault({ kind: "folder", cause: String(error), folder: this.#root });
    } finally {
      lock.release();
    }
  }

  /** Notes that this environment is in use, gives people its command, and removes those of older plugins. */
  keep() {
    keepEnvironment(this.#root, this.folder, this.program, this.#logger);
  }

  /**
   * @param {(step: InstallStep) => void} onStep
   * @param {AbortSignal} signal
   */
  async #makeLocked(onStep, signal) {
    for (const name of namesIn(this.#root)) if (name.startsWith(PART)) this.#remove(join(this.#root, name));
    const search = await findPythons(this.#state, this.#folders);
    const part = mkdtempSync(join(this.#root, PART));
    try {
      onStep("making");
      const made = join(part, "environment");
      const failed = (await this.#create(made, search, signal)) ?? (await this.#try(made));
      if (failed) return failed;
      this.#remove(this.folder); // one that does not run any more
      renameSync(made, this.folder);
      return null;
    } finally {
      this.#remove(part);
    }
  }

  /**
   * @param {string} made
   * @param {PythonSearch} search
   * @param {AbortSignal} signal
   * @returns {Promise<Failure | null>}
   */
  async #create(made, search, signal) {
    const wheels = namesIn(this.#wheelFolder).filter((name) => name.endsWith(".whl"));
    const python = best(search.fitting, wheels);
    const plan = planOf(made, search.uv, python);
    if (!plan) return noPython(search);
    const source = wheels.length ? ["--no-index", "--find-links", this.#wheelFolder] : [];
    const env = installerEnvironment(dirname(made));
    for (const kind of /** @type {const} */ (["make", "install"])) {
      const command = kind === "make" ? plan.make : [...plan.install, ...source, this.#wheel.path];
      const done = await commandEnd(command, { cwd: this.#root, timeoutMs: LONGEST_MS[kind], env, signal });
      if (signal.aborted) return installFault({ kind: "stopped" });
      if (done.isDone) continue;
      this.#logger.warn(`flux2: ${command.join(" ")}: ${done.cause}\n${outputOf(done).slice(-MAX_LOG_CHARS)}`);
      return installFault({ kind, done, python, folder: this.#wheelFolder, isOffline: wheels.length > 0 });
    }
    return null;
  }

  /**
   * @param {string} made
   * @returns {Promise<Failure | null>}
   */
  async #try(made) {
    const isWhole = await startsWorker(programIn(made), this.#bundle, this.#root);
    return isWhole ? null : installFault({ kind: "useless", folder: this.#root });
  }

  /** Where the operator puts wheels, for a machine without a network. */
  get #wheelFolder() {
    return join(this.#state, "wheels");
  }

  /** @param {string} path */
  #remove(path) {
    try {
      rmSync(path, { recursive: true, force: true });
    } catch {
      // An installer that outlives its gateway may still write there; the next one removes it.
    }
  }
}

/**
 * Returns the interpreter to use: the first for which there are wheels, where they are given, and that can make an
 * environment without help.
 *
 * @param {FoundPython[]} pythons
 * @param {string[]} wheels
 */
function best(pythons, wheels) {
  const compiledFor = new Set(wheels.flatMap((name) => /-cp3(\d+)-cp3\d+-/.exec(name)?.[1] ?? []));
  const fitting = pythons.filter(({ version }) => !compiledFor.size || compiledFor.has(String(version[1])));
  const usable = fitting.length ? fitting : pythons;
  return usable.find(({ modules }) => isComplete(modules)) ?? usable.find(canMake) ?? usable[0] ?? null;
}

/**
 * Returns the commands that make an environment and install into it; null where nothing here can.
 *
 * @param {string} made
 * @param {string | null} uv
 * @param {FoundPython | null} python
 */
function planOf(made, uv, python) {
  const target = join(made, "bin", "python");
  const pip = ["-m", "pip", "--disable-pip-version-check", "--no-input"];
  const options = ["install", "--quiet", "--no-user", "--prefer-binary", "--no-warn-script-location"];
  if (python && isComplete(python.modules)) {
    return { make: [python.path, "-I", "-m", "venv", made], install: [target, ...pip, ...options] };
  }
  if (uv) {
    const version = python ? python.path : ">=3.11";
    const make = [uv, "venv", "--quiet", "--python", version, made];
    return { make, install: [uv, "pip", "install", "--quiet", "--python", target] };
  }
  if (python && canMake(python)) {
    const make = [python.path, "-I", "-m", "venv", "--without-pip", made];
    return { make, install: [python.path, ...pip, "--python", target, ...options] };
  }
  return null;
}

/** @param {string[]} modules */
function isComplete(modules) {
  return modules.includes("venv") && modules.includes("ensurepip");
}

/** @param {FoundPython} python */
function canMake({ modules }) {
  return modules.includes("venv") && modules.includes("pip");
}

/** @param {string} folder An environment's. */
function programIn(folder) {
  return [join(folder, "bin", "python"), "-P", "-m", "flux2_tool"];
}
