import { acceptCompletion, autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentLess, insertTab } from "@codemirror/commands";
import { sql, SQLDialect } from "@codemirror/lang-sql";
import { bracketMatching, HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { EditorState } from "@codemirror/state";
import { drawSelection, EditorView, highlightSpecialChars, keymap, lineNumbers, placeholder } from "@codemirror/view";
import { tags as t } from "@lezer/highlight";
import { useEffect, useEffectEvent, useImperativeHandle, useRef, type Ref } from "react";

import { osqueryCompletion, type Schema } from "./completion";
import type { Mark } from "./findings";
import { marks, showMarks } from "./marks";

const look = EditorView.theme({
  "&": { fontSize: "13px", backgroundColor: "var(--surface)", color: "var(--text)", height: "100%" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--font-mono)", lineHeight: "1.6", fontVariantLigatures: "none" },
  ".cm-content": { padding: "10px 0", caretColor: "var(--text)" },
  ".cm-line": { padding: "0 14px 0 6px" },
  ".cm-gutters": { backgroundColor: "transparent", color: "var(--text-3)", border: "none", minWidth: "2.6rem" },
  ".cm-lineNumbers .cm-gutterElement": { padding: "0 8px 0 12px", fontSize: "11px", lineHeight: "20.8px" },
  ".cm-cursor": { borderLeftColor: "var(--text)", borderLeftWidth: "1.5px" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    background: "color-mix(in oklab, var(--accent) 26%, transparent)",
  },
  ".cm-matchingBracket": { backgroundColor: "var(--accent-soft)", outline: "1px solid var(--border-strong)" },
  ".cm-placeholder": { color: "var(--text-3)" },
  ".cm-specialChar": { color: "var(--warn)" },
  ".cm-tooltip": {
    backgroundColor: "var(--raised)",
    color: "var(--text)",
    border: "1px solid var(--border-strong)",
    borderRadius: "8px",
    boxShadow: "var(--shadow-pop)",
    overflow: "hidden",
  },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: "var(--font-mono)", fontSize: "12px", maxHeight: "16em", padding: "4px" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li": { padding: "3px 8px", borderRadius: "4px", lineHeight: "18px" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li[aria-selected]": { backgroundColor: "var(--selected)", color: "var(--text)" },
  ".cm-completionDetail": { color: "var(--text-3)", fontStyle: "normal", fontSize: "11px", marginLeft: "12px" },
  ".cm-completionMatchedText": { textDecoration: "none", color: "var(--accent)", fontWeight: "600" },
  ".cm-tooltip.cm-completionInfo": { padding: "8px 10px", maxWidth: "300px", fontSize: "12px", lineHeight: "1.5", fontFamily: "var(--font-sans)" },
  ".cm-completionIcon": { width: "1.2em", opacity: "0.75", color: "var(--text-3)" },
  ".cm-completionIcon-table::after": { content: "'▦'" },
  ".cm-completionIcon-column::after": { content: "'▪'" },
});

const colours = HighlightStyle.define([
  { tag: [t.keyword, t.operatorKeyword], color: "var(--syn-keyword)", fontWeight: "500" },
  { tag: [t.string, t.special(t.string)], color: "var(--syn-string)" },
  { tag: [t.number, t.bool, t.null], color: "var(--syn-number)" },
  { tag: [t.lineComment, t.blockComment], color: "var(--syn-comment)", fontStyle: "italic" },
  { tag: [t.typeName, t.standard(t.name)], color: "var(--syn-type)" },
]);

// SQLite's words that can stand in a query. The library's own list has many
// more, among them names of osquery's columns such as path.
const dialect = SQLDialect.define({
  keywords:
    "all and as asc between by case cast collate cross current_date current_time current_timestamp desc distinct else end escape except exists explain filter following from full glob group having in indexed inner intersect is isnull join left like limit match natural not notnull null nulls offset on or order outer over partition preceding range recursive regexp right rows select then unbounded union using values when where window with",
  types: "blob integer numeric real text",
  operatorChars: "*+-%<>!=&|/~",
  identifierQuotes: "`\"",
  specialVar: "@:?$",
  doubleQuotedStrings: false,
  slashComments: false,
});

export interface SqlEditorHandle {
  focus: () => void;
  insert: (text: string) => void;
}

interface SqlEditorProps {
  value: string;
  onChange: (sql: string) => void;
  onCursor: (pos: number) => void;
  onRun: () => void;
  schema: Schema | undefined;
  /** What is found in the text, once that is known of this very text. */
  found: Mark[] | undefined;
  ref?: Ref<SqlEditorHandle>;
}

export function SqlEditor({ value, onChange, onCursor, onRun, schema, found, ref }: SqlEditorProps) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const initial = useRef(value);
  const schemaRef = useRef(schema);
  schemaRef.current = schema;
  const changed = useEffectEvent(onChange);
  const moved = useEffectEvent(onCursor);
  const run = useEffectEvent(onRun);

  useEffect(() => {
    const editor = new EditorView({
      parent: host.current!,
      state: EditorState.create({
        doc: initial.current,
        selection: { anchor: initial.current.length },
        extensions: [
          keymap.of([
            { key: "Mod-Enter", run: () => (run(), true) },
            { key: "Tab", run: (v) => acceptCompletion(v) || (v.state.doc.length > 0 && !v.state.selection.main.empty ? insertTab(v) : false) },
            { key: "Shift-Tab", run: (v) => !v.state.selection.main.empty && indentLess(v) },
          ]),
          lineNumbers(),
          highlightSpecialChars(),
          history(),
          drawSelection(),
          bracketMatching(),
          closeBrackets(),
          EditorView.lineWrapping,
          sql({ dialect }),
          autocompletion({ override: [osqueryCompletion(() => schemaRef.current)], maxRenderedOptions: 80, activateOnTypingDelay: 40 }),
          syntaxHighlighting(colours),
          placeholder("SELECT … FROM …"),
          look,
          marks,
          EditorView.contentAttributes.of({ "aria-label": "SQL", "data-page-search": "", spellcheck: "false", autocapitalize: "off" }),
          keymap.of([...closeBracketsKeymap, ...completionKeymap, ...historyKeymap, ...defaultKeymap]),
          EditorView.updateListener.of((u) => {
            if (u.docChanged) changed(u.state.doc.toString());
            if (u.docChanged || u.selectionSet) moved(u.state.selection.main.head);
          }),
        ],
      }),
    });
    view.current = editor;
    moved(editor.state.selection.main.head);
    return () => {
      initial.current = editor.state.doc.toString();
      editor.destroy();
      view.current = null;
    };
  }, []);

  // A text that came from elsewhere, such as the history, replaces what is there.
  useEffect(() => {
    const editor = view.current;
    if (editor && value !== editor.state.doc.toString()) {
      editor.dispatch({ changes: { from: 0, to: editor.state.doc.length, insert: value }, selection: { anchor: value.length } });
    }
  }, [value]);

  useEffect(() => {
    if (view.current && found) showMarks(view.current, found);
  }, [found]);

  useImperativeHandle(ref, () => ({
    focus: () => view.current?.focus(),
    insert: (text) => {
      const editor = view.current;
      if (!editor) return;
      const { from, to } = editor.state.selection.main;
      editor.dispatch({ changes: { from, to, insert: text }, selection: { anchor: from + text.length } });
      editor.focus();
    },
  }));

  return <div ref={host} className="h-full min-h-0 overflow-hidden rounded-t-lg" />;
}
