// Opens a page of the gallery in headless Chromium as a person would, without a network: one JSON command a line on
// stdin, one answer a line on stdout. playwright-core is found by FLUX2_TEST_PLAYWRIGHT, as in tests/e2e/webchat.mjs.

import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const { FLUX2_TEST_PLAYWRIGHT: packages, FLUX2_TEST_CHROMIUM: executablePath } = process.env;
const { chromium } = createRequire(join(packages, "index.js"))("playwright-core");
const browser = await chromium.launch({ executablePath, headless: true, args: ["--no-sandbox", "--disable-gpu"] });
let page;
let asked = [];
let faults = [];

const operations = {
  async open({ url, width = 1200, height = 900, scheme = "light" }) {
    await page?.context().close();
    asked = [];
    faults = [];
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, offline: true });
    page = await context.newPage();
    page.on("request", (request) => request.url().startsWith("data:") || asked.push(request.url()));
    page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
    page.on("pageerror", (error) => faults.push(String(error)));
    page.on("dialog", (dialog) => faults.push(`dialog: ${dialog.message()}`) && dialog.dismiss());
    await page.goto(url);
  },
  async search({ words }) {
    await page.fill('input[name="words"]', words);
  },
  async choose({ name, value }) {
    await page.selectOption(`select[name="${name}"]`, value);
  },
  // What a person sees; every card is scrolled to first, because pictures below are decoded when they come into view.
  async seen() {
    for (const card of await page.locator(".card:visible").all()) await card.scrollIntoViewIfNeeded();
    await page.waitForFunction(() => [...document.querySelectorAll(".card:not([hidden]) img")].every((image) => image.complete));
    const found = await page.evaluate(() => ({
      title: document.title,
      words: document.querySelector("main").innerText,
      cards: [...document.querySelectorAll(".card")].filter((card) => card.checkVisibility()).map((card) => ({
        words: card.querySelector(".about").textContent,
        loaded: [...card.querySelectorAll("img")].filter((image) => image.naturalWidth > 0).length,
        links: [...card.querySelectorAll("a")].map((link) => link.getAttribute("href")),
      })),
      elements: [...document.querySelectorAll("script, iframe, object, link, style, img:not(.shot img)")].length,
      bars: document.querySelectorAll(".chart .spent").length,
      isCapDrawn: document.querySelector(".chart .cap") !== null,
      overflow_px: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      ground: getComputedStyle(document.body).backgroundColor,
      ink: getComputedStyle(document.body).color,
    }));
    return { ...found, asked, faults };
  },
  shot: ({ path, full = false }) => page.screenshot({ path, fullPage: full }),
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
