package agentapi

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/musterhq/muster/internal/osquery"
)

func (a *API) enroll(w http.ResponseWriter, r request, body []byte) error {
	req, err := osquery.DecodeEnroll(body, a.SecretName)
	if err != nil {
		return err
	}
	if req.EnrollSecret == "" && r.URL.RawQuery != "" { // --tls_secret_always puts it there, too
		req.EnrollSecret = strings.TrimSpace(r.URL.Query().Get(a.SecretName))
	}
	a.redactDetails(req.HostDetails)
	key, n, err := a.Enroller.Enrol(r.Context(), req, r.peer.Address, r.peer.Certificate)
	if err != nil {
		return err
	}
	a.Log.InfoContext(r.Context(), "node enrolled", "node", n.ID, "host_identifier", n.HostIdentifier,
		"hostname", n.Hostname, "secret", n.Secret, "enrolments", n.Enrolments, "remote", r.peer.Address)
	answer, err := json.Marshal(osquery.EnrollResponse{NodeKey: key})
	if err != nil {
		return err
	}
	write(w, answer)
	return nil
}
