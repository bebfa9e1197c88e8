import type { ReactNode } from "react";

/** A page with a heading, as wide as it reads well. */
export function Page(props: { title: string; hint?: string; actions?: ReactNode; children: ReactNode }) {
  return (
    <div className="h-full overflow-y-auto">
      <div className="mx-auto flex w-full max-w-3xl flex-col gap-6 px-4 pt-16 pb-16 md:px-8 md:pt-10">
        <div className="flex flex-wrap items-start justify-between gap-3">
          <div className="flex flex-col gap-1">
            <h1 className="text-2xl font-semibold">{props.title}</h1>
            {props.hint && <p className="text-muted">{props.hint}</p>}
          </div>
          {props.actions}
        </div>
        {props.children}
      </div>
    </div>
  );
}

/** A part of a page, in a frame of its own. */
export function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section aria-label={title} className="flex flex-col gap-4 rounded-2xl border bg-raised p-5">
      <h2 className="font-semibold">{title}</h2>
      {children}
    </section>
  );
}
