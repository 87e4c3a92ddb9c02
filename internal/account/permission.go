package account

import (
	"slices"
	"strings"
)

// Permission is a verb on a kind of thing. Every route of the admin API
// declares the one that it needs.
type Permission string

// The permissions. Public needs no session, Self any session.
const (
	Public       Permission = "public"
	Self         Permission = "self"
	NodeRead     Permission = "node.read"
	NodeWrite    Permission = "node.write"
	SecretRead   Permission = "secret.read"
	SecretWrite  Permission = "secret.write"
	LiveRead     Permission = "live.read"
	LiveRunSaved Permission = "live.run_saved" // run saved queries as they are
	LiveRun      Permission = "live.run"       // run any text, and save it
	LiveApprove  Permission = "live.approve"   // consent to others' live queries, or reject them
	EventRead    Permission = "event.read"
	AuditRead    Permission = "audit.read"
	SystemRead   Permission = "system.read"

	ResourceRead  Permission = "resource.read"  // what agents run, and what may change
	ChangeWrite   Permission = "change.write"   // propose, apply, withdraw and restore
	GovernWrite   Permission = "govern.write"   // propose changes of what governs: policies, roles, approvals
	ChangeApprove Permission = "change.approve" // consent to others' changes, or reject them
	RolloutWrite  Permission = "rollout.write"  // move a rollout on, pause it, go back
	FreezeWrite   Permission = "freeze.write"   // freeze, thaw and break-glass
	Emergency     Permission = "emergency.write"
	TriggerWrite  Permission = "trigger.write" // make and revoke the tokens of triggers
	SinkRead      Permission = "sink.read"
	SinkWrite     Permission = "sink.write" // pause, resume, replay and test sinks; their dead letters
	CarveRead     Permission = "carve.read"
	CarveRun      Permission = "carve.run"
	CarveDownload Permission = "carve.download"
	AlertRead     Permission = "alert.read"
	AlertWrite    Permission = "alert.write"    // acknowledge, assign, comment, resolve, reopen
	SilenceWrite  Permission = "silence.write"  // keep alerts from being told
	NotifierWrite Permission = "notifier.write" // test notifiers, have dead letters told again
	// NodeTransparency lets one give a node's owner a link, and take it back.
	NodeTransparency Permission = "node.transparency"
	SystemBackup     Permission = "system.backup" // take all there is away, keys and all
	UserRead         Permission = "user.read"
	UserWrite        Permission = "user.write" // make people, give and take their roles, end their sessions
)

// Permissions returns all that a role can give, in the order in which people read
// them.
func Permissions() []Permission {
	return []Permission{
		NodeRead, NodeWrite, NodeTransparency, EventRead, LiveRead, LiveRunSaved, LiveRun, LiveApprove, CarveRead, CarveRun, CarveDownload,
		AlertRead, AlertWrite, SilenceWrite, NotifierWrite, SinkRead, SinkWrite, TriggerWrite,
		ResourceRead, ChangeWrite, GovernWrite, ChangeApprove, RolloutWrite, FreezeWrite, Emergency,
		SecretRead, SecretWrite, UserRead, UserWrite, AuditRead, SystemRead, SystemBackup,
	}
}

// implied are permissions that others bring with them.
func implied(p Permission) []Permission {
	if p == LiveRun {
		return []Permission{LiveRunSaved}
	}
	return nil
}

// perNode are the permissions that can be had for some nodes alone; what the
// others let one do reaches every node, or none. Operations of these that are not
// about nodes take them for all.
func perNode() []Permission {
	return []Permission{NodeRead, NodeWrite, NodeTransparency, EventRead, LiveRead, LiveRunSaved, LiveRun, CarveRead, CarveRun, CarveDownload, AlertRead, AlertWrite, ResourceRead, SystemRead}
}

// approving are the permissions to consent to what others want.
func approving() []Permission { return []Permission{ChangeApprove, LiveApprove} }

// reading are the permissions that change nothing.
func reading() []Permission {
	return slices.DeleteFunc(Permissions(), func(p Permission) bool { return !strings.HasSuffix(string(p), ".read") })
}

// expand returns the permissions that a pattern means, as node.read, live.* and *;
// none if it means nothing.
func expand(pattern string) []Permission {
	prefix, open := strings.CutSuffix(pattern, "*")
	return slices.DeleteFunc(Permissions(), func(p Permission) bool {
		if open {
			return !strings.HasPrefix(string(p), prefix)
		}
		return string(p) != pattern
	})
}
