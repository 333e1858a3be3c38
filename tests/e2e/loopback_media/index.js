// OpenClaw delivers remote pictures from public https addresses only, and the sandbox is on loopback. This plugin of the
// tests fetches such a picture the moment OpenClaw is about to deliver it, and hands OpenClaw the file in its place.

import { mkdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

export default {
  id: "loopback-media",
  name: "Loopback media",
  register(api) {
    api.registerHostedMediaResolver(async (mediaUrl) => {
      if (!mediaUrl.startsWith("http://127.0.0.1:")) return null;
      const answer = await fetch(mediaUrl);
      if (!answer.ok) throw new Error(`${answer.status} for ${new URL(mediaUrl).pathname}`);
      const folder = join(api.runtime.state.resolveStateDir(), "media", "outbound");
      const path = join(folder, basename(new URL(mediaUrl).pathname));
      await mkdir(folder, { recursive: true });
      await writeFile(path, Buffer.from(await answer.arrayBuffer()));
      return path;
    });
  },
};
