import { Archive, ArchiveRestore, Ellipsis, FileText, LogOut, Moon, PenLine, Sparkles, SquarePen, Sun, SunMoon, Trash2, UserRound } from "lucide-react";
import { lazy, type ReactNode, Suspense, useState } from "react";
import { Link, useLocation } from "wouter";
import { BudgetBar } from "./account/usage";
import { pages } from "./pages";
import { type Chat, useChats, useHasChats } from "./lib/chats";
import { cx } from "./lib/cx";
import { setTheme, type Theme, useTheme } from "./lib/theme";
import { useSession } from "./session/session";
import { texts } from "./texts";
import { Button, buttonClass } from "./ui/Button";
import { Menu } from "./ui/Menu";

const ChatDialog = lazy(() => import("./chat/ChatDialog"));
const GroupSwitch = lazy(() => import("./groups/GroupSwitch"));

/** Chats and pages to go to, and the user's menu. */
export function Sidebar() {
  const { config } = useSession();
  const chats = useHasChats();
  return (
    <div className="flex h-full min-h-0 flex-col">
      <div className="flex h-14 shrink-0 items-center justify-between gap-2 pr-3 pl-4">
        <span className="truncate font-semibold">{config.app.name}</span>
        <Link href="/" aria-label={texts.chats.new} title={texts.chats.new} className={buttonClass("ghost", "icon-sm")}>
          <SquarePen aria-hidden className="size-4.5" />
        </Link>
      </div>
      <Suspense>{config.groups && <GroupSwitch />}</Suspense>
      <nav aria-label={texts.sections} className="flex flex-col gap-0.5 px-2 pb-2">
        {pages.map((page) => (
          <PageLink key={page.path} href={page.path} icon={<Sparkles aria-hidden className="size-4" />}>
            {page.label}
          </PageLink>
        ))}
        <PageLink href="/documents" icon={<FileText aria-hidden className="size-4" />}>
          {texts.documents.title}
        </PageLink>
      </nav>
      {chats ? <ChatList /> : <div className="flex-1" />}
      <div className="px-4 empty:hidden">
        <BudgetBar only="near" />
      </div>
      <UserMenu />
    </div>
  );
}

function PageLink(props: { href: string; icon: ReactNode; children: ReactNode }) {
  const [path] = useLocation();
  const here = path === props.href;
  return (
    <Link
      href={props.href}
      aria-current={here ? "page" : undefined}
      className={cx("flex items-center gap-2.5 rounded-lg px-2.5 py-2 text-sm hover:bg-hover", here && "bg-hover font-medium")}
    >
      {props.icon}
      {props.children}
    </Link>
  );
}

const DAY = 24 * 60 * 60 * 1000;

/** The name of the time of a chat's latest message. */
function period(chat: Chat): string {
  const today = new Date().setHours(0, 0, 0, 0);
  const time = new Date(chat.updated_at).getTime();
  if (time >= today) return texts.chats.today;
  if (time >= today - DAY) return texts.chats.yesterday;
  return time >= today - 7 * DAY ? texts.chats.week : texts.chats.older;
}

function ChatList() {
  const [archived, setArchived] = useState(false);
  const { chats, loading, failed, more, changed } = useChats(archived);
  const periods = [...new Set(chats.map(period))];
  return (
    <nav aria-label={texts.chats.title} className="flex min-h-0 flex-1 flex-col overflow-y-auto px-2">
      {periods.map((name) => (
        <section key={name} className="pb-3">
          <h2 className="px-2.5 py-1.5 text-xs font-medium text-muted">{name}</h2>
          <ul className="flex flex-col gap-0.5">
            {chats.filter((chat) => period(chat) === name).map((chat) => (
              <ChatItem key={chat.id} chat={chat} />
            ))}
          </ul>
        </section>
      ))}
      {failed && (
        <Button size="sm" onClick={() => void changed()} className="m-2">
          {texts.loadFailed} {texts.retry}
        </Button>
      )}
      {!chats.length && !loading && !failed && (
        <p className="px-2.5 py-2 text-sm text-muted">{archived ? texts.chats.noneArchived : texts.chats.none}</p>
      )}
      <div className="mt-auto flex flex-col gap-1 py-2">
        {more && (
          <Button size="sm" variant="ghost" onClick={more}>
            {texts.chats.more}
          </Button>
        )}
        <Button size="sm" variant="ghost" onClick={() => setArchived(!archived)} className="text-muted">
          <Archive aria-hidden className="size-3.5" />
          {archived ? texts.chats.showCurrent : texts.chats.showArchived}
        </Button>
      </div>
    </nav>
  );
}

