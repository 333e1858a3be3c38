// The part of OpenClaw that the plugin sees, for tests without OpenClaw: one JSON command a line on stdin, one
// answer a line on stdout. Each `register` loads the plugin's modules from the folder given.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { Readable } from "node:stream";
import { URL, pathToFileURL } from "node:url";

const plugins = new Map(); // name -> { tools, service }
let entry; // of the plugin in the host's config; a plugin is registered with the config of its own
const reloads = []; // what plugins say of a change of the config
const calls = new Map(); // call id -> { abort, outcome, updates }
const verdicts = new Map(); // call id -> what a hook said
const turns = new Map(); // number -> context
const listeners = new Set(); // of the events of runs
const logs = [];
const events = []; // what woke a session, in order
const logger = Object.fromEntries(
  ["debug", "info", "warn", "error"].map((level) => [level, (line) => logs.push([level, String(line)])]),
);
const { setTimeout } = globalThis;
const delays = []; // that were asked for, in ms
const shared = () => globalThis[Symbol.for("flux2-tool.worker")];

// The credentials of agents by their folders; those of an agent without any are the default agent's.
const modelAuth = (hostKey, agentKeys) => ({
  ensureAuthProfileStore(agentDir) {
    const key = agentKeys[agentDir];
    return { profiles: key ? { "runapi:own": { type: "api_key", provider: "runapi", key } } : {} };
  },
  resolveAuthProfileOrder({ store, provider }) {
    return Object.keys(store.profiles).filter((name) => store.profiles[name].provider === provider);
  },
  isProviderApiKeyConfigured: () => Boolean(hostKey),
  async resolveApiKeyForProvider({ provider }) {
    if (!hostKey) throw new Error(`No API key found for provider "${provider}".`);
    return { apiKey: hostKey };
  },
});

const withInfinity = (_key, value) => {
  return typeof value === "number" && !Number.isFinite(value) ? `<${value < 0 ? "-" : ""}inf>` : value;
};

