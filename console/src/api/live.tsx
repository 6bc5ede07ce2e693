import { type QueryClient, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect, useState } from "react";
import type { Page } from "./client";
import { type KindName, type Kinds, plural } from "./types";

interface Change {
  op: "put" | "delete";
  object: Kinds[KindName];
}

/** Query keys: a list is `[kind, "list", …]`, an object `[kind, "one", project, name]`. */
export const keys = {
  list: (kind: KindName, ...filter: unknown[]) => [kind, "list", ...filter],
  one: (kind: KindName, project: string, name: string) => [kind, "one", project, name],
};

/** Puts one change into every cached answer that shows the object. */
export function applyChange(client: QueryClient, change: Change): void {
  const { object } = change;
  const kind = object.kind as KindName;
  if (!(kind in plural)) return;
  const { project = "", name = "", uid } = object.metadata;
  client.setQueryData(keys.one(kind, project, name), change.op === "put" ? object : undefined);
  for (const [key, page] of client.getQueriesData<Page<Kinds[KindName]>>({ queryKey: [kind, "list"] })) {
    if (!page) continue;
    const at = page.items.findIndex((item) => item.metadata.uid === uid);
    if (change.op === "put" && at >= 0) {
      client.setQueryData(key, { ...page, items: page.items.with(at, object) });
    } else {
      // A new or deleted object may move the pages: ask again.
      void client.invalidateQueries({ queryKey: key });
    }
  }
}

const Live = createContext(false);

/** Whether changes arrive at this moment. */
export const useLive = () => useContext(Live);

/** Keeps every query fresh by one stream of changes. The browser reconnects and resumes by itself. */
export function LiveProvider({ children }: { children: ReactNode }) {
  const client = useQueryClient();
  const [live, setLive] = useState(false);
  useEffect(() => {
    const source = new EventSource(`/v1/watch?kinds=${Object.keys(plural).join(",")}`);
    source.onopen = () => {
      setLive(true);
      // What happened between the first answers and the stream.
      void client.invalidateQueries();
    };
    source.onerror = () => setLive(false);
    source.onmessage = (message) => applyChange(client, JSON.parse(message.data) as Change);
    return () => source.close();
  }, [client]);
  return <Live.Provider value={live}>{children}</Live.Provider>;
}
