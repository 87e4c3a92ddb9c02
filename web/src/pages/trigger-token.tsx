import { useMutation, useQueryClient } from "@tanstack/react-query";

import { api } from "@/api/client";
import { triggersQuery } from "@/api/triggers";
import type { Trigger, TriggerToken } from "@/api/types";
import { curlExample, hookURL } from "@/lib/hook";
import { Agent, visible } from "@/lib/text";
import { Button, CopyButton } from "@/ui/controls";
import { Code, ErrorNote, Notice } from "@/ui/display";
import { Dialog } from "@/ui/overlay";

/** Makes a trigger's token, then shows it, once, with how to call the trigger. */
export function TriggerDialog({ trigger, onClose }: { trigger: Trigger; onClose: () => void }) {
  const client = useQueryClient();
  const make = useMutation({
    mutationFn: () => api.post<TriggerToken>(`/triggers/${encodeURIComponent(trigger.name)}/token`),
    onSuccess: () => void client.invalidateQueries({ queryKey: triggersQuery.queryKey }),
  });
  const token = make.data?.token;
  return (
    <Dialog
      open
      onOpenChange={(open) => !open && onClose()}
      title={`Trigger ${visible(trigger.name)}`}
      description={token ? undefined : "Whoever has its token can ask a node what the trigger's template says, and nothing else."}
      wide
      locked={token !== undefined}
    >
      <div className="flex flex-col gap-4">
        {make.error && <ErrorNote error={make.error} title="The token was not made" />}
        {token ? (
          <>
            <Notice>Only a hash of it is stored: this is the one time that it is shown.</Notice>
            <div className="flex items-center gap-2">
              <output aria-label="Token of the trigger" className="min-w-0 flex-1 rounded-md border border-line bg-sunken px-3 py-1.5 font-mono text-sm break-all">
                {token}
              </output>
              <CopyButton text={token} size="md" />
            </div>
          </>
        ) : (
          trigger.has_token && <Notice>It has a token. A new one ends it at once: whoever calls with the old one is refused.</Notice>
        )}
        <div>
          <div className="mb-1.5 flex items-center gap-2 text-sm">
            <span className="min-w-0 flex-1">
              Address: <Agent className="font-mono text-xs break-all">{hookURL(location.origin, trigger.name)}</Agent>
            </span>
            <CopyButton text={hookURL(location.origin, trigger.name)} label="Copy the address" />
          </div>
          <Code label="Example">{curlExample(location.origin, trigger.name)}</Code>
          <p className="mt-1.5 text-xs text-fg-3">
            The trigger's resource says where in the payload the node is named. The answer, 202, holds the ids of the live query and of the node.
          </p>
        </div>
        <div className="flex justify-end gap-2">
          {token ? (
            <Button tone="primary" onClick={onClose}>
              I have kept it
            </Button>
          ) : (
            <>
              <Button onClick={onClose}>Close</Button>
              <Button tone={trigger.has_token ? "danger" : "primary"} busy={make.isPending} onClick={() => make.mutate()}>
                {trigger.has_token ? "Make a new token" : "Make the token"}
              </Button>
            </>
          )}
        </div>
      </div>
    </Dialog>
  );
}
