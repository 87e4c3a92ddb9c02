import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState, type FormEvent } from "react";

import { api } from "@/api/client";
import { triggersQuery } from "@/api/triggers";
import type { Fired, Trigger, TriggerToken } from "@/api/types";
import { cx } from "@/lib/cx";
import { curlExample, hookURL } from "@/lib/hook";
import { visible } from "@/lib/text";
import { Button, CopyButton, Field, inputClass } from "@/ui/controls";
import { Code, ErrorNote } from "@/ui/display";
import { Dialog, useNotify } from "@/ui/overlay";
import { ShownOnce } from "@/ui/shown-once";
import { May, useMay } from "./may";

const path = (name: string, rest: string): string => `/triggers/${encodeURIComponent(name)}${rest}`;

/** How a trigger is called, its token, which is shown once, and a try by hand. */
export function TriggerDialog({ trigger, onClose }: { trigger: Trigger; onClose: () => void }) {
  const client = useQueryClient();
  const notify = useNotify();
  const refresh = () => void client.invalidateQueries({ queryKey: triggersQuery.queryKey });
  const make = useMutation({ mutationFn: () => api.post<TriggerToken>(path(trigger.name, "/token")), onSuccess: refresh });
  const revoke = useMutation({
    mutationFn: () => api.delete(path(trigger.name, "/token")),
    onSuccess: () => {
      refresh();
      notify.done(`The token of ${visible(trigger.name)} is revoked`);
      onClose();
    },
  });
  const token = make.data?.token;
  const mayWrite = useMay("trigger.write");
  const error = make.error ?? revoke.error;
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
        {error && <ErrorNote error={error} />}
        {token && <ShownOnce label="Token of the trigger">{token}</ShownOnce>}
        <HowToCall name={trigger.name} />
        {!token && (
          <May permission="live.run">
            <FireByHand name={trigger.name} />
          </May>
        )}
        {token ? (
          <div className="flex justify-end">
            <Button tone="primary" onClick={onClose}>
              I have kept it
            </Button>
          </div>
        ) : mayWrite && (
          <div className="flex flex-wrap items-center justify-end gap-2 border-t border-line pt-4">
            {trigger.has_token && <span className="min-w-0 flex-1 text-xs text-fg-3">A new token ends the one that it has at once.</span>}
            {trigger.has_token && (
              <Button tone="danger" busy={revoke.isPending} onClick={() => revoke.mutate()}>
                Revoke the token
              </Button>
            )}
            <Button tone={trigger.has_token ? "danger" : "primary"} icon="secrets" busy={make.isPending} onClick={() => make.mutate()}>
              {trigger.has_token ? "Make a new token" : "Make the token"}
            </Button>
          </div>
        )}
      </div>
    </Dialog>
  );
}

function HowToCall({ name }: { name: string }) {
  const url = hookURL(location.origin, name);
  return (
    <div>
      <div className="mb-1.5 flex items-center gap-2 text-sm">
        <span className="min-w-0 flex-1">
          Address: <span className="font-mono text-xs break-all">{url}</span>
        </span>
        <CopyButton text={url} label="Copy the address" />
      </div>
      <Code label="Example">{curlExample(location.origin, name)}</Code>
      <p className="mt-1.5 text-xs text-fg-3">
        The trigger's resource says where in the payload the node and the parameters stand. The answer, 202, holds the ids of the live query and of the node.
      </p>
    </div>
  );
}

/** Fires it as a payload would, to try a mapping before another system has the token. */
function FireByHand({ name }: { name: string }) {
  const [text, setText] = useState("");
  const fire = useMutation({ mutationFn: (payload: unknown) => api.post<Fired>(path(name, "/fire"), { payload }) });
  const payload = parsed(text);
  const bad = text.trim() !== "" && payload === undefined ? "This is no JSON" : undefined;
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (payload !== undefined) fire.mutate(payload.value);
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-2">
      {fire.error && <ErrorNote error={fire.error} title="It was not fired" />}
      <Field label="Try it with a payload" hint="It asks the node for real" error={bad}>
        {(ids) => (
          <textarea
            {...ids}
            spellCheck={false}
            placeholder={'{"hostname": "web-1.example.com"}'}
            className={cx(inputClass, "h-20 resize-y py-1.5 font-mono text-xs")}
            value={text}
            onChange={(e) => setText(e.target.value)}
          />
        )}
      </Field>
      <div className="flex items-center gap-3">
        <Button type="submit" size="sm" icon="triggers" busy={fire.isPending} disabled={payload === undefined}>
          Fire
        </Button>
        {fire.data && (
          <span className="text-sm text-fg-2" role="status">
            {fire.data.duplicate ? "The same was fired a moment ago: " : "A node is asked: "}
            <Link to="/live/$id" params={{ id: fire.data.live_id }} className="text-accent hover:underline">
              open the live query
            </Link>
          </span>
        )}
      </div>
    </form>
  );
}

function parsed(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch {
    return undefined;
  }
}
