import type { Amount } from "../api/types";

const units: Record<string, number> = {
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** A Kubernetes quantity as a number of its base unit. */
export function toNumber(quantity: string | number): number {
  if (typeof quantity === "number") return quantity;
  const match = /^([0-9.]+)([A-Za-z]*)$/.exec(quantity);
  if (!match) return Number.NaN;
  return Number(match[1]) * (units[match[2] ?? ""] ?? 1);
}

/** A quantity as people read it: `1.5`, `3.2 GiB`. */
export function amountParts(part: string, quantity: string | number): string {
  const number = toNumber(quantity);
  if (part !== "memory") return String(Math.round(number * 100) / 100);
  return bytes(number);
}

/** A whole amount in one line; `–` where nothing is said. */
export function amountText(amount: Amount | undefined): string {
  const { extended = {}, ...rest } = amount ?? {};
  const parts = Object.entries(rest)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([part, value]) => `${part} ${amountParts(part, value as string | number)}`);
  const others = Object.entries(extended).map(([name, value]) => `${name} ${value}`);
  return [...parts, ...others].join(", ") || "–";
}

/** Bytes as people read them. */
export function bytes(number: number): string {
  const names = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let index = 0;
  let value = number;
  while (value >= 1024 && index < names.length - 1) {
    value /= 1024;
    index += 1;
  }
  return `${value >= 100 || index === 0 ? Math.round(value) : value.toFixed(1)} ${names[index]}`;
}
