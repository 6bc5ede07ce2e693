import type { components } from "./schema";

type Schemas = components["schemas"];

export type Job = Schemas["Job"];
export type App = Schemas["App"];
export type Node = Schemas["Node"];
export type Queue = Schemas["Queue"];
export type Event = Schemas["Event"];
export type Revision = Schemas["Revision"];
export type Replica = Schemas["ReplicaStatus"];
export type Problem = Schemas["Problem"];
export type Amount = Schemas["AmountSpec"];

/** The kinds that the console shows, and what each is. */
export interface Kinds {
  Job: Job;
  App: App;
  Node: Node;
  Queue: Queue;
  Event: Event;
}
export type KindName = keyof Kinds;

export const plural: Record<KindName, string> = {
  Job: "jobs",
  App: "apps",
  Node: "nodes",
  Queue: "queues",
  Event: "events",
};
