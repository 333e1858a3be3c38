// The native OpenClaw plugin: offers the tools and passes each call to the Python worker.
//
// Definitions and versions come from tools.json beside this file, which `flux2-tool openclaw install` or `pack`
// generates from the manifest. One worker serves the whole process; it starts with the first call, because
// OpenClaw runs `register` several times. The key travels with each call and nowhere else.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { accountOf, describeAccount, hostContext } from "./account.js";
import { askBeforePaying, askingNote, rememberContext, withConsent } from "./approval.js";
import { registerCallbacks } from "./callbacks.js";
import { failure } from "./failure.js";
import { imageProvider } from "./image_provider.js";
import { launchOf, settingsOf } from "./settings.js";
import { shared } from "./shared.js";
import { failedCall, finishedCall, progressReporter } from "./tool_result.js";
import { Worker } from "./worker.js";

/** @import { AgentTool, Bundle, BundledTool, CallParams, CallWorker, OpenClawConfig } from "./types.d.ts" */
/** @import { PluginApi, QuestionOf, Settings, ToolContext } from "./types.d.ts" */

const ID = "flux2";

export default {
  id: ID,
  name: "Flux 2 images",
  /** @param {PluginApi} api */
  register(api) {
    const bundle = readBundle(api);
    const callWorker = workerCaller(api, bundle);
    askBeforePaying(api, bundle.tools.map(({ name }) => name), questionAsker(api, bundle));
    for (const tool of bundle.tools) registerTool(api, bundle, tool, callWorker);
    if (bundle.image_provider) {
      api.registerImageGenerationProvider(imageProvider(api, bundle, bundle.image_provider, callWorker));
    }
    registerCallbacks(api, bundle.callback_path, () => {
      const worker = ownWorker(api, bundle);
      return worker?.isClosed ? null : worker;
    });
    api.registerGatewayMethod(
      `${ID}.doctor`,
      async ({ respond }) => respond(true, await diagnose(api, bundle)),
      { scope: "operator.read" },
    );
    api.registerService({ id: ID, start() {}, stop: () => ownWorker(api, bundle)?.retire() });
  },
};

/**
 * @param {PluginApi} api
 * @returns {Bundle}
 */
function readBundle(api) {
  // Optional in the types; an installed plugin has it, while import.meta.url names a temporary copy.
  if (api.rootDir === undefined) throw new Error("OpenClaw did not pass the plugin's folder (rootDir)");
  return JSON.parse(readFileSync(join(api.rootDir, "dist", "tools.json"), "utf8"));
}

/**
 * @param {PluginApi} api
 * @param {Bundle} bundle
 * @param {BundledTool} tool
 * @param {CallWorker} callWorker
 */
function registerTool(api, bundle, tool, callWorker) {
  const definition = definitionOf(tool, bundle, settingsOf(api));
  if (!definition) return;
  /** @param {ToolContext} ctx */
  const toolFor = (ctx) => {
    rememberContext(ctx);
    return { ...definition, prepareArguments: withoutNulls, execute: executor(api, ctx, tool.name, callWorker) };
  };
  api.registerTool(toolFor, { name: tool.name });
}

/**
 * Returns the definition that the model is offered, null where no enabled tier has the tool; `bundle.py`
 * describes the shape of tools.json.
 *
 * @param {BundledTool} tool
 * @param {Bundle} bundle
 * @param {Settings} settings
 * @returns {Omit<AgentTool, "execute" | "prepareArguments"> | null}
 */
function definitionOf({ name, label, description, parameters, by_tiers, callback_only }, bundle, settings) {
  const tiers = settings.tiers ?? bundle.default_tiers;
  const enabled = bundle.tiers.filter((tier) => tiers.includes(tier)).join(",");
  const { text = "", withheld, without = [], ...changed } = by_tiers[enabled] ?? {};
  if (withheld) return null;
  const required = changed.required ?? parameters.required;
  const properties = { ...parameters.properties, ...changed.properties };
  const hosts = settings.callback_hosts?.join(", ");
  for (const member of callback_only) {
    const property = properties[member];
    if (!hosts) delete properties[member];
    else if (property) {
      const filled = property.description.replace("{callback_hosts}", () => hosts);
      properties[member] = { ...property, description: filled };
    }
  }
  for (const member of without) delete properties[member];
  return {
    name,
    label,
    description: description.replace("{tiers}", () => text) + askingNote(name, settings),
    // Typed as a schema of TypeBox's; as observed, a plain JSON Schema reaches the model unchanged.
    parameters: /** @type {AgentTool["parameters"]} */ ({ ...parameters, properties, required }),
    catalogMode: "direct-only",
  };
}

