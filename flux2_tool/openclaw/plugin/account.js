// The RunAPI key and the base URL of the same source: the gateway's environment, or the provider of OpenClaw's config.

import { createHash } from "node:crypto";

/** @import { Account, AccountContext, AgentAccount, OpenClawConfig, PluginApi, Settings } from "./types.d.ts" */

const PROVIDER = "runapi";
const PLACEHOLDER = /^(\$\{.*|\$\w+|%\w+%|\{\{.*\}\}|<.*>)$/s; // as in credentials.py

/**
 * Returns the account that a call uses.
 *
 * @param {AccountContext} context A tool's context, or a replacement by `hostContext`.
 * @param {Settings} settings
 * @returns {Promise<Account>}
 */
export async function accountOf(context, settings) {
  const providerKey = await Promise.resolve(context.resolveApiKeyForProvider?.(PROVIDER)).catch(() => undefined);
  const environmentKey = process.env.RUNAPI_API_KEY;
  // An unfilled placeholder does not hide a usable key; without one it is passed on, so that the error names it.
  const fromEnvironment = environmentKey !== undefined && (isFilled(environmentKey) || !isFilled(providerKey));
  const api_key = (fromEnvironment ? environmentKey : providerKey) ?? null;
  const config = context.getRuntimeConfig?.() ?? context.runtimeConfig ?? context.config;
  const providerUrl = api_key && api_key === providerKey ? config?.models?.providers?.[PROVIDER]?.baseUrl : null;
  const environmentUrl = fromEnvironment && process.env.RUNAPI_BASE_URL;
  return {
    api_key,
    base_url: settings.base_url || environmentUrl || providerUrl || null,
    source: sourceOf(fromEnvironment, api_key),
  };
}

/**
 * @param {boolean} fromEnvironment
 * @param {string | null} key
 * @returns {Account["source"]}
 */
function sourceOf(fromEnvironment, key) {
  if (fromEnvironment) return "environment";
  return key === null ? null : "provider";
}

/** @param {string | null | undefined} key */
function isFilled(key) {
  const text = key?.trim();
  return Boolean(text) && !PLACEHOLDER.test(text ?? "");
}

/**
 * Returns the part of a tool's context that `accountOf` reads, where there is no tool call. Each agent may have a key of
 * its own, which pays for its pictures and alone finds them again.
 *
 * @param {PluginApi} api
 * @param {OpenClawConfig | undefined} cfg
 * @param {AgentAccount} agent
 * @returns {AccountContext}
 */
export function hostContext(api, cfg, agent = {}) {
  return {
    runtimeConfig: cfg,
    async resolveApiKeyForProvider(provider) {
      const own = agentsKey(api, cfg, agent, provider);
      if (own !== undefined) return own;
      const auth = await api.runtime?.modelAuth?.resolveApiKeyForProvider({ provider, cfg });
      return auth?.apiKey;
    },
  };
}

/**
 * Returns the key of an agent's own credentials; OpenClaw's runtime resolves those of the default agent alone.
 *
 * @param {PluginApi} api
 * @param {OpenClawConfig | undefined} cfg
 * @param {AgentAccount} agent
 * @param {string} provider
 */
function agentsKey(api, cfg, { agentId, agentDir, authStore }, provider) {
  const { agent: agents, modelAuth } = api.runtime ?? {};
  if (!cfg || !modelAuth?.resolveAuthProfileOrder) return undefined;
  const folder = agentDir ?? (agentId ? agents?.resolveAgentDir?.(cfg, agentId) : undefined);
  const store = authStore ?? (folder ? modelAuth.ensureAuthProfileStore?.(folder) : undefined);
  if (!store) return undefined;
  const names = modelAuth.resolveAuthProfileOrder({ cfg, store, provider });
  const found = names.map((name) => store.profiles[name]);
  return found.flatMap((one) => (one?.type === "api_key" && one.key ? [one.key] : []))[0];
}

/**
 * Returns an account for display, with a fingerprint instead of its key.
 *
 * @param {Account} account
 */
export function describeAccount({ api_key, base_url, source }) {
  const key = api_key?.trim() ?? "";
  const state = keyState(key, source);
  const fingerprint = state === "set" ? createHash("sha256").update(key).digest("hex").slice(0, 16) : null;
  return { key: { source, state, fingerprint }, base_url };
}

/**
 * @param {string} key
 * @param {Account["source"]} source
 */
function keyState(key, source) {
  if (isFilled(key)) return "set";
  if (key) return "placeholder";
  return source ? "empty" : "missing";
}
