package wire_test

import (
	"bufio"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A schema is what wire.proto says.
type schema struct {
	messages map[string][]schemaField
	enums    map[string]map[string]uint64
}

type schemaField struct {
	name     string
	typ      string
	number   int
	repeated bool
}

var (
	openLine  = regexp.MustCompile(`^(message|enum) (\w+) \{$`)
	fieldLine = regexp.MustCompile(`^(repeated )?(\w+) (\w+) = (\d+);$`)
	valueLine = regexp.MustCompile(`^(\w+) = (\d+);$`)
	otherLine = regexp.MustCompile(`^(|syntax = "proto3";|package radixbus\.v1;)$`)
)

// readSchema reads the little of the schema language that wire.proto uses. A line it does not know fails the test.
func readSchema(t testing.TB) schema {
	t.Helper()
	f, err := os.Open("wire.proto")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := schema{messages: map[string][]schemaField{}, enums: map[string]map[string]uint64{}}
	message, enum := "", ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "//")
		line = strings.TrimSpace(line)
		if m := openLine.FindStringSubmatch(line); m != nil && message == "" && enum == "" {
			if m[1] == "enum" {
				enum, s.enums[m[2]] = m[2], map[string]uint64{}
			} else {
				message, s.messages[m[2]] = m[2], nil
			}
		} else if m := fieldLine.FindStringSubmatch(line); m != nil && message != "" {
			n, _ := strconv.Atoi(m[4])
			s.messages[message] = append(s.messages[message], schemaField{m[3], m[2], n, m[1] != ""})
		} else if m := valueLine.FindStringSubmatch(line); m != nil && enum != "" {
			n, _ := strconv.ParseUint(m[2], 10, 32)
			s.enums[enum][m[1]] = n
		} else if line == "}" {
			message, enum = "", ""
		} else if !otherLine.MatchString(line) {
			t.Fatalf("wire.proto: cannot read %q", line)
		}
	}
	return s
}

// field finds a field by its number; an unknown one has no name.
func (s schema) field(message string, number int) schemaField {
	for _, f := range s.messages[message] {
		if f.number == number {
			return f
		}
	}
	return schemaField{number: number}
}

func (s schema) isMessage(f schemaField) bool { _, ok := s.messages[f.typ]; return ok }

// wireType is the wire type of a field: repeated numbers are packed.
func (s schema) wireType(f schemaField) int {
	switch {
	case s.isMessage(f) || f.repeated || f.typ == "string" || f.typ == "bytes":
		return wireBytes
	case f.typ == "fixed64":
		return wireFix64
	}
	return wireVarint
}
