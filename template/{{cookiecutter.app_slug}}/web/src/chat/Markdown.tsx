import ReactMarkdown from "react-markdown";
import remarkGfm from "remark-gfm";

const PLUGINS = [remarkGfm];

/** A model's or a document's Markdown. No HTML of it is ever used. */
export default function Markdown({ text }: { text: string }) {
  return (
    <ReactMarkdown remarkPlugins={PLUGINS} skipHtml>
      {text}
    </ReactMarkdown>
  );
}
