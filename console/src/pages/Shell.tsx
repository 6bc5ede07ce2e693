import { AppShell, Badge, Burger, Button, Group, NavLink, SegmentedControl, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useRouterState } from "@tanstack/react-router";
import { call, get } from "../api/client";
import { LiveProvider, useLive } from "../api/live";
import { type Language, useLanguage } from "../i18n";
import { Login } from "./Login";

const links = [
  { to: "/", key: "nav.overview" },
  { to: "/jobs", key: "nav.jobs" },
  { to: "/apps", key: "nav.apps" },
  { to: "/apply", key: "nav.apply" },
] as const;

/** The frame of every page, or the login where there is no session. */
export function Shell() {
  const whoami = useQuery({
    queryKey: ["whoami"],
    queryFn: () => get<{ name: string }>("/v1/whoami"),
    retry: false,
  });
  if (whoami.isPending) return null;
  if (whoami.isError) return <Login />;
  return (
    <LiveProvider>
      <Frame />
    </LiveProvider>
  );
}

function Frame() {
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
  return (
    <AppShell
      header={{ height: 52 }}
      navbar={{ width: 190, breakpoint: "sm", collapsed: { mobile: !opened } }}
      padding="md"
    >
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <Group gap="xs" wrap="nowrap">
            <Burger opened={opened} onClick={toggle} hiddenFrom="sm" size="sm" aria-label={t("nav.menu")} />
            <img src="/icon.svg" alt="" width={26} height={26} />
            <Text fw={700}>{t("app.title")}</Text>
          </Group>
          <Group gap="xs" wrap="nowrap">
            <Badge variant="dot" color={live ? "green" : "orange"} tt="none" visibleFrom="xs">
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
            <Button size="xs" variant="subtle" onClick={logOut}>
              {t("nav.logout")}
            </Button>
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" component="nav">
        {links.map(({ to, key }) => (
          <NavLink
            key={to}
            component={Link}
            to={to}
            label={t(key)}
            active={to === "/" ? path === "/" : path.startsWith(to) || path.includes(`${to}/`)}
            onClick={close}
          />
        ))}
      </AppShell.Navbar>
      <AppShell.Main>
        <Outlet />
      </AppShell.Main>
    </AppShell>
  );
}
