// The documents of the REST API: internal/adminapi/types.go, kept by hand.
// Times are RFC 3339; a time that is not known is absent.

export interface SetupState {
  needed: boolean;
}
export interface Session {
  username: string;
  permissions: string[];
  expires_at: string;
  version: string;
}

export type NodeStatus = "online" | "offline";
export interface Node {
  id: string;
  host_identifier: string;
  hostname: string;
  platform: string;
  os: string;
  osquery_version: string;
  address: string;
  tags: string[];
  status: NodeStatus;
  last_seen?: string;
  enrolled_at?: string;
  enroll_secret: string;
  enrolments: number;
}
export interface NodeDetail extends Node {
  details: Record<string, Record<string, string>>;
}
export interface NodePage {
  nodes: Node[];
  total: number;
  next_cursor?: string;
}
export interface Count {
  value: string;
  count: number;
}
export interface Facets {
  total: number;
  online: number;
  platforms: Count[];
  tags: Count[];
  versions: Count[];
}

export interface Secret {
  name: string;
  tags: string[];
  max_uses: number;
  uses: number;
  created_at: string;
  created_by: string;
  expires_at?: string;
  revoked_at?: string;
  last_used?: string;
}
export interface SecretInput {
  name: string;
  tags?: string[];
  max_uses?: number;
  expires_at?: string;
}
export interface NewSecret extends Secret {
  value: string;
}
export interface SecretList {
  secrets: Secret[];
}

export interface Selector {
  all?: boolean;
  nodes?: string[];
  tags?: string[];
}
export interface LivePreview {
  matching: number;
  online: number;
}
export interface LiveInput {
  sql: string;
  selector: Selector;
  expires_seconds?: number;
}
export type LiveState = "running" | "done" | "expired" | "stopped";
export type NodeState =
  | "waiting"
  | "sent"
  | "answered"
  | "empty"
  | "failed"
  | "denylisted"
  | "expired"
  | "stopped"
  | "over_limit";
export interface Live {
  id: string;
  sql: string;
  state: LiveState;
  created_by: string;
  created_at: string;
  expires_at: string;
  ended_at?: string;
  nodes: number;
  counts: Partial<Record<NodeState, number>>;
  rows: number;
}
export interface LivePage {
  live: Live[];
  next_cursor?: string;
}
export type Row = Record<string, string>;
export interface QueryStats {
  wall_time_ms: number;
  user_time: number;
  system_time: number;
  memory: number;
}
export interface LiveAnswer {
  node_id: string;
  host_identifier: string;
  hostname: string;
  state: NodeState;
  message?: string;
  answered_at?: string;
  stats: QueryStats;
  rows: Row[];
}
export interface LiveAnswers {
  answers: LiveAnswer[];
  next_cursor?: string;
}

export interface Event {
  id: string;
  time: string;
  received_at: string;
  node_id: string;
  host_identifier: string;
  hostname?: string;
  query: string;
  action: string;
  epoch: number;
  counter: number;
  columns: Row;
  decorations?: Row;
}
export interface EventPage {
  events: Event[];
  next_cursor?: string;
}
export interface Bucket {
  start: string;
  count: number;
}
export interface EventQuery {
  query: string;
  count: number;
  last: string;
}
export interface EventQueries {
  queries: EventQuery[];
  buckets: Bucket[];
}

export interface Overview {
  nodes: Facets;
  new_nodes: number;
  live_running: number;
  events_stored: number;
  bytes_stored: number;
  events_per_hour: Bucket[];
  requests_total: number;
  uptime_seconds: number;
  version: string;
  agent_url: string;
}

export interface AuditEntry {
  seq: number;
  time: string;
  actor: string;
  action: string;
  target: string;
  detail: string;
  hash: string;
}
export interface AuditPage {
  entries: AuditEntry[];
  next_cursor?: string;
}
export interface ConfigDocument {
  revision: string;
  hash: string;
  config: unknown;
}

export interface SchemaColumn {
  name: string;
  type: string;
  description: string;
  required?: boolean;
  index?: boolean;
  additional?: boolean;
  optimized?: boolean;
  hidden?: boolean;
  platforms?: string[];
  aliases?: string[];
}
export interface SchemaTable {
  name: string;
  platforms: string[];
  description: string;
  evented?: boolean;
  cacheable?: boolean;
  user_data?: boolean;
  utility?: boolean;
  aliases?: string[];
  examples?: string[];
  columns: SchemaColumn[];
}
