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
            <ActionIcon
              variant="subtle"
              size="sm"
              onClick={copy}
              aria-label={t(copied ? "common.copied" : "common.copy")}
            >
              <Icon isDone={copied} />
            </ActionIcon>
          </Tooltip>
        )}
      </CopyButton>
    </Group>
  );
}

/** Drawn here: not every font has such characters. */
function Icon({ isDone }: { isDone: boolean }) {
  return (
    <svg
      width={14}
      height={14}
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      strokeWidth={1.6}
      aria-hidden="true"
    >
      {isDone ? (
        <path d="M3 8.5 6.5 12 13 4.5" />
      ) : (
        <>
          <rect x={5.5} y={5.5} width={8} height={8} rx={1.5} />
          <path d="M10.5 3.5v-1h-8v8h1" />
        </>
      )}
    </svg>
  );
}
