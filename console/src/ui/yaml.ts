/** Writes plain data as YAML, for people to edit. Not a general writer: data of the API has strings, numbers, booleans, lists and maps. */
export function toYaml(value: unknown, indent = ""): string {
  if (Array.isArray(value)) {
    if (value.length === 0) return " []\n";
    const items = value.map((item) => {
      const text = toYaml(item, `${indent}  `);
      // A map's first field stands beside the dash.
      return text.startsWith("\n") ? `${indent}- ${text.slice(indent.length + 3)}` : `${indent}-${text}`;
    });
    return `\n${items.join("")}`;
  }
  if (typeof value === "object" && value !== null) {
    const fields = Object.entries(value).filter(([, field]) => field !== undefined);
    if (fields.length === 0) return " {}\n";
    const lines = fields.map(([key, field]) => {
      // Lists stand under their key, as people write them.
      const inner = Array.isArray(field) ? indent : `${indent}  `;
      return `${indent}${scalar(key)}:${toYaml(field, inner)}`;
    });
    return `\n${lines.join("")}`;
  }
  if (
    typeof value === "string" &&
    /^[^\n]*[^\s\n]\n/.test(value) &&
    !/[^\n\t\x20-\x7e\u00a0-\ud7ff\ue000-\ufffd]/.test(value)
  ) {
    const chomp = value.endsWith("\n\n") ? "|+" : value.endsWith("\n") ? "|" : "|-";
    const body = value.endsWith("\n") ? value.slice(0, -1) : value;
    // Deeper text at the beginning would be taken for the block's own indentation.
    if (!body.startsWith(" ")) {
      const inner = indent === "" ? "  " : indent;
      const lines = body.split("\n").map((line) => (line ? inner + line : ""));
      return ` ${chomp}\n${lines.join("\n")}\n`;
    }
  }
  return ` ${scalar(value)}\n`;
}

/** Words that mean something else without quotes, in YAML 1.1 or 1.2. */
const special = /^(?:true|false|yes|no|on|off|y|n|null|~|)$/i;

/** Quantities and durations: no version of YAML takes them for numbers. */
const amount = /^\d+(?:m|s|h|ms|k|M|G|T|[KMGTP]i)$/;

function scalar(value: unknown): string {
  if (typeof value !== "string") return JSON.stringify(value);
  const isWord = /^[A-Za-z_./$](?:[\w./$@+:-]*[\w./$@+-])?$/.test(value) && !special.test(value);
  const isPlain = (isWord && !/^\.+(?:inf|nan)?$/i.test(value)) || amount.test(value);
  return isPlain ? value : JSON.stringify(value);
}

/** The manifest of an object: what a person would have written, without what the server fills in. */
export function manifest(object: {
  apiVersion: string;
  kind: string;
  metadata: { name?: string; project?: string; labels?: unknown; annotations?: unknown };
  spec: unknown;
}): string {
  const { apiVersion, kind, metadata, spec } = object;
  const isFull = (value: unknown) =>
    typeof value === "object" && value !== null && Object.keys(value).length > 0;
  const own = {
    name: metadata.name,
    project: metadata.project || undefined,
    labels: isFull(metadata.labels) ? metadata.labels : undefined,
    annotations: isFull(metadata.annotations) ? metadata.annotations : undefined,
  };
  return toYaml({ apiVersion, kind, metadata: own, spec: withoutDefaults(spec) }).slice(1);
}

/** Parts of a spec that mean nothing when they are empty. Others do: `tcp: {}` is a probe. */
const parts = ["resources", "placement", "retry", "rollout", "probes"];

function withoutDefaults(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutDefaults);
  if (typeof value !== "object" || value === null) return value;
  const isEmpty = (field: unknown) =>
    typeof field === "object" && field !== null && Object.keys(field).length === 0;
  const fields = Object.entries(value).filter(([name, field]) => !(parts.includes(name) && isEmpty(field)));
  return Object.fromEntries(fields.map(([name, field]) => [name, withoutDefaults(field)]));
}
