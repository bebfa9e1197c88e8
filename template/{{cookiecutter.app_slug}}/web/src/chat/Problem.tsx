import { Link } from "wouter";
import type { ApiError } from "../api/errors";
import { when } from "../lib/format";
import { useSecondsUntil } from "../lib/useSecondsUntil";
import { useSession } from "../session/session";
import { texts } from "../texts";
import { Button, buttonClass } from "../ui/Button";
import { Notice } from "../ui/Notice";
import type { ConversationState } from "./useConversation";

const SPENT = ["budget_exceeded", "app_budget_exceeded", "credit_exceeded"];

/** Why the latest message was not answered, and what the user can do. */
export function Problem({ chat, problem }: { chat: ConversationState; problem: ApiError }) {
  const again = () => void chat.again();
  if (SPENT.includes(problem.code)) return <Spent problem={problem} again={again} />;
  if (problem.retryAt) return <Later problem={problem} again={again} />;
  return (
    <Notice kind="danger" actions={<Again run={again} />}>
      {explain(problem)}
    </Notice>
  );
}

/** The problem in the page's words where it has some, else in the service's. */
function explain({ code, message }: ApiError): string {
  const known: Record<string, string> = texts.problems;
  return known[code] ?? (message || texts.chat.failed);
}

function Again({ run, disabled }: { run: () => void; disabled?: boolean }) {
  return (
    <Button size="sm" disabled={disabled} onClick={run}>
      {texts.retry}
    </Button>
  );
}

/** A limit that ends soon, with the seconds until then. */
function Later({ problem, again }: { problem: ApiError; again: () => void }) {
  const seconds = useSecondsUntil(problem.retryAt!);
  const minute = problem.code === "rate_limited";
  const told = minute ? texts.limits.minute(seconds) : `${explain(problem)} ${texts.limits.again(seconds)}`;
  return (
    <Notice kind="warn" actions={<Again run={again} disabled={seconds > 0} />}>
      {seconds > 0 ? <span aria-live="off">{told}</span> : texts.limits.ready}
    </Notice>
  );
}

/** A budget that does not cover an answer: when it begins anew, and the way to a larger one. */
function Spent({ problem, again }: { problem: ApiError; again: () => void }) {
  const { config, user } = useSession();
  const time = problem.retryAt ? when(new Date(problem.retryAt)) : "";
  const told = problem.code === "credit_exceeded" ? texts.limits.credit : problem.code === "budget_exceeded" ? texts.limits.day(time) : texts.limits.app(time);
  const sells = problem.code !== "app_budget_exceeded" && (config.top_ups.length > 0 || config.plans.some((plan) => plan.for_sale));
  return (
    <Notice
      kind="warn"
      actions={
        <>
          <Again run={again} />
          {sells && (
            <Link href="/plans" className={buttonClass("primary", "sm")}>
              {user.guest ? texts.signIn.signUp : texts.limits.upgrade}
            </Link>
          )}
        </>
      }
    >
      {told}
    </Notice>
  );
}
