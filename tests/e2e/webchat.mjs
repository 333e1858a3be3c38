// Drives OpenClaw's own web chat in headless Chromium: one JSON command a line on stdin, one answer a line on stdout.
// NODE_PATH does not serve modules of this kind, so that playwright-core is found by FLUX2_TEST_PLAYWRIGHT.

import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const { FLUX2_TEST_PLAYWRIGHT: packages, FLUX2_TEST_CHROMIUM: executablePath, FLUX2_TEST_SHOTS: shots } = process.env;
const { chromium } = createRequire(join(packages, "index.js"))("playwright-core");
const WAIT_MS = 120_000; // a busy machine; what is there is seen at once
const browser = await chromium.launch({ executablePath, headless: true, args: ["--no-sandbox", "--disable-gpu"] });
const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });

// What a person sees: the words that are not folded away, and the pictures that have arrived.
const seen = () => {
  const main = document.querySelector("main") ?? document.body;
  const pictures = [...main.querySelectorAll("img")].filter((image) => image.clientWidth > 60);
  return {
    text: main.innerText,
    pictures: pictures.map(({ alt, naturalWidth, complete }) => ({ alt, width: naturalWidth, loaded: complete && naturalWidth > 0 })),
  };
};

const operations = {
  async open({ url }) {
    await page.goto(url);
    await page.locator("textarea:visible").last().waitFor({ timeout: WAIT_MS });
    await page.locator('button[aria-label="Close assistant sidebar"]').click({ timeout: 1_500 }).catch(() => {});
  },
  // Another page of the Control UI, which keeps its connection.
  async go({ path }) {
    await page.evaluate((to) => {
      history.pushState({}, "", to);
      dispatchEvent(new PopStateEvent("popstate"));
    }, path);
  },
  choices: ({ label }) => page.getByLabel(label, { exact: true }).locator("option").allInnerTexts(),
  async say({ text }) {
    const box = page.locator("textarea:visible").last();
    await box.fill(text);
    await box.press("Enter");
  },
  // Until the chat shows these words and so many pictures; returns what it shows then, or at the end of the wait.
  async until({ text, pictures = 0 }) {
    const isThere = ([wanted, count]) => {
      const main = document.querySelector("main") ?? document.body;
      const loaded = [...main.querySelectorAll("img")].filter((image) => image.clientWidth > 60 && image.naturalWidth > 0);
      return main.innerText.includes(wanted) && loaded.length >= count;
    };
    await page.waitForFunction(isThere, [text, pictures], { timeout: WAIT_MS }).catch(() => {});
    return page.evaluate(seen);
  },
  seen: () => page.evaluate(seen),
  async click({ text }) {
    await page.getByText(text).last().click({ timeout: 5_000 });
  },
  async reload() {
    await page.reload();
    await page.locator("textarea:visible").last().waitFor({ timeout: WAIT_MS });
  },
  // What a plugin's tab shows in its frame, once so many pictures are there; then what its first link leads to.
  async tab({ path, pictures }) {
    const shown = page.locator("iframe.plugin-tab-embed__frame");
    await shown.waitFor({ timeout: WAIT_MS }).catch(() => {});
    if (!(await shown.count())) return { text: await page.evaluate(() => document.body.innerText), pictures: [], opened: null };
    const frame = await (await shown.elementHandle()).contentFrame();
    await frame.waitForURL((url) => url.pathname === path, { timeout: WAIT_MS });
    // A picture is loaded once it is scrolled to, as a person does.
    const isThere = (count) => {
      const images = [...document.images];
      images.find((image) => !image.naturalWidth)?.scrollIntoView();
      return images.filter((image) => image.naturalWidth > 0).length >= count;
    };
    await frame.waitForFunction(isThere, pictures, { timeout: WAIT_MS }).catch(() => {});
    const found = await frame.evaluate(() => ({
      text: document.body.innerText,
      pictures: [...document.images].map(({ alt, naturalWidth }) => ({ alt, loaded: naturalWidth > 0 })),
    }));
    const sandbox = await shown.getAttribute("sandbox");
    if (shots) await page.screenshot({ path: join(shots, "webchat-gallery.png") });
    const arrived = page.waitForResponse((response) => response.url().includes("/picture/"), { timeout: WAIT_MS });
    await frame.locator("a.shot").first().click();
    const response = await arrived;
    return { ...found, sandbox, opened: { status: response.status(), type: response.headers()["content-type"] } };
  },
  shot: ({ path }) => page.screenshot({ path }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...options } = JSON.parse(line);
  try {
    process.stdout.write(`${JSON.stringify({ answer: (await operations[op](options)) ?? null })}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ failed: String(error?.stack ?? error) })}\n`);
  }
}
await browser.close();
