// Types for the checker alone (.ci/check-javascript); no part of the plugin that is installed.
//
// What comes from OpenClaw has the types that its own package ships. The rest mirrors `dist/tools.json` (bundle.py)
// and the worker's messages (hosts/worker/, schema/results.py).

import type { OpenClawPluginApi, OpenClawPluginToolContext } from "openclaw/plugin-sdk/plugin-entry";

import type { LatePictures } from "./late.js";
import type { UnshownPictures } from "./unshown.js";
import type { Worker } from "./worker.js";

// OpenClaw

export type PluginApi = OpenClawPluginApi;
export type ToolContext = OpenClawPluginToolContext;
export type OpenClawConfig = PluginApi["config"];
export type Logger = PluginApi["logger"];

type RegisteredTool = Parameters<PluginApi["registerTool"]>[0];
/** A tool as the host takes it, without the factories that make one. */
export type AgentTool = Extract<RegisteredTool, { execute: unknown }>;
export type AgentToolResult = Awaited<ReturnType<AgentTool["execute"]>>;
export type OnUpdate = NonNullable<Parameters<AgentTool["execute"]>[3]>;

export type ImageProvider = Parameters<PluginApi["registerImageGenerationProvider"]>[0];
export type ImageRequest = Parameters<ImageProvider["generateImage"]>[0];
export type SourceImage = NonNullable<ImageRequest["inputImages"]>[number];
export type GeneratedImage = Awaited<ReturnType<ImageProvider["generateImage"]>>["images"][number];
export type Resolution = NonNullable<ImageRequest["resolution"]>;

// Of the hook `before_tool_call`, whose handler has no type of its own in the package's entry.
export interface ToolCallEvent {
  toolName: string;
  params: Record<string, unknown>;
  runId?: string;
  toolCallId?: string;
}

export interface ToolCallContext {
  agentId?: string;
  sessionKey?: string;
  runId?: string;
  /** Absent for runs that no message began. */
  requester?: HookRequester;
}

export interface HookRequester {
  channel?: string;
  senderId?: string;
  senderIsOwner?: boolean;
}

// Of the hook `after_tool_call`.
export interface ToolEndEvent {
  toolCallId?: string;
  result?: unknown;
}

export interface ToolCallVerdict {
  requireApproval: {
    title: string;
    description: string;
    scope: { kind: "payment"; amount: string; currency: string; target: string };
    allowedDecisions: ("allow-once" | "allow-always" | "deny")[];
    /** In the host's types, but not in its docs: what the model reads after a timeout. */
    timeoutReason: string;
    onResolution: (decision: string) => void;
  };
}

export type CommandContext = Parameters<Parameters<PluginApi["registerCommand"]>[0]["handler"]>[0];

type HttpHandler = Parameters<PluginApi["registerHttpRoute"]>[0]["handler"];
export type HttpRequest = Parameters<HttpHandler>[0];
export type HttpResponse = Parameters<HttpHandler>[1];

/** The part of a tool's context that the account is read from. */
export type AccountContext = Pick<
  ToolContext,
  "config" | "getRuntimeConfig" | "resolveApiKeyForProvider" | "runtimeConfig"
>;

/** Whose account is meant, where there is no tool call: the agent's id, or its folder and credentials. */
export type AgentAccount = Pick<ImageRequest, "agentDir" | "authStore"> & { agentId?: string };

// tools.json, and the plugin's settings as its configSchema has them

export interface Settings {
  ask_above_usd?: number;
  base_url?: string;
  callback_hosts?: string[];
  callback_public_url?: string;
  callback_secret?: string;
  python?: string;
  late_pictures?: boolean;
  safety_checker?: boolean;
  save_dir?: string;
  keep_days?: number;
  keep_mb?: number;
  tiers?: string[];
  wait_s?: number;
  [name: string]: unknown;
}

/** A setting: its default, and how the stricter of two values is found where it guards money. */
export interface SettingRule {
  default?: unknown;
  guards?: string;
  /** The values from the strictest on. */
  order?: string[];
  sensitive?: boolean;
}

export type SettingRules = Record<string, SettingRule>;

