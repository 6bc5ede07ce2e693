import { Code } from "@mantine/core";
import { Fragment } from "react";

/** A sentence of the catalogue; what stands in backticks is code. */
export function Words({ text }: { text: string }) {
  const parts = text
    .split("`")
    .map((part, index) => ({ part, id: `${index}${part}`, isCode: index % 2 === 1 }));
  return (
    <>
      {parts.map(({ part, id, isCode }) =>
        isCode ? <Code key={id}>{part}</Code> : <Fragment key={id}>{part}</Fragment>,
      )}
    </>
  );
}
