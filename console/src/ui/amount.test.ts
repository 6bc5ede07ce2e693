import { expect, test } from "vitest";
import { amountParts, amountText, bytes, toNumber } from "./amount";

test("quantities are Kubernetes'", () => {
  expect(toNumber("500m")).toBe(0.5);
  expect(toNumber("4Gi")).toBe(4 * 2 ** 30);
  expect(toNumber("2")).toBe(2);
  expect(toNumber(0.5)).toBe(0.5);
  expect(toNumber("what")).toBeNaN();
});

test("amounts read well", () => {
  expect(amountParts("cpu", "1500m")).toBe("1.5");
  expect(amountParts("memory", "1536Mi")).toBe("1.5 GiB");
  expect(amountText({ cpu: "1500m", memory: "2Gi", extended: { "x/y": 2 } })).toBe(
    "cpu 1.5, memory 2.0 GiB, x/y 2",
  );
  expect(amountText(undefined)).toBe("–");
  expect(bytes(0)).toBe("0 B");
});
