import {
  AppShell,
  Badge,
  Burger,
  Button,
  Center,
  Container,
  Group,
  NavLink,
  SegmentedControl,
  Text,
} from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useRouterState } from "@tanstack/react-router";
import { ApiError, call, get } from "../api/client";
import { LiveProvider, useLive } from "../api/live";
import { type Language, useLanguage } from "../i18n";
import { Failure, Loading } from "../ui/Section";
import { Login } from "./Login";

const links = [
  { to: "/", key: "nav.overview", part: "" },
  { to: "/jobs", key: "nav.jobs", part: "/jobs/" },
  { to: "/apps", key: "nav.apps", part: "/apps/" },
  { to: "/models", key: "nav.models", part: "/models/" },
  { to: "/environments", key: "nav.environments", part: "/environments/" },
  { to: "/secrets", key: "nav.secrets", part: "" },
  { to: "/queues", key: "nav.queues", part: "" },
  { to: "/nodes", key: "nav.nodes", part: "" },
  { to: "/apply", key: "nav.apply", part: "" },
] as const;

/** Before a server that did not answer is asked again. */
const RETRY_MS = 3_000;

/** The frame of every page, or the login where there is no session. */
export function Shell() {
  const whoami = useQuery({
    queryKey: ["whoami"],
    queryFn: () => get<{ name: string }>("/v1/whoami"),
    retry: false,
    refetchInterval: (query) => (query.state.status === "error" ? RETRY_MS : false),
  });
  const { error } = whoami;
  if (error instanceof ApiError && error.problem.status === 401) return <Login />;
  // A server that is away for a while does not take the page away.
  if (whoami.data) {
    return (
      <LiveProvider>
        <Frame name={whoami.data.name} />
      </LiveProvider>
    );
  }
  return (
    <Center mih="100vh">
      <Container size="xs">{error ? <Failure error={error} /> : <Loading />}</Container>
    </Center>
  );
}

function Frame({ name }: { name: string }) {
  const { t, language, setLanguage } = useLanguage();
  const [opened, { toggle, close }] = useDisclosure(false);
  const live = useLive();
  const client = useQueryClient();
  const path = useRouterState({ select: (state) => state.location.pathname });
  const logOut = async () => {
    await call("/v1/logout", { method: "POST" });
    client.clear();
    window.location.assign("/");
  };
  const isActive = (to: string, part: string) =>
    path === to || (part !== "" && path.startsWith("/projects/") && path.includes(part));
  return (
    <AppShell
      header={{ height: 52 }}
      navbar={{ width: 190, breakpoint: "sm", collapsed: { mobile: !opened } }}
      padding="md"
    >
      <a href="#main" className="skip">
        {t("nav.skip")}
      </a>
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <Group gap="xs" wrap="nowrap">
            <Burger
              opened={opened}
              onClick={toggle}
              hiddenFrom="sm"
              size="sm"
              aria-label={t("nav.menu")}
              aria-expanded={opened}
            />
            <img src="/icon.svg" alt="" width={26} height={26} />
            <Text fw={700}>{t("app.title")}</Text>
          </Group>
          <Group gap="xs" wrap="nowrap">
            <Badge variant="dot" color={live ? "green" : "orange"} tt="none" role="status" visibleFrom="xs">
              {t(live ? "live.on" : "live.off")}
            </Badge>
            <SegmentedControl
              size="xs"
              aria-label={t("nav.language")}
              value={language}
              onChange={(value) => setLanguage(value as Language)}
              data={[
                { value: "en", label: "EN" },
                { value: "zh", label: "中文" },
              ]}
            />
            <Button size="xs" variant="subtle" onClick={logOut} title={t("nav.as", { name })}>
              {t("nav.logout")}
            </Button>
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" component="nav" aria-label={t("nav.menu")}>
        {links.map(({ to, key, part }) => (
          <NavLink
            key={to}
            component={Link}
            to={to}
            label={t(key)}
            active={isActive(to, part)}
            aria-current={isActive(to, part) ? "page" : undefined}
            onClick={close}
          />
        ))}
      </AppShell.Navbar>
      <AppShell.Main id="main" tabIndex={-1} style={{ outline: "none" }}>
        <Outlet />
      </AppShell.Main>
    </AppShell>
  );
}
