package command

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/radixbus/radixbus/internal/telemetry"
)

// adminFlags say where operators are served, and which of them.
type adminFlags struct {
	host    string
	port    int
	keyFile string
}

func (a *adminFlags) flags(f *pflag.FlagSet, port int) {
	f.StringVar(&a.host, "admin-host", "127.0.0.1", "address of the admin listener: metrics, readiness, profiles, control of workers")
	portVar(f, &a.port, "admin-port", port, "port of the admin listener; 0 picks a free one")
	f.StringVar(&a.keyFile, "admin-key-file", "", "file with the key that operators show for profiles and control (default: this machine's programs alone are served)")
}

func (a *adminFlags) listen(reg *prometheus.Registry, ready func() error, control http.Handler) (*telemetry.Admin, error) {
	key, err := readSecret("admin-key-file", a.keyFile)
	if err != nil {
		return nil, err
	}
	return telemetry.ListenAdmin(telemetry.AdminConfig{Host: a.host, Port: a.port, Registry: reg, Ready: ready, Control: control, Key: key})
}
