import type { components } from "./schema";

type Schemas = components["schemas"];

export type Job = Schemas["Job"];
export type App = Schemas["App"];
export type Node = Schemas["Node"];
export type Queue = Schemas["Queue"];
export type Event = Schemas["Event"];
export type Environment = Schemas["Environment"];
export type Secret = Schemas["Secret"];
export type Model = Schemas["Model"];
export type ModelVersion = Schemas["ModelVersion"];
export type Revision = Schemas["Revision"];
export type Replica = Schemas["ReplicaStatus"];
export type Attempt = Schemas["JobAttempt"];
export type Problem = Schemas["Problem"];
export type Amount = Schemas["AmountSpec"];
export type Overview = Schemas["Overview"];
export type Why = Schemas["Why"];
export type ApplyResult = Schemas["ApplyResult"];
export type LogFrame = Schemas["LogFrame"];

/** The kinds that the console shows, and what each is. */
export interface Kinds {
  Job: Job;
  App: App;
  Node: Node;
  Queue: Queue;
  Event: Event;
  Environment: Environment;
  Secret: Secret;
  Model: Model;
  ModelVersion: ModelVersion;
}
export type KindName = keyof Kinds;

export const plural: Record<KindName, string> = {
  Job: "jobs",
  App: "apps",
  Node: "nodes",
  Queue: "queues",
  Event: "events",
  Environment: "environments",
  Secret: "secrets",
  Model: "models",
  ModelVersion: "modelversions",
};

/** Kinds that are outside projects. */
export const isGlobal = (kind: KindName) => kind === "Node" || kind === "Queue";
