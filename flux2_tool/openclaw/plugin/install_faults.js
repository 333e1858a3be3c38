// Why the plugin's own Python environment could not be made, and what to do about it.

import { failure } from "./failure.js";
import { LOWEST, versionText } from "./python_search.js";
import { SET_PYTHON } from "./settings.js";

/** @import { CommandEnd, Failure, FoundPython, PythonSearch } from "./types.d.ts" */

const MAX_CHARS = 300;
const PROXY_VARIABLES = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"];
const OWN_PYTHON = `or name a Python that has flux2-tool: ${SET_PYTHON}`;

/**
 * @typedef {object} Fault
 * @property {"folder" | "stopped" | "make" | "install" | "useless"} kind What failed.
 * @property {string} [cause]
 * @property {string} [folder] The folder of environments, for a failed installation that of wheels.
 * @property {CommandEnd} [done]
 * @property {FoundPython | null} [python]
 * @property {boolean} [isOffline] Whether it was to be filled from the folder of wheels alone.
 */

/**
 * @param {Fault} fault
 * @returns {Failure}
 */
export function installFault({ kind, cause, folder = "", done, python = null, isOffline = false }) {
  const with_ = python ? ` with ${python.path}` : "";
  if (kind === "stopped") {
    return failure("configuration_error", "The image worker's installation was stopped.", "Nothing was sent. The next call begins it again.", "no", true);
  }
  if (kind === "folder") {
    return fault(`the folder ${folder} cannot be used: ${cause}`, `make it a folder that the gateway's user owns, ${OWN_PYTHON}`);
  }
  if (kind === "useless") {
    return fault("the new Python environment does not run flux2-tool", `look at the gateway's log and free ${folder} of what does not belong there, ${OWN_PYTHON}`);
  }
  const text = outputOf(done);
  if (/No space left on device|Errno 28|ENOSPC/.test(text)) {
    return fault(`the disk is full${with_}`, `free about 200 MB in ${folder}`);
  }
  if (kind === "make") {
    const version = python ? versionText(python.version) : "3.11";
    const fix = `install its module venv (Debian, Ubuntu: apt install python${version}-venv)`;
    return fault(`an environment could not be made${with_}: ${lastLine(done)}`, `${fix}, ${OWN_PYTHON}`);
  }
  return packagesFault(text, done, python, isOffline ? folder : null, folder);
}

/**
 * Returns the failure of a machine without a usable interpreter: what was found, and what is missing.
 *
 * @param {PythonSearch} search
 * @returns {Failure}
 */
export function noPython({ fitting: [first], tooOld, folders }) {
  const needed = `Python ${versionText(LOWEST)} or newer`;
  if (first) {
    const version = versionText(first.version);
    const missing = first.modules.includes("venv") ? "ensurepip and pip" : "venv";
    const fix = `install what is missing (Debian, Ubuntu: apt install python${version}-venv) or uv (https://docs.astral.sh/uv)`;
    return fault(`${first.path} (Python ${version}) has no module ${missing}`, `${fix}, ${OWN_PYTHON}`);
  }
  const old = tooOld.map(({ path, version }) => `${path} is ${versionText(version)}`);
  const where = old.length ? old.join(", ") : `there is none in ${folders.join(", ")}`;
  const fix = `install ${needed} (Debian, Ubuntu: apt install python3 python3-venv) or uv (https://docs.astral.sh/uv)`;
  return fault(`it needs ${needed}, and ${where}`, `${fix}, ${OWN_PYTHON}`);
}

/**
 * Returns what an installer said, for the log, without the passwords of its addresses.
 *
 * @param {CommandEnd | undefined} done
 */
export function outputOf(done) {
  return `${done?.stdout ?? ""}\n${done?.stderr ?? ""}`.replace(/\/\/[^\s/@]+@/g, "//***@").trim();
}

/**
 * @param {string} text
 * @param {CommandEnd | undefined} done
 * @param {FoundPython | null} python
 * @param {string | null} offlineFolder
 * @param {string} folder
 */
function packagesFault(text, done, python, offlineFolder, folder) {
  const wheels = `or put the wheels it needs into ${folder}`;
  const missing = /(?:No matching distribution found for|Because) ([\w.-]+)/.exec(text)?.[1];
  if (offlineFolder !== null) {
    const version = python ? ` for Python ${versionText(python.version)}` : "";
    const what = missing ? `has no wheel of ${missing}${version}` : `does not do${version}: ${lastLine(done)}`;
    return fault(`the folder ${offlineFolder} ${what}`, `add what is missing, or remove the folder to use the package index, ${OWN_PYTHON}`);
  }
  if (/ProxyError|Cannot connect to proxy|Tunnel connection failed|407 Proxy|tunnel error/.test(text)) {
    const names = PROXY_VARIABLES.filter((name) => process.env[name]);
    const named = names.length ? `the proxy of ${names.join(", ")}` : "the proxy";
    return fault(`${named} does not let the package installer through`, `correct it in the gateway's environment, ${wheels}, ${OWN_PYTHON}`);
  }
  if (/CERTIFICATE_VERIFY_FAILED|SSLError|invalid peer certificate|UnknownIssuer/.test(text)) {
    return fault("the certificate of the package index is not accepted", `name your authority's file in SSL_CERT_FILE and REQUESTS_CA_BUNDLE, ${wheels}, ${OWN_PYTHON}`);
  }
  if (/NewConnectionError|Failed to establish|NameResolution|name resolution|unreachable|refused|Timeout|error sending request|dns error/i.test(text)) {
    return fault("there is no connection to the package index", `connect this machine (pip's own settings such as PIP_INDEX_URL hold), ${wheels}, ${OWN_PYTHON}`);
  }
  if (missing) return fault(`the package index has no fitting ${missing}`, `look at PIP_INDEX_URL and pip's configuration, ${wheels}, ${OWN_PYTHON}`);
  return fault(`the packages could not be installed: ${lastLine(done)}`, `see the gateway's log, ${wheels}, ${OWN_PYTHON}`);
}

/**
 * @param {string} what
 * @param {string} fix
 */
function fault(what, fix) {
  return failure("configuration_error", `The image worker could not be installed: ${what}.`, `Nothing was sent. To fix it, ${fix}`);
}

/** @param {CommandEnd | undefined} done */
function lastLine(done) {
  if (done?.isLate) return "it took too long";
  const lines = outputOf(done).split("\n").map((line) => line.trim()).filter(Boolean);
  const told = lines.findLast((line) => /^(ERROR|error)\b/.test(line)) ?? lines.at(-1);
  return told?.slice(0, MAX_CHARS) || (done?.cause ?? "no reason given");
}
