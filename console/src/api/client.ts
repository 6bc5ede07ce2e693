import { isGlobal, type KindName, type Kinds, type Problem, plural } from "./types";

/** A refused request, with the server's own words. */
export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail);
  }
}

async function failure(response: Response): Promise<ApiError> {
  const text = await response.text();
  try {
    return new ApiError(JSON.parse(text) as Problem);
  } catch {
    return new ApiError({
      type: "about:blank",
      title: response.statusText,
      status: response.status,
      detail: text || `${response.status} ${response.statusText}`,
      code: "internal",
    });
  }
}

/** One request to the API; throws `ApiError` where the server refuses. The session is a cookie. */
export async function call(path: string, init: RequestInit = {}): Promise<Response> {
  const response = await fetch(path, { credentials: "same-origin", ...init });
  if (!response.ok) throw await failure(response);
  return response;
}

export async function get<T>(path: string): Promise<T> {
  return (await call(path)).json() as Promise<T>;
}

export async function send<T>(method: string, path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "Content-Type": "application/json" };
  }
  const response = await call(path, init);
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

export interface Page<T> {
  items: T[];
  hasMore: boolean;
  continue?: string;
  resourceVersion: number;
}

export interface ListOptions {
  project?: string;
  phase?: string;
  labelSelector?: string;
  limit?: number;
  continue?: string;
}

/** One page of a kind, newest first. */
export function list<K extends KindName>(kind: K, options: ListOptions = {}): Promise<Page<Kinds[K]>> {
  const query = new URLSearchParams();
  for (const name of ["phase", "labelSelector", "continue"] as const) {
    const value = options[name];
    if (value) query.set(name, value);
  }
  query.set("limit", String(options.limit ?? 100));
  const scope = options.project ? `/v1/projects/${encodeURIComponent(options.project)}` : "/v1";
  return get(`${scope}/${plural[kind]}?${query}`);
}

/** The path of one object; kinds outside projects have none. */
export function objectPath(kind: KindName, project: string, name: string): string {
  const scope = isGlobal(kind) ? "/v1" : `/v1/projects/${encodeURIComponent(project)}`;
  return `${scope}/${plural[kind]}/${encodeURIComponent(name)}`;
}

/** ` --project p`, where commands would not find the object without it. */
export function projectFlag(project: string): string {
  return project === "default" || project === "" ? "" : ` --project ${project}`;
}
