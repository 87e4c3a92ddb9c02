import { useQuery } from "@tanstack/react-query";

import { rolesQuery } from "@/api/people";
import { Agent, visible } from "@/lib/text";
import { Checkbox } from "@/ui/controls";
import { Badge, ErrorNote, Loading } from "@/ui/display";

/** Which roles somebody has. One that is gone can be taken away, and not given. */
export function RoleChoice({ value, onChange }: { value: string[]; onChange: (roles: string[]) => void }) {
  const { data, error } = useQuery(rolesQuery);
  if (error && !data) return <ErrorNote error={error} title="The roles could not be loaded" />;
  if (!data) return <Loading lines={3} />;
  const gone = value.filter((name) => !data.some((r) => r.name === name));
  const toggle = (name: string, on: boolean) => onChange(on ? [...value, name] : value.filter((r) => r !== name));
  return (
    <fieldset className="flex flex-col gap-2">
      <legend className="mb-1.5 text-xs font-medium text-fg-2">Roles</legend>
      {[...data, ...gone.map((name) => ({ name, description: "There is no such role any more: it gives nothing.", built_in: true }))].map((r) => (
        <label key={r.name} className="flex items-start gap-2.5 text-sm">
          <Checkbox label={visible(r.name)} checked={value.includes(r.name)} onChange={(on) => toggle(r.name, on)} />
          <span className="-mt-0.5 min-w-0">
            <Agent className="font-medium">{r.name}</Agent> {!r.built_in && <Badge>your own</Badge>}
            <Agent className="block text-xs break-words text-fg-3">{r.description}</Agent>
          </span>
        </label>
      ))}
    </fieldset>
  );
}
