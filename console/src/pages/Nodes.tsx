import { Group, List, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { list, objectPath, send } from "../api/client";
import { keys } from "../api/live";
import type { Node } from "../api/types";
import { useLanguage } from "../i18n";
import { bytes, toNumber } from "../ui/amount";
import { Cli } from "../ui/Cli";
import { Confirm } from "../ui/Confirm";
import { DataTable } from "../ui/DataTable";
import { NodeState, Share } from "../ui/NodeState";
import { PageTitle } from "../ui/PageTitle";
import { Phase } from "../ui/Phase";
import { Loaded, Section } from "../ui/Section";

/** Nodes shown on one page. */
const NODES_MAX = 1_000;

export function Nodes() {
  const { t } = useLanguage();
  const nodes = useQuery({
    queryKey: keys.list("Node", "all"),
    queryFn: () => list("Node", { limit: NODES_MAX }),
  });
  return (
    <Stack>
      <PageTitle title={t("overview.nodes")} />
      <Loaded query={nodes}>
        {({ items }) => (
          <>
            <NodeTable nodes={byName(items)} />
            <Devices nodes={items} />
            <Warnings nodes={items} />
          </>
        )}
      </Loaded>
      <Cli command="moonshot get nodes -o wide" />
    </Stack>
  );
}

const byName = (nodes: Node[]) =>
  [...nodes].sort((a, b) =>
    (a.metadata.name ?? "").localeCompare(b.metadata.name ?? "", "en", { numeric: true }),
  );

function NodeTable({ nodes }: { nodes: Node[] }) {
  const { t } = useLanguage();
  return (
    <DataTable
      label={t("overview.nodes")}
      items={nodes}
      empty={t("nodes.empty")}
      id={(node) => node.metadata.name ?? ""}
      columns={[
        { title: t("common.name"), cell: (node) => node.metadata.name },
        { title: t("common.phase"), cell: (node) => <NodeState node={node} /> },
        { title: t("queues.pool"), cell: (node) => node.status?.pool ?? "–", wide: true },
        { title: t("overview.cpu"), cell: (node) => <Share node={node} part="cpu" />, wide: true },
        { title: t("overview.memory"), cell: (node) => <Share node={node} part="memory" />, wide: true },
        { title: t("overview.gpu"), cell: (node) => <Share node={node} part="gpu" />, wide: true },
        { title: t("common.actions"), cell: (node) => <Actions node={node} /> },
      ]}
    />
  );
}

function Actions({ node }: { node: Node }) {
  const { t } = useLanguage();
  const { name = "" } = node.metadata;
  const path = objectPath("Node", "", name);
  const verb = node.spec.unschedulable ? "uncordon" : "cordon";
  return (
    <Group gap="xs">
      <Confirm
        label={t(`nodes.${verb}`)}
        about={name}
        question={t(`nodes.${verb}Sure`, { name })}
        command={`moonshot ${verb} ${name}`}
        action={() => send<Node>("POST", `${path}/${verb}`)}
      />
      <Confirm
        label={t("nodes.drain")}
        about={name}
        question={t("nodes.drainSure", { name })}
        colour="red"
        command={`moonshot drain ${name}`}
        action={() => send<Node>("POST", `${path}/drain`)}
      />
    </Group>
  );
}

function Devices({ nodes }: { nodes: Node[] }) {
  const { t } = useLanguage();
  const devices = nodes.flatMap((node) =>
    (node.status?.devices ?? []).map((device) => ({ node: node.metadata.name ?? "", device })),
  );
  if (devices.length === 0) return null;
  return (
    <Section title={t("nodes.devices")}>
      <DataTable
        label={t("nodes.devices")}
        items={devices}
        id={({ node, device }) => `${node}/${device.id}`}
        columns={[
          { title: t("common.node"), cell: ({ node }) => node },
          { title: t("common.name"), cell: ({ device }) => device.id },
          { title: t("nodes.model"), cell: ({ device }) => device.model },
          { title: t("overview.memory"), cell: ({ device }) => bytes(toNumber(device.memory)), wide: true },
          { title: t("queues.used"), cell: ({ device }) => `${device.usedMilli / 10} %` },
          {
            title: t("nodes.health"),
            cell: ({ device }) =>
              device.sick ? <Text size="sm">{device.sick}</Text> : <Phase phase="Ready" />,
          },
        ]}
      />
    </Section>
  );
}

function Warnings({ nodes }: { nodes: Node[] }) {
  const { t } = useLanguage();
  const warnings = [...new Set(nodes.flatMap((node) => node.status?.warnings ?? []))];
  if (warnings.length === 0) return null;
  return (
    <Section title={t("overview.warnings")}>
      <List size="sm">
        {warnings.map((warning) => (
          <List.Item key={warning}>{warning}</List.Item>
        ))}
      </List>
    </Section>
  );
}
