import { Button, Group, Modal, Stack, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { applyChange, type Change } from "../api/live";
import { useLanguage } from "../i18n";
import { Cli } from "./Cli";
import { Failure } from "./Section";

/** A button that asks once, shows its command, and says why it did not work. */
export function Confirm<T>(props: {
  label: string;
  /** More words for who cannot see what the button stands beside. */
  about?: string;
  question?: string;
  /** What is to be chosen before. */
  children?: ReactNode;
  command: string;
  action: () => Promise<T>;
  done?: (answer: T) => void;
  colour?: string;
}) {
  const { t } = useLanguage();
  const client = useQueryClient();
  const [opened, { open, close }] = useDisclosure(false);
  const mutation = useMutation({
    mutationFn: props.action,
    onSuccess: (answer) => {
      close();
      // The answer is the object as it is now: it is shown at once, before the stream of changes says the same.
      const object = answer as Change["object"] | undefined;
      if (object?.metadata) {
        for (const queryKey of applyChange(client, { op: "put", object }))
          void client.invalidateQueries({ queryKey });
      }
      props.done?.(answer);
    },
  });
  const start = () => {
    mutation.reset();
    open();
  };
  const label = props.about ? `${props.label}: ${props.about}` : undefined;
  return (
    <>
      <Button variant="light" color={props.colour} size="xs" onClick={start} aria-label={label}>
        {props.label}
      </Button>
      <Modal
        opened={opened}
        onClose={close}
        title={props.label}
        centered
        closeButtonProps={{ "aria-label": t("common.close") }}
      >
        <Stack>
          {props.question && <Text>{props.question}</Text>}
          {props.children}
          <Cli command={props.command} />
          {mutation.error && <Failure error={mutation.error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={close}>
              {t("common.cancel")}
            </Button>
            <Button color={props.colour} loading={mutation.isPending} onClick={() => mutation.mutate()}>
              {t("common.confirm")}
            </Button>
          </Group>
        </Stack>
      </Modal>
    </>
  );
}
