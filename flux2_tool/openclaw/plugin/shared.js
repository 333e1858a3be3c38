// State that survives a reload of the plugin, which loads a new copy of these modules in the same process.

/** @import { Shared } from "./types.d.ts" */

const KEY = Symbol.for("flux2-tool.worker");
const registry = /** @type {Record<symbol, Shared | undefined>} */ (/** @type {unknown} */ (globalThis));

/** @type {Shared} */
export const shared = (registry[KEY] ??= {
  worker: null,
  shown: new Map(),
  copies: new Map(),
  late: null,
  contexts: new Map(),
  questions: new Map(),
  asked: new Map(),
});
