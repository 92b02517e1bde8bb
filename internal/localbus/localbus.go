// Package localbus is the bus inside a process: an embedded nats-server, so that one command is a whole system.
//
// It listens on loopback unless told otherwise. Roles in the same process do not use that socket: they connect
// through [Server.InProcess], a pipe, which costs a third of a loopback round trip.
//
// # Lifecycle
//
// [Start] returns a server that accepts connections; [Server.Stop] ends it and waits. Drain clients first.
package localbus

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// MaxPayload is the largest message that the embedded bus carries. Bodies above wire.MaxPart go in parts anyway.
const MaxPayload = 8 << 20

// Config tells a Server where to be. The zero value listens on a free loopback port, with a store that is removed
// when it stops.
type Config struct {
	// Host is where clients connect. Default 127.0.0.1. Any other than a loopback address is refused: a bus that
	// strangers can reach needs credentials, which the embedded one does not have yet.
	Host string
	// Port of the client listener. 0 picks a free one.
	Port int
	// Dir keeps JetStream's files. Default: a temporary folder, removed by Stop.
	Dir string
	// Log receives what the server says at warning level and above. Default: none.
	Log *slog.Logger
}

// ErrOpenBus reports a bus that was told to listen where strangers are.
var ErrOpenBus = errors.New("localbus: the embedded bus has no credentials and listens on loopback only; run an external nats-server for other hosts")

// Server is a running bus.
type Server struct {
	ns      *server.Server
	tempDir string
}

// Start begins to serve.
func Start(cfg Config) (*Server, error) {
	host := cfg.Host
	if host == "" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%w (asked for %s)", ErrOpenBus, host)
	}
	if err := free(host, cfg.Port); err != nil {
		return nil, err
	}
	s, dir := &Server{}, cfg.Dir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "radixbus-bus-"); err != nil {
			return nil, fmt.Errorf("bus store: %w", err)
		}
		s.tempDir = dir
	}
	opts := &server.Options{
		ServerName:            fmt.Sprintf("radixbus-%d-%d", os.Getpid(), time.Now().UnixNano()),
		Host:                  host,
		Port:                  cfg.Port,
		NoSigs:                true, // the program has one owner of signals
		NoSystemAccount:       true,
		JetStream:             true,
		StoreDir:              dir,
		JetStreamMaxMemory:    256 << 20,
		JetStreamMaxStore:     4 << 30,
		MaxPayload:            MaxPayload,
		MaxPending:            128 << 20,
		WriteDeadline:         5 * time.Second,
		PingInterval:          5 * time.Second,
		MaxPingsOut:           2,
		NoFastProducerStall:   true, // a stuck reader must not slow the streams of others
		LameDuckDuration:      30 * time.Second,
		LameDuckGracePeriod:   10 * time.Second,
		DisableShortFirstPing: true,
	}
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embedded bus: %w", err), s.removeTemp())
	}
	s.ns = ns
	if cfg.Log != nil {
		ns.SetLoggerV2(bridge{cfg.Log}, false, false, false)
	}
	ns.Start()
	if !ns.ReadyForConnections(20 * time.Second) {
		return nil, errors.Join(fmt.Errorf("embedded bus: not ready on %s:%d in 20 s", host, cfg.Port), s.Stop())
	}
	return s, nil
}

// free tells at once that a port is taken, which the server would only log, and try again until its start times out.
func free(host string, port int) error {
	if port == 0 {
		return nil
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("embedded bus: %w", err)
	}
	return ln.Close()
}

// URL is where other processes connect.
func (s *Server) URL() string { return s.ns.ClientURL() }

// InProcess is the option that connects a client of this process through a pipe. The server reads it for as long as there is a
// process, so that writes need no timeout, which costs a pipe two timers each.
func (s *Server) InProcess() nats.Option {
	return func(o *nats.Options) error {
		o.InProcessServer, o.FlusherTimeout = s.ns, 0
		return nil
	}
}

// Stop ends the server, waits for it and removes a temporary store.
func (s *Server) Stop() error {
	if s.ns != nil {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
	}
	return s.removeTemp()
}

func (s *Server) removeTemp() error {
	if s.tempDir == "" {
		return nil
	}
	return os.RemoveAll(s.tempDir)
}

// bridge hands the server's log lines to slog. Its information lines are of use to nobody who runs `up`.
type bridge struct{ log *slog.Logger }

func (b bridge) Noticef(format string, v ...any) { b.log.Debug("bus: " + fmt.Sprintf(format, v...)) }
func (b bridge) Warnf(format string, v ...any)   { b.log.Warn("bus: " + fmt.Sprintf(format, v...)) }
func (b bridge) Fatalf(format string, v ...any)  { b.log.Error("bus: " + fmt.Sprintf(format, v...)) }
func (b bridge) Errorf(format string, v ...any)  { b.log.Error("bus: " + fmt.Sprintf(format, v...)) }
func (b bridge) Debugf(format string, v ...any)  {}
func (b bridge) Tracef(format string, v ...any)  {}
