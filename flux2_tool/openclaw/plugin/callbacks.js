// RunAPI's webhooks: an HTTP route of the gateway that hands each message to the worker, which checks its signature.
//
// A valid one wakes the call that waits for its task. The route is public, so an unverified message starts, stores and
// logs nothing.

import { settingsOf } from "./settings.js";

/** @import { HttpRequest, HttpResponse, PluginApi } from "./types.d.ts" */
/** @import { Worker } from "./worker.js" */

const MAX_BODY_BYTES = 256 * 1024;
const RESPONSE_MS = 8_000; // RunAPI counts 10 s without a response as a failed delivery
const HEADERS = ["x-callback-id", "x-callback-timestamp", "x-callback-signature"];

/**
 * Adds the route; without the settings that ask for webhooks it answers as if there were none.
 *
 * @param {PluginApi} api
 * @param {string} path
 * @param {() => Worker | null} runningWorker
 */
export function registerCallbacks(api, path, runningWorker) {
  /**
   * @param {HttpRequest} request
   * @param {HttpResponse} response
   */
  const handler = async (request, response) => {
    const { callback_public_url, callback_secret } = settingsOf(api);
    if (!callback_public_url || !callback_secret) return false;
    /** @type {NodeJS.Timeout | undefined} */
    let timer;
    const timeout = new Promise((resolve) => {
      timer = setTimeout(resolve, RESPONSE_MS, 503);
    });
    const status = await Promise.race([receive(request, runningWorker).catch(() => 400), timeout]);
    clearTimeout(timer);
    response.statusCode = status;
    response.end();
    return true;
  };
  api.registerHttpRoute({ path, auth: "plugin", match: "exact", handler });
}

/**
 * Returns the HTTP status: anything but a 2xx makes RunAPI deliver again.
 *
 * @param {HttpRequest} request
 * @param {() => Worker | null} runningWorker
 */
async function receive(request, runningWorker) {
  if (request.method !== "POST") return 405;
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > MAX_BODY_BYTES) return 413;
    parts.push(part);
  }
  const worker = runningWorker();
  if (!worker) return 503; // no call is waiting; a later one polls RunAPI itself
  const given = HEADERS.filter((name) => typeof request.headers[name] === "string");
  const headers = Object.fromEntries(given.map((name) => [name, request.headers[name]]));
  const body_base64 = Buffer.concat(parts).toString("base64");
  const verdict = await worker.resultOf("webhook", { headers, body_base64 });
  if (verdict === null) return 503;
  return verdict.accepted ? 200 : 401;
}
