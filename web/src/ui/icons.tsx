import type { ReactNode } from "react";

// Drawn on a 24 grid with a 1.75 stroke.
const paths = {
  overview: <path d="M4 4h6v8H4zM14 4h6v5h-6zM14 13h6v7h-6zM4 16h6v4H4z" />,
  nodes: <path d="M4 5h16v6H4zM4 13h16v6H4zM7.5 8h.01M7.5 16h.01M11 8h5M11 16h5" />,
  live: <path d="m5 7 5 5-5 5M12.5 17H19" />,
  events: <path d="M4 6h3M10 6h10M4 12h3M10 12h10M4 18h3M10 18h10" />,
  changes: <path d="M6.5 4v12M6.5 16a2.200 2.200 0 1 1 0 4.400 2.200 2.200 0 0 1 0-4.400zM17.500 3.600a2.200 2.200 0 1 1 0 4.400 2.200 2.200 0 0 1 0-4.400zM17.500 8c0 5-6 4.500-10.500 8" />,
  secrets: <path d="M8 11.5a4.2 4.2 0 1 1 0 8.4 4.2 4.2 0 0 1 0-8.4zM11 12.700 20 3.700M16.200 7.500l3 3M18.500 5.200l1.800 1.800" />,
  people: <path d="M9 5a3.500 3.500 0 1 1 0 7 3.500 3.500 0 0 1 0-7zM2.500 19.500a6.500 6.500 0 0 1 13 0M16 5.300a3.500 3.500 0 0 1 0 6.400M18 14.500a6.500 6.500 0 0 1 3.500 5" />,
  roles: <path d="M12 3.500 4.500 6v6c0 4.500 3.200 7.200 7.500 8.500 4.300-1.300 7.500-4 7.500-8.500V6zM9 12l2.200 2.200L15.500 10" />,
  tokens: <path d="M3.500 7h17v3.200a2 2 0 0 0 0 3.600V17h-17v-3.200a2 2 0 0 0 0-3.600zM14 7v10" />,
  audit: <path d="M7 3h7l4 4v14H7a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1zM14 3v4h4M9.5 12h5M9.5 16h5" />,
  search: <path d="M10.5 4a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13zM15.3 15.3 20 20" />,
  sun: <path d="M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4" />,
  moon: <path d="M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z" />,
  system: <path d="M3.5 5h17v11h-17zM8.5 20h7M12 16v4" />,
  user: <path d="M12 4a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM4.5 20a7.5 7.5 0 0 1 15 0" />,
  chevronDown: <path d="m6 9.5 6 6 6-6" />,
  chevronRight: <path d="m9.5 6 6 6-6 6" />,
  up: <path d="M12 19V6M6.5 11 12 5.5l5.5 5.5" />,
  down: <path d="M12 5v13M6.5 13l5.5 5.5 5.5-5.5" />,
  x: <path d="m6 6 12 12M18 6 6 18" />,
  check: <path d="m5 12.5 4.5 4.5L19 7.5" />,
  minus: <path d="M5 12h14" />,
  plus: <path d="M12 5v14M5 12h14" />,
  copy: <path d="M9 9h11v11H9zM5 15H4V4h11v1" />,
  play: <path d="M8 5.5v13l10.5-6.5z" fill="currentColor" />,
  stop: <path d="M7 7h10v10H7z" fill="currentColor" />,
  trash: <path d="M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7M10.5 11v5M13.5 11v5" />,
  tag: <path d="M4 4h7.5l8.5 8.5-7.5 7.5L4 11.5zM8 8h.01" />,
  warn: <path d="M12 4 2.5 20h19zM12 10v4.5M12 17.2h.01" />,
  info: <path d="M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17zM12 11v5.5M12 7.8h.01" />,
  panel: <path d="M3.5 5h17v14h-17zM14.5 5v14" />,
  download: <path d="M12 4v11M7 10.5l5 5 5-5M4.5 20h15" />,
  refresh: <path d="M19.5 12a7.5 7.5 0 1 1-2.2-5.3L20 9.2M20 4v5.2h-5.2" />,
  clock: <path d="M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17zM12 7.5V12l3 2" />,
  keyboard: <path d="M3 6.5h18v11H3zM7 10h.01M10.5 10h.01M14 10h.01M17.5 10h.01M8 14h8" />,
  logout: <path d="M14 4H5v16h9M10 12h10M16.5 8.5 20 12l-3.5 3.5" />,
  more: <path d="M6 12h.01M12 12h.01M18 12h.01" strokeWidth={3} />,
  save: <path d="M5 4h11l3 3v13H5zM8.5 4v5h6V4M8 20v-6h8v6" />,
  link: <path d="M10 14a4 4 0 0 0 6 .4l2.500-2.500a4 4 0 0 0-5.700-5.700L11.500 7.500M14 10a4 4 0 0 0-6-.4l-2.500 2.500a4 4 0 0 0 5.700 5.700l1.300-1.300" />,
  carves: <path d="M4 5h16v4H4zM5.500 9v10h13V9M10 13h4" />,
  triggers: <path d="M13 3 5 14h6l-1 7 8-11h-6z" />,
  alerts: <path d="M6 16.500V11a6 6 0 0 1 12 0v5.500l1.500 1.500h-15zM10 20.500h4" />,
  mute: <path d="M6 16.500V11a6 6 0 0 1 9-5.200M18 11v5.500l1.500 1.500h-15L6 16.500M10 20.500h4M4 4l16 16" />,
  sinks: <path d="M4 6h6l3 6-3 6H4M13 12h8M17.500 8.500 21 12l-3.500 3.500" />,
  rules: <path d="M4 6h9M4 12h6M4 18h9M15 12l2.500 2.500L21.500 9" />,
  filter: <path d="M4 5h16l-6.2 7.5V19l-3.6-2v-4.5z" />,
  linux: <path d="M12 3c-2 0-3 1.6-3 3.5 0 3-3 5-3 9 0 3 2.5 5.5 6 5.5s6-2.5 6-5.5c0-4-3-6-3-9C15 4.6 14 3 12 3zM10.5 7h.01M13.5 7h.01M10.5 9.5c.8.8 2.2.8 3 0" />,
  darwin: <path d="M15.5 3c-1.8.4-3 1.8-3 3.6 1.8 0 3-1.6 3-3.6zM18.5 16.8c-1 2.4-2.4 4.2-3.9 4.2-1 0-1.5-.6-2.6-.6s-1.7.6-2.6.6C7.200 21 5 16.800 5 13c0-3 1.900-5 4.200-5 1.200 0 2 .7 2.900.7s1.900-.8 3.200-.8c1.300 0 2.400.6 3.100 1.600-2.800 1.700-2.400 5.900.1 7.300z" />,
  windows: <path d="M4 6l7-1v6.500H4zM13 4.700 20 3.700v7.800h-7zM4 13.500h7V20l-7-1zM13 13.500h7v7.800l-7-1z" />,
} satisfies Record<string, ReactNode>;

export type IconName = keyof typeof paths;

/** A decorative icon; what it stands for is said in text beside it. */
export function Icon({ name, size = 16, className }: { name: IconName; size?: number; className?: string }) {
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      strokeWidth={1.75}
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
      className={className ? `shrink-0 ${className}` : "shrink-0"}
    >
      {paths[name]}
    </svg>
  );
}

export function PlatformIcon({ platform, size = 14 }: { platform: string; size?: number }) {
  const name: IconName = platform === "darwin" || platform === "windows" || platform === "linux" ? platform : "nodes";
  return <Icon name={name} size={size} className="text-fg-3" />;
}

/** The product's mark. */
export function Mark({ size = 22 }: { size?: number }) {
  const dots = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" className="shrink-0">
      <rect width="32" height="32" rx="7" fill="#2f62d9" />
      {dots.map((i) => (
        <rect
          key={i}
          x={7 + (i % 3) * 6.7}
          y={7 + Math.floor(i / 3) * 6.7}
          width="4.6"
          height="4.6"
          rx="1.2"
          fill={i === 4 ? "#7ee2a8" : "#fff"}
          opacity={i === 8 ? 0.45 : 1}
        />
      ))}
    </svg>
  );
}
