// Whom a call works for: the person whose message began its run, or the run that spawned it.
//
// OpenClaw names the sender of a run that a message began, and of no other. Its hooks name every run, and the run that a
// call of `sessions_spawn` begins. So a subagent's run, and the run in which its answer comes back, work for whoever the
// spawning run worked for, and for nobody where that is not known, as after a restart of the gateway.

import { callKeyOf, remember, shared } from "./shared.js";

/** @import { HookRequester, PluginApi, Requester, RequesterParams, ToolCallContext } from "./types.d.ts" */
/** @import { ToolCallEvent, ToolContext, ToolEndEvent } from "./types.d.ts" */

const SPAWN = "sessions_spawn";
const MAX_REMEMBERED = 2_000;

/**
 * Follows which run works for whom.
 *
 * @param {PluginApi} api
 * @param {string[]} tools
 */
export function followRequesters(api, tools) {
  /**
   * @param {ToolCallEvent} event
   * @param {ToolCallContext} ctx
   */
  const begun = ({ toolCallId, runId }, ctx) => {
    const found = personOf(ctx.requester) ?? requesterOfRun(runId ?? ctx.runId);
    const key = callKeyOf(ctx, toolCallId);
    const run = runId ?? ctx.runId;
    if (run) remember(shared.callRuns, key, run, MAX_REMEMBERED);
    if (found) remember(shared.requesters, key, found, MAX_REMEMBERED);
    else shared.requesters.delete(key);
  };
  /**
   * @param {ToolEndEvent} event
   * @param {ToolCallContext} ctx
   */
  const ended = ({ toolCallId, result }, ctx) => {
    const found = shared.requesters.get(callKeyOf(ctx, toolCallId));
    const { runId } = Object(Object(result).details);
    if (found && typeof runId === "string" && runId) remember(shared.runs, runId, found, MAX_REMEMBERED);
  };
  const [first, ...others] = tools;
  // Before the question about the price, which depends on whom the call works for.
  api.on("before_tool_call", begun, { matcher: [first ?? SPAWN, ...others, SPAWN], priority: 10 });
  api.on("after_tool_call", ended, { matcher: [SPAWN] });
}

/**
 * Returns whom a call works for, as the worker takes it.
 *
 * @param {ToolContext} ctx
 * @param {string | undefined} callId
 * @returns {RequesterParams}
 */
export function requesterParams(ctx, callId) {
  const { requesterSenderId: senderId, messageChannel: channel, senderIsOwner } = ctx;
  const person = personOf({ channel, senderId, senderIsOwner });
  if (person) return { sender: person.sender, is_owner: person.isOwner, unattended: null, spends_as_owner: false };
  // A chat may tell no sender; its route shows that somebody wrote.
  if (ctx.delivery) return { sender: null, is_owner: false, unattended: null, spends_as_owner: false };
  const other = shared.requesters.get(callKeyOf(ctx, callId));
  const unattended = other ? null : kindOf(ctx.sessionKey ?? "");
  return { sender: other?.sender ?? null, is_owner: false, unattended, spends_as_owner: other?.isOwner === true };
}

/**
 * Returns the person whose message began a run, as authenticated by the channel; the same number on two channels is two
 * people.
 *
 * @param {HookRequester | undefined} requester
 * @returns {Requester | null}
 */
export function personOf(requester) {
  const { channel, senderId, senderIsOwner } = requester ?? {};
  if (!senderId && senderIsOwner !== true) return null;
  return { sender: senderId ? `${channel ?? "unknown"}:${senderId}` : null, isOwner: senderIsOwner === true };
}

/**
 * @param {string | undefined} runId
 * @returns {Requester | undefined}
 */
function requesterOfRun(runId) {
  const known = shared.runs.get(runId ?? "");
  if (known || !runId?.startsWith("announce:")) return known;
  // The run in which a subagent's answer comes back names the subagent's run.
  return [...shared.runs].find(([spawned]) => runId.includes(spawned))?.[1];
}

/** @param {string} sessionKey */
function kindOf(sessionKey) {
  if (/:cron:/.test(sessionKey)) return "a scheduled run";
  if (/:hook:/.test(sessionKey)) return "a webhook's run";
  return /:subagent:/.test(sessionKey) ? "a subagent's run" : "a run that no message began";
}
