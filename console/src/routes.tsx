import { createRootRoute, createRoute, createRouter } from "@tanstack/react-router";
import { AppDetail } from "./pages/AppDetail";
import { Apply } from "./pages/Apply";
import { Apps } from "./pages/Apps";
import { JobDetail } from "./pages/JobDetail";
import { Jobs } from "./pages/Jobs";
import { Overview } from "./pages/Overview";
import { Shell } from "./pages/Shell";

/** Filters of lists live in the URL, so that a page can be sent to somebody. */
export interface ListSearch {
  project?: string;
  phase?: string;
  labels?: string;
}

const text = (value: unknown) => (typeof value === "string" && value ? value : undefined);
const listSearch = (search: Record<string, unknown>): ListSearch => ({
  project: text(search.project),
  phase: text(search.phase),
  labels: text(search.labels),
});

const root = createRootRoute({ component: Shell });
const overview = createRoute({ getParentRoute: () => root, path: "/", component: Overview });
const jobs = createRoute({
  getParentRoute: () => root,
  path: "/jobs",
  component: Jobs,
  validateSearch: listSearch,
});
const job = createRoute({
  getParentRoute: () => root,
  path: "/projects/$project/jobs/$name",
  component: JobDetail,
});
const apps = createRoute({
  getParentRoute: () => root,
  path: "/apps",
  component: Apps,
  validateSearch: listSearch,
});
const app = createRoute({
  getParentRoute: () => root,
  path: "/projects/$project/apps/$name",
  component: AppDetail,
});
const apply = createRoute({ getParentRoute: () => root, path: "/apply", component: Apply });

export const router = createRouter({ routeTree: root.addChildren([overview, jobs, job, apps, app, apply]) });

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
