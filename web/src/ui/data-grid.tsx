import { useVirtualizer } from "@tanstack/react-virtual";
import { memo, useEffect, useRef, type ReactNode } from "react";

import { cx } from "@/lib/cx";
import { Icon } from "./icons";

export interface GridColumn<T> {
  id: string;
  header: ReactNode;
  /** A CSS grid track, such as 120px or minmax(10rem, 1fr). */
  width: string;
  sortable?: boolean;
  align?: "right";
  cell: (row: T, index: number) => ReactNode;
}

export interface GridSort {
  id: string;
  desc: boolean;
}

interface DataGridProps<T> {
  label: string;
  columns: GridColumn<T>[];
  rows: T[];
  rowKey: (row: T) => string | number;
  total?: number;
  rowHeight?: number;
  minWidth?: number;
  sort?: GridSort | undefined;
  onSort?: (id: string) => void;
  onRowClick?: (row: T) => void;
  isSelected?: (row: T) => boolean;
  /** Called when the end of what is loaded comes near. */
  onEndReached?: (() => void) | undefined;
  footer?: ReactNode;
  empty?: ReactNode;
  className?: string;
  stale?: boolean;
}

/** A table of any length: only the rows in sight are in the page. */
export function DataGrid<T>(props: DataGridProps<T>) {
  const { label, columns, rows, rowKey, rowHeight = 36, minWidth, sort, onSort, onEndReached, footer, empty, stale } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const virtualizer = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => rowHeight,
    overscan: 12,
    getItemKey: (i) => rowKey(rows[i]!),
  });
  const items = virtualizer.getVirtualItems();
  const last = items.at(-1)?.index ?? -1;
  useEffect(() => {
    if (onEndReached && last >= rows.length - 15) onEndReached();
  }, [last, rows.length, onEndReached]);

  const template = columns.map((c) => c.width).join(" ");
  const inner = { minWidth: minWidth ?? "100%", width: "max(100%, max-content)" };
  return (
    <div
      ref={scroller}
      role="table"
      aria-label={label}
      aria-rowcount={(props.total ?? rows.length) + 1}
      aria-colcount={columns.length}
      aria-busy={stale || undefined}
      tabIndex={0}
      className={cx("relative h-full overflow-auto focus-visible:outline-offset-[-2px]", props.className)}
    >
      <div role="rowgroup" className="sticky top-0 z-10 border-b border-line bg-sunken" style={inner}>
        <div role="row" aria-rowindex={1} className="grid h-8 items-center text-xs font-medium text-fg-3" style={{ gridTemplateColumns: template }}>
          {columns.map((c) => {
            const active = sort?.id === c.id;
            return (
              <div
                key={c.id}
                role="columnheader"
                aria-sort={active ? (sort.desc ? "descending" : "ascending") : undefined}
                className={cx("min-w-0 px-2.5", c.align === "right" && "text-right")}
              >
                {c.sortable && onSort ? (
                  <button
                    type="button"
                    onClick={() => onSort(c.id)}
                    className={cx(
                      "group -mx-1 inline-flex max-w-full items-center gap-1 rounded-sm px-1 hover:text-fg",
                      active && "text-fg",
                    )}
                  >
                    <span className={cx("truncate", c.align === "right" && "order-2")}>{c.header}</span>
                    <Icon
                      name={active && sort.desc ? "down" : "up"}
                      size={12}
                      className={active ? "" : "opacity-0 group-hover:opacity-50"}
                    />
                  </button>
                ) : (
                  <div className="truncate">{c.header}</div>
                )}
              </div>
            );
          })}
        </div>
      </div>
      {rows.length === 0 && empty ? (
        <div className="sticky left-0 h-[calc(100%-2.1rem)]">{empty}</div>
      ) : (
        <div
          role="rowgroup"
          className={cx("relative transition-opacity", stale && "opacity-60")}
          style={{ ...inner, height: virtualizer.getTotalSize() }}
        >
          {items.map((item) => {
            const row = rows[item.index];
            if (row === undefined) return null;
            return (
              <GridRow
                key={item.key}
                row={row}
                index={item.index}
                start={item.start}
                height={rowHeight}
                template={template}
                columns={columns as GridColumn<unknown>[]}
                selected={props.isSelected?.(row) ?? false}
                onClick={props.onRowClick as ((row: unknown) => void) | undefined}
              />
            );
          })}
        </div>
      )}
      {footer && <div className="sticky left-0 flex h-9 items-center justify-center text-xs text-fg-3">{footer}</div>}
    </div>
  );
}

interface GridRowProps {
  row: unknown;
  index: number;
  start: number;
  height: number;
  template: string;
  columns: GridColumn<unknown>[];
  selected: boolean;
  onClick: ((row: unknown) => void) | undefined;
}

const GridRow = memo(function GridRow({ row, index, start, height, template, columns, selected, onClick }: GridRowProps) {
  return (
    <div
      role="row"
      aria-rowindex={index + 2}
      onClick={onClick && (() => onClick(row))}
      className={cx(
        "absolute inset-x-0 grid items-center border-b border-line/70 text-sm",
        selected ? "bg-selected" : "hover:bg-hover",
        onClick && "cursor-pointer",
      )}
      style={{ gridTemplateColumns: template, height, transform: `translateY(${start}px)` }}
    >
      {columns.map((c) => (
        <div key={c.id} role="cell" className={cx("min-w-0 truncate px-2.5", c.align === "right" && "tnum text-right")}>
          {c.cell(row, index)}
        </div>
      ))}
    </div>
  );
});
