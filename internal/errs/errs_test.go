package errs_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/musterhq/muster/internal/errs"
)

func TestErrors(t *testing.T) {
	t.Parallel()
	wrapped := errs.Wrap(errs.Busy, io.ErrUnexpectedEOF, "the disk is full")
	tests := []struct {
		err  error
		kind errs.Kind
		text string
	}{
		{errors.New("x"), errs.Internal, "x"},
		{&errs.Error{Message: "no kind"}, errs.Internal, "no kind"},
		{errs.New(errs.NotFound, "no node %q", "a"), errs.NotFound, `no node "a"`},
		{errs.Field("sql", "is %s", "empty"), errs.Invalid, "sql: is empty"},
		{wrapped, errs.Busy, "the disk is full: unexpected EOF"},
		{fmt.Errorf("append: %w", wrapped), errs.Busy, "append: the disk is full: unexpected EOF"},
		{errs.Wrap(errs.Conflict, wrapped, "outer"), errs.Conflict, "outer: the disk is full: unexpected EOF"},
		{errors.Join(io.EOF, errs.New(errs.Forbidden, "no")), errs.Forbidden, "EOF\nno"},
	}
	for _, tt := range tests {
		if errs.KindOf(tt.err) != tt.kind || !errs.Is(tt.err, tt.kind) || tt.err.Error() != tt.text {
			t.Errorf("%v is %v: %q", tt.err, errs.KindOf(tt.err), tt.err)
		}
	}
	if !errors.Is(wrapped, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
	if errs.Is(nil, errs.Internal) {
		t.Error("no error is internal")
	}
}

func TestKind(t *testing.T) {
	t.Parallel()
	want := []string{"internal", "invalid", "unauthenticated", "forbidden", "not_found", "conflict", "too_large", "busy", "limited", "internal"}
	for i, w := range want {
		if got := errs.Kind(i).String(); got != w {
			t.Errorf("kind %d is %q, want %q", i, got, w)
		}
	}
}
