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

export type NodeStatus = "online" | "offline" | "quarantined" | "gone";
/** When a node last used each endpoint. */
export interface Seen {
  enroll?: string;
  config?: string;
  log?: string;
  read?: string;
  write?: string;
}
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
  seen: Seen;
  offline_after_seconds: number;
  enrolled_at?: string;
  enroll_secret: string;
  enrolments: number;
  certificate?: string;
  clashes: number;
  last_clash?: string;
  clash_reason?: string;
  clone_of?: string;
  quarantined_at?: string;
  quarantine_reason?: string;
  gone_at?: string;
}
export interface NodeDetail extends Node {
  attributes: Record<string, string>;
  details: Record<string, Record<string, string>>;
}
export interface NodePage {
  nodes: Node[];
  total: number;
  next_cursor?: string;
}
/** A value that an attribute of a node had for some time. */
export interface Sighting {
  node_id: string;
  host_identifier: string;
  hostname: string;
  attribute: string;
  value: string;
  first_seen: string;
  last_seen?: string;
  until?: string;
}
export interface Sightings {
  sightings: Sighting[];
}
export interface Count {
  value: string;
  count: number;
}
export interface Facets {
  total: number;
  online: number;
  quarantined: number;
  clashes_24h: number;
  platforms: Count[];
  tags: Count[];
  versions: Count[];
}

export interface Secret {
  name: string;
  tags: string[];
  agent_tags: string[];
  cidrs: string[];
  max_uses: number;
  uses: number;
  created_at: string;
  created_by: string;
  expires_at?: string;
  revoked_at?: string;
  last_used?: string;
  old_until?: string;
}
export interface SecretInput {
  name: string;
  value?: string;
  tags?: string[];
  agent_tags?: string[];
  cidrs?: string[];
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
