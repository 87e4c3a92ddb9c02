// Package errs holds the few kinds of error that callers act on. A kind is
// chosen where the fact is known; exactly one adapter per listener turns it
// into a status and a body. Everything that is not an *Error is internal: its
// text goes to the server's log, never to a client.
package errs

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what a caller can do about an error.
type Kind uint8

// The kinds. The zero value is Internal, so that a forgotten kind hides its
// text instead of showing it.
const (
	Internal        Kind = iota // a defect or a failed part; retrying may help
	Invalid                     // the input is wrong; Field names where
	Unauthenticated             // who are you
	Forbidden                   // known, but not allowed
	NotFound                    // no such thing
	Conflict                    // exists already, or changed meanwhile
	TooLarge                    // over a named limit
	Busy                        // a limit or a full disk; try again later
	Limited                     // the caller asks too often; After says when to come again
)

// String returns the word used in logs and in problem documents.
func (k Kind) String() string {
	switch k {
	case Invalid:
		return "invalid"
	case Unauthenticated:
		return "unauthenticated"
	case Forbidden:
		return "forbidden"
	case NotFound:
		return "not_found"
	case Conflict:
		return "conflict"
	case TooLarge:
		return "too_large"
	case Busy:
		return "busy"
	case Limited:
		return "limited"
	case Internal:
	}
	return "internal"
}

// Error is an error whose Message may be shown to the caller.
type Error struct {
	Kind    Kind
	Field   string        // the input that is wrong, in its outward spelling; "" if none
	Message string        // what is wrong and the next step, for the caller
	Err     error         // the cause, for the log; may be nil
	After   time.Duration // when to try again; 0 if that is not known
}

// Error returns field, message and cause, for logs.
func (e *Error) Error() string {
	s := e.Message
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of the given kind with a formatted message.
func New(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Field returns an Invalid error about one input.
func Field(field, format string, args ...any) error {
	return &Error{Kind: Invalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns an error of the given kind that shows message and keeps err,
// whose text is not shown, for the log.
func Wrap(kind Kind, err error, message string) error {
	return &Error{Kind: kind, Message: message, Err: err}
}

// KindOf returns the kind of the first *Error in err's chain, else Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is of the given kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }
