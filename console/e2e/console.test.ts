import { stat } from "node:fs/promises";
import type { Browser, Locator, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { barriers, isTooWide, launch, open, picture, WIDTHS } from "./browser";
import { eventually, Installation } from "./installation";

// The real program, the real Chromium, found by role and label as a person finds things. The tests go on from each
// other: they are one person's afternoon.

/** Time for real work of the platform: building an Environment, training, a rollout. */
const WORK_MS = 600_000;

let installation: Installation;
let browser: Browser;
let page: Page;
let complaints: string[];

beforeAll(async () => {
  [installation, browser] = await Promise.all([Installation.start(), launch()]);
  ({ page, complaints } = await open(browser, installation.url));
}, WORK_MS);

afterEach(async ({ task }) => {
  if (task.result?.state === "fail") {
    await picture(page, `failed-${task.name.replaceAll(/\W+/g, "-")}`);
    console.error(`page: ${page.url()}\nserver:\n${installation.log()}`);
  }
});

afterAll(async () => {
  await browser?.close();
  await installation?.stop();
}, WORK_MS);

const heading = (name: string) => page.getByRole("heading", { level: 1, name, exact: true });
const section = (name: string) => page.getByRole("region", { name, exact: true });
const row = (table: string, name: string | RegExp) =>
  page.getByRole("table", { name: table, exact: true }).getByRole("row").filter({ hasText: name });
/** The phase beside a page's heading. */
const phase = (word: string) => page.locator("main").getByText(word, { exact: true }).first();
const go = async (name: string) => {
  await page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
};
const confirm = async (button: Locator, command: string | RegExp) => {
  await button.click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText(command, { exact: true }).waitFor();
  return dialog;
};
const accept = async (button: Locator, command: string | RegExp) => {
  const dialog = await confirm(button, command);
  await dialog.getByRole("button", { name: "Confirm" }).click();
  await dialog.waitFor({ state: "hidden" });
};
/** Puts a text into the manifest's field. */
const write = (yaml: string) => page.getByRole("textbox", { name: "Manifest" }).fill(yaml);

test("a wrong token is refused in words and the printed one opens the session", async () => {
  await page.goto("/jobs?phase=Running");
  await page.getByRole("heading", { name: "Log in to Moonshot" }).waitFor();
  await page.getByLabel("Token").fill("wrong");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").getByText("This token is not accepted").waitFor();
  await picture(page, "login-refused");
  const token = (await installation.moonshot("token", "show")).trim();
  await page.getByLabel("Token").fill(token);
  await page.keyboard.press("Enter");
  // The page that was asked for is shown, with its filter.
  await heading("Jobs").waitFor();
  expect(await page.getByLabel("Filter by phase").inputValue()).toBe("Running");
  expect(await page.evaluate("document.cookie")).toBe("");
  expect(await page.content()).not.toContain(token);
});

test("where nothing is, the page says how to begin", async () => {
  await page.getByText("Nothing matches these filters.").waitFor();
  await page.getByRole("button", { name: "Clear filters" }).click();
  await page.getByText("No Jobs yet.").waitFor();
  for (const [link, words] of [
    ["Apps", "No Apps yet."],
    ["Models", "No Models yet."],
    ["Environments", "No Environments yet."],
    ["Secrets", "No Secrets yet."],
  ] as const) {
    await go(link);
    await page.getByText(words).waitFor();
  }
});

test("a manifest that is wrong is refused with its place, which a button shows", async () => {
  await go("Apply YAML");
  await heading("Apply YAML").waitFor();
  await write(
    "apiVersion: moonshot/v1\nkind: Job\nmetadata:\n  name: too-large\nspec:\n  comand: [sleep, '1']\n",
  );
  await page.getByRole("button", { name: "Dry run" }).click();
  const alert = page.getByRole("alert");
  await alert.getByText("did you mean").waitFor();
  await picture(page, "apply-refused");
  await alert.getByRole("button", { name: "Go to line 6" }).click();
  const selected = await page.evaluate(() => {
    const { value, selectionStart, selectionEnd } = document.activeElement as HTMLTextAreaElement;
    return value.slice(selectionStart, selectionEnd);
  });
  expect(selected).toContain("comand");
});

test("a Job that can never fit says why it waits, and is cancelled", async () => {
  await write(
    "apiVersion: moonshot/v1\nkind: Job\nmetadata:\n  name: too-large\nspec:\n  command: [sleep, '1']\n  resources: {cpu: '4000'}\n",
  );
  await page.getByRole("button", { name: "Dry run" }).click();
  await section("What would happen").getByText("created").waitFor();
  expect(await installation.moonshot("get", "jobs", "-o", "name")).toBe("");
  await page.getByRole("button", { name: "Apply", exact: true }).click();
  await section("Result").getByRole("link", { name: "job/too-large" }).click();
  await heading("too-large").waitFor();
  const why = page.getByRole("alert").filter({ hasText: "Why it waits" });
  await why.getByText("4000").first().waitFor();
  await why.getByText("moonshot why job too-large").waitFor();
  await picture(page, "job-waits");
  await accept(page.getByRole("button", { name: "Cancel Job" }), "moonshot cancel job/too-large");
  await phase("Cancelled").waitFor();
  expect(await page.getByRole("button", { name: "Cancel Job" }).count()).toBe(0);
});

test(
  "the quickstart's Job appears by itself and its output is followed while it runs",
  async () => {
    await go("Jobs");
    const file = (name: string) => `${installation.examples}/flights/${name}.yaml`;
    await installation.moonshot("apply", "-f", file("environment"));
    await installation.moonshot("apply", "-f", file("job"));
    // Nothing is loaded again: the stream of changes brings it.
    const link = row("Jobs", "flights").getByRole("link", { name: "flights", exact: true });
    await link.waitFor();
    await link.click();
    await heading("flights").waitFor();
    const output = page.getByRole("log");
    await output.getByText("336,776 flights").first().waitFor({ timeout: WORK_MS });
    // The text came while the Job ran, not after it.
    await phase("Running").waitFor();
    expect(await row("Replicas", "worker/").count()).toBe(2);
    await picture(page, "job-runs");
    await phase("Succeeded").waitFor({ timeout: WORK_MS });
    await output.getByText("the same on all replicas").nth(1).waitFor();
    // Lines of both replicas once each: the end of the Job did not read them again.
    expect(await output.getByText("336,776 flights").count()).toBe(2);
    await page.getByLabel("Replica", { exact: true }).selectOption("worker/1");
    await eventually(
      "only one replica's lines",
      async () => (await output.getByText("336,776").count()) === 1,
    );
  },
  WORK_MS,
);

test("attempts, events and outputs of the Job are there", async () => {
  await row("Attempts", "Succeeded").waitFor();
  await row("Events", "Admitted").first().waitFor();
  await row("Outputs", "model").getByText("moonshot cp job/flights:model .").waitFor();
  await section("Delivery").getByText("Delivered", { exact: true }).waitFor();
  await section("Delivery").getByText("rmse_minutes").waitFor();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Download: model" }).click(),
  ]);
  expect(download.suggestedFilename()).toBe("flights-model.tar.zst");
  expect((await stat(await download.path())).size).toBeGreaterThan(10_000);
});

