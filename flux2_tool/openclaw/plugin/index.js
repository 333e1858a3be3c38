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
import { registerOverview } from "./command.js";
import { definitionOf } from "./definition.js";
import { registerCopies } from "./delivery.js";
import { diagnosis } from "./diagnosis.js";
import { followThreads } from "./family.js";
import { pluginFolder } from "./folders.js";
import { registerGallery } from "./gallery.js";
import { imageProvider } from "./image_provider.js";
import { LatePictures } from "./late.js";
import { leavePython, prepareEarly, preparedPython } from "./python_choice.js";
import { followRequesters } from "./requester.js";
import { lookAtSaved, refusalBySaved } from "./saved.js";
import { followSettings, launchOf, recordSettings, settingsOf } from "./settings.js";
import { shared } from "./shared.js";
import { executor, paramsOf } from "./tool_call.js";
import { UnshownPictures } from "./unshown.js";
import { Worker } from "./worker.js";

/** @import { AgentAccount, Bundle, BundledTool, CallWorker, OpenClawConfig } from "./types.d.ts" */
/** @import { PluginApi, QuestionOf, ToolContext } from "./types.d.ts" */

const ID = "flux2";
const DOCTOR_WAIT_S = 15; // the command gives up after 30

export default {
  id: ID,
  name: "Flux 2 images",
  /** @param {PluginApi} api */
  register(api) {
    const bundle = readBundle(api);
    followSettings(api, bundle);
    const callWorker = workerCaller(api, bundle);
    const names = bundle.tools.map(({ name }) => name);
    followRequesters(api, names);
    followThreads(api);
    askBeforePaying(api, names, questionAsker(api, bundle));
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
        const problem = await problemOf(api, bundle, { wait_s: DOCTOR_WAIT_S });
        const worker = problem ? null : startedWorker(api, bundle);
        respond(true, await diagnosis(api, bundle, await currentAccount(api), { problem, worker }));
      },
      { scope: "operator.read" },
    );
    registerCopies(api);
    registerGallery(api, async () => {
      await lookAtSaved();
      const problem = await problemOf(api, bundle, { wait_s: DOCTOR_WAIT_S });
      return problem ? `${problem.error.message} ${problem.error.hint}` : startedWorker(api, bundle);
    });
    registerOverview(api, async (ctx, params) => {
      const { api_key, base_url } = await accountOf(hostContext(api, ctx.config, ctx), settingsOf(api));
      await lookAtSaved();
      const problem = await problemOf(api, bundle, { wait_s: DOCTOR_WAIT_S });
      if (problem) return { text: `${problem.error.message} ${problem.error.hint}` };
      const worker = startedWorker(api, bundle);
      return worker.resultOf("overview", { ...params, api_key, base_url, state_dir: worker.home });
    });
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
    return callWorker(await currentAccount(api, picture), params, signal);
  });
  const unshown = new UnshownPictures(api);
  return {
    id: ID,
    start() {
      recordSettings(api);
      prepareEarly(api, bundle);
      shared.unshown?.stop();
      shared.unshown = unshown;
      unshown.start();
      shared.late?.stop();
      shared.late = late;
      if (settingsOf(api).late_pictures !== false) late.start();
    },
    stop() {
      unshown.stop();
      if (shared.unshown === unshown) shared.unshown = null;
      late.stop();
      if (shared.late === late) shared.late = null;
      // The last service also ends a worker whose settings have changed since.
      const worker = shared.serving?.owner === api ? shared.worker : ownWorker(api, bundle);
      leavePython(api, bundle);
      return worker?.retire();
    },
  };
}

/**
 * @param {PluginApi} api
 * @returns {Bundle}
 */
function readBundle(api) {
  return JSON.parse(readFileSync(join(pluginFolder(api), "dist", "tools.json"), "utf8"));
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
 * Returns the account that the gateway has now, or one of its agents, where no call names one.
 *
 * @param {PluginApi} api
 * @param {AgentAccount} [agent]
 */
function currentAccount(api, agent) {
  // Read-only by its type; the account is only read from it.
  const config = /** @type {OpenClawConfig | undefined} */ (api.runtime?.config?.current?.());
  return accountOf(hostContext(api, config, agent), settingsOf(api));
}

/**
 * Returns a function that asks the worker what a person has to be asked before a call.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 * @returns {QuestionOf}
 */
function questionAsker(api, bundle) {
  return async (ctx, tool, args, callId) => {
    const { api_key, base_url } = await accountOf(ctx, settingsOf(api));
    if (await problemOf(api, bundle, {})) return null; // the call itself says what it is
    const worker = startedWorker(api, bundle);
    const params = { ...paramsOf(api, ctx, tool, args, callId), api_key, base_url, state_dir: worker.home };
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
    const problem = refusal ?? (await problemOf(api, bundle, { signal, onProgress }));
    if (problem) return problem;
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
 * Resolves with null once a worker runs or can be started, else with the failure.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 * @param {Parameters<typeof preparedPython>[2]} wait
 */
async function problemOf(api, bundle, wait) {
  return ownWorker(api, bundle)?.takesCalls ? null : preparedPython(api, bundle, wait);
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
