// Late pictures of one call come together: their conversation is woken once for all that are over, and not for each.

import { pause } from "./deadlines.js";

/** @import { LatePicture, ToolResult } from "./types.d.ts" */

const LOOK_MS = 1_000;
const MAX_LOOKS = 60; // so long the first that is over waits for the others

export class LateSets {
  /** @type {Map<LatePicture, ToolResult>} What is over and was not told. */
  #over = new Map();
  #wanted;

  /** @param {() => Iterable<LatePicture>} wanted Returns the pictures that are waited for. */
  constructor(wanted) {
    this.#wanted = wanted;
  }

  /**
   * Notes how a picture ended, and waits for the others of its call, for a while.
   *
   * @param {LatePicture} picture
   * @param {ToolResult} result
   */
  async together(picture, result) {
    this.#over.set(picture, result);
    for (let looks = 0; looks < MAX_LOOKS && this.#isWaiting(picture); looks += 1) await pause(LOOK_MS);
  }

  /**
   * Returns the pictures of a call that are over and not told yet, with their ends; from now on they count as told. None
   * if the picture itself was told with another one. Only for a picture that is still waited for.
   *
   * @param {LatePicture} picture
   * @returns {[LatePicture, ToolResult][]}
   */
  take(picture) {
    if (!this.#over.has(picture)) return [];
    const wanted = new Set(this.#wanted());
    const found = [...this.#over].filter(([one]) => one === picture || (wanted.has(one) && areOfOneSet(one, picture)));
    for (const [one] of found) this.#over.delete(one);
    return found;
  }

  /**
   * Forgets how a picture ended, which its conversation knows; the others of its call are still to be told.
   *
   * @param {LatePicture} picture
   */
  drop(picture) {
    this.#over.delete(picture);
  }

  /** @param {LatePicture} picture */
  #isWaiting(picture) {
    const others = [...this.#wanted()].filter((one) => one.told === picture.told && areOfOneSet(one, picture));
    return this.#over.has(picture) && others.some((one) => !this.#over.has(one));
  }
}

/**
 * @param {LatePicture} one
 * @param {LatePicture} other
 */
function areOfOneSet(one, other) {
  return one === other || Boolean(one.set && one.set === other.set && one.sessionKey === other.sessionKey);
}
