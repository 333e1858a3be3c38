// RunAPI's webhooks: an HTTP route of the gateway that hands each message to the worker, which checks its signature.
//
// A good one wakes the call that waits for its task. The route is open to everybody, so nothing is started, kept or
// logged for a message that was not checked.

const MAX_BODY_BYTES = 256 * 1024;
const ANSWER_MS = 8_000; // RunAPI takes silence of 10 s for a failed delivery
const HEADERS = ["x-callback-id", "x-callback-timestamp", "x-callback-signature"];

// Adds the route where the settings ask for webhooks. `worker` returns the running worker, or null.
export function registerCallbacks(api, path, worker) {
  const { callback_public_url, callback_secret } = api.pluginConfig ?? {};
  if (!callback_public_url || !callback_secret) return;
  const handler = async (request, response) => {
    let late;
    const patience = new Promise((resolve) => { late = setTimeout(resolve, ANSWER_MS, 503); });
    response.statusCode = await Promise.race([answered(request, worker).catch(() => 400), patience]);
    clearTimeout(late);
    response.end();
    return true;
  };
  api.registerHttpRoute({ path, auth: "plugin", match: "exact", handler });
}

// Returns the HTTP status: anything but a 2xx has RunAPI deliver again.
async function answered(request, worker) {
  if (request.method !== "POST") return 405;
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > MAX_BODY_BYTES) return 413;
    parts.push(part);
  }
  const running = worker();
  if (!running) return 503; // nobody waits; a later call asks RunAPI itself
  const given = HEADERS.filter((name) => typeof request.headers[name] === "string");
  const headers = Object.fromEntries(given.map((name) => [name, request.headers[name]]));
  const accepted = await running.webhook({ headers, body_base64: Buffer.concat(parts).toString("base64") });
  return accepted === null ? 503 : accepted ? 200 : 401;
}
