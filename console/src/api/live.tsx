import { type InfiniteData, type QueryClient, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect, useState } from "react";
import type { Page } from "./client";
import { type KindName, type Kinds, plural } from "./types";

/** Answers that a change has made stale are asked for again at most this often. */
const REFRESH_MS = 1_000;
/** Before a stream that the server has ended is opened again. */
const REOPEN_MS = 2_000;

type Any = Kinds[KindName];

export interface Change {
  op: "put" | "delete";
  object: Any;
}

/** Query keys. What is derived from objects (`why`, the overview) has keys of its own: see `derived`. */
export const keys = {
  list: (kind: KindName, ...filter: unknown[]) => [kind, "list", ...filter],
  pages: (kind: KindName, ...filter: unknown[]) => [kind, "pages", ...filter],
  one: (kind: KindName, project: string, name: string) => [kind, "one", project, name],
  eventsOf: (uid: string | undefined) => ["Event", "of", uid],
};

/** Answers that the server works out from objects of these kinds. */
const derived: Partial<Record<KindName, string[][]>> = {
  Job: [["status"], ["why"], ["attempts"]],
  App: [["status"], ["why"], ["revisions"]],
  Node: [["status"], ["why"]],
  Queue: [["status"], ["why"]],
  Environment: [["why"]],
};

const isOlder = (object: Any, than: Any) =>
  (object.metadata.resourceVersion ?? 0) < (than.metadata.resourceVersion ?? 0);

/** The page with the object's newer form in its place; the same page where it is not on it. */
function replaced<T extends Any>(page: Page<T>, object: T): Page<T> {
  const at = page.items.findIndex((item) => item.metadata.uid === object.metadata.uid);
  const old = page.items[at];
  if (!old || isOlder(object, old)) return page;
  return { ...page, items: page.items.with(at, object) };
}

/** Puts one change into every cached answer that shows the object; returns the keys of answers that must be asked for again. */
export function applyChange(client: QueryClient, change: Change): unknown[][] {
  const { object } = change;
  const kind = object.kind as KindName;
  if (!(kind in plural)) return [];
  const { project = "", name = "" } = object.metadata;
  const one = keys.one(kind, project, name);
  const shown = client.getQueryData<Any>(one);
  const isSame = shown?.metadata.uid === object.metadata.uid;
  if (change.op === "put") {
    // An object that was replaced may still change: the one of the page is the newer one.
    if (!shown || !isOlder(object, shown)) client.setQueryData(one, object);
    for (const [key, page] of client.getQueriesData<Page<Any>>({ queryKey: keys.list(kind) })) {
      if (page) client.setQueryData(key, replaced(page, object));
    }
    const pages = client.getQueriesData<InfiniteData<Page<Any>>>({ queryKey: keys.pages(kind) });
    for (const [key, data] of pages) {
      if (!data) continue;
      const next = data.pages.map((page) => replaced(page, object));
      client.setQueryData(key, { ...data, pages: next });
    }
  } else if (shown && isSame) {
    // Asked again, the server says that it is gone.
    void client.resetQueries({ queryKey: one });
  }
  const stale: unknown[][] = [keys.list(kind), keys.pages(kind), ...(derived[kind] ?? [])];
  if (kind === "Event") stale.push(keys.eventsOf((object as Kinds["Event"]).spec?.objectUid));
  return stale;
}

/** Collects what is stale and asks for it once in a while. The keys are few: one for each kind and shown object. */
class Stale {
  private readonly waiting = new Map<string, unknown[]>();
  private timer: number | undefined;

  constructor(private readonly client: QueryClient) {}

  add(stale: unknown[][]): void {
    for (const key of stale) this.waiting.set(JSON.stringify(key), key);
    this.timer ??= window.setTimeout(() => this.refresh(), REFRESH_MS);
  }

  private refresh(): void {
    this.timer = undefined;
    for (const queryKey of this.waiting.values()) void this.client.invalidateQueries({ queryKey });
    this.waiting.clear();
  }

  stop(): void {
    window.clearTimeout(this.timer);
  }
}

const Live = createContext(false);

/** Whether changes arrive at this moment. */
export const useLive = () => useContext(Live);

/** Keeps every query fresh by one stream of changes. */
export function LiveProvider({ children }: { children: ReactNode }) {
  const client = useQueryClient();
  const [live, setLive] = useState(false);
  useEffect(() => {
    let source: EventSource | undefined;
    let reopen: number | undefined;
    const stale = new Stale(client);
    const open = () => {
      source = new EventSource(`/v1/watch?kinds=${Object.values(plural).join(",")}`);
      source.onopen = () => {
        setLive(true);
        // What happened before the stream began.
        void client.invalidateQueries();
      };
      source.onerror = () => {
        setLive(false);
        // The browser resumes a lost connection by itself, but not a stream that was refused: the session may
        // have ended, or what was missed is no longer kept. `whoami` tells, and a new stream begins from now.
        if (source?.readyState !== EventSource.CLOSED) return;
        void client.invalidateQueries({ queryKey: ["whoami"] });
        reopen = window.setTimeout(open, REOPEN_MS);
      };
      source.onmessage = (message) => stale.add(applyChange(client, JSON.parse(message.data) as Change));
    };
    open();
    return () => {
      source?.close();
      window.clearTimeout(reopen);
      stale.stop();
    };
  }, [client]);
  return <Live.Provider value={live}>{children}</Live.Provider>;
}
