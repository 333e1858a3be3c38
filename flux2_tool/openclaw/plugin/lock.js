// A lock between processes, as a file that its holder keeps touching.
//
// Two holders at a time do no harm to what it guards here, they only do the work twice: so a lock whose process is gone,
// or that nobody has touched for a while, is taken over.

import { closeSync, openSync, readFileSync, rmSync, statSync, utimesSync, writeSync } from "node:fs";

const TOUCH_MS = 5_000;
const STALE_MS = 30_000;
const LOOK_MS = 500;

export class Lock {
  #path;
  /** @type {NodeJS.Timeout | undefined} */
  #timer;

  /** @param {string} path */
  constructor(path) {
    this.#path = path;
  }

  /**
   * Waits for the lock; returns false when `isDone` says that it is not needed any longer.
   *
   * @param {() => Promise<boolean>} isDone
   * @param {() => void} onWait
   */
  async acquire(isDone, onWait) {
    while (!this.#take()) {
      if (await isDone()) return false;
      if (this.#isStale()) rmSync(this.#path, { force: true });
      else {
        onWait();
        await new Promise((resolve) => {
          setTimeout(resolve, LOOK_MS);
        });
      }
    }
    return true;
  }

  release() {
    clearInterval(this.#timer);
    rmSync(this.#path, { force: true });
  }

  #take() {
    try {
      const file = openSync(this.#path, "wx", 0o600);
      writeSync(file, String(process.pid));
      closeSync(file);
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "EEXIST") return false;
      throw error;
    }
    this.#timer = setInterval(() => this.#touch(), TOUCH_MS).unref();
    return true;
  }

  #touch() {
    try {
      utimesSync(this.#path, new Date(), new Date());
    } catch {
      // taken over by another process, which makes the same
    }
  }

  #isStale() {
    try {
      const age = Date.now() - statSync(this.#path).mtimeMs;
      return age > STALE_MS || !isAlive(Number(readFileSync(this.#path, "utf8")));
    } catch {
      return false; // released meanwhile
    }
  }
}

/** @param {number} pid */
function isAlive(pid) {
  // Empty for the moment in which its holder writes it; ours is only that of an earlier life with the same number.
  if (!pid) return true;
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