export interface Bundle {
  version: string;
  manifest_sha256: string;
  python: string | null;
  /** A wheel of the Python package that the plugin brings, its path inside the plugin's folder. */
  wheel: { path: string; sha256: string } | null;
  /** How this version of the Python package is installed; "{pip}" stands for the command pip. */
  install_again: string;
  tiers: string[];
  default_tiers: string[];
  settings: SettingRules;
  argument_rules: ArgumentRules;
  tools: BundledTool[];
  callback_path: string;
  image_provider: BundledImageProvider | null;
}

type Property = Record<string, unknown> & { description: string };

/** What differs from the full definition for a set of tiers. */
interface TierDifference {
  text?: string;
  properties?: Record<string, Property>;
  required?: string[];
  /** Members that are left out. */
  without?: string[];
  /** Whether none of these tiers has the tool. */
  withheld?: boolean;
}

export interface BundledTool {
  name: string;
  label: string;
  description: string;
  parameters: { properties: Record<string, Property>; required: string[] };
  callback_only: string[];
  by_tiers: Record<string, TierDifference>;
  rules: ToolRules;
}

// The rules of a call's arguments, as argument_rules.py describes them

/** The keywords of the tools' input schemas. */
export interface ArgumentSchema {
  type?: string;
  enum?: string[];
  const?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  pattern?: string | null;
  "x-allowed"?: string;
  items?: ArgumentSchema;
  properties?: Record<string, ArgumentSchema>;
  required?: string[];
  additionalProperties?: boolean;
  allOf?: ArgumentSchema[];
  if?: ArgumentSchema;
  then?: ArgumentSchema;
  not?: ArgumentSchema;
}

export interface Limits {
  max_message_chars: number;
  max_violations: number;
  max_depth: number;
  max_values: number;
  max_name_chars: number;
  max_shown_chars: number;
  max_compared_chars: number;
  max_url_chars: number;
  max_unicode_authority_chars: number;
}

export interface ArgumentRules {
  limits: Limits;
  type_words: Record<string, string>;
  named_ratios: Record<string, string>;
  /** The first and the last code point of each range. */
  invisible: [number, number][];
  operator: { tier: string; safety_checker: string; callback_host: string };
}

export interface ToolRules {
  schema: ArgumentSchema;
  default_model: string | null;
  /** The tier of each model. */
  tiers: Record<string, string>;
  public_names: string[];
  visible: string[];
  /** Sentences, each with the names that it answers. */
  advice: Record<string, string[]>;
  example: string;
}

export interface SchemaError {
  path: (string | number)[];
  keyword: string;
  value: unknown;
  instance: unknown;
  /** The schema that has the keyword. */
  schema: ArgumentSchema;
  /** Whether it is the rule of one model. */
  narrow: boolean;
}

export interface Violation {
  path: string;
  kind: string;
  text: string;
  narrow: boolean;
}

export interface UrlParts {
  scheme: string;
  netloc: string;
  path: string;
  query: string;
}

export interface BundledImageProvider {
  id: string;
  label: string;
  models: ImageModel[];
}

export interface ImageModel {
  name: string;
  tier: string;
  text_to_image: string;
  remix_image: string | null;
  aspect_ratios: string[];
  needs_aspect_ratio: boolean;
  resolutions: string[];
  max_sources: number;
}

// The account

export interface Account {
  api_key: string | null;
  base_url: string | null;
  source: "environment" | "provider" | null;
}

// The worker's messages

export interface Launch {
  /** The worker's command line, without its last argument. */
  program: string[];
  /** The folder that it runs in: OpenClaw's state folder. */
  home: string;
  /** Equal for workers that are interchangeable. */
  key: string;
  /** The command that gives the plugin an interpreter that works. */
  fix: string;
}

// The plugin's own Python

/** How a command ended. */
export interface CommandEnd {
  isDone: boolean;
  isLate: boolean;
  stdout: string;
  stderr: string;
  /** Why it failed. */
  cause: string;
}

export interface FoundPython {
  path: string;
  version: number[];
  /** Those of venv, ensurepip and pip that it has. */
  modules: string[];
}

export interface PythonSearch {
  fitting: FoundPython[];
  tooOld: FoundPython[];
  uv: string | null;
  /** Where they were looked for. */
  folders: string[];
}

