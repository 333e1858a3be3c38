// The conversations that a conversation comes from: a subagent's from the one that spawned it, and so on.
//
// OpenClaw's own record of the session says so; no word of a model counts. Nobody sees what is attached in a subagent's
// session, so a subagent hands its picture over by its reference; one that is bound to a thread of a channel answers there.

import { remember, shared } from "./shared.js";

/** @import { CallPlace, PluginApi, SessionId, ToolContext } from "./types.d.ts" */

const MAX_SESSIONS = 20;
const MAX_REMEMBERED = 2_000;

/**
 * Follows which subagents answer in a thread of their own.
 *
 * @param {PluginApi} api
 */
export function followThreads(api) {
  api.on("subagent_spawned", ({ childSessionKey, threadRequested }) => {
    if (threadRequested) remember(shared.threads, childSessionKey, true, MAX_REMEMBERED);
  });
}

/**
 * Returns where a call is made, and where its picture is shown.
 *
 * @param {PluginApi} api
 * @param {ToolContext} ctx
 * @returns {CallPlace}
 */
export function placeOf(api, ctx) {
  const ancestors = ancestorsOf(api, ctx);
  // A person's message in a thread has a route of its own; the run that opened the thread has none.
  const isSeen = ctx.delivery !== undefined || shared.threads.has(ctx.sessionKey ?? "");
  const isHandedOver = isSubagent(ctx.sessionKey) && !isSeen;
  const root = ancestors.at(-1);
  const home = isHandedOver && root ? { ...ctx, ...root } : ctx;
  return { ancestors, isHandedOver, home };
}

/**
 * Returns the sessions that spawned a session, the nearest first; none where OpenClaw names none.
 *
 * @param {PluginApi} api
 * @param {ToolContext} ctx
 * @returns {SessionId[]}
 */
function ancestorsOf(api, { agentId, sessionKey }) {
  /** @type {Map<string, SessionId>} */
  const found = new Map();
  /** @type {SessionId[]} */
  const open = sessionKey ? [{ agentId, sessionKey }] : [];
  for (let next = open.shift(); next && found.size < MAX_SESSIONS; next = open.shift()) {
    for (const key of parentsOf(api, next)) {
      if (key === sessionKey || found.has(key)) continue;
      const parent = { agentId: agentOf(key) ?? agentId, sessionKey: key };
      found.set(key, parent);
      open.push(parent);
    }
  }
  return [...found.values()];
}

/**
 * @param {PluginApi} api
 * @param {SessionId} session
 */
function parentsOf(api, { agentId, sessionKey }) {
  try {
    const entry = api.runtime.agent.session.getSessionEntry({ agentId, sessionKey });
    return [entry?.spawnedBy, entry?.completionOwnerSessionKey].flatMap((key) => key || []);
  } catch (error) {
    api.logger.warn(`flux2: OpenClaw's record of the session ${sessionKey} cannot be read: ${error}`);
    return [];
  }
}

/** @param {string} sessionKey */
function agentOf(sessionKey) {
  return /^agent:([^:]+):/.exec(sessionKey)?.[1];
}

/** @param {string | undefined} sessionKey */
function isSubagent(sessionKey) {
  return /:subagent:/.test(sessionKey ?? "");
}
