import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";

/** Wide as a laptop, narrow as a telephone. */
export const WIDTHS = [1280, 420] as const;
/** How long a page may take to show something that needs no work of the platform. */
const PATIENCE_MS = 20_000;

export function launch(): Promise<Browser> {
  // Each launch has a fresh profile.
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** A page that fails the test by what it writes to the browser's console. */
export async function open(browser: Browser, url: string): Promise<{ page: Page; complaints: string[] }> {
  const context: BrowserContext = await browser.newContext({
    baseURL: url,
    viewport: { width: WIDTHS[0], height: 900 },
    locale: "en-GB",
    acceptDownloads: true,
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    // Chromium reports every refused or failed request; the pages show those themselves.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource"))
      complaints.push(message.text());
  });
  return { page, complaints };
}

/** Keeps a picture of the page for people to look at. */
export async function picture(page: Page, name: string): Promise<void> {
  const dir = process.env.MOONSHOT_SCREENSHOTS;
  if (!dir) return;
  mkdirSync(dir, { recursive: true });
  await page.screenshot({ path: join(dir, `${name}.png`), fullPage: true });
}

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

interface Violation {
  id: string;
  help: string;
  nodes: { html: string; failureSummary: string }[];
}

/** What a screen reader or the keyboard could not use, by the rules of WCAG 2.1 A and AA. */
export async function barriers(page: Page): Promise<string[]> {
  // Evaluated by the debugger's protocol, which the page's content security policy does not concern.
  await page.evaluate(axe);
  const violations = await page.evaluate(async () => {
    const { axe } = window as unknown as {
      axe: { run: (options: unknown) => Promise<{ violations: Violation[] }> };
    };
    const answer = await axe.run({
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
      // Not yet: some colours of the component library's palette are a little too pale for it.
      rules: { "color-contrast": { enabled: false } },
    });
    return answer.violations;
  });
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map((node) => `${id}: ${help}\n  ${node.html}\n  ${node.failureSummary}`),
  );
}

/** Whether the page itself scrolls sideways. Tables and logs scroll within. */
export function isTooWide(page: Page): Promise<boolean> {
  return page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
}
