import { exportHref, type ExportFormat } from "@/api/live";
import { Button } from "@/ui/controls";
import { Menu } from "@/ui/overlay";

const formats: [ExportFormat, string][] = [
  ["csv", "CSV"],
  ["json", "JSON"],
  ["ndjson", "NDJSON"],
];

/** Fetches a file that the server writes, with everything that it knows. */
function fetchFile(href: string): void {
  const a = document.createElement("a");
  a.href = href;
  a.download = ""; // the server names it
  a.click();
}

interface ExportMenuProps {
  id: string;
  what: "rows" | "nodes";
  state?: string;
  where?: string;
  disabled?: boolean;
  note: string;
}

export function ExportMenu({ id, what, state, where, disabled, note }: ExportMenuProps) {
  const more = { ...(state ? { state } : {}), ...(where ? { where } : {}) };
  return (
    <Menu
      trigger={
        <Button size="sm" icon="download" disabled={disabled}>
          Export
        </Button>
      }
      header={note}
      items={formats.map(([format, label]) => ({ label, onSelect: () => fetchFile(exportHref(id, what, format, more)) }))}
    />
  );
}
