// Package config gives every flag of a command its value: command line, then environment, then file, then default.
//
// A flag --admin-port has exactly one twin in the environment, RADIXBUS_ADMIN_PORT, and one in the file, admin-port:
// at the top level, where it means every command that has such a flag, or in a section with the command's name, which
// wins. A variable or a key without a value counts as absent. A repeatable flag takes a list: of YAML in the file, with
// commas in the environment. What the file says and no command knows is an error that names it.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// EnvPrefix begins the name of every environment variable that is read.
const EnvPrefix = "RADIXBUS_"

// DefaultFile is read when it is there and no other file was named.
const DefaultFile = "radixbus.yaml"

// Commands tells which flags every command has, by command name; used to recognise what a file says.
type Commands map[string]*pflag.FlagSet

// Bind sets the flags of one command that were not given on its command line. path names the file; when it is empty,
// DefaultFile is read if it is there. environ is in the form of os.Environ. The error joins everything that is wrong,
// each with the variable, or the file and key, that said it.
func Bind(flags *pflag.FlagSet, command, path string, all Commands, environ []string) error {
	doc := koanf.New(sep)
	named := path != ""
	if !named {
		path = DefaultFile
	}
	if err := load(doc, path, named); err != nil {
		return err
	}
	if err := unknown(doc, path, all); err != nil {
		return err
	}
	vars, err := environment(environ)
	if err != nil {
		return err
	}
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			return
		}
		section := command + sep + f.Name
		switch {
		case vars.Exists(f.Name):
			if err := set(flags, f, split(f, vars.String(f.Name))); err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s: %w", envName(f.Name), err))
			}
		case doc.Get(section) != nil:
			if err := set(flags, f, doc.Get(section)); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s.%s: %w", path, command, f.Name, err))
			}
		case doc.Get(f.Name) != nil:
			if err := set(flags, f, doc.Get(f.Name)); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", path, f.Name, err))
			}
		}
	})
	return errors.Join(errs...)
}

// sep stands between a section and a key; no key has it, so that nothing is split at a dot.
const sep = "\x00"

func load(doc *koanf.Koanf, path string, named bool) error {
	err := doc.Load(file.Provider(path), yaml.Parser())
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	return nil
}

// environment takes our variables, by the names of their flags. An empty one says nothing, as is the custom.
func environment(environ []string) (*koanf.Koanf, error) {
	vars := koanf.New(sep)
	err := vars.Load(env.Provider(sep, env.Opt{
		Prefix: EnvPrefix,
		EnvironFunc: func() []string {
			return slices.DeleteFunc(slices.Clone(environ), func(v string) bool { return !strings.Contains(v, "=") })
		},
		TransformFunc: func(k, v string) (string, any) {
			name := flagName(k)
			if v == "" || envName(name) != k {
				return "", nil
			}
			return name, v
		},
	}), nil)
	if err != nil {
		return nil, fmt.Errorf("environment: %w", err)
	}
	return vars, nil
}

// unknown reports every key that no command has a flag for.
func unknown(doc *koanf.Koanf, path string, all Commands) error {
	var errs []error
	for _, key := range doc.Keys() {
		section, name, inSection := strings.Cut(key, sep)
		if !inSection {
			name = section
		}
		known := all[key] != nil && empty(doc.Get(key)) // a section with nothing in it
		for command, flags := range all {
			known = known || (!inSection || command == section) && flags.Lookup(name) != nil
		}
		if !known {
			errs = append(errs, fmt.Errorf("configuration %s: nothing is called %q", path, strings.ReplaceAll(key, sep, ".")))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func empty(value any) bool {
	section, ok := value.(map[string]any)
	return value == nil || ok && len(section) == 0
}

// split makes a list of a variable that stands for a repeatable flag.
func split(f *pflag.Flag, value string) any {
	if _, repeats := f.Value.(pflag.SliceValue); !repeats {
		return value
	}
	var list []any
	for item := range strings.SplitSeq(value, ",") {
		list = append(list, strings.TrimSpace(item))
	}
	return list
}

// set gives a flag a value from outside. A list sets a repeatable flag once for each of its items.
func set(flags *pflag.FlagSet, f *pflag.Flag, value any) error {
	switch value := value.(type) {
	case []any:
		if _, repeats := f.Value.(pflag.SliceValue); !repeats {
			return errors.New("takes one value, not a list")
		}
		for _, v := range value {
			switch v.(type) {
			case nil, []any, map[string]any:
				return errors.New("takes a list of values")
			}
			if err := flags.Set(f.Name, fmt.Sprint(v)); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		return errors.New("takes a value, not a section")
	}
	return flags.Set(f.Name, fmt.Sprint(value))
}

func envName(flag string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func flagName(env string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(env, EnvPrefix), "_", "-"))
}
