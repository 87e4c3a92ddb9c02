import type { ButtonHTMLAttributes, ComponentProps, InputHTMLAttributes, ReactNode } from "react";
import { useEffect, useId, useState } from "react";
import { Checkbox as RadixCheckbox, Select as RadixSelect } from "radix-ui";

import { copyText } from "@/lib/copy";
import { cx } from "@/lib/cx";
import { Icon, type IconName } from "./icons";

type Tone = "primary" | "plain" | "ghost" | "danger";

const tones: Record<Tone, string> = {
  primary:
    "bg-[#2459cf] text-white border-transparent hover:bg-[#1d4cb6] shadow-card disabled:bg-sunken disabled:text-fg-3 disabled:border-line",
  plain: "bg-surface text-fg border-line-strong hover:bg-hover shadow-card disabled:text-fg-3 disabled:bg-sunken",
  ghost: "bg-transparent text-fg-2 border-transparent hover:bg-hover hover:text-fg disabled:text-fg-3",
  danger: "bg-surface text-bad border-line-strong hover:bg-bad-soft shadow-card disabled:text-fg-3",
};

interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  tone?: Tone;
  size?: "sm" | "md";
  icon?: IconName;
  busy?: boolean;
  ref?: React.Ref<HTMLButtonElement>;
}

export function buttonClass(tone: Tone = "plain", size: "sm" | "md" = "md", iconOnly = false): string {
  return cx(
    "inline-flex items-center justify-center gap-1.5 rounded-md border font-medium whitespace-nowrap select-none transition-colors disabled:cursor-not-allowed disabled:shadow-none",
    size === "sm" ? "h-7 text-xs" : "h-8 text-sm",
    iconOnly ? (size === "sm" ? "w-7" : "w-8") : size === "sm" ? "px-2.5" : "px-3",
    tones[tone],
  );
}

export function Button({ tone = "plain", size = "md", icon, busy, children, className, type = "button", disabled, ...rest }: ButtonProps) {
  return (
    <button
      type={type}
      className={cx(buttonClass(tone, size, children === undefined), className)}
      disabled={disabled || busy}
      aria-busy={busy || undefined}
      {...rest}
    >
      {busy ? <Spinner size={13} /> : icon && <Icon name={icon} size={size === "sm" ? 14 : 15} />}
      {children}
    </button>
  );
}

export function Spinner({ size = 16 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 24 24" fill="none" className="spin shrink-0" aria-hidden="true">
      <circle cx="12" cy="12" r="9" stroke="currentColor" strokeWidth="3" opacity="0.25" />
      <path d="M21 12a9 9 0 0 0-9-9" stroke="currentColor" strokeWidth="3" strokeLinecap="round" />
    </svg>
  );
}

export const inputClass =
  "h-8 w-full rounded-md border border-input/60 bg-surface px-2.5 text-sm text-fg shadow-card hover:border-input focus:border-accent focus:outline-2 focus:outline-offset-[-1px] focus:outline-accent aria-invalid:border-bad-fill disabled:bg-sunken disabled:text-fg-3";

export function Input({ className, ...rest }: ComponentProps<"input">) {
  return <input className={cx(inputClass, className)} spellCheck={false} autoComplete="off" {...rest} />;
}

/** A search input with its icon, which `/` focuses. */
export function SearchInput({ label, className, hint = true, ...rest }: InputHTMLAttributes<HTMLInputElement> & { label: string; hint?: boolean }) {
  return (
    <div className={cx("relative", className)}>
      <Icon name="search" size={15} className="pointer-events-none absolute top-1/2 left-2.5 -translate-y-1/2 text-fg-3" />
      <input
        type="search"
        aria-label={label}
        data-page-search=""
        className={cx(inputClass, "peer pr-8 pl-8 [&::-webkit-search-cancel-button]:hidden")}
        spellCheck={false}
        autoComplete="off"
        {...rest}
      />
      {hint && (
        <kbd className="pointer-events-none absolute top-1/2 right-2 -translate-y-1/2 rounded-sm border border-line bg-sunken px-1.5 font-mono text-2xs text-fg-3 peer-focus:hidden">
          /
        </kbd>
      )}
    </div>
  );
}

/** A labelled field with its hint and its error. */
export function Field({
  label,
  hint,
  error,
  children,
}: {
  label: string;
  hint?: ReactNode;
  error?: string | undefined;
  children: (ids: { id: string; "aria-describedby": string | undefined; "aria-invalid": boolean | undefined }) => ReactNode;
}) {
  const id = useId();
  const note = error ?? hint;
  return (
    <div className="flex flex-col gap-1.5">
      <label htmlFor={id} className="text-xs font-medium text-fg-2">
        {label}
      </label>
      {children({ id, "aria-describedby": note ? `${id}-note` : undefined, "aria-invalid": error ? true : undefined })}
      {note && (
        <p id={`${id}-note`} className={cx("text-xs", error ? "text-bad" : "text-fg-3")}>
          {note}
        </p>
      )}
    </div>
  );
}

