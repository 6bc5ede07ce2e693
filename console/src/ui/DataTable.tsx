import { Table, Text } from "@mantine/core";
import type { ReactNode } from "react";
import { useLanguage } from "../i18n";

export interface Column<T> {
  title: string;
  cell: (item: T) => ReactNode;
}

/** A table with a name; it scrolls sideways on narrow screens instead of squeezing words. */
export function DataTable<T>(props: {
  label: string;
  columns: Column<T>[];
  items: T[];
  id: (item: T) => string;
  empty?: ReactNode;
}) {
  const { t } = useLanguage();
  if (props.items.length === 0) return <Text c="dimmed">{props.empty ?? t("common.none")}</Text>;
  return (
    <Table.ScrollContainer minWidth={Math.min(120 * props.columns.length, 720)}>
      <Table aria-label={props.label} striped highlightOnHover verticalSpacing="xs">
        <Table.Thead>
          <Table.Tr>
            {props.columns.map((column) => (
              <Table.Th key={column.title}>{column.title}</Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {props.items.map((item) => (
            <Table.Tr key={props.id(item)}>
              {props.columns.map((column) => (
                <Table.Td key={column.title}>{column.cell(item)}</Table.Td>
              ))}
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}