/**
 * Leaves null members out, which mean "not given": the host would turn them into false or "null".
 *
 * @param {unknown} args
 */
function withoutNulls(args) {
  if (args === null || typeof args !== "object" || Array.isArray(args)) return args;
  return Object.fromEntries(Object.entries(args).filter(([, value]) => value !== null));
}

/**
 * Returns the `execute` of a tool in one context.
 *
 * @param {PluginApi} api
 * @param {ToolContext} ctx
 * @param {string} tool
 * @param {CallWorker} callWorker
 * @returns {AgentTool["execute"]}
 */
function executor(api, ctx, tool, callWorker) {
  return async (callId, args, signal, onUpdate) => {
    try {
      const onProgress = onUpdate && progressReporter(onUpdate, callId);
      const result = await withConsent(callId, signal, (approval) => {
        return callWorker(ctx, { ...paramsOf(api, ctx, tool, args), approval }, signal, onProgress);
      });
      return result.error ? failedCall(result) : finishedCall(result, tool, ctx, signal);
    } catch (error) {
      api.logger.error(`${ID}: ${tool}: ${error instanceof Error ? error.stack : error}`);
      const message = "The plugin failed on this call.";
      return failedCall(failure("internal_error", message, "See the gateway's log.", "unknown"));
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
 * @returns {CallParams}
 */
function paramsOf(api, ctx, tool, args) {
  return {
    tool,
    arguments: args,
    session: { agent_id: ctx.agentId ?? null, session_key: ctx.sessionKey ?? null },
    ...requester(ctx),
    workspace_dir: ctx.workspaceDir ?? null,
    sandboxed: ctx.sandboxed === true,
    wait_s: settingsOf(api).wait_s ?? null,
  };
}

/**
 * Returns a function that asks the worker what a person has to be asked before a call.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 * @returns {QuestionOf}
 */
function questionAsker(api, bundle) {
  return async (ctx, tool, args) => {
    const { api_key, base_url } = await accountOf(ctx, settingsOf(api));
    const worker = startedWorker(api, bundle);
    const params = { ...paramsOf(api, ctx, tool, args), api_key, base_url, state_dir: worker.home };
    return (await worker.resultOf("question", params))?.question ?? null;
  };
}

/**
 * Returns the requester, as authenticated by the channel; the same number on two channels is two people.
 *
 * @param {ToolContext} ctx
 */
function requester({ requesterSenderId, messageChannel, senderIsOwner }) {
  const sender = requesterSenderId ? `${messageChannel ?? "unknown"}:${requesterSenderId}` : null;
  return { sender, is_owner: senderIsOwner === true };
}

/**
 * Returns a function that sends a call to the worker, with the account of its context.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 * @returns {CallWorker}
 */
function workerCaller(api, bundle) {
  return async (context, params, signal, onProgress) => {
    const { api_key, base_url } = await accountOf(context, settingsOf(api));
    const worker = startedWorker(api, bundle);
    return worker.call({ ...params, api_key, base_url, state_dir: worker.home }, signal, onProgress);
  };
}

/**
 * Returns the worker of this version and these settings, if there is one.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 */
function ownWorker(api, bundle) {
  return shared.worker?.key === launchOf(api, bundle).key ? shared.worker : null;
}

/**
 * Returns the worker of this version and these settings; starts it when it does not run.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 */
function startedWorker(api, bundle) {
  const running = ownWorker(api, bundle);
  if (running?.takesCalls) return running;
  shared.worker?.retire();
  const { python, ...config } = settingsOf(api);
  const initializeParams = { plugin_version: bundle.version, host: /** @type {const} */ ("native"), config };
  shared.worker = new Worker(launchOf(api, bundle), initializeParams, bundle, api.logger);
  return shared.worker;
}

/**
 * Returns the response to `flux2-tool doctor`; `doctor/gateway.py` describes its shape.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 */
async function diagnose(api, bundle) {
  const { version, manifest_sha256 } = bundle;
  // Read-only by its type; the account is only read from it.
  const config = /** @type {OpenClawConfig | undefined} */ (api.runtime?.config?.current?.());
  const account = await accountOf(hostContext(api, config), settingsOf(api));
  const problem = await startedWorker(api, bundle).check();
  return { version, manifest_sha256, ...describeAccount(account), worker: { problem } };
}
