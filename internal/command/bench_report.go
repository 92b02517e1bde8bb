package command

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/radixbus/radixbus/internal/replay"
)

// A result is what came of a run, for programs (as JSON), for people, and as a page that can be sent around.
type result interface {
	WriteTable(io.Writer) error
	WritePage(io.Writer, replay.Provenance) error
}

// checkFiles finds out before a long run what would lose its result.
func (b *benchFlags) checkFiles() error {
	if b.json == "-" && b.html == "-" {
		return &ExitError{2, errors.New("--json - and --html - would both be on standard output")}
	}
	for flag, path := range map[string]string{"json": b.json, "html": b.html} {
		if path == "" || path == "-" {
			continue
		}
		if folder, err := os.Stat(filepath.Dir(path)); err != nil {
			return &ExitError{2, fmt.Errorf("--%s: %w", flag, err)}
		} else if !folder.IsDir() {
			return &ExitError{2, fmt.Errorf("--%s: %s is no folder", flag, filepath.Dir(path))}
		}
	}
	return nil
}

// report writes a result: to the files that are named, and as a table, unless one of them is standard output. One that
// cannot be written does not keep it from the others.
func (e *env) report(b *benchFlags, r result, command string) error {
	made := replay.Provenance{Command: command, Version: version()}
	errs := []error{
		e.writeFile(b.json, asJSON(r)),
		e.writeFile(b.html, func(w io.Writer) error { return r.WritePage(w, made) }),
	}
	if b.json != "-" && b.html != "-" {
		errs = append(errs, r.WriteTable(e.Stdout))
	}
	return errors.Join(errs...)
}

// asJSON writes a value as a document for programs.
func asJSON(v any) func(io.Writer) error {
	return func(w io.Writer) error {
		doc, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return err
		}
		_, err = w.Write(append(doc, '\n'))
		return err
	}
}

// writeFile makes a file, if it has a name; - is standard output.
func (e *env) writeFile(path string, write func(io.Writer) error) (err error) {
	switch path {
	case "":
		return nil
	case "-":
		return write(e.Stdout)
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	buffered := bufio.NewWriter(f)
	if err := cmp.Or(write(buffered), buffered.Flush(), f.Close()); err != nil {
		return fmt.Errorf("report %s: %w", path, err)
	}
	return nil
}

// untold are flags that a report's command line goes without: they do not change what is measured, or tell where
// somebody keeps a secret.
var untold = []string{"json", "html", "api-key-file", "config", "log-json", "log-level", "help"}

// commandLine is what to type to do the same again, with every flag that was set, wherever it was.
func commandLine(c *cobra.Command, args ...string) string {
	words := strings.Fields(c.CommandPath())
	for _, arg := range args {
		words = append(words, quote(arg))
	}
	c.Flags().Visit(func(f *pflag.Flag) {
		if slices.Contains(untold, f.Name) {
			return
		}
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, v := range values {
			if f.Value.Type() == "bool" {
				words = append(words, "--"+f.Name+"="+v)
				continue
			}
			words = append(words, "--"+f.Name, quote(v))
		}
	})
	return strings.Join(words, " ")
}

// quote writes a word so that a shell reads it as one.
func quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:,=+@%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
