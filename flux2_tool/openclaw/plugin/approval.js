// Asking before paying: OpenClaw's own approval, for a call that costs more than the setting ask_above_usd.
//
// The hook before_tool_call asks the worker whether a person has to agree, and passes its question on to OpenClaw; the
// consent then goes with the call. The worker refuses what nobody has agreed to, so a fault here costs nothing. Equal
// calls of one turn share one question: the second waits for the answer to the first.

import { abortOf, pause } from "./deadlines.js";
import { failure } from "./failure.js";
import { lookAtSaved } from "./saved.js";
import { settingsOf } from "./settings.js";
import { callKeyOf, conversationOf, remember, shared } from "./shared.js";

/** @import { Approval, AskedCall, PluginApi, Question, QuestionOf, Settings, ToolCallContext } from "./types.d.ts" */
/** @import { ToolCallEvent, ToolCallVerdict, ToolContext, ToolResult } from "./types.d.ts" */

export const FREE_TOOL = "get_image_task";
const NOTED_TOOL = "text_to_image"; // the other one's description refers to its limits
const QUESTION_MS = 50_000; // the worker may have to start first
const HOOK_MS = QUESTION_MS + 10_000;
const MAX_REMEMBERED = 1_000;
const NOTHING = "Nothing was sent, and nothing is charged.";
const NEXT = "Tell the user so, and do not make this call again unless the user asks for it.";

/**
 * Asks a person before each call that needs it.
 *
 * @param {PluginApi} api
 * @param {string[]} tools
 * @param {QuestionOf} questionOf
 */
export function askBeforePaying(api, tools, questionOf) {
  const [first, ...others] = tools.filter((tool) => tool !== FREE_TOOL);
  if (first === undefined) return;
  /**
   * @param {ToolCallEvent} event
   * @param {ToolCallContext} ctx
   */
  const hook = async (event, ctx) => {
    try {
      // What a call of this id that never began has left behind.
      shared.asked.delete(callKeyOf(ctx, event.toolCallId));
      await lookAtSaved();
      if (settingsOf(api).ask_above_usd === undefined) return undefined;
      return await verdictOn(event, ctx, questionOf);
    } catch (error) {
      // OpenClaw would refuse the call in words that name neither the cause nor the setting; the worker's do.
      api.logger.error(`flux2: the question about a call failed: ${error instanceof Error ? error.stack : error}`);
      return undefined;
    }
  };
  api.on("before_tool_call", hook, { matcher: [first, ...others], timeoutMs: HOOK_MS });
}

/**
 * Returns what a tool's description says about the setting: OpenClaw has words of its own for a denial, and for a
 * conversation in which it can ask nobody.
 *
 * @param {string} tool
 * @param {Settings} settings
 */
export function askingNote(tool, { ask_above_usd: limit }) {
  if (limit === undefined || tool !== NOTED_TOOL) return "";
  return (
    ` Above ${limit} USD (setting ask_above_usd) a person must agree first: a call denied, unanswered or with nobody to ` +
    "ask is not sent and costs nothing."
  );
}

/**
 * Remembers the context of a conversation's tools: the hook's own has no account, workspace or sender.
 *
 * @param {ToolContext} ctx
 */
export function rememberContext(ctx) {
  remember(shared.contexts, conversationOf(ctx), ctx, MAX_REMEMBERED);
}

/**
 * Makes a call with the consent to it, if a person was asked.
 *
 * @param {ToolContext} ctx
 * @param {string} callId
 * @param {AbortSignal | undefined} signal
 * @param {(approval: Approval | null) => Promise<ToolResult>} call
 * @returns {Promise<ToolResult>}
 */
export async function withConsent(ctx, callId, signal, call) {
  const key = callKeyOf(ctx, callId);
  const asked = shared.asked.get(key);
  if (!asked) return call(null);
  shared.asked.delete(key);
  const { aborted, release } = abortOf(signal);
  const decision = await Promise.race([asked.decision, aborted]);
  release();
  try {
    if (!isConsent(decision) && !signal?.aborted) return refusalOf(asked.question);
    return await call(asked.question.approval);
  } finally {
    // From now on an equal call joins this one's task, or is asked about anew.
    asked.forget();
  }
}

/**
 * Returns what OpenClaw has to do before a call; nothing, where the worker decides alone.
 *
 * @param {ToolCallEvent} event
 * @param {ToolCallContext} ctx
 * @param {QuestionOf} questionOf
 * @returns {Promise<ToolCallVerdict | undefined>}
 */
async function verdictOn({ toolName, toolCallId, params, runId }, ctx, questionOf) {
  const context = shared.contexts.get(conversationOf(ctx));
  if (!toolCallId || !context || !canBeAsked(ctx)) return undefined;
  const question = await Promise.race([questionOf(context, toolName, params, toolCallId), pause(QUESTION_MS)]);
  if (!question) return undefined;
  const key = JSON.stringify([conversationOf(ctx), runId ?? ctx.runId, question.approval.request_key]);
  const equal = shared.questions.get(key);
  const asked = equal ?? opened(question, key);
  remember(shared.asked, callKeyOf(ctx, toolCallId), asked, MAX_REMEMBERED);
  return equal ? undefined : { requireApproval: approvalOf(asked) };
}

/**
 * Returns whether the host can ask anybody: not in a scheduled run or a subagent's, which no person's message began, nor
 * in one that came through no channel, such as `openclaw agent`. There the worker's refusal names the setting, which the
 * host's does not.
 *
 * @param {ToolCallContext} ctx
 */
function canBeAsked({ sessionKey, requester }) {
  const { channel, senderId, senderIsOwner } = requester ?? {};
  const isPerson = Boolean(senderId) || senderIsOwner === true;
  return Boolean(channel) && isPerson && !/:(cron|hook):/.test(sessionKey ?? "");
}

/**
 * @param {Question} question
 * @param {string} key
 * @returns {AskedCall}
 */
function opened(question, key) {
  /** @type {(decision: string) => void} */
  let settle = () => {};
  /** @type {Promise<string>} */
  const decision = new Promise((resolve) => {
    settle = resolve;
  });
  /** @type {AskedCall} */
  const asked = {
    question,
    decision,
    settle: (found) => settle(found),
    forget() {
      if (shared.questions.get(key) === asked) shared.questions.delete(key);
    },
  };
  remember(shared.questions, key, asked, MAX_REMEMBERED);
  return asked;
}

/**
 * @param {AskedCall} asked
 * @returns {ToolCallVerdict["requireApproval"]}
 */
function approvalOf({ question, settle, forget }) {
  const { title, text, amount, currency } = question;
  return {
    title,
    description: text,
    scope: { kind: "payment", amount, currency, target: "RunAPI" },
    allowedDecisions: ["allow-once", "deny"],
    timeoutReason: `Nobody agreed in time to pay ${amount} ${currency} for this call (setting ask_above_usd). ${NOTHING} ${NEXT}`,
    onResolution(decision) {
      settle(decision);
      if (!isConsent(decision)) forget();
    },
  };
}

/** @param {unknown} decision */
function isConsent(decision) {
  return decision === "allow-once" || decision === "allow-always";
}

/** @param {Question} question */
function refusalOf({ amount, currency }) {
  const reason = `An equal call asked whether to pay ${amount} ${currency} for this call, and nobody agreed.`;
  return failure("not_approved", `${reason} ${NOTHING}`, NEXT);
}
