import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { nodeConfigQuery } from "@/api/queries";
import type { ConfigSource, Key, NodeConfig, NodeDetail } from "@/api/types";
import { Agent, visible } from "@/lib/text";
import { CopyButton } from "@/ui/controls";
import { Badge, Card, Code, ErrorNote, Facts, Loading, Notice } from "@/ui/display";

/** What the node is to run, where each part comes from, and whether it runs it. */
export function ConfigTab({ node }: { node: NodeDetail }) {
  const { data, error, refetch } = useQuery(nodeConfigQuery(node.id));
  if (error) return <ErrorNote error={error} title="The config could not be loaded" onRetry={() => void refetch()} />;
  if (!data) return <Loading />;
  const text = JSON.stringify(data.config, null, 2);
  return (
    <div className="flex flex-col gap-4">
      {data.bare && <Notice>It gets the settings alone, and nothing to run: {data.bare}.</Notice>}
      {data.on_disk && <Notice>The node takes its config from files; the server answers it an empty one. Below is what the files should hold.</Notice>}
      <Card title="Served">
        <Facts
          items={[
            ["Revision", data.revision],
            ["Hash", <span key="h" className="font-mono text-xs break-all">{data.hash}</span>],
            ["Reported", <Reported key="r" config={data} />],
          ]}
        />
      </Card>
      {data.sources.length > 0 && <Sources sources={data.sources} />}
      <Card title="Config" actions={<CopyButton text={text} />}>
        <Code label="Config as served" className="max-h-[60vh]">
          {visibleKeepingLines(text)}
        </Code>
      </Card>
    </div>
  );
}

/** What the node itself says that it runs. */
function Reported({ config: c }: { config: NodeConfig }) {
  if (!c.reported) return <span className="text-fg-3">The node has not told yet which config it runs.</span>;
  if (c.reported === c.hash) return <Badge tone="ok">the node runs it</Badge>;
  return (
    <span className="flex flex-wrap items-center gap-2">
      <Badge tone="warn">the node runs another one</Badge>
      <Agent className="font-mono text-xs break-all">{c.reported}</Agent>
    </span>
  );
}

function Sources({ sources }: { sources: ConfigSource[] }) {
  return (
    <Card title="Sources" flush actions={<Link to="/changes" className="text-xs font-medium text-accent hover:underline">Changes</Link>}>
      <div className="max-h-96 overflow-auto" tabIndex={0} aria-label="Sources of the config">
        <table className="w-full table-fixed text-sm" aria-label="Sources">
          <thead className="sticky top-0 bg-surface">
            <tr className="h-8 border-b border-line text-left text-xs text-fg-3 [&>th]:px-4 [&>th]:font-medium">
              <th>Part</th>
              <th className="w-[30%]">From</th>
              <th className="w-[30%]">Over</th>
            </tr>
          </thead>
          <tbody>
            {sources.map((s) => (
              <tr key={s.path} className="h-8 border-b border-line/70 last:border-0 hover:bg-hover [&>td]:px-4">
                <td className="truncate" title={visible(s.path)}>
                  <Agent className="font-mono text-xs">{s.path}</Agent>
                </td>
                <td className="truncate">
                  <Agent className="font-mono text-xs">{keyText(s.source)}</Agent>
                </td>
                <td className="truncate text-fg-3">
                  <Agent className="font-mono text-xs">{s.lost?.map(keyText).join(", ")}</Agent>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Card>
  );
}

const keyText = (k: Key): string => `${k.kind}/${k.name}`;

const visibleKeepingLines = (text: string): string => text.split("\n").map(visible).join("\n");
