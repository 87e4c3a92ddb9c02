import { createContext, useContext } from "react";

import type { Selector } from "@/api/types";

interface LiveEditor {
  sql: string;
  setSql: (sql: string) => void;
  /** Puts a text with its targets, if it has any, into the editor. */
  load: (sql: string, selector?: Selector) => void;
}

/** The editor above, for what stands below it. */
export const LiveEditorContext = createContext<LiveEditor>({ sql: "", setSql: () => {}, load: () => {} });
export const useLiveEditor = (): LiveEditor => useContext(LiveEditorContext);
