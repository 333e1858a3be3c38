// OpenClaw's own tool image_generate, served by RunAPI: only in a plugin that was installed with --image-generate.
//
// Images pass as files in a private folder, which is removed after the call. The journal is that of the tools. OpenClaw
// does not tell the provider the conversation or the requester, so an agent's calls are one session, marked as
// unattributed: an equal call joins a picture that took longer than allowed.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { accountOf, hostContext } from "./account.js";
import { explain } from "./failure.js";
import { MAX_COUNT, toArguments } from "./image_request.js";
import { readImages, toldModel } from "./provided_images.js";
import { isProcessing, refOf, refsOf } from "./picture_set.js";
import { lookAtSaved } from "./saved.js";
import { settingsOf } from "./settings.js";
import { toldWarnings } from "./tool_result.js";

/** @import { Bundle, BundledImageProvider, CallParams, CallWorker, Image } from "./types.d.ts" */
/** @import { ImageModel, ImageProvider, ImageRequest, PluginApi, Resolution } from "./types.d.ts" */
/** @import { SourceImage, Success, ToolResult } from "./types.d.ts" */

/** @typedef {(tool: string, args: Record<string, unknown>, rest: RestParams) => Promise<ToolResult>} Call */
/** @typedef {Pick<CallParams, "wait_s" | "source_dirs" | "output_dir">} RestParams */

const DEFAULT_TIMEOUT_MS = 180_000;
const FETCHING_MS = 2_000; // the part of the time allowed that is reserved for fetching the finished picture
// The worker knows it as the one session that every conversation of the agent may look at (hosts/worker/calls.py).
const SESSION = "image_generate";

/**
 * @param {PluginApi} api
 * @param {Bundle} bundle
 * @param {BundledImageProvider} provider
 * @param {CallWorker} callWorker
 * @returns {ImageProvider}
 */
export function imageProvider(api, bundle, { id, label, models }, callWorker) {
  const enabledNow = () => {
    const tiers = settingsOf(api).tiers ?? bundle.default_tiers;
    return models.filter(({ tier }) => tiers.includes(tier));
  };
  // OpenClaw keeps what it offers from here until the plugin is loaded anew.
  const enabled = enabledNow();
  const names = enabled.map(({ name }) => name);
  return {
    id,
    label,
    defaultModel: names[0],
    defaultTimeoutMs: DEFAULT_TIMEOUT_MS,
    models: names,
    capabilities: capabilitiesOf(enabled),
    isConfigured: ({ cfg, agentDir }) => {
      if (process.env.RUNAPI_API_KEY || cfg?.models?.providers?.[id]?.apiKey) return true;
      return api.runtime?.modelAuth?.isProviderApiKeyConfigured?.({ provider: id, agentDir }) === true;
    },
    generateImage: async (request) => {
      await lookAtSaved();
      const allowed = enabledNow();
      const model = allowed.find(({ name }) => name === request.model);
      if (!model) {
        const reason = "the plugin's setting tiers decides which are enabled";
        throw new Error(`${request.model} is not one of ${allowed.map(({ name }) => name).join(", ")}; ${reason}.`);
      }
      return generate(api, model, request, callWorker);
    },
  };
}

/**
 * @param {ImageModel[]} models
 * @returns {ImageProvider["capabilities"]}
 */
function capabilitiesOf(models) {
  const mode = { supportsSize: false, supportsAspectRatio: true, supportsResolution: true, maxCount: MAX_COUNT };
  const maxInputImagesByModel = byName(models, ({ max_sources }) => max_sources);
  const maxInputImages = Math.max(...Object.values(maxInputImagesByModel));
  const resolutionsByModel = byName(models, ({ resolutions }) => resolutions.map(hostResolution));
  return {
    generate: mode,
    // Where it is supported, OpenClaw chooses the more expensive 2K for every large photo by itself.
    edit: { ...mode, supportsResolution: false, enabled: maxInputImages > 0, maxInputImages, maxInputImagesByModel },
    geometry: {
      aspectRatios: models[0]?.aspect_ratios,
      aspectRatiosByModel: byName(models, ({ aspect_ratios }) => aspect_ratios),
      resolutions: [...new Set(Object.values(resolutionsByModel).flat())],
      resolutionsByModel,
    },
  };
}

/** @param {string} resolution */
function hostResolution(resolution) {
  return /** @type {Resolution} */ (resolution.toUpperCase());
}

/**
 * @template Value
 * @param {ImageModel[]} models
 * @param {(model: ImageModel) => Value} valueOf
 * @returns {Record<string, Value>}
 */