test(
  "a Job is suspended, resumed and run again",
  async () => {
    await go("Apply YAML");
    await write(
      "apiVersion: moonshot/v1\nkind: Job\nmetadata: {name: sleeper}\nspec: {command: [sleep, '600']}\n",
    );
    await page.getByRole("button", { name: "Apply", exact: true }).click();
    await section("Result").getByRole("link", { name: "job/sleeper" }).click();
    await phase("Running").waitFor();
    await accept(page.getByRole("button", { name: "Suspend" }), "moonshot suspend job/sleeper");
    await phase("Suspended").waitFor();
    await accept(page.getByRole("button", { name: "Resume" }), "moonshot resume job/sleeper");
    await phase("Running").waitFor();
    await accept(page.getByRole("button", { name: "Cancel Job" }), "moonshot cancel job/sleeper");
    await phase("Cancelled").waitFor();
    // The new one has a name of its own and its page is shown.
    await accept(page.getByRole("button", { name: "Run again" }), "moonshot rerun job/sleeper");
    await page.getByRole("heading", { level: 1, name: /^sleeper-\w+$/ }).waitFor();
    await phase("Running").waitFor();
    await accept(page.getByRole("button", { name: "Cancel Job" }), /^moonshot cancel job\/sleeper-/);
  },
  WORK_MS,
);

