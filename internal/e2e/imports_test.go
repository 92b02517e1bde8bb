package e2e

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/radixbus/radixbus"

// imports reads the tree: what the program of every folder imports, and what its tests do.
func imports(t *testing.T) (program, tests map[string][]string) {
	t.Helper()
	root := filepath.Join("..", "..")
	program, tests = make(map[string][]string), make(map[string][]string)
	err := filepath.WalkDir(root, func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); name == "testdata" || name == "vendor" || name != ".." && strings.HasPrefix(name, ".") {
			return fs.SkipDir
		}
		p, err := build.Default.ImportDir(dir, 0)
		if _, none := err.(*build.NoGoError); none {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, dir)
		if err != nil {
			return err
		}
		name := path.Join(module, filepath.ToSlash(rel))
		program[name] = p.Imports
		tests[name] = slices.Concat(p.TestImports, p.XTestImports)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(program) < 15 || program[module] == nil || program[module+"/gateway"] == nil {
		t.Fatalf("read only the packages %v", slices.Sorted(maps.Keys(program)))
	}
	return program, tests
}

// within tells whether a package is p or lies below it.
func within(pkg, p string) bool { return pkg == p || strings.HasPrefix(pkg, p+"/") }

func TestImportsFlowOneWay(t *testing.T) {
	program, tests := imports(t)
	services := []string{module + "/gateway", module + "/scheduler", module + "/workeradapter"}
	serviceOf := func(pkg string) string {
		for _, s := range services {
			if within(pkg, s) {
				return s
			}
		}
		return ""
	}
	internal := func(names ...string) (out []string) {
		for _, n := range names {
			out = append(out, module+"/internal/"+n)
		}
		return out
	}
	under := func(pkg string, of []string) bool {
		return slices.ContainsFunc(of, func(p string) bool { return within(pkg, p) })
	}
	ours := func(pkg string) bool { return within(pkg, module) }

	for pkg, list := range program {
		for _, dep := range list {
			switch {
			case serviceOf(dep) != "" && serviceOf(pkg) != "" && serviceOf(dep) != serviceOf(pkg):
				t.Errorf("%s imports %s: services meet on the bus", pkg, dep)
			case serviceOf(dep) != "" && within(pkg, module+"/internal") && !under(pkg, internal("e2e", "simulate", "command")):
				t.Errorf("%s imports %s: internal packages know no service", pkg, dep)
			case within(dep, module+"/tree") && !under(pkg, append(internal("simulate"), module+"/scheduler", module+"/tree")):
				t.Errorf("%s imports %s: the tree is the scheduler's", pkg, dep)
			case strings.HasPrefix(dep, "github.com/nats-io/nats-server") && !under(pkg, internal("localbus", "testkit")):
				t.Errorf("%s imports %s: only localbus and testkit run a server", pkg, dep)
			case within(pkg, module+"/tree") && strings.Contains(dep, "."):
				t.Errorf("%s imports %s: the tree stands on the standard library alone", pkg, dep)
			case pkg != module && dep == module:
				t.Errorf("%s imports the program", pkg)
			case !within(pkg, module+"/internal") && pkg != module && within(dep, module+"/internal/command"):
				t.Errorf("%s imports %s: only main runs commands", pkg, dep)
			case under(pkg, internal("wire", "jsonscan", "config", "run")) && ours(dep):
				t.Errorf("%s imports %s: it stands at the bottom", pkg, dep)
			case under(pkg, internal("prefix")) && ours(dep) && !under(dep, internal("jsonscan", "prefix")):
				t.Errorf("%s imports %s: prefix stands at the bottom", pkg, dep)
			}
		}
	}

	// A simulated engine that saw a digest would make belief equal truth; the judgement does no I/O.
	for _, root := range []struct {
		pkg    string
		banned []string
	}{
		{module + "/internal/simengine", []string{module + "/internal/prefix", module + "/tree", module + "/scheduler", module + "/gateway", module + "/workeradapter"}},
		{module + "/scheduler/core", []string{"github.com/nats-io", "net", "os", module + "/internal/bus", module + "/internal/roster"}},
	} {
		for dep, via := range reach(program, root.pkg) {
			if under(dep, root.banned) {
				t.Errorf("%s reaches %s, through %s", root.pkg, dep, via)
			}
		}
	}
	for _, dep := range tests[module+"/internal/simengine"] {
		if under(dep, []string{module + "/internal/prefix", module + "/tree"}) {
			t.Errorf("simengine's tests import %s", dep)
		}
	}
}

// reach is everything that a package imports, directly or through packages of ours, with the importer of each.
func reach(program map[string][]string, pkg string) map[string]string {
	found, todo := make(map[string]string), []string{pkg}
	for len(todo) > 0 {
		p := todo[0]
		todo = todo[1:]
		for _, dep := range program[p] {
			if _, known := found[dep]; !known {
				found[dep] = p
				todo = append(todo, dep)
			}
		}
	}
	return found
}

// The judgement takes `now`: a call of the clock there would make replays and simulations lie.
func TestPureCodeKeepsNoClock(t *testing.T) {
	for _, dir := range []string{"scheduler/core", "tree", "internal/prefix", "internal/wire"} {
		fset := token.NewFileSet()
		files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(dir), "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", dir, files, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				banned := []string{"Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
				if dir != "internal/wire" { // its ids are made of the time
					banned = append(banned, "Now")
				}
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(banned, s.Sel.Name) {
					t.Errorf("%s: time.%s", fset.Position(n.Pos()), s.Sel.Name)
				}
				return true
			})
		}
	}
}