function byName(models, valueOf) {
  return Object.fromEntries(models.map((model) => [model.name, valueOf(model)]));
}

/**
 * Returns the agent's id from its folder, which is all that OpenClaw passes; null for a folder of unusual form.
 *
 * @param {ImageRequest} request
 */
function agentOf({ agentDir, cfg }) {
  const configured = cfg?.agents?.list?.find((agent) => agentDir && agent?.agentDir === agentDir);
  return configured?.id ?? /[\\/]agents[\\/]([^\\/]+)[\\/]agent[\\/]?$/.exec(agentDir ?? "")?.[1] ?? null;
}

/**
 * @param {PluginApi} api
 * @param {ImageModel} model
 * @param {ImageRequest} request
 * @param {CallWorker} callWorker
 */
async function generate(api, model, request, callWorker) {
  const folder = await mkdtemp(join(tmpdir(), "flux2-"));
  const timeoutMs = request.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), timeoutMs);
  const session = { agent_id: agentOf(request), session_key: SESSION };
  // With save_dir set, the pictures are saved anyway and need no second copy.
  const files = { source_dirs: [folder], output_dir: settingsOf(api).save_dir ? null : folder };
  /** @type {Call} */
  const call = async (tool, args, rest) => {
    const params = { tool, arguments: args, session, unattributed: true, ...files, ...rest };
    return callWorker(await accountOf(hostContext(api, request.cfg, request), settingsOf(api)), params, stop.signal);
  };
  try {
    const sources = await writeSources(request.inputImages ?? [], folder);
    const { args, notes } = toArguments(request, model, sources);
    const result = await finish(call, sources.length ? "remix_image" : "text_to_image", args, timeoutMs, stop.signal);
    const { images, faults } = await readImages(result);
    const warnings = [...notes, ...result.warnings, ...faults];
    for (const warning of warnings) api.logger.warn(`flux2: image_generate: ${warning}`);
    const missed = faults.length ? result.warnings : toldWarnings(result, settingsOf(api));
    const told = toldModel(model.name, result, images.length, [...notes, ...missed, ...faults]);
    return { images, model: told, metadata: { task: result.task.ref, cost: result.cost, warnings } };
  } finally {
    clearTimeout(timer);
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Returns the completed result. Pictures that were not fetched are fetched once more: without them the model might pay
 * for others.
 *
 * @param {Call} call
 * @param {string} tool
 * @param {Record<string, unknown>} args
 * @param {number} timeoutMs
 * @param {AbortSignal} signal
 */
async function finish(call, tool, args, timeoutMs, signal) {
  const wait_s = Math.max(timeoutMs - FETCHING_MS, timeoutMs / 2) / 1000;
  const result = completed(await call(tool, args, { wait_s }), timeoutMs, signal);
  /** @type {Image[]} */
  const images = [];
  for (const image of result.images) {
    const task_id = refOf(image, result);
    const again = image.path || !task_id || signal.aborted ? null : await call("get_image_task", { task_id }, { wait_s: 0 });
    const before = images.filter((one) => refOf(one, result) === task_id).length;
    const fetched = again && !again.error ? again.images[before] : null;
    images.push(fetched?.path ? fetched : image);
  }
  return { ...result, images };
}

/**
 * Returns a completed result; throws an error for the model otherwise.
 *
 * @param {ToolResult} result
 * @param {number} timeoutMs
 * @param {AbortSignal} signal
 * @returns {Success}
 */
function completed(result, timeoutMs, signal) {
  if (!result.error && result.task.state === "completed") return result;
  if (result.error) {
    const { code, charged, task_ref } = result.error;
    const mayBeMade = Boolean(task_ref) || charged !== "no";
    const isLate = signal.aborted && code === "cancelled" && mayBeMade;
    if (!isLate) throw new Error(explain(result));
  }
  const refs = result.error ? [result.error.task_ref ?? ""].filter(Boolean) : refsOf(result, isProcessing);
  const how = "make the same call again, unchanged: it waits for it and costs nothing more";
  const or = refs.length ? `, or call get_image_task with task_id ${refs.map((ref) => `"${ref}"`).join(", then ")}` : "";
  throw new Error(`${refs.join(", ") || "The picture"} is not finished after ${timeoutMs / 1000} s. To get it, ${how}${or}.`);
}

/**
 * @param {SourceImage[]} inputImages
 * @param {string} folder
 */
async function writeSources(inputImages, folder) {
  return Promise.all(
    inputImages.map(async ({ buffer }, index) => {
      const path = join(folder, `source-${index + 1}`);
      await writeFile(path, buffer, { mode: 0o600 });
      return path;
    }),
  );
}
