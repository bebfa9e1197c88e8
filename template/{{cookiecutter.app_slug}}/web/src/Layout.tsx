import { Menu as MenuIcon, SquarePen } from "lucide-react";
import { lazy, Suspense, useEffect, useState } from "react";
import { Link, useLocation } from "wouter";
import { pages } from "./pages";
import { ChatRoute } from "./chat/ChatRoute";
import { keptGroupInvite } from "./session/invite";
import { useHasChats } from "./lib/chats";
import { useSession } from "./session/session";
import { Sidebar } from "./Sidebar";
import { texts } from "./texts";
import { Button, buttonClass } from "./ui/Button";
import { Boundary } from "./ui/Boundary";
import { Notice } from "./ui/Notice";
import { Spinner } from "./ui/Spinner";

const Drawer = lazy(() => import("./ui/Drawer"));

const PAGES = [
  ...pages,
  { path: "/documents", Page: lazy(() => import("./documents/DocumentsPage")) },
  { path: "/plans", Page: lazy(() => import("./account/PlansPage")) },
  { path: "/account", Page: lazy(() => import("./account/AccountPage")) },
];
const GroupPages = lazy(() => import("./groups/GroupPages"));

/** The sidebar and, beside it, the page that the address names. */
export function Layout() {
  const [path, navigate] = useLocation();
  const [drawer, setDrawer] = useState(false);
  const [drawn, setDrawn] = useState(false); // the drawer's part is loaded when it is first opened
  const { config, ended, signOut } = useSession();
  useEffect(() => setDrawer(false), [path]);
  useEffect(() => {
    // Stripe's pages lead back to wherever billing.return_url says.
    if (new URLSearchParams(location.search).has("checkout")) navigate("/plans", { replace: true });
  }, [navigate]);
  useEffect(() => {
    // Signing in may have led away from a group's invitation.
    if (config.groups && path === "/" && keptGroupInvite()) navigate(keptGroupInvite()!, { replace: true });
  }, [config, path, navigate]);
  const chats = useHasChats();
  useEffect(() => {
    if (!chats && path === "/") navigate("/documents", { replace: true });
  }, [chats, path, navigate]);
  const ofGroups = config.groups && path.startsWith("/groups");
  const { Page } = ofGroups ? { Page: GroupPages } : (PAGES.find((page) => page.path === path) ?? {});
  return (
    <div className="flex h-full">
      <a href="#content" onClick={toContent} className="sr-only z-60 rounded-lg bg-raised p-3 focus:not-sr-only focus:fixed focus:top-2 focus:left-2">
        {texts.skip}
      </a>
      <aside className="hidden w-72 shrink-0 border-r bg-panel md:flex md:flex-col" aria-label={texts.chats.title}>
        <Sidebar />
      </aside>
      <div className="flex min-w-0 flex-1 flex-col">
        <Button variant="ghost" size="icon" aria-label={texts.menu} onClick={() => (setDrawn(true), setDrawer(true))} className="absolute top-1.5 left-2 z-10 md:hidden">
          <MenuIcon aria-hidden className="size-5" />
        </Button>
        <nav aria-label={texts.chats.new} className="absolute top-1.5 right-2 z-10 md:hidden">
          <Link href="/" aria-label={texts.chats.new} title={texts.chats.new} className={buttonClass("ghost", "icon")}>
            <SquarePen aria-hidden className="size-5" />
          </Link>
        </nav>
        {ended && (
          <Notice kind="warn" className="m-3 mt-14 md:mt-3" actions={<Button size="sm" onClick={signOut}>{texts.signIn.devSignIn}</Button>}>
            {texts.sessionEnded}
          </Notice>
        )}
        <main id="content" tabIndex={-1} className="min-h-0 flex-1 outline-none">
          <Boundary key={path.startsWith("/chats/") ? "/" : path}>
            <Suspense fallback={<div className="p-6 pt-16"><Spinner /></div>}>{Page ? <Page /> : <ChatRoute />}</Suspense>
          </Boundary>
        </main>
      </div>
      <Suspense>
        {drawn && (
          <Drawer open={drawer} close={() => setDrawer(false)} label={texts.chats.title}>
            <Sidebar />
          </Drawer>
        )}
      </Suspense>
    </div>
  );
}

function toContent(event: { preventDefault(): void }) {
  event.preventDefault();
  document.getElementById("content")?.focus();
}
