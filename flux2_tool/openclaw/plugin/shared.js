// What outlives a reload of the plugin: OpenClaw loads a new copy of these modules then, in the same process.

/** @import { Shared } from "./types.d.ts" */

const KEY = Symbol.for("flux2-tool.worker");
const registry = /** @type {Record<symbol, Shared | undefined>} */ (/** @type {unknown} */ (globalThis));

/** @type {Shared} */
export const shared = (registry[KEY] ??= { worker: null, shown: new Map() });
