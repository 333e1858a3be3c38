// The Python worker as a child process: one JSON-RPC 2.0 message a line, both ways, up to 1 MiB each.
//
// A tool's failure is a result with `error`. Here a worker that cannot be started, does not fit this plugin or
// ends during a call becomes such a result too, with the command that mends it.

import { spawn } from "node:child_process";
import { homedir } from "node:os";

const MAX_MESSAGE_BYTES = 1 << 20;
const START_MS = 30_000;
const GRACE_MS = 5_000;
const PASSED_ON = "PATH HOME USER LANG TZ TMPDIR SSL_CERT_FILE SSL_CERT_DIR OPENCLAW_STATE_DIR".split(" ");
const ALSO_PASSED_ON = /^(LC_\w+|XDG_\w+|(http|https|all|no)_proxy|(HTTP|HTTPS|ALL|NO)_PROXY)$/;

// How the worker is started, and the key that tells one worker from another.
export function launch(api, made) {
  const config = api.pluginConfig ?? {};
  const python = config.python ?? made.python;
  const program = python ? [python, "-P", "-m", "flux2_tool"] : ["flux2-tool"];
  const home = api.runtime?.state?.resolveStateDir?.() ?? homedir();
  const key = JSON.stringify([made.version, made.manifest_sha256, program, config]);
  const set = `openclaw config set plugins.entries.flux2.config.python /path/of/the/python/that/has/flux2-tool`;
  return { program, home, key, mend: python && python !== config.python ? "flux2-tool openclaw install" : set };
}

export function failure(code, message, hint, charged = "no", retryable = false) {
  return { error: { code, message, hint, retryable, charged, task_ref: null, request_id: null } };
}

// A failure as one reads it: what happened, what to do, and the facts.
export function explained({ error: { message, hint, code, retryable, charged, task_ref, request_id } }) {
  const facts = [code, `charged: ${charged}`, `retryable: ${retryable ? "yes" : "no"}`];
  facts.push(...[task_ref, request_id && `request ${request_id}`].filter(Boolean));
  return [message, hint && `Hint: ${hint}`, `(${facts.join(", ")})`].filter(Boolean).join("\n");
}

export class Worker {
  gone = false;
  #active = 0;
  #lastId = 0;
  #lastWords = "";
  #pending = new Map(); // request id -> { settle, onProgress }
  #retired = false;

