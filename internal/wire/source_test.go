package wire_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/wire"
)

// A source is what the Go files of the package declare.
type source struct {
	structs map[string][]sourceField
	consts  map[string]map[string]uint64 // by type, then by name
	tags    map[string][]string          // JSON names by struct
}

// A sourceField is one exported field of a struct, with the number of its comment; 0 = none.
type sourceField struct {
	name    string
	typ     string
	number  int
	through int // last number of an embedded struct; else 0
}

var numberComment = regexp.MustCompile(`^(\d+)(?:–(\d+))?(?::|$)`)

func readSource(t testing.TB) source {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	src := source{map[string][]sourceField{}, map[string]map[string]uint64{}, map[string][]string{}}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for i, spec := range g.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if st, ok := spec.Type.(*ast.StructType); ok && spec.Name.IsExported() {
						src.addStruct(spec.Name.Name, st)
					}
				case *ast.ValueSpec:
					if g.Tok == token.CONST {
						src.addConst(g, i, spec)
					}
				}
			}
		}
	}
	return src
}

func (src source) addStruct(name string, st *ast.StructType) {
	src.structs[name] = nil
	for _, f := range st.Fields.List {
		field := sourceField{typ: typeName(f.Type)}
		if m := numberComment.FindStringSubmatch(strings.TrimSpace(f.Comment.Text())); m != nil {
			field.number, _ = strconv.Atoi(m[1])
			field.through, _ = strconv.Atoi(m[2])
		}
		if f.Tag != nil {
			_, tag, _ := strings.Cut(f.Tag.Value, `json:"`)
			src.tags[name] = append(src.tags[name], tag[:strings.IndexAny(tag, `,"`)])
		}
		if len(f.Names) == 0 {
			src.structs[name] = append(src.structs[name], field)
		}
		for _, n := range f.Names {
			if n.IsExported() {
				field.name = n.Name
				src.structs[name] = append(src.structs[name], field)
			}
		}
	}
}

// addConst takes typed constants that are written as a number, or as bits counted by iota.
func (src source) addConst(g *ast.GenDecl, i int, spec *ast.ValueSpec) {
	first := g.Specs[0].(*ast.ValueSpec)
	typ, value := spec.Type, uint64(0)
	if len(spec.Values) == 0 {
		typ = first.Type // an iota continues
	}
	if typ == nil {
		return
	}
	if len(spec.Values) == 1 {
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			var err error
			if value, err = strconv.ParseUint(lit.Value, 0, 64); err != nil {
				return // a string
			}
		}
	}
	if shift, ok := first.Values[0].(*ast.BinaryExpr); ok && shift.Op == token.SHL {
		value = 1 << i
	}
	of := typeName(typ)
	if src.consts[of] == nil {
		src.consts[of] = map[string]uint64{}
	}
	src.consts[of][spec.Names[0].Name] = value
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return "*" + typeName(e.X)
	case *ast.ArrayType:
		return "[]" + typeName(e.Elt)
	}
	return fmt.Sprintf("%T", e)
}

// fields lists the fields of a struct with those of its embedded structs in their place.
func (src source) fields(t *testing.T, name string) []sourceField {
	t.Helper()
	var out []sourceField
	for _, f := range src.structs[name] {
		if f.name != "" {
			out = append(out, f)
			continue
		}
		in := src.fields(t, f.typ)
		if len(in) == 0 || in[0].number != f.number || in[len(in)-1].number != f.through {
			t.Errorf("%s embeds %s with the comment %d–%d; its fields are %v", name, f.typ, f.number, f.through, in)
		}
		out = append(out, in...)
	}
	return out
}

// onWire lists the structs that have numbers in their comments.
func (src source) onWire() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(src.structs)), func(name string) bool {
		return !slices.ContainsFunc(src.structs[name], func(f sourceField) bool { return f.number != 0 })
	})
}

func TestNumbersAreUnique(t *testing.T) {
	src := readSource(t)
	for _, name := range src.onWire() {
		seen := map[int]string{}
		for _, f := range src.fields(t, name) {
			if f.number == 0 {
				t.Errorf("%s.%s has no number, unlike its neighbours", name, f.name)
			}
			if other, ok := seen[f.number]; ok {
				t.Errorf("%s.%s and %s.%s are both %d", name, f.name, name, other, f.number)
			}
			seen[f.number] = f.name
		}
	}
}

// notStructs are messages that Go has no struct for.
var notStructs = []string{"Frames", "StreamRef"}

// TestNumbersAreOnTheWire compares the comments with the fields of messages in which everything is set.
func TestNumbersAreOnTheWire(t *testing.T) {
	s, src := readSchema(t), readSource(t)
	sent := map[string]map[int]bool{}
	for _, k := range kindCases() {
		walk(k.nodes(t, s, k.full.AppendTo(nil)), func(x node) {
			if sent[x.parent] == nil {
				sent[x.parent] = map[int]bool{}
			}
			sent[x.parent][x.field.number] = true
			if want := s.wireType(x.field); x.wire != want {
				t.Errorf("%s.%s has wire type %d, wire.proto says %s: %d", x.parent, x.field.name, x.wire, x.field.typ, want)
			}
		})
	}
	for _, name := range src.onWire() {
		if name == "Stamp" {
			continue // only ever a part of events
		}
		said := map[int]bool{}
		for _, f := range src.fields(t, name) {
			said[f.number] = true
		}
		if !maps.Equal(said, sent[name]) {
			t.Errorf("%s: comments say %v, on the wire are %v", name, slices.Sorted(maps.Keys(said)), slices.Sorted(maps.Keys(sent[name])))
		}
	}
}

