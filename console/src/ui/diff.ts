/** Every leaf that differs, as `- path: old` and `+ path: new`. */
export function differences(before: unknown, after: unknown, path = ""): string[] {
  if (JSON.stringify(before) === JSON.stringify(after)) return [];
  const both = [before, after];
  if (both.every((value) => typeof value === "object" && value !== null)) {
    const old = before as Record<string, unknown>;
    const now = after as Record<string, unknown>;
    const names = [...new Set([...Object.keys(old), ...Object.keys(now)])];
    const step = (name: string) =>
      Array.isArray(after) ? `${path}[${name}]` : path ? `${path}.${name}` : name;
    return names.flatMap((name) => differences(old[name], now[name], step(name)));
  }
  const lines = [];
  if (before !== undefined) lines.push(`- ${path}: ${JSON.stringify(before)}`);
  if (after !== undefined) lines.push(`+ ${path}: ${JSON.stringify(after)}`);
  return lines;
}