  constructor({ program, home, key, mend }, hello, made, log) {
    this.key = key;
    this.home = home;
    this.log = log;
    const passed = ([name]) => PASSED_ON.includes(name) || ALSO_PASSED_ON.test(name);
    const env = Object.fromEntries(Object.entries(process.env).filter(passed));
    // In the state folder: a workspace the gateway happens to run in must not lend the interpreter its files.
    this.child = spawn(program[0], [...program.slice(1), "worker"], { cwd: home, env, stdio: "pipe" });
    this.exited = new Promise((resolve) => {
      this.child.once("error", ({ message }) => resolve(message));
      this.child.once("close", (code, signal) => resolve(`it ended with ${signal ?? `code ${code}`}`));
    }).then((ended) => {
      this.gone = true;
      for (const { settle } of this.#pending.values()) settle({ ended });
    });
    this.child.stdin.on("error", () => {}); // "close" tells of the end
    eachLine(this.child.stdout, (line) => this.#receive(line), () => this.child.kill("SIGKILL"));
    let level = "warn"; // a line without a level goes with the one before; the first ones tell of a failed start
    eachLine(this.child.stderr, (line) => {
      this.#lastWords = line.slice(0, 300);
      const said = /^(DEBUG|INFO|WARNING|ERROR|CRITICAL) /.exec(line)?.[1];
      if (said) level = said === "DEBUG" || said === "INFO" ? "debug" : "warn";
      log[level]?.(`flux2 worker: ${line.slice(0, 2000)}`);
    });
    this.ready = this.#initialize(program, mend, hello, made);
  }

  // Returns null when it runs and fits this plugin, else the failure that says how to mend it.
  async check() {
    this.#hold(+1);
    const problem = await this.ready;
    this.#hold(-1);
    return problem;
  }

  // Returns the tool's result object, whatever happens to the worker meanwhile.
  async call(params, signal, onProgress) {
    this.#hold(+1);
    let abort;
    const aborted = new Promise((resolve) => (abort = resolve));
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) abort();
    const unsent = failure("cancelled", "The call was stopped before anything was sent.", "");
    try {
      const problem = await Promise.race([this.ready, aborted.then(() => unsent)]);
      if (problem || signal?.aborted) return problem ?? unsent;
      const { id, answer } = this.#request("call", params, onProgress);
      // A worker in order answers a cancel at once, with the task; one that is stuck must not hold up the session.
      const stuck = aborted.then(() => this.#send({ method: "cancel", params: { id } })).then(graceTime);
      const { result, error, ended } = (await Promise.race([answer, stuck])) ?? {};
      if (result) return result;
      if (error) return failure("internal_error", `The worker refused the call: ${error.message}`, "", "unknown");
      const hint = "If the task is known, call get_image_task with it, else make the same call again, once.";
      if (ended) return failure("worker_stopped", "The image worker stopped during this call.", hint, "unknown", true);
      this.#pending.delete(id);
      return failure("cancelled", "The call was stopped; the image worker does not answer.", hint, "unknown");
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#hold(-1);
    }
  }

  // Whether RunAPI has sent this webhook; null when the worker cannot tell.
  async webhook(params) {
    this.#hold(+1);
    try {
      if (await this.ready) return null;
      const { result } = await this.#request("webhook", params).answer;
      return result ? result.accepted : null;
    } finally {
      this.#hold(-1);
    }
  }

  // Lets the calls in flight finish, then ends the worker. Resolves when it is gone, or after the grace time.
  retire() {
    this.#retired = true;
    this.#hold(0);
    return Promise.race([this.exited, graceTime()]);
  }

  // Counts the calls in flight. An idle worker does not keep OpenClaw's process alive; a retired one ends.
  #hold(more) {
    this.#active += more;
    const { stdin, stdout, stderr } = this.child;
    for (const part of [this.child, stdin, stdout, stderr]) part?.[this.#active ? "ref" : "unref"]?.();
    if (!this.#retired || this.#active || this.gone) return;
    this.gone = true;
    this.#request("shutdown", {});
    setTimeout(() => this.child.kill("SIGKILL"), GRACE_MS).unref();
  }

  // Returns null when the worker fits this plugin, else the failure that says how to mend it.
  async #initialize(program, mend, hello, made) {
    let late = false;
    const timer = setTimeout(() => (late = this.child.kill("SIGKILL")), START_MS);
    const { result, error, ended } = await this.#request("initialize", hello).answer;
    clearTimeout(timer);
    if (result?.version === made.version && result.manifest_sha256 === made.manifest_sha256) return null;
    this.#retired = true;
    const older = result?.version.localeCompare(made.version, "en", { numeric: true }) < 0;
    const pip = `${program[1] ? `${program[0]} -m pip` : "pip"} install flux2-tool==${made.version}`;
    const install = result && !older ? "flux2-tool openclaw install" : mend;
    const command = older || /No module named '?flux2_tool/.test(this.#lastWords) ? pip : install;
    const said = late ? `it did not start within ${START_MS / 1000} s` : (ended ?? error?.message);
    const why = result ? `has flux2-tool ${result.version} or another manifest, the plugin is version ${made.version}`
      : `does not start the worker: ${[said, this.#lastWords].filter(Boolean).join("; ")}`;
    return failure("configuration_error", `${program[0]} ${why}`, `Nothing was sent. To mend it, run: ${command}`);
  }

  #request(method, params, onProgress) {
    const id = ++this.#lastId;
    const answer = new Promise((resolve) => {
      this.#pending.set(id, { onProgress, settle: (message) => this.#pending.delete(id) && resolve(message) });
    });
    const size = this.#send({ id, method, params });
    const large = "The arguments are larger than 1 MiB.";
    const hint = "Save the picture as a file in the workspace and give its path instead of a data: URL.";
    if (size > MAX_MESSAGE_BYTES) this.#pending.get(id).settle({ result: failure("invalid_arguments", large, hint) });
    return { id, answer };
  }

  // Returns the message's size; one that the worker would refuse is not sent.
  #send(message) {
    const line = `${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`;
    const size = Buffer.byteLength(line);
    if (size <= MAX_MESSAGE_BYTES) this.child.stdin.write(line);
    return size;
  }

  // Anything but an answer or a progress notification is a stray print of some library.
  #receive(line) {
    try {
      const { id, method, params, ...answer } = JSON.parse(line);
      if (method === "progress") this.#pending.get(params.id)?.onProgress?.(params);
      else if (answer.result || answer.error) this.#pending.get(id)?.settle(answer);
    } catch (error) {
      this.log.debug?.(`flux2 worker: ignored a line of its output: ${error.message}`);
    }
  }
}

// Does not keep OpenClaw's process alive by itself.
const graceTime = () => new Promise((resolve) => setTimeout(resolve, GRACE_MS).unref());

// Calls `onLine` with each whole line; `onTooLong` when one does not end in time.
function eachLine(stream, onLine, onTooLong) {
  let rest = "";
  stream.setEncoding("utf8").on("data", (chunk) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop();
    lines.forEach(onLine);
    if (rest.length <= MAX_MESSAGE_BYTES) return;
    rest = "";
    onTooLong?.();
  });
}