// protoTypes are the types in wire.proto that may stand for a Go type.
var protoTypes = map[string][]string{
	"bool": {"bool"}, "uint8": {"uint32"}, "uint32": {"uint32"}, "int32": {"sint32"}, "uint64": {"uint64", "fixed64"}, "Flags": {"uint32"},
	"string": {"string", "bytes"}, "[]byte": {"bytes"}, "RequestID": {"bytes"}, "Instance": {"fixed64"},
	"[]string": {"repeated string"}, "*End": {"End"},
}

// TestSchemaAgreesWithSource compares names, numbers and types of wire.proto with the structs.
func TestSchemaAgreesWithSource(t *testing.T) {
	s, src := readSchema(t), readSource(t)
	messages := slices.DeleteFunc(slices.Sorted(maps.Keys(s.messages)), func(m string) bool { return slices.Contains(notStructs, m) })
	structs := slices.DeleteFunc(src.onWire(), func(m string) bool { return m == "Stamp" })
	if !slices.Equal(messages, structs) {
		t.Errorf("messages are %v, structs are %v", messages, structs)
	}
	for _, name := range structs {
		fields := src.fields(t, name)
		if got, want := len(s.messages[name]), len(fields); got != want {
			t.Errorf("%s has %d fields in wire.proto, %d in Go", name, got, want)
		}
		for _, f := range fields {
			p := s.field(name, f.number)
			if strings.ReplaceAll(p.name, "_", "") != strings.ToLower(f.name) {
				t.Errorf("%s.%s is field %d, wire.proto calls it %q", name, f.name, f.number, p.name)
			}
			typ := p.typ
			if p.repeated {
				typ = "repeated " + typ
			}
			if want := protoTypesOf(name, f); !slices.Contains(want, typ) {
				t.Errorf("%s.%s is %s in Go and %s in wire.proto, want one of %q", name, f.name, f.typ, typ, want)
			}
		}
	}
}

func protoTypesOf(message string, f sourceField) []string {
	elem, repeated := strings.CutPrefix(f.typ, "[]")
	switch {
	case message == "Pong" && f.name == "Unknown":
		return []string{"repeated StreamRef"}
	case f.typ == "[]uint64":
		return []string{"repeated fixed64"}
	case protoTypes[f.typ] != nil:
		return protoTypes[f.typ]
	case repeated:
		return []string{"repeated " + elem}
	}
	return []string{f.typ} // a message or an enum of the same name
}

func TestSchemaEnumsAgreeWithSource(t *testing.T) {
	s, src := readSchema(t), readSource(t)
	for _, enum := range slices.Sorted(maps.Keys(s.enums)) {
		values := maps.Clone(s.enums[enum])
		prefix := strings.ToUpper(snake(enum)) + "_"
		maps.DeleteFunc(values, func(name string, v uint64) bool {
			return v == 0 && (name == prefix+"UNSPECIFIED" || name == prefix+"NONE")
		})
		for name, want := range src.consts[enum] {
			// The Go name may begin with the type, as CodeBusy, or with its first word, as FrameEnd and FlagTools.
			base := name
			for _, p := range []string{enum, strings.TrimSuffix(enum, "Type"), strings.TrimSuffix(enum, "s")} {
				if rest, ok := strings.CutPrefix(name, p); ok {
					base = rest
					break
				}
			}
			in := prefix + strings.ToUpper(snake(base))
			if got, ok := values[in]; !ok || got != want {
				t.Errorf("%s is %d in Go, %s is %d (%t) in wire.proto", name, want, in, got, ok)
			}
			delete(values, in)
		}
		if len(values) > 0 {
			t.Errorf("enum %s: not in Go: %v", enum, values)
		}
	}
	for typ, values := range src.consts {
		if s.enums[typ] == nil {
			t.Errorf("type %s with %v is no enum in wire.proto", typ, values)
		}
	}
}

// TestGoldenWorkerInfoIsComplete sees that the sample sets every member, so that the golden file pins its name.
func TestGoldenWorkerInfoIsComplete(t *testing.T) {
	src := readSource(t)
	doc, _, err := fullWorkerInfo().Encode()
	if err != nil {
		t.Fatal(err)
	}
	zero, _, err := new(wire.WorkerInfo).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range slices.Concat(src.tags["WorkerInfo"], src.tags["Model"]) {
		if n := strings.Count(string(doc), `"`+tag+`":`); n == 0 {
			t.Errorf("the sample has no %q", tag)
		}
		if value, ok := member(string(zero), tag); ok && tag != "models" {
			if got, _ := member(string(doc), tag); got == value {
				t.Errorf("the sample's %q is %s, as in an empty info", tag, got)
			}
		}
	}
}

// member finds the text of the first member of that name, up to the next comma.
func member(doc, name string) (string, bool) {
	_, rest, ok := strings.Cut(doc, `"`+name+`":`)
	value, _, _ := strings.Cut(rest, ",")
	return value, ok
}
