// OpenClaw's own tool image_generate, served by RunAPI: only in a plugin that was installed with --image-generate.
//
// It deals in bytes, which travel as files of a private folder that lives as long as the call. The journal behind it
// is that of the tools. OpenClaw tells the provider neither the conversation nor who asks, so an agent's calls are one
// session, marked as unattributed: an equal call joins a picture that took longer than allowed.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, extname, join } from "node:path";

import { hostContext } from "./account.js";
import { explained } from "./worker.js";

const DEFAULT_TIMEOUT_MS = 180_000;
const FETCHING_MS = 2_000; // of the time allowed, what is kept for fetching the finished picture
const MIME_TYPES = { ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif" };
const SESSION = "image_generate"; // `worker.py` knows it as the one that every conversation of the agent may look at

// `made` is tools.json; `callWorker` brings a call to the worker with the account of a context.
export function imageProvider(api, made, callWorker) {
  const { id, label, models } = made.image_provider;
  const tiers = api.pluginConfig?.tiers ?? made.default_tiers;
  const enabled = models.filter(({ tier }) => tiers.includes(tier));
  const byModel = (value) => Object.fromEntries(enabled.map((model) => [model.name, value(model)]));
  const geometry = { supportsSize: false, supportsAspectRatio: true, supportsResolution: true, maxCount: 1 };
  const maxInputImagesByModel = byModel(({ max_sources }) => max_sources);
  const maxInputImages = Math.max(...Object.values(maxInputImagesByModel));
  const resolutionsByModel = byModel(({ resolutions }) => resolutions.map((name) => name.toUpperCase()));
  return {
    id,
    label,
    defaultModel: enabled[0].name,
    defaultTimeoutMs: DEFAULT_TIMEOUT_MS,
    models: enabled.map(({ name }) => name),
    capabilities: {
      generate: geometry,
      // Where it is supported, OpenClaw takes the dearer 2K for every large photo, unasked.
      edit: { ...geometry, supportsResolution: false, enabled: true, maxInputImages, maxInputImagesByModel },
      geometry: {
        aspectRatios: enabled[0].aspect_ratios,
        aspectRatiosByModel: byModel(({ aspect_ratios }) => aspect_ratios),
        resolutions: [...new Set(Object.values(resolutionsByModel).flat())],
        resolutionsByModel,
      },
    },
    isConfigured: ({ cfg, agentDir }) =>
      Boolean(process.env.RUNAPI_API_KEY || cfg?.models?.providers?.[id]?.apiKey) ||
      api.runtime?.modelAuth?.isProviderApiKeyConfigured?.({ provider: id, agentDir }) === true,
    generateImage: (request) => {
      const who = { session: { agent_id: agentOf(request), session_key: SESSION }, unattributed: true };
      const call = (tool, args, rest, signal) =>
        callWorker(api, made, hostContext(api, request.cfg), { tool, arguments: args, ...who, ...rest }, signal);
      return generate(api, enabled, request, call);
    },
  };
}

// The agent by its own folder, the one thing that OpenClaw tells of it; null when that is none of its usual ones.
function agentOf({ agentDir, cfg }) {
  const configured = cfg?.agents?.list?.find?.((agent) => agentDir && agent?.agentDir === agentDir);
  return configured?.id ?? /[\\/]agents[\\/]([^\\/]+)[\\/]agent[\\/]?$/.exec(agentDir ?? "")?.[1] ?? null;
}

async function generate(api, enabled, request, call) {
  const model = enabled.find(({ name }) => name === request.model);
  if (!model) {
    const names = enabled.map(({ name }) => name).join(", ");
    throw new Error(`${request.model} is not one of ${names}; the plugin's setting tiers decides which are enabled.`);
  }
  const folder = await mkdtemp(join(tmpdir(), "flux2-"));
  const timeoutMs = request.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const stop = new AbortController();
  const late = setTimeout(() => stop.abort(), timeoutMs);
  try {
    const sources = await written(request.inputImages ?? [], folder);
    const { args, notes } = translated(request, model, sources);
    const wait_s = Math.max(timeoutMs - FETCHING_MS, timeoutMs / 2) / 1000;
    // Pictures that are kept anyway need no second copy.
    const files = { source_dirs: [folder], output_dir: api.pluginConfig?.save_dir ? null : folder };
    const tool = sources.length ? "remix_image" : "text_to_image";
    let result = done(await call(tool, args, { wait_s, ...files }, stop.signal), timeoutMs, stop.signal);
    if (!result.images.every(({ path }) => path) && result.task.ref && !stop.signal.aborted) {
      // It is fetched once more, before the model is tempted to pay for another.
      const again = await call("get_image_task", { task_id: result.task.ref }, { wait_s: 0, ...files }, stop.signal);
      result = again.error ? result : done(again, timeoutMs, stop.signal);
    }
    const images = await Promise.all(result.images.map((image) => read(image, result)));
    const warnings = [...notes, ...result.warnings];
    for (const warning of warnings) api.logger.warn(`flux2: image_generate: ${warning}`);
    return { images, model: model.name, metadata: { task: result.task.ref, cost: result.cost, warnings } };
  } finally {
    clearTimeout(late);
    await rm(folder, { recursive: true, force: true });
  }
}

// The tool's arguments, and what of the request they cannot say.
function translated(request, model, sources) {
  const { prompt, aspectRatio, resolution, count = 1, providerOptions = {} } = request;
  const args = { prompt, model: sources.length ? model.remix_image : model.text_to_image };
  if (sources.length) args.source_image_urls = sources;
  const notes = [];
  const left = (name, value, why) => notes.push(`${name} ${JSON.stringify(value)} was not applied: ${why}`);
  if (model.aspect_ratios.includes(aspectRatio)) args.aspect_ratio = aspectRatio;
  else if (aspectRatio) left("aspectRatio", aspectRatio, `there are ${model.aspect_ratios.join(", ")}`);
  if (model.needs_aspect_ratio && !args.aspect_ratio) {
    args.aspect_ratio = model.aspect_ratios[0];
    notes.push(`aspectRatio is needed by ${model.name} and ${args.aspect_ratio} was taken`);
  }
  const wanted = resolution?.toLowerCase();
  if (model.resolutions.includes(wanted)) args.output_resolution = wanted;
  else if (resolution) left("resolution", resolution, `there are ${model.resolutions.join(", ")}`);
  if (count > 1) left("count", count, "one call makes one image");
  if (request.size) left("size", request.size, "use aspectRatio and resolution");
  for (const name of ["quality", "outputFormat", "background"]) {
    if (request[name]) left(name, request[name], "Flux 2 has no such option");
  }
  for (const name of Object.keys(providerOptions)) left(name, providerOptions[name], "Flux 2 has no such option");
  return { args, notes };
}

async function written(inputImages, folder) {
  const paths = inputImages.map((_, index) => join(folder, `source-${index + 1}`));
  await Promise.all(paths.map((path, index) => writeFile(path, inputImages[index].buffer, { mode: 0o600 })));
  return paths;
}

function done(result, timeoutMs, { aborted }) {
  const { error, task } = result;
  if (task?.state === "completed") return result;
  const begun = error?.task_ref || error?.charged !== "no";
  if (error && !(aborted && error.code === "cancelled" && begun)) throw new Error(explained(result));
  const ref = task?.ref ?? error?.task_ref;
  const how = "make the same call again, unchanged: it waits for this picture and costs nothing more";
  const or = ref ? `, or call get_image_task with task_id "${ref}"` : "";
  throw new Error(`${ref ?? "The picture"} is not finished after ${timeoutMs / 1000} s. To get it, ${how}${or}.`);
}

async function read({ path, url, expires_at }, { task: { ref }, warnings }) {
  if (!path) throw new Error(`${ref} was made and paid, but not fetched: ${warnings.join("; ")}. Its link: ${url}`);
  const mimeType = MIME_TYPES[extname(path)];
  return { buffer: await readFile(path), mimeType, fileName: basename(path), metadata: { task: ref, url, expires_at } };
}
