import { Table, Text } from "@mantine/core";
import type { ReactNode } from "react";
import { useLanguage } from "../i18n";

export interface Column<T> {
  title: string;
  cell: (item: T) => ReactNode;
  /** Left out on narrow screens. */
  wide?: boolean;
}

/** A table with a name; it scrolls sideways where words would be squeezed. */
export function DataTable<T>(props: {
  label: string;
  columns: Column<T>[];
  items: T[];
  id: (item: T) => string;
  empty?: ReactNode;
}) {
  const { t } = useLanguage();
  if (props.items.length === 0) {
    return (
      <Text component="div" c="dimmed">
        {props.empty ?? t("common.none")}
      </Text>
    );
  }
  const from = (column: Column<T>) => (column.wide ? "sm" : undefined);
  return (
    <Table.ScrollContainer minWidth={0} type="native" tabIndex={0} role="group" aria-label={props.label}>
      <Table aria-label={props.label} striped highlightOnHover verticalSpacing="xs">
        <Table.Thead>
          <Table.Tr>
            {props.columns.map((column) => (
              <Table.Th key={column.title} scope="col" visibleFrom={from(column)}>
                {column.title}
              </Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {props.items.map((item) => (
            <Table.Tr key={props.id(item)}>
              {props.columns.map((column) => (
                <Table.Td key={column.title} visibleFrom={from(column)}>
                  {column.cell(item)}
                </Table.Td>
              ))}
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}
