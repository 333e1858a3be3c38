// The native OpenClaw plugin: offers the tools and passes each call to the Python worker.
//
// Definitions and versions come from tools.json beside this file, which `flux2-tool openclaw install` or `pack`
// generates from the manifest. One worker serves the whole process; it starts with the first call, because
// OpenClaw runs `register` several times. The key travels with each call and nowhere else.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { account, described, hostContext } from "./account.js";
import { registerCallbacks } from "./callbacks.js";
import { imageProvider } from "./image_provider.js";
import { explained, failure, launch, Worker } from "./worker.js";

const ID = "flux2";
const MAX_REMEMBERED = 20_000;
const PROGRESS_EVERY_MS = 2_000;

// Outlives a reload of the plugin, so that a newer version finds the worker of the older one.
const shared = (globalThis[Symbol.for("flux2-tool.worker")] ??= { worker: null });
shared.shown ??= new Map(); // session and image -> "attached", or "asked for" when it was fetched since

export default {
  id: ID,
  name: "Flux 2 images",
  register(api) {
    const made = JSON.parse(readFileSync(join(api.rootDir, "dist", "tools.json"), "utf8"));
    for (const tool of made.tools) {
      const definition = { ...offered(tool, made, api.pluginConfig ?? {}), catalogMode: "direct-only" };
      const execute = (ctx) => (...call) => callTool(api, made, ctx, tool.name, ...call);
      const make = (ctx) => ({ ...definition, prepareArguments: withoutNulls, execute: execute(ctx) });
      api.registerTool(make, { name: tool.name });
    }
    if (made.image_provider) api.registerImageGenerationProvider(imageProvider(api, made, callWorker));
    const current = () => (shared.worker?.key === launch(api, made).key && !shared.worker.gone ? shared.worker : null);
    registerCallbacks(api, made.callback_path, current);
    const doctor = async ({ respond }) => respond(true, await examined(api, made));
    api.registerGatewayMethod(`${ID}.doctor`, doctor, { scope: "operator.read" });
    const stop = () => (shared.worker?.key === launch(api, made).key ? shared.worker.retire() : undefined);
    api.registerService({ id: ID, start() {}, stop });
  },
};

// What the model is offered under these settings; `plugin.py` describes the shape of tools.json.
function offered({ name, label, description, parameters, by_tiers, callback_only }, made, config) {
  const enabled = made.tiers.filter((tier) => (config.tiers ?? made.default_tiers).includes(tier)).join(",");
  const { text = "", properties, required = parameters.required } = by_tiers[enabled] ?? {};
  const all = { ...parameters.properties, ...properties };
  const hosts = config.callback_hosts?.join(", ");
  for (const member of callback_only) {
    const said = all[member].description.replace("{callback_hosts}", () => hosts);
    if (hosts) all[member] = { ...all[member], description: said };
    else delete all[member];
  }
  description = description.replace("{tiers}", () => text);
  return { name, label, description, parameters: { ...parameters, properties: all, required } };
}

// The host would turn null into false or "null"; a null member means "not given".
function withoutNulls(args) {
  if (args === null || typeof args !== "object" || Array.isArray(args)) return args;
  return Object.fromEntries(Object.entries(args).filter(([, value]) => value !== null));
}

async function callTool(api, made, ctx, tool, callId, args, signal, onUpdate) {
  try {
    const session = { agent_id: ctx.agentId ?? null, session_key: ctx.sessionKey ?? null };
    const place = { workspace_dir: ctx.workspaceDir ?? null, sandboxed: ctx.sandboxed === true };
    const params = { tool, arguments: args, session, ...who(ctx), ...place, wait_s: api.pluginConfig?.wait_s ?? null };
    const result = await callWorker(api, made, ctx, params, signal, onUpdate && throttled(onUpdate, callId));
    if (result.error) return failed(result);
    return succeeded(result, tool, [ctx.agentId, ctx.sessionKey, ctx.sessionId], signal);
  } catch (error) {
    api.logger.error(`${ID}: ${tool}: ${error?.stack ?? error}`);
    return failed(failure("internal_error", "The plugin failed on this call.", "See the gateway's log.", "unknown"));
  }
}

