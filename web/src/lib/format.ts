const number = new Intl.NumberFormat("en-GB");
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

export const formatCount = (n: number): string => number.format(n);
export const formatCompact = (n: number): string => (Math.abs(n) < 10_000 ? number.format(n) : compact.format(n));

export function formatBytes(n: number): string {
  if (n < 1024) return `${n} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = n / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export const plural = (n: number, one: string, many = `${one}s`): string => `${formatCount(n)} ${n === 1 ? one : many}`;

export function formatDuration(seconds: number): string {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60 ? `${minutes % 60} min` : ""}`.trim();
  return `${Math.floor(hours / 24)} days`;
}

export function formatAgo(time: string | undefined, now: number): string {
  if (!time) return "never";
  const seconds = Math.round((now - Date.parse(time)) / 1000);
  if (seconds < 0) return seconds > -5 ? "now" : `in ${formatDuration(-seconds)}`;
  if (seconds < 5) return "now";
  return `${formatDuration(seconds)} ago`;
}

const pad = (n: number, width = 2): string => String(n).padStart(width, "0");

/** Local time with the date, down to seconds. */
export function formatTime(time: string | number | undefined): string {
  if (time === undefined || time === "") return "–";
  const d = new Date(time);
  if (Number.isNaN(d.getTime())) return String(time);
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
}

/** Local time of day with milliseconds, preceded by the date if it is not today's. */
export function formatTimeShort(time: string, now: number): string {
  const d = new Date(time);
  const clock = `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
  if (d.toDateString() === new Date(now).toDateString()) return clock;
  return `${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${clock}`;
}

const platforms: Record<string, string> = { linux: "Linux", darwin: "macOS", windows: "Windows", freebsd: "FreeBSD" };
export const platformName = (p: string): string => platforms[p] ?? p;