export type InstallStep = "waiting" | "making";

/** What the worker is started with where the plugin names no interpreter. */
export interface PythonChoice {
  program: string[] | null;
  running: Promise<Failure | null> | null;
  step: InstallStep | null;
  since_ms: number;
  stop: AbortController;
}

export interface InitializeParams {
  plugin_version: string;
  host: "native";
  config: Settings;
}

export type CallParams = {
  tool: string;
  arguments: unknown;
  session: { agent_id: string | null; session_key: string | null };
  wait_s: number | null;
  sender?: string | null;
  is_owner?: boolean;
  /** What kind of run it is, where nobody is known for whom it works. */
  unattended?: string | null;
  /** Whether it works for the owner, whose own call it is not. */
  spends_as_owner?: boolean;
  unattributed?: boolean;
  /** Whether nobody but the owner reads this conversation. */
  private?: boolean;
  /** The sessions that spawned this one. */
  ancestors?: { agent_id: string | null; session_key: string }[];
  /** Whether the picture is shown by the conversation that spawned this one. */
  handed_over?: boolean;
  workspace_dir?: string | null;
  sandboxed?: boolean;
  source_dirs?: string[];
  /** Whether the plugin waits by itself, and shows the picture to nobody. */
  watching?: boolean;
  output_dir?: string | null;
  approval?: Approval | null;
};

export type RequesterParams = Required<Pick<CallParams, "sender" | "is_owner" | "unattended" | "spends_as_owner">>;

/** For whom a call works. */
export interface Requester {
  sender: string | null;
  isOwner: boolean;
}

export interface SessionId {
  agentId: string | undefined;
  sessionKey: string;
}

/** Where a call is made. */
export interface CallPlace {
  /** The sessions that spawned its session, the nearest first. */
  ancestors: SessionId[];
  /** Whether nobody sees its session, so that another one has to show the picture. */
  isHandedOver: boolean;
  /** The conversation that shows the picture. */
  home: ToolContext;
}

/** A person's consent to one call. */
export interface Approval {
  approval_id: string;
  request_key: string;
  usd: number;
}

/** What a person is asked before a call. */
export interface Question {
  title: string;
  text: string;
  amount: string;
  currency: string;
  approval: Approval;
}

export type QuestionOf = (ctx: ToolContext, tool: string, args: unknown, callId: string) => Promise<Question | null>;

/** A question that was passed on to the host, for a call and those equal to it. */
export interface AskedCall {
  question: Question;
  decision: Promise<string>;
  settle: (decision: string) => void;
  forget: () => void;
}

export type AccountParams = Pick<Account, "api_key" | "base_url"> & { state_dir: string };

export type OverviewParams = Omit<CallParams, "tool" | "arguments"> & AccountParams & { is_operator: boolean };

/** The worker as the gallery asks it. */
export type GalleryWorker = Pick<Worker, "resultOf">;

export interface WebhookParams {
  headers: Record<string, unknown>;
  body_base64: string;
}

export interface Methods {
  initialize: { params: InitializeParams; result: { version: string; manifest_sha256: string } };
  call: { params: CallParams & AccountParams; result: ToolResult };
  question: { params: CallParams & AccountParams; result: { question: Question | null } };
  overview: { params: OverviewParams; result: { text: string } };
  webhook: { params: WebhookParams; result: { accepted: boolean } };
  gallery: { params: Record<string, never>; result: { path: string } };
  gallery_picture: { params: { key: string }; result: { path: string | null } };
  account: { params: Pick<Account, "api_key" | "base_url">; result: Record<string, unknown> };
  shutdown: { params: Record<string, never>; result: unknown };
}

export interface Progress {
  id: number;
  state: string;
  message?: string;
  elapsed_s?: number;
  /** The task, once RunAPI has accepted it. */
  task_ref?: string | null;
}

export type OnProgress = (progress: Progress) => void;

/** How a request ended: the worker's response, or in `ended` how its process ended before that. */
export interface Response<Result> {
  result?: Result;
  error?: { message: string };
  ended?: string;
}

export type Charged = "no" | "yes" | "unknown";

