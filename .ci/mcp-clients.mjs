// The official TypeScript clients of MCP, in both major versions, against a server over HTTP:
// node mcp-clients.mjs PACKAGES URL. Each makes a picture with progress, edits it, and calls a tool that does not exist.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages, url] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${packages}/package.json`));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);

const one = {
  ...(await load("@modelcontextprotocol/sdk/client/index.js")),
  ...(await load("@modelcontextprotocol/sdk/client/streamableHttp.js")),
};
const two = await load("@modelcontextprotocol/client");

for (const [version, sdk, call] of [
  ["1", one, (client, params, options) => client.callTool(params, undefined, options)],
  ["2", two, (client, params, options) => client.callTool(params, options)],
]) {
  const client = new sdk.Client({ name: "inspector-client", version });
  await client.connect(new sdk.StreamableHTTPClientTransport(new URL(url)));
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map((tool) => tool.name).sort(), ["get_image_task", "remix_image", "text_to_image"]);
  assert.match(tools[0].icons[0].src, /^data:image\/png;base64,/);

  const told = [];
  const made = await call(
    client,
    { name: "text_to_image", arguments: { prompt: `a fox for version ${version}` } },
    { onprogress: (progress) => told.push(progress.progress) },
  );
  assert.equal(made.structuredContent.task.state, "completed");
  assert.deepEqual(made.content.map((content) => content.type), ["text", "image"]);
  assert.ok(told.length > 0 && told.every((value, index) => index === 0 || value > told[index - 1]), String(told));

  const edited = await call(client, {
    name: "remix_image",
    arguments: { prompt: "at night", source_image_urls: ["task:last"] },
  });
  assert.equal(edited.structuredContent.task.state, "completed");

  await assert.rejects(call(client, { name: "text_to_imag", arguments: {} }), /-32602|Unknown tool/);
  await client.close();
  console.log(`the TypeScript client, version ${version}: tools, a picture with progress, an edit, an unknown tool`);
}
