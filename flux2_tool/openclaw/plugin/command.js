// The chat command /flux2: the conversation's images, spending and balance, answered by the worker without a model.
//
// OpenClaw admits authorised senders alone. The conversation is named as its tools name it, so that a group sees its own
// images and no others. The balance is for the operator's own clients, such as the web chat.

import { personOf } from "./requester.js";

/** @import { CallParams, CommandContext, PluginApi } from "./types.d.ts" */

const OPERATOR = ["operator.admin", "operator.read"];
const NO_ANSWER = "The image worker does not answer. On the gateway's machine run: flux2-tool doctor";

/**
 * @param {PluginApi} api
 * @param {(ctx: CommandContext, params: Omit<CallParams, "tool" | "arguments"> & { is_operator: boolean }) => Promise<{ text: string } | null>} ask
 *   Asks the worker, with the gateway's account.
 */
export function registerOverview(api, ask) {
  api.registerCommand({
    name: "flux2",
    description: "Images of this conversation, what was spent, and the balance",
    descriptionLocalizations: { "zh-CN": "本对话的图片、已花费的金额和余额" },
    requireAuth: true,
    async handler(ctx) {
      const { agentId, sessionKey, channel, senderId, senderIsOwner, gatewayClientScopes = [] } = ctx;
      // Not for an owner in a group, where everybody reads the answer.
      const is_operator = OPERATOR.some((scope) => gatewayClientScopes.includes(scope));
      const sender = personOf({ channel, senderId, senderIsOwner })?.sender ?? null;
      const session = { agent_id: agentId ?? null, session_key: sessionKey ?? null };
      if (!sessionKey) return { text: "OpenClaw does not say which conversation this is, so nothing of it can be shown." };
      const answer = await ask(ctx, { session, sender, is_owner: senderIsOwner === true || is_operator, wait_s: null, is_operator });
      return { text: answer?.text ?? NO_ANSWER };
    },
  });
}