// Returns the worker's result object.
async function callWorker(api, made, ctx, params, signal, onProgress) {
  const { api_key, base_url } = await account(ctx, api.pluginConfig ?? {});
  const worker = running(api, made);
  return worker.call({ ...params, api_key, base_url, state_dir: worker.home }, signal, onProgress);
}

// The worker of this version and these settings; starts it when it does not run.
function running(api, made) {
  const { python, ...config } = api.pluginConfig ?? {};
  const how = launch(api, made);
  if (shared.worker?.key !== how.key || shared.worker.gone) {
    shared.worker?.retire();
    shared.worker = new Worker(how, { plugin_version: made.version, host: "native", config }, made, api.logger);
  }
  return shared.worker;
}

// What `flux2-tool doctor` asks of the gateway; `doctor/gateway.py` describes the shape.
async function examined(api, made) {
  const { version, manifest_sha256 } = made;
  const found = await account(hostContext(api, api.runtime?.config?.current?.()), api.pluginConfig ?? {});
  return { version, manifest_sha256, ...described(found), worker: { problem: await running(api, made).check() } };
}

// Who asks, as the host's channel vouches for it; the same number on two channels is two people.
function who({ requesterSenderId: id, messageChannel, senderIsOwner }) {
  return { sender: id ? `${messageChannel ?? "unknown"}:${id}` : null, is_owner: senderIsOwner === true };
}

function throttled(onUpdate, id) {
  let [state, at] = [null, 0];
  return (progress) => {
    if (progress.state === state && Date.now() - at < PROGRESS_EVERY_MS) return;
    [state, at] = [progress.state, Date.now()];
    const text = progress.message || `${state}, ${Math.round(progress.elapsed_s ?? 0)} s`;
    const line = { id, text, visibility: "channel", privacy: "public" };
    onUpdate({ content: [{ type: "text", text }], details: {}, progress: line });
  };
}

function failed(result) {
  return { content: [{ type: "text", text: explained(result) }], details: { status: "error", result } };
}

function succeeded(result, tool, session, signal) {
  const { task, images, cost, warnings, next } = result;
  const done = task.state === "completed";
  const due = (image, index) => isDue([...session, task.id ?? image.url, index], tool === "get_image_task");
  const mediaUrls = done && !signal?.aborted ? images.filter(due).map(({ url }) => url) : [];
  const price = cost.usd === null ? "cost unknown" : `${cost.usd} USD (${cost.basis})`;
  const attached = signal?.aborted
    ? "The call was stopped, so the picture was not attached; get_image_task attaches it."
    : mediaUrls.length
      ? "The picture is attached to this conversation; do not post it or its link again."
      : "The picture is already attached to this conversation; do not post it or its link again. " +
        "Only if the user does not see it, call get_image_task once more: that attaches it again.";
  const lines = [
    next,
    [task.ref, `state: ${task.state}`, task.model, done && price].filter(Boolean).join(", "),
    ...images.map(({ url }) => url),
    ...warnings.map((warning) => `Note: ${warning}`),
    done && images.length && attached,
  ];
  const media = mediaUrls.length ? { media: { mediaUrls } } : {};
  return { content: [{ type: "text", text: lines.filter(Boolean).join("\n") }], details: { ...media, result } };
}

// Whether an image is to be attached now: the first time in its session, and again when it is fetched twice after
// that. The host does not tell whether an attachment was delivered, and a turn may end before it is.
function isDue(image, isFetched) {
  const key = JSON.stringify(image);
  const before = shared.shown.get(key);
  const due = before === undefined || (isFetched && before === "asked for");
  shared.shown.set(key, due ? "attached" : isFetched ? "asked for" : before);
  if (shared.shown.size > MAX_REMEMBERED) shared.shown.delete(shared.shown.keys().next().value);
  return due;
}
