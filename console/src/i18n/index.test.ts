import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { en } from "./en";
import { translate } from "./index";
import { zh } from "./zh";

const keysOf = Object.keys(en) as (keyof typeof en)[];
const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();
const code = (text: string) => [...text.matchAll(/`[^`]*`/g)].map((match) => match[0]).sort();
const sources = readdirSync("src", { recursive: true, encoding: "utf8" })
  .filter((path) => /\.tsx?$/.test(path) && !/(^i18n\/|\.test\.ts$|schema\.d\.ts$)/.test(path))
  .map((path) => ({ path, text: readFileSync(`src/${path}`, "utf8") }));

test("values are filled in and unknown ones are left to be seen", () => {
  expect(translate("en", "overview.used", { used: 1, total: 4 })).toBe("1 of 4");
  expect(translate("en", "overview.used", { used: 1 })).toBe("1 of {total}");
});

test("both languages say the same things with the same values and commands", () => {
  expect(Object.keys(zh).sort()).toEqual([...keysOf].sort());
  for (const key of keysOf) {
    expect(zh[key].length, key).toBeGreaterThan(0);
    expect(placeholders(zh[key]), key).toEqual(placeholders(en[key]));
    expect(code(zh[key]), key).toEqual(code(en[key]));
  }
});

test("the Chinese catalogue is in Chinese", () => {
  // Names that are written alike in both.
  const alike = ["overview.cpu", "overview.gpu"];
  for (const key of keysOf.filter((key) => !alike.includes(key))) {
    expect(zh[key], key).toMatch(/[\u4e00-\u9fff]/);
    // Full-width punctuation beside Chinese characters.
    expect(zh[key], key).not.toMatch(/[\u4e00-\u9fff][,:;?!]/);
  }
});

test("every string is used", () => {
  const all = sources.map(({ text }) => text).join("\n");
  // Keys that are put together: `phase.${word}`.
  const prefixes = [...all.matchAll(/`([a-z]+\.(?:[a-z]+\.)?)\$\{/g)].map((match) => match[1] ?? "");
  const unused = keysOf.filter(
    (key) => !all.includes(`"${key}"`) && !prefixes.some((prefix) => key.startsWith(prefix)),
  );
  expect(unused).toEqual([]);
});

test("pages hold no sentences of their own", () => {
  for (const { path, text } of sources) {
    const words = [...text.matchAll(/>\s*([A-Z][a-z]+(?: [a-z]+)*[.:]?)\s*<\//g)].map((match) => match[1]);
    expect(words, path).toEqual([]);
  }
});