export interface Option {
  value: string;
  label: ReactNode;
  text?: string;
  hint?: ReactNode;
}

/** A select on Radix. The empty value is allowed, unlike there. */
export function Select({
  label,
  value,
  onChange,
  options,
  className,
  prefix,
  size = "md",
}: {
  label: string;
  value: string;
  onChange: (value: string) => void;
  options: Option[];
  className?: string;
  prefix?: string;
  size?: "sm" | "md";
}) {
  const inner = (v: string) => `v:${v}`;
  const current = options.find((o) => o.value === value);
  return (
    <RadixSelect.Root value={inner(value)} onValueChange={(v) => onChange(v.slice(2))}>
      <RadixSelect.Trigger
        aria-label={label}
        className={cx(
          "inline-flex items-center gap-1.5 rounded-md border border-input/60 bg-surface pr-2 pl-2.5 text-fg shadow-card hover:border-input data-[state=open]:border-accent",
          size === "sm" ? "h-7 text-xs" : "h-8 text-sm",
          className,
        )}
      >
        {prefix && <span className="text-fg-3">{prefix}</span>}
        <span className="min-w-0 flex-1 truncate text-left">
          <RadixSelect.Value>{current?.label ?? value}</RadixSelect.Value>
        </span>
        <Icon name="chevronDown" size={13} className="text-fg-3" />
      </RadixSelect.Trigger>
      <RadixSelect.Portal>
        <RadixSelect.Content
          position="popper"
          sideOffset={4}
          className="pop z-50 max-h-[min(24rem,var(--radix-select-content-available-height))] min-w-[max(10rem,var(--radix-select-trigger-width))] overflow-hidden rounded-lg border border-line-strong bg-raised shadow-pop"
        >
          <RadixSelect.Viewport className="p-1">
            {options.map((o) => (
              <RadixSelect.Item
                key={o.value}
                value={inner(o.value)}
                textValue={o.text ?? (typeof o.label === "string" ? o.label : o.value)}
                className="flex h-7.5 cursor-default items-center gap-2 rounded-sm pr-2.5 pl-7 text-sm text-fg outline-none select-none data-[highlighted]:bg-hover relative"
              >
                <RadixSelect.ItemIndicator className="absolute left-2">
                  <Icon name="check" size={14} className="text-accent" />
                </RadixSelect.ItemIndicator>
                <RadixSelect.ItemText>{o.label}</RadixSelect.ItemText>
                {o.hint !== undefined && <span className="tnum ml-auto pl-4 text-xs text-fg-3">{o.hint}</span>}
              </RadixSelect.Item>
            ))}
          </RadixSelect.Viewport>
        </RadixSelect.Content>
      </RadixSelect.Portal>
    </RadixSelect.Root>
  );
}

export function Checkbox({
  label,
  checked,
  onChange,
}: {
  label: string;
  checked: boolean | "indeterminate";
  onChange: (checked: boolean) => void;
}) {
  return (
    <RadixCheckbox.Root
      aria-label={label}
      checked={checked}
      onCheckedChange={(v) => onChange(v === true)}
      className="flex size-4 shrink-0 items-center justify-center rounded-sm border border-input bg-surface hover:border-accent data-[state=checked]:border-[#2459cf] data-[state=checked]:bg-[#2459cf] data-[state=indeterminate]:border-[#2459cf] data-[state=indeterminate]:bg-[#2459cf]"
    >
      <RadixCheckbox.Indicator className="text-white">
        <Icon name={checked === "indeterminate" ? "minus" : "check"} size={12} />
      </RadixCheckbox.Indicator>
    </RadixCheckbox.Root>
  );
}

/** Copies a text and says so. */
export function CopyButton({ text, label = "Copy", size = "sm" }: { text: string; label?: string; size?: "sm" | "md" }) {
  const [state, setState] = useState<"idle" | "done" | "failed">("idle");
  useEffect(() => {
    if (state === "idle") return;
    const t = window.setTimeout(() => setState("idle"), 1600);
    return () => window.clearTimeout(t);
  }, [state]);
  return (
    <Button
      size={size}
      icon={state === "done" ? "check" : "copy"}
      onClick={async () => setState((await copyText(text)) ? "done" : "failed")}
    >
      <span aria-live="polite">{state === "done" ? "Copied" : state === "failed" ? "Select and copy" : label}</span>
    </Button>
  );
}
