// The RunAPI key and the base URL of the same source: the gateway's environment, or the provider of OpenClaw's set-up.

import { createHash } from "node:crypto";

const PROVIDER = "runapi";
const PLACEHOLDER = /^(\$\{.*|\$\w+|%\w+%|\{\{.*\}\}|<.*>)$/s; // as in credentials.py

// `ctx` is a tool's context, or what `hostContext` makes in its place.
export async function account(ctx, config) {
  const ofHost = await Promise.resolve(ctx.resolveApiKeyForProvider?.(PROVIDER)).catch(() => undefined);
  const ofEnv = process.env.RUNAPI_API_KEY;
  // A variable that nothing filled in does not hide a good key; alone it is passed on, so that the error names it.
  const isOfEnv = ofEnv !== undefined && (isFilled(ofEnv) || !isFilled(ofHost));
  const api_key = (isOfEnv ? ofEnv : ofHost) ?? null;
  const host = ctx.getRuntimeConfig?.() ?? ctx.runtimeConfig ?? ctx.config;
  const hostUrl = api_key && api_key === ofHost ? host?.models?.providers?.[PROVIDER]?.baseUrl : null;
  const base_url = config.base_url || (isOfEnv && process.env.RUNAPI_BASE_URL) || hostUrl || null;
  const source = isOfEnv ? "environment" : api_key === null ? null : "provider";
  return { api_key, base_url, source };
}

function isFilled(key) {
  return Boolean(key?.trim()) && !PLACEHOLDER.test(key.trim());
}

// The part of a tool's context that `account` reads, where there is no tool call.
export function hostContext(api, cfg) {
  const key = async (provider) => (await api.runtime?.modelAuth?.resolveApiKeyForProvider({ provider, cfg }))?.apiKey;
  return { resolveApiKeyForProvider: key, runtimeConfig: cfg };
}

// An account as one may show it: the key itself stays here.
export function described({ api_key, base_url, source }) {
  const key = api_key?.trim();
  const filled = isFilled(key);
  const state = filled ? "set" : key ? "placeholder" : source ? "empty" : "missing";
  const fingerprint = filled ? createHash("sha256").update(key).digest("hex").slice(0, 16) : null;
  return { key: { source, state, fingerprint }, base_url };
}
