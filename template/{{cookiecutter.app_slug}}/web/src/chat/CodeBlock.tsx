import { Check, Copy } from "lucide-react";
import { lazy, Suspense } from "react";
import { texts } from "../texts";
import { useCopy } from "../lib/useCopy";
import { buttonClass } from "../ui/Button";
import { cx } from "../lib/cx";

/** Colours come when there is code to show; if they cannot be had, code is plain. */
const Highlighted = lazy(() => import("./Highlighted").catch(() => ({ default: ({ code }: { code: string; language: string }) => code })));

/** A block of code with its language, to be copied. */
export function CodeBlock({ code, language }: { code: string; language: string }) {
  const [copied, copy] = useCopy(code.replace(/\n$/, ""));
  const Icon = copied ? Check : Copy;
  return (
    <figure className="overflow-hidden rounded-xl border bg-panel">
      <figcaption className="flex items-center justify-between border-b py-1 pr-1.5 pl-3.5 text-xs text-muted">
        {texts.chat.codeLabel(language)}
        <button type="button" onClick={copy} className={cx(buttonClass("ghost", "sm"), "h-7 text-xs")}>
          <Icon aria-hidden className="size-3.5" />
          {copied ? texts.copied : texts.copy}
        </button>
      </figcaption>
      <pre role="group" aria-label={texts.chat.codeLabel(language)} tabIndex={0} className="overflow-x-auto p-3.5 font-mono text-[0.84rem] leading-relaxed">
        <code>
          <Suspense fallback={code}>
            <Highlighted code={code} language={language} />
          </Suspense>
        </code>
      </pre>
    </figure>
  );
}