test(
  "an App is opened, changed by its YAML, compared and rolled back",
  async () => {
    await installation.moonshot("wait", "job/flights", "--for", "delivery");
    await installation.moonshot("apply", "-f", `${installation.examples}/flights/app.yaml`);
    await go("Apps");
    await row("Apps", "flights").getByRole("link", { name: "flights", exact: true }).click();
    await page.getByText("Revision 1 stands.").waitFor({ timeout: WORK_MS });
    await phase("Ready").waitFor({ timeout: WORK_MS });
    await picture(page, "app-first-revision");

    await page.getByRole("link", { name: "Edit YAML" }).click();
    await heading("Edit app/flights").waitFor();
    const manifest = await page.getByRole("textbox", { name: "Manifest" }).inputValue();
    expect(manifest).toContain("cpu: 200m");
    await write(manifest.replace("cpu: 200m", "cpu: 150m"));
    await page.getByRole("button", { name: "Dry run" }).click();
    await page.getByRole("group", { name: "Changes: app/flights" }).getByText("200m -> 150m").waitFor();
    await page.getByRole("group", { name: "Plan: app/flights" }).waitFor();
    await picture(page, "app-dry-run");
    expect(await installation.moonshot("rollout", "history", "app/flights")).not.toMatch(/^2 /m);

    await page.getByRole("button", { name: "Apply", exact: true }).click();
    await section("Result").getByRole("link", { name: "app/flights" }).click();
    await page.getByText("Revision 2 is replacing Revision 1.").waitFor();
    await picture(page, "app-rollout");
    await page.getByText("Revision 2 stands.").waitFor({ timeout: WORK_MS });

    await page.getByRole("button", { name: /^Revision 2/ }).click();
    const diff = page.getByRole("group", { name: "Changed since Revision 1" });
    await diff.getByText('- resources.cpu: "200m"').waitFor();
    await diff.getByText('+ resources.cpu: "150m"').waitFor();
    await picture(page, "app-diff");

    await page.getByRole("button", { name: /^Revision 1/ }).click();
    const back = page.getByRole("button", { name: "Roll back to this: Revision 1" });
    const dialog = await confirm(back, "moonshot rollout undo app/flights --to-revision 1");
    await picture(page, "app-rollback");
    await dialog.getByRole("button", { name: "Confirm" }).click();
    await page.getByText("Revision 1 stands.").waitFor({ timeout: WORK_MS });
    const revision = await installation.moonshot("get", "app", "flights", "-o", "json");
    expect(JSON.parse(revision).status.revision).toBe(1);
  },
  WORK_MS,
);

