package agentapi

import (
	"context"
	"net/http"

	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/osquery"
)

// Carves takes archives; see carve.Service.
type Carves interface {
	// Begin returns the secret of a session.
	Begin(ctx context.Context, from carve.Sender, r osquery.CarveStart) (session string, err error)
	// Block keeps a block durably, and reports whether it was the last. It takes
	// data's memory, and the room behind it.
	Block(ctx context.Context, from carve.Sender, session string, block int64, data []byte) (last bool, err error)
}

// carveStart opens the session of an archive. An agent tries three times, then
// gives the carve up for ever.
func (a *API) carveStart(w http.ResponseWriter, r request, body []byte) error {
	if a.Carves == nil {
		return errs.New(errs.NotFound, "this server takes no carves")
	}
	n, err := a.authenticate(r, body)
	if err != nil {
		return err
	}
	start, err := osquery.DecodeCarveStart(body)
	if err != nil {
		return err
	}
	session, err := a.Carves.Begin(r.Context(), carve.Sender{Node: n, Certificate: r.peer.Certificate.Fingerprint}, start)
	if err != nil {
		return err
	}
	b, err := osquery.CarveSession{SessionID: session}.Encode()
	if err != nil {
		return err
	}
	write(w, b)
	return nil
}

// allThere answers the last block, as the carve server does.
const allThere = `{"success":true}`

// carveContinue keeps a block. Agents before 5.23.0 send no key with it: the
// session is their proof, and the certificate that it began with.
func (a *API) carveContinue(w http.ResponseWriter, r request, body []byte) error {
	if a.Carves == nil {
		return errs.New(errs.NotFound, "this server takes no carves")
	}
	block, err := osquery.DecodeCarveBlock(body)
	if err != nil {
		return err
	}
	from := carve.Sender{Node: r.sender, Certificate: r.peer.Certificate.Fingerprint}
	if from.Node == nil && block.NodeKey != "" {
		if from.Node = a.Nodes.Authenticate(block.NodeKey); from.Node == nil {
			return errNodeInvalid
		}
	}
	if from.Node != nil {
		if err := a.bound(from.Node, r.peer.Certificate); err != nil {
			return err
		}
		from.Node.Touch(a.Now(), r.peer.Address, r.route.seen)
	}
	data, err := block.Data()
	if err != nil {
		return err
	}
	last, err := a.Carves.Block(r.Context(), from, block.SessionID, block.Block, data)
	if err != nil {
		return err
	}
	if last {
		write(w, []byte(allThere))
		return nil
	}
	write(w, []byte(accepted))
	return nil
}
