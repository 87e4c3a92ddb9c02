import type { ReactNode } from "react";

// What agents send is hostile. React escapes markup; these also make visible
// what could hide or reorder text: control characters, zero-width characters
// and bidirectional overrides.
const suspicious =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/;
const each = new RegExp(suspicious.source, "gu");

const names: Record<string, string> = { "\n": "⏎", "\t": "⇥", "\r": "␍", "\u0000": "␀", "\u001b": "␛" };

/** How one character is written when it must not act. */
export function charLabel(char: string): string {
  return names[char] ?? `U+${char.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** The text with characters that could mislead written out, as a plain string. */
export function visible(text: string): string {
  return suspicious.test(text) ? text.replace(each, (char) => `⟨${charLabel(char)}⟩`) : text;
}

/** An agent's text on the screen, isolated, with misleading characters marked. */
export function Agent({ children, className }: { children: string | undefined | null; className?: string }): ReactNode {
  const text = children ?? "";
  const classes = className ? `agent-text ${className}` : "agent-text";
  if (!suspicious.test(text)) return <span className={classes}>{text}</span>;
  const parts: ReactNode[] = [];
  let last = 0;
  for (const match of text.matchAll(each)) {
    if (match.index > last) parts.push(text.slice(last, match.index));
    const code = `U+${match[0].codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}`;
    parts.push(
      <span key={match.index} className="ctrl-char" title={`Character ${code}`}>
        {charLabel(match[0])}
      </span>,
    );
    last = match.index + match[0].length;
  }
  if (last < text.length) parts.push(text.slice(last));
  return <span className={classes}>{parts}</span>;
}

/** A text of several lines that somebody sent: line breaks act, nothing else does. */
export function Lines({ children, className }: { children: string; className?: string }): ReactNode {
  return (
    <span className={className ? `block whitespace-pre-wrap ${className}` : "block whitespace-pre-wrap"}>
      {children.split("\n").map((line, i) => (
        <span key={i}>
          {i > 0 && "\n"}
          <Agent>{line}</Agent>
        </span>
      ))}
    </span>
  );
}
