import { Code, Text } from "@mantine/core";

/** Lines of a difference: `+` was added, `-` removed, `~` changed. The sign carries the meaning, the colour only helps. */
export function Diff({ lines, label }: { lines: string[]; label: string }) {
  const colour = (line: string) => {
    if (line.startsWith("+")) return "var(--mantine-color-green-light)";
    if (line.startsWith("-")) return "var(--mantine-color-red-light)";
    return line.startsWith("~") ? "var(--mantine-color-orange-light)" : undefined;
  };
  // Lines may repeat: the number tells them apart.
  const numbered = lines.map((line, number) => ({ line, id: `${number} ${line}` }));
  return (
    <Code block aria-label={label} role="group" style={{ whiteSpace: "pre-wrap", overflowWrap: "anywhere" }}>
      {numbered.map(({ line, id }) => (
        <Text key={id} span inherit display="block" bg={colour(line)}>
          {line}
        </Text>
      ))}
    </Code>
  );
}
