import type { DynamicToolUIPart, ToolUIPart } from "ai";
import { Check, LoaderCircle, Wrench, X } from "lucide-react";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { Fold } from "../ui/Fold";
import type { ConversationState } from "./useConversation";

type ToolPart = ToolUIPart | DynamicToolUIPart;

/** A call of a tool: what it was called with and gave, or the question whether it may be called. */
export function ToolCall(props: { part: ToolPart; name: string; chat: ConversationState; running: boolean }) {
  const { part } = props;
  const name = props.name.replaceAll("_", " ");
  if (part.state === "approval-requested") {
    const decide = (approved: boolean) => void props.chat.addToolApprovalResponse({ id: part.approval.id, approved });
    return (
      <section aria-label={texts.tools.asks(name)} className="flex flex-col gap-3 rounded-xl border bg-panel p-4">
        <p className="flex items-center gap-2 text-sm font-medium">
          <Wrench aria-hidden className="size-4" />
          {texts.tools.asks(name)}
        </p>
        <Values label={texts.tools.input} value={part.input} />
        <div className="flex gap-2">
          <Button size="sm" variant="primary" onClick={() => decide(true)}>
            {texts.tools.allow}
          </Button>
          <Button size="sm" onClick={() => decide(false)}>
            {texts.tools.deny}
          </Button>
        </div>
      </section>
    );
  }
  return (
    <Fold title={<Title part={part} name={name} running={props.running} />}>
      <div className="flex flex-col gap-3 py-1">
        <Values label={texts.tools.input} value={part.input} />
        {part.state === "output-available" && <Values label={texts.tools.output} value={part.output} />}
        {part.state === "output-error" && <p>{part.errorText}</p>}
      </div>
    </Fold>
  );
}

function Title({ part, name, running }: { part: ToolPart; name: string; running: boolean }) {
  const done = part.state === "output-available";
  const failed = part.state === "output-error";
  const denied = part.state === "output-denied" || (part.state === "approval-responded" && !part.approval.approved);
  if (done) return <><Check aria-hidden className="size-3.5" />{texts.tools.done(name)}</>;
  if (failed) return <><X aria-hidden className="size-3.5" />{texts.tools.failed(name)}</>;
  if (denied) return <><X aria-hidden className="size-3.5" />{texts.tools.denied(name)}</>;
  return <>{running && <LoaderCircle aria-hidden className="size-3.5 animate-spin" />}{texts.tools.running(name)}</>;
}

function Values({ label, value }: { label: string; value: unknown }) {
  if (value === undefined || value === null) return null;
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return (
    <div className="flex flex-col gap-1">
      <span className="text-xs font-medium">{label}</span>
      <pre role="group" aria-label={label} tabIndex={0} className="max-h-60 overflow-auto rounded-lg bg-hover p-2.5 font-mono text-xs whitespace-pre-wrap text-text [overflow-wrap:anywhere]">
        {text}
      </pre>
    </div>
  );
}
