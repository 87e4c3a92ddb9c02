import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";

import { carveFilesQuery } from "@/api/carves";
import type { Archive, ArchivedFile } from "@/api/types";
import { formatBytes, formatCount, formatTime, plural } from "@/lib/format";
import { useDebounced } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { SearchInput } from "@/ui/controls";
import { DataGrid, type GridColumn, type GridSort } from "@/ui/data-grid";
import { Badge, Empty, ErrorNote, Loading } from "@/ui/display";

interface Line extends ArchivedFile {
  n: number;
}

const columns: GridColumn<Line>[] = [
  {
    id: "path",
    header: "Path",
    width: "minmax(260px, 3fr)",
    sortable: true,
    cell: (f) => (
      <span title={visible(f.path)}>
        {f.odd && (
          <span className="mr-1.5">
            <Badge tone="warn" title={visible(f.odd)}>
              odd
            </Badge>
          </span>
        )}
        <Agent className="font-mono text-xs">{f.path}</Agent>
        {f.link && (
          <span className="text-fg-3">
            {" → "}
            <Agent className="font-mono text-xs">{f.link}</Agent>
          </span>
        )}
      </span>
    ),
  },
  { id: "type", header: "Type", width: "96px", cell: (f) => <Agent className="text-fg-2">{f.type}</Agent> },
  { id: "size", header: "Size", width: "110px", align: "right", sortable: true, cell: (f) => <span title={plural(f.size, "byte")}>{formatBytes(f.size)}</span> },
  { id: "mode", header: "Mode", width: "110px", cell: (f) => <Agent className="font-mono text-xs text-fg-2">{String(f.mode)}</Agent> },
  { id: "modified", header: "Modified", width: "180px", sortable: true, cell: (f) => <span className="tnum text-fg-2">{formatTime(f.modified)}</span> },
];

const compare: Record<string, (a: Line, b: Line) => number> = {
  path: (a, b) => (a.path < b.path ? -1 : 1),
  size: (a, b) => a.size - b.size,
  modified: (a, b) => Date.parse(a.modified ?? "") - Date.parse(b.modified ?? ""),
};

/** What is in an archive. The server lists only so many files; the archive has them all. */
export function CarveFiles({ id, archive }: { id: string; archive: Archive }) {
  const { data, error, refetch } = useQuery(carveFilesQuery(id, archive.n));
  const [text, setText] = useState("");
  const [sort, setSort] = useState<GridSort | undefined>();
  const word = useDebounced(text.trim().toLowerCase(), 120);
  const lines = useMemo(() => (data?.files ?? []).map((f, n): Line => ({ ...f, n })), [data]);
  const shown = useMemo(() => {
    const found = word ? lines.filter((f) => f.path.toLowerCase().includes(word)) : lines;
    const by = sort && compare[sort.id];
    return by ? found.toSorted((a, b) => (sort.desc ? by(b, a) : by(a, b))) : found;
  }, [lines, word, sort]);
  if (error) {
    return (
      <div className="p-4">
        <ErrorNote error={error} title="The archive could not be listed; it can still be downloaded" onRetry={() => void refetch()} />
      </div>
    );
  }
  if (!data) return <Loading />;
  return (
    <div className="flex h-full flex-col">
      <div className="flex shrink-0 items-center gap-3 border-b border-line px-3 py-2">
        <SearchInput label="Search the files" placeholder="Search paths" className="w-72" value={text} onChange={(e) => setText(e.target.value)} />
        <span className="tnum text-xs text-fg-3" role="status">
          {word ? `${formatCount(shown.length)} of ${plural(lines.length, "file")}` : plural(lines.length, "file")}
        </span>
        {data.truncated && <span className="text-xs text-warn">The list is cut off here; the archive has more.</span>}
      </div>
      <div className="min-h-0 flex-1">
        <DataGrid
          label="Files"
          columns={columns}
          rows={shown}
          rowKey={(f) => f.n}
          rowHeight={32}
          sort={sort}
          onSort={(by) => setSort((old) => (old?.id !== by ? { id: by, desc: false } : old.desc ? undefined : { id: by, desc: true }))}
          empty={<Empty icon="filter" title={word ? "No file matches" : "The archive is empty"} />}
        />
      </div>
    </div>
  );
}
