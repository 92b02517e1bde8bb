package command

import (
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// A page says how to make its figures again: what was asked for, wherever it was, without what is secret or beside the point.
func TestACommandLineCanBeTypedAgain(t *testing.T) {
	var run []string
	root := &cobra.Command{Use: "radixbus"}
	bench := &cobra.Command{Use: "bench", RunE: func(*cobra.Command, []string) error { return nil }}
	root.AddCommand(bench)
	f := bench.Flags()
	f.String("model", "", "")
	f.String("trace", "", "")
	f.Bool("stream", true, "")
	f.Duration("timeout", time.Minute, "")
	f.StringArray("base", nil, "")
	f.String("api-key-file", "", "")
	f.String("json", "", "")
	f.String("html", "", "")
	root.SetArgs([]string{"bench", "bus=http://h:1|http://h:2,pids=1+2", "--stream=false", "--timeout", "90s", "--model", "it's $(touch x)",
		"--base", "a b", "--base", "", "--api-key-file", "/home/me/key", "--json", "-", "--html", "x.html"})
	bench.PreRun = func(c *cobra.Command, args []string) {
		if err := c.Flags().Set("trace", "from-the-environment.jsonl"); err != nil {
			t.Error(err)
		}
		run = append(run, commandLine(c, args...))
	}
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	want := `radixbus bench 'bus=http://h:1|http://h:2,pids=1+2' --base 'a b' --base '' --model 'it'\''s $(touch x)' --stream=false --timeout 1m30s --trace from-the-environment.jsonl`
	if len(run) != 1 || run[0] != want {
		t.Errorf("got  %q\nwant %q", run, want)
	}
}
