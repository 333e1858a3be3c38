// One call of a tool: from OpenClaw's context to the worker, and the worker's result to the conversation.

import { accountOf } from "./account.js";
import { withConsent } from "./approval.js";
import { WEBCHAT, copiesFolder, deliver, needsCopy, preparedFolder } from "./delivery.js";
import { failure, unpresented } from "./failure.js";
import { placeOf } from "./family.js";
import { isProcessing, readyImages, refsOf } from "./picture_set.js";
import { isOver } from "./late_text.js";
import { isPrivate, isRecent, recentCall } from "./recent.js";
import { requesterParams } from "./requester.js";
import { lookAtSaved } from "./saved.js";
import { settingsOf } from "./settings.js";
import { shared } from "./shared.js";
import { takeDue } from "./shown.js";
import { failedCall, finishedCall, progressReporter, toldWarnings } from "./tool_result.js";

/** @import { AgentTool, CallParams, CallPlace, CallWorker, Image, PluginApi, Success, ToolContext } from "./types.d.ts" */

/**
 * Returns the `execute` of a tool in one context.
 *
 * @param {PluginApi} api
 * @param {ToolContext} ctx
 * @param {string} tool
 * @param {CallWorker} callWorker
 * @returns {AgentTool["execute"]}
 */
export function executor(api, ctx, tool, callWorker) {
  return async (callId, args, signal, onUpdate) => {
    const place = placeOf(api, ctx);
    const leave = shared.late?.enter(place.home);
    try {
      await lookAtSaved();
      const account = await accountOf(ctx, settingsOf(api));
      const folder = needsCopy(channelOf(ctx), account) ? await preparedFolder(api) : null;
      const params = { ...paramsOf(api, ctx, tool, args, callId, place), output_dir: folder };
      const onProgress = onUpdate && progressReporter(onUpdate, callId);
      const found = await withConsent(ctx, callId, signal, (approval) => {
        return callWorker(account, { ...params, approval }, signal, onProgress);
      });
      if (isRecent(found)) return recentCall(found);
      const isStopped = signal?.aborted === true;
      const result = isStopped ? found : (shared.unshown?.told(ctx, found) ?? found);
      if (!result.error) return await present(api, ctx, place, { tool, callId, isStopped }, result);
      // A picture that may still come is waited for on.
      if (isOver(result)) shared.late?.settle(place.home, result.error.task_ref ?? askedRef(args));
      return failedCall(result);
    } catch (error) {
      api.logger.error(`flux2: ${tool}: ${error instanceof Error ? error.stack : error}`);
      const message = "The plugin failed on this call.";
      return failedCall(failure("internal_error", message, "See the gateway's log.", "unknown"));
    } finally {
      leave?.();
    }
  };
}

/**
 * Returns a call for the worker.
 *
 * @param {PluginApi} api
 * @param {ToolContext} ctx
 * @param {string} tool
 * @param {unknown} args
 * @param {string} [callId]
 * @param {CallPlace} [place]
 * @returns {CallParams}
 */
export function paramsOf(api, ctx, tool, args, callId, place = placeOf(api, ctx)) {
  return {
    tool,
    arguments: args,
    session: { agent_id: ctx.agentId ?? null, session_key: ctx.sessionKey ?? null },
    ancestors: place.ancestors.map(({ agentId, sessionKey }) => ({ agent_id: agentId ?? null, session_key: sessionKey })),
    handed_over: place.isHandedOver,
    ...requesterParams(ctx, callId),
    private: isPrivate(ctx),
    workspace_dir: ctx.workspaceDir ?? null,
    sandboxed: ctx.sandboxed === true,
    wait_s: settingsOf(api).wait_s ?? null,
    output_dir: null,
  };
}

/**
 * Returns the reference of the task that a call asks for: a refused one's error names none.
 *
 * @param {unknown} args
 */
function askedRef(args) {
  const { task_id } = Object(args);
  return typeof task_id === "string" ? `task:${task_id.trim().replace(/^task:/, "")}` : null;
}

/** @typedef {{ tool: string, callId: string, isStopped: boolean }} Call */

/**
 * Returns a result for the conversation. Pictures that could not be shown count as not shown, and are named: they are
 * paid for.
 *
 * @param {PluginApi} api
 * @param {ToolContext} ctx
 * @param {CallPlace} place
 * @param {Call} call
 * @param {Success} result
 */
async function present(api, ctx, place, call, result) {
  const isNobodys = call.isStopped || place.isHandedOver;
  const due = takeDue(result, isNobodys ? [] : readyImages(result), call.tool, ctx);
  try {
    return await prepared(api, ctx, place, call, result, due.images);
  } catch (error) {
    due.undo();
    api.logger.error(`flux2: ${call.tool}: ${error instanceof Error ? error.stack : error}`);
    return failedCall(unpresented(result));
  }
}

/**
 * Returns a result for the conversation: its pictures prepared for the channel, or its conversation noted as waiting.
 *
 * @param {PluginApi} api
 * @param {ToolContext} ctx
 * @param {CallPlace} place
 * @param {Call} call
 * @param {Success} result
 * @param {Image[]} due
 */
async function prepared(api, ctx, place, { callId, isStopped }, result, due) {
  const { isHandedOver, home } = place;
  const over = refsOf(result, (one) => !isProcessing(one));
  const isLate = !isStopped && settingsOf(api).late_pictures !== false && result.task.state !== "completed";
  const isFollowed = isLate && shared.late?.add(home, result) === true;
  const late = over.map((ref) => shared.late?.find(home, ref)).find((one) => one && one.told > 0);
  const copies = { folder: copiesFolder(api), isLate: late !== undefined, isLive: Boolean(ctx.delivery) };
  // In a turn that we began, OpenClaw names the operator's channel, whatever conversation it is.
  const channel = copies.isLate ? late?.route.channel : channelOf(ctx);
  const delivery = due.length ? await deliver(result, due, channel, copies) : null;
  if (!isStopped) for (const ref of over) shared.late?.settle(home, ref);
  // A subagent's picture is named in its answer, or else its run's end shows that nobody knows of it.
  if (delivery || (isHandedOver && !isStopped)) shared.unshown?.add(ctx, callId, result, home);
  const warnings = toldWarnings(result, settingsOf(api));
  return finishedCall({ ...result, warnings }, delivery, { isStopped, isFollowed, isHandedOver });
}

/**
 * Returns the channel of a conversation; a sandboxed agent's lines name no files outside its sandbox.
 *
 * @param {ToolContext} ctx
 */
function channelOf({ messageChannel, sandboxed }) {
  return sandboxed && messageChannel === WEBCHAT ? undefined : messageChannel;
}
