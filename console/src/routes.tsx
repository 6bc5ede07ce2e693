import { createRootRoute, createRoute, createRouter } from "@tanstack/react-router";
import { AppDetail } from "./pages/AppDetail";
import { Apply } from "./pages/Apply";
import { Apps } from "./pages/Apps";
import { EnvironmentDetail, Environments } from "./pages/Environments";
import { JobDetail } from "./pages/JobDetail";
import { Jobs } from "./pages/Jobs";
import { ModelDetail, Models } from "./pages/Models";
import { Nodes } from "./pages/Nodes";
import { NotFound } from "./pages/NotFound";
import { Overview } from "./pages/Overview";
import { Queues } from "./pages/Queues";
import { Secrets } from "./pages/Secrets";
import { Shell } from "./pages/Shell";

/** Filters of lists live in the URL, so that a page can be sent to somebody. */
export interface ListSearch {
  project?: string;
  phase?: string;
  labels?: string;
}

/** The object that is edited; absent for a new manifest. */
export interface ApplySearch {
  kind?: "Job" | "App";
  project?: string;
  name?: string;
}

const text = (value: unknown) => {
  // The router reads `?labels=1` as a number.
  const isText = typeof value === "string" || typeof value === "number";
  return isText && value !== "" ? String(value) : undefined;
};
const listSearch = (search: Record<string, unknown>): ListSearch => ({
  project: text(search.project),
  phase: text(search.phase),
  labels: text(search.labels),
});
const applySearch = (search: Record<string, unknown>): ApplySearch => ({
  kind: search.kind === "Job" || search.kind === "App" ? search.kind : undefined,
  project: text(search.project),
  name: text(search.name),
});

const root = createRootRoute({ component: Shell, notFoundComponent: NotFound });
const at = { getParentRoute: () => root };

const pages = [
  createRoute({ ...at, path: "/", component: Overview }),
  createRoute({ ...at, path: "/jobs", component: Jobs, validateSearch: listSearch }),
  createRoute({ ...at, path: "/projects/$project/jobs/$name", component: JobDetail }),
  createRoute({ ...at, path: "/apps", component: Apps, validateSearch: listSearch }),
  createRoute({ ...at, path: "/projects/$project/apps/$name", component: AppDetail }),
  createRoute({ ...at, path: "/models", component: Models, validateSearch: listSearch }),
  createRoute({ ...at, path: "/projects/$project/models/$name", component: ModelDetail }),
  createRoute({ ...at, path: "/environments", component: Environments, validateSearch: listSearch }),
  createRoute({ ...at, path: "/projects/$project/environments/$name", component: EnvironmentDetail }),
  createRoute({ ...at, path: "/secrets", component: Secrets, validateSearch: listSearch }),
  createRoute({ ...at, path: "/queues", component: Queues }),
  createRoute({ ...at, path: "/nodes", component: Nodes }),
  createRoute({ ...at, path: "/apply", component: Apply, validateSearch: applySearch }),
] as const;

export const router = createRouter({ routeTree: root.addChildren(pages), scrollRestoration: true });

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
