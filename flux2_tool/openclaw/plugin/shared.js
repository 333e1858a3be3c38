// State that survives a reload of the plugin, which loads a new copy of these modules in the same process.

/** @import { Bundle, Shared } from "./types.d.ts" */

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
  pythons: new Map(),
  serving: null,
  requesters: new Map(),
  threads: new Map(),
  runs: new Map(),
  unshown: null,
  boot: undefined,
  callRuns: new Map(),
  openRuns: new Map(),
});

/**
 * Adds an entry to a map that forgets its oldest.
 *
 * @template Value
 * @param {Map<string, Value>} map
 * @param {string} key
 * @param {Value} value
 * @param {number} most How many entries it keeps.
 */
export function remember(map, key, value, most) {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > most && oldest !== undefined) map.delete(oldest);
}

/**
 * Returns one name for a conversation.
 *
 * @param {{ agentId?: string, sessionKey?: string }} ctx
 */
export function conversationOf({ agentId, sessionKey }) {
  return JSON.stringify([agentId ?? null, sessionKey ?? null]);
}

/**
 * Returns one name for a call: the ids that a model gives its calls are only its conversation's own.
 *
 * @param {{ agentId?: string, sessionKey?: string }} ctx
 * @param {string | undefined} callId
 */
export function callKeyOf(ctx, callId) {
  return JSON.stringify([conversationOf(ctx), callId ?? null]);
}

/**
 * Returns one name for what a plugin that names no interpreter has found or made.
 *
 * @param {string} stateFolder
 * @param {Bundle} bundle
 */
export function pythonKey(stateFolder, { version, wheel }) {
  return JSON.stringify([stateFolder, version, wheel?.sha256 ?? null]);
}