export interface ErrorInfo {
  code: string;
  message: string;
  hint: string;
  retryable: boolean;
  charged: Charged;
  task_ref: string | null;
  request_id: string | null;
  /** What the conversation is told beside it. */
  warnings?: string[];
}

export interface Failure {
  error: ErrorInfo;
}

export interface Image {
  url: string;
  path: string | null;
  expires_at: string | null;
  /** The task that made it. */
  task_ref?: string | null;
}

/** The task of one picture of a call. */
export interface PictureTask {
  ref: string | null;
  state: string;
}

export interface Success {
  error?: undefined;
  task: {
    id: string | null;
    ref: string | null;
    state: string;
    model: string | null;
    /** Whether it is the image of an equal call. */
    joined?: boolean;
    title: string | null;
  };
  /** One for each picture of the call, in order. */
  tasks?: PictureTask[];
  images: Image[];
  cost: { usd: number | null; basis: string };
  warnings: string[];
  next: string;
}

export type ToolResult = Success | Failure;

export interface RecentImage {
  ref: string | null;
  state: string;
  title: string | null;
  made_at: string;
  usd: number | null;
  url: string | null;
  path: string | null;
  model: string;
}

/** The result of get_image_task without an id, which our own calls always name. */
export interface Recent {
  error?: undefined;
  recent: RecentImage[];
  warnings: string[];
  next: string;
}

// State that survives a reload of the plugin

export interface Shared {
  worker: Worker | null;
  /** By session and image: the number of the turn in which it was shown. */
  shown: Map<string, number>;
  /** Our copies of pictures that OpenClaw cannot fetch, by their links. */
  copies: Map<string, string>;
  /** While the gateway runs. */
  late: LatePictures | null;
  /** The last context of each conversation's tools. */
  contexts: Map<string, ToolContext>;
  /** The open questions, by conversation, run and request. */
  questions: Map<string, AskedCall>;
  /** The question of each call that has not begun, by conversation and call. */
  asked: Map<string, AskedCall>;
  /** By state folder and version. */
  pythons: Map<string, PythonChoice>;
  /** Whose service runs, and what it has found or made for its worker. */
  serving: { owner: PluginApi; key: string } | null;
  /** For whom each call works, by conversation and call. */
  requesters: Map<string, Requester>;
  /** While the gateway runs. */
  unshown: UnshownPictures | null;
  /** Stands for this process. */
  boot: string | undefined;
  /** The run of each call, by conversation and call. */
  callRuns: Map<string, string>;
  /** The runs that have begun and not ended. */
  openRuns: Map<string, boolean>;
  /** The sessions of subagents that answer in a thread. */
  threads: Map<string, boolean>;
  /** For whom each spawned run works, by its id. */
  runs: Map<string, Requester>;
}

/** How pictures reach their conversation. */
export interface Delivery {
  /** Attached by OpenClaw. */
  mediaUrls: string[];
  /** Written by the agent, who thereby attaches them. */
  lines: string[];
  /** Only shown by their links. */
  unattached: Image[];
}

/** A picture that was given to a run that has not ended, or that ended without showing it. */
export interface UnshownPicture {
  /** The conversation, as `conversationOf` names it. */
  session: string;
  ref: string;
  title: string | null;
  /** The tool call, of which there may be several pictures. */
  call?: string;
  run: string;
  /** The gateway's process. */
  boot: string | undefined;
  since_ms: number;
  isStopped: boolean;
  /** Whether its run ended by an error, with which OpenClaw may have shown it. */
  isFailed?: boolean;
}

export interface AgentEvent {
  stream: string;
  runId: string;
  data: unknown;
}

/** A picture that a conversation still waits for, or that it was told of. */
export interface LatePicture {
  agentId?: string;
  sessionKey: string;
  ref: string;
  /** What it shares with the other pictures of its call; of a single one null. */
  set?: string | null;
  title: string | null;
  /** Where its conversation is. */
  route: { channel: string; to?: string; accountId?: string; threadId?: string | number };
  since_ms: number;
  /** How often its conversation was told that it is ready. */
  told: number;
}

export type CallWorker = (
  account: Account,
  params: CallParams,
  signal?: AbortSignal,
  onProgress?: OnProgress,
) => Promise<ToolResult>;
