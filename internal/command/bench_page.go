package command

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// writePage makes a file of a page.
func writePage(path string, write func(io.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("page: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("page: %w", cerr)
		}
	}()
	buffered := bufio.NewWriter(f)
	if err := write(buffered); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("page: %w", err)
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
