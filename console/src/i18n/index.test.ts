import { expect, test } from "vitest";
import { en } from "./en";
import { translate } from "./index";
import { zh } from "./zh";

const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();

test("values are filled in and unknown ones are left to be seen", () => {
  expect(translate("en", "overview.used", { used: 1, total: 4 })).toBe("1 of 4");
  expect(translate("en", "overview.used", { used: 1 })).toBe("1 of {total}");
});

test("both languages say the same things with the same values", () => {
  for (const key of Object.keys(en) as (keyof typeof en)[]) {
    expect(zh[key].length, key).toBeGreaterThan(0);
    expect(placeholders(zh[key]), key).toEqual(placeholders(en[key]));
  }
});
