import { expect, test } from "vitest";
import { manifest, toYaml } from "./yaml";

test("data is written as people write it", () => {
  const value = {
    name: "a",
    empty: {},
    none: [],
    count: 2,
    ok: true,
    list: ["x", 1, ["nested"]],
    maps: [{ a: 1, b: { c: "d" } }, {}],
    sentence: "two words",
    number: "8080",
    cpu: "200m",
    exponent: "1e3",
    digest: "sha256:ab",
    colon: "a:",
    word: "yes",
    nothing: "",
    script: "import a\nprint(a)\n",
    cut: "one\n\n  two",
  };
  expect(toYaml(value).slice(1)).toBe(`name: a
empty: {}
none: []
count: 2
ok: true
list:
- x
- 1
- - nested
maps:
- a: 1
  b:
    c: d
- {}
sentence: "two words"
number: "8080"
cpu: 200m
exponent: "1e3"
digest: sha256:ab
colon: "a:"
word: "yes"
nothing: ""
script: |
  import a
  print(a)
cut: |-
  one

    two
`);
});

test("a manifest leaves out what the server fills in", () => {
  const object = {
    apiVersion: "moonshot/v1",
    kind: "Job",
    metadata: { name: "a", project: "p", labels: {}, uid: "u", generation: 3 },
    spec: { command: ["sh", "-c", "echo $HOME: done"], resources: {}, probe: { tcp: {} } },
    status: { phase: "Running" },
  };
  expect(manifest(object)).toBe(`apiVersion: moonshot/v1
kind: Job
metadata:
  name: a
  project: p
spec:
  command:
  - sh
  - "-c"
  - "echo $HOME: done"
  probe:
    tcp: {}
`);
});
