//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
)

// childEnv makes the test binary the writer that is killed; see TestKill.
const childEnv = "MUSTER_TEST_STORE_CHILD"

// server is the PostgreSQL of this run, started by the first test that needs it.
type server struct {
	once sync.Once
	*storetest.Postgres
	err error
}

var pg server

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		child(path)
		return
	}
	m.Run()
	if pg.Postgres != nil {
		if err := pg.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// postgres returns the server, or skips the test where there is none to start;
// with MUSTER_TEST_REQUIRE_ALL=1 the test fails then.
func postgres(t testing.TB) *storetest.Postgres {
	t.Helper()
	pg.once.Do(func() { pg.Postgres, pg.err = storetest.StartPostgres(context.Background()) })
	if errors.Is(pg.err, storetest.ErrNoPostgres) && os.Getenv("MUSTER_TEST_REQUIRE_ALL") != "1" {
		t.Skip(pg.err)
	}
	if pg.err != nil {
		t.Fatal(pg.err)
	}
	return pg.Postgres
}

// engine is where the suite runs.
type engine struct {
	name  string
	fresh func(testing.TB) string // location of a database, with or without tables
}

func engines() []engine {
	return []engine{
		{"sqlite", func(t testing.TB) string { return filepath.Join(t.TempDir(), "state.db") }},
		{"postgres", func(t testing.TB) string { return postgres(t).Fresh(t) }},
	}
}

// suite runs tests for both engines, each with a database of its own.
func suite(t *testing.T, tests map[string]func(*testing.T, *store.Store)) {
	t.Helper()
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			if e.name == "postgres" {
				postgres(t)
			}
			for name, test := range tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, storetest.Open(t, e.fresh(t)))
				})
			}
		})
	}
}

// TestStore is the suite: the same for both engines, each test with a database
// of its own.
func TestStore(t *testing.T) {
	t.Parallel()
	suite(t, map[string]func(*testing.T, *store.Store){
		"ping":                  testPing,
		"alert":                 testAlert,
		"alert list":            testAlertList,
		"alert race":            testAlertRace,
		"silence":               testSilence,
		"notification":          testNotification,
		"trigger token":         testTriggerToken,
		"trigger firing":        testTriggerFiring,
		"rule windows":          testRuleWindows,
		"enrollment":            testEnrollment,
		"carve":                 testCarve,
		"carve list":            testCarveList,
		"enrol":                 testEnrol,
		"enrol refused":         testEnrolRefused,
		"enrol again":           testEnrolAgain,
		"enrol text":            testEnrolText,
		"enrol uses":            testEnrolUses,
		"enrol together":        testEnrolTogether,
		"enrol clash":           testEnrolClash,
		"enrol known":           testEnrolKnown,
		"enrol clones":          testEnrolClones,
		"enrol busy":            testEnrolBusy,
		"node presence":         testPresence,
		"node attributes":       testAttributes,
		"node history":          testHistory,
		"node transparency":     testTransparency,
		"live of a node":        testLiveOf,
		"node flapping":         testHistoryFlapping,
		"node history max":      testHistoryMax,
		"node who":              testWho,
		"node revoke":           testRevoke,
		"node quarantine":       testQuarantine,
		"node gone":             testGone,
		"node expire":           testExpire,
		"node import":           testImport,
		"node import many":      testImportMany,
		"node delete":           testNodeDelete,
		"node tags":             testNodeTags,
		"node tag sources":      testTagSources,
		"node set tags":         testSetTags,
		"node set tags many":    testSetTagsMany,
		"node set tags busy":    testSetTagsBusy,
		"node tag history":      testTagHistory,
		"node tag history max":  testTagHistoryMax,
		"node details":          testNodeDetails,
		"node find":             testNodeFind,
		"node since":            testNodesSince,
		"node touch":            testTouch,
		"node pages":            testNodePages,
		"node filter":           testNodeFilter,
		"node facets":           testNodeFacets,
		"node cursor":           testNodeCursor,
		"node many":             testNodeMany,
		"secret":                testSecret,
		"secret rotate":         testSecretRotate,
		"secret values":         testSecretValues,
		"live":                  testLive,
		"live late":             testLiveLate,
		"live stray":            testLiveStray,
		"live text":             testLiveText,
		"live end":              testLiveEnd,
		"live list":             testLiveList,
		"live answers":          testLiveAnswers,
		"live large":            testLiveLarge,
		"live together":         testLiveTogether,
		"live coordinator":      testLiveCoordinator,
		"live stop":             testLiveStop,
		"live alter":            testLiveAlter,
		"live standing":         testLiveStanding,
		"live prune":            testLivePrune,
		"live latency":          testLiveLatency,
		"live page":             testLivePage,
		"live page hostile":     testLivePageHostile,
		"live page large":       testLivePageLarge,
		"live groups":           testLiveGroups,
		"live groups many":      testLiveGroupsMany,
		"live compare":          testLiveCompare,
		"live compare moved":    testLiveCompareMoved,
		"live rows":             testLiveRows,
		"live costs":            testLiveCosts,
		"saved queries":         testSavedQueries,
		"account":               testAccount,
		"account first":         testAccountFirst,
		"session":               testSession,
		"user update":           testUserUpdate,
		"token":                 testToken,
		"factor":                testFactor,
		"identity":              testIdentity,
		"invitation":            testInvitation,
		"audit":                 testAudit,
		"audit together":        testAuditTogether,
		"registry and enroller": testRegistry,
	})
}

// start is the time of most tests: with microseconds, which both engines keep.
var start = time.Date(2026, 3, 29, 1, 30, 0, 123456000, time.UTC)

// keyHash is some hash for a name.
func keyHash(name string) node.KeyHash { return sha256.Sum256([]byte(name)) }

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		ok(t, err)
		return v
	}
}

// wantKind fails unless err is of a kind.
func wantKind(t testing.TB, err error, kind errs.Kind) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Fatalf("got error %v, want one of kind %v", err, kind)
	}
}

// together runs f n times at once and returns its errors.
func together(n int, f func(i int) error) []error {
	begin := make(chan struct{})
	list := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-begin
			list[i] = f(i)
		})
	}
	close(begin)
	wg.Wait()
	return list
}

func testPing(t *testing.T, s *store.Store) { ok(t, s.Ping(t.Context())) }
