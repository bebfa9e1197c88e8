import type { Element, ElementContent, Root, RootContent } from "hast";
import { type ComponentProps, type ReactNode, useState } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { CodeBlock } from "./CodeBlock";
import { OutsideLink } from "./OutsideLink";
import { CitationMark } from "./Passage";
import type { Citation } from "./types";

const CITATION = /\[(\d{1,4})\]/;

/** Turn `[1]` into an element of its own wherever it is text, but not in code or in a link. */
function splitCitations<Node extends RootContent | ElementContent>(children: Node[]): (Node | ElementContent)[] {
  return children.flatMap((node): (Node | ElementContent)[] => {
    if (node.type === "element") {
      if (!["code", "pre", "a"].includes(node.tagName)) node.children = splitCitations(node.children);
      return [node];
    }
    if (node.type !== "text" || !CITATION.test(node.value)) return [node];
    return node.value.split(CITATION).map((value, index): ElementContent => {
      if (index % 2 === 0) return { type: "text", value };
      return { type: "element", tagName: "sup", properties: { dataNumber: value }, children: [{ type: "text", value: `[${value}]` }] };
    });
  });
}

const citationMarks = () => (tree: Root) => {
  tree.children = splitCitations(tree.children);
};

const REMARK = [remarkGfm];
const REHYPE = [citationMarks];

/** Only addresses that lead somewhere: no `javascript:`, no `data:`, none of a path of this page. */
function safeUrl(url: string): string {
  try {
    return ["http:", "https:", "mailto:"].includes(new URL(url).protocol) ? url : "";
  } catch {
    return "";
  }
}

/** An image of another host, which would tell that host that the answer is read: it is loaded after a click alone. */
function OutsideImage({ src, alt }: { src?: string; alt?: string }) {
  const [shown, setShown] = useState(false);
  if (!src) return alt;
  if (shown) return <img src={src} alt={alt ?? ""} referrerPolicy="no-referrer" className="max-h-96 rounded-lg" />;
  return (
    <Button size="sm" onClick={() => setShown(true)}>
      {texts.chat.imageHidden(new URL(src).host)}
      {alt ? `: ${alt}` : ""}
    </Button>
  );
}

function textOf(node: Element | ElementContent | undefined): string {
  if (!node) return "";
  if (node.type === "text") return node.value;
  return node.type === "element" ? node.children.map(textOf).join("") : "";
}

function languageOf(node: Element | undefined): string {
  const code = node?.children.find((child): child is Element => child.type === "element" && child.tagName === "code");
  const names = code?.properties.className;
  const name = Array.isArray(names) ? names.find((each) => String(each).startsWith("language-")) : undefined;
  return name ? String(name).slice("language-".length) : "";
}

function components(citations: Citation[]): Components {
  return {
    a: ({ href, children }) => (href ? <OutsideLink href={href}>{children}</OutsideLink> : <>{children}</>),
    img: ({ src, alt }) => <OutsideImage src={typeof src === "string" ? src : undefined} alt={alt} />,
    pre: ({ node }) => <CodeBlock code={textOf(node)} language={languageOf(node)} />,
    table: ({ children }: { children?: ReactNode }) => (
      <div role="group" aria-label={texts.chat.table} tabIndex={0} className="overflow-x-auto">
        <table>{children}</table>
      </div>
    ),
    input: ({ checked }: ComponentProps<"input">) => <input type="checkbox" checked={!!checked} disabled aria-label={texts.chat.task} />,
    sup: ({ node, children }) => {
      const number = Number(node?.properties.dataNumber);
      const citation = citations.find((each) => each.number === number);
      return citation ? <CitationMark citation={citation} /> : <sup>{children}</sup>;
    },
  };
}

/** A model's or a document's Markdown. No HTML of it is ever used. */
export default function Markdown({ text, citations }: { text: string; citations: Citation[] }) {
  return (
    <ReactMarkdown remarkPlugins={REMARK} rehypePlugins={REHYPE} skipHtml urlTransform={safeUrl} components={components(citations)}>
      {text}
    </ReactMarkdown>
  );
}
