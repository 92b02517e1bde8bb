package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/radixbus/radixbus/internal/config"
)

// options are flags of every kind there is.
type options struct {
	Model, Policy string
	Port          int
	Speed         float64
	Report        bool
	Drain         time.Duration
	Engines       []string
}

func flags(o *options) *pflag.FlagSet {
	f := pflag.NewFlagSet("up", pflag.ContinueOnError)
	f.StringVar(&o.Model, "model", "default", "")
	f.StringVar(&o.Policy, "policy", "radix", "")
	f.IntVar(&o.Port, "admin-port", 8081, "")
	f.Float64Var(&o.Speed, "speed", 1, "")
	f.BoolVar(&o.Report, "cache-report", true, "")
	f.DurationVar(&o.Drain, "drain-timeout", time.Second, "")
	f.StringArrayVar(&o.Engines, "engine", []string{"none"}, "")
	return f
}

func defaults() options {
	return options{Model: "default", Policy: "radix", Port: 8081, Speed: 1, Report: true, Drain: time.Second, Engines: []string{"none"}}
}

// bind runs one command as a shell would: args, environ and the text of a file, "" for none.
func bind(t *testing.T, text string, environ []string, args ...string) (options, error) {
	t.Helper()
	path := ""
	if text != "" {
		path = filepath.Join(t.TempDir(), "some.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var o options
	f := flags(&o)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	sim := pflag.NewFlagSet("sim", pflag.ContinueOnError)
	sim.Int("n", 1, "")
	sim.String("model", "", "")
	err := config.Bind(f, "up", path, config.Commands{"up": flags(new(options)), "sim": sim}, environ)
	return o, err
}

func TestSourcesYieldToEachOtherInOrder(t *testing.T) {
	t.Chdir(t.TempDir())
	with := func(change func(*options)) options {
		o := defaults()
		change(&o)
		return o
	}
	everywhere := "model: top\nup:\n  model: section\n"
	environ := []string{"PATH=/bin", "RADIXBUS_MODEL=variable"}
	tests := []struct {
		name    string
		file    string
		environ []string
		args    []string
		want    options
	}{
		{"nothing said", "", nil, nil, defaults()},
		{"command line first", everywhere, environ, []string{"--model", "line"}, with(func(o *options) { o.Model = "line" })},
		{"a default said on the command line still wins", everywhere, environ, []string{"--model", "default"}, defaults()},
		{"then environment", everywhere, environ, nil, with(func(o *options) { o.Model = "variable" })},
		{"then the command's section", everywhere, nil, nil, with(func(o *options) { o.Model = "section" })},
		{"then the top level", "model: top\nsim:\n  model: other\n", nil, nil, with(func(o *options) { o.Model = "top" })},
		{"every kind, from a file", "admin-port: 0\nspeed: 2.5\ncache-report: false\ndrain-timeout: 1m30s\nengine: [http://a, http://b]\n", nil, nil,
			options{Model: "default", Policy: "radix", Speed: 2.5, Drain: 90 * time.Second, Engines: []string{"http://a", "http://b"}}},
		{"every kind, from the environment", "", []string{"RADIXBUS_ADMIN_PORT=0", "RADIXBUS_SPEED=2.5", "RADIXBUS_CACHE_REPORT=false", "RADIXBUS_DRAIN_TIMEOUT=1m30s", "RADIXBUS_ENGINE=http://a, http://b"}, nil,
			options{Model: "default", Policy: "radix", Speed: 2.5, Drain: 90 * time.Second, Engines: []string{"http://a", "http://b"}}},
		{"one item for a list", "engine: http://a\n", nil, nil, with(func(o *options) { o.Engines = []string{"http://a"} })},
		{"a list on the command line is not added to", "engine: [http://a]\n", []string{"RADIXBUS_ENGINE=http://b"}, []string{"--engine", "http://c"}, with(func(o *options) { o.Engines = []string{"http://c"} })},
		{"a comma in a single value", "", []string{"RADIXBUS_MODEL=a,b"}, nil, with(func(o *options) { o.Model = "a,b" })},
		// An unset key became the text "<nil>", an empty section an error.
		{"keys without a value", "model:\nup:\nsim: {}\n", nil, nil, defaults()},
		{"an empty section key leaves the top level's", "model: top\nup:\n  model:\n", nil, nil, with(func(o *options) { o.Model = "top" })},
		{"an empty variable", "", []string{"RADIXBUS_MODEL=", "RADIXBUS_ADMIN_PORT="}, nil, defaults()},
		{"an equals sign in a value", "", []string{"RADIXBUS_MODEL=a=b"}, nil, with(func(o *options) { o.Model = "a=b" })},
		{"names that are no twin", "", []string{"RADIXBUS_model=x", "RADIXBUS_ADMIN-PORT=7", "radixbus_model=x", "RADIXBUS_UNKNOWN=x"}, nil, defaults()},
		// The library panics on an entry without an equals sign, which execve does not forbid.
		{"a broken environment", "", []string{"RADIXBUS_MODEL", "RADIXBUS_", ""}, nil, defaults()},
		{"dots in values and comments in files", "# all of it\nmodel: Llama-3.1-8B\n", nil, nil, with(func(o *options) { o.Model = "Llama-3.1-8B" })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := bind(t, tt.file, tt.environ, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorsNameTheirSource(t *testing.T) {
	t.Chdir(t.TempDir())
	tests := []struct {
		name    string
		file    string
		environ []string
		want    []string // all of them, in this order
	}{
		{"unknown keys, all at once", "modle: x\nup:\n  polizy: radix\n  model: fine\nsim:\n  policy: radix\n", nil, []string{"some.yaml", `"modle"`, `"sim.policy"`, `"up.polizy"`}},
		{"unknown section", "gateway:\n  port: 1\n", nil, []string{"some.yaml", `"gateway.port"`}},
		{"a section where a value belongs", "model:\n  name: x\n", nil, []string{"some.yaml", `"model.name"`}},
		{"a value where a section belongs", "up: 7\n", nil, []string{"some.yaml", `"up"`}},
		{"a section deeper down", "up:\n  model:\n    name: x\n", nil, []string{`"up.model.name"`}},
		{"no number", "admin-port: many\n", nil, []string{"some.yaml", "admin-port", "many"}},
		{"no number in a section", "up:\n  admin-port: many\n", nil, []string{"some.yaml", "up.admin-port", "many"}},
		{"no duration", "drain-timeout: 30\n", nil, []string{"some.yaml", "drain-timeout"}},
		{"a list for one value", "model: [a, b]\n", nil, []string{"some.yaml", "model", "list"}},
		{"a list in a list", "engine: [[a]]\n", nil, []string{"some.yaml", "engine"}},
		{"a gap in a list", "engine: [a, ]\nmodel: [~]\n", nil, []string{"some.yaml", "model"}},
		{"no YAML", "model: [\n", nil, []string{"some.yaml"}},
		{"a list at the top", "- model\n", nil, []string{"some.yaml"}},
		{"variables, all at once", "", []string{"RADIXBUS_ADMIN_PORT=tcp://10.0.0.1:80", "RADIXBUS_SPEED=fast"}, []string{"RADIXBUS_ADMIN_PORT", "tcp://10.0.0.1:80", "RADIXBUS_SPEED", "fast"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := bind(t, tt.file, tt.environ)
			if err == nil {
				t.Fatal("no error")
			}
			rest := err.Error()
			for _, want := range tt.want {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Fatalf("error %q does not say %q (in this order: %q)", err, want, tt.want)
				}
				rest = after
			}
		})
	}
}

func TestDefaultFileMayBeAbsentANamedOneMayNot(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	var o options
	if err := config.Bind(flags(&o), "up", "", config.Commands{"up": flags(new(options))}, nil); err != nil {
		t.Errorf("no file at all: %v", err)
	}
	if err := config.Bind(flags(&o), "up", "absent.yaml", config.Commands{"up": flags(new(options))}, nil); err == nil || !strings.Contains(err.Error(), "absent.yaml") {
		t.Errorf("a named file that is absent: %v, want an error with its name", err)
	}
	if err := os.WriteFile(config.DefaultFile, []byte("up: {model: found, engine: [a]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := config.Bind(flags(&o), "up", "", config.Commands{"up": flags(new(options))}, nil); err != nil {
		t.Fatal(err)
	}
	if o.Model != "found" || !slices.Equal(o.Engines, []string{"a"}) {
		t.Errorf("the default file was not read: %+v", o)
	}
}
