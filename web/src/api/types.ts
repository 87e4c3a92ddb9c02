// The documents of the REST API: internal/adminapi/types*.go, kept by hand.
// Times are RFC 3339; a time that is not known is absent.

export interface SetupState {
  needed: boolean;
}
export interface Session {
  username: string;
  roles: string[];
  permissions: string[];
  /** A second factor is needed first: until then nothing else works. */
  must_enrol: boolean;
  /** The second factor is to be shown first. */
  must_prove: boolean;
  /** How one can prove once more who one is. */
  proofs: ("password" | "code" | "passkey" | "provider")[];
  /** Of sign-on, that one logs in at. */
  provider?: string;
  /** Until then nothing asks for one's password. */
  proved_until?: string;
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
/** A tag with all that gives it: hand, or secret:, rule: or query: and a name. */
export interface TagSource {
  tag: string;
  sources: string[];
}
export interface NodeDetail extends Node {
  tag_sources: TagSource[];
  attributes: Record<string, string>;
  details: Record<string, Record<string, string>>;
}
export interface TaggedNode extends Node {
  tag_sources: TagSource[];
  message?: string;
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

/** Whom something is for: nodes that any of these means. */
export interface Selector {
  all?: boolean;
  nodes?: string[];
  tags?: string[];
  where?: string;
}
/** What it takes to run a text; empty without one. */
export type LiveDecision = "run" | "reason" | "approval" | "refused" | "";
export interface LivePreviewInput {
  selector: Selector;
  sql?: string;
  sample_percent?: number;
}
/** Whom a live query would reach, and what it takes. */
export interface LivePreview {
  matching: number;
  online: number;
  platforms: PlatformCount[];
  asked: number;
  tier: Tier;
  decision: LiveDecision;
  why: string;
  estimate?: LiveEstimate;
  nodes: PreviewNode[];
}
export interface PlatformCount {
  platform: string;
  matching: number;
  online: number;
}
export interface PreviewNode {
  node_id: string;
  hostname: string;
  online: boolean;
}
/** What a node spends on a text, by what nodes told of texts like it. */
export interface LiveEstimate {
  nodes: number;
  wall_ms_per_node: number;
  rows_per_node: number;
  basis: "live" | "scheduled";
  at?: string;
  query?: string; // the scheduled one's name on agents
}
/** 0 or absent is the server's own limit. */
export interface LiveLimits {
  rows_per_node?: number;
  bytes_per_node?: number;
  rows?: number;
  bytes?: number;
}
export interface LiveWaves {
  first?: number;
  max_bad_percent?: number;
}
export interface LiveInput {
  sql: string;
  selector: Selector;
  expires_seconds?: number;
  not_before?: string;
  reason?: string;
  sample_percent?: number;
  max_nodes?: number;
  limits?: LiveLimits;
  waves?: LiveWaves;
  rerun_of?: string;
}
export type LiveKind = "person" | "enrollment" | "trigger" | "carve";
export type LiveState = "pending" | "running" | "done" | "expired" | "stopped" | "rejected" | "over_limit";
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
export interface LiveApproval {
  needed: boolean;
  by?: string;
  at?: string;
}
/** From when a query could be delivered until nodes answered. */
export interface LiveLatency {
  first_ms: number;
  p50_ms: number;
  p95_ms: number;
}
export interface Live {
  id: string;
  sql: string;
  state: LiveState;
  kind: LiveKind;
  source?: string;
  tier?: Tier;
  reason?: string;
  selector?: Selector; // absent in lists and streams
  created_by: string;
  created_at: string;
  not_before?: string;
  expires_at?: string; // absent if it stands
  ended_at?: string;
  nodes: number;
  counts: Partial<Record<NodeState, number>>;
  rows: number;
  bytes?: number;
  truncated?: boolean;
  held?: string; // why delivery stands still
  limits?: LiveLimits;
  waves?: LiveWaves;
  rerun_of?: string;
  approval?: LiveApproval;
  latency?: LiveLatency;
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
  sent_at?: string;
  answered_at?: string;
  attempts?: number;
  late?: boolean; // it came after the end
  cut?: boolean; // it had more rows than the limits let in
  stats: QueryStats;
  rows: Row[];
}
export interface LiveAnswers {
  answers: LiveAnswer[];
  next_cursor?: string;
}
export interface ResultColumn {
  name: string;
  type: "text" | "integer" | "double";
}
export interface ResultRow {
  node_id: string;
  host_identifier: string;
  hostname: string;
  columns: Row;
}
export interface LiveResults {
  columns: ResultColumn[];
  rows: ResultRow[];
  total: number;
  matched: number;
  next_cursor?: string;
}
export interface ResultGroup {
  value: string;
  rows: number;
  nodes: number;
}
export interface LiveGroups {
  groups: ResultGroup[];
  distinct: number;
  more?: boolean; // there are more values than the server tells apart
  other_rows: number;
}
/** Two runs of one text. */
export interface LiveComparison {
  added: ResultRow[];
  gone: ResultRow[];
  same: number;
  added_total: number;
  gone_total: number;
  nodes?: number; // that answered both
  only_new?: number;
  only_old?: number;
  cut_nodes?: number; // of which not all rows were kept in one of the two
}
export interface SavedQueryInput {
  description: string;
  sql: string;
  selector?: Selector;
}
export interface SavedQuery extends SavedQueryInput {
  name: string;
  created_by: string;
  updated_by: string;
  updated_at: string;
}

export type CarveState = "asked" | "sent" | "scheduled" | "uploading" | "verifying" | "done" | "failed" | "cancelled" | "expired";
/** How the hash of an archive compares with what the agent said. */
export type Verification = "matched" | "unavailable" | "mismatch" | "";
export interface Archive {
  n: number;
  path: string;
  carve_guid?: string;
  request_id?: string;
  state: CarveState;
  size: number;
  block_size: number;
  block_count: number;
  received_blocks: number;
  sha256?: string;
  agent_sha256?: string;
  verification: Verification;
  format?: string; // tar, tar.zst, or empty for what is neither
  files: number;
  message?: string;
}
export interface Carve {
  id: string;
  node_id: string;
  host_identifier: string;
  hostname: string;
  paths: string[];
  state: CarveState;
  reason?: string;
  created_by: string;
  created_at: string;
  ended_at?: string;
  kept_until?: string;
  message?: string;
  size: number;
  received: number;
  archives: Archive[];
}
/** What the policy says of paths that somebody wants. */
export interface CarveCheck {
  tier: Tier;
  decision: "run" | "reason" | "refused";
  why: string;
  paths: CarvePath[];
}
export interface CarvePath {
  path: string;
  tier: Tier;
  allowed: boolean; // no reason makes good what is not
  reasons: Reason[] | null;
  findings: Finding[] | null;
}
export interface CarveInput {
  node: string;
  paths: string[];
  reason?: string;
  expires_seconds?: number;
}
export interface CarveUsage {
  bytes: number;
  limit_bytes: number;
}
export interface CarvePage {
  carves: Carve[];
  usage: CarveUsage;
  next_cursor?: string;
}
export interface ArchivedFile {
  path: string;
  size: number;
  mode: string; // as -rw-r--r--
  modified?: string;
  type: string;
  odd?: string; // why its name is not what it should be
  link?: string; // what it points to
}
export interface ArchiveFiles {
  files: ArchivedFile[];
  truncated: boolean;
}

export interface TriggerLatency {
  delivered_p50_ms: number;
  delivered_p99_ms: number;
  answered_p50_ms: number;
  answered_p99_ms: number;
}
export interface Trigger {
  name: string;
  description: string;
  has_token: boolean;
  token_since?: string;
  fired: number; // within 30 days
  answered: number;
  last_fired_at?: string;
  latency?: TriggerLatency;
}
export interface TriggerToken {
  token: string;
  url?: string;
}
/** What became of a payload. */
export interface Fired {
  live_id: string;
  node_id: string;
  duplicate: boolean; // the same started live_id before
}
export interface EnrollmentQuery {
  name: string;
  description: string;
  selector: string;
  sql: string;
  live_id: string;
  asked: number;
  answered: number;
  waiting: number;
  failed: number;
  expired: number;
  latency?: TriggerLatency; // from the enrolment
}
/** How long a group of nodes takes to be asked at most, and how long answers took. */
export interface LiveBound {
  group: string; // a selector
  nodes: number;
  mute?: number; // whose config turns live queries off
  poll_seconds_max: number;
  guaranteed_seconds: number;
  observed: { answered: number; p50_ms: number; p99_ms: number };
}

/** How much of what may have the events wanted was read. */
export interface Progress {
  segments_done: number;
  segments_total: number;
  cut: boolean;
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
  progress: Progress;
}
/** Events that have the same values, in the order of by; null without the column. */
export interface EventGroup {
  values: (string | null)[];
  events: number;
  nodes?: number;
  last: string;
}
export interface EventGroups {
  by: string[];
  groups: EventGroup[];
  others?: EventGroup;
  other_groups: number;
  events: number;
  nodes?: number;
  progress: Progress;
}
export interface EventStateRow extends Event {
  partial?: boolean;
}
export interface EventState {
  rows: EventStateRow[];
  nodes: number;
  known: number;
  next_cursor?: string;
  progress: Progress;
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

export type AuditOutcome = "done" | "refused";
export interface AuditEntry {
  seq: number;
  time: string;
  actor: string;
  session?: string;
  address?: string;
  action: string;
  outcome: AuditOutcome;
  target: string;
  object?: string;
  content_hash?: string;
  reason?: string;
  approvals: string[];
  detail: string; // a JSON object, or empty
  prev: string;
  hash: string;
}
export interface AuditPage {
  entries: AuditEntry[];
  next_cursor?: string;
}
export interface User {
  id: string;
  name: string;
  service: boolean;
  roles: string[];
  /** The provider of sign-on that made them and says their roles. */
  origin?: string;
  created_at: string;
  disabled_at?: string;
  last_login?: string;
  sessions: number;
  second_factor: boolean;
}
export interface UserInput {
  name: string;
  password?: string;
  service?: boolean;
  roles: string[];
  own_password: string;
}
/** Who somebody is at a provider of sign-on, which may be configured no more. */
export interface UserIdentity {
  provider?: string;
  issuer: string;
  subject: string;
}
export interface SignOnProvider {
  name: string;
  title: string;
}
export interface Role {
  name: string;
  description: string;
  built_in: boolean;
  permissions: string[];
  selector: string;
  live_tier: Tier;
  schedule_tier: Tier;
  row_tier: Tier;
  max_nodes: number;
}
/** What is left to a token of what its owner may do. */
export interface TokenScope {
  permissions?: string[];
  selector?: string;
  live_tier?: Tier;
  schedule_tier?: Tier;
  row_tier?: Tier;
  max_nodes?: number;
}
export interface Token {
  id: string;
  owner: string;
  name: string;
  scope: TokenScope;
  networks: string[];
  created_at: string;
  created_by: string;
  expires_at: string;
  revoked_at?: string;
  last_used?: string;
  last_from?: string;
  state: "works" | "expires soon" | "expired" | "revoked";
}
export interface TokenInput {
  name: string;
  scope?: TokenScope;
  networks?: string[];
  hours: number;
  own_password: string;
}
export interface NewToken extends Token {
  token: string;
}
export interface UserList {
  users: User[];
}

/** Names a resource. */
export interface Key {
  kind: string;
  name: string;
}
/** Which resource a part of a config comes from, and which others lost. */
export interface ConfigSource {
  path: string;
  source: Key;
  lost?: Key[];
}
export interface NodeConfig {
  node_id: string;
  revision: number;
  hash: string;
  config: unknown;
  sources: ConfigSource[];
  on_disk?: boolean;
  bare?: string;
  reported?: string;
}
/** One thing that a node was given. */
export interface Activity {
  time: string;
  last?: string;
  kind: "config" | "live_query" | "tag";
  revision?: number;
  hash?: string;
  id?: string;
  sql?: string;
  by?: string;
  message?: string;
  state?: string;
}
export interface NodeActivity {
  entries: Activity[];
}

/** 0 harmless, 1 internal, 2 sensitive, 3 dangerous. */
export type Tier = 0 | 1 | 2 | 3;
export type Severity = "refused" | "warning" | "note";
export interface Reason {
  kind: string;
  name: string;
  tier: Tier;
  why: string;
}
export interface Finding {
  code: string;
  message: string;
  severity: Severity;
  line?: number; // from 1; absent is the whole text
  column?: number; // in characters, from 1
}
export interface Verdict {
  tier: Tier;
  reasons: Reason[];
  findings: Finding[];
  platforms: string[];
  hash?: string;
  exception?: string;
}
export interface PolicyInput {
  sql: string;
  use: "live";
}
export interface PolicyVerdict extends Verdict {
  allowed: boolean;
}

export type ChangeState = "planned" | "unchanged" | "refused" | "pending" | "approved" | "applied" | "rejected" | "withdrawn" | "stale";
export interface FieldEdit {
  path: string;
  before?: string;
  after?: string;
}
export interface Edit extends Key {
  op: "create" | "change" | "delete";
  fields: FieldEdit[];
}
/** A part of a change that has a tier or findings. */
export interface ChangeItem extends Key {
  path: string;
  verdict: Verdict;
}
/** What a schedule costs one node in a day. */
export interface DayCost {
  cpu_seconds: number;
  rows: number;
  bytes: number;
}
export interface Effect {
  nodes: number;
  online: number;
  platforms: Record<string, number>;
  sample: string[];
  cost_before: DayCost;
  cost_after: DayCost;
  unpriced: string[];
}
export interface Approval {
  by: string;
  at: string;
  hash: string;
}
export interface Change {
  id: string;
  state: ChangeState;
  author: string;
  message: string;
  created_at: string;
  base: number;
  hash: string;
  tier: Tier;
  diff: Edit[];
  findings: ChangeItem[];
  refusals: string[];
  effect: Effect;
  needed: number;
  rule?: string;
  approvals: Approval[];
  rollout?: string;
  revision?: number;
  decided_by?: string;
  decided_at?: string;
  decision?: string;
}
export interface ChangeList {
  changes: Change[];
  next_cursor?: string;
}

export type RolloutState = "running" | "paused" | "done" | "rolled_back";
export interface RolloutStage {
  name: string;
  bake_seconds: number;
}
export interface Gate {
  gate: string;
  ok: boolean;
  waiting?: boolean;
  final?: boolean;
  message: string;
  nodes?: string[];
}
export interface RolloutCounts {
  nodes: number;
  changed: number;
  admitted: number;
  online: number;
  applied: number;
  control: number;
}
export interface Rollout {
  revision: number;
  base: number;
  state: RolloutState;
  policy: string;
  stages: RolloutStage[];
  stage: number;
  stage_at: string;
  started_at: string;
  ended_at?: string;
  reason?: string;
  gates: Gate[];
  counts?: RolloutCounts; // only of the one that is open
  frozen?: string;
}
export interface RolloutList {
  rollouts: Rollout[];
}

export interface Freeze {
  frozen: boolean;
  reasons: string[];
  since?: string;
  break?: Break;
}
/** Break-glass that is asked for, or in force. */
export interface Break {
  by: string;
  reason: string;
  at: string;
  approved_by?: string;
  until?: string;
}
/** Whom the safe config is served. */
export interface Safe {
  active: boolean;
  selector?: string;
  by?: string;
  reason?: string;
  at?: string;
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

export type AlertSeverity = "info" | "low" | "medium" | "high" | "critical";
export type AlertState = "open" | "acknowledged" | "resolved";
export interface Alert {
  id: string;
  rule: string; // with a colon: one of the server's own
  key: string;
  state: AlertState;
  severity: AlertSeverity;
  title: string;
  text: string;
  labels: Record<string, string>;
  node_id: string;
  host_identifier: string;
  hostname?: string;
  query: string;
  count: number;
  episodes: number;
  first_at: string;
  opened_at: string;
  last_at: string;
  resolved_at?: string;
  resolved_by?: string;
  resolves_at?: string;
  acknowledged_by?: string;
  acknowledged_at?: string;
  assignee: string;
  silenced_by?: string;
}
export interface AlertPage {
  alerts: Alert[];
  next_cursor?: string;
  counts: Record<string, number>;
  open: Record<string, number>;
}
/** One of an alert's newest firings. */
export interface AlertSample {
  number: number;
  at: string;
  event?: string;
  event_time?: string;
  title: string;
  columns?: Record<string, unknown>;
}
export interface AlertEntry {
  seq: number;
  alert_id: string;
  at: string;
  actor: string;
  action: string;
  detail: string;
}
export interface AlertNotification {
  seq: number;
  notifier: string;
  alert_id: string;
  alert_title: string;
  action: string;
  state: "waiting" | "delivered" | "dead";
  created_at: string;
  due_at?: string;
  delivered_at?: string;
  silence?: string;
  attempts: number;
  error?: string;
}
export interface AlertDetail extends Alert {
  samples: AlertSample[];
  history: AlertEntry[];
  notifications: AlertNotification[];
}
export interface Silence {
  id: string;
  match: string[];
  comment: string;
  created_by: string;
  created_at: string;
  starts_at: string;
  expires_at: string;
  ended_by?: string;
  active: boolean;
  alerts: number;
}
export interface SilenceInput {
  match: string[];
  comment: string;
  starts_at?: string;
  expires_at: string;
}
export interface Notifier {
  name: string;
  description: string;
  way: "pagerduty" | "email" | "slack" | "webhook" | "";
  target: string;
  default: boolean;
  min_severity: string;
  match: string[];
  selector: string;
  served: boolean;
  waiting: number;
  dead: number;
  oldest_due?: string;
}
export interface NotifierAnswer {
  answer: string;
  took_ms: number;
}

/** One thing about how a node fares. */
export interface NodeFinding {
  node_id: string;
  hostname: string;
  kind: string;
  subject?: string;
  severity: AlertSeverity;
  text: string;
  opened_at: string;
  last_at: string;
  count: number;
  until?: string;
  closed_at?: string;
}
export interface NodeFindings {
  findings: NodeFinding[];
  next_cursor?: string;
}
export interface Health {
  open: Record<string, number>;
}
/** When a node's watchdog ends its worker. */
export interface NodeWatchdog {
  off: boolean;
  level: number;
  percent: number;
  cores: number;
  threshold: number;
  seconds: number;
  memory_mb: number;
  bites: boolean;
  why: string;
}
export interface NodeHealth {
  open: NodeFinding[];
  recent: NodeFinding[];
  watchdog?: NodeWatchdog;
}

export interface RuleLatency {
  samples: number;
  p50_ms: number;
  p99_ms: number;
  worst_ms: number;
}
export interface RuleStatus {
  name: string;
  description: string;
  state: "on" | "off" | "shadow" | "set aside";
  why?: string;
  severity: AlertSeverity;
  queries: string[];
  tables: string[];
  condition: string;
  document?: string;
  counts: Record<
    "evaluated" | "matched" | "unknown" | "fired" | "suppressed" | "resolved" | "alerted" | "merged" | "asked" | "tagged" | "refused" | "failed" | "evicted",
    number
  >;
  cost_ns_per_event: number;
  spent_ms: number;
  keys: number;
  last_match_at?: string;
  last_error?: string;
  last_error_at?: string;
  to_match: RuleLatency;
  queued: RuleLatency;
  bounds?: RuleBound[];
}
/** How late a row of a query arrives at most from online nodes of a platform. */
export interface RuleBound {
  query: string;
  platform: string;
  nodes: number;
  interval_seconds: number;
  seconds: number;
  to_match: RuleLatency;
}
/** One event that fits a rule. */
export interface RuleMatch {
  event: Event;
  key: string;
  title: string;
  fired: boolean;
  closes: boolean;
}
export interface RuleTest {
  rule: string;
  events: number;
  evaluated: number;
  matched: number;
  unknown: number;
  fired: number;
  suppressed: number;
  resolved: number;
  nodes: number;
  keys: number;
  fired_per_day: number;
  cost_ns_per_event: number;
  from?: string;
  to?: string;
  truncated: boolean;
  notes: string[];
  matches: RuleMatch[];
}

export interface Sink {
  name: string;
  type: string;
  format: string;
  required: boolean;
  state: "running" | "failing" | "paused";
  error?: string;
  failing_since?: string;
  paused_at?: string;
  paused_by?: string;
  delivered_at?: string;
  position: number;
  sent: number;
  lost_messages: number;
  lag: { messages: number; bytes: number; oldest?: string; seconds: number };
  dead: { letters: number; bytes: number };
  replay?: { since: string; until: string; done: string; sent: number; by: string };
}
export interface SinkLetter {
  at: string;
  reason: string;
  event: unknown;
}

export interface FactorList {
  factors: { id: string; kind: "totp" | "passkey"; name: string; created_at: string; last_used?: string }[];
  recovery_codes_left: number;
}
export interface Invited {
  name: string;
  reset: boolean;
  roles: string[];
}
/** What a browser is asked, and what it says. */
export interface PasskeyQuestion {
  id: string;
  options: Record<string, unknown>;
}
export interface PasskeyAnswer {
  id: string;
  credential: unknown;
}
export interface FactorSecret {
  id: string;
  secret: string;
  uri: string;
  qr: string;
}
export interface SessionInfo {
  id: string;
  kind: "cookie" | "bearer";
  created_at: string;
  last_seen: string;
  expires_at: string;
  address: string;
  agent: string;
  current: boolean;
}
