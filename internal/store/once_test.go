package store_test

import (
	"testing"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/store/storetest"
)

// TestOnce: a key is taken by one call, until a day has passed.
func TestOnce(t *testing.T) {
	s := storetest.New(t)
	ctx, now := t.Context(), time.Now()
	begin := func(who, key, hash string, at time.Time) (account.Once, bool) {
		t.Helper()
		first, begun, err := s.BeginOnce(ctx, account.Once{Account: who, Key: key, Hash: []byte(hash), At: at})
		if err != nil {
			t.Fatal(err)
		}
		return first, begun
	}
	if _, begun := begin("ann", "k", "one", now); !begun {
		t.Error("the first call did not begin")
	}
	if first, begun := begin("ann", "k", "two", now); begun || first.Done || string(first.Hash) != "one" {
		t.Errorf("the second: %+v %v", first, begun)
	}
	if _, begun := begin("bob", "k", "one", now); !begun {
		t.Error("somebody else's key is taken")
	}
	if err := s.EndOnce(ctx, account.Once{Account: "ann", Key: "k", Answer: []byte("done")}); err != nil {
		t.Fatal(err)
	}
	if first, begun := begin("ann", "k", "one", now.Add(account.OnceFor-time.Minute)); begun || !first.Done || string(first.Answer) != "done" {
		t.Errorf("when it is done: %+v %v", first, begun)
	}
	if _, begun := begin("ann", "k", "one", now.Add(account.OnceFor+time.Minute)); !begun {
		t.Error("a key is taken for longer than a day")
	}
	if err := s.ForgetOnce(ctx, account.Once{Account: "ann", Key: "k"}); err != nil {
		t.Fatal(err)
	}
	if _, begun := begin("ann", "k", "one", now); !begun {
		t.Error("a call that failed cannot be sent again")
	}
	if more, err := s.PruneOnce(ctx, now.Add(time.Second)); more || err != nil {
		t.Fatal(more, err)
	}
	for _, who := range []string{"ann", "bob"} {
		if _, begun := begin(who, "k", "two", now); !begun {
			t.Errorf("%s's old call is still there", who)
		}
	}
}
