import { Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { Event } from "../api/types";
import { useLanguage } from "../i18n";
import { DataTable } from "./DataTable";
import { Phase } from "./Phase";
import { Time } from "./Time";
import { Words } from "./Words";

/** Events, in the order of the answer. */
export function EventTable({ events, withObject = false }: { events: Event[]; withObject?: boolean }) {
  const { t } = useLanguage();
  const columns = [
    { title: t("common.time"), cell: (event: Event) => <Time at={event.spec.lastAt} /> },
    ...(withObject
      ? [{ title: t("common.object"), cell: (event: Event) => <ObjectLink event={event} /> }]
      : []),
    {
      title: t("common.reason"),
      cell: (event: Event) =>
        event.spec.type === "Warning" ? (
          <Phase phase={event.spec.reason} />
        ) : (
          <Text size="sm">{event.spec.reason}</Text>
        ),
    },
    {
      title: t("common.message"),
      cell: (event: Event) => (
        <Text size="sm" style={{ overflowWrap: "anywhere" }}>
          <Words text={event.spec.message} />
          {event.spec.count > 1 ? ` ×${event.spec.count}` : ""}
        </Text>
      ),
    },
  ];
  return (
    <DataTable
      label={t("job.events")}
      items={events}
      empty={t("events.empty")}
      id={(event) => event.metadata.uid ?? `${event.spec.reason}${event.spec.lastAt}`}
      columns={columns}
    />
  );
}

function ObjectLink({ event }: { event: Event }) {
  const { objectKind, objectName } = event.spec;
  const params = { project: event.metadata.project ?? "", name: objectName };
  if (objectKind === "Job")
    return <Link to="/projects/$project/jobs/$name" params={params}>{`job/${objectName}`}</Link>;
  if (objectKind === "App")
    return <Link to="/projects/$project/apps/$name" params={params}>{`app/${objectName}`}</Link>;
  return <>{`${objectKind.toLowerCase()}/${objectName}`}</>;
}