test(
  "an App is scaled",
  async () => {
    await page.getByRole("button", { name: "Scale" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Replicas").fill("1");
    await dialog.getByText("moonshot scale app/flights --replicas 1").waitFor();
    await dialog.getByRole("button", { name: "Confirm" }).click();
    await page.getByText("1 of 1 ready").waitFor({ timeout: WORK_MS });
  },
  WORK_MS,
);

test("a node is cordoned and taken back, each with its command", async () => {
  await go("Nodes");
  const cordon = page.getByRole("button", { name: /^Cordon:/ }).first();
  const name = (await cordon.getAttribute("aria-label"))?.split(": ")[1] ?? "";
  await accept(cordon, `moonshot cordon ${name}`);
  await row("Nodes", name).getByText("Cordoned").waitFor();
  await picture(page, "nodes-cordoned");
  await accept(page.getByRole("button", { name: `Uncordon: ${name}` }), `moonshot uncordon ${name}`);
  await row("Nodes", name).getByText("Ready").waitFor();
});

test("Secrets are names only, Environments have their packages, Models their versions", async () => {
  await installation.moonshot("secret", "create", "database", "--from-literal", "password=hunter2");
  await go("Secrets");
  await row("Secrets", "database").getByText("password").waitFor();
  expect(await page.content()).not.toContain("hunter2");
  await go("Environments");
  await row("Environments", "flights").getByRole("link", { name: "flights" }).click();
  await section("Packages")
    .getByText(/^xgboost-cpu==/)
    .waitFor();
  await go("Models");
  await page.getByRole("heading", { level: 1, name: "Models" }).waitFor();
});

test("lists filter by label and phase in the URL and say so when nothing matches", async () => {
  await installation.moonshot("label", "job", "flights", "team=risk");
  await page.goto("/jobs?labels=team%3Drisk");
  await row("Jobs", "flights").waitFor();
  expect(await page.getByRole("table", { name: "Jobs" }).getByRole("row").count()).toBe(2);
  await page.getByLabel("Filter by phase").selectOption("Failed");
  await page.getByText("Nothing matches these filters.").waitFor();
  expect(page.url()).toContain("phase=Failed");
  await page.goBack();
  await page.getByText("moonshot get jobs -A -l 'team=risk'").waitFor();
});

test(
  "long lists come page by page",
  async () => {
    const yaml = (index: number) =>
      `apiVersion: moonshot/v1\nkind: Job\nmetadata: {name: many-${index}, labels: {many: "yes"}}\nspec: {command: ["true"], suspend: true}\n`;
    await go("Apply YAML");
    await write(Array.from({ length: 120 }, (_, index) => yaml(index)).join("---\n"));
    await page.getByRole("button", { name: "Apply", exact: true }).click();
    await section("Result").getByRole("link", { name: "job/many-119" }).waitFor();
    await page.goto("/jobs?labels=many%3Dyes");
    const rows = page.getByRole("table", { name: "Jobs" }).getByRole("row");
    await eventually("a page of 100 with its heading", async () => (await rows.count()) === 101);
    await page.getByRole("button", { name: "Show more" }).click();
    await eventually("all 120", async () => (await rows.count()) === 121);
    await installation.moonshot("delete", "jobs", "-l", "many=yes");
    await page.getByText("Nothing matches these filters.").waitFor();
  },
  WORK_MS,
);

test("what is not there says what to do", async () => {
  await page.goto("/projects/default/jobs/nothing");
  await page.getByRole("alert").getByText("It may have been deleted").waitFor();
  await page.goto("/no/such/page");
  await page.getByRole("heading", { name: "There is no such page" }).waitFor();
});

test("the keyboard alone reaches the content and the pages", async () => {
  await page.goto("/");
  await heading("Overview").waitFor();
  await page.keyboard.press("Tab");
  const focused = () => page.evaluate(() => document.activeElement?.textContent ?? "");
  expect(await focused()).toBe("Skip to the content");
  await page.keyboard.press("Enter");
  expect(await page.evaluate(() => document.activeElement?.id)).toBe("main");
  await page.getByRole("navigation").getByRole("link", { name: "Queues" }).focus();
  await page.keyboard.press("Enter");
  await heading("Queues").waitFor();
  // The heading has the focus: a screen reader says where it is.
  await eventually("the heading is focused", async () => (await focused()) === "Queues");
  expect(await page.title()).toBe("Queues · Moonshot");
  await row("Queues", "default").waitFor();
});

test("a killed server is said and comes back without a reload", async () => {
  await go("Overview");
  await page.getByText("live", { exact: true }).waitFor();
  await installation.killServer();
  await page.getByText("reconnecting …").waitFor();
  await heading("Overview").waitFor();
  await installation.startServer();
  await page.getByText("live", { exact: true }).waitFor();
});

const pages: [string, string][] = [
  ["overview", "/"],
  ["jobs", "/jobs"],
  ["job", "/projects/default/jobs/flights"],
  ["job-cancelled", "/projects/default/jobs/too-large"],
  ["apps", "/apps"],
  ["app", "/projects/default/apps/flights"],
  ["models", "/models"],
  ["environments", "/environments"],
  ["environment", "/projects/default/environments/flights"],
  ["secrets", "/secrets"],
  ["queues", "/queues"],
  ["nodes", "/nodes"],
  ["apply", "/apply"],
];

for (const language of ["EN", "中文"] as const) {
  test(
    `every page is whole at both widths and has no barriers: ${language}`,
    async () => {
      await page.goto("/");
      await page.getByText(language, { exact: true }).click();
      const expected = language === "EN" ? "en" : "zh";
      await eventually(
        "the language is set",
        async () => (await page.evaluate("document.documentElement.lang")) === expected,
      );
      const failures: string[] = [];
      for (const width of WIDTHS) {
        await page.setViewportSize({ width, height: 900 });
        for (const [name, path] of pages) {
          await page.goto(path);
          await page.getByRole("heading", { level: 1 }).waitFor();
          // Everything that the page asks for has come.
          await eventually(`${path} is loaded`, async () => {
            const loading = page.getByRole("status", { name: /Loading|加载中/ });
            return (await loading.count()) === 0;
          });
          await picture(page, `${name}-${expected}-${width}`);
          if (await isTooWide(page)) failures.push(`${path} at ${width} px scrolls sideways`);
          failures.push(...(await barriers(page)).map((barrier) => `${path} at ${width} px: ${barrier}`));
        }
      }
      if (expected === "zh") {
        await page.getByRole("button", { name: "菜单" }).click();
        await picture(page, "menu-zh-420");
      }
      expect(failures).toEqual([]);
      await page.setViewportSize({ width: WIDTHS[0], height: 900 });
    },
    WORK_MS,
  );
}

test("logging out ends the session, and nothing was complained of meanwhile", async () => {
  await page.goto("/");
  await page.getByText("EN", { exact: true }).click();
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("heading", { name: "Log in to Moonshot" }).waitFor();
  await picture(page, "login");
  expect((await page.request.get("/v1/whoami")).status()).toBe(401);
  expect(complaints).toEqual([]);
});
