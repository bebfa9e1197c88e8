import type { RootContent } from "hast";
import { common, createLowlight } from "lowlight";
import { type ReactNode, useMemo } from "react";

const lowlight = createLowlight(common);

/** Longer code stays plain, so that a page never waits for its colours. In characters. */
const MOST = 30_000;

/** Code in colours where its language is known. It becomes elements, and never HTML. */
export default function Highlighted({ code, language }: { code: string; language: string }) {
  return useMemo(() => {
    if (code.length > MOST || !lowlight.registered(language)) return code;
    return lowlight.highlight(language, code).children.map(shown);
  }, [code, language]);
}

function shown(node: RootContent, index: number): ReactNode {
  if (node.type === "text") return node.value;
  if (node.type !== "element") return null;
  const names = node.properties.className;
  return (
    <span key={index} className={Array.isArray(names) ? names.join(" ") : undefined}>
      {node.children.map(shown)}
    </span>
  );
}