const operations = {
  async register({ name, root, config, stateDir, providers, hostKey, agentKeys = {}, sessions }) {
    const plugin = { root, tools: new Map(), service: null, images: null, methods: new Map(), routes: [], tabs: [], hooks: [] };
    const { default: ours } = await import(pathToFileURL(join(root, "dist", "index.js")).href);
    ours.register({
      id: ours.id,
      rootDir: root,
      pluginConfig: config,
      config: { models: { providers } },
      logger,
      runtime: {
        state: { resolveStateDir: () => stateDir },
        config: { current: () => ({ models: { providers }, plugins: { entries: { flux2: entry } } }) },
        modelAuth: modelAuth(hostKey, agentKeys),
        events: {
          onAgentEvent(listener) {
            listeners.add(listener);
            return () => listeners.delete(listener);
          },
        },
        agent: {
          resolveAgentDir: (_cfg, id) => `/agents/${id}/agent`,
          session: { getSessionEntry: ({ sessionKey }) => sessions?.[sessionKey] },
        },
        system: {
          enqueueSystemEvent: (text, options) => events.push({ text, ...options }),
          requestHeartbeat: (options) => events.push({ wake: options }),
        },
      },
      registerTool: (make, { name: tool }) => plugin.tools.set(tool, make),
      registerImageGenerationProvider: (provider) => (plugin.images = provider),
      registerGatewayMethod: (method, handler, { scope }) => plugin.methods.set(method, { handler, scope }),
      on: (event, handler, options) => plugin.hooks.push({ event, handler, options }),
      registerHttpRoute: (route) => plugin.routes.push(route),
      session: { controls: { registerControlUiDescriptor: (tab) => plugin.tabs.push(tab) } },
      registerCommand: (command) => (plugin.command = command),
      registerReload: (reload) => reloads.push(reload),
      registerService: (service) => (plugin.service = service),
      registerHostedMediaResolver: (resolver) => (plugin.resolver = resolver),
    });
    plugins.set(name, plugin);
    return { id: ours.id, tools: [...plugin.tools.keys()] };
  },
  // A change of the config that the host takes over without loading the plugin anew.
  configure({ changed = null }) {
    entry = changed ?? undefined;
  },
  reloads: () => reloads.splice(0),
  definitions({ plugin }) {
    return [...plugins.get(plugin).tools.values()].map((make) => make({})).filter(Boolean);
  },
  prepared({ plugin, tool, args }) {
    return plugins.get(plugin).tools.get(tool)({}).prepareArguments(args);
  },
  // Of each call's arguments, as JSON text: what the plugin throws, what it prepares, and what the worker would read.
  judged({ plugin, calls: given }) {
    const { tools } = plugins.get(plugin);
    const textOf = (value) => JSON.stringify(value, withInfinity)?.replace(/"<(-?)inf>"/g, "$11e999") ?? "null";
    return given.map(({ tool, text }) => {
      const args = JSON.parse(text);
      try {
        return { read: textOf(args), prepared: textOf(tools.get(tool)({}).prepareArguments(args)) };
      } catch (error) {
        return { read: textOf(args), threw: error.message };
      }
    });
  },
  async explained({ plugin, results }) {
    const { explain } = await import(pathToFileURL(join(plugins.get(plugin).root, "dist", "failure.js")).href);
    return results.map(explain);
  },
  // Makes the environment of a packed plugin's folder, from the interpreters in these folders alone.
  async makePython({ root, stateDir, folders }) {
    const { PrivatePython } = await import(pathToFileURL(join(root, "dist", "private_python.js")).href);
    const bundle = JSON.parse(readFileSync(join(root, "dist", "tools.json"), "utf8"));
    const made = new PrivatePython(stateDir, bundle, root, logger, folders);
    return made.make(() => {}, new AbortController().signal);
  },
  // A number as `turn` stands for one turn of a conversation, in which the tools keep their context. The model may give
  // calls of several conversations one id.
  begin({ plugin, tool, call, callId = call, args, context, hostKey, aborted, turn }) {
    const abort = new AbortController();
    if (aborted) abort.abort();
    const updates = [];
    const ctx = turns.get(turn) ?? { agentId: "main", sessionKey: "s", sessionId: "1", ...context };
    if (turn) turns.set(turn, ctx);
    if (hostKey !== undefined) ctx.resolveApiKeyForProvider = async () => hostKey ?? undefined;
    const running = plugins.get(plugin).tools.get(tool)(ctx);
    const outcome = running.execute(callId, args, abort.signal, (update) => updates.push(update));
    calls.set(call, { abort, outcome, updates });
    return null;
  },
  hooks: ({ plugin }) => plugins.get(plugin).hooks.map(({ event, options }) => ({ event, options })),
  // As the host does before a call: its tools are made for the conversation, then the hooks are asked.
  async beforeToolCall({ plugin, tool, call, callId = call, args, context, hook }) {
    const { tools, hooks } = plugins.get(plugin);
    tools.get(tool)({ agentId: "main", sessionKey: "s", sessionId: "1", ...context });
    const requester = { channel: "webchat", senderIsOwner: true };
    const ctx = { agentId: "main", sessionKey: "s", runId: "run-1", requester, ...hook };
    const asked = hooks.filter(({ event, options }) => event === "before_tool_call" && options.matcher.includes(tool));
    verdicts.delete(call);
    for (const { handler } of asked) {
      const verdict = await handler({ toolName: tool, toolCallId: callId, params: args, runId: ctx.runId }, ctx);
      if (verdict) verdicts.set(call, verdict);
    }
    return verdicts.get(call);
  },
  // What the host observes: an event of another kind, or of a tool that is not ours.
  async fire({ plugin, event, payload, ctx }) {
    for (const hook of plugins.get(plugin).hooks) if (hook.event === event) await hook.handler(payload, ctx);
  },
  agentEvent({ runId, data }) {
    for (const listener of listeners) listener({ stream: "lifecycle", runId, data });
  },
  resolve: ({ call, decision }) => verdicts.get(call).requireApproval.onResolution(decision),
  abort: ({ call }) => calls.get(call).abort.abort(),
  end: ({ call }) => calls.get(call).outcome,
  updates: ({ call }) => calls.get(call).updates,
  imageProvider({ plugin, cfg = {} }) {
    const { isConfigured, ...provider } = plugins.get(plugin).images ?? {};
    return isConfigured ? { ...provider, isConfigured: isConfigured({ cfg }) } : null;
  },
  async generateImage({ plugin, request }) {
    const inputImages = request.inputImages?.map((text) => ({ buffer: Buffer.from(text), mimeType: "image/png" }));
    try {
      const made = await plugins.get(plugin).images.generateImage({ cfg: {}, ...request, inputImages });
      return { ...made, images: made.images.map(({ buffer, ...image }) => ({ ...image, bytes: String(buffer) })) };
    } catch (error) {
      return { threw: error.message };
    }
  },
  async command({ plugin, context }) {
    const { handler, ...definition } = plugins.get(plugin).command;
    return { definition, answer: await handler({ channel: "webchat", config: {}, commandBody: "/flux2", ...context }) };
  },
  async gatewayMethod({ plugin, method }) {
    const { handler, scope } = plugins.get(plugin).methods.get(method);
    return new Promise((resolve) => {
      handler({ respond: (ok, answer) => resolve({ ok, answer, scope }) });
    });
  },
  tabs: ({ plugin }) => plugins.get(plugin).tabs,
  // Asks a route over a real socket, as the gateway does once it has let an operator in.
  async fetched({ plugin, path, method = "GET" }) {
    const route = plugins.get(plugin).routes.find((one) => path.startsWith(one.path));
    const server = createServer((request, response) => route.handler(request, response));
    await once(server.listen(0, "127.0.0.1"), "listening");
    try {
      const response = await globalThis.fetch(`http://127.0.0.1:${server.address().port}${path}`, { method });
      const bytes = Buffer.from(await response.arrayBuffer());
      const { pathname, search } = new URL(response.url); // after redirects
      const headers = Object.fromEntries(response.headers);
      return { status: response.status, headers, body: bytes.toString("latin1"), address: pathname + search };
    } finally {
      server.closeAllConnections();
      server.close();
    }
  },
  routes: ({ plugin }) => plugins.get(plugin).routes.map(({ handler, ...route }) => route),
  async http({ plugin, method = "POST", headers, body, times = 1 }) {
    const request = Object.assign(Readable.from(Array(times).fill(Buffer.from(body))), { method, headers });
    const response = { statusCode: 0, ended: false, end: () => (response.ended = true) };
    const handled = await plugins.get(plugin).routes[0].handler(request, response);
    return { status: response.statusCode, ended: response.ended, handled };
  },
  // Time for the plugin's own deadlines, so that no test sits them out; once more with 1 for what must not be hurried.
  hurry({ times }) {
    globalThis.setTimeout = (callback, ms, ...args) => setTimeout(callback, ms / times, ...args);
  },
  // Notes the delays that are asked for from now on, and sits none of them out; returns those noted before.
  delays() {
    globalThis.setTimeout = (callback, ms, ...args) => {
      delays.push(ms);
      return setTimeout(callback, 0, ...args);
    };
    return delays.splice(0);
  },
  // Lets the hurried deadlines pass, several times over.
  settle: () =>
    new Promise((resolve) => {
      setTimeout(resolve, 300);
    }),
  // Keeps this process busy, as a gateway's own work may.
  block({ ms }) {
    const until = Date.now() + ms;
    while (Date.now() < until);
  },
  start: ({ plugin }) => plugins.get(plugin).service.start(),
  stop: ({ plugin }) => plugins.get(plugin).service.stop(),
  resolved: ({ plugin, url }) => plugins.get(plugin).resolver(url),
  events: () => events,
  worker: () => ({ pid: shared()?.worker?.child?.pid ?? null, closed: shared()?.worker?.isClosed ?? null }),
  logs: () => logs,
};

createInterface({ input: process.stdin }).on("line", async (line) => {
  const { op, id, ...options } = JSON.parse(line);
  try {
    process.stdout.write(`${JSON.stringify({ id, answer: (await operations[op](options)) ?? null })}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ id, failed: String(error?.stack ?? error) })}\n`);
  }
});
