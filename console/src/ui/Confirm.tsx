import { Button, Group, Modal, Stack, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useMutation } from "@tanstack/react-query";
import { useLanguage } from "../i18n";
import { Cli } from "./Cli";
import { Failure } from "./Section";

/** A button that asks once, shows its command, and says why it did not work. */
export function Confirm(props: {
  label: string;
  question?: string;
  command: string;
  action: () => Promise<unknown>;
  colour?: string;
}) {
  const { t } = useLanguage();
  const [opened, { open, close }] = useDisclosure(false);
  const mutation = useMutation({ mutationFn: props.action, onSuccess: close });
  return (
    <>
      <Button variant="light" color={props.colour} size="xs" onClick={open}>
        {props.label}
      </Button>
      <Modal opened={opened} onClose={close} title={props.label} centered>
        <Stack>
          {props.question && <Text>{props.question}</Text>}
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
