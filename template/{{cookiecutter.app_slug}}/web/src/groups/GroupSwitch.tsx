import { Users } from "lucide-react";
import { Link, useLocation } from "wouter";
import { cx } from "../lib/cx";
import { useGroup } from "../lib/place";
import { buttonClass } from "../ui/Button";
import { texts } from "./texts";
import { useGroups } from "./useGroups";

/** Where chats and documents are looked at: among the user's own, or in a group. */
export default function GroupSwitch() {
  const group = useGroup();
  const [, navigate] = useLocation();
  const { groups } = useGroups();
  const known = groups?.some((each) => each.id === group);
  return (
    <div className="flex items-center gap-1 px-2 pb-2">
      {groups?.length || group ? (
        <select
          aria-label={texts.place}
          value={group ?? ""}
          onChange={(event) => navigate(event.target.value ? `~/in/${event.target.value}/` : "~/")}
          className="h-9 min-w-0 flex-1 rounded-lg border bg-raised px-2 text-sm"
        >
          <option value="">{texts.mine}</option>
          {group && !known && <option value={group}>…</option>}
          {groups?.map((each) => (
            <option key={each.id} value={each.id}>
              {each.name}
            </option>
          ))}
        </select>
      ) : null}
      <Link
        href="~/groups"
        className={cx(groups?.length ? buttonClass("ghost", "icon-sm") : "flex flex-1 items-center gap-2.5 rounded-lg px-2.5 py-2 text-sm hover:bg-hover")}
        aria-label={texts.title}
        title={texts.title}
      >
        <Users aria-hidden className="size-4" />
        {!groups?.length && texts.title}
      </Link>
    </div>
  );
}