function ChatItem({ chat }: { chat: Chat }) {
  const [path, navigate] = useLocation();
  const { change } = useChats();
  const [dialog, setDialog] = useState<"rename" | "remove" | null>(null);
  const here = path === `/chats/${chat.id}`;
  const title = chat.title || texts.chats.untitled;
  const icon = "size-4";
  return (
    <li className={cx("group relative flex items-center rounded-lg hover:bg-hover focus-within:bg-hover", here && "bg-hover")}>
      <Link href={`/chats/${chat.id}`} aria-current={here ? "page" : undefined} className="min-w-0 flex-1 truncate rounded-lg px-2.5 py-2 text-sm" title={title}>
        {title}
      </Link>
      <Menu
        label={texts.chats.actions(title)}
        trigger={<Ellipsis aria-hidden className="size-4" />}
        className={cx(
          buttonClass("ghost", "icon-sm"),
          !here && "md:opacity-0 md:group-focus-within:opacity-100 md:group-hover:opacity-100 md:data-popup-open:opacity-100",
        )}
        items={[
          { label: texts.chats.rename, icon: <PenLine aria-hidden className={icon} />, run: () => setDialog("rename") },
          chat.archived
            ? { label: texts.chats.unarchive, icon: <ArchiveRestore aria-hidden className={icon} />, run: () => void change(chat.id, { archived: false }) }
            : { label: texts.chats.archive, icon: <Archive aria-hidden className={icon} />, run: () => void change(chat.id, { archived: true }) },
          { label: texts.chats.remove, icon: <Trash2 aria-hidden className={icon} />, danger: true, run: () => setDialog("remove") },
        ]}
      />
      <Suspense>{dialog && <ChatDialog kind={dialog} chat={chat} close={() => setDialog(null)} removed={() => here && navigate("/")} />}</Suspense>
    </li>
  );
}

const THEMES: Theme[] = ["light", "dark", "system"];
const THEME_ICONS = { light: Sun, dark: Moon, system: SunMoon };

function UserMenu() {
  const { user, signOut } = useSession();
  const [, navigate] = useLocation();
  const theme = useTheme();
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]!;
  const name = user.name || texts.signIn.asGuest;
  const ThemeIcon = THEME_ICONS[theme];
  return (
    <div className="flex items-center gap-1 border-t p-2">
      <Link href="/account" className="flex min-w-0 flex-1 items-center gap-2.5 rounded-lg p-2 text-sm hover:bg-hover">
        <span aria-hidden className="flex size-7 shrink-0 items-center justify-center rounded-full bg-accent text-xs font-semibold text-on-accent uppercase">
          {name.slice(0, 1)}
        </span>
        <span className="truncate">{name}</span>
      </Link>
      <Button
        variant="ghost"
        size="icon-sm"
        aria-label={`${texts.theme.label}: ${texts.theme[theme]}`}
        title={`${texts.theme.label}: ${texts.theme[theme]}`}
        onClick={() => setTheme(next)}
      >
        <ThemeIcon aria-hidden className="size-4" />
      </Button>
      <Menu
        label={texts.more}
        trigger={<Ellipsis aria-hidden className="size-4" />}
        items={[
          { label: texts.account.title, icon: <UserRound aria-hidden className="size-4" />, run: () => navigate("/account") },
          { label: texts.plans.title, icon: <Sparkles aria-hidden className="size-4" />, run: () => navigate("/plans") },
          { label: texts.signIn.out, icon: <LogOut aria-hidden className="size-4" />, run: () => void signOut() },
        ]}
      />
    </div>
  );
}
