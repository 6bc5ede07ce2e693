import { expect, test } from "vitest";
import { differences } from "./diff";

test("only what differs is shown, by path", () => {
  const before = { command: ["python", "a.py"], env: [{ name: "A", value: "1" }], grace: "30s" };
  const after = { command: ["python", "b.py"], env: [{ name: "A", value: "1" }], ports: [{ name: "http" }] };
  expect(differences(before, after)).toEqual([
    '- command[1]: "a.py"',
    '+ command[1]: "b.py"',
    '- grace: "30s"',
    '+ ports: [{"name":"http"}]',
  ]);
  expect(differences(after, after)).toEqual([]);
});
