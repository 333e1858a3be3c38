// The native OpenClaw plugin: offers the tools and passes each call to the Python worker.
//
// Definitions and versions come from tools.json beside this file, which `flux2-tool openclaw install` or `pack`
// generates from the manifest. One worker serves the whole process; it starts with the first call, because
// OpenClaw runs `register` several times. The key travels with each call and nowhere else.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { accountOf, hostContext } from "./account.js";
import { FREE_TOOL, askBeforePaying, rememberContext } from "./approval.js";
import { preparedArguments } from "./arguments.js";
import { registerCallbacks } from "./callbacks.js";
import { definitionOf } from "./definition.js";
import { registerCopies } from "./delivery.js";
import { diagnosis } from "./diagnosis.js";
import { imageProvider } from "./image_provider.js";
import { LatePictures } from "./late.js";
import { lookAtSaved, refusalBySaved } from "./saved.js";
import { followSettings, launchOf, recordSettings, settingsOf } from "./settings.js";
import { shared } from "./shared.js";
import { executor, paramsOf } from "./tool_call.js";
import { Worker } from "./worker.js";

/** @import { Bundle, BundledTool, CallWorker, OpenClawConfig } from "./types.d.ts" */
/** @import { PluginApi, QuestionOf, ToolContext } from "./types.d.ts" */

const ID = "flux2";

export default {
  id: ID,
  name: "Flux 2 images",
  /** @param {PluginApi} api */
  register(api) {
    const bundle = readBundle(api);
    followSettings(api, bundle);
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
      async ({ respond }) => {
        await lookAtSaved();
        respond(true, await diagnosis(api, bundle, await currentAccount(api), startedWorker(api, bundle)));
      },
      { scope: "operator.read" },
    );
    registerCopies(api);
    api.registerService(serviceOf(api, bundle, callWorker));
  },
};

/**
 * Returns what lives as long as the gateway: the waits for late pictures, and the end of the worker.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 * @param {CallWorker} callWorker
 */
function serviceOf(api, bundle, callWorker) {
  const late = new LatePictures(api, async (picture, timeoutSeconds, signal) => {
    const { agentId, sessionKey, ref } = picture;
    const session = { agent_id: agentId ?? null, session_key: sessionKey };
    const args = { task_id: ref, timeoutSeconds };
    const params = { tool: "get_image_task", arguments: args, session, watching: true, wait_s: timeoutSeconds };
    return callWorker(await currentAccount(api), params, signal);
  });
  return {
    id: ID,
    start() {
      recordSettings(api);
      shared.late?.stop();
      shared.late = late;
      if (settingsOf(api).late_pictures !== false) late.start();
    },
    stop() {
      late.stop();
      if (shared.late === late) shared.late = null;
      return ownWorker(api, bundle)?.retire();
    },
  };
}

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
  /** @param {ToolContext} ctx */
  const toolFor = (ctx) => {
    rememberContext(ctx);
    const definition = definitionOf(tool, bundle, settingsOf(api));
    if (!definition) return null;
    /** @param {unknown} args */
    const prepareArguments = (args) => preparedArguments(args, tool, bundle, settingsOf(api), api.logger);
    return { ...definition, prepareArguments, execute: executor(api, ctx, tool.name, callWorker) };
  };
  api.registerTool(toolFor, { name: tool.name });
}

/**
 * Returns the account that the gateway has now, where no call names one.
 *
 * @param {PluginApi} api
 */
function currentAccount(api) {
  // Read-only by its type; the account is only read from it.
  const config = /** @type {OpenClawConfig | undefined} */ (api.runtime?.config?.current?.());
  return accountOf(hostContext(api, config), settingsOf(api));
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
 * Returns a function that sends a call of an account to the worker.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 * @returns {CallWorker}
 */
function workerCaller(api, bundle) {
  return async ({ api_key, base_url }, params, signal, onProgress) => {
    const refusal = params.tool === FREE_TOOL ? null : refusalBySaved();
    if (refusal) return refusal;
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
