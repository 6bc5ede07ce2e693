import { ActionIcon, Code, CopyButton, Group, Text, Tooltip } from "@mantine/core";
import { useLanguage } from "../i18n";

/** The command that does the same. */
export function Cli({ command }: { command: string }) {
  const { t } = useLanguage();
  return (
    <Group gap="xs" wrap="wrap">
      <Text size="sm" c="dimmed">
        {t("common.cli")}
      </Text>
      <Code style={{ overflowWrap: "anywhere" }}>{command}</Code>
      <CopyButton value={command}>
        {({ copied, copy }) => (
          <Tooltip label={t(copied ? "common.copied" : "common.copy")}>
            <ActionIcon variant="subtle" size="sm" onClick={copy} aria-label={t("common.copy")}>
              {copied ? "✓" : "⧉"}
            </ActionIcon>
          </Tooltip>
        )}
      </CopyButton>
    </Group>
  );
}
