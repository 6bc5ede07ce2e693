import { Group, Title } from "@mantine/core";
import { type ReactNode, useEffect, useRef } from "react";
import { useLanguage } from "../i18n";

let isFirst = true;

/**
 * The heading of a page. It names the tab, and takes the focus when the page is entered, so that a screen reader
 * says where it is and the keyboard goes on from there. Actions stand beside it.
 */
export function PageTitle({
  title,
  beside,
  actions,
}: {
  title: string;
  beside?: ReactNode;
  actions?: ReactNode;
}) {
  const { t } = useLanguage();
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    // The page that is loaded first keeps the browser's own focus.
    if (!isFirst) heading.current?.focus({ preventScroll: true });
    isFirst = false;
  }, []);
  useEffect(() => {
    document.title = `${title} · ${t("app.title")}`;
  }, [title, t]);
  return (
    <Group justify="space-between">
      <Group gap="sm">
        <Title
          ref={heading}
          tabIndex={-1}
          order={1}
          size="h3"
          style={{ overflowWrap: "anywhere", outline: "none" }}
        >
          {title}
        </Title>
        {beside}
      </Group>
      {actions && <Group gap="xs">{actions}</Group>}
    </Group>
  );
}
