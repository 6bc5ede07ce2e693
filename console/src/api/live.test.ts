import { QueryClient } from "@tanstack/react-query";
import { expect, test } from "vitest";
import { applyChange, keys } from "./live";
import type { Job } from "./types";

const job = (uid: string, resourceVersion: number, phase: string) =>
  ({
    apiVersion: "moonshot/v1",
    kind: "Job",
    metadata: { name: "a", project: "p", uid, resourceVersion },
    spec: {},
    status: { phase },
  }) as unknown as Job;
const page = (...items: Job[]) => ({ items, hasMore: false, resourceVersion: 1 });
const one = keys.one("Job", "p", "a");

test("a change shows in the object, in lists and in pages, and says what else is stale", () => {
  const client = new QueryClient();
  client.setQueryData(one, job("u", 1, "Queued"));
  client.setQueryData(keys.list("Job", "x"), page(job("v", 1, "Failed"), job("u", 1, "Queued")));
  client.setQueryData(keys.pages("Job"), { pages: [page(job("u", 1, "Queued"))], pageParams: [""] });
  const stale = applyChange(client, { op: "put", object: job("u", 2, "Running") });
  expect(client.getQueryData(one)).toEqual(job("u", 2, "Running"));
  expect(client.getQueryData(keys.list("Job", "x"))).toEqual(
    page(job("v", 1, "Failed"), job("u", 2, "Running")),
  );
  expect(client.getQueryData(keys.pages("Job"))).toEqual({
    pages: [page(job("u", 2, "Running"))],
    pageParams: [""],
  });
  expect(stale).toContainEqual(["why"]);
  expect(stale).toContainEqual(keys.pages("Job"));
});

test("what is older than what is shown changes nothing", () => {
  const client = new QueryClient();
  client.setQueryData(one, job("u", 5, "Running"));
  client.setQueryData(keys.list("Job"), page(job("u", 5, "Running")));
  // The answer of an action may overtake the stream; a replaced object of the same name may still change.
  applyChange(client, { op: "put", object: job("u", 4, "Queued") });
  applyChange(client, { op: "put", object: job("old", 3, "Failed") });
  applyChange(client, { op: "delete", object: job("old", 6, "Failed") });
  expect(client.getQueryData(one)).toEqual(job("u", 5, "Running"));
  expect(client.getQueryData(keys.list("Job"))).toEqual(page(job("u", 5, "Running")));
});

test("a deleted object is no longer shown", () => {
  const client = new QueryClient();
  client.setQueryData(one, job("u", 5, "Running"));
  applyChange(client, { op: "delete", object: job("u", 6, "Running") });
  expect(client.getQueryData(one)).toBeUndefined();
});
