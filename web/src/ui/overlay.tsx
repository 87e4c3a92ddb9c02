import type { ReactNode } from "react";
import { createContext, useCallback, useContext, useState } from "react";
import { AlertDialog, Dialog as RadixDialog, DropdownMenu, Toast as RadixToast } from "radix-ui";

import { cx } from "@/lib/cx";
import { Button } from "./controls";
import { errorText } from "./display";
import { Icon, type IconName } from "./icons";

const scrim = "fixed inset-0 z-40 bg-[var(--scrim)]";
const box =
  "pop fixed top-1/2 left-1/2 z-50 flex max-h-[88vh] w-[calc(100vw-3rem)] -translate-x-1/2 -translate-y-1/2 flex-col rounded-lg border border-line-strong bg-raised shadow-pop focus:outline-none";

export function Dialog({ open, onOpenChange, title, description, children, wide, locked }: {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: ReactNode;
  description?: ReactNode;
  children: ReactNode;
  wide?: boolean;
  locked?: boolean; // closes by its own buttons only
}) {
  return (
    <RadixDialog.Root open={open} onOpenChange={onOpenChange}>
      <RadixDialog.Portal>
        <RadixDialog.Overlay className={scrim} />
        <RadixDialog.Content
          className={cx(box, wide ? "max-w-4xl" : "max-w-lg")}
          {...(description ? {} : { "aria-describedby": undefined })}
          onOpenAutoFocus={(e) => {
            // A field that takes the focus has it by now; else the dialog itself, not its close button.
            e.preventDefault();
            (e.currentTarget as HTMLElement | null)?.focus();
          }}
          onInteractOutside={(e) => locked && e.preventDefault()}
          onEscapeKeyDown={(e) => locked && e.preventDefault()}
        >
          <header className="flex items-start gap-4 border-b border-line px-5 py-3.5">
            <div className="min-w-0">
              <RadixDialog.Title className="truncate text-base font-semibold">{title}</RadixDialog.Title>
              {description && <RadixDialog.Description className="mt-0.5 text-sm text-fg-3">{description}</RadixDialog.Description>}
            </div>
            {!locked && (
              <RadixDialog.Close asChild>
                <Button tone="ghost" size="sm" icon="x" aria-label="Close" className="ml-auto" />
              </RadixDialog.Close>
            )}
          </header>
          <div className="min-h-0 overflow-auto px-5 py-4">{children}</div>
        </RadixDialog.Content>
      </RadixDialog.Portal>
    </RadixDialog.Root>
  );
}

export function Confirm({ open, onOpenChange, title, children, action, onConfirm, busy }: {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  children: ReactNode;
  action: string;
  onConfirm: () => void;
  busy?: boolean;
}) {
  return (
    <AlertDialog.Root open={open} onOpenChange={onOpenChange}>
      <AlertDialog.Portal>
        <AlertDialog.Overlay className={scrim} />
        <AlertDialog.Content className={cx(box, "max-w-md p-5")}>
          <AlertDialog.Title className="text-base font-semibold">{title}</AlertDialog.Title>
          <AlertDialog.Description asChild>
            <div className="mt-2 text-sm text-fg-2">{children}</div>
          </AlertDialog.Description>
          <div className="mt-5 flex justify-end gap-2">
            <AlertDialog.Cancel asChild>
              <Button>Cancel</Button>
            </AlertDialog.Cancel>
            <Button tone="danger" busy={busy ?? false} onClick={onConfirm}>
              {action}
            </Button>
          </div>
        </AlertDialog.Content>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  );
}

export interface MenuItem {
  label: string;
  icon?: IconName;
  checked?: boolean;
  danger?: boolean;
  onSelect: () => void;
}

export function Menu({ trigger, items, header }: { trigger: ReactNode; items: (MenuItem | "separator")[]; header?: ReactNode }) {
  return (
    <DropdownMenu.Root>
      <DropdownMenu.Trigger asChild>{trigger}</DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content
          align="end"
          sideOffset={5}
          className="pop z-50 min-w-48 rounded-lg border border-line-strong bg-raised p-1 shadow-pop"
        >
          {header && <div className="border-b border-line px-2.5 py-2 text-xs text-fg-3">{header}</div>}
          {items.map((item, i) =>
            item === "separator" ? (
              <DropdownMenu.Separator key={i} className="my-1 h-px bg-line" />
            ) : (
              <DropdownMenu.Item
                key={item.label}
                onSelect={item.onSelect}
                className={cx(
                  "flex h-8 cursor-default items-center gap-2.5 rounded-sm px-2.5 text-sm outline-none data-[highlighted]:bg-hover",
                  item.danger ? "text-bad" : "text-fg",
                )}
              >
                {item.icon && <Icon name={item.icon} size={15} className="text-fg-3" />}
                {item.label}
                {item.checked && <Icon name="check" size={14} className="ml-auto text-accent" />}
              </DropdownMenu.Item>
            ),
          )}
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}

interface ToastItem {
  id: number;
  tone: "ok" | "bad";
  text: string;
}
interface Notify {
  done: (text: string) => void;
  failed: (error: unknown) => void;
}

const NotifyContext = createContext<Notify>({ done: () => {}, failed: () => {} });

/** Short messages about what was done or failed. */
export const useNotify = (): Notify => useContext(NotifyContext);

export function Overlays({ children }: { children: ReactNode }) {
  const [toasts, setToasts] = useState<ToastItem[]>([]);
  const add = useCallback((tone: "ok" | "bad", text: string) => {
    setToasts((list) => [...list.slice(-3), { id: (list.at(-1)?.id ?? 0) + 1, tone, text }]);
  }, []);
  const [notify] = useState<Notify>(() => ({
    done: (text) => add("ok", text),
    failed: (error) => add("bad", errorText(error)),
  }));
  return (
    <NotifyContext value={notify}>
        <RadixToast.Provider swipeDirection="right" duration={5000}>
          {children}
          {toasts.map((t) => (
            <RadixToast.Root
              key={t.id}
              onOpenChange={(open) => !open && setToasts((list) => list.filter((x) => x.id !== t.id))}
              className="pop flex items-center gap-2.5 rounded-lg border border-line-strong bg-raised py-2.5 pr-2 pl-3.5 shadow-pop"
            >
              <Icon name={t.tone === "ok" ? "check" : "warn"} size={16} className={t.tone === "ok" ? "text-ok" : "text-bad"} />
              <RadixToast.Description className="min-w-0 flex-1 text-sm break-words">{t.text}</RadixToast.Description>
              <RadixToast.Close asChild>
                <Button tone="ghost" size="sm" icon="x" aria-label="Dismiss" />
              </RadixToast.Close>
            </RadixToast.Root>
          ))}
          <RadixToast.Viewport className="fixed right-4 bottom-4 z-50 flex w-96 max-w-[calc(100vw-2rem)] flex-col gap-2 outline-none" />
        </RadixToast.Provider>
    </NotifyContext>
  );
}
