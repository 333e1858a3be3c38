// The RunAPI key and the base URL of the same source: the gateway's environment, or the provider of OpenClaw's set-up.

import { createHash } from "node:crypto";

const PROVIDER = "runapi";

// `ctx` is a tool's context, or what `hostContext` makes in its place.
export async function account(ctx, config) {
  const ofHost = await Promise.resolve(ctx.resolveApiKeyForProvider?.(PROVIDER)).catch(() => undefined);
  const ofEnv = process.env.RUNAPI_API_KEY;
  const api_key = ofEnv || ofHost || null;
  const host = ctx.getRuntimeConfig?.() ?? ctx.runtimeConfig ?? ctx.config;
  const hostUrl = api_key && api_key === ofHost ? host?.models?.providers?.[PROVIDER]?.baseUrl : null;
  const base_url = config.base_url || (ofEnv && process.env.RUNAPI_BASE_URL) || hostUrl || null;
  const source = ofEnv ? "environment" : ofHost ? "provider" : ofEnv === "" ? "environment" : null;
  return { api_key, base_url, source };
}

// The part of a tool's context that `account` reads, where there is no tool call.
export function hostContext(api, cfg) {
  const key = async (provider) => (await api.runtime?.modelAuth?.resolveApiKeyForProvider({ provider, cfg }))?.apiKey;
  return { resolveApiKeyForProvider: key, runtimeConfig: cfg };
}

// An account as one may show it: the key itself stays here.
export function described({ api_key, base_url, source }) {
  const filled = api_key && !/^\$\{.*\}$/.test(api_key.trim());
  const state = filled ? "set" : api_key ? "placeholder" : source ? "empty" : "missing";
  const fingerprint = filled ? createHash("sha256").update(api_key).digest("hex").slice(0, 16) : null;
  return { key: { source, state, fingerprint }, base_url };
}
