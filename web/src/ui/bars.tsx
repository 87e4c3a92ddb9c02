import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useEffect, useRef } from "react";

import type { Bucket } from "@/api/types";
import { formatCompact, formatCount, formatTime } from "@/lib/format";
import { useTheme } from "@/lib/theme";

function token(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

interface BarsProps {
  buckets: Bucket[];
  label: string;
  unit: string;
  height?: number;
  /** Called with the ends in milliseconds when a span is dragged over. */
  onZoom?: (from: number, to: number) => void;
}

/** A histogram over time. */
export function Bars({ buckets, label, unit, height = 150, onZoom }: BarsProps) {
  const host = useRef<HTMLDivElement>(null);
  const tip = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef({ buckets, onZoom });
  latest.current = { buckets, onZoom };
  const { shown } = useTheme();
  const total = buckets.reduce((sum, b) => sum + b.count, 0);
  const hasZoom = onZoom !== undefined;

  useEffect(() => {
    const element = host.current!;
    const font = "11px Inter, system-ui, sans-serif";
    const axis = {
      stroke: token("--text-3"),
      font,
      ticks: { show: false },
      border: { show: false },
    };
    const bars = uPlot.paths.bars!({ size: [0.82, 64], align: 1, radius: 0.12 });
    const chart = new uPlot(
      {
        width: element.clientWidth || 300,
        height,
        padding: [8, 14, 0, 0],
        legend: { show: false },
        cursor: {
          y: false,
          points: { show: false },
          drag: { x: hasZoom, y: false, setScale: false },
        },
        scales: {
          x: { time: true, range: (_u, min, max) => [min, max + stepOf(latest.current.buckets)] },
          y: { range: (_u, _min, max) => [0, Math.max(max * 1.08, 4)] },
        },
        axes: [
          { ...axis, grid: { show: false }, size: 22, gap: 4, values: timeLabels },
          { ...axis, grid: { stroke: token("--chart-grid"), width: 1 }, size: 44, values: (_u, ticks) => ticks.map((v) => (Number.isInteger(v) ? formatCompact(v) : "")) },
        ],
        series: [{}, { paths: bars, fill: token("--chart"), width: 0, points: { show: false } }],
        hooks: {
          setCursor: [
            (u) => {
              const t = tip.current;
              if (!t) return;
              const bucket = bucketAt(latest.current.buckets, u);
              if (!bucket) {
                t.style.display = "none";
                return;
              }
              t.textContent = `${formatTime(bucket.start).slice(0, -3)} · ${formatCount(bucket.count)} ${unit}`;
              t.style.display = "block";
              const x = (u.cursor.left ?? 0) + u.over.offsetLeft;
              t.style.left = `${Math.min(Math.max(0, x + 10), element.clientWidth - t.offsetWidth - 4)}px`;
            },
          ],
          setSelect: [
            (u) => {
              if (u.select.width > 4) {
                latest.current.onZoom?.(u.posToVal(u.select.left, "x") * 1000, u.posToVal(u.select.left + u.select.width, "x") * 1000);
              }
              u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            },
          ],
        },
      },
      dataOf(latest.current.buckets),
      element,
    );
    plot.current = chart;
    const observer = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [shown, height, unit, hasZoom]);

  useEffect(() => {
    plot.current?.setData(dataOf(buckets));
  }, [buckets]);

  return (
    <div className="relative" role="img" aria-label={`${label}: ${formatCount(total)} ${unit} in all`} style={{ height }}>
      <div ref={host} className="h-full" />
      <div
        ref={tip}
        className="tnum pointer-events-none absolute -top-1 z-10 hidden rounded-sm border border-line-strong bg-raised px-2 py-0.5 text-xs whitespace-nowrap shadow-pop"
      />
    </div>
  );
}

function stepOf(buckets: Bucket[]): number {
  if (buckets.length < 2) return 3600;
  return (Date.parse(buckets[1]!.start) - Date.parse(buckets[0]!.start)) / 1000;
}

function dataOf(buckets: Bucket[]): uPlot.AlignedData {
  return [buckets.map((b) => Date.parse(b.start) / 1000), buckets.map((b) => b.count)];
}

function bucketAt(buckets: Bucket[], u: uPlot): Bucket | undefined {
  const left = u.cursor.left ?? -1;
  if (left < 0 || buckets.length === 0) return undefined;
  const first = Date.parse(buckets[0]!.start) / 1000;
  return buckets[Math.floor((u.posToVal(left, "x") - first) / stepOf(buckets))];
}

const two = (n: number) => String(n).padStart(2, "0");

function timeLabels(_u: uPlot, ticks: number[]): string[] {
  const span = (ticks.at(-1) ?? 0) - (ticks[0] ?? 0);
  return ticks.map((t) => {
    const d = new Date(t * 1000);
    const day = `${two(d.getMonth() + 1)}-${two(d.getDate())}`;
    if (span > 3 * 86400) return day;
    const clock = `${two(d.getHours())}:${two(d.getMinutes())}`;
    if (span < 600) return `${clock}:${two(d.getSeconds())}`;
    return d.getHours() === 0 && d.getMinutes() === 0 ? day : clock;
  });
}
