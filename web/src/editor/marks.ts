import { StateEffect, StateField, type Extension, type Text } from "@codemirror/state";
import { Decoration, EditorView, hoverTooltip, type DecorationSet } from "@codemirror/view";

import { visible } from "@/lib/text";
import type { Mark } from "./findings";

const setMarks = StateEffect.define<Mark[]>();

/** What is marked; it moves with the text until the next marks come. */
const marked = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update(old, tr) {
    for (const effect of tr.effects) if (effect.is(setMarks)) return decorate(effect.value, tr.newDoc);
    return old.map(tr.changes);
  },
  provide: (field) => EditorView.decorations.from(field),
});

function decorate(marks: Mark[], doc: Text): DecorationSet {
  return Decoration.set(
    marks
      .filter((m) => m.from < m.to && m.to <= doc.length)
      .map((m) => Decoration.mark({ class: `cm-found cm-found-${m.severity}`, message: m.message, severity: m.severity }).range(m.from, m.to)),
    true,
  );
}

const onHover = hoverTooltip((view, pos, side) => {
  const messages: HTMLElement[] = [];
  let [from, to] = [pos, pos];
  view.state.field(marked).between(pos, pos, (start, end, { spec }) => {
    if ((start === pos && side < 0) || (end === pos && side > 0)) return;
    const { message, severity } = spec as { message: string; severity: string };
    const line = document.createElement("li");
    line.className = `cm-found-line cm-found-line-${severity}`;
    line.textContent = visible(message);
    messages.push(line);
    [from, to] = [Math.min(from, start), Math.max(to, end)];
  });
  if (messages.length === 0) return null;
  return {
    pos: from,
    end: to,
    above: true,
    create: () => {
      const dom = document.createElement("ul");
      dom.className = "cm-found-tip";
      dom.append(...messages);
      return { dom };
    },
  };
});

const squiggle = (colour: string) => ({
  textDecoration: `underline wavy var(${colour}) 1px`,
  textUnderlineOffset: "3px",
  textDecorationSkipInk: "none",
});

const look = EditorView.theme({
  ".cm-found-refused": { ...squiggle("--bad-fill"), backgroundColor: "var(--bad-soft)" },
  ".cm-found-warning": squiggle("--warn-fill"),
  ".cm-found-note": squiggle("--info-fill"),
  ".cm-found-tip": { padding: "6px 10px", maxWidth: "420px", fontSize: "12px", lineHeight: "1.5", fontFamily: "var(--font-sans)" },
  ".cm-found-line": { overflowWrap: "anywhere" },
  ".cm-found-line-refused": { color: "var(--bad)" },
  ".cm-found-line-warning": { color: "var(--warn)" },
});

/** Shows marks in the text, with what they say on hover. */
export const marks: Extension = [marked, onHover, look];

export function showMarks(view: EditorView, list: Mark[]): void {
  view.dispatch({ effects: setMarks.of(list) });
}
